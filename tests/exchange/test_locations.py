"""Locations of a school (BRIN6): links and agreements that are for one of them only. And numbers that a school had."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from broker.audit.leaf import canonical
from broker.client import Identity, Subject
from broker.exchange import Outcome
from tests.exchange.open_world import PLACES, SCHOOL, agreement, open_world, sides
from tests.exchange.world import DELTA, EMMA, NOAH, PORTAL, SIS, World, enrolment, event, make_world

HERE, THERE = PLACES[1], PLACES[0]
WHERE = (HERE, THERE, SCHOOL)


def link(world: World, location: str | None) -> None:
    """The link from the publisher to the portal is for this location only."""
    name = "publisher-a.portal-b.usage.Gebruik"
    changes = {} if location is None else {"location": location}
    made = sides("publisher-a", "portal-b", "usage", "Gebruik", id=name, **changes)
    world.registry = world.registry.with_changes({key: canonical(side) for key, side in made.items()})


def covered(world: World, schools: list[str] | str, party: str = "portal-b") -> None:
    """A party's agreement is for these."""
    entry = canonical(agreement(party, schools=schools))
    world.registry = world.registry.with_changes({f"agreement/vwo-{party}": entry})


def codes(world: World, sender: str = "publisher-a", receiver: str | None = "portal-b") -> list[str]:
    """What an event gets that names this location, the other one, and the school as a whole."""
    found = []
    for where in WHERE:
        decisions = world.send(sender, event(school=where, sector="VO", receiver=receiver))
        found.append(",".join(sorted({d.code for d in decisions})))
    return found


CLOSED = "gate.connection"
LINKED: dict[str, tuple[str | None, list[str]]] = {
    "all of the school": (None, ["ok", "ok", "ok"]),
    "this location": (HERE, ["ok", CLOSED, CLOSED]),
    "the other location": (THERE, [CLOSED, "ok", CLOSED]),
}


@pytest.mark.parametrize("name", LINKED)
def test_a_link_for_a_location_carries_what_names_that_location_and_nothing_else(name: str) -> None:
    """What names the school as a whole may be about the other location: it does not pass."""
    location, expected = LINKED[name]
    world = open_world()
    link(world, location)
    assert codes(world) == expected


AGREED: dict[str, tuple[list[str] | str, list[str]]] = {
    "all of the board": ("all of board", ["ok", "ok", "ok"]),
    "the school": ([SCHOOL], ["ok", "ok", "ok"]),
    "this location": ([HERE], ["ok", "gate.agreement", "gate.agreement"]),
    "both locations": ([HERE, THERE], ["ok", "ok", "gate.agreement"]),
    "another school": (["99VB"], ["gate.agreement"] * 3),
}


@pytest.mark.parametrize("name", AGREED)
def test_an_agreement_for_a_location_covers_what_names_that_location(name: str) -> None:
    """One for the school or the board covers all of its locations."""
    schools, expected = AGREED[name]
    world = open_world()
    covered(world, schools)
    assert codes(world) == expected


def test_link_and_agreement_must_be_for_the_same_place() -> None:
    """One for this location, the other for that one: nothing passes anywhere."""
    world = open_world()
    link(world, HERE)
    covered(world, [THERE])
    assert codes(world) == ["gate.agreement", CLOSED, CLOSED]


def test_without_a_named_receiver_a_location_reaches_whom_it_is_switched_on_for() -> None:
    """Fan-out goes by the location too."""
    world = open_world()
    link(world, HERE)
    got = {w: {d.receiver for d in world.send("publisher-a", event(school=w, sector="VO"))} for w in WHERE}
    assert "portal-b" in got[HERE]
    assert got[THERE] == got[SCHOOL] == got[HERE] - {"portal-b"}


def test_a_party_of_one_location_does_not_serve_the_others() -> None:
    """To it, the school's other location and one that does not exist are one answer (promise P8)."""
    world = open_world()
    gone = {k: None for k, v in world.records.items() if k.startswith("connection/") and b'"publisher-a"' in v}
    world.registry = world.registry.with_changes(gone)
    covered(world, [HERE], "publisher-a")
    assert codes(world, receiver="shop-b") == ["ok", "school.not_yours", "ok"]
    world.outgoing.clear()
    world.send("publisher-a", *[event(school=w, sector="VO", receiver="shop-b") for w in (THERE, "99VA07", "99ZZ00")])
    told = [status["results"] for status in world.statuses("publisher-a")]
    assert told[0] == told[1] == told[2]


@pytest.mark.parametrize("place", ["99VA07", "99VA7", "99va01", "99VA011", "99VA01 ", "99VB01"])
def test_a_location_that_the_school_does_not_have_is_no_school(place: str) -> None:
    """Exactly the ones that are registered."""
    decisions = open_world().send("publisher-a", event(school=place, sector="VO"))
    assert [d.code for d in decisions] == ["school.not_yours"]


