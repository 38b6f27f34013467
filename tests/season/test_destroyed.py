"""Requests to destroy, as the exchange writes them on the control log, and their confirmations."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from broker.client import Control, Event, Subject
from broker.exchange.duties import DESTROY_DAYS
from broker.season import DestroyRequest, unconfirmed
from tests.exchange.world import PORTAL, SIS, World, make_world

PARTY = "hulp-extern"
ENDED = datetime(2027, 8, 2, 9, tzinfo=UTC)


def request(at: int = 100, **changes: Any) -> dict[str, Any]:
    """A leaf of the control log."""
    said = {
        "kind": "destroy-requested",
        "party": PORTAL,
        "school": "99PA",
        "agreement_id": "vwo-1",
        "deadline": 20_000,
        "at": at,
    }
    return {"v": 1, "control": said | changes}


def confirm(at: int = 200, **changes: Any) -> dict[str, Any]:
    """What the party answered."""
    said = {
        "kind": "destroy-confirmed",
        "party": PORTAL,
        "school": "99PA",
        "agreement_id": "vwo-1",
        "count": 3,
        "at": at,
    }
    return {"v": 1, "control": {name: value for name, value in (said | changes).items() if value is not None}}


def test_a_request_is_open_until_it_is_confirmed() -> None:
    """Its deadline is a day; the log counts days since 1970."""
    assert unconfirmed([request()]) == (DestroyRequest(PORTAL, "99PA", "vwo-1", date(2024, 10, 4), 100),)
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
    asked, answer = request(event="c-1"), {"agreement_id": None, "control_id": "c-1"}
    assert unconfirmed([asked, confirm(**answer)]) == ()
    assert len(unconfirmed([asked, confirm(**answer | {"control_id": "c-2"})])) == 1
    assert len(unconfirmed([asked, confirm(**answer, party="uitgeverij-delta")])) == 1


def test_a_confirmation_from_before_the_request_does_not_count() -> None:
    """The agreement was renewed and ended again: what it covered since is to be destroyed too."""
    assert len(unconfirmed([request(), confirm(200), request(300)])) == 1
    assert unconfirmed([request(), confirm(200), request(300), confirm(400)]) == ()


def test_other_leaves_are_passed_over() -> None:
    """Registry changes, incidents, seeds, and requests that are not about an agreement."""
    others = [{"control": {"kind": "registry", "key": "party/x"}}, request(kind="seed-requested"), {"v": 2}]
    assert (
        unconfirmed([*others, {"control": {"kind": "destroy-requested", "party": PORTAL, "school": "99PA", "at": 1}}])
        == ()
    )


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
