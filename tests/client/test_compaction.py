"""What a new receiver needs to know of each object, and what it need not hear."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.client import (
    AssessmentResult,
    Control,
    Event,
    Licence,
    Order,
    Roster,
    Subject,
    Usage,
    employee,
    pupil,
)
from broker.client.compaction import compacted
from broker.client.records_body import Body
from broker.schemas import catalogue

ONE = "0b9f4c7e-6f0a-4f4e-9c55-0d6b3f3c2a11"
BOOK = "8717927130834"
EMMA, NOAH, TEACHER = pupil(las_key="L0001"), pupil(las_key="L0002"), employee(medewerkernummer="E1")


def body(family: str, thing: str, revision: int) -> Body:
    """A body about an object; of its other fields nothing is asked here."""
    if family == "licence":
        return Licence(entitlement_id=thing, revision=revision, product_id=BOOK, entitlement_type="SCHOOL_INDIVIDUAL")
    if family == "order":
        return Order(order_id=thing, revision=revision, material="DIGITAL")
    if family == "result":
        return AssessmentResult(result_id=thing, revision=revision, product_id=BOOK)
    return Usage(
        usage_id=thing, revision=revision, entitlement_id=ONE, product_id=BOOK, usage_type="WEEKLY_USAGE",
        usage_date=date(2026, 9, 1),
    )  # fmt: skip


def story(family: str, kinds: Iterable[str], thing: str = ONE, first: int = 1, **envelope: Any) -> list[Event]:
    """What one sender says of one object, in order."""
    return [
        Event(**{"kind": kind, "school": "99PA", "sector": "PO", "body": body(family, thing, number)} | envelope)
        for number, kind in enumerate(kinds, first)
    ]


def told(events: Iterable[Event]) -> str:
    """The kinds that are left, in order."""
    return " ".join(event.kind for event in compacted(events))


# What is said of one object -> what a new receiver has to hear. By hand.
STORIES = {
    "licence": {
        "GRANT": "GRANT",
        "GRANT CHANGE CHANGE": "CHANGE",
        "GRANT BLOCK": "GRANT BLOCK",
        "GRANT CHANGE BLOCK": "CHANGE BLOCK",
        "GRANT BLOCK REINSTATE": "GRANT BLOCK REINSTATE",
        "GRANT BLOCK REINSTATE BLOCK": "GRANT BLOCK REINSTATE BLOCK",
        "GRANT BLOCK REINSTATE CHANGE": "CHANGE",
        "GRANT BLOCK REINSTATE CHANGE BLOCK": "CHANGE BLOCK",
        "GRANT CHANGE TRANSFER": "TRANSFER",
        "GRANT TRANSFER BLOCK": "TRANSFER BLOCK",
        "GRANT TRANSFER CHANGE": "CHANGE",
        "GRANT BLOCK REVOKE": "",
        "GRANT CHANGE EXPIRE": "",
        "GRANT TRANSFER EXPIRE": "",
        "CONFIRM": "CONFIRM",
        "CONFIRM CONFIRM ACTIVATE CONFIRM": "CONFIRM CONFIRM ACTIVATE CONFIRM",  # each answers something else
        "BLOCK": "BLOCK",  # the rest is not in the archive; what is there is told
    },
    "order": {
        "ORDER CHANGE CHANGE": "CHANGE",
        "ORDER DELIVERY_ADDRESS": "ORDER DELIVERY_ADDRESS",
        "ORDER DELIVERY_ADDRESS CHANGE": "DELIVERY_ADDRESS CHANGE",
        "ORDER DELIVERY_ADDRESS CHANGE DELIVERY_ADDRESS": "CHANGE DELIVERY_ADDRESS",
        "ORDER CHANGE CANCEL": "",
        "ORDER DELIVERY_ADDRESS CANCEL": "",
        "LINE LINE_CHANGE LINE_CHANGE": "LINE_CHANGE",
        "LINE CREDIT CREDIT": "LINE CREDIT CREDIT",
        "LINE CREDIT LINE_CANCEL": "",
        "LINE LINE_CANCEL CREDIT": "",
        "DECLINED BACKORDER CONFIRMED SHIPPED SHIPPED": "DECLINED BACKORDER CONFIRMED SHIPPED SHIPPED",
        "SHIPPED RETURNED CREDITED": "SHIPPED RETURNED CREDITED",
    },
    "result": {
        "RESULT CORRECTION CORRECTION": "CORRECTION",
        "RESULT CORRECTION RETRACT": "",
        "RECEIPT RECEIPT": "RECEIPT",
    },
    "usage": {
        "USE USE": "USE",
        "PROGRESS PROGRESS PROGRESS": "PROGRESS",
        "ACTIVATION ACTIVATION": "ACTIVATION",
        "USE USE RETRACT": "",
    },
}  # fmt: skip


@pytest.mark.parametrize(("family", "said"), [(family, said) for family in STORIES for said in STORIES[family]])
def test_what_makes_an_object_what_it_is_now_is_told_and_no_more(family: str, said: str) -> None:
    """From the newest event that carries the whole on; nothing of what ended. In whatever order the archive has it."""
    events, expected = story(family, said.split()), STORIES[family][said]
    assert told(events) == expected
    assert told(reversed(events)) == expected
    kept = compacted(events)
    assert [e.body.revision for e in kept] == sorted(e.body.revision for e in kept)  # type: ignore[attr-defined]


@pytest.mark.parametrize("family", STORIES)
def test_the_stories_tell_of_every_kind(family: str) -> None:
    """Whoever adds a kind says here what becomes of it."""
    said = {kind for one in STORIES[family] for kind in one.split()}
    assert said == set(catalogue().family(family).kinds)


def test_what_is_superseded_says_nothing_that_is_not_said_again() -> None:
    """Each field that the earlier kind may fill, the later may fill too; but for the end of a block that was lifted."""
    lost = {
        (family.name, kind.name, earlier, name)
        for family in catalogue().families.values()
        for kind in family.kinds.values()
        for earlier in kind.supersedes
        for name in set(kind.unused) - set(family.kinds[earlier].unused)
    }
    assert lost == {("licence", "CHANGE", "BLOCK", "end_date"), ("licence", "TRANSFER", "BLOCK", "end_date")}


@pytest.mark.parametrize("family", ["licence", "order", "result", "usage"])
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_what_is_left_of_a_right_story_is_a_right_story(family: str, data: st.DataObject) -> None:
    """Any walk over the kinds: what is told can be told in that order, once its first is known; it ends as the story
    does, or the object ended."""
    kinds = catalogue().family(family).kinds
    said = [data.draw(st.sampled_from([name for name, kind in kinds.items() if kind.first]))]
    while (following := [name for name, kind in kinds.items() if said[-1] in kind.after]) and len(said) < 12:
        said.append(data.draw(st.sampled_from(following)))
    left = told(story(family, said)).split()
    assert all(before in kinds[after].after for before, after in pairwise(left))
    ended = any(kinds[kind].ends for kind in said)
    assert (left == []) == ended
    assert ended or left[-1] == said[-1]


# ---- which object


def test_objects_come_in_the_order_in_which_they_first_came() -> None:
    """And all of one object together."""
    first, second = story("licence", ["GRANT", "CHANGE", "BLOCK"]), story("licence", ["GRANT"], str(uuid4()))
    assert compacted([first[0], *second, *first[1:]]) == [*first[1:], *second]


def test_of_two_with_one_revision_the_later_stays() -> None:
    """It was said last."""
    first, second = story("licence", ["GRANT"]) + story("licence", ["GRANT"])
    assert compacted([first, second]) == [second]
    blocked = story("licence", ["GRANT", "BLOCK"])
    again = replace(blocked[1], event_id=str(uuid4()))
    assert compacted([*blocked, again]) == [blocked[0], again]


def test_one_id_at_two_schools_or_in_two_families_is_two_objects() -> None:
    """The broker holds an object's order against what was said at that school, in that family."""
    events = [
        *story("licence", ["GRANT"]),
        *story("licence", ["CHANGE"], school="99VA", sector="VO", first=2),
        *story("order", ["ORDER"]),
    ]
    assert compacted(events) == events


