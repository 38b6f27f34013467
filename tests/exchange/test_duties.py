"""What the broker itself tells a party: to seed a new receiver, and to destroy what an ended agreement covered."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from broker.exchange import duties
from tests.exchange.bodies import TODAY
from tests.exchange.first_lane import (
    AGREEMENT,
    DAY_MS,
    HELP,
    LINK,
    add,
    first_lane,
    kinds,
    links_of,
    over,
    settled,
    told,
)
from tests.exchange.links import link_id, put, said
from tests.exchange.world import BOOK, DELTA, NOW, NOW_MS, PORTAL, SHOP, SIS, World

# ---- seeds


@pytest.mark.parametrize("party", [SIS, DELTA, SHOP, "sis-zuid"])
def test_the_sender_of_each_link_is_asked_once_to_seed_its_receiver(party: str) -> None:
    """All links that are on; those in two processes between the same two at one school for one service once."""
    world = first_lane()
    requests = told(world, party)
    assert set(kinds(requests)) == {"SEED_REQUEST"}
    expected = {link for link in links_of(world, party) if "-licence-toegang-" not in link}
    assert sorted(r.body["connection_id"] for r in requests) == sorted(expected)
    assert told(world, party) == []
    assert told(first_lane(), PORTAL) == []


def test_a_seed_request_says_what_to_send_to_whom() -> None:
    """Link, service and receiver; no pupil, no text; from the broker, for the school of the link."""
    request = next(r for r in told(first_lane(), DELTA) if r.body["connection_id"] == LINK)
    assert {name: value for name, value in request.body.items() if value is not None} == {
        "control_id": request.envelope["event_id"], "reason_code": "CONNECTION_ACCEPTED", "connection_id": LINK,
        "service": "usage", "other_party": PORTAL,
    }  # fmt: skip
    assert request.subject == {"kind": "NONE", "eck_id": None, "user_ids": [], "previous_user_ids": []}
    envelope = {
        n: request.envelope[n] for n in ("family", "school", "sector", "school_year", "sender", "receiver", "created")
    }
    assert envelope == {
        "family": "control", "school": "99PA", "sector": "PO", "school_year": "2026-2027", "sender": "broker",
        "receiver": DELTA, "created": NOW_MS,
    }  # fmt: skip


@pytest.mark.parametrize("partition", [1, 2, 10])
def test_only_the_first_lane_of_a_party_has_its_duties(partition: int) -> None:
    """Else each lane would tell them. Partition 10 is not partition 0."""
    world = first_lane()
    world.partition = partition
    assert world.run(SIS).outgoing == []
    assert duties.duties_of(f"exchange.in.{SIS}.{partition}") is None
    assert duties.duties_of(f"exchange.in.{SIS}.0") == SIS


def test_what_was_told_stays_told_after_a_take_over() -> None:
    """It stands on `lane.state`, as everything that the lane remembers."""
    world = settled(SIS, DELTA, PORTAL)
    for party in (SIS, DELTA, PORTAL):
        assert world.state(party).duties
        world.take_over(party)
        assert told(world, party) == []


def test_what_was_not_committed_is_told_again_under_the_same_id() -> None:
    """An aborted transaction told nobody anything."""
    world = first_lane()
    lost = [o for o in world.step(DELTA, []).outgoing if o.topic.startswith("out.")]
    assert lost
    ids = {r.envelope["event_id"] for r in told(world, DELTA)}
    world.outgoing = lost
    assert {r.envelope["event_id"] for r in world.delivered(DELTA, "control")} == ids


def test_a_link_that_is_switched_on_anew_is_seeded_anew() -> None:
    """Off: nothing is asked, and it is forgotten. On again: asked once more, under another id."""
    world = first_lane()
    before = next(r for r in told(world, DELTA) if r.body["connection_id"] == LINK)
    world.send(SIS, said("REVOKE", "RECEIVER", connection_id=LINK))
    assert told(world, DELTA) == []
    assert f"seed/{LINK}" not in world.state(DELTA).duties
    world.take_over(DELTA)
    world.now_ms += 1
    world.send(SIS, said("ACCEPT", "RECEIVER", connection_id=LINK))
    (again,) = told(world, DELTA)
    assert again.body["connection_id"] == LINK
    assert again.envelope["event_id"] != before.envelope["event_id"]
    assert told(world, DELTA) == []


def test_a_link_that_was_off_and_on_again_between_two_looks_is_seeded_anew() -> None:
    """The lane did not see it off; it sees another moment of being on."""
    world = settled(DELTA)
    world.now_ms += 1
    world.send(SIS, said("REVOKE", "BOTH", connection_id=LINK), said("ACCEPT", "BOTH", connection_id=LINK))
    assert [r.body["connection_id"] for r in told(world, DELTA)] == [LINK]


def test_a_link_is_seeded_only_while_the_mandate_lasts_under_which_it_was_accepted() -> None:
    """What the sender would send is refused until the board prolongs it; then it is asked, once."""
    world = first_lane()
    of_school = {
        c for c in links_of(world, DELTA) if json.loads(world.records[f"connection/{c}/sender"])["school"] == "99PA"
    }
    world.edit("school/99PA", mandated_until="2026-11-23")
    others = {r.body["connection_id"] for r in told(world, DELTA)}
    assert others == links_of(world, DELTA) - of_school
    world.edit("school/99PA", mandated_until="2027-07-31")
    assert {r.body["connection_id"] for r in told(world, DELTA)} == of_school != set()
    assert told(world, DELTA) == []


def test_a_link_of_which_one_side_is_on_is_no_duty_yet() -> None:
    """Both sides must be accepted; then it is, whoever accepted which in which lane."""
    world = settled(DELTA)
    world.send(SIS, said("ACCEPT", "SENDER", connection_id=link_id("nieuw")))
    assert told(world, DELTA) == []
    world.send(SIS, said("ACCEPT", "RECEIVER", connection_id=link_id("nieuw")))
    assert [r.body["connection_id"] for r in told(world, DELTA)] == [link_id("nieuw")]


# ---- links that are for one seed, and links that are not

ONE, TWO = sorted((link_id("nieuw-1"), link_id("nieuw-2")))
LICENCE = {
    "connection_id": ONE, "sender": SHOP, "receiver": PORTAL, "service": "licence", "process": "BESTELLEN_LEVEREN",
}  # fmt: skip
ACCESS = LICENCE | {"connection_id": TWO, "process": "TOEGANG"}
OTHER_BOOK = "9789493113862"


def switch(world: World, kind: str, *links: dict[str, Any], **changes: Any) -> list[str]:
    """Switch links of a sender, all at one moment; gives which it is asked about."""
    world.now_ms += 1
    created = NOW + timedelta(milliseconds=world.now_ms - NOW_MS)
    world.send(SIS, *(said(kind, "BOTH", created=created, **{"connection_id": ONE} | changes | k) for k in links))
    return sorted(r.body["connection_id"] for r in told(world, links[0].get("sender", DELTA)))


def test_links_in_two_processes_that_come_on_together_are_one_request() -> None:
    """A licence's and its access; remembered both, also by another worker."""
    world = settled(SHOP)
    assert switch(world, "ACCEPT", LICENCE, ACCESS) == [TWO]
    world.take_over(SHOP)
    assert told(world, SHOP) == []
    assert {f"seed/{ONE}", f"seed/{TWO}"} <= world.state(SHOP).duties.keys()


