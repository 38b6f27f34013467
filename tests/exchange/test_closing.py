"""What closes something still passes for a while after an agreement or a link ended or a pupil left, and with nothing
but what it is about; all else stops at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from functools import cache
from typing import Any

import pytest

from broker.audit.leaf import canonical
from broker.client import Identity, Subject
from broker.exchange import Decision, Outcome
from broker.policy import Closing, Routes
from broker.registry import Registry
from broker.schemas import catalogue
from tests.exchange.bodies import TODAY, body
from tests.exchange.open_world import EMPLOYEE, FREE, PUPIL, SCHOOL, agreement, open_world, subject_of
from tests.exchange.route_table import TABLE, Way, between_parties
from tests.exchange.world import NOW, World, enrolment, event, usage

Cell = tuple[str, str, str, str]
NOT_THERE = "9789493113862"
DAY_MS, HOUR_MS = 86_400_000, 3_600_000
SUBJECT_NAMES = {
    "eckId", "lasKey", "leerlingnummer", "nlEduPersonProfileId", "nlEduPersonRealId", "employeeNumber",
    "receiverPseudonym",
}  # fmt: skip


def day(ago: int) -> str:
    """So many days ago."""
    return (NOW.date() - timedelta(days=ago)).isoformat()


@cache
def with_agreements_until(ago: int) -> Registry:
    """All agreements ended so many days ago."""
    base = open_world()
    ended = {"valid_from": "2025-01-01", "valid_until": day(ago), "local_ids_until": day(ago)}
    keys = [key for key in base.records if key.startswith("agreement/")]
    return base.registry.with_changes(
        {key: canonical(agreement(key.removeprefix("agreement/vwo-"), **ended)) for key in keys}
    )


@cache
def with_links_revoked(ago: int, state: str = "revoked") -> Registry:
    """All links were switched off so many days ago, at the receivers' sides."""
    base = open_world()
    off = {"state": state, "at": f"{day(ago)}T12:00:00Z"}
    sides = {k: v for k, v in base.records.items() if k.startswith("connection/") and k.endswith("/receiver")}
    return base.registry.with_changes({key: canonical(json.loads(side) | off) for key, side in sides.items()})


@cache
def with_links_offered_anew(ago: int) -> Registry:
    """All links were switched off so many days ago at the receivers' sides, who offered them anew since: for another
    product, so that what is offered can not be taken for what was on."""
    base, at = with_links_revoked(ago), f"{day(ago)}T12:00:00Z"
    changed = {}
    for key, record in open_world().records.items():
        if key.startswith("connection/") and key.endswith("/receiver"):
            was = json.loads(record)
            end = {"at": at, **{name: was[name] for name in ("accepted_by", "mandate", "products") if name in was}}
            offer = {"state": "offered", "at": f"{day(0)}T00:00:00Z", "products": [NOT_THERE], "ended": end}
            changed[key] = canonical({**was, **offer, "accepted_by": None, "mandate": None})
    return base.with_changes(changed)


@cache
def vault_of_who_left(ago: int) -> dict[bytes, bytes]:
    """Emma and her teacher left so many days ago."""
    world = open_world()
    told = Identity(left_on=date.fromisoformat(day(ago)))
    for who in (PUPIL, EMPLOYEE):
        left = enrolment(kind="LEAVE", school=SCHOOL, sector="VO", subject=who, body=told)
        assert [d.code for d in world.send("sis-a", left)] == ["ok.vault"]
    return world.vault


def ended(what: str, ago: int) -> World:
    """Everything is granted, but this ended so many days ago."""
    world = open_world()
    if what == "agreement":
        world.registry = with_agreements_until(ago).with_changes({})  # what is remembered hangs on the object
    elif what == "link":
        world.registry = with_links_revoked(ago).with_changes({})
    elif what == "link offered anew":
        world.registry = with_links_offered_anew(ago).with_changes({})
    elif what == "mandate":
        world.edit(f"school/{SCHOOL}", mandated_until=day(ago))
    elif what == "enrolment":
        world.vault = dict(vault_of_who_left(ago))
    return world


