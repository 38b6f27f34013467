"""The exchange: one batch in, one transaction's worth of records out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from broker.crypto import partition_of
from broker.days import date_of, day_of
from broker.errors import AccessDenied, ContractError, FieldError
from broker.exchange.authorise import REGISTRY as REGISTRY_RECEIVER
from broker.exchange.authorise import VAULT as VAULT_RECEIVER
from broker.exchange.authorise import Target, authorise
from broker.exchange.calendar import first_day
from broker.exchange.check import check_content, check_envelope, check_outside
from broker.exchange.decide import Account, attribute_names, audit_leaf
from broker.exchange.duties import answers_seed, control_topic, due, duties_of, moment, same_moment
from broker.exchange.errand import destruction_leaves, run_errand
from broker.exchange.journal import Journal
from broker.exchange.keys import ExchangeKeys
from broker.exchange.minimise import minimise_body, minimise_subject, passing
from broker.exchange.model import (
    REGISTRY,
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
from broker.exchange.objects import Said, check_order, object_id, told_before
from broker.exchange.open import Opened, open_envelope, open_event
from broker.exchange.parking import Parking
from broker.exchange.quarantine import replay_of
from broker.exchange.seal import output_key, output_topic, seal_for
from broker.exchange.state import LaneState, delivery_id
from broker.exchange.swap import Waiting, change_vault, check_people, find_person, waiting_key
from broker.exchange.switch import LINKS, SwitchBoard, change_leaf, switched
from broker.identity.vault import VaultRecord
from broker.limits import DEFAULT, Limits
from broker.registry import ConnectionSide, Registry
from broker.schemas import JsonObject
from broker.wire import REPLAY_OF


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
        TransientError: `keys.behind`: the registry names a key that is not here (yet).
    """
    keys.use(views.registry)
    batch = _Batch(state, views, keys, now_ms, next_offset, limits)
    batch.do_duties()
    batch.release()
    for record in inputs:
        batch.handle(record)
    return batch.finish()


