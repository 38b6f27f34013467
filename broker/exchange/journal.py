"""What a batch writes down: outputs, audit leaves, status, quarantine, incidents; in the order it happened."""

from __future__ import annotations

from typing import Any

from broker.audit.index import forget_entry, index_entry
from broker.audit.leaf import Commitments, Ids, commitment, erased_leaf
from broker.crypto import partition_of
from broker.days import day_of
from broker.errors import FieldError
from broker.exchange.authorise import VAULT as VAULT_RECEIVER
from broker.exchange.authorise import Target
from broker.exchange.decide import (
    Account,
    audit_leaf,
    commitments,
    decision_ids,
    incident_leaf,
    status_record,
)
from broker.exchange.keys import ExchangeKeys
from broker.exchange.model import (
    AUDIT_CONTROL,
    AUDIT_EVENTS,
    AUDIT_INDEX,
    Decision,
    Outcome,
    Outgoing,
    StateDelta,
    Views,
)
from broker.exchange.outcomes import meaning
from broker.exchange.quarantine import quarantine_record, replayed_record
from broker.exchange.state import LaneState, lane_input, lane_partition
from broker.exchange.windows import NOTHING, next_root, window_leaves
from broker.identity.vault import VaultRecord
from broker.limits import Limits
from broker.registry import Registry
from broker.wire import AUDIT_SALT, DATA_KEY, FLOW, FLOW_SEQ, KEY_ID, POLICY, TRACEPARENT


