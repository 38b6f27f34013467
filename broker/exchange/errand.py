"""Telling a party its duty: a control event that the broker itself makes, sealed and audited like any other.

Who was asked to destroy, by the broker or by a school, and who confirmed it stand on the control log together (R23).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from broker.audit.leaf import Commitments, Ids, control_leaf, leaf
from broker.crypto import partition_of
from broker.days import day_of
from broker.exchange.calendar import school_year
from broker.exchange.decide import NAMES, OWN_ACTIVITY
from broker.exchange.duties import FAMILY, Duty, control_topic
from broker.exchange.journal import Journal
from broker.exchange.keys import BROKER
from broker.exchange.minimise import NOBODY
from broker.exchange.model import Decision, Outcome
from broker.exchange.open import Opened
from broker.exchange.seal import seal_to
from broker.identity.vault import SUBJECT_KEY_BYTES
from broker.registry import Party, Registry
from broker.schemas import catalogue

CODE: Final = "ok.duty"
DESTROY: Final = "DESTROY_REQUEST"
DESTROYED: Final = "DESTROY_CONFIRM"
MOST_PUPILS: Final = 9_999_999  # seven digits: a number of the state has eight or nine
LAST_DAY: Final = 99_999  # days since 1970, in the year 2243: five digits
_LEAVES: Final = {"SEED_REQUEST": "seed-requested", DESTROY: "destroy-requested"}


def run_errand(duty: Duty, party: str, journal: Journal) -> bool:
    """Write the control event, its leaf, and what is asked on the control log.

    Returns:
        False if the party can not be told yet: it is not registered, is suspended, or has no key or no topic.
    """
    topic, found = control_topic(party), journal.registry.party(party)
    partitions = journal.views.partitions(topic)
    if found is None or journal.registry.suspended(party) or not found.keys or partitions < 1:
        return False
    family = catalogue().family(FAMILY)
    schema = family.output_schema(())
    body = {f.name: duty.body.get(f.name) for f in schema.fields} | {"control_id": duty.event_id}
    envelope = {
        "event_id": duty.event_id,
        "family": FAMILY,
        "kind": duty.kind,
        "school": duty.location or duty.school,
        "sector": duty.sector,
        "school_year": school_year(day_of(journal.now_ms)),
        "sender": BROKER,
        "created": journal.now_ms,
        "correlation": None,
        "agreement": duty.agreement.id if duty.agreement is not None else None,
    }
    sealed = seal_to(found, envelope, schema, NOBODY, body, journal.keys)
    key = journal.keys.record_key(party, duty.school, duty.event_id)
    ids = Ids.of(f"duty/{duty.event_id}", 0, 0, party, None)
    secrets = Commitments(os.urandom(SUBJECT_KEY_BYTES), ids)
    delivery = journal.output(topic, partition_of(key, partitions), key, sealed, ids, secrets)
    journal.audit(_leaf(duty, found, journal, ids, delivery), Decision(Outcome.DELIVERED, CODE, party))
    asked = {name: value for name, value in duty.body.items() if value is not None}
    said = {
        **asked,
        "at": journal.now_ms,
        "control_id": duty.event_id,
        "event": duty.event_id,
        "party": party,
        "school": duty.school,
        "sender": BROKER,
    }
    journal.control(control_leaf(_LEAVES[duty.kind], said))
    return True


def destruction_leaves(
    event: Opened, event_id: str, receivers: Sequence[str], registry: Registry, now_ms: int
) -> Iterator[bytes]:
    """What an event of a party says on the control log about destroying; other events say nothing there.

    A request: one leaf for each party that is asked, as when the broker asks. A confirmation: one, beside the request
    whose `control_id` it has. What stands here stands for ever, so it holds codes, ids and days, nothing of whom it is
    about and no party's own words: an agreement is named only if the registry knows it as that party's with this board,
    a count or a day only if it can not be the number of a person.

    Args:
        receivers: who got it.
    """
    kind, body = event.envelope["kind"], event.body
    if event.family.name != FAMILY or kind not in (DESTROY, DESTROYED) or not receivers:
        return
    told = {"at": now_ms, "control_id": body["control_id"].lower(), "event": event_id, "school": event.school.id}
    if kind == DESTROYED:
        party = event.record.party
        confirmed = {**told, **_number("count", body, MOST_PUPILS), "party": party}
        yield control_leaf("destroy-confirmed", confirmed | _agreement(event, party, registry))
        return
    for party in receivers:
        asked = {
            **told,
            **_number("deadline", body, LAST_DAY),
            "party": party,
            "reason_code": body["reason_code"],
            "sender": event.record.party,
        }
        yield control_leaf(_LEAVES[DESTROY], asked | _agreement(event, party, registry))


def _number(name: str, body: Mapping[str, Any], most: int) -> dict[str, int]:
    number = body[name]
    return {name: number} if number is not None and 0 <= number <= most else {}


def _agreement(event: Opened, party: str, registry: Registry) -> dict[str, Any]:
    named, board = event.body["agreement_id"], event.school.board
    known = any(its.id == named and its.board == board for its in registry.agreements_of(party))
    return {"agreement_id": named} if known else {}


def _leaf(duty: Duty, party: Party, journal: Journal, ids: Ids, delivery: dict[str, Any]) -> bytes:
    evidence: dict[str, Any] = {
        "code": CODE,
        "decision": Outcome.DELIVERED.value.lower(),
        "dropped": (),
        "event": duty.event_id,
        "family": FAMILY,
        "kept": (),
        "kind": duty.kind,
        "policy": journal.registry.policy.version,
        "receiver": party.id,
        "registry": journal.registry.version,
        "school": duty.school,
        "sender": BROKER,
        **delivery,
    }
    if duty.agreement is not None:
        evidence["agreement"] = f"{duty.agreement.id}/{duty.agreement.version}"
    return leaf(
        ids=ids,
        name=f"{FAMILY} {NAMES[Outcome.DELIVERED]}",
        activity=OWN_ACTIVITY,
        processor=str(party.processor_url),
        token=None,
        start_ms=journal.now_ms,
        end_ms=journal.now_ms,
        evidence=evidence,
    )
