"""Step 7, decide: what is written about each decision: an audit leaf, a status, an incident; see also `quarantine`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

from broker.audit.leaf import Commitments, Form, Hole, Ids, control_leaf
from broker.crypto import derived_uuid
from broker.exchange.authorise import SUBJECT_ATTRIBUTES as _SUBJECT_NAMES
from broker.exchange.authorise import Target
from broker.exchange.model import Decision, InputRecord, Outcome
from broker.exchange.outcomes import meaning
from broker.identity.formats import is_uuid
from broker.identity.vault import SUBJECT_KEY_BYTES, VaultRecord
from broker.registry import Registry
from broker.schemas import JsonObject, catalogue, frame
from broker.schemas.framing import varint

# The broker's own processing activity, for what it refuses before a controller is known.
OWN_ACTIVITY: Final = "https://eck-broker.nl/verwerkingen/controle"
Names = tuple[tuple[str, ...], tuple[str, ...]]
_WAITS: Final = "\x00waits"  # no party has such an id
_SUBJECT_ATTRIBUTES: Final = frozenset(_SUBJECT_NAMES)

NAMES: Final = {
    Outcome.DELIVERED: "verstrekt",
    Outcome.REFUSED: "geweigerd",
    Outcome.QUARANTINED: "in quarantaine",
    Outcome.DUPLICATE: "al eerder verstrekt",
    Outcome.EXPIRED: "verlopen",
    Outcome.PARKED: "wacht op inschrijving",
}


@dataclass(slots=True)
class Account:
    """What may be said about an event in audit and status: grows as its claims are checked, never before.

    Attributes:
        envelope: once it was held against the registry.
        school: BRIN of the school, also where the envelope names one of its locations.
        person: once found in the vault.
        replay_of: offset of the first try, if it is a replay out of quarantine.
    """

    record: InputRecord
    start_ms: int
    traceparent: bytes | None = None
    envelope: JsonObject | None = None
    school: str | None = None
    family: str | None = None
    kind: str | None = None
    person: VaultRecord | None = None
    replay_of: int | None = None
    _event_id: str | None = None

    @classmethod
    def of(cls, record: InputRecord, start_ms: int) -> Account:
        """Begin with nothing but the place of the record."""
        return cls(record, start_ms)

    @property
    def event_id(self) -> str:
        """The sender's, once it is known to be a uuid; till then one made from where the record stands."""
        if self._event_id is None:
            record = self.record
            self._event_id = derived_uuid("event/v1", record.topic, str(record.partition), str(record.offset))
        return self._event_id

    def claim_event_id(self, event_id: str) -> None:
        """Take the sender's id over if it is one."""
        if is_uuid(event_id):
            self._event_id = event_id.lower()


def decision_ids(account: Account, receiver: str | None, outcome: Outcome | None = None) -> Ids:
    """Trace and span of a decision.

    That an event waits is an action of its own: what becomes of it later, at no receiver either, has another span.
    """
    record = account.record
    if outcome is Outcome.PARKED:
        receiver = _WAITS
    return Ids.of(record.topic, record.partition, record.offset, receiver, account.traceparent)


def commitments(account: Account, ids: Ids) -> Commitments:
    """Of the person's subject key, or of a random one that nobody keeps."""
    key = account.person.subject_key if account.person else os.urandom(SUBJECT_KEY_BYTES)
    return Commitments(key, ids)


def audit_leaf(
    account: Account,
    decision: Decision,
    registry: Registry,
    ids: Ids,
    secrets: Commitments,
    now_ms: int,
    target: Target | None = None,
    delivery: Mapping[str, Any] | None = None,
) -> bytes:
    """The leaf of one decision.

    Args:
        target: for a delivery, on what it rests.
        delivery: flow, seq, kept, dropped and the commitment to the value.
    """
    record, envelope = account.record, account.envelope
    school = None if envelope is None else account.school or envelope["school"]
    members: dict[str, str | int] = {"event": account.event_id, "offset": record.offset}
    if school is not None:
        members["school"] = school
    if record.value is not None:
        members["came"] = secrets.value("in", record.value)
    if account.replay_of is not None:
        members["replay_of"] = account.replay_of
    names: Names | None = None
    if delivery is not None:
        names = delivery["kept"], delivery["dropped"]
        members.update(flow=delivery["flow"], seq=delivery["seq"], value=delivery["value"])
    activity, ground = OWN_ACTIVITY, None
    if target is not None and school is not None:
        board = registry.board_of(school)
        activity = f"{board.processing_register.rstrip('/')}/{target.route.process}" if board else OWN_ACTIVITY
        ground = _ground(target, delivered=names is not None)
    form = _form(
        decision.outcome, decision.code, decision.receiver, decision.field, decision.rule,
        record.topic, record.partition, record.party, registry.version, registry.policy.version,
        account.family, account.kind, ground, names, tuple(members),
        account.person is not None, ids.parent is not None,
    )  # fmt: skip
    token = secrets.token() if account.person else None
    return form.fill(ids, activity, token, account.start_ms, now_ms, members)