# What ended -> code of what comes too late, and the cells that it concerns.
ENDS: dict[str, tuple[str, Callable[[Cell, Way], bool]]] = {
    "agreement": ("gate.agreement", lambda _cell, _way: True),
    "link": ("gate.connection", lambda _cell, way: way.connection == "required"),
    "link offered anew": ("gate.connection", lambda _cell, way: way.connection == "required"),
    # What the SIS accepted for the school; what it says itself stops whatever it is (test_gates).
    "mandate": ("gate.connection", lambda cell, way: way.connection == "required" and cell[2] != "SIS"),
    "enrolment": ("subject.left", lambda cell, way: "none" not in (way.subject, subject_rule(cell))),
}


def subject_rule(cell: Cell) -> str:
    """What the family says of the kind."""
    return catalogue().family(cell[0]).kinds[cell[1]].subject


def send(world: World, cell: Cell, happened: int | None = None, **changes: Any) -> Decision:
    """One event over this way, filled as far as it may be; nothing is adopted. The records are left in the world."""
    family, kind, role, its_role = cell
    dated = happened is not None and kind in ("RESULT", "CORRECTION")
    said = ({"assessment_date": happened} if dated else {}) | changes.pop("said", {})
    about = changes.pop("about", Subject() if TABLE[cell][0].subject == "none" else subject_of(family, kind))
    sender, receiver = f"{role.lower()}-a", f"{its_role.lower()}-b"
    made = body(family, kind, full=True, **said)
    record = world.made(sender, family, kind, made, about, receiver=receiver, school=SCHOOL, sector="VO", **changes)
    step = world.step(sender, [record])
    world.outgoing = step.outgoing
    (decision,) = step.decisions
    return decision


def cells(what: str, *, closing: bool) -> list[Cell]:
    """The cells that an end concerns, of kinds that close something or not."""
    return [c for c in between_parties() if bool(TABLE[c][0].closing) == closing and ENDS[what][1](c, TABLE[c][0])]


def good(decision: Decision) -> bool:
    """Whether it was delivered."""
    return decision.outcome is Outcome.DELIVERED


@pytest.mark.parametrize("what", ENDS)
@pytest.mark.parametrize("ago", [1, 62, 63, 400, 401])
def test_what_closes_something_passes_within_the_term_of_its_route_and_not_a_day_longer(what: str, ago: int) -> None:
    """Every route with a closing term, each way of ending: to the last day of the term."""
    world, wrong = ended(what, ago), {}
    for cell in cells(what, closing=True):
        days = (TABLE[cell][0].closing or {})["days"]
        decision = send(world, cell, happened=TODAY - ago)
        if (good(decision), decision.code) not in ((True, "ok"), (True, "ok.unchecked"), (False, ENDS[what][0])):
            wrong[cell] = decision
        if good(decision) != (ago <= days):
            wrong[cell] = decision
    assert wrong == {}
    terms = {(TABLE[cell][0].closing or {})["days"] for cell in cells(what, closing=True)}
    assert terms == ({62} if what.startswith(("link", "mandate")) else {62, 400})


@pytest.mark.parametrize("what", ENDS)
def test_what_closes_nothing_stops_at_once(what: str) -> None:
    """Every route without a closing term, on the first day."""
    world = ended(what, 0 if what.startswith("link") else 1)
    refused = {cell: send(world, cell, happened=TODAY - 1).code for cell in cells(what, closing=False)}
    assert refused == dict.fromkeys(cells(what, closing=False), ENDS[what][0])
    assert len(refused) >= 10


@pytest.mark.parametrize("what", ENDS)
def test_what_closes_something_holds_nothing_but_what_it_is_about(what: str) -> None:
    """Of the body only what the kind could not do without, though everything was filled in and everything agreed;
    the audit says so, and since when it was over."""
    world, wrong = ended(what, 1), dict[Cell, Any]()
    for cell in cells(what, closing=True):
        family, kind, _, its_role = cell
        assert good(send(world, cell, happened=TODAY - 1))
        found = catalogue().family(family)
        essential = set(found.kinds[kind].essential)
        (leaf,), (got,) = world.evidence(), world.delivered(f"{its_role.lower()}-b", family)
        filled = {f.attribute for f in found.schema.fields if f.attribute and got.body.get(f.name) is not None}
        kept, dropped = set(leaf["kept"]) - SUBJECT_NAMES, set(leaf["dropped"]) - SUBJECT_NAMES
        since = None if what == "enrolment" else TODAY - 1
        rest = set(found.attributes) - essential - SUBJECT_NAMES
        if (kept, dropped, leaf.get("closing"), filled - essential) != (essential, rest, since, set()):
            wrong[cell] = leaf, filled
        assert not set(leaf["kept"]) & set(leaf["dropped"])
    assert wrong == {}


