"""Requests to destroy, as the exchange writes them on the control log, and their confirmations."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from broker.client import Control, Event, Subject
from broker.exchange import Outcome
from broker.exchange.duties import DESTROY_DAYS
from broker.season import DestroyRequest, unconfirmed
from tests.exchange.world import NOW, PORTAL, SIS, World, make_world

PARTY = "hulp-extern"
ENDED = datetime(2027, 8, 2, 9, tzinfo=UTC)


def request(at: int = 100, **changes: Any) -> dict[str, Any]:
    """A leaf of the control log."""
    said = {
        "kind": "destroy-requested",
        "party": PORTAL,
        "school": "99PA",
        "agreement_id": "vwo-1",
        "control_id": f"c-{at}",
        "deadline": 20_000,
        "sender": "broker",
        "at": at,
    }
    return {"v": 1, "control": {name: value for name, value in (said | changes).items() if value is not None}}


def confirm(at: int = 200, **changes: Any) -> dict[str, Any]:
    """What the party answered."""
    said = {
        "kind": "destroy-confirmed",
        "party": PORTAL,
        "school": "99PA",
        "agreement_id": "vwo-1",
        "control_id": "unheard",
        "count": 3,
        "at": at,
    }
    return {"v": 1, "control": {name: value for name, value in (said | changes).items() if value is not None}}


def test_a_request_is_open_until_it_is_confirmed() -> None:
    """Its deadline is a day; the log counts days since 1970."""
    assert unconfirmed([request()]) == (DestroyRequest(PORTAL, "99PA", "vwo-1", date(2024, 10, 4), 100, "c-100"),)
    assert unconfirmed([request(), confirm()]) == ()


@pytest.mark.parametrize(
    "changes",
    [{"party": "uitgeverij-delta"}, {"school": "99VA"}, {"agreement_id": "vwo-2"}, {"agreement_id": None}],
    ids=str,
)
def test_a_confirmation_of_something_else_does_not_count(changes: dict[str, Any]) -> None:
    """Of another party, school or agreement, or of nobody knows which."""
    assert len(unconfirmed([request(), confirm(**changes)])) == 1


def test_a_confirmation_answers_a_request_by_its_control_id() -> None:
    """It need not name the agreement, which may be gone from the registry; of another party it does not count."""
    asked, answer = request(control_id="c-1"), {"agreement_id": None, "control_id": "c-1"}
    assert unconfirmed([asked, confirm(**answer)]) == ()
    assert len(unconfirmed([asked, confirm(**answer | {"control_id": "c-2"})])) == 1
    assert len(unconfirmed([asked, confirm(**answer, party="uitgeverij-delta")])) == 1


def test_a_confirmation_from_before_the_request_does_not_count() -> None:
    """The agreement was renewed and ended again: what it covered since is to be destroyed too."""
    assert len(unconfirmed([request(), confirm(200), request(300)])) == 1
    assert unconfirmed([request(), confirm(200), request(300), confirm(400)]) == ()


def test_other_leaves_are_passed_over() -> None:
    """Registry changes, incidents, seeds."""
    assert unconfirmed([{"control": {"kind": "registry", "key": "party/x"}}, request(kind="seed-requested")]) == ()
    assert unconfirmed([{"v": 2}]) == ()


def asked_by_school(at: int = 100, **changes: Any) -> dict[str, Any]:
    """A leaf of what a school's SIS asked."""
    return request(at, **{"sender": SIS, "agreement_id": None} | changes)


