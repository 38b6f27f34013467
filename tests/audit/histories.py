"""Histories that the real exchange wrote, as the leaves of one audit partition, and what can be done to them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

from broker.audit.leaf import canonical
from broker.client import Subject
from broker.exchange.model import AUDIT_EVENTS
from broker.exchange.windows import WINDOW_MS
from tests.exchange.first_lane import AGREEMENT, over
from tests.exchange.test_parking import DAY_MS, LATE, MAYA
from tests.exchange.test_replay import again, declare, taken_for_a_bsn
from tests.exchange.world import DELTA, EMMA, NOAH, PORTAL, SIS, World, enrolment, event, make_world


def leaves_of(world: World) -> list[bytes]:
    """All lanes in one partition of the audit topic, in the order in which they were written."""
    return [out.value or b"" for out in world.topic(AUDIT_EVENTS)]


def minute(world: World, *parties: str) -> None:
    """Nothing comes for a minute, and each lane tells its window."""
    world.now_ms += WINDOW_MS
    for party in parties or (SIS, DELTA):
        world.run(party)


def a_world() -> World:
    """Two lanes with every kind of decision: see the calls."""
    world = make_world()
    entry = taken_for_a_bsn(world)  # quarantined
    world.send(SIS, enrolment())
    first = event()
    world.send(DELTA, first, event(receiver=PORTAL), first, event(school="00AA"), event(), event(receiver="nobody"))
    world.send(DELTA, event(subject=LATE), event(subject=LATE))  # parked
    minute(world)
    declare(world)
    world.run(SIS, again(world, entry))  # replayed
    world.send(DELTA, event())
    world.take_over(DELTA)
    world.send(SIS, enrolment(MAYA, "L0099"))
    world.run(DELTA)  # released
    world.send(DELTA, event(subject=LATE), event())
    minute(world)
    world.take_over(SIS)
    world.send(DELTA, event(), event(), event(receiver=PORTAL))
    minute(world, DELTA)
    return world


@cache
def history() -> tuple[bytes, ...]:
    """See `a_world`."""
    return tuple(leaves_of(a_world()))


def waiting() -> World:
    """An event that waits until its time is over."""
    world = make_world()
    world.send(DELTA, event(subject=LATE))
    world.send(SIS, enrolment(MAYA, "L0099"))
    minute(world, SIS)
    world.now_ms += 400 * DAY_MS
    world.run(DELTA)
    minute(world)
    return world


def duties() -> World:
    """Lanes that tell their party its duties, and events between them."""
    world = make_world()
    world.partition = 0
    for party in (SIS, DELTA, PORTAL):
        while world.run(party).more:
            pass
    world.send(SIS, enrolment())
    world.send(DELTA, event(), event())
    over(world, agreement=AGREEMENT)
    world.run(PORTAL)
    minute(world, SIS, DELTA, PORTAL)
    return world


def erasures() -> World:
    """Pupils who are erased: one in each of two windows, the second of whom was two enrolments."""
    world = make_world()
    world.send(SIS, enrolment(), enrolment(None, "DUBBEL"), enrolment(NOAH, "L0002"))
    world.send(DELTA, event(), event(receiver=PORTAL))
    world.send(SIS, replace(enrolment(NOAH, "L0002"), kind="ERASE"))
    minute(world)
    subject = Subject("PUPIL", EMMA, (("LAS_KEY", "L0001"),), (("LAS_KEY", "DUBBEL"),))
    world.send(SIS, replace(enrolment(), kind="MERGE", subject=subject))
    erase = replace(enrolment(), kind="ERASE")
    world.send(SIS, erase, erase)
    world.send(SIS, erase)
    world.send(DELTA, event())
    minute(world)
    return world


# ---- reading and changing leaves


def content(leaf: bytes) -> dict[str, Any]:
    """Of a leaf."""
    found: dict[str, Any] = json.loads(leaf)
    return found


def window_of(leaf: bytes) -> dict[str, Any] | None:
    """Of a window leaf."""
    found: dict[str, Any] | None = content(leaf).get("window")
    return found


def lane_of(leaf: bytes) -> str:
    """Topic and partition of the input that a leaf's lane reads."""
    said = content(leaf)
    if "erased" in said:
        return ""  # of the lane of the decision before it
    source = said["window"]["input"] if "window" in said else said["x"].get("in")
    return f"{source['topic']}/{source['partition']}" if source else f"in.{said['x']['receiver']}/0"


def changed(leaf: bytes, *path: Any, to: Any) -> bytes:
    """A leaf with something else in one place."""
    said = content(leaf)
    at: Any = said
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = to
    return canonical(said)


def order(leaf: bytes) -> dict[str, tuple[str, int]]:
    """By what rules a leaf stands where it stands: its place in its lane, and in each flow."""
    said = content(leaf)
    if "window" in said:
        return {}
    x = said["x"]
    found = {} if "in" not in x else {"offset": ("", x["in"]["offset"])}
    return found | ({} if "seq" not in x else {"seq": (x["flow"], x["seq"])})


def must_follow(one: bytes, other: bytes) -> bool:
    """Whether a rule says that these two leaves of a lane stand in this order: what of an input is decided for several
    receivers, and when an event is released that waited, has no order with what is beside it."""
    if window_of(one) or window_of(other):
        return True
    first, second = content(one)["x"], content(other)["x"]
    if first.get("flow") is not None and first.get("flow") == second.get("flow"):
        return True
    return "in" in first and "in" in second and first["in"]["offset"] < second["in"]["offset"]


def swaps(leaves: tuple[bytes, ...]) -> Iterator[tuple[int, int]]:
    """For each leaf one with which it can not change places: the next such one of its lane, or the one before."""
    for at, leaf in enumerate(leaves):
        after = [n for n in range(at + 1, len(leaves)) if lane_of(leaves[n]) == lane_of(leaf)]
        before = [n for n in range(at) if lane_of(leaves[n]) == lane_of(leaf)]
        found = next((n for n in after if must_follow(leaf, leaves[n])), None)
        if found is not None:
            yield at, found
        else:
            yield next(n for n in reversed(before) if must_follow(leaves[n], leaf)), at
