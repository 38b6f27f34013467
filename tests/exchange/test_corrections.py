"""Usage that is corrected or taken back: checked against what its sender said, without a memory of every first use."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.exchange.test_objects import SENDER, all_roles, code, said
from tests.exchange.world import World

FIRST = ("ACTIVATION", "USE", "PROGRESS")


@pytest.fixture(scope="module")
def shared() -> World:
    """One world for all: each usage has an id of its own."""
    return all_roles()


def usage(world: World, kind: str, thing: str, revision: int = 1, **envelope: Any) -> str:
    """The code that the receivers of a usage got."""
    return code(world, "usage", kind, thing, revision, **envelope)


@pytest.mark.parametrize("kind", FIRST)
def test_a_first_version_is_delivered_and_not_remembered(kind: str) -> None:
    """A country's million usages a day leave the memory to what needs it."""
    world = all_roles()
    before = dict(world.state(SENDER).objects.known)
    for revision in (1, 1, 0, -1):
        assert usage(world, kind, str(uuid4()), revision) == "ok"
    assert world.state(SENDER).objects.known == before
    assert not [key for key in world.compacted["lane.state"] if "#@" in key]


@pytest.mark.parametrize("kind", FIRST)
@pytest.mark.parametrize("take_over", [False, True])
def test_a_correction_is_remembered_and_the_next_held_against_it(shared: World, kind: str, take_over: bool) -> None:
    """The first of which the broker knows is delivered unchecked; a lower or equal version is stale, a higher passes."""
    thing = str(uuid4())
    assert usage(shared, kind, thing, 3) == "ok.unchecked"
    if take_over:
        shared.take_over(SENDER)
    for revision in (-1, 1, 2, 3):
        decision = shared.run(SENDER, said(shared, "usage", kind, thing, revision)).decisions[0]
        assert (decision.code, decision.field) == ("object.stale", "revision")
    assert usage(shared, kind, thing, 4) == "ok"
    assert usage(shared, kind, thing, 4) == "object.stale"


@pytest.mark.parametrize("kind", FIRST)
@pytest.mark.parametrize("before", [0, 1, 2])
def test_what_was_taken_back_stays_taken_back(shared: World, kind: str, before: int) -> None:
    """Whatever was said before it, and whichever version comes after it; also within one batch."""
    thing = str(uuid4())
    for revision in range(1, before + 1):
        usage(shared, kind, thing, revision)
    assert usage(shared, "RETRACT", thing, before + 1) == ("ok" if before == 2 else "ok.unchecked")
    for following in (kind, "RETRACT"):
        for revision in (1, before + 1, before + 2):
            assert usage(shared, following, thing, revision) == "object.transition"
    other = str(uuid4())
    records = [said(shared, "usage", "RETRACT", other, 2), said(shared, "usage", kind, other, 1)]
    codes = [d.code for d in shared.run(SENDER, *records).decisions]
    assert list(dict.fromkeys(codes)) == ["ok.unchecked", "object.transition"]


def test_a_retraction_of_an_older_version_is_stale(shared: World) -> None:
    """It does not know of the correction."""
    thing = str(uuid4())
    usage(shared, "USE", thing, 3)
    assert usage(shared, "RETRACT", thing, 3) == "object.stale"
    assert usage(shared, "RETRACT", thing, 4) == "ok"


def test_a_correction_is_told_to_each_receiver_by_name(shared: World) -> None:
    """Some senders name one receiver at a time: the same once more is no older version."""
    thing = str(uuid4())
    assert usage(shared, "USE", thing, 2, receiver="shop-b") == "ok.unchecked"
    assert usage(shared, "USE", thing, 2, receiver="portal-b") == "ok"
    assert usage(shared, "RETRACT", thing, 3, receiver="shop-b") == "ok"
    assert usage(shared, "RETRACT", thing, 3, receiver="portal-b") == "ok"


def test_a_correction_that_nobody_got_is_not_remembered(shared: World) -> None:
    """It was refused, so it was not said."""
    thing = str(uuid4())
    assert usage(shared, "RETRACT", thing, 2, receiver="niemand") == "gate.connection"
    assert usage(shared, "USE", thing) == "ok"