def test_a_link_that_comes_on_later_opens_more_and_is_asked_again() -> None:
    """What its process carries was refused until then. That one goes off while the other stays on asks nothing."""
    world = settled(SHOP)
    assert switch(world, "ACCEPT", LICENCE) == [ONE]
    assert switch(world, "ACCEPT", ACCESS) == [TWO]
    assert switch(world, "REVOKE", ACCESS) == []
    assert switch(world, "ACCEPT", ACCESS) == [TWO]
    assert told(world, SHOP) == []


DIFFERENT: dict[str, dict[str, Any]] = {
    "another receiver": {"receiver": SHOP},
    "another service": {"service": "result", "process": "TERUGKOPPELEN"},
    "a location": {"location": "99VA01"},
    "some of the products": {"products": (OTHER_BOOK,)},
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_is_for_something_else_is_another_request(name: str) -> None:
    """Each says what it is for."""
    world = settled(DELTA)
    other = DIFFERENT[name] | {"connection_id": TWO}
    assert switch(world, "ACCEPT", {}, other, school="99VA") == [ONE, TWO]
    requests = {
        d.body["connection_id"]: d for d in world.delivered(DELTA, "control") if d.envelope["sender"] == "broker"
    }
    assert (requests[ONE].envelope["school"], requests[ONE].body["products"]) == ("99VA", None)
    second = requests[TWO]
    assert second.envelope["school"] == other.get("location", "99VA")
    assert second.body["products"] == (list(other["products"]) if "products" in other else None)
    assert (second.body["other_party"], second.body["service"]) == (
        other.get("receiver", PORTAL),
        other.get("service", "usage"),
    )


def test_the_products_of_a_link_are_those_that_both_sides_name() -> None:
    """One side says which two, the other which one of them."""
    world = settled(DELTA)
    put(world, "accepted", ("sender",), products=[BOOK, OTHER_BOOK])
    put(world, "accepted", ("receiver",), products=[OTHER_BOOK, "2099000000033"])
    (request,) = told(world, DELTA)
    assert request.body["products"] == [OTHER_BOOK]


# ---- destruction


def test_the_end_of_an_agreement_asks_once_to_destroy_what_it_covered() -> None:
    """On the day after its last day, for each of its schools; a month to do it; nothing on its last day."""
    world = settled(PORTAL)
    over(world, 0)
    assert told(world, PORTAL) == []
    world.now_ms += DAY_MS
    (request,) = told(world, PORTAL)
    assert {name: value for name, value in request.body.items() if value is not None} == {
        "control_id": request.envelope["event_id"], "reason_code": "AGREEMENT_ENDED", "agreement_id": "vwo-po-portaal",
        "deadline": TODAY + 1 + 30,
    }  # fmt: skip
    assert (request.envelope["kind"], request.envelope["school"]) == ("DESTROY_REQUEST", "99PA")
    assert request.envelope["agreement"] == "vwo-po-portaal"
    assert told(world, PORTAL) == []
    world.take_over(PORTAL)
    world.now_ms += 40 * DAY_MS
    assert told(world, PORTAL) == []


def test_an_agreement_that_was_taken_away_is_an_end_as_well() -> None:
    """Nothing is known of it any more but that it was there; asked once, then forgotten."""
    world = settled(PORTAL)
    world.edit(AGREEMENT)
    (request,) = told(world, PORTAL)
    assert (request.envelope["kind"], request.body["agreement_id"]) == ("DESTROY_REQUEST", "vwo-po-portaal")
    assert request.envelope["agreement"] is None
    assert told(world, PORTAL) == []
    world.now_ms += DAY_MS
    told(world, PORTAL)
    assert not [name for name in world.state(PORTAL).duties if "vwo-po-portaal" in name]


def test_an_agreement_that_came_back_can_end_again() -> None:
    """Taken away by mistake, put back, and taken away again on another day: asked twice, and these are two requests."""
    world = settled(PORTAL)
    found = []
    for _ in range(2):
        world.edit(AGREEMENT)
        found += told(world, PORTAL)
        world.edit(AGREEMENT, retention="anders")
        world.now_ms += DAY_MS
        assert told(world, PORTAL) == []
    assert kinds(found) == ["DESTROY_REQUEST"] * 2
    assert len({request.envelope["event_id"] for request in found}) == 2


Change = Callable[[World], None]


def renewed(**fields: Any) -> Change:
    """The old one ended yesterday, and there is another."""

    def change(world: World) -> None:
        over(world)
        add(world, **fields)

    return change


def version_2(world: World) -> None:
    """The same agreement in a new version."""
    world.edit(AGREEMENT, version="2.0")


CHANGES: dict[str, tuple[Change, list[str]]] = {
    "a new agreement": (renewed(), []),
    "a new version": (version_2, []),
    "a new agreement for this school by name": (renewed(schools=["99PA"]), []),
    "a new agreement that begins tomorrow": (renewed(valid_from="2026-11-25"), ["DESTROY_REQUEST"]),
    "a new agreement for another school": (renewed(schools=["99PB"]), ["DESTROY_REQUEST"]),
    "a new agreement of another party": (renewed(party=SHOP), ["DESTROY_REQUEST"]),
    "a new agreement of another board": (renewed(board="bestuur-kompas"), ["DESTROY_REQUEST"]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_agreement_that_was_renewed_asks_nothing(name: str) -> None:
    """Another one with the same party holds for the school today; one that does not hold there today is no renewal."""
    change, expected = CHANGES[name]
    world = settled(PORTAL)
    change(world)
    assert kinds(told(world, PORTAL)) == expected
    assert told(world, PORTAL) == []


PLACES: dict[str, tuple[list[str] | str, list[str] | str, int]] = {
    "a location, renewed": (["99VA01"], ["99VA01"], 0),
    "a location, then the whole school": (["99VA01"], ["99VA"], 0),
    "a location, then all schools": (["99VA01"], "all of board", 0),
    "the whole school, then a location": (["99VA"], ["99VA01"], 1),
    "a location, then another": (["99VA01"], ["99VA00"], 1),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_location_is_held_by_an_agreement_for_it_or_for_its_school(name: str) -> None:
    """And a school not by one for a location of it."""
    before, after, count = PLACES[name]
    world = first_lane()
    for agreement in ("vwo-vo-portaal", "vwo-po-portaal", "vwo-mbo-portaal"):
        world.edit(f"agreement/{agreement}")
    add(world, board="bestuur-kompas", schools=before)
    told(world, PORTAL)
    add(world, board="bestuur-kompas", schools=after, id="nieuw", version="2.0")
    requests = told(world, PORTAL)
    assert kinds(requests) == ["DESTROY_REQUEST"] * count
    assert {r.envelope["school"] for r in requests} <= {"99VA"}


def test_a_controller_of_its_own_is_asked_nothing() -> None:
    """It decides itself how long it keeps what it got, with a notice instead of such an agreement."""
    world = settled(HELP, SHOP)
    world.edit("agreement/hulp-vo")
    world.edit("agreement/winkel-mbo")
    assert told(world, HELP) == told(world, SHOP) == []


def test_an_agreement_that_was_over_before_anybody_looked_asks_nothing() -> None:
    """The broker gave that party nothing under it."""
    world = first_lane()
    over(world)
    assert told(world, PORTAL) == []
