"""Ten thousand events that wait for an enrolment, released by one batch of enrolments, and by each enrolment alone.

The full lane: as many events as it may hold (`Limits.parked_per_lane`), of so many pupils, several of each. First all
pupils are enrolled before the lane looks again: one call releases everything. Then, in a lane filled anew, each
enrolment wakes the lane by itself, as it does when enrolments trickle in. As the engine does, each call is told which
keys came, and one after a call that left work over looks at all that waits. Each pupil's order is checked. And what a
full lane costs an event that has nothing to do with those that wait: where the call looks only at who came, which is
nobody, and where it looks at all that waits.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from typing import Any, Final

from broker.client import Event, Subject
from broker.engine import EngineConfig
from broker.exchange import Outcome
from broker.exchange.model import VAULT, Outgoing
from broker.wire import decode_envelope
from tests.exchange.world import DELTA, PORTAL, SIS, World, enrolment, event, make_world, usage

BATCH: Final = EngineConfig().batch_records
OF_A_PUPIL: Final = 4
BYSTANDERS: Final = 50


def run(count: int = 10_000) -> dict[str, Any]:
    """Measure with so many events.

    Args:
        count: events that wait, four of each pupil in `at_once`, one of each in `one_by_one`.
    """
    return {
        "events": count,
        "at_once": _release(count, OF_A_PUPIL, at_once=True),
        "not_parked": _not_parked(count, OF_A_PUPIL),
        "one_by_one": _release(count, 1, at_once=False),
    }


def _release(count: int, of_a_pupil: int, *, at_once: bool) -> dict[str, Any]:
    world, pupils = make_world(), count // of_a_pupil
    world.arrived = set()
    sent = _events(count, pupils)
    began = time.process_time()
    for first in range(0, count, BATCH):
        step = world.run(DELTA, *[world.record(DELTA, one) for one in sent[first : first + BATCH]])
        assert {d.outcome for d in step.decisions} == {Outcome.PARKED}
    filled = time.process_time() - began
    bystander = _bystander(world)
    world.outgoing.clear()
    enrolments = [enrolment(_eck_id(n), f"L{n:05}") for n in range(pupils)]
    calls: list[float] = []
    if at_once:
        for first in range(0, pupils, BATCH):
            world.send(SIS, *enrolments[first : first + BATCH])
        calls.append(_call(world, world.topic(VAULT)))
    else:
        for one in enrolments:
            step = world.run(SIS, world.record(SIS, one))
            calls.append(_call(world, step.outgoing))
    assert world.state(DELTA).parked == {}
    delivered = [out for out in world.outgoing if out.topic == f"out.{PORTAL}.usage"]
    _check_order(sent, delivered)
    spent = sum(calls)
    return {
        "pupils": pupils,
        "park_us_per_event": filled / count * 1e6,
        "bystander_us": bystander,
        "calls": len(calls),
        "release_cpu_s": spent,
        "release_us_per_event": spent / count * 1e6,
        "longest_call_s": max(calls),
        "first_call_s": calls[0],
        "last_call_s": calls[-1],
        "written_bytes_of_release": sum(len(out.value or b"") for out in world.outgoing),
    }


def _call(world: World, enrolled: list[Outgoing]) -> float:
    """The lane looks again, as when the vault's view told it of keys that it waits for; CPU seconds."""
    waiting = world.state(DELTA).waiting
    world.arrived = {out.key for out in enrolled if out.topic == VAULT and out.key is not None and out.key in waiting}
    began = time.process_time()
    while world.run(DELTA).more:
        world.arrived = None
    return time.process_time() - began


