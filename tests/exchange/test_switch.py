"""Connection events: who may say what about a link, in which state, and what link it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any, Final

import pytest

from broker.client import Connection
from broker.exchange.model import REGISTRY
from tests.exchange.links import BOTH, LINK, OTHER_BOOK, WEST, ZUID, first, nothing_came_of, put, said, sides, states
from tests.exchange.world import BOOK, DELTA, NOW, OOST, PORTAL, SHOP, SIS, World, enrolment, event, make_world

STATES = (None, "offered", "accepted", "declined", "revoked")
KINDS = ("OFFER", "ACCEPT", "DECLINE", "REVOKE")
# Kind -> state from which it may be said -> state that comes of it. Written down once more, not taken from the code.
SIDES: Final = {"SENDER": ("sender",), "RECEIVER": ("receiver",), "BOTH": BOTH}
COMES_OF: Final[dict[str, dict[str | None, str]]] = {
    "OFFER": {None: "offered", "declined": "offered", "revoked": "offered"},
    "ACCEPT": {None: "accepted", "offered": "accepted", "declined": "accepted", "revoked": "accepted"},
    "DECLINE": {None: "declined", "offered": "declined"},
    "REVOKE": {"accepted": "revoked"},
}
A_STATE_FOR = {"OFFER": None, "ACCEPT": "offered", "DECLINE": "offered", "REVOKE": "accepted"}
YESTERDAY, TOMORROW = "2026-11-23", "2026-11-25"


# ---- who


def world_with(**school: Any) -> World:
    """The example world, the school changed."""
    world = make_world()
    if school:
        world.edit("school/99PA", **school)
    return world


# Who -> the school's mandate, and the sides for which he may speak; of these all kinds but ACCEPT, which only the
# mandated SIS may say.
ACTORS: dict[str, tuple[str, dict[str, Any], set[str], bool]] = {
    "the mandated SIS": (SIS, {}, {"SENDER", "RECEIVER", "BOTH"}, True),
    "the SIS on the first day of its mandate": (
        SIS,
        {"mandated_from": "2026-11-24"},
        {"SENDER", "RECEIVER", "BOTH"},
        True,
    ),
    "the SIS on the last day of its mandate": (
        SIS,
        {"mandated_until": "2026-11-24"},
        {"SENDER", "RECEIVER", "BOTH"},
        True,
    ),
    "the SIS before its mandate": (SIS, {"mandated_from": TOMORROW}, set(), False),
    "the SIS after its mandate": (SIS, {"mandated_until": YESTERDAY}, set(), False),
    "the SIS that the school left": (SIS, {"sis": ZUID}, set(), False),
    "who sends over the link": (DELTA, {}, {"SENDER"}, False),
    "who receives over the link": (PORTAL, {}, {"RECEIVER"}, False),
    "a stranger to the link": (SHOP, {}, set(), False),
}


@pytest.mark.parametrize("name", ACTORS)
@pytest.mark.parametrize("kind", KINDS)
def test_who_may_say_what_for_which_side(name: str, kind: str) -> None:
    """The school through its mandated SIS all; a party its own side, but never that it is accepted."""
    party, school, own, may_accept = ACTORS[name]
    found = {}
    for side in ("SENDER", "RECEIVER", "BOTH"):
        world = world_with(**school)
        put(world, A_STATE_FOR[kind])
        step = world.run(party, world.record(party, said(kind, side)))
        found[side] = first(step.decisions)
        if found[side] != "ok.link":
            nothing_came_of(step, "link.not_yours")
            assert states(world) == [A_STATE_FOR[kind]] * 2
    may = own if kind != "ACCEPT" or may_accept else set()
    assert {side for side, code in found.items() if code == "ok.link"} == may


@pytest.mark.parametrize("party", [ZUID, OOST])
def test_who_has_nothing_to_do_with_the_school_is_told_what_everybody_is_told(party: str) -> None:
    """Another school's SIS, and a party without agreement: the school is not theirs, whatever they say of themselves."""
    world = make_world()
    for kind in KINDS:
        nothing_came_of(world.run(party, world.record(party, said(kind, sender=party))), "school.not_yours")


