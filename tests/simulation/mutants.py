"""Seeded bugs: what the simulation must catch, each of them a mistake that somebody could make.

Each is a patch of the engine, of the lane's state or of how a batch is written; `faults` are those under which it shows
soonest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any, NamedTuple

import pytest
from aiokafka import TopicPartition

from broker.engine import lane, takeover
from broker.engine.blame import Trial
from broker.engine.lane import Lane
from broker.engine.proof import Unproven
from broker.engine.topicview import TopicTail
from broker.engine.transaction import Packed
from broker.exchange.model import AUDIT_EVENTS, LANE_STATE, PARKED, Outgoing
from broker.exchange.pipeline import _Batch
from broker.exchange.state import LaneState
from broker.exchange.swap import find_person
from broker.exchange.windows import NOTHING, Window
from tests.simulation.clients import SimClients, SimProducer

Patch = pytest.MonkeyPatch
ENDS = frozenset({"crash", "deploy", "freeze", "cut"})
MARKERS = frozenset({"leaderless", "crash", "deploy"})


class Mutant(NamedTuple):
    """A bug, and the faults under which it shows."""

    name: str
    plant: Callable[[Patch], None]
    faults: frozenset[str] = ENDS


# ---- how a batch is written


def _in_two(first: Callable[[Packed], bool]) -> Callable[[Patch], None]:
    """Write a batch in two transactions: first what this says, then the rest."""

    def plant(patch: Patch) -> None:
        write = lane.write

        async def in_two(producer: Any, packed: Sequence[Packed]) -> dict[tuple[str, int], int]:
            before = await write(producer, [p for p in packed if first(p)])
            await producer.commit(lambda: None)
            await producer.begin_transaction()
            return before | await write(producer, [p for p in packed if not first(p)])

        patch.setattr(lane, "write", in_two)

    return plant


def _outside(topic: Callable[[str], bool]) -> Callable[[Patch], None]:
    """Write some records without a transaction."""

    def plant(patch: Patch) -> None:
        write = lane.write

        async def partly(producer: SimProducer, packed: Sequence[Packed]) -> dict[tuple[str, int], int]:
            for one in packed:
                if topic(one.topic):
                    producer._cluster.write(TopicPartition(one.topic, one.partition), one.builder.items)
            return await write(producer, [p for p in packed if not topic(p.topic)])

        patch.setattr(lane, "write", partly)

    return plant


def _ack_on_failure(patch: Patch) -> None:
    """A commit that failed counts as done."""
    commit = Lane._commit

    async def deaf(self: Lane, step: Any, registry: Any) -> Any:
        try:
            return await commit(self, step, registry)
        except BaseException:  # noqa: BLE001 - that is the bug
            return {}

    patch.setattr(Lane, "_commit", deaf)


def _next_after_failure(patch: Patch) -> None:
    """A batch that failed is let go, and the next one taken."""
    transact = Lane._transact

    async def on(self: Lane, records: Any) -> None:
        try:
            await transact(self, records)
        except Exception:  # noqa: BLE001 - that is the bug
            self._drop_producer()
            self._producer = self.host.clients.producer(self.id, self.host.config)
            found = await takeover.take_over(self.id, self.partition, self._producer, self.host, 1)
            self._state, self._gap = found

    patch.setattr(Lane, "_transact", on)


def _one_too_far(patch: Patch) -> None:
    """The position of every third batch passes over one record."""
    batches = count()
    ends_at = Trial.ends_at

    def far(self: Trial, stands_at: int) -> int:
        return ends_at(self, stands_at) + (next(batches) % 3 == 2 and bool(self.records))

    patch.setattr(Trial, "ends_at", far)


# ---- taking over


def _no_fencing(patch: Patch) -> None:
    """Each producer has a transactional id of its own, so it shuts nobody out."""
    producer, numbers = SimClients.producer, count()
    patch.setattr(SimClients, "producer", lambda self, name, config: producer(self, f"{name}.{next(numbers)}", config))


def _state_before_fencing(patch: Patch) -> None:
    """The state is read first, and the older owner shut out afterwards."""
    take_over = takeover.take_over

    async def too_early(name: str, partition: Any, producer: Any, host: Any, failures: int) -> Any:
        early = takeover._load(name, host, 0)
        state, gap = await take_over(name, partition, producer, host, failures)
        return early if early.next_offset else state, gap

    patch.setattr(lane, "take_over", too_early)


async def _nothing_settled(_producer: Any, _places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    return {}


def _settle_once(patch: Patch) -> None:
    """The second settling transaction ends where nobody looks."""
    settle, seen = takeover.settle, takeover.FOLLOWED

    async def blind(producer: Any, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        places = set(places)
        if all(place.topic in seen for place in places):
            return await settle(producer, places)
        await settle(producer, {place for place in places if place.topic not in seen})
        return {}

    patch.setattr(takeover, "settle", blind)


def _left_unseen(patch: Patch) -> None:
    _set(Unproven, "in_doubt", _never)(patch)
    patch.setattr(Window, "is_due", lambda _window, _now_ms: False)


def _reads_back(change: Callable[[LaneState], None]) -> Callable[[Patch], None]:
    """The state is read back with a mistake."""

    def plant(patch: Patch) -> None:
        load = LaneState.load.__func__  # type: ignore[attr-defined]

        def mistaken(cls: type[LaneState], *args: Any, **options: Any) -> LaneState:
            state: LaneState = load(cls, *args, **options)
            change(state)
            return state

        patch.setattr(LaneState, "load", classmethod(mistaken))

    return plant


def _forget_hashes(state: LaneState) -> None:
    state.roots = dict.fromkeys(state.roots, NOTHING)


def _forget_counts(state: LaneState) -> None:
    state.counted = Window(state.counted.number)


def _forgets(name: str) -> Callable[[Patch], None]:
    """A part of the state is not read back."""

    def forget(state: LaneState) -> None:
        getattr(state, name).clear()
        if name == "parked":
            state.waiting.clear()

    return _reads_back(forget)


def _never_gone(patch: Patch) -> None:
    """What was parked and released stays on Kafka."""
    records = LaneState.records

    def kept(self: LaneState, *args: Any) -> list[Outgoing]:
        return [o for o in records(self, *args) if o.topic != PARKED or o.value is not None]

    patch.setattr(LaneState, "records", kept)


# ---- what waits


def _backwards(patch: Patch) -> None:
    """Parked events are released last in, first out."""

    def last_first(self: _Batch, keys: Iterable[bytes]) -> None:
        for number in sorted((n for key in keys for n in self.parking.numbers(key)), reverse=True):
            event = self.parking.event(number)
            if event is not None:
                self.handle(event.record, event)

    patch.setattr(_Batch, "_release", last_first)


def _overtaking(patch: Patch) -> None:
    """A later event of somebody whose first ones wait goes before them."""
    patch.setattr(_Batch, "_person", lambda self, event, _parked: find_person(event, self.keys.vault, self))


def _never(*_: Any) -> bool:
    return False


def _nowhere(_: Any) -> set[TopicPartition]:
    return set()


async def _only_loaded(self: TopicTail, _seconds: float) -> None:
    await self.loaded()


def _stale_position(patch: Patch) -> None:
    """The position is what the group's coordinator says, as every tutorial has it."""
    take_over = takeover.take_over

    async def believing(name: str, partition: Any, producer: Any, host: Any, failures: int) -> Any:
        state, gap = await take_over(name, partition, producer, host, failures)
        said = await host.source._consumer.committed(partition)
        state.next_offset = said or 0
        return state, gap

    patch.setattr(lane, "take_over", believing)


