"""What the gates ask of the registry."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.data import data_path
from broker.errors import ConfigError
from broker.policy import Policy, Routes
from broker.registry import (
    Agreement,
    ConnectionSide,
    Party,
    Registry,
    School,
    TemporaryException,
    load,
    receivable_families,
)
from broker.registry import links as links_module
from broker.registry.links import links_of
from broker.registry.models import Entry, key_of
from broker.registry.registry import POLICY_KEY, ROUTES_KEY, parse_record, record_of
from tests.registry.entries import BOOK, OTHER_BOOK, TODAY, agreement, entries, exception, party, school, side

LINK = ("99PA", "uitgeverij-delta", "portaal-plein", "usage", "Gebruik")


@cache
def law() -> dict[str, bytes]:
    """Policy and routes as they stand on Kafka."""
    return {POLICY_KEY: Policy.load().record(), ROUTES_KEY: Routes.load().record()}


@cache
def empty() -> Registry:
    """Policy and routes, and nobody yet."""
    return Registry.from_records(law())


def records(found: Iterable[Entry]) -> dict[str, bytes | None]:
    """As they stand on Kafka, policy and routes with them."""
    return {**law(), **{key_of(entry): record_of(entry) for entry in found}}


def made(found: Iterable[Entry]) -> Registry:
    """A registry of these."""
    return empty().with_changes({key_of(entry): record_of(entry) for entry in found})


def registry(**changes: Any) -> Registry:
    """A small registry with changed entries."""
    return made(entries(**changes))


@pytest.fixture(scope="module")
def demo() -> Registry:
    """The example that ships."""
    return load(data_path("examples") / "registry")


# ---- connections


def test_a_link_that_both_sides_accepted_is_on() -> None:
    """For its school, parties and service; and for nothing else."""
    found = registry()
    assert found.connected(*LINK, BOOK)
    assert found.connected(*LINK, None)
    assert found.revoked_on(*LINK, BOOK) is None
    for place, other in enumerate(("99PB", "portaal-plein", "sis-noord", "result", "Toegang")):
        assert not found.connected(*LINK[:place], other, *LINK[place + 1 :], BOOK)
    assert not found.connected("99PA", "portaal-plein", "uitgeverij-delta", "usage", "Gebruik", BOOK)


@pytest.mark.parametrize("which", ["sender", "receiver"])
@pytest.mark.parametrize(
    "changes",
    [
        {"state": "offered"},
        {"state": "declined"},
        {"state": "revoked"},
        {"accepted_by": "uitgeverij-oost"},  # not this side's party, not the school's SIS
        {"mandate": "sis-zuid"},  # not the SIS that the board gave its mandate
        {"mandate": "portaal-plein"},
        {"at": "2024-07-31T21:59:59Z"},  # before the mandate began
        {"receiver": "sis-noord"},  # the sides speak of different links
        {"school": "99PB"},
        {"service": "result"},
        {"process": "Toegang"},
        {"location": "99PA00"},
    ],
)
def test_one_side_that_does_not_count_switches_the_link_off(which: str, changes: dict[str, Any]) -> None:
    """R5: both sides, each by its own party or the school's SIS, each under the board's mandate."""
    assert not registry(**{which: changes}).connected(*LINK, BOOK)


def test_each_side_may_be_accepted_by_the_schools_administration() -> None:
    """In the place of a party that has no screen for it."""
    found = registry(sender={"accepted_by": "sis-noord"}, receiver={"accepted_by": "sis-noord"})
    assert found.connected(*LINK, BOOK)


@pytest.mark.parametrize(("which", "by"), [("sender", "portaal-plein"), ("receiver", "uitgeverij-delta")])
def test_a_party_can_not_accept_the_other_side(which: str, by: str) -> None:
    """A supplier that says yes for both has no connection."""
    assert not registry(**{which: {"accepted_by": by}}).connected(*LINK, BOOK)


def test_another_administration_switches_links_off_until_it_confirms_them() -> None:
    """The mandate is the board's to give: what the former SIS said does not hold any more."""
    found = registry(school={"sis": "sis-zuid"})
    assert not found.connected(*LINK, BOOK)
    confirmed = {"mandate": "sis-zuid"}
    assert registry(school={"sis": "sis-zuid"}, sender=confirmed, receiver=confirmed).connected(*LINK, BOOK)


@pytest.mark.parametrize("which", ["sender", "receiver"])
def test_half_a_connection_is_none(which: str) -> None:
    """One record alone grants nothing, also while the other is still on its way."""
    found = registry().with_changes({f"connection/c1/{which}": None})
    assert not found.connected(*LINK, BOOK)
    assert found.revoked_on(*LINK, BOOK) is None
    assert found.link("c1") is None
    other = "receiver" if which == "sender" else "sender"
    assert found.connection_side("c1", which) is None
    assert found.connection_side("c1", other) is not None


def test_a_connection_is_for_the_products_that_both_sides_name() -> None:
    """Their intersection; a link without any common product is off."""
    found = registry(sender={"products": [BOOK, OTHER_BOOK]}, receiver={"products": [BOOK]})
    assert found.connected(*LINK, BOOK)
    assert not found.connected(*LINK, OTHER_BOOK)
    assert found.connected(*LINK, None)
    apart = registry(sender={"products": [OTHER_BOOK]}, receiver={"products": [BOOK]})
    assert not apart.connected(*LINK, None)
    assert dict(apart.links_from("uitgeverij-delta")) == {}


EVENING, MIDNIGHT, NEXT_DAY = "2026-10-01T21:59:59Z", "2026-10-01T22:00:00Z", "2026-10-02T08:00:00Z"