class _Ground(NamedTuple):
    """On what a decision for a receiver rests, as the leaf has it."""

    process: str
    agreement: str | None
    exceptions: tuple[str, ...]
    closing: int | None
    processor: str | None


def _ground(target: Target, *, delivered: bool) -> _Ground:
    agreement, party = target.agreement, target.party
    return _Ground(
        target.route.process,
        f"{agreement.id}/{agreement.version}" if agreement is not None else None,
        target.exceptions if delivered else (),
        target.ended,
        str(party.processor_url) if party is not None and delivered else None,
    )


@lru_cache(maxsize=4096)
def _form(
    outcome: Outcome, code: str, receiver: str | None, field: str | None, rule: str | None,
    topic: str, partition: int, sender: str, registry: str, policy: str,
    family: str | None, kind: str | None, ground: _Ground | None, names: Names | None, own: tuple[str, ...],
    person: bool, parent: bool,
) -> Form:  # fmt: skip
    """What the leaves of nearly all events of a sender have in common, whatever school they are of.

    Args:
        registry, policy: versions. names: kept and dropped, of a delivery. own: members that each leaf has of its own.
    """
    source: dict[str, Any] = {"offset": Hole("offset"), "partition": partition, "topic": topic}
    if "came" in own:
        source["value"] = Hole("came")
    evidence: dict[str, Any] = {
        "code": code, "decision": outcome.value.lower(), "in": source, "registry": registry, "policy": policy,
        "sender": sender,
    }  # fmt: skip
    evidence.update({name: Hole(name) for name in ("event", "school", "flow", "seq", "value") if name in own})
    if "replay_of" in own:
        evidence["replay_of"] = {"offset": Hole("replay_of"), "partition": partition, "topic": topic}
    said = {"family": family, "kind": kind, "receiver": receiver, "field": field, "rule": rule}
    if names is not None:
        evidence["kept"], evidence["dropped"] = names
    if ground is not None:
        said |= {"process": ground.process, "agreement": ground.agreement}
        evidence |= {"exceptions": ground.exceptions} if ground.exceptions else {}
        evidence |= {"closing": ground.closing} if ground.closing is not None else {}
    evidence.update({name: value for name, value in said.items() if value is not None})
    processor = ground.processor if ground is not None else None
    return Form(f"{family or 'bericht'} {NAMES[outcome]}", processor, evidence, person=person, parent=parent)


def status_record(account: Account, decisions: Sequence[Decision], now_ms: int) -> bytes:
    """What the sender is told: `status.v1`, framed."""
    record, event_id = account.record, account.event_id.encode()
    before, after = _status_parts(record.topic, record.partition, tuple(decisions))
    return b"".join(
        (_status_head(), varint(len(event_id)), event_id, before, varint(record.offset), varint(now_ms), after)
    )


@cache
def _status_head() -> bytes:
    return frame(catalogue()["status.v1"].fingerprint, b"")


@lru_cache(maxsize=4096)
def _status_parts(topic: str, partition: int, decisions: tuple[Decision, ...]) -> tuple[bytes, bytes]:
    """What stands in a status before the offset and after the time: the same for nearly all events of a lane."""
    results = [
        {
            "outcome": d.outcome.value,
            "receiver": d.receiver,
            "code": d.code,
            "field": d.field,
            "rule": d.rule,
            "sentence": meaning(d.code).sentence,
        }
        for d in decisions
    ]
    datum = {"event_id": "", "topic": topic, "partition": partition, "offset": 0, "decided": 0, "results": results}
    encoded = catalogue()["status.v1"].encode(datum)
    # An empty id, offset 0 and time 0 are one zero byte each.
    split = 1 + len(varint(len(topic.encode()))) + len(topic.encode()) + len(varint(partition))
    return encoded[1:split], encoded[split + 2 :]


@lru_cache(maxsize=4096)
def attribute_names(
    kept: frozenset[str], dropped: frozenset[str], sent: frozenset[str], about_somebody: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names that a leaf gives: what the receiver got, and what it did not get, each in order.

    Args:
        kept, dropped: of the body.
        sent: what is in the subject.
    """
    got = kept | sent  # a name can be of body and subject: what came in either way was not withheld
    droppable = dropped | _SUBJECT_ATTRIBUTES if about_somebody else dropped
    return tuple(sorted(got)), tuple(sorted(droppable - got))


def incident_leaf(account: Account, decision: Decision, now_ms: int, *, alone: bool = True) -> bytes:
    """An incident for the control log: what, where and when, no value.

    Args:
        alone: False: it stands for all further ones of its code and field on this day, at whatever school.
    """
    record = account.record
    school: dict[str, Any] = {} if account.school is None else {"school": account.school}
    if not alone:
        school = {"more": True}
    return control_leaf(
        "incident",
        {
            **school,
            "at": now_ms,
            "code": decision.code,
            "event": account.event_id,
            "field": decision.field or "",
            "in": {"offset": record.offset, "partition": record.partition, "topic": record.topic},
            "sender": record.party,
        },
    )