def _not_parked(count: int, of_a_pupil: int) -> dict[str, float]:
    """The same events where everybody was enrolled before, in the engine's batches."""
    world, pupils = make_world(), count // of_a_pupil
    enrolments = [enrolment(_eck_id(n), f"L{n:05}") for n in range(pupils)]
    for first in range(0, pupils, BATCH):
        world.send(SIS, *enrolments[first : first + BATCH])
    spent = 0.0
    for first in range(0, count, BATCH):
        records = [world.record(DELTA, one) for one in _events(count, pupils)[first : first + BATCH]]
        began = time.process_time()
        world.run(DELTA, *records)
        spent += time.process_time() - began
    return {"us_per_event": spent / count * 1e6}


def _bystander(full: World) -> dict[str, float]:
    """A batch of one event about somebody who is enrolled; CPU microseconds, of the median batch, measured in turn."""
    count, empty = 10**6, make_world()
    about = Subject("PUPIL", None, (("LAS_KEY", f"L{count}"),))
    ways: dict[str, tuple[World, set[bytes] | None]] = {
        "full": (full, set()), "full_looking_at_all": (full, None), "empty": (empty, set()),
    }  # fmt: skip
    for world in (full, empty):
        world.send(SIS, enrolment(_eck_id(count), f"L{count}"))
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(BYSTANDERS):
        for name, (world, arrived) in ways.items():
            record = world.record(DELTA, event(receiver=PORTAL, subject=about, body=usage(frequency=number)))
            world.arrived = arrived
            began = time.process_time()
            assert [d.outcome for d in world.run(DELTA, record).decisions] == [Outcome.DELIVERED]
            spent[name].append(time.process_time() - began)
    return {name: statistics.median(seconds) * 1e6 for name, seconds in spent.items()}


def _events(count: int, pupils: int) -> list[Event]:
    """The pupils in turn, so that each one's events lie far apart."""
    who = [Subject("PUPIL", None, (("LAS_KEY", f"L{n:05}"),)) for n in range(pupils)]
    return [event(receiver=PORTAL, subject=who[n % pupils], body=usage(frequency=n)) for n in range(count)]


def _check_order(sent: list[Event], delivered: list[Outgoing]) -> None:
    """Everything once, and each pupil's events in the order in which they were sent."""
    place = {one.event_id: number for number, one in enumerate(sent)}
    whose: defaultdict[bytes | None, list[int]] = defaultdict(list)
    for out in delivered:
        whose[out.key].append(place.pop(decode_envelope(out.value)[0]["event_id"]))
    assert not place
    assert all(numbers == sorted(numbers) for numbers in whose.values())


def _eck_id(number: int) -> str:
    return f"https://ketenid.nl/pilot/{number:0128x}"


def rows(r: dict[str, Any]) -> list[tuple[str, str]]:
    """The table."""
    once, single, plain = r["at_once"], r["one_by_one"], r["not_parked"]
    by = single["bystander_us"]  # as many keys that are waited for as events
    return [
        ("parking one event", f"{once['park_us_per_event']:.0f} us"),
        (f"{r['events']:,} released by one call", f"{once['release_cpu_s']:.1f} s"),
        ("  per event; beside one that need not wait",
         f"{once['release_us_per_event']:.0f} us; {once['release_us_per_event'] / plain['us_per_event']:.2f}"),
        (f"{r['events']:,} released by {single['calls']:,} enrolments", f"{single['release_cpu_s']:.1f} s"),
        ("  per event; beside released at once",
         f"{single['release_us_per_event']:.0f} us; "
         f"{single['release_us_per_event'] / once['release_us_per_event']:.2f}"),
        ("  first and last call", f"{single['first_call_s'] * 1000:.1f} ms, {single['last_call_s'] * 1000:.1f} ms"),
        ("a batch of one event of somebody else, lane empty", f"{by['empty']:,.0f} us"),
        ("  lane full; beside empty", f"{by['full']:,.0f} us; {by['full'] / by['empty']:.2f}"),
        ("  lane full, looking at all that waits; beside empty",
         f"{by['full_looking_at_all']:,.0f} us; {by['full_looking_at_all'] / by['empty']:.2f}"),
    ]  # fmt: skip