@pytest.mark.parametrize(
    ("sender", "receiver", "day"),
    [
        ({}, {}, None),
        ({}, {"state": "revoked", "at": NEXT_DAY}, date(2026, 10, 2)),
        ({"state": "revoked", "at": EVENING}, {}, date(2026, 10, 1)),
        ({"state": "revoked", "at": MIDNIGHT}, {}, date(2026, 10, 2)),
        ({"state": "revoked", "at": EVENING}, {"state": "revoked", "at": NEXT_DAY}, date(2026, 10, 1)),
        ({"state": "revoked", "at": NEXT_DAY}, {"state": "revoked", "at": EVENING}, date(2026, 10, 1)),
        ({"state": "offered"}, {"state": "revoked", "at": EVENING}, None),
        ({"state": "declined"}, {"state": "revoked", "at": EVENING}, None),
        ({"mandate": "sis-zuid"}, {"state": "revoked", "at": EVENING}, None),
        ({}, {"state": "revoked", "at": EVENING, "accepted_by": "uitgeverij-oost"}, None),
        ({"products": [OTHER_BOOK]}, {"state": "revoked", "at": EVENING, "products": [BOOK]}, None),
    ],
)
def test_a_revoked_link_is_off_from_the_day_of_the_first_revocation(
    sender: dict[str, Any], receiver: dict[str, Any], day: date | None
) -> None:
    """Closing kinds still pass for a while after it; a link that never was on has no such day."""
    found = registry(sender=sender, receiver=receiver)
    assert found.revoked_on(*LINK, BOOK) == day
    assert found.connected(*LINK, BOOK) is (sender == receiver == {})


def said_anew(state: str, at: str, **changes: Any) -> dict[str, Any]:
    """A side that was revoked at this moment; then something else was said of it, months later."""
    ended = {"at": at, "accepted_by": "sis-noord", "mandate": "sis-noord"} | changes
    return {"state": state, "at": "2026-12-01T10:00:00Z", "accepted_by": None, "mandate": None, "ended": ended}


@pytest.mark.parametrize("state", ["offered", "declined"])
@pytest.mark.parametrize(
    ("sender", "receiver", "day"),
    [
        ({"at": EVENING}, {}, date(2026, 10, 1)),
        ({"at": MIDNIGHT}, {}, date(2026, 10, 2)),
        ({"at": NEXT_DAY}, {"at": EVENING}, date(2026, 10, 1)),
        ({"at": NEXT_DAY}, {"state": "revoked", "at": EVENING}, date(2026, 10, 1)),
        ({"at": EVENING}, {"state": "revoked", "at": NEXT_DAY}, date(2026, 10, 1)),
        ({"at": EVENING}, {"state": "offered"}, None),
        ({"at": EVENING}, {"state": "declined"}, None),
        ({"at": EVENING, "mandate": "sis-zuid"}, {}, None),
        ({"at": EVENING, "accepted_by": "portaal-plein"}, {}, None),
        ({"at": "2024-07-31T21:59:59Z"}, {}, None),
        ({"at": EVENING, "products": [OTHER_BOOK]}, {}, None),
        ({"at": EVENING, "products": [BOOK]}, {}, date(2026, 10, 1)),
    ],
)
def test_what_is_said_of_a_side_after_it_was_revoked_does_not_undo_that_it_was_on(
    state: str, sender: dict[str, Any], receiver: dict[str, Any], day: date | None
) -> None:
    """By who accepted it then and for what, from the day on which it ended; what never counted still does not."""
    receiver = receiver if "state" in receiver or not receiver else said_anew(state, **receiver)
    found = registry(sender=said_anew(state, **sender), receiver=receiver)
    assert found.revoked_on(*LINK, BOOK) == day
    assert not found.connected(*LINK, BOOK)
    assert dict(found.links_from("uitgeverij-delta")) == {}
    if day is not None:
        assert found.serves("uitgeverij-delta", "99PA", day + timedelta(399))
        assert not found.serves("uitgeverij-delta", "99PA", day + timedelta(400))


def test_products_that_are_offered_anew_are_not_those_that_were_on() -> None:
    """Else a party could end the closing term of one product by an offer of another."""
    offer = said_anew("offered", EVENING, products=[BOOK]) | {"products": [OTHER_BOOK]}
    found = registry(sender=offer)
    assert found.revoked_on(*LINK, BOOK) == date(2026, 10, 1)
    assert found.revoked_on(*LINK, OTHER_BOOK) is None


def links(*changes: dict[str, Any]) -> Registry:
    """The small registry with both sides of several links between the same parties."""
    sides = [
        ConnectionSide.model_validate(side(which, **{"id": f"c{number}", **changed}))
        for number, changed in enumerate(changes, 1)
        for which in ("sender", "receiver")
    ]
    return made([*entries(), *sides])


def test_a_link_that_is_on_has_no_day_of_revocation() -> None:
    """Another one for the same may have been switched off; of several that were, the one that was on longest counts."""
    off = {"state": "revoked", "at": EVENING}
    assert links({}, off).revoked_on(*LINK, BOOK) is None
    assert links(off, {"state": "revoked", "at": NEXT_DAY}).revoked_on(*LINK, BOOK) == date(2026, 10, 2)
    for_one = links(off | {"products": [BOOK]}, {"products": [OTHER_BOOK]})
    assert for_one.revoked_on(*LINK, BOOK) == date(2026, 10, 1)
    assert for_one.revoked_on(*LINK, OTHER_BOOK) is None
    assert for_one.revoked_on(*LINK, None) is None