class _Batch:
    """The work of one call. Reads its own writes to the vault and the registry."""

    def __init__(
        self, state: LaneState, views: Views, keys: ExchangeKeys, now_ms: int, next_offset: int, limits: Limits
    ) -> None:
        self.state, self.views, self.keys, self.now_ms, self.limits = state, views, keys, now_ms, limits
        self.day = day_of(now_ms)
        self.delta = StateDelta(next_offset, next_parked=state.next_parked, incidents=dict(state.incidents))
        self.journal = Journal(state, self.delta, views, keys, now_ms, limits)
        self.parking = Parking(state, self.delta, limits)
        self.board = SwitchBoard(views.registry)
        self.delivered: set[bytes] = set()
        self.vault_writes: dict[bytes, bytes | None] = {}
        self.released = 0
        self.most_released = limits.released_per_batch if views.released is None else views.released
        self.more = False

    @property
    def registry(self) -> Registry:
        """As the event at hand sees it: with what this batch wrote before it."""
        return self.journal.registry

    def get(self, key: bytes) -> bytes | None:
        """Vault reader: own writes first."""
        return self.vault_writes[key] if key in self.vault_writes else self.views.vault.get(key)

    # ---- events

    def handle(self, record: InputRecord, parked: Parked | None = None) -> None:
        """Take one event through the steps and write down what was decided."""
        account = Account.of(record, self.now_ms)
        self.journal.window.inputs += parked is None
        try:
            if parked is None:
                self._take_back(record, account)
            else:
                account.replay_of = replay_of(record)
            decisions = self._steps(record, account, parked)
        except (ContractError, AccessDenied) as error:
            decisions = [self.journal.refuse(account, error)]
        if parked is not None:
            self.parking.remove(parked)
        self.journal.tell(account, decisions)

    def _take_back(self, record: InputRecord, account: Account) -> None:
        """Of a replay: take what it names out of quarantine, whatever is decided next. It is there once.

        Raises:
            ContractError, AccessDenied: it names nothing that waits there.
        """
        try:
            first = replay_of(record)
            if first is None:
                return
            if not self.journal.take_back(first):
                raise AccessDenied("nothing to replay", code="replay.unknown", field=REPLAY_OF)
        except FieldError:
            self._claim(account)
            check_outside(record)  # a PGN in clear is an incident, whatever else is wrong
            raise
        account.replay_of = first  # only now: no leaf may lead to a first try that there was not
        self._claim(account)
        self.journal.replayed(account, first)

    def _claim(self, account: Account) -> JsonObject | None:
        """Take the event's id over, as far as the record can be read."""
        try:
            envelope, _ = open_envelope(account.record, self.limits)
        except ContractError:
            return None
        account.claim_event_id(envelope["event_id"])
        return envelope

    def _steps(self, record: InputRecord, account: Account, parked: Parked | None) -> list[Decision]:
        try:
            envelope, associated = open_envelope(record, self.limits)
        except ContractError:
            check_outside(record)  # a PGN in clear is an incident, whatever else is wrong
            raise
        account.claim_event_id(envelope["event_id"])
        check_outside(record)
        # Connection events see each other's sides without it: a thousand of them cost one building of the registry.
        if envelope["family"] != LINKS:
            self.journal.registry = self.board.registry
        school = check_envelope(record, envelope, self.registry, self.limits, self.now_ms)
        account.envelope, account.school = envelope, school.id
        event = open_event(record, envelope, associated, school, self.keys.opener, self.limits)
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
            check_people(event, self.keys.vault, self)
        # What the registry does not take is told to nobody.
        sides = self._sides(event, fresh)
        # Once more under its id it is the same event, not a next one.
        thing = object_id(event) if fresh and not repeated else None
        said, code = self._follows(event, thing)
        decisions = [
            *(self.journal.log(account, refusal) for refusal in found.refusals),
            *(self._repeat(account, target) for target in repeated),
            *(
                self._deliver(event, account, target, code)
                if target.receiver != REGISTRY_RECEIVER
                else self._switch(account, target, sides)
                for target in fresh
            ),
        ]
        got = [d.receiver for d in decisions if d.outcome is Outcome.DELIVERED and d.receiver is not None]
        if thing is not None and said is not None and got:
            self.delta.objects[thing] = said
        for leaf in destruction_leaves(event, account.event_id, got, self.registry, self.now_ms):
            self.journal.control(leaf)
        return decisions

    def _follows(self, event: Opened, thing: bytes | None) -> tuple[Said | None, str]:
        """Whether the event may follow what its sender said of the object before; the code of its deliveries."""
        if thing is None:
            return None, "ok"
        last = self.delta.objects.get(thing) or self.state.objects.last(thing)
        if answers_seed(event, self.registry, date_of(self.day)):  # for the new receiver only
            if last is None:
                return None, "ok.unchecked"  # old objects must not push out what is spoken of now
            if told_before(event, last):
                return None, "ok"  # what all others were told last stands
        said, checked = check_order(event, last)
        return said, "ok" if checked else "ok.unchecked"

    def _person(self, event: Opened, parked: Parked | None) -> VaultRecord | Waiting | None:
        """Whom it is about; Waiting also behind earlier events of this person that wait."""
        vault = self.keys.vault
        if parked is None and self.parking:
            key = waiting_key(event, vault, self.parking.waits)
            if key is not None:
                return Waiting(key)
        person = find_person(event, vault, self)
        if parked is None and self.parking and person is not None and not isinstance(person, Waiting):
            # By another id, but of one whose events are not all released yet: behind them.
            sector, school = event.envelope["sector"], event.school.id
            for id_type, value in person.user_ids:
                if self.parking.waits(key := vault.key(sector, school, id_type, value)):
                    return Waiting(key)
        return person

    def _repeat(self, account: Account, target: Target) -> Decision:
        return self.journal.log(account, Decision(Outcome.DUPLICATE, "event.duplicate", target.receiver), target)

    def _deliver(self, event: Opened, account: Account, target: Target, code: str) -> Decision:
        topic = output_topic(target, event.family.name)
        partitions = self.views.partitions(topic)
        schema, projection = target.schema, target.projection
        if schema is None or projection is None or partitions < 1:
            return self.journal.log(account, Decision(Outcome.REFUSED, "receiver.topic", target.receiver), target)
        try:
            target = passing(event, target, account.person, self.day)
            body = minimise_body(event, target, schema, projection)
            subject, sent = minimise_subject(account.person, target, self.keys)
            sealed = seal_for(event, target, schema, subject, body, self.keys)
        except FieldError as error:
            return self.journal.refuse(account, error, target)
        key = output_key(event, account.person, target, self.keys)
        kept, dropped = attribute_names(target.kept, target.dropped, sent, account.person is not None)
        decision = Decision(Outcome.DELIVERED, code, target.receiver, dropped=dropped)
        ids, secrets = self.journal.secrets(account, target.receiver)
        delivery = self.journal.output(topic, partition_of(key, partitions), key, sealed, ids, secrets)
        evidence = {"dropped": dropped, "kept": kept, **delivery}
        leaf = audit_leaf(account, decision, self.registry, ids, secrets, self.now_ms, target, evidence)
        self.journal.audit(leaf, decision, target)
        self.journal.index(account, ids)
        self._remember(account, target)
        return decision

    # ---- what changes the vault and the registry

    def _enrol(self, event: Opened, account: Account, target: Target) -> Decision:
        change = change_vault(event, self.keys.vault, self, self.limits)
        account.person = change.person
        partitions = self.views.partitions(VAULT)
        for key, value in change.writes.items():
            self.journal.outgoing.append(Outgoing(VAULT, partition_of(key, partitions), key, value))
            self.vault_writes[key] = value
        decision = self.journal.log(account, Decision(Outcome.DELIVERED, "ok.vault", VAULT_RECEIVER), target)
        if change.erases:
            self.journal.erased(account, change.person, event.school.id)
        self._remember(account, target)
        self._release([key for key, value in change.writes.items() if value is not None])
        return decision

    def _sides(self, event: Opened, targets: list[Target]) -> list[ConnectionSide]:
        """The sides of a connection that the event changes."""
        if all(target.receiver != REGISTRY_RECEIVER for target in targets):
            return []
        return switched(event, self.registry, self.board.find, self.now_ms)

    def _switch(self, account: Account, target: Target, sides: list[ConnectionSide]) -> Decision:
        """Write the sides of a connection, each with its change on the control log."""
        for side in sides:
            before = self.board.find(side.id, side.side)
            key, value = self.board.write(side)
            self.journal.outgoing.append(Outgoing(REGISTRY, 0, key, value))
            leaf = change_leaf(key.decode(), before, side, account.event_id, account.record.party, self.now_ms)
            self.journal.control(leaf)
        decision = self.journal.log(account, Decision(Outcome.DELIVERED, "ok.link", REGISTRY_RECEIVER), target)
        self._remember(account, target)
        return decision

    def do_duties(self) -> None:
        """Tell the lane's party what the registry asks of it and was not told yet."""
        party, seen = duties_of(self.state.lane), self.state.duties_seen
        if party is None:
            return
        now = moment(self.views.registry, party, self.day)
        if same_moment(now, seen) and not (seen and seen.untold and self._has_topic(party)):
            return
        duties = due(self.state, self.views.registry, party, self.day)
        self.delta.duties.update(duties.remember)
        told = [run_errand(duty, party, self.journal) for duty in duties.tell]
        for duty, done in zip(duties.tell, told, strict=True):
            self.delta.duties.update(duty.remember if done else {})
        if not duties.complete and (any(told) or duties.remember):
            self.more = True
        else:  # who could not be told is looked at again once its entry changes, or its topic is there
            self.delta.duties_seen = now._replace(untold=not all(told) and not self._has_topic(party))

    def _has_topic(self, party: str) -> bool:
        return self.views.partitions(control_topic(party)) > 0

    # ---- parked events

    def release(self) -> None:
        """Take parked events through all gates again whose id is known by now, and end those that waited too long.

        At most as many as one transaction should take; what is left is the next call's (`Step.more`). Until then later
        events of the same people wait behind them.
        """
        for event in self.parking.expired(self.day):
            if self._has_released_enough():
                return
            account = Account.of(event.record, self.now_ms)
            self._name(account)
            decision = self.journal.log(account, Decision(Outcome.EXPIRED, "parked.expired"))
            self.parking.remove(event)
            self.journal.tell(account, [decision])
        arrived = self.parking.keys() if self.views.arrived is None else self.views.arrived
        self._release([key for key in arrived if self.parking.waits(key) and self.get(key) is not None])

    def _release(self, keys: Iterable[bytes]) -> None:
        for number in sorted(n for key in keys for n in self.parking.numbers(key)):
            event = self.parking.event(number)
            if event is not None:
                if self._has_released_enough():
                    return
                self.handle(event.record, event)

    def _has_released_enough(self) -> bool:
        self.released += 1
        self.more = self.more or self.released > self.most_released
        return self.released > self.most_released

    def _name(self, account: Account) -> None:
        """The event was checked before it was parked: its id can be believed."""
        envelope = self._claim(account)
        if envelope is None:  # by an older version of us, under other limits
            return
        account.replay_of = replay_of(account.record)
        account.envelope, account.family, account.kind = envelope, envelope["family"], envelope["kind"]

    def _park(self, record: InputRecord, account: Account, key: bytes) -> Decision:
        if not self.parking.has_room(record, key):
            return self.journal.log(account, Decision(Outcome.REFUSED, "parked.full"))
        # Who is ordered for in June comes in August: 30 days from the first day of the year that it is for (R28).
        begins = first_day(account.envelope["school_year"]) if account.envelope is not None else self.day
        self.parking.add(record, key, max(self.day, begins) + self.limits.parked_days)
        return self.journal.log(account, Decision(Outcome.PARKED, "subject.waiting"))

    # ---- bookkeeping

    def _was_delivered(self, account: Account, target: Target) -> bool:
        known = delivery_id(account.event_id, target.receiver)
        return known in self.delivered or known in self.state.delivered

    def _remember(self, account: Account, target: Target) -> None:
        known = delivery_id(account.event_id, target.receiver)
        self.delivered.add(known)
        self.delta.delivered.append(known)

    def finish(self) -> Step:
        """Add the lane's own records, unless nothing happened at all."""
        self.journal.end_window()
        outgoing = self.journal.outgoing
        if outgoing or self.delta.duties or self.delta.next_offset != self.state.next_offset:
            counts = (self.views.partitions(topic) for topic in ("lane.state", "parked"))
            outgoing += self.state.records(self.delta, *counts)
        else:
            self.delta.window = None
        return Step(outgoing, self.journal.decisions, self.delta, self.more)
