"""A batch looks only at the vault keys that came since the last one, and decides as if it had looked at all of them.

The lane is the real one, its Kafka is not: hypothesis puts a vault view that lags behind, commits that fail, and what
happens while a batch is under way in any order. Another lane, which looks at everything in each batch, must end where
this one does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from broker.audit.leaf import canonical
from broker.client import Event, Identity, Subject
from broker.engine import lane as lane_module
from broker.engine.arrivals import Arrivals
from broker.engine.blame import Trial
from broker.engine.config import EngineConfig
from broker.engine.lane import Lane
from broker.engine.observe import Observer
from broker.exchange import InputRecord, LaneState, Step, Views, exchange
from broker.exchange.model import LANE_STATE, PARKED, VAULT, Outgoing
from broker.limits import Limits
from broker.schemas import catalogue, unframe
from broker.wire import decode_envelope
from tests.exchange.world import PORTAL, SIS, enrolment, event, make_world

DAY_MS = 86_400_000
LIMITS = Limits(released_per_batch=2)
PLACE = TopicPartition(f"in.{SIS}", 5)


def _use(pupil: int) -> Event:
    return event(subject=Subject("PUPIL", None, (("LAS_KEY", f"L1{pupil:03}"),)), receiver=PORTAL)


def _enrol(pupil: int) -> Event:
    return enrolment(f"https://ketenid.nl/pilot/{pupil:0128x}", f"L1{pupil:03}")


def _erase(pupil: int) -> Event:
    return replace(_enrol(pupil), kind="ERASE", body=Identity())


@dataclass
class Vault:
    """A view of the vault that reads its topic when it is told to; the lane hears of it after it can be read."""

    log: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    store: dict[bytes, bytes] = field(default_factory=dict)
    read: dict[int, int] = field(default_factory=lambda: {0: 0})
    applied: int = 0
    on_change: Callable[[Sequence[bytes]], None] = lambda _: None

    @contextmanager
    def reading(self) -> Iterator[dict[bytes, bytes]]:
        yield self.store

    def apply(self) -> None:
        """Write what the topic holds."""
        for key, value in self.log[self.applied :]:
            self.store.pop(key, None)
            self.store |= {} if value is None else {key: value}
        self.applied = len(self.log)

    def tell(self) -> None:
        """Say what was written."""
        self.on_change([key for key, _ in self.log[self.read[0] : self.applied]])
        self.read = {0: self.applied}

    def catch_up(self) -> None:
        """Both."""
        self.apply()
        self.tell()


class Everything(Arrivals):
    """Looks at all that waits, in each batch."""

    def to_look_at(self) -> None:
        """All."""


class Surroundings:
    """A lane of the SIS, which publishes as well, and all that it speaks with; one thing happens at a time.

    Attributes:
        between: what happens once, at the next moment of each kind.
        looks: how many keys each decision looked at; None: all.
    """

    def __init__(self) -> None:
        self.world = make_world(LIMITS)
        self.world.partitions = lambda topic: 1 if topic == VAULT else 2
        self.world.edit(f"party/{SIS}", roles=["SIS", "PUBLISHER"])
        self.switch("accepted")
        self.vault, self.sent = Vault(), list[InputRecord]()
        self.compacted: dict[str, dict[str, bytes]] = {LANE_STATE: {}, PARKED: {}}
        self.committed, self._staged = list[Outgoing](), list[Outgoing]()
        self.between: dict[str, Callable[[], None]] = {}
        self.max_age_s = 2.0
        self.looks: list[int | None] = []
        self.client = SimpleNamespace(close=self.nothing)

    # ---- the world

    def switch(self, state: str) -> None:
        """The link that the lane's events go over, accepted or revoked by its sender."""
        for side, by in (("sender", SIS), ("receiver", PORTAL)):
            link = json.loads(self.world.records[f"connection/po-usage-delta-portaal/{side}"])
            link |= {"id": "x", "sender": SIS, "accepted_by": by, "state": state if side == "sender" else "accepted"}
            self.world.registry = self.world.registry.with_changes({f"connection/x/{side}": canonical(link)})

    def send(self, *events: Event) -> None:
        """Put events on the lane's partition."""
        for one in events:
            record = self.world.record(SIS, one)
            self.sent.append(replace(record, partition=PLACE.partition, offset=len(self.sent)))

    def elsewhere(self, one: Event) -> None:
        """Another lane of the SIS writes to the vault."""
        step = self.world.run(SIS, self.world.record(SIS, one))
        self.vault.log += [(o.key or b"", o.value) for o in step.outgoing if o.topic == VAULT]

    def enrolled(self, pupil: int) -> None:
        """... and the view reads it."""
        self.elsewhere(_enrol(pupil))
        self.vault.catch_up()

    # ---- what the lane asks for

    @property
    def current(self) -> Any:
        """The registry, as the registry's view gives it."""
        return self.world.registry

    @property
    def registry(self) -> Surroundings:
        """The registry's view."""
        return self

    def require_current(self) -> Any:
        """The registry, as both views together give it."""
        return self.world.registry

    def happen(self, moment: str) -> None:
        """What was to come between."""
        self.between.pop(moment, lambda: None)()

    def process(self, state: LaneState, inputs: list[InputRecord], views: Views, _: int, next_offset: int) -> Step:
        """The exchange."""
        self.looks.append(None if views.arrived is None else len(views.arrived))
        step = exchange(
            state, inputs, views, self.world.exchange_keys, self.world.now_ms, next_offset, self.world.limits
        )
        self.between["decided"] = self.between.pop("decision", lambda: None)
        return step

    async def wait_current(self, *_: float) -> None:
        """Give the views time to read."""
        self.happen("decided")

    async def nothing(self, *_: object) -> None:
        """Neither wait nor do anything."""

    start = stop = begin_transaction = passed = nothing

    async def write(self, _: object, outgoing: Sequence[Outgoing]) -> dict[tuple[str, int], int]:
        """Send into the open transaction, behind what others wrote meanwhile."""
        self.happen("before the commit")
        self._staged = list(outgoing)
        in_vault = sum(o.topic == VAULT for o in outgoing)
        return {(o.topic, o.partition): len(self.vault.log) + in_vault - 1 for o in outgoing}

    async def commit(self, look: Callable[[], object]) -> None:
        """Make it readable, and let something happen before the lane hears of it."""
        look()
        self.happen("instead of the commit")
        for out in self._staged:
            key = out.key or b""
            if out.topic == VAULT:
                self.vault.log.append((key, out.value))
                self.world.vault.pop(key, None)
                self.world.vault |= {} if out.value is None else {key: out.value}
            elif out.topic in self.compacted:
                self.compacted[out.topic].pop(key.decode(), None)
                self.compacted[out.topic] |= {} if out.value is None else {key.decode(): out.value}
        self.committed += self._staged
        self.happen("after the commit")

    async def take_over(self, lane: str, *_: object) -> tuple[LaneState, None]:
        """What the lane left, once the view has passed it."""
        self.vault.catch_up()
        return LaneState.load(lane, self.compacted[LANE_STATE], self.compacted[PARKED], limits=LIMITS), None

    def include(self, _: object) -> None:
        """Everything is seen at once."""

    def owns(self, _: TopicPartition) -> bool:
        """Nobody else wants it."""
        return True

    def read_from(self, _: TopicPartition, offset: int) -> None:
        """Records are handed over by the test."""

    # ---- what came out

    def ended(self) -> dict[str, list[tuple[str, str]]]:
        """The final outcomes of each event, in their order."""
        found: dict[str, list[tuple[str, str]]] = {}
        for out in self.committed:
            if out.topic == f"status.{SIS}":
                told = catalogue()["status.v1"].decode(unframe(out.value)[1])
                final = [(r["receiver"], r["code"]) for r in told["results"] if r["outcome"] != "PARKED"]
                found.setdefault(told["event_id"], []).extend(final)
        return found

    def delivered(self) -> list[str]:
        """The events that the portal got, in order."""
        topic = f"out.{PORTAL}.usage"
        return [decode_envelope(o.value)[0]["event_id"] for o in self.committed if o.topic == topic]