@pytest.mark.parametrize(
    ("of_link", "of_event", "on"),
    [
        (None, None, True), (None, "99PA00", True), (None, "99PA01", True),
        ("99PA00", None, False), ("99PA00", "99PA00", True), ("99PA00", "99PA01", False),
    ],
)  # fmt: skip
def test_a_link_for_one_location_is_on_for_events_of_exactly_that(
    of_link: str | None, of_event: str | None, on: bool
) -> None:
    """Domain, section 10.12; a link for the school is on for all of it. Revoked, it is so for the same events."""
    assert links({"location": of_link}).connected(*LINK, BOOK, of_event) is on
    revoked = links({"location": of_link, "state": "revoked", "at": EVENING})
    assert not revoked.connected(*LINK, BOOK, of_event)
    assert (revoked.revoked_on(*LINK, BOOK, of_event) == date(2026, 10, 1)) is on


def test_both_sides_of_a_connection_are_found_by_its_id() -> None:
    """Whatever they say; the caller looks."""
    found = registry(receiver={"state": "declined", "service": "result"})
    pair = found.link("c1")
    assert pair is not None
    assert [(one.side, one.state) for one in pair] == [("sender", "accepted"), ("receiver", "declined")]
    assert found.connection_side("c1", "receiver") is pair[1]
    assert found.link("c2") is None


# ---- what a party sends to, and what was agreed with it: followed by their identity


def test_the_links_of_a_sender_are_those_that_are_on() -> None:
    """By connection, with a marker that a second switching-on changes."""
    found = registry(sender={"at": "2026-07-02T12:00:00+02:00"})
    assert dict(found.links_from("uitgeverij-delta")) == {"c1": "2026-07-02T10:00:00+00:00"}
    assert dict(found.links_from("portaal-plein")) == {}
    assert dict(registry(receiver={"state": "offered"}).links_from("uitgeverij-delta")) == {}
    off = found.with_changes(one(side("receiver", state="revoked", at=EVENING)))
    assert dict(off.links_from("uitgeverij-delta")) == {}
    anew = off.with_changes(one(side("receiver", at=NEXT_DAY)))
    assert dict(anew.links_from("uitgeverij-delta")) == {"c1": "2026-10-02T08:00:00+00:00"}


def one(*documents: dict[str, Any], model: type[Any] = ConnectionSide) -> dict[str, bytes | None]:
    """Changed entries, as they come from Kafka."""
    made = [model.model_validate(document) for document in documents]
    return {key_of(entry): record_of(entry) for entry in made}


def test_links_and_agreements_of_a_party_are_one_object_until_they_change() -> None:
    """Whoever follows them compares by identity: a change elsewhere costs nothing."""
    old = made([*entries(), Agreement.model_validate(agreement(id="vwo-9", party="sis-noord"))])
    elsewhere = old.with_changes(
        {
            **one(side("sender", id="c2", sender="uitgeverij-oost", accepted_by="uitgeverij-oost")),
            **one(side("receiver", id="c2", sender="uitgeverij-oost")),
            **one(agreement(id="vwo-8", party="uitgeverij-oost"), model=Agreement),
            **one(school(id="99PB"), model=School),
            **one(side("sender")),  # written again, as it was
            **one(agreement(), model=Agreement),
        }
    )
    for party_id in ("uitgeverij-delta", "portaal-plein", "sis-noord", "nobody"):
        assert elsewhere.links_from(party_id) is old.links_from(party_id)
        assert elsewhere.agreements_of(party_id) is old.agreements_of(party_id)
    assert dict(elsewhere.links_from("uitgeverij-oost")) == {"c2": "2026-07-01T10:00:00+00:00"}
    here = old.with_changes(one(side("sender", at="2026-07-01T11:00:00Z")))
    assert here.links_from("uitgeverij-delta") is not old.links_from("uitgeverij-delta")
    assert dict(old.links_from("uitgeverij-delta")) == {"c1": "2026-07-01T10:00:00+00:00"}
    agreed = old.with_changes(one(agreement(retention="kort"), model=Agreement))
    assert agreed.agreements_of("portaal-plein") is not old.agreements_of("portaal-plein")
    assert agreed.agreements_of("sis-noord") is old.agreements_of("sis-noord")


def test_all_agreements_of_a_party_are_listed_whatever_their_dates() -> None:
    """In the order of their ids, of all boards."""
    more = [
        Agreement.model_validate(agreement(id=name, board=board, valid_from=begins, valid_until="2030-07-31"))
        for name, board, begins in (("vwo-0", "elders", "2026-01-01"), ("vwo-2", "horizon", "2029-01-01"))
    ]
    found = made([*more, *entries()])
    assert [a.id for a in found.agreements_of("portaal-plein")] == ["vwo-0", "vwo-1", "vwo-2"]
    assert found.agreements_of("nobody") == ()
    assert found.with_changes({"agreement/vwo-1": None}).agreements_of("portaal-plein") == (more[0], more[1])


# ---- agreements


def test_the_agreement_must_cover_school_product_process_and_day() -> None:
    """Gate 2, on the first and the last day too."""
    found = registry()
    assert found.agreement("99PA", "portaal-plein", BOOK, "Gebruik", TODAY) is not None
    assert found.agreement("99PA", "portaal-plein", None, "Gebruik", TODAY) is not None
    assert found.agreement("99PA", "portaal-plein", BOOK, "Gebruik", date(2027, 7, 31)) is not None
    assert found.agreement("99PA", "portaal-plein", BOOK, "Gebruik", date(2027, 8, 1)) is None
    assert found.agreement("99PA", "portaal-plein", OTHER_BOOK, "Gebruik", TODAY) is None
    assert found.agreement("99PA", "portaal-plein", BOOK, "Toegang", TODAY) is None
    assert found.agreement("99PA", "sis-noord", BOOK, "Gebruik", TODAY) is None
    assert found.agreement("99ZZ", "portaal-plein", BOOK, "Gebruik", TODAY) is None