def test_a_sis_without_mandate_speaks_for_itself_where_it_is_a_party_of_the_link() -> None:
    """As receiver of the link it offers its own side, and still accepts nothing."""
    world = world_with(mandated_until=YESTERDAY)
    assert first(world.send(SIS, said("OFFER", "RECEIVER", receiver=SIS))) == "ok.link"
    assert [d.code for d in world.send(SIS, said("ACCEPT", "RECEIVER", receiver=SIS))] == ["link.not_yours"]


# ---- what


def for_whom(kind: str, side: str) -> tuple[str, ...]:
    """Who may say this of this side."""
    return (
        SIS,
        *(party for party, own in ((DELTA, "SENDER"), (PORTAL, "RECEIVER")) if own == side and kind != "ACCEPT"),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", STATES)
def test_every_kind_is_held_against_the_state_of_the_side(kind: str, state: str | None) -> None:
    """All kinds in all pairs of states, for one side and for both, by the school's SIS and by the parties: said of both
    it is said of whichever it fits; what fits none is refused, and nothing comes of it."""
    world, base = make_world(), make_world().registry
    for other, side, speaker in product(STATES, SIDES, (SIS, DELTA, PORTAL)):
        world.registry = base.with_changes({})
        put(world, state, ("sender",))
        put(world, other, ("receiver",))
        before = dict(zip(BOTH, (state, other), strict=True))
        after = {name: COMES_OF[kind][before[name]] for name in SIDES[side] if before[name] in COMES_OF[kind]}
        step = world.run(speaker, world.record(speaker, said(kind, side)))
        what = (before, side, speaker)
        if speaker not in for_whom(kind, side):
            nothing_came_of(step, "link.not_yours")
        elif not after:
            nothing_came_of(step, "object.transition")
            assert (step.decisions[0].field, step.decisions[0].rule) == ("kind", before[SIDES[side][0]]), what
        else:
            assert first(step.decisions) == "ok.link", what
            written = {(o.key or b"").decode().rpartition("/")[2] for o in step.outgoing if o.topic == REGISTRY}
            assert written == after.keys(), what
        changed = after if first(step.decisions) == "ok.link" else {}
        assert states(world) == [changed.get(name, before[name]) for name in BOTH], what


@pytest.mark.parametrize(
    ("accepted", "named", "code"),
    [
        ("all", None, "ok.link"),
        ("all", (BOOK,), "ok.link"),
        ([BOOK, OTHER_BOOK], (BOOK,), "ok.link"),
        ([BOOK], (BOOK,), "ok.link"),
        ([BOOK], None, "object.transition"),
        ([BOOK], (OTHER_BOOK,), "object.transition"),
        ([BOOK], (BOOK, OTHER_BOOK), "object.transition"),
    ],
)
def test_a_link_that_both_sides_accept_is_on_for_all_products_that_are_named(
    accepted: Any, named: tuple[str, ...] | None, code: str
) -> None:
    """One side is accepted already and stays as it is. For fewer products it has to be revoked first: else the school
    would be told that the link stands, and it were off."""
    world = make_world()
    put(world, "accepted", ("receiver",), products=accepted)
    put(world, "offered", ("sender",))
    before = sides(world)["receiver"]
    step = world.run(SIS, world.record(SIS, said("ACCEPT", "BOTH", products=named)))
    assert (first(step.decisions), step.decisions[0].field) == (code, None if code == "ok.link" else "products")
    assert states(world) == ["accepted" if code == "ok.link" else "offered", "accepted"]
    assert sides(world)["receiver"] == before
    if code != "ok.link":
        nothing_came_of(step, code)
    for book in named or (BOOK, OTHER_BOOK):
        on = world.registry.connected("99PA", DELTA, PORTAL, "usage", "Gebruik", book)
        assert on or code != "ok.link"


def test_a_side_that_was_revoked_keeps_how_it_ended_until_it_is_revoked_again() -> None:
    """R5, R19: whoever offers, declines or accepts it, for whatever products; a second revocation is a second end."""
    world = make_world()
    world.send(SIS, said("ACCEPT", "BOTH", products=(BOOK,)))
    ended = {"at": NOW, "accepted_at": NOW, "accepted_by": SIS, "mandate": SIS, "products": (BOOK,)}
    world.send(DELTA, said("REVOKE"))
    for who, kind in ((DELTA, "OFFER"), (DELTA, "DECLINE"), (SIS, "OFFER"), (SIS, "DECLINE"), (DELTA, "OFFER")):
        world.now_ms += 1
        assert first(world.send(who, said(kind, products=(OTHER_BOOK,)))) == "ok.link"
        side = sides(world)["sender"]
        assert side is not None
        assert side.ended is not None
        assert side.ended.model_dump() == ended
        mandate = SIS if who == SIS else None
        assert (side.products, side.accepted_by, side.mandate) == ((OTHER_BOOK,), mandate, mandate)
    world.now_ms += 1
    world.send(SIS, said("ACCEPT"))
    side = sides(world)["sender"]
    assert side is not None
    assert (side.state, side.products) == ("accepted", "all")
    assert side.ended is not None
    assert side.ended.model_dump() == ended
    world.now_ms += 1
    world.send(SIS, said("REVOKE"), said("OFFER"))
    side = sides(world)["sender"]
    assert side is not None
    assert side.ended is not None
    assert (side.ended.products, side.ended.at) == ("all", NOW + timedelta(milliseconds=7))


@pytest.mark.parametrize("since", [None, "OFFER"])
def test_a_link_that_was_never_on_has_no_closing_term(since: str | None) -> None:
    """R5: one side was revoked before the other was accepted, whatever is said of it since."""
    world = make_world()
    for side in ("sender", "receiver"):
        world.edit(f"connection/po-usage-delta-portaal/{side}")
    for kind, side in (("ACCEPT", "SENDER"), ("REVOKE", "SENDER"), ("ACCEPT", "RECEIVER")):
        world.now_ms += 1
        assert first(world.send(SIS, said(kind, side))) == "ok.link"
    if since is not None:
        assert first(world.send(DELTA, said(since, "SENDER"))) == "ok.link"
    assert world.registry.revoked_on("99PA", DELTA, PORTAL, "usage", "Gebruik", BOOK) is None
    assert not world.registry.connected("99PA", DELTA, PORTAL, "usage", "Gebruik", BOOK)


def test_one_side_that_is_accepted_anew_does_not_end_the_closing_term() -> None:
    """R19: the link was on and is off; what closes its affairs passes until both sides are on again."""
    world = make_world()
    for side in ("sender", "receiver"):
        world.edit(f"connection/po-usage-delta-portaal/{side}")
    for kind, side in (("ACCEPT", "BOTH"), ("REVOKE", "BOTH"), ("ACCEPT", "RECEIVER")):
        world.now_ms += 1
        assert first(world.send(SIS, said(kind, side))) == "ok.link"
    way = ("99PA", DELTA, PORTAL, "usage", "Gebruik", BOOK)
    assert world.registry.revoked_on(*way) == NOW.date()
    world.send(SIS, said("ACCEPT", "SENDER"))
    assert world.registry.connected(*way)


def test_what_the_registry_gets_is_what_was_said_and_who_answers_for_it() -> None:
    """Every field of the record; the school's word is the SIS with its mandate, at the broker's time."""
    world = make_world()
    change = said("ACCEPT", "BOTH", school="99VA", location="99VA01", products=(BOOK, OTHER_BOOK))
    assert first(world.send(SIS, change)) == "ok.link"
    for name, side in sides(world).items():
        assert side is not None
        assert side.model_dump() == {
            "id": LINK, "side": name, "school": "99VA", "location": "99VA01", "sender": DELTA, "receiver": PORTAL,
            "service": "usage", "process": "Gebruik", "products": (BOOK, OTHER_BOOK), "state": "accepted",
            "accepted_by": SIS, "mandate": SIS, "at": NOW, "accepted_at": None,
            "ended": None,
        }  # fmt: skip
    assert world.registry.connected("99VA", DELTA, PORTAL, "usage", "Gebruik", BOOK, "99VA01")


def test_a_partys_own_word_is_no_word_of_the_school() -> None:
    """Offered and declined by a party: nobody accepted it. Revoked by a party: who had accepted it stays on record."""
    world = make_world()
    for kind in ("OFFER", "DECLINE"):
        world.send(DELTA, said(kind))
        side = sides(world)["sender"]
        assert side is not None
        assert (side.accepted_by, side.mandate) == (None, None)
    put(world, "accepted", accepted_by=DELTA)
    world.send(DELTA, said("REVOKE"))
    side = sides(world)["sender"]
    assert side is not None
    assert (side.state, side.accepted_by, side.mandate, side.at) == ("revoked", DELTA, SIS, NOW)
    assert world.registry.revoked_on("99PA", DELTA, PORTAL, "usage", "Gebruik", BOOK) is None  # the example's own is on


@pytest.mark.parametrize("days", [-300, 0])
def test_a_senders_clock_decides_nothing(days: int) -> None:
    """Neither when it comes into its state, nor whether the mandate lasted then."""
    world = world_with(mandated_from="2026-11-24")
    created = NOW + timedelta(days=days, minutes=0 if days else 4)
    assert first(world.send(SIS, said("ACCEPT", "BOTH", created=created))) == "ok.link"
    assert {side.at for side in sides(world).values() if side} == {NOW}
    world = world_with(mandated_until=YESTERDAY)
    assert first(world.send(SIS, said("ACCEPT", "BOTH", created=NOW - timedelta(days=9)))) == "link.not_yours"


def test_a_new_sis_accepts_again_what_the_old_one_had_accepted() -> None:
    """A change of SIS switches every link off until the new one has confirmed it; the old one has no say any more."""
    world = make_world()
    world.send(SIS, enrolment())
    link = "po-usage-delta-portaal"
    world.edit("school/99PA", sis=ZUID, mandated_from="2026-11-24")
    assert [d.code for d in world.send(DELTA, event(receiver=PORTAL))] == ["gate.connection"]
    assert first(world.send(SIS, said("ACCEPT", "BOTH", connection_id=link))) == "link.not_yours"
    assert first(world.send(ZUID, said("ACCEPT", "BOTH", connection_id=link))) == "ok.link"
    assert [d.code for d in world.send(DELTA, event(receiver=PORTAL))] == ["ok"]
    assert first(world.send(ZUID, said("ACCEPT", "BOTH", connection_id=link))) == "object.transition"


# ---- which link


CONFLICTS: dict[str, dict[str, Any]] = {
    "another school": {"school": "99VA"},
    "another sender": {"sender": WEST},
    "another receiver": {"receiver": SIS},
    "another service and process": {"service": "result", "process": "TERUGKOPPELEN"},
    "one location": {"school": "99VA", "location": "99VA00"},
}


@pytest.mark.parametrize("name", CONFLICTS)
@pytest.mark.parametrize("there", [("sender",), ("receiver",), BOTH])
def test_an_id_stands_for_one_link(name: str, there: tuple[str, ...]) -> None:
    """Whichever side is there already; also when only the other side is."""
    change = CONFLICTS[name]
    world = make_world()
    put(world, "offered", there, **{"school": "99VA"} if "location" in change else {})
    for side in ("SENDER", "RECEIVER", "BOTH"):
        nothing_came_of(world.run(SIS, world.record(SIS, said("ACCEPT", side, **change))), "link.conflict")
    assert states(world) == ["offered" if side in there else None for side in BOTH]


def test_other_products_are_no_other_link() -> None:
    """They may change from word to word; both sides together cover what both name."""
    world = make_world()
    world.send(SIS, said("OFFER", "BOTH"), said("ACCEPT", "BOTH", products=(BOOK,)))
    assert states(world) == ["accepted", "accepted"]


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "an unknown sender": ({"sender": "niemand"}, "link.parties", "sender"),
    "an unknown receiver": ({"receiver": "niemand"}, "link.parties", "receiver"),
    "a link to itself": ({"receiver": DELTA}, "link.parties", "receiver"),
    "a service that there is not": ({"service": "post"}, "link.route", "service"),
    "a service between other roles": ({"service": "order", "process": "BESTELLEN_LEVEREN"}, "link.route", "service"),
    "a service in another process": ({"process": "TOEGANG"}, "link.route", "service"),
    "a service the other way round": ({"sender": PORTAL, "receiver": DELTA}, "link.route", "service"),
    "the vault as service": (
        {"sender": SIS, "service": "identity", "process": "BESTELLEN_LEVEREN"},
        "link.route",
        "service",
    ),
    "a location that the school has not": ({"location": "99PA00"}, "school.not_yours", "location"),
    "a location of another school": ({"location": "99VA00"}, "school.not_yours", "location"),
    "a location that is none": ({"location": "zolder"}, "school.not_yours", "location"),
    "an id with a slash": ({"connection_id": "nieuw/sender"}, "link.form", "connection_id"),
    "an id that is too long": ({"connection_id": "x" * 64}, "link.form", "connection_id"),
    "products that are none": ({"products": ("rekenen",)}, "link.form", "products"),
    "no products": ({"products": ()}, "link.form", "products"),
    "an id with a space": ({"connection_id": "Emma de Vries"}, "code.form", "connection_id"),
}