def test_an_enrolment_that_may_release_nothing_leaves_it_to_the_next_call() -> None:
    """So that a parked event which the exchange fails on is not taken for the enrolment that has it released."""
    around = Surroundings()
    around.send(_use(1), _enrol(1))
    state = LaneState("exchange.in.sis-noord.1", limits=LIMITS)
    world, keys = around.world, around.world.exchange_keys

    def call(record: InputRecord, released: int | None) -> Step:
        views = Views(world.registry, world.vault, world.partitions, released=released)
        return exchange(state, [record], views, keys, world.now_ms, record.offset + 1, LIMITS)

    waits = call(around.sent[0], None)
    assert [d.code for d in waits.decisions] == ["subject.waiting"]
    state.adopt(waits.delta)
    enrols = call(around.sent[1], 0)
    assert [d.code for d in enrols.decisions] == ["ok.vault"]
    assert enrols.more
    assert [d.code for d in call(around.sent[1], None).decisions] == ["ok.vault", "ok"]


class Driver:
    """A lane under way; its own task does not run, the test does its work."""

    def __init__(self, around: Surroundings, patch: pytest.MonkeyPatch) -> None:
        self.around = around
        patch.setattr(lane_module, "take_over", around.take_over)
        patch.setattr(lane_module, "pack", lambda _, outgoing: outgoing)
        patch.setattr(lane_module, "write", around.write)
        topics = SimpleNamespace(partitions=around.world.partitions, missed=set())
        clients, states = SimpleNamespace(producer=lambda *_: around), SimpleNamespace(has_passed=lambda *_: True)
        host: Any = SimpleNamespace(
            config=EngineConfig(), clients=clients, source=around, process=around.process, set_aside=None,
            states=states, views=around, topics=topics, observer=Observer(), deciding=asyncio.Lock(),
        )  # fmt: skip
        self.lane = Lane(PLACE, host)
        self.lane._task.cancel()
        around.vault.on_change = self.lane.vault_changed

    async def batch(self, most: int = 100) -> None:
        """What was not decided yet, or nothing."""
        done = self.lane.committed or 0
        await self.lane._transact(Trial(self.around.sent[done : done + most]))

    async def rest(self) -> None:
        """Go on as long as the lane wants to."""
        for _ in range(100):
            if not self.lane._due():
                return
            await self.batch()
        raise AssertionError("the lane turns round and round")