def test_an_agreement_of_another_board_does_not_count() -> None:
    """Even if it names the school: a board decides over its own schools only."""
    foreign = registry(agreement={"board": "elders", "schools": ["99PA"]})
    assert foreign.agreement("99PA", "portaal-plein", BOOK, "Gebruik", TODAY) is None


def test_the_newest_agreement_wins() -> None:
    """By its first day, then its version as a number."""
    newer = [
        Agreement.model_validate(agreement(id="vwo-2", valid_from="2026-08-01")),
        Agreement.model_validate(agreement(id="vwo-3", valid_from="2026-08-01", version="1.10")),
        Agreement.model_validate(agreement(id="vwo-4", valid_from="2026-08-01", version="1.9")),
        Agreement.model_validate(agreement(id="vwo-5", valid_from="2027-01-01")),
    ]
    found = made([*entries(), *newer])
    chosen = found.agreement("99PA", "portaal-plein", BOOK, "Gebruik", TODAY)
    assert chosen is not None
    assert chosen.id == "vwo-3"
    assert found.agreement("99PA", "portaal-plein", BOOK, "Gebruik", TODAY) is chosen  # remembered
    before = found.agreement("99PA", "portaal-plein", BOOK, "Gebruik", date(2026, 7, 31))
    assert before is not None
    assert before.id == "vwo-1"


def test_products_are_known_by_agreements() -> None:
    """Of any party, as long as one agreement names them."""
    found = registry()
    assert found.known_product(BOOK)
    assert not found.known_product(OTHER_BOOK)
    two = found.with_changes(one(agreement(id="vwo-2", party="sis-noord"), model=Agreement))
    assert two.with_changes({"agreement/vwo-1": None}).known_product(BOOK)
    assert not two.with_changes({"agreement/vwo-1": None, "agreement/vwo-2": None}).known_product(BOOK)


def test_an_agreement_of_one_location_covers_events_of_exactly_that() -> None:
    """And is found beside one of the whole school, if it is newer."""
    here = Agreement.model_validate(agreement(id="vwo-2", schools=["99PA01"], valid_from="2026-08-01"))
    found = made([*entries(school={"locations": ["99PA00", "99PA01"]}), here])
    asked = ("99PA", "portaal-plein", BOOK, "Gebruik", TODAY)
    by_place = {place: found.agreement(*asked, location=place) for place in (None, "99PA00", "99PA01")}
    assert {place: a and a.id for place, a in by_place.items()} == {None: "vwo-1", "99PA00": "vwo-1", "99PA01": "vwo-2"}


@pytest.mark.parametrize(
    ("on", "days", "found"),
    [
        (date(2027, 7, 31), 62, False),  # its last day
        (date(2027, 8, 1), 62, True),
        (date(2027, 8, 1), 1, True),
        (date(2027, 8, 2), 1, False),
        (date(2027, 10, 1), 62, True),
        (date(2027, 10, 2), 62, False),
        (date(2026, 1, 1), 62, False),
    ],
)
def test_an_agreement_that_ended_is_found_for_a_term(on: date, days: int, found: bool) -> None:
    """What closes something still passes then; the term is the route's."""
    answer = registry().ended_agreement("99PA", "portaal-plein", BOOK, "Gebruik", on, days)
    assert (answer is not None) is found


def test_an_agreement_that_ended_covers_what_it_did_and_the_newest_counts() -> None:
    """School, receiver, product, process and location are held against it as before."""
    ended = [
        Agreement.model_validate(agreement(id=name, valid_from=begins, valid_until=ends, schools=schools))
        for name, begins, ends, schools in (
            ("old", "2025-01-01", "2026-11-20", "all of board"),
            ("newer", "2026-01-01", "2026-11-10", "all of board"),
            ("place", "2026-02-01", "2026-11-10", ["99PA01"]),
        )
    ]
    found = made([*ended, *entries(agreement={"valid_from": "2027-01-01"})])
    asked = ("99PA", "portaal-plein", BOOK, "Gebruik")

    def name(*question: str, days: int = 62, location: str | None = None) -> str | None:
        school_id, receiver, product, process = question
        answer = found.ended_agreement(school_id, receiver, product, process, TODAY, days, location)
        return answer and answer.id

    assert name(*asked) == "newer"
    assert name(*asked, days=10) == "old"
    assert name(*asked, days=3) is None
    assert name(*asked, location="99PA01") == "place"
    for place, other in enumerate(("99ZZ", "sis-noord", OTHER_BOOK, "Toegang")):
        assert name(*asked[:place], other, *asked[place + 1 :]) is None


# ---- exceptions


def test_exceptions_are_found_while_they_last() -> None:
    """R21: by school, receiver and process; they end by themselves."""
    found = registry().with_changes(one(exception(), model=TemporaryException))
    asked = ("99PA", "portaal-plein", "Gebruik")
    days = {date(2026, 11, 15): 0, date(2026, 11, 16): 1, date(2026, 11, 27): 1, date(2026, 11, 28): 0}
    assert {day: len(found.exceptions(*asked, day)) for day in days} == days
    assert found.exceptions(*asked, TODAY)[0].attributes == ("groupId",)
    for place, other in enumerate(("99PB", "sis-noord", "Toegang")):
        assert found.exceptions(*asked[:place], other, *asked[place + 1 :], TODAY) == ()
    assert found.with_changes({"exception/x1": None}).exceptions(*asked, TODAY) == ()
    assert registry().exceptions(*asked, TODAY) == ()