def test_one_object_of_a_school_and_of_its_location_is_one() -> None:
    """And a uuid is the same in capitals."""
    events = story("licence", ["GRANT"], school="99VA")
    assert told([*events, *story("licence", ["CHANGE"], ONE.upper(), 2, school="99VA01")]) == "CHANGE"


def test_events_of_a_kind_that_says_nothing_again_all_stay() -> None:
    """Whoever is told of a status twice may be told of both."""
    said = [Event(kind="STATUS", school="99PA", sector="PO", body=Control(control_id=ONE, code=c)) for c in ("a", "b")]
    assert compacted(said) == said


# ---- roster: no id of its own, no revisions


def roster(kind: str, subject: Subject | None = None, school: str = "99PA", **fields: Any) -> Event:
    """An event about a school's groups."""
    return Event(kind=kind, school=school, sector="PO", subject=subject or Subject(), body=Roster(**fields))


def test_of_each_group_its_newest_name_is_told() -> None:
    """A group is its id."""
    old, other, new = (roster("GROUP", group_id=g, group_name=n) for g, n in (("g7", "7"), ("g8", "8"), ("g7", "7a")))
    assert compacted([old, other, new]) == [new, other]


def test_of_each_pupil_the_newest_membership_is_told() -> None:
    """It names all groups that somebody is in; what it says for one product only stands beside it."""
    first, noah, second = (roster("MEMBERSHIP", who, group_ids=("g7",)) for who in (EMMA, NOAH, EMMA))
    test_only = roster("MEMBERSHIP", EMMA, group_ids=("g7",), product_id=BOOK)
    assert compacted([first, noah, test_only, second]) == [second, noah, test_only]