NO_UUID: Final = {
    "a name": "klas-van-Emma",
    "a code": "po-usage-delta-portaal-2",
    "upper case": LINK.upper(),
    "some upper case": LINK[:-1] + "A",
    "no dashes": LINK.replace("-", ""),
    "too short": LINK[:-1],
    "too long": f"{LINK}0",
    "another alphabet": LINK[:-1] + "g",
    "a urn": f"urn:uuid:{LINK}",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NO_UUID)
def test_a_link_that_an_event_brings_up_has_a_uuid(name: str, kind: str) -> None:
    """R5: its id stands in the audit for ever, and an id of free choice can hold a name."""
    world = make_world()
    for side in SIDES:
        step = world.run(SIS, world.record(SIS, said(kind, side, connection_id=NO_UUID[name])))
        nothing_came_of(step, "link.form")
        assert step.decisions[0].field == "connection_id"
        assert NO_UUID[name] not in repr(step.decisions)


def test_a_link_that_the_operator_made_keeps_its_name() -> None:
    """Whatever is said of it, by whom it may be said; and though only one of its sides is there, or came up in this batch."""
    world = make_world()
    named = {"connection_id": "po-usage-delta-portaal"}
    for kind in ("REVOKE", "OFFER", "DECLINE", "ACCEPT"):
        assert first(world.send(SIS, said(kind, "BOTH", **named))) == "ok.link", kind
    world.edit("connection/po-usage-delta-portaal/sender")
    assert first(world.send(SIS, said("ACCEPT", "SENDER", **named))) == "ok.link"
    for side in BOTH:
        world.edit(f"connection/po-usage-delta-portaal/{side}")
    codes = [d.code for d in world.send(SIS, said("ACCEPT", "SENDER", **named), said("ACCEPT", "RECEIVER", **named))]
    assert codes == ["link.form", "link.form"]
    fresh = [said("OFFER", "SENDER"), said("ACCEPT", "BOTH"), said("REVOKE", "RECEIVER")]
    assert [d.code for d in world.send(SIS, *fresh) if d.receiver == "registry"] == ["ok.link"] * 3


def test_a_record_of_the_client_makes_a_new_link_by_itself() -> None:
    """Its id is a uuid of its own each time; to say more of the link its maker gives that id again."""
    world = make_world()
    link = {"sender": DELTA, "receiver": PORTAL, "service": "usage", "process": "GEBRUIK", "side": "BOTH"}
    one, other = Connection(**link), Connection(**link)
    assert one.connection_id != other.connection_id
    assert first(world.send(SIS, replace(said("OFFER"), body=one))) == "ok.link"
    assert first(world.send(SIS, replace(said("ACCEPT"), body=one))) == "ok.link"
    assert states(world, one.connection_id) == ["accepted", "accepted"]


@pytest.mark.parametrize("name", WRONG)
def test_a_link_that_can_not_be_is_refused(name: str) -> None:
    """For the mandated SIS, so that nothing else stands in its way; and nobody hears of it."""
    change, code, field = WRONG[name]
    world = make_world()
    step = world.run(SIS, world.record(SIS, said("ACCEPT", "BOTH", **change)))
    nothing_came_of(step, code)
    assert step.decisions[0].field == field