def test_an_exception_for_a_board_is_one_for_each_of_its_schools() -> None:
    """And for no other board's; both kinds are found together, in the order of their ids."""
    of_board = exception(id="a1", school="all of board", board="horizon")
    of_other = exception(id="a2", school="all of board", board="elders")
    found = registry().with_changes(one(exception(), of_board, of_other, model=TemporaryException))
    assert [x.id for x in found.exceptions("99PA", "portaal-plein", "Gebruik", TODAY)] == ["a1", "x1"]
    moved = found.with_changes(one(school(board="elders"), model=School))
    assert [x.id for x in moved.exceptions("99PA", "portaal-plein", "Gebruik", TODAY)] == ["a2", "x1"]


# ---- who serves whom


def test_a_party_serves_the_schools_that_it_has_to_do_with() -> None:
    """Its mandated SIS, an agreement, or a link that is on; all others get one and the same answer (P8)."""
    found = registry()
    assert found.serves("sis-noord", "99PA")
    assert found.serves("portaal-plein", "99PA")  # agreement
    assert found.serves("uitgeverij-delta", "99PA")  # link
    assert not found.serves("uitgeverij-oost", "99PA")
    assert not found.serves("sis-noord", "99ZZ")
    assert not registry(receiver={"state": "revoked"}).serves("uitgeverij-delta", "99PA")
    one_school = registry(agreement={"schools": ["99PB"]}, receiver={"state": "revoked"})
    assert not one_school.serves("portaal-plein", "99PA")


@pytest.mark.parametrize(
    ("on", "serves"),
    [(date(2024, 7, 31), False), (date(2024, 8, 1), True), (date(2027, 7, 31), True), (date(2027, 8, 1), False)],
)
def test_an_administration_serves_while_its_mandate_holds(on: date, serves: bool) -> None:
    """Where the caller says which day it is: neither before its first day nor after its last."""
    found = registry(school={"mandated_until": "2027-07-31"}, sender={"state": "offered"})
    assert found.serves("sis-noord", "99PA", on) is serves
    assert found.serves("sis-noord", "99PA", on) is serves  # remembered
    assert found.serves("sis-noord", "99PA")


@pytest.mark.parametrize(
    ("on", "serves"),
    [
        (date(2025, 12, 31), False),
        (date(2026, 1, 1), True),
        (date(2027, 7, 31), True),
        (date(2027, 7, 31) + timedelta(400), True),
        (date(2027, 7, 31) + timedelta(401), False),
    ],
)
def test_an_agreement_serves_until_closing_kinds_have_come(on: date, serves: bool) -> None:
    """From its first day; 400 days after its last one a credit or a destroy confirmation may still come."""
    assert registry(receiver={"state": "offered"}).serves("portaal-plein", "99PA", on) is serves


@pytest.mark.parametrize(
    ("receiver", "on", "serves"),
    [
        ({}, date(2099, 1, 1), True),
        ({"state": "revoked", "at": EVENING}, date(2026, 10, 1) + timedelta(399), True),
        ({"state": "revoked", "at": EVENING}, date(2026, 10, 1) + timedelta(400), False),
        ({"state": "declined"}, date(2026, 10, 1), False),
    ],
)
def test_a_link_serves_until_closing_kinds_have_come(receiver: dict[str, Any], on: date, serves: bool) -> None:
    """As long as it is on, and less than 400 days after it was revoked."""
    assert registry(receiver=receiver).serves("uitgeverij-delta", "99PA", on) is serves


@pytest.mark.parametrize(("days", "serves"), [(0, True), (1, True), (400, True), (401, False)])
def test_by_a_link_a_party_serves_until_closing_kinds_have_come_after_the_end_of_the_mandate(
    days: int, serves: bool
) -> None:
    """Without another mandate no link of the school counts any more."""
    last = date(2026, 10, 1)
    found = registry(school={"mandated_until": last.isoformat()})
    assert found.serves("uitgeverij-delta", "99PA", last + timedelta(days)) is serves


@pytest.mark.parametrize(
    ("until", "on", "over"),
    [
        (None, date(2099, 1, 1), None),
        ("2026-10-01", date(2026, 10, 1), None),
        ("2026-10-01", date(2026, 10, 2), date(2026, 10, 1)),
        ("2026-10-01", date(2027, 10, 2), date(2026, 10, 1)),
    ],
)
def test_a_mandate_is_over_from_the_day_after_its_last(until: str | None, on: date, over: date | None) -> None:
    """The last day itself counts whole."""
    school = registry(school={} if until is None else {"mandated_until": until}).school("99PA")
    assert school is not None
    assert school.mandate_over(on) == over


def test_a_party_of_one_location_serves_that_and_the_school_but_no_other_location() -> None:
    """P8: an agreement or a link for a location is none for the next one."""
    places = {"school": {"locations": ["99PA00", "99PA01"]}}
    agreed = registry(**places, agreement={"schools": ["99PA01"]}, receiver={"state": "offered"})
    at_place = {"location": "99PA01"}
    linked = registry(**places, sender=at_place, receiver=at_place)
    for found, party_id in ((agreed, "portaal-plein"), (linked, "uitgeverij-delta")):
        assert {name: found.serves(party_id, name, TODAY) for name in ("99PA", "99PA00", "99PA01", "99PA02")} == {
            "99PA": True, "99PA00": False, "99PA01": True, "99PA02": False,
        }  # fmt: skip