async def _use_it(d: Driver, pupil: int) -> None:
    await d.batch()


async def _read_late(d: Driver, pupil: int) -> None:
    d.around.elsewhere(_enrol(pupil))  # the view reads it with the next thing that it reads
    await d.batch()


async def _enrolled(d: Driver, pupil: int) -> None:
    d.around.enrolled(pupil)


async def _erased(d: Driver, pupil: int) -> None:
    d.around.elsewhere(_erase(pupil))
    d.around.vault.catch_up()


async def _read_before_told(d: Driver, pupil: int) -> None:
    d.around.elsewhere(_enrol(pupil))
    d.around.vault.apply()
    await d.batch()
    d.around.vault.tell()
    await d.rest()


def _meanwhile(moment: str) -> Callable[[Driver, int], Any]:
    async def run(d: Driver, pupil: int) -> None:
        d.around.between[moment] = lambda: d.around.enrolled(pupil)
        await d.batch()

    return run


async def _decided_again(d: Driver, pupil: int) -> None:
    def change() -> None:
        d.around.world.registry = d.around.world.registry.with_changes({})
        d.around.enrolled(pupil)

    d.around.between["decision"] = change
    await d.batch()


async def _fails(d: Driver, pupil: int) -> None:
    def fail() -> None:
        d.around.elsewhere(_enrol((pupil + 1) % 3))  # read while the lane is taken over, and can not be told
        raise ConnectionError

    d.around.between["instead of the commit"] = fail
    try:
        await d.batch()
    except ConnectionError:
        d.lane._let_go()
        await d.lane._position()
    d.around.between.clear()


async def _revoked(d: Driver, pupil: int) -> None:
    d.around.switch("revoked")
    d.lane.registry_changed()
    await d.batch()


async def _accepted(d: Driver, pupil: int) -> None:
    d.around.switch("accepted")
    d.lane.registry_changed()


async def _a_month_later(d: Driver, pupil: int) -> None:
    d.around.world.now_ms += 31 * DAY_MS
    d.lane._nudge()  # as the tick does
    await d.rest()


async def _rested(d: Driver, pupil: int) -> None:
    await d.rest()