def test_while_all_is_open_the_same_events_hold_more_than_that() -> None:
    """The comparison that makes the test before this one say something."""
    world, more = open_world(), set()
    for cell in cells("agreement", closing=True):
        assert good(send(world, cell, happened=TODAY))
        essential = catalogue().family(cell[0]).kinds[cell[1]].essential
        more |= set(world.evidence()[0]["kept"]) - SUBJECT_NAMES - set(essential)
    assert {"licenceDates", "normTerm"} <= more


DATED = [c for c in between_parties() if (TABLE[c][0].closing or {}).get("dated_before_end")]


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("agreement", "gate.ended"),
        ("link", "gate.ended"),
        ("link offered anew", "gate.ended"),
        ("mandate", "gate.ended"),
        ("enrolment", "subject.left"),
    ],
)
def test_what_happened_after_the_end_does_not_pass_where_the_route_says_so(what: str, code: str) -> None:
    """A test that was taken on the last day is still told, one of the day after it not, whenever it is sent."""
    assert {cell[:2] for cell in DATED} == {("result", "RESULT"), ("result", "CORRECTION")}
    for ago in (1, 10, 62):
        world = ended(what, ago)
        for cell in DATED:
            codes = [
                send(world, cell, happened=TODAY - ago + later).code.removesuffix(".unchecked") for later in (-9, 0, 1)
            ]
            assert codes == ["ok", "ok", code], (cell, ago)


def test_the_earlier_of_two_ends_counts() -> None:
    """The link was revoked ten days ago, the agreement ended five days ago: what happened in between is too late."""
    world = open_world()
    world.registry = with_links_revoked(10)
    one = agreement("sis-b", valid_from="2025-01-01", valid_until=day(5), local_ids_until=day(5))
    world.registry = world.registry.with_changes({"agreement/vwo-sis-b": canonical(one)})
    cell = ("result", "RESULT", "PUBLISHER", "SIS")
    assert [send(world, cell, happened=TODAY - ago).code for ago in (10, 9, 5)] == ["ok", "gate.ended", "gate.ended"]


@pytest.mark.parametrize(("at", "last"), [("22:59:59", 1), ("23:00:00", 0)])
def test_the_last_day_of_a_link_is_a_day_in_the_netherlands(at: str, last: int) -> None:
    """R19: revoked a second before midnight or on it, in winter: a test of the day that began then is told or not."""
    world = open_world()
    for side in ("sender", "receiver"):
        world.edit(f"connection/publisher-a.sis-b.result.Terugkoppelen/{side}", state="revoked", at=f"{day(1)}T{at}Z")
    cell = ("result", "RESULT", "PUBLISHER", "SIS")
    codes = {ago: send(world, cell, happened=TODAY - ago).code for ago in (2, 1, 0)}
    assert codes == {ago: "ok" if ago >= last else "gate.ended" for ago in codes}


RETRACT = ("usage", "RETRACT", "PUBLISHER", "PORTAL")


@pytest.mark.parametrize("state", ["offered", "declined"])
def test_a_link_that_was_never_on_has_nothing_to_close(state: str) -> None:
    """Offered and declined are no ends: only what was accepted can be revoked."""
    world = open_world()
    world.registry = with_links_revoked(1, state)
    assert send(world, RETRACT).code == "gate.connection"


@pytest.mark.parametrize(("party", "side"), [("publisher-a", "SENDER"), ("portal-b", "RECEIVER")])
def test_no_party_of_a_link_ends_its_term_by_a_new_offer(party: str, side: str) -> None:
    """R19: it revokes its side and offers it anew, for another product: what was on is closed within its term."""
    world = open_world()
    link = {
        "connection_id": "publisher-a.portal-b.usage.Gebruik", "side": side, "sender": "publisher-a",
        "receiver": "portal-b", "service": "usage", "process": "GEBRUIK",
    }  # fmt: skip
    for kind, products in (("REVOKE", None), ("OFFER", [NOT_THERE]), ("DECLINE", [NOT_THERE])):
        said = body("connection", kind, **link, products=products)
        record = world.made(party, "connection", kind, said, Subject(), school=SCHOOL, sector="VO")
        assert world.run(party, record).decisions[0].code == "ok.link"
        assert good(send(world, RETRACT)), kind
    world.now_ms += 62 * DAY_MS
    assert good(send(world, RETRACT))
    world.now_ms += DAY_MS
    assert send(world, RETRACT).code == "gate.connection"