class Journal:
    """The records of one transaction as they come, and the decisions behind them."""

    def __init__(
        self, state: LaneState, delta: StateDelta, views: Views, keys: ExchangeKeys, now_ms: int, limits: Limits
    ) -> None:
        self.state, self.delta, self.views, self.keys = state, delta, views, keys
        self.now_ms, self.limits = now_ms, limits
        self.registry: Registry = views.registry
        self.outgoing: list[Outgoing] = []
        self.decisions: list[Decision] = []
        self.window = delta.window = state.counted.at(state.next_offset)
        self._events_home = lane_partition(state.lane, views.partitions(AUDIT_EVENTS))

    def refuse(self, account: Account, error: FieldError, target: Target | None = None) -> Decision:
        """Decide by an error's code: refused or quarantined, with an incident where the code asks one."""
        what = meaning(error.code)
        decision = Decision(what.outcome, error.code, target.receiver if target else None, error.field, error.rule)
        self.log(account, decision, target)
        if what.outcome is Outcome.QUARANTINED:
            value = quarantine_record(account, decision, self.registry, self.keys, self.now_ms, self.limits)
            self._by_event(f"quarantine.{account.record.party}", account, value)
            self._set_aside(account.record.offset)
        if what.incident:
            self._incident(account, decision)
        return decision

    def log(self, account: Account, decision: Decision, target: Target | None = None) -> Decision:
        """Write the leaf of a decision that delivers no record to a party."""
        ids = decision_ids(account, decision.receiver, decision.outcome)
        secrets = commitments(account, ids)
        self.audit(audit_leaf(account, decision, self.registry, ids, secrets, self.now_ms, target), decision, target)
        self.index(account, ids)
        return decision

    def secrets(self, account: Account, receiver: str) -> tuple[Ids, Commitments]:
        """Trace and salts of a delivery."""
        ids = decision_ids(account, receiver)
        return ids, commitments(account, ids)

    def audit(self, leaf: bytes, decision: Decision, target: Target | None = None) -> None:
        """Write the leaf of a decision."""
        self.outgoing.append(Outgoing(AUDIT_EVENTS, self._events_home, None, leaf))
        self.decisions.append(decision)
        process = None if target is None else target.route.process
        self.window.count(decision.outcome.value.lower(), decision.receiver, process, self.now_ms)

    def index(self, account: Account, ids: Ids) -> None:
        """Have a leaf found by the person it is about, if it is about one who is enrolled."""
        if account.person is not None and account.school is not None:
            cipher = self.keys.vault.school_cipher(account.school)
            self._index(index_entry(cipher, ids.span, account.person.subject_key))

    def erased(self, account: Account, person: VaultRecord, school: str) -> None:
        """Write that a person was erased, behind the leaf of the ERASE, and have the index forget all of his keys."""
        record, event = account.record, account.event_id
        leaf = erased_leaf(event, school, (record.topic, record.partition, record.offset), self.now_ms)
        self.outgoing.append(Outgoing(AUDIT_EVENTS, self._events_home, None, leaf))
        span, cipher = decision_ids(account, VAULT_RECEIVER).span, self.keys.vault.school_cipher(school)
        for key in person.subject_keys:
            self._index(forget_entry(cipher, span, key))

    def _index(self, entry: bytes) -> None:
        home = lane_partition(self.state.lane, self.views.partitions(AUDIT_INDEX))
        self.outgoing.append(Outgoing(AUDIT_INDEX, home, None, entry))

    def end_window(self) -> None:
        """Write what the lane counted since the last window, if it is time to."""
        window, lane = self.window, self.state.lane
        if not window.is_due(self.now_ms):
            return
        roots, end = self.state.roots | self.delta.roots, self.delta.next_offset
        for leaf in window_leaves(window, lane, lane_input(lane), end, roots, self.now_ms):
            self.outgoing.append(Outgoing(AUDIT_EVENTS, self._events_home, None, leaf))
        self.window = self.delta.window = window.after(end)

    def control(self, leaf: bytes) -> None:
        """Write a leaf of the control log."""
        home = lane_partition(self.state.lane, self.views.partitions(AUDIT_CONTROL))
        self.outgoing.append(Outgoing(AUDIT_CONTROL, home, None, leaf))

    def take_back(self, offset: int) -> bool:
        """Take a record out of what waits in quarantine, for its replay; tells whether it was there."""
        if offset not in (self.state.quarantined if self.delta.quarantined is None else self.delta.quarantined):
            return False
        del self._waiting()[offset]
        return True

    def _set_aside(self, offset: int) -> None:
        waiting = self._waiting()
        waiting[offset] = None
        if len(waiting) > self.limits.quarantined_per_lane:
            del waiting[next(iter(waiting))]

    def _waiting(self) -> dict[int, None]:
        if self.delta.quarantined is None:
            self.delta.quarantined = dict(self.state.quarantined)
        return self.delta.quarantined

    def replayed(self, account: Account, first: int) -> None:
        """Write beside a quarantined record that it was replayed."""
        self._by_event(f"quarantine.{account.record.party}", account, replayed_record(account, first, self.now_ms))

    def tell(self, account: Account, decisions: list[Decision]) -> None:
        """Tell the sender."""
        value = status_record(account, decisions, self.now_ms)
        self._by_event(f"status.{account.record.party}", account, value)

    def output(
        self, topic: str, partition: int, key: bytes, sealed: tuple[bytes, bytes, str], ids: Ids, secrets: Commitments
    ) -> dict[str, Any]:
        """Write a record for a receiver, with the headers that lead from it to its leaf.

        Args:
            sealed: value, data key and id of the recipient key, as `seal` gives them.

        Returns:
            What the leaf says of it: flow, seq, and the commitment to the value.
        """
        value, data_key, kid = sealed
        flow, seq = self.next_seq(topic, partition)
        root = self.delta.roots.get(flow) or self.state.roots.get(flow, NOTHING)
        self.delta.roots[flow] = next_root(root, ids.trace, ids.span)
        self.window.delivered(flow, seq, self.now_ms)
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
        return {"flow": flow, "seq": seq, "value": commitment(salt, value)}

    def next_seq(self, topic: str, partition: int) -> tuple[str, int]:
        """Flow and sequence number of the next output to a partition."""
        flow = f"{topic}/{partition}"
        seq = self.delta.flows.get(flow, self.state.flows.get(flow, 0)) + 1
        self.delta.flows[flow] = seq
        return flow, seq

    def _incident(self, account: Account, decision: Decision) -> None:
        """At most one per school, code, field and day; each record is quarantined all the same.

        Each school is a controller of its own, whose clock starts when it knows (R23). What is of no school that could
        be told, and what is more than a lane should remember, is counted together.
        """
        today, what = day_of(self.now_ms), f"{decision.code}/{decision.field or ''}"
        if any(day != today for day in self.delta.incidents.values()):
            self.delta.incidents = {name: day for name, day in self.delta.incidents.items() if day == today}
        name, alone = f"{what}/{account.school or ''}", True
        if name not in self.delta.incidents and len(self.delta.incidents) >= self.limits.incidents_per_day:
            name, alone = what, False
        if name in self.delta.incidents:
            return
        self.delta.incidents[name] = today
        self.control(incident_leaf(account, decision, self.now_ms, alone=alone))

    def _by_event(self, topic: str, account: Account, value: bytes) -> None:
        key = account.event_id.encode()
        partition = partition_of(bytes.fromhex(account.event_id[:8]), self.views.partitions(topic))
        self.outgoing.append(Outgoing(topic, partition, key, value))