def test_a_school_is_found_by_its_locations_but_an_exact_id_comes_first() -> None:
    """A BRIN6 that no school declares is unknown; permission for a location's name alone is none."""
    found = registry(school={"locations": ["99PA00", "99PA01"]})
    whole = found.school("99PA")
    assert whole is not None
    assert found.school("99PA01") is whole
    assert found.board_of("99PA01") is found.boards["horizon"]
    assert found.school("99PA02") is None
    assert found.board_of("99PA02") is None
    own = found.with_changes(one(school(id="99PA01", name="Los"), model=School))
    assert own.school("99PA01") is own.schools["99PA01"]
    assert not found.connected("99PA00", *LINK[1:], BOOK)
    assert found.agreement("99PA00", "portaal-plein", BOOK, "Gebruik", TODAY) is None


# ---- records, versions, changes


def test_records_make_the_same_registry_again(demo: Registry) -> None:
    """Round trip: entry to record to entry, for every entry of the example."""
    for key, content in demo._contents.items():
        if isinstance(content, (Policy, Routes)):
            assert parse_record(key, content.record()).record() == content.record()  # type: ignore[union-attr]
        else:
            assert parse_record(key, record_of(content)) == content


def test_any_change_changes_the_version_and_only_a_change() -> None:
    """Equal records have equal versions, in whatever order and by whatever way they came."""
    all_records = records(entries())
    found = Registry.from_records(all_records)
    assert Registry.from_records(dict(reversed(all_records.items()))).version == found.version
    versions = {found.version}
    for key in all_records:
        fewer = found.with_changes({key: None})
        assert fewer.version not in versions
        versions.add(fewer.version)
        assert fewer.with_changes({key: all_records[key]}).version == found.version


def test_a_change_leaves_the_old_registry_as_it_was() -> None:
    """A lane that is in the middle of a batch sees one registry."""
    old = registry()
    new = old.with_changes({"connection/c1/sender": None})
    assert old.connected(*LINK, BOOK)
    assert not new.connected(*LINK, BOOK)
    assert new is not old
    assert new != old


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10), st.sampled_from(["as it is", "otherwise", "gone"])), max_size=25))
def test_changes_one_by_one_end_where_all_at_once_do(steps: list[tuple[int, str]]) -> None:
    """A follower that joins later sees the same registry as one that saw every change."""
    keys = list(ALL)
    assert len(keys) == 11
    followed, stand = Registry.from_records({}), {}
    for number, how in steps:
        key = keys[number]
        value = {"as it is": ALL, "otherwise": OTHERWISE, "gone": dict.fromkeys(keys)}[how][key]
        followed = followed.with_changes({key: value})
        stand[key] = value
    at_once = Registry.from_records(stand)
    assert followed.version == at_once.version
    assert answers(followed) == answers(at_once)


def answers(found: Registry) -> list[Any]:
    """What the gates ask, about all that the small registry has."""
    asked = ("99PA", "portaal-plein", BOOK, "Gebruik")
    later = date(2027, 9, 1)
    return [
        found.connected(*LINK, BOOK),
        found.revoked_on(*LINK, BOOK),
        found.link("c1"),
        dict(found.links_from("uitgeverij-delta")),
        found.agreement(*asked, TODAY),
        found.ended_agreement(*asked, later, 62),
        found.agreements_of("portaal-plein"),
        found.known_product(BOOK),
        found.exceptions("99PA", "portaal-plein", "Gebruik", TODAY),
        [
            found.serves(name, "99PA", day)
            for name in ("sis-noord", "portaal-plein", "uitgeverij-delta")
            for day in (TODAY, later)
        ],
    ]


ALL = records([*entries(), TemporaryException.model_validate(exception())])
OTHERWISE = {
    **ALL,
    **one(side("receiver", state="revoked", at="2026-10-01T22:00:00Z")),
    **one(agreement(products=[{"id": OTHER_BOOK, "type": "ordinary", "does": "x"}]), model=Agreement),
    **one(school(sis="sis-zuid"), model=School),
    **one(exception(end="2026-11-20"), model=TemporaryException),
}


def changed(*found: Entry) -> Registry:
    """The small registry, in which these entries changed while it was followed."""
    return registry().with_changes({key_of(entry): record_of(entry) for entry in found})


def test_a_withdrawn_agreement_is_gone_at_once() -> None:
    """P7: removed, ended, or for another product: what was valid a moment ago is not any more."""
    asked = ("99PA", "portaal-plein", BOOK, "Gebruik", TODAY)
    assert registry().agreement(*asked) is not None
    removed = registry().with_changes({"agreement/vwo-1": None})
    assert removed.agreement(*asked) is None
    assert not removed.known_product(BOOK)
    assert not removed.with_changes({"connection/c1/sender": None}).serves("portaal-plein", "99PA")
    for changes in ({"valid_until": "2026-11-23"}, {"party": "sis-noord"}, {"board": "elders"}):
        assert changed(Agreement.model_validate(agreement(**changes))).agreement(*asked) is None
    moved = changed(Agreement.model_validate(agreement(party="sis-noord")))
    assert moved.agreement("99PA", "sis-noord", BOOK, "Gebruik", TODAY) is not None


