"""What a sender answers to a SEED_REQUEST: what makes each object what it is now, and a statement at the end."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from broker.client import Control, Event, Licence, Roster, Usage, answer_seed
from broker.client.records_material import new_id
from broker.client.seed import seed_of
from broker.errors import ContractError
from tests.exchange.world import BOOK, NOW, PORTAL, SHOP

ONE, TWO = "0b9f4c7e-6f0a-4f4e-9c55-0d6b3f3c2a11", "0b9f4c7e-6f0a-4f4e-9c55-0d6b3f3c2a12"
ASKED = "7c6a2f0e-1111-4f4e-9c55-0d6b3f3c2a99"


def licence(entitlement_id: str = ONE, revision: int = 1, kind: str = "GRANT", **changes: Any) -> Event:
    """A licence of a school."""
    body = Licence(
        entitlement_id=entitlement_id, revision=revision, product_id=BOOK, entitlement_type="SCHOOL_INDIVIDUAL",
        start_date=date(2026, 8, 1),
    )  # fmt: skip
    values: dict[str, Any] = {"kind": kind, "school": "99PA", "sector": "PO", "created": NOW, "body": body}
    return Event(**values | changes)


def request(**changes: Any) -> Event:
    """A SEED_REQUEST as a sender gets it."""
    values: dict[str, Any] = {
        "control_id": ASKED, "reason_code": "CONNECTION_ACCEPTED", "connection_id": "po-licence-winkel-portaal",
        "service": "licence", "other_party": PORTAL,
    }  # fmt: skip
    body = Control(**values | changes)
    return Event(
        kind="SEED_REQUEST", school="99PA", sector="PO", sender="broker", receiver=SHOP, event_id=ASKED, body=body
    )


# ---- the answer


def test_the_answer_is_for_the_new_receiver_and_of_the_school_and_service_that_were_asked() -> None:
    """Another school's, another family's and older versions are not sent; the last event counts the others."""
    other = Event(
        kind="USE", school="99PA", sector="PO",
        body=Usage(entitlement_id=ONE, product_id=BOOK, usage_type="WEEKLY_USAGE", usage_date=date(2026, 9, 1)),
    )  # fmt: skip
    mine = [licence(), licence(revision=2, kind="CHANGE"), licence(TWO, sender=SHOP, receiver="somebody-else")]
    *seed, done = seed_of(request(), [*mine, licence(school="99VA", sector="VO"), other])
    assert [(e.body.entitlement_id, e.body.revision) for e in seed] == [(ONE, 2), (TWO, 1)]  # type: ignore[attr-defined]
    assert {(e.receiver, e.sender, e.correlation) for e in (*seed, done)} == {(PORTAL, None, ASKED)}
    assert [e.body for e in seed] == [mine[1].body, mine[2].body]
    assert (done.kind, done.school) == ("SEED_DONE", "99PA")
    assert done.body == Control(
        control_id=ASKED,
        reason_code="CONNECTION_ACCEPTED",
        connection_id="po-licence-winkel-portaal",
        service="licence",
        count=2,
    )


def test_a_blocked_licence_goes_with_its_grant_and_a_revoked_one_not_at_all() -> None:
    """Two events for the one, none for the other; the end counts events."""
    mine = [licence(), licence(revision=2, kind="BLOCK"), licence(TWO), licence(TWO, 2, "REVOKE")]
    *seed, done = seed_of(request(), mine)
    assert [(e.kind, e.body.entitlement_id) for e in seed] == [("GRANT", ONE), ("BLOCK", ONE)]  # type: ignore[attr-defined]
    assert done.body.count == 2  # type: ignore[attr-defined]


def test_a_link_for_a_location_or_for_products_asks_for_these_only() -> None:
    """What names the school as a whole is not covered by a link for one of its locations."""
    where = [licence(new_id(), school=school) for school in ("99VA", "99VA00", "99VA01")]
    assert [e.school for e in seed_of(replace(request(), school="99VA01"), where)] == ["99VA01", "99VA01"]
    assert [e.school for e in seed_of(replace(request(), school="99VA"), where)][:-1] == ["99VA", "99VA00", "99VA01"]
    other = replace(licence(TWO), body=replace(licence(TWO).body, product_id="9789493113862"))
    for products, things in (((BOOK,), [ONE]), (("9789493113862",), [TWO]), (None, [ONE, TWO])):
        *seed, _ = seed_of(request(products=products), [licence(), other])
        assert [e.body.entitlement_id for e in seed] == things  # type: ignore[attr-defined]
    group = Event(kind="GROUP", school="99PA", sector="PO", body=Roster(group_id="g7"))
    assert len(seed_of(request(service="roster", products=(BOOK,)), [group])) == 2


def test_what_others_said_is_not_passed_on() -> None:
    """An archive may hold the answers of others; each party tells its own."""
    assert [e.kind for e in seed_of(request(), [licence(sender="uitgeverij-delta"), licence(TWO, sender=SHOP)])] == [
        "GRANT", "SEED_DONE",
    ]  # fmt: skip


def test_nothing_to_seed_is_an_answer_too() -> None:
    """The receiver hears that it has all: nothing."""
    (done,) = seed_of(request(), [])
    assert done.body.count == 0  # type: ignore[attr-defined]


def test_the_same_answer_has_the_same_ids_and_another_answer_others() -> None:
    """Who answers twice sends nothing twice; who is asked again, for a link that came on anew, does."""
    first = [e.event_id for e in seed_of(request(), [licence(event_id=TWO)])]
    assert [e.event_id for e in seed_of(request(), [licence(event_id=TWO)])] == first
    again = replace(request(), event_id=ONE)
    assert not set(first) & {e.event_id for e in seed_of(again, [licence(event_id=TWO)])}
    more = [e.event_id for e in seed_of(request(), [licence(event_id=TWO), licence(TWO)])]
    assert more[0] == first[0]
    assert more[-1] != first[-1]
    assert TWO not in more


@pytest.mark.parametrize("wrong", [licence(), replace(request(), kind="STATUS"), request(other_party=None)])
async def test_what_is_no_request_is_not_answered(wrong: Event) -> None:
    """Nothing is sent."""
    with pytest.raises(ContractError) as caught:
        await answer_seed(None, wrong, [licence()])  # type: ignore[arg-type]
    assert caught.value.code == "kind.unknown"