def test_of_each_teacher_every_group_and_subject_is_told_once() -> None:
    """One who teaches two subjects to one group teaches two."""
    taught = [
        roster("SUBJECT_TAUGHT", TEACHER, group_id=g, school_subject_id=s)
        for g, s in (("g7", "NE"), ("g7", "RE"), ("g8", "NE"), ("g7", "NE"))
    ]
    assert compacted(taught) == [taught[3], taught[1], taught[2]]


def test_of_who_left_nothing_is_told_until_he_comes_back() -> None:
    """No membership, no teaching, no departure; his groups stay, and so do the others."""
    group, emma, noah = roster("GROUP", group_id="g7"), roster("MEMBERSHIP", EMMA, group_ids=("g7",)), roster(
        "MEMBERSHIP", NOAH, group_ids=("g7",)
    )  # fmt: skip
    teaches = roster("SUBJECT_TAUGHT", TEACHER, group_id="g7")
    gone = [roster("LEAVE", EMMA), roster("LEAVE", TEACHER)]
    assert compacted([group, emma, noah, teaches, *gone]) == [group, noah]
    back = roster("MEMBERSHIP", EMMA, group_ids=("g8",))
    assert compacted([group, emma, *gone, back]) == [group, back]


def test_a_pupil_is_one_by_any_of_his_ids() -> None:
    """The administration may know him by one id, then by two, then by the other; elsewhere the same id is another's."""
    by_key, by_both = EMMA, pupil(las_key="L0001", eck_id="https://ketenid.nl/pilot/" + "e1" * 64)
    by_eck = Subject("PUPIL", by_both.eck_id)
    events = [roster("MEMBERSHIP", who, group_ids=("g7",)) for who in (by_key, by_eck, by_both, by_key)]
    assert compacted(events) == [events[3]]
    elsewhere = roster("MEMBERSHIP", EMMA, "99PB", group_ids=("g7",))
    an_employee = roster("LEAVE", Subject("EMPLOYEE", None, EMMA.user_ids))
    assert compacted([events[0], elsewhere, an_employee]) == [events[0], elsewhere]