def test_a_withdrawn_connection_is_off_at_once() -> None:
    """P7: revoked or moved to another school by one record, or the school's mandate went to another SIS."""
    for entry in (
        ConnectionSide.model_validate(side("receiver", state="revoked")),
        ConnectionSide.model_validate(side("receiver", school="99PB")),
        School.model_validate(school(sis="sis-zuid")),
        School.model_validate(school(mandated_from="2026-11-01")),
    ):
        found = changed(entry)
        assert not found.connected(*LINK, BOOK)
        assert dict(found.links_from("uitgeverij-delta")) == {}
        assert not found.serves("uitgeverij-delta", "99PA")


def test_what_did_not_change_is_not_worked_out_anew() -> None:
    """A change in a country of schools costs what it touches."""
    old = registry()
    new = old.with_changes({"party/nobody": None})
    assert new.policy is old.policy
    assert new.routes is old.routes
    assert new._links is old._links
    assert new._agreements is old._agreements
    assert new._exceptions is old._exceptions
    assert new.schools is old.schools
    elsewhere = old.with_changes(one(side("sender", id="c7", school="99PC")))
    assert elsewhere._links.of("99PA") is old._links.of("99PA")
    assert elsewhere._agreements is old._agreements
    assert elsewhere._exceptions is old._exceptions


def test_a_switched_link_costs_what_its_school_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many schools there are: one record, one school's links, one part of the whole."""
    many = [
        entry
        for number in range(150)
        for entry in (
            School.model_validate(school(id=f"{number % 100:02}A{'AB'[number // 100]}")),
            *(
                ConnectionSide.model_validate(
                    side(which, id=f"c{number}", school=f"{number % 100:02}A{'AB'[number // 100]}")
                )
                for which in ("sender", "receiver")
            ),
        )
    ]
    old = made([*entries(), *many])
    asked: list[tuple[str, int]] = []

    def counted(of: School | None, sides: Iterable[ConnectionSide]) -> links_module.Links:
        ones = list(sides)
        assert of is not None
        asked.append((of.id, len(ones)))
        return links_of(of, ones)

    monkeypatch.setattr(links_module, "links_of", counted)
    new = old.with_changes(one(side("receiver", id="c7", school="07AA", state="revoked", at=EVENING)))
    assert asked == [("07AA", 2)]
    assert old.links_from("uitgeverij-delta").keys() - new.links_from("uitgeverij-delta").keys() == {"c7"}
    shared = [a is b for a, b in zip(old._contents._parts, new._contents._parts, strict=True)]
    assert shared.count(False) == 1


def test_the_example_is_rich_enough_to_be_followed_by_single_changes(demo: Registry) -> None:
    """Every connection side taken away and put back leaves the same answers."""
    before = dict(demo.links_from("sis-noord"))
    sides = {key: record_of(c) for key, c in demo._contents.items() if isinstance(c, ConnectionSide)}
    for key, value in sides.items():
        without = demo.with_changes({key: None})
        assert without.link(key.split("/")[1]) is None
        again = without.with_changes({key: value})
        assert again.version == demo.version
        assert dict(again.links_from("sis-noord")) == before


@pytest.mark.parametrize("missing", [POLICY_KEY, ROUTES_KEY, "school/99PA", "board/horizon", "party/sis-noord"])
def test_what_is_missing_grants_nothing(missing: str) -> None:
    """A follower may see half of a change for a moment: no error, and nothing more passes than before."""
    found = registry().with_changes({missing: None})
    assert found.version
    if missing == POLICY_KEY:
        assert not found.policy.projection("Gebruik", "PO", "PORTAL", "ordinary", ["eckId"], ["eckId"]).kept
    elif missing == ROUTES_KEY:
        assert found.routes.find("usage", "USE", ("PUBLISHER",)) == ()
    elif missing == "school/99PA":
        assert not found.connected(*LINK, BOOK)
        assert found.agreement("99PA", "portaal-plein", BOOK, "Gebruik", TODAY) is None
    elif missing == "board/horizon":
        assert found.board_of("99PA") is None
    else:
        assert found.party("sis-noord") is None


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("party/x", b"{", "party/x: 1 problem.\n  document: Invalid JSON"),
        ("party/portaal-plein", b'{"id":"portaal-plein"}', "party/portaal-plein"),
        ("toy/x", b"{}", "is of no kind that is known here"),
        ("", b"{}", "is of no kind that is known here"),
        ("party/other", record_of(Party.model_validate(party())), "stands another entry: party/portaal-plein"),
        ("connection/c1/receiver", record_of(ConnectionSide.model_validate(side())), "stands another entry"),
        ("school/99PB", record_of(School.model_validate(school())), "stands another entry: school/99PA"),
    ],
)
def test_a_record_that_is_not_what_its_key_says_is_refused(key: str, value: bytes, message: str) -> None:
    """A follower stops with the record's key; it never guesses."""
    with pytest.raises(ConfigError, match=message):
        Registry.from_records({key: value})


# ---- the example


def test_the_example_connects_what_the_demo_needs(demo: Registry) -> None:
    """Usage flows from Delta to portal and SIS of the first two schools, and to the shop without a link."""
    for found in ("99PA", "99VA"):
        receivers = {
            pair[0].receiver
            for pair in map(demo.link, demo.links_from("uitgeverij-delta"))
            if pair is not None and (pair[0].school, pair[0].service) == (found, "usage")
        }
        assert receivers == {"portaal-plein", "sis-noord"}
        for receiver in ("portaal-plein", "sis-noord", "winkel-boekhuis"):
            for book in (BOOK, OTHER_BOOK):
                assert demo.agreement(found, receiver, book, "Gebruik", TODAY) is not None
        assert not demo.serves("uitgeverij-oost", found)
    assert {name: found.sectors for name, found in demo.schools.items()} == {
        "99PA": ("PO", "VO"), "99VA": ("VO",), "99MA": ("MBO",),
    }  # fmt: skip
    assert all(found.keys == () for found in demo.parties.values())