def _set(owner: Any, name: str, value: Any) -> Callable[[Patch], None]:
    return lambda patch: patch.setattr(owner, name, value)


MUTANTS: tuple[Mutant, ...] = (
    Mutant("the position is committed before the outputs", _in_two(lambda out: out.topic == LANE_STATE)),
    Mutant("the outputs are committed before the position", _in_two(lambda out: out.topic != LANE_STATE)),
    Mutant("the audit is written outside the transaction", _outside(lambda topic: topic == AUDIT_EVENTS)),
    Mutant("the status is written outside the transaction", _outside(lambda topic: topic.startswith("status."))),
    Mutant("the outputs are written outside the transaction", _outside(lambda topic: topic.startswith("out."))),
    Mutant("a failed commit counts as done", _ack_on_failure),
    Mutant("the next batch is taken after a failed one", _next_after_failure),
    Mutant("the position passes over a record", _one_too_far),
    Mutant("the position is what the group's coordinator says", _stale_position),
    Mutant("an older owner is not shut out", _no_fencing),
    Mutant("the state is read before the older owner is shut out", _state_before_fencing),
    Mutant("what an owner left is not settled", _set(takeover, "settle", _nothing_settled), MARKERS),
    Mutant("an abort is believed", _settle_once, MARKERS),
    Mutant("an acknowledged commit is believed", _set(Unproven, "places", property(_nowhere)), MARKERS),
    # A window's leaf would have it marked, after a minute: an hour is too long for whoever waits for what was delivered.
    Mutant("an acknowledged commit that nobody sees is left", _left_unseen, MARKERS),
    Mutant("no lane before all is read", _set(TopicTail, "loaded_or_blocked", _only_loaded), MARKERS),
    Mutant("the duplicate window is not read back", _forgets("delivered")),
    Mutant("parked events are not read back", _forgets("parked")),
    Mutant("the numbers of outputs are not read back", _forgets("flows")),
    Mutant("what was told of duties is not read back", _forgets("duties")),
    Mutant("the running hashes of flows are not read back", _reads_back(_forget_hashes)),
    Mutant("what was counted since the last window is not read back", _reads_back(_forget_counts)),
    Mutant("what was released stays parked on Kafka", _never_gone),
    Mutant("parked events are released backwards", _backwards),
    Mutant("later events overtake what waits", _overtaking),
)