ANSWERS: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "nobody confirmed": ([], ["c-1", "c-2", "c-3"]),
    "a school's, by its id": ([confirm(control_id="c-1")], ["c-2", "c-3"]),
    "a school's with an agreement, by its id": ([confirm(control_id="c-2")], ["c-1", "c-3"]),
    "the broker's, by its id": ([confirm(control_id="c-3")], ["c-1", "c-2"]),
    "the broker's, by the agreement": ([confirm(control_id="other")], ["c-1", "c-2"]),
    "the broker's, by the agreement, before it was asked": ([confirm(50, control_id="other")], ["c-1", "c-2", "c-3"]),
    "by another party": ([confirm(control_id="c-1", party=PARTY)], ["c-1", "c-2", "c-3"]),
    "about another school": ([confirm(control_id="c-1", school="99PB")], ["c-1", "c-2", "c-3"]),
    "all": ([confirm(control_id=f"c-{n}") for n in (1, 2, 3)], []),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_confirmation_answers_one_request_whoever_asked(name: str) -> None:
    """What a school asked about one pupil does not answer for all that an agreement covered, nor the other way round."""
    given, still_open = ANSWERS[name]
    asked = [
        asked_by_school(control_id="c-1"), asked_by_school(control_id="c-2", agreement_id="vwo-1"),
        request(control_id="c-3"),
    ]  # fmt: skip
    for leaves in ([*asked, *given], [*given, *asked]):  # of several partitions, in any order
        assert sorted(r.control_id for r in unconfirmed(leaves)) == still_open


def test_a_request_says_who_asked() -> None:
    """The broker, or the school's SIS; the agreement only where one was named."""
    found = unconfirmed([request(), asked_by_school(control_id="c-1")])
    assert [(r.sender, r.agreement, r.control_id) for r in found] == [("broker", "vwo-1", "c-100"), (SIS, None, "c-1")]


def test_what_a_school_asks_is_open_until_the_party_confirms_it() -> None:
    """Through the exchange: a school asks the portal, which answers by the id of the request."""
    world = make_world()
    asked = Event(
        kind="DESTROY_REQUEST", school="99PA", sector="PO", created=NOW, receiver=PORTAL, subject=Subject(),
        body=Control(reason_code="GIVEN_BY_MISTAKE", deadline=NOW.date()),
    )  # fmt: skip
    assert [d.code for d in world.send(SIS, asked)] == ["ok"]
    (found,) = unconfirmed(world.controls())
    assert isinstance(asked.body, Control)
    assert (found.party, found.school, found.agreement, found.deadline) == (PORTAL, "99PA", None, NOW.date())
    assert (found.control_id, found.sender) == (asked.body.control_id, SIS)
    answer = Event(
        kind="DESTROY_CONFIRM", school="99PA", sector="PO", created=NOW, receiver=SIS, subject=Subject(),
        body=Control(control_id=found.control_id, count=1),
    )  # fmt: skip
    assert [d.outcome for d in world.send(PORTAL, answer)] == [Outcome.DELIVERED]
    assert unconfirmed(world.controls()) == ()


def at(world: World, moment: datetime) -> World:
    """Let time pass, and the party's lane look at its duties."""
    world.now_ms = int(moment.timestamp() * 1000)
    world.run(PARTY)
    return world


def test_what_the_exchange_writes_is_what_is_read() -> None:
    """An agreement ends on 31 July: asked the day after, open until the party confirms to the school."""
    world = make_world()
    world.partition = 0
    at(at(world, ENDED - timedelta(days=3)), ENDED)
    found = [r for r in unconfirmed(world.controls()) if r.school == "99PA"]
    deadline = ENDED.date() + timedelta(days=DESTROY_DAYS)
    assert [(r.party, r.agreement, r.deadline) for r in found] == [(PARTY, "vwo-po-hulp", deadline)]
    done = Event(
        kind="DESTROY_CONFIRM", school="99PA", sector="PO", school_year="2027-2028", created=ENDED, receiver=SIS,
        subject=Subject(), body=Control(agreement_id="vwo-po-hulp", count=2),
    )  # fmt: skip
    assert {d.code for d in world.send(PARTY, done)} == {"ok"}
    assert [r for r in unconfirmed(world.controls()) if r.school == "99PA"] == []
