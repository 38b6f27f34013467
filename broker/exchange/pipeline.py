"""The exchange: one batch in, one transaction's worth of records out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from broker.audit.leaf import commitment
from broker.crypto import partition_of
from broker.errors import AccessDenied, ContractError, FieldError
from broker.exchange.authorise import VAULT as VAULT_RECEIVER
from broker.exchange.authorise import Target, authorise
from broker.exchange.check import MS_PER_DAY, check_content, check_envelope, check_outside, day_of
from broker.exchange.decide import (
    Account,
    attribute_names,
    audit_leaf,
    commitments,
    decision_ids,
    incident_leaf,
    quarantine_record,
    status_record,
)
from broker.exchange.keys import ExchangeKeys
from broker.exchange.minimise import minimise_body, minimise_subject
from broker.exchange.model import (
    AUDIT_CONTROL,
    AUDIT_EVENTS,
    VAULT,
    Decision,
    InputRecord,
    Outcome,
    Outgoing,
    Parked,
    StateDelta,
    Step,
    Views,
)
from broker.exchange.open import Opened, open_envelope, open_event
from broker.exchange.outcomes import meaning
from broker.exchange.seal import output_key, output_topic, seal_for
from broker.exchange.state import LaneState, delivery_id, lane_partition
from broker.exchange.swap import Waiting, change_vault, find_person, waiting_key
from broker.identity.vault import VaultRecord
from broker.limits import DEFAULT, Limits
from broker.wire import AUDIT_SALT, DATA_KEY, FLOW, FLOW_SEQ, KEY_ID, POLICY, TRACEPARENT

ALLOWED_IN: Final = (DATA_KEY, TRACEPARENT)


def exchange(
    state: LaneState,
    inputs: Sequence[InputRecord],
    views: Views,
    keys: ExchangeKeys,
    now_ms: int,
    next_offset: int,
    limits: Limits = DEFAULT,
) -> Step:
    """Decide over a batch of one lane.

    Does not change `state`: the caller adopts `Step.delta` once the transaction with `Step.outgoing` is committed.
    Events that were parked and can go on now come first, then the inputs in their order.

    Args:
        inputs: in the order of their offsets; may be empty, when only a view changed or time passed.
        now_ms: milliseconds since 1970.
        next_offset: where the lane stands after this batch.

    Raises:
        ConfigError: a topic of the broker's own is missing, or the vault's keys are wrong. Never for bad data.
    """
    batch = _Batch(state, views, keys, now_ms, next_offset, limits)
    batch.release()
    for record in inputs:
        batch.handle(record)
    return batch.finish()


class _Batch:
    """The work of one call. Reads its own writes to the vault."""

    def __init__(
        self, state: LaneState, views: Views, keys: ExchangeKeys, now_ms: int, next_offset: int, limits: Limits
    ) -> None:
        self.state, self.views, self.keys, self.now_ms, self.limits = state, views, keys, now_ms, limits
        self.registry = views.registry
        self.day = now_ms // MS_PER_DAY
        self.outgoing: list[Outgoing] = []
        self.decisions: list[Decision] = []
        self.delta = StateDelta(next_offset, next_parked=state.next_parked, incidents=dict(state.incidents))
        self.delivered: set[bytes] = set()
        self.vault_writes: dict[bytes, bytes | None] = {}
        self.parked: dict[int, Parked] = dict(state.parked)
        self.parked_bytes: int | None = None  # counted when the first event of the batch is parked
        self.waiting: dict[bytes, list[int]] = {key: list(numbers) for key, numbers in state.waiting.items()}
        self.audit_partition = lane_partition(state.lane, views.partitions(AUDIT_EVENTS))

    # ---- the vault as this batch sees it

    def get(self, key: bytes) -> bytes | None:
        """Vault reader: own writes first."""
        return self.vault_writes[key] if key in self.vault_writes else self.views.vault.get(key)

    # ---- events

    def handle(self, record: InputRecord, parked: Parked | None = None) -> None:
        """Take one event through the steps and write down what was decided."""
        account = Account.of(record, self.now_ms)
        try:
            decisions = self._steps(record, account, parked)
        except (ContractError, AccessDenied) as error:
            decisions = [self._refuse(account, error)]
        if parked is not None:
            self._unpark(parked)
        self._tell(account, decisions)

    def _steps(self, record: InputRecord, account: Account, parked: Parked | None) -> list[Decision]:
        try:
            envelope, associated = open_envelope(record, self.limits)
        except ContractError:
            check_outside(record)  # a PGN in clear is an incident, whatever else is wrong
            raise
        account.claim_event_id(envelope["event_id"])
        check_outside(record)
        school = check_envelope(record, envelope, self.registry, self.limits, self.now_ms)
        account.envelope = envelope
        event = open_event(record, envelope, associated, self.keys.opener, self.limits)
        account.family, account.traceparent = event.family.name, event.traceparent
        check_content(event, school, self.limits)
        account.kind = envelope["kind"]
        found = authorise(event, school, self.registry, self.day)
        fresh: list[Target] = []
        repeated: list[Target] = []
        for target in found.targets:
            (repeated if self._was_delivered(account, target) else fresh).append(target)
        if fresh and fresh[0].receiver == VAULT_RECEIVER:
            return [self._enrol(event, account, fresh[0])]
        if fresh:
            # Before anything is written: what waits is decided as a whole once it goes on, and one answer about the
            # person is the answer for all.
            person = self._person(event, parked)
            if isinstance(person, Waiting):
                return [self._park(record, account, person.key)]
            account.person = person
        return [
            *(self._log(account, refusal) for refusal in found.refusals),
            *(self._repeat(account, target) for target in repeated),
            *(self._deliver(event, account, target) for target in fresh),
        ]

    def _person(self, event: Opened, parked: Parked | None) -> VaultRecord | Waiting | None:
        """Whom it is about; Waiting also behind earlier events of this person that wait."""
        vault = self.keys.vault
        if parked is None and self.waiting:
            key = waiting_key(event, vault, self.waiting.__contains__)
            if key is not None:
                return Waiting(key)
        return find_person(event, vault, self)

    def _repeat(self, account: Account, target: Target) -> Decision:
        return self._log(account, Decision(Outcome.DUPLICATE, "event.duplicate", target.receiver), target)

    def _deliver(self, event: Opened, account: Account, target: Target) -> Decision:
        topic = output_topic(target, event.family.name)
        partitions = self.views.partitions(topic)
        if target.schema is None or target.projection is None or partitions < 1:
            return self._log(account, Decision(Outcome.REFUSED, "receiver.topic", target.receiver), target)
        try:
            body, shown = minimise_body(event, target, target.schema, target.projection, account.person)
            subject, sent = minimise_subject(account.person, target, self.keys)
            value, data_key, kid = seal_for(event, target, target.schema, subject, body, self.keys)
        except FieldError as error:
            return self._refuse(account, error, target)
        key = output_key(event, account.person, target, self.keys)
        partition = partition_of(key, partitions)
        flow, seq = self._next_seq(topic, partition)
        decision = Decision(Outcome.DELIVERED, "ok", target.receiver)
        ids = decision_ids(account, target.receiver)
        secrets = commitments(account, ids)
        salt = secrets.salt("out")
        headers = (
            (DATA_KEY, data_key),
            (KEY_ID, kid.encode()),
            (POLICY, self.registry.policy.version.encode()),
            (FLOW, self.state.lane.encode()),
            (FLOW_SEQ, str(seq).encode()),
            (AUDIT_SALT, salt),
            (TRACEPARENT, f"00-{ids.trace.hex()}-{ids.span.hex()}-01".encode()),
        )
        self.outgoing.append(Outgoing(topic, partition, key, value, headers))
        about_somebody = account.person is not None
        kept, dropped = attribute_names(target.kept, target.dropped, shown, sent, about_somebody)
        evidence = {
            "dropped": dropped,
            "flow": flow,
            "kept": kept,
            "seq": seq,
            "value": commitment(salt, value),
        }
        leaf = audit_leaf(account, decision, self.registry, ids, secrets, self.now_ms, target, evidence)
        self._audit(leaf, decision)
        self._remember(account, target)
        return decision

    def _enrol(self, event: Opened, account: Account, target: Target) -> Decision:
        change = change_vault(event, self.keys.vault, self, self.limits)
        account.person = change.person
        partitions = self.views.partitions(VAULT)
        for key, value in change.writes.items():
            self.outgoing.append(Outgoing(VAULT, partition_of(key, partitions), key, value))
            self.vault_writes[key] = value
        decision = self._log(account, Decision(Outcome.DELIVERED, "ok.vault", VAULT_RECEIVER), target)
        self._remember(account, target)
        if any(key in self.waiting for key in change.writes):
            self.release()
        return decision

    # ---- parked events

    def release(self) -> None:
        """Take parked events through all gates again whose id is known by now, and end those that waited too long."""
        oldest = self.now_ms - self.limits.parked_days * MS_PER_DAY
        for number in sorted(self.parked):
            event = self.parked.get(number)
            if event is None:
                continue
            if event.record.timestamp < oldest:
                account = Account.of(event.record, self.now_ms)
                self._name(account)
                decision = self._log(account, Decision(Outcome.EXPIRED, "parked.expired"))
                self._unpark(event)
                self._tell(account, [decision])
            elif self.get(event.waits_for) is not None:
                self.handle(event.record, event)

    def _name(self, account: Account) -> None:
        """The event was checked before it was parked: its id can be believed."""
        try:
            envelope, _ = open_envelope(account.record, self.limits)
        except ContractError:  # by an older version of us, under other limits
            return
        account.claim_event_id(envelope["event_id"])
        account.envelope, account.family, account.kind = envelope, envelope["family"], envelope["kind"]

    def _park(self, record: InputRecord, account: Account, key: bytes) -> Decision:
        limits, size = self.limits, len(record.value or b"")
        if self.parked_bytes is None:
            self.parked_bytes = sum(len(event.record.value or b"") for event in self.parked.values())
        if (
            len(self.parked) >= limits.parked_per_lane
            or len(self.waiting.get(key, ())) >= limits.parked_per_subject
            or self.parked_bytes + size > limits.parked_bytes_per_lane
        ):
            return self._log(account, Decision(Outcome.REFUSED, "parked.full"))
        self.parked_bytes += size
        headers = tuple((name, value) for name, value in record.headers if name in ALLOWED_IN)
        kept = InputRecord(
            record.topic, record.partition, record.offset, record.timestamp, record.key, record.value, headers
        )
        parked = Parked(self.delta.next_parked, key, kept)
        self.delta.next_parked += 1
        self.delta.parked[parked.number] = parked
        self.parked[parked.number] = parked
        self.waiting.setdefault(key, []).append(parked.number)
        return self._log(account, Decision(Outcome.PARKED, "subject.waiting"))

    def _unpark(self, parked: Parked) -> None:
        del self.parked[parked.number]
        if self.parked_bytes is not None:
            self.parked_bytes -= len(parked.record.value or b"")
        numbers = self.waiting[parked.waits_for]
        numbers.remove(parked.number)
        if not numbers:
            del self.waiting[parked.waits_for]
        if parked.number < self.state.next_parked:
            self.delta.parked[parked.number] = None
        else:  # parked and released within this batch
            del self.delta.parked[parked.number]

    # ---- what was decided

    def _refuse(self, account: Account, error: FieldError, target: Target | None = None) -> Decision:
        what = meaning(error.code)
        decision = Decision(what.outcome, error.code, target.receiver if target else None, error.field, error.rule)
        self._log(account, decision, target)
        if what.outcome is Outcome.QUARANTINED:
            record = account.record
            value = quarantine_record(account, decision, self.registry, self.keys, self.now_ms, self.limits)
            topic = f"quarantine.{record.party}"
            self._send_by_event(topic, account, value)
        if what.incident:
            self._incident(account, decision)
        return decision

    def _incident(self, account: Account, decision: Decision) -> None:
        """At most one per code, field and day; each record is quarantined all the same."""
        name, today = f"{decision.code}/{decision.field or ''}", day_of(self.now_ms)
        if self.delta.incidents.get(name) == today:
            return
        self.delta.incidents[name] = today
        leaf = incident_leaf(account, decision, self.now_ms)
        home = lane_partition(self.state.lane, self.views.partitions(AUDIT_CONTROL))
        self.outgoing.append(Outgoing(AUDIT_CONTROL, home, None, leaf))

    def _log(self, account: Account, decision: Decision, target: Target | None = None) -> Decision:
        ids = decision_ids(account, decision.receiver)
        secrets = commitments(account, ids)
        self._audit(audit_leaf(account, decision, self.registry, ids, secrets, self.now_ms, target), decision)
        return decision

    def _audit(self, leaf: bytes, decision: Decision) -> None:
        self.outgoing.append(Outgoing(AUDIT_EVENTS, self.audit_partition, None, leaf))
        self.decisions.append(decision)

    def _tell(self, account: Account, decisions: list[Decision]) -> None:
        self._send_by_event(f"status.{account.record.party}", account, status_record(account, decisions, self.now_ms))

    def _send_by_event(self, topic: str, account: Account, value: bytes) -> None:
        key = account.event_id.encode()
        partition = partition_of(bytes.fromhex(account.event_id[:8]), self.views.partitions(topic))
        self.outgoing.append(Outgoing(topic, partition, key, value))

    # ---- bookkeeping

    def _was_delivered(self, account: Account, target: Target) -> bool:
        known = delivery_id(account.event_id, target.receiver)
        return known in self.delivered or known in self.state.delivered

    def _remember(self, account: Account, target: Target) -> None:
        known = delivery_id(account.event_id, target.receiver)
        self.delivered.add(known)
        self.delta.delivered.append(known)

    def _next_seq(self, topic: str, partition: int) -> tuple[str, int]:
        flow = f"{topic}/{partition}"
        seq = self.delta.flows.get(flow, self.state.flows.get(flow, 0)) + 1
        self.delta.flows[flow] = seq
        return flow, seq

    def finish(self) -> Step:
        """Add the lane's own records, unless nothing happened at all."""
        if self.outgoing or self.delta.next_offset != self.state.next_offset:
            counts = (self.views.partitions(topic) for topic in ("lane.state", "parked"))
            self.outgoing += self.state.records(self.delta, *counts)
        return Step(self.outgoing, self.decisions, self.delta, self.waiting)