def test_a_pupil_is_known_at_all_locations_of_the_school() -> None:
    """Enrolled under one, named under another: the vault goes by the school. The receiver reads what was sent."""
    world = open_world()
    world.send("sis-a", enrolment(NOAH, "L0002", school=HERE, sector="VO"))
    for where in WHERE:
        sent = event(school=where, sector="VO", receiver="portal-b", subject=Subject("PUPIL", NOAH))
        assert [d.code for d in world.send("publisher-a", sent)] == ["ok"]
    assert [d.envelope["school"] for d in world.delivered("portal-b")] == list(WHERE)
    assert {x["school"] for x in world.evidence()} == {SCHOOL}


# ---- numbers that a school had


OLD, NEW, OTHER = "99PA", "99PB", "99VA"


def renamed(world: World, formerly: tuple[str, ...] = (OLD,)) -> None:
    """De Regenboog gets another BRIN; its agreements and links are carried over."""
    school = json.loads(world.records[f"school/{OLD}"]) | {"id": NEW, "formerly": list(formerly)}
    changes: dict[str, bytes | None] = {f"school/{OLD}": None, f"school/{NEW}": canonical(school)}
    for key, value in world.records.items():
        entry: dict[str, Any] = json.loads(value)
        if key.startswith("connection/") and entry["school"] == OLD:
            changes[key] = canonical(entry | {"school": NEW})
    world.registry = world.registry.with_changes(changes)


def usage_at(world: World, school: str, subject: Subject, sector: str = "PO") -> str:
    """What an event about somebody gets there."""
    (decision,) = world.send(DELTA, event(school=school, sector=sector, subject=subject, receiver=PORTAL))
    return decision.code


BY_ID, BY_KEY = Subject("PUPIL", EMMA), Subject("PUPIL", None, (("LAS_KEY", "L0001"),))


@pytest.mark.parametrize("subject", [BY_ID, BY_KEY])
def test_a_pupil_is_still_known_after_the_school_got_another_number(school: World, subject: Subject) -> None:
    """By each of her ids, as the same person: the receiver's key for her stays."""
    assert usage_at(school, OLD, subject) == "ok"
    renamed(school)
    assert usage_at(school, NEW, subject) == "ok"
    assert usage_at(school, OLD, subject) == "school.not_yours"
    before, after = school.delivered(PORTAL)
    assert before.record.key == after.record.key
    assert before.subject == after.subject


def test_without_the_former_number_nobody_is_known(school: World) -> None:
    """A school that only looks like the one before has no pupils of it."""
    renamed(school, ())
    assert usage_at(school, NEW, BY_ID) == "subject.unknown"
    assert usage_at(school, NEW, BY_KEY) == "subject.waiting"


def test_a_former_number_is_one_schools_own(school: World) -> None:
    """Another school does not find its pupils, though they follow the same kind of education; nor does another sector."""
    vso = "https://ketenid.nl/pilot/" + "d4" * 64
    school.send(SIS, enrolment(vso, "L0005", sector="VO"))
    renamed(school)
    assert usage_at(school, NEW, Subject("PUPIL", vso), "VO") == "ok"
    assert usage_at(school, OTHER, Subject("PUPIL", vso), "VO") == "subject.unknown"
    assert usage_at(school, NEW, BY_ID, "VO") == "subject.unknown"


def test_what_is_said_of_a_pupil_under_the_new_number_moves_her_there(school: World) -> None:
    """The next word of the administration; then the former number is not needed any more."""
    renamed(school)
    change = replace(enrolment(kind="CHANGE", school=NEW), body=Identity(under_16=True))
    assert [d.code for d in school.send(SIS, change)] == ["ok.vault"]
    assert len(school.vault) == 4  # of Emma and of Noah, two ids each: nothing is left under the old number
    renamed(school, ())
    assert usage_at(school, NEW, BY_KEY) == "ok"
    assert usage_at(school, NEW, Subject("PUPIL", NOAH)) == "subject.unknown"


@pytest.mark.parametrize("kind", ["ERASE", "ENROL"])
def test_a_pupil_of_the_former_number_is_erased_or_enrolled_as_the_same(school: World, kind: str) -> None:
    """Not a second time beside the first."""
    renamed(school)
    assert [d.code for d in school.send(SIS, enrolment(kind=kind, school=NEW))] == ["ok.vault"]
    assert len(school.vault) == (2 if kind == "ERASE" else 4)
    assert usage_at(school, NEW, BY_ID) == ("subject.unknown" if kind == "ERASE" else "ok")


def test_what_waits_for_a_pupil_of_the_former_number_does_not_wait_at_all() -> None:
    """She is known: nothing is parked for her, and what was parked before the change ends by its term."""
    world = make_world()
    assert usage_at(world, OLD, BY_KEY) == "subject.waiting"
    world.send(SIS, enrolment())
    renamed(world)
    assert [(d.outcome, d.code) for d in world.run(DELTA).decisions] == [(Outcome.REFUSED, "school.not_yours")]
    assert usage_at(world, NEW, BY_KEY) == "ok"