NEVER_ON: dict[str, dict[str, Any]] = {
    "never accepted": {"state": "offered"},
    "accepted without a mandate": {"mandate": "sis-b"},
    "accepted by a stranger": {"accepted_by": "shop-a"},
    "accepted before the mandate's first day": {"at": "2024-07-31T10:00:00Z"},
    "for another product": {"products": [FREE]},
    "for a location": {"location": "99VA00"},
}


@pytest.mark.parametrize("name", NEVER_ON)
def test_a_revoked_link_that_did_not_count_or_was_about_something_else_closes_nothing(name: str) -> None:
    """An end opens nothing that was not open before it."""
    world = open_world()
    for side in ("sender", "receiver"):
        key = f"connection/publisher-a.portal-b.usage.Gebruik/{side}"
        world.edit(key, **{"state": "revoked", "at": f"{day(1)}T10:00:00Z"} | NEVER_ON[name])
    assert send(world, RETRACT).code == "gate.connection"


NO_END: dict[str, dict[str, Any]] = {
    "of another product": {"products": [{"id": FREE, "type": "ordinary", "does": "x"}]},
    "of another process": {"processes": [{"process": "Toegang", "purpose": "x", "basis": "publieke_taak"}]},
    "of another school": {"schools": ["99VA00"]},
    "that begins tomorrow": {"valid_from": day(-1), "valid_until": day(-9)},
}


@pytest.mark.parametrize("name", NO_END)
def test_an_agreement_that_was_about_something_else_closes_nothing(name: str) -> None:
    """Product, process and school must have been covered."""
    world = open_world()
    over = {"valid_from": "2025-01-01", "valid_until": day(1)} | NO_END[name]
    world.edit("agreement/vwo-portal-b", **over | {"local_ids_until": None, "attributes": []})
    assert send(world, RETRACT).code == "gate.agreement"


@pytest.mark.parametrize("what", ["agreement", "mandate"])
def test_the_term_ends_at_midnight_though_the_registry_stands_still(what: str) -> None:
    """Nothing remembered from yesterday is used."""
    world = ended(what, 62)
    assert good(send(world, RETRACT))
    world.now_ms = (TODAY + 1) * DAY_MS - HOUR_MS - 1
    assert good(send(world, RETRACT))
    world.now_ms += 1
    assert send(world, RETRACT).code == ENDS[what][0]


USE = ("usage", "USE", "PUBLISHER", "PORTAL")


def test_a_link_counts_to_midnight_of_the_mandates_last_day() -> None:
    """It was accepted under that mandate. The registry stands still; prolonged, it counts again."""
    world = ended("mandate", 0)
    assert good(send(world, USE))
    world.now_ms = (TODAY + 1) * DAY_MS - HOUR_MS - 1
    assert good(send(world, USE))
    world.now_ms += 1
    assert send(world, USE).code == "gate.connection"
    world.edit(f"school/{SCHOOL}", mandated_until=day(-9))
    assert good(send(world, USE))


@pytest.mark.parametrize(("mandate", "link"), [(10, 5), (5, 10)])
def test_of_a_mandate_that_is_over_and_a_link_that_was_revoked_the_earlier_end_counts(mandate: int, link: int) -> None:
    """Ten days ago one ended, five days ago the other: what happened in between is too late."""
    world = open_world()
    world.registry = with_links_revoked(link)
    world.edit(f"school/{SCHOOL}", mandated_until=day(mandate))
    cell = ("result", "RESULT", "PUBLISHER", "SIS")
    assert [send(world, cell, happened=TODAY - ago).code for ago in (10, 9, 5)] == ["ok", "gate.ended", "gate.ended"]


@pytest.mark.parametrize("state", ["offered", "declined"])
def test_the_end_of_a_mandate_opens_no_link_that_was_never_on(state: str) -> None:
    """Only what counted until then closes something."""
    world = open_world()
    world.registry = with_links_revoked(1, state)
    world.edit(f"school/{SCHOOL}", mandated_until=day(1))
    assert send(world, RETRACT).code == "gate.connection"