ACTIONS: dict[str, tuple[tuple[Callable[[int], Event], ...], Callable[[Driver, int], Any]]] = {
    "used": ((_use,), _use_it),
    "used twice": ((_use, _use), _use_it),
    "enrolled here": ((_use, _enrol, _use), _use_it),
    "erased here": ((_erase, _use), _use_it),
    "enrolled elsewhere, read late": ((_use,), _read_late),
    "enrolled elsewhere": ((), _enrolled),
    "erased elsewhere": ((), _erased),
    "read before the lane is told": ((_use,), _read_before_told),
    "enrolled between decision and commit": ((_use,), _meanwhile("before the commit")),
    "enrolled after the commit": ((_use,), _meanwhile("after the commit")),
    "erased here, enrolled after the commit": ((_erase, _use), _meanwhile("after the commit")),
    "enrolled and decided again": ((_use,), _decided_again),
    "failed, another enrolled": ((_use,), _fails),
    "revoked": ((), _revoked),
    "accepted": ((), _accepted),
    "a month later": ((), _a_month_later),
    "rested": ((), _rested),
}
Script = list[tuple[str, int]]


async def _run(
    script: Script, events: list[list[Event]], patch: pytest.MonkeyPatch, *, everything: bool
) -> tuple[Surroundings, Lane]:
    around = Surroundings()
    driver = Driver(around, patch)
    if everything:
        driver.lane._arrivals = Everything(60.0)
    await driver.lane._position()
    for (name, pupil), sent in zip(script, events, strict=True):
        around.send(*sent)
        await ACTIONS[name][1](driver, pupil)
    around.vault.catch_up()
    if everything:  # its wake-ups are not what this is about
        driver.lane._nudge()
    await driver.rest()
    await asyncio.gather(*driver.lane._stopping)
    return around, driver.lane


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example([("used", 0), ("enrolled elsewhere", 0)])
@example([("used", 0), ("enrolled and decided again", 0)])
@example([("used twice", 0), ("used", 0), ("enrolled elsewhere", 0), ("rested", 0)])
@example([("enrolled elsewhere", 0), ("erased here, enrolled after the commit", 0)])
@example([("used", 0), ("enrolled between decision and commit", 1), ("used", 1)])
@example([("used", 1), ("failed, another enrolled", 0)])
@example([("used", 0), ("enrolled elsewhere", 0), ("enrolled and decided again", 1)])
@given(st.lists(st.tuples(st.sampled_from(sorted(ACTIONS)), st.integers(0, 2)), max_size=12))
def test_a_lane_that_looks_at_what_came_ends_where_one_ends_that_looks_at_everything(script: Script) -> None:
    """Same outcomes, same order for each pupil, same events still waiting; and nobody waits who is known."""
    events = [[make(pupil) for make in ACTIONS[name][0]] for name, pupil in script]
    with pytest.MonkeyPatch.context() as patch:
        ours, lane = asyncio.run(_run(script, events, patch, everything=False))
    with pytest.MonkeyPatch.context() as patch:
        other, thorough = asyncio.run(_run(script, events, patch, everything=True))
    assert lane._state is not None
    assert thorough._state is not None
    assert ours.ended() == other.ended()
    for pupil in range(3):
        about = {one.event_id for (_, who), sent in zip(script, events, strict=True) if who == pupil for one in sent}
        assert [e for e in ours.delivered() if e in about] == [e for e in other.delivered() if e in about]
    assert [e.record.offset for e in lane._state.parked.values()] == [
        e.record.offset for e in thorough._state.parked.values()
    ]
    assert not [key for key in lane._state.waiting if key in ours.vault.store]


def test_a_batch_looks_at_nothing_while_the_vault_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """At all that waits after the take-over; then at what came, once, and at all again if work was left over."""

    async def run() -> Surroundings:
        around = Surroundings()
        driver = Driver(around, monkeypatch)
        await driver.lane._position()
        for moment in (lambda: None, lambda: None, lambda: around.enrolled(2), lambda: None):
            moment()
            around.send(*[_use(pupil) for pupil in range(3)])
            await driver.batch()
        await driver.rest()
        around.send(_use(0))
        await driver.batch()
        return around

    # Pupil 2 has two events that wait, and two may be released at once: nothing is left over.
    assert asyncio.run(run()).looks == [None, 0, 1, 0, 0]


def test_everything_is_looked_at_again_once_in_a_while() -> None:
    """So that a notice that got lost, against all care, strands no event until it expires."""
    seldom, always = Arrivals(3600.0), Arrivals(0.0)
    for arrivals in (seldom, always):
        assert arrivals.to_look_at() is None
        arrivals.committed(more=False)
    assert seldom.to_look_at() == set()
    assert always.to_look_at() is None