@pytest.mark.parametrize("school_id", ["99PA", "99VA", "99MA"])
def test_the_example_has_every_route_for_every_school(demo: Registry, school_id: str) -> None:
    """Each family on each route between the parties of the chain: agreement, and a link where it needs one."""
    sis = demo.schools[school_id].sis
    chain = {
        "SIS": [sis],
        "SHOP": ["winkel-boekhuis"],
        "PORTAL": ["portaal-plein"],
        "PUBLISHER": ["uitgeverij-delta", "uitgeverij-west"],
    }
    seen = set()
    for route in demo.routes:
        if route.family not in ("order", "licence", "usage", "result", "roster"):
            continue
        if (route.family, route.process) == ("roster", "BestellenLeveren") and route.receiver_role != "SHOP":
            continue  # the example's publishers and portals get groups in Toegang
        for sender, receiver in product(chain[route.sender_role], chain[route.receiver_role]):
            assert demo.agreement(school_id, receiver, None, route.process, TODAY), (receiver, route.process)
            on = demo.connected(school_id, sender, receiver, route.family, route.process, None)
            assert on is (route.connection == "required"), (sender, receiver, route.family, route.process)
            seen.add((route.family, route.process))
    assert len(seen) == 7


def test_every_link_of_the_example_rests_on_an_agreement(demo: Registry) -> None:
    """For each product of the sender's that the link is for, the receiver has one too."""
    for party_id in demo.parties:
        for pair in map(demo.link, demo.links_from(party_id)):
            assert pair is not None
            about = pair[0].about()
            for product_id in [None] if pair[0].products == "all" else pair[0].products:
                assert demo.agreement(about.school, about.receiver, product_id, about.process, TODAY, about.location)


def test_the_example_shows_positions_tests_and_consent(demo: Registry) -> None:
    """A controller and a processor, a system outside the covenant, three product types, a free tool, an exception."""
    positions = {(a.party, a.board): a.position for name in demo.parties for a in demo.agreements_of(name)}
    assert positions["hulp-extern", "bestuur-horizon"] == "processor"
    assert positions["hulp-extern", "bestuur-kompas"] == "controller"
    assert positions["winkel-boekhuis", "bestuur-vakwijs"] == "controller"
    assert [name for name, found in demo.parties.items() if not found.may_hold_eck_id] == ["hulp-extern"]
    west = demo.agreement("99PA", "uitgeverij-west", None, "Toegang", TODAY)
    assert west is not None
    assert {p.type for p in west.products} == {"ordinary", "legal-test", "norm-test"}
    (free,) = [p.id for p in west.products if p.consent == "under-16"]
    assert west.consent_for(free) == "under-16"
    assert west.consent_for(None) == "not-needed"
    assert demo.agreement("99VA", "hulp-extern", None, "Terugkoppelen", TODAY) is None
    assert demo.agreement("99VA", "hulp-extern", None, "Terugkoppelen", TODAY, "99VA01") is not None
    assert demo.exceptions("99VA", "portaal-plein", "Toegang", date(2027, 1, 20))
    assert not demo.serves("sis-noord", "99MA", TODAY)


def test_the_examples_shop_gets_no_usage_frequency(demo: Registry) -> None:
    """Its agreement does not name it, so the policy drops it."""
    found = demo.agreement("99PA", "winkel-boekhuis", BOOK, "Gebruik", TODAY)
    assert found is not None
    asked = ("usageDates", "usageFrequency", "activationCode")
    answer = demo.policy.projection("Gebruik", "PO", "SHOP", found.product_type(BOOK), asked, found.attributes)
    assert answer.kept == ("usageDates", "activationCode")
    assert answer.dropped == (("usageFrequency", "not-in-agreement"),)


def test_receivable_families_follow_roles_and_routes(demo: Registry) -> None:
    """From these the output topics are made; a party without a route gets none."""
    families = {"usage", "licence", "result", "roster", "connection", "control"}
    assert receivable_families(demo, "portaal-plein") == families
    assert receivable_families(demo, "sis-noord") == {"usage", "order", "result", "connection", "control"}
    assert receivable_families(demo, "winkel-boekhuis") == {
        "usage",
        "licence",
        "order",
        "roster",
        "connection",
        "control",
    }
    assert receivable_families(demo, "uitgeverij-delta") == {
        "licence",
        "order",
        "result",
        "roster",
        "connection",
        "control",
    }
    assert receivable_families(demo, "nobody") == set()


def test_questions_from_events_do_not_fill_the_memory(demo: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Product ids come from events: the remembered answers are bounded."""
    monkeypatch.setattr("broker.registry.registry.REMEMBERED", 50)
    for number in range(200):
        assert demo.agreement("99PA", "portaal-plein", f"product-{number}", "Gebruik", TODAY) is None
        assert not demo.serves("portaal-plein", f"school-{number}", TODAY)
    assert len(demo._agreements_found) <= 50
    assert len(demo._served) <= 50


def test_the_example_is_where_it_is_shipped() -> None:
    """The demo and the documentation name these files."""
    folder: Path = data_path("examples") / "registry"
    assert {path.name for path in folder.iterdir()} == {
        "agreements.yaml", "connections.yaml", "exceptions.yaml", "parties.yaml", "schools.yaml",
    }  # fmt: skip