def test_what_waited_closes_by_the_day_on_which_it_goes_on() -> None:
    """Parked while the link was on, released after it was revoked: passes as what closes something."""
    world = open_world()
    late = Subject("PUPIL", None, (("LAS_KEY", "L0099"),))
    sent = [
        event(kind=kind, school=SCHOOL, sector="VO", subject=late, receiver="portal-b", body=usage())
        for kind in ("USE", "RETRACT")
    ]
    assert {d.code for d in world.send("publisher-a", *sent)} == {"subject.waiting"}
    world.send("sis-a", enrolment(None, "L0099", school=SCHOOL, sector="VO"))
    world.registry = with_links_revoked(0)
    world.outgoing.clear()
    assert [d.code for d in world.run("publisher-a").decisions] == ["gate.connection", "ok.unchecked"]
    assert world.evidence()[1]["closing"] == TODAY


def test_without_consent_only_what_closes_something_passes_and_only_what_it_is_about() -> None:
    """Emma is under 16 and nobody consented to the free tool. A result is dated, and when consent was withdrawn is
    not known: it is no exception."""
    world, wrong = open_world(), dict[Cell, Any]()
    for cell in between_parties():
        found, way = catalogue().family(cell[0]), TABLE[cell][0]
        if found.product_field is None or way.subject == "none" or subject_of(*cell[:2]) != PUPIL:
            continue
        decision = send(world, cell, happened=TODAY, said={found.product_field: FREE})
        passes = bool(way.closing) and not (way.closing or {}).get("dated_before_end")
        kept = set(world.evidence()[0].get("kept", ())) - SUBJECT_NAMES
        essential = set(found.kinds[cell[1]].essential) if passes else set()
        if (good(decision), kept) != (passes, essential) or (not passes and decision.code != "consent.missing"):
            wrong[cell] = decision, kept
    assert wrong == {}


def test_somebody_who_left_is_found_under_each_of_his_ids() -> None:
    """By whatever id: to his last day all passes whole, from the day after it nothing that closes nothing."""
    world = ended("enrolment", 0)
    cell = ("usage", "USE", "PUBLISHER", "PORTAL")
    ids = [Subject("PUPIL", PUPIL.eck_id), *(Subject("PUPIL", None, (i,)) for i in PUPIL.user_ids)]
    midnight = (TODAY + 1) * DAY_MS - HOUR_MS  # of the Netherlands, in winter
    for about in ids:
        world.now_ms = midnight - 1
        assert good(send(world, cell, about=about))
        assert {"usageDates", "usageFrequency"} <= set(world.evidence()[0]["kept"])
        world.now_ms = midnight
        assert send(world, cell, about=about).code == "subject.left"


@pytest.mark.parametrize("what", ENDS)
@pytest.mark.parametrize("ago", [1, 63, 401])
def test_a_senders_clock_opens_nothing(what: str, ago: int) -> None:
    """An event that says it was made while all was open is decided as one that was made now, whatever its kind."""
    world, wrong = ended(what, ago), dict[Cell, Any]()
    made = (TODAY - min(ago + 1, 399)) * DAY_MS  # the oldest that is looked at at all: 400 days
    for cell in [*cells(what, closing=True), *cells(what, closing=False)]:
        found = []
        for created in (world.now_ms, made):
            decision = send(world, cell, happened=TODAY - ago, created=created)
            found.append((decision.outcome, decision.code, world.evidence()[0].get("kept")))
        if found[0] != found[1]:
            wrong[cell] = found
    assert wrong == {}


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("agreement", "gate.ended"), ("link", "gate.ended"), ("mandate", "gate.ended"), ("enrolment", "subject.left"),
    ],
)  # fmt: skip
def test_what_does_not_say_when_it_happened_is_not_dated_before_the_end(what: str, code: str) -> None:
    """Usage has no such field: were its route to ask for it, the sender's clock would not stand in for it."""
    world, dated = ended(what, 5), Closing(days=62, dated_before_end=True)
    routes = [r.model_copy(update={"closing": dated}) if "RETRACT" in r.kinds else r for r in world.registry.routes]
    world.registry = world.registry.with_changes({"routes/current": Routes(routes).record()})
    assert send(world, RETRACT, created=(TODAY - 9) * DAY_MS).code == code
