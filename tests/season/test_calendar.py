"""The calendar: school years at their boundaries, and what a rollover moves and what it leaves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from broker.client import Identity, Roster, Subject
from broker.errors import ConfigError
from broker.exchange import Outcome
from broker.season import SchoolYear
from tests.exchange.world import DELTA, EMMA, PORTAL, SIS, World, enrolment, event, make_world

AMSTERDAM = ZoneInfo("Europe/Amsterdam")
EVENING, MORNING = datetime(2027, 7, 31, 23, 59, 59, tzinfo=AMSTERDAM), datetime(2027, 8, 1, tzinfo=AMSTERDAM)


@pytest.mark.parametrize(
    ("day", "name"),
    [(date(2027, 7, 31), "2026-2027"), (date(2027, 8, 1), "2027-2028"), (date(2028, 1, 1), "2027-2028")],
)
def test_a_school_year_begins_on_the_first_of_august(day: date, name: str) -> None:
    """And it knows its first and last day, and the one after it."""
    year = SchoolYear.of(day)
    assert str(year) == name
    assert year.first_day <= day <= year.last_day
    assert year.last_day + timedelta(days=1) == year.next.first_day
    assert SchoolYear.parse(name) == year


@pytest.mark.parametrize("text", ["2026", "2026-2028", "2026/2027", "", "2026-2027 "])
def test_what_is_no_school_year_is_refused(text: str) -> None:
    """The second year follows the first."""
    with pytest.raises(ConfigError, match="2026-2027"):
        SchoolYear.parse(text)


def at(moment: datetime) -> World:
    """A school with Emma, at this moment."""
    world = make_world()
    world.now_ms = int(moment.timestamp() * 1000)
    world.send(SIS, enrolment(created=moment))
    return world


def accepted(moment: datetime, year: str) -> bool:
    """Whether an event of this school year is taken in; else it is refused for nothing but its year."""
    answers = {d.code for d in at(moment).send(DELTA, event(created=moment, school_year=year))}
    assert answers in ({"ok"}, {"school_year.form"})
    return answers == {"ok"}


@pytest.mark.parametrize(
    ("moment", "first_years"),
    [(EVENING, (2025, 2026, 2027)), (MORNING, (2026, 2027, 2028))],
    ids=["31 July 23:59:59", "1 August 00:00"],
)
def test_previous_current_and_next_school_year_are_accepted_and_no_other(
    moment: datetime, first_years: tuple[int, ...]
) -> None:
    """On the last second of a school year and on the first of the next, in Dutch time."""
    for first in range(first_years[0] - 1, first_years[-1] + 2):
        assert accepted(moment, f"{first}-{first + 1}") == (first in first_years)


@pytest.mark.parametrize(
    "moment",
    [datetime(2027, 8, 1, 0, 30, tzinfo=AMSTERDAM), datetime(2027, 7, 31, 23, 30, tzinfo=AMSTERDAM)],
    ids=["after midnight in the Netherlands", "before"],
)
def test_in_the_night_of_the_rollover_both_school_years_are_accepted(moment: datetime) -> None:
    """Three years are accepted, so around midnight nobody loses the old or the new one."""
    assert accepted(moment, "2026-2027")
    assert accepted(moment, "2027-2028")


@pytest.mark.parametrize(("year", "taken"), [("2025-2026", False), ("2028-2029", True)])
def test_the_school_year_changes_at_dutch_midnight(year: str, taken: bool) -> None:
    """Half past midnight on 1 August: two years ago is over, and the year after next can be spoken of."""
    assert accepted(datetime(2027, 8, 1, 0, 30, tzinfo=AMSTERDAM), year) is taken


def test_a_rollover_moves_groups_and_not_identities() -> None:
    """Emma goes from 6A to 7B: new groups under the same ECK iD, the same record key, and the same vault keys."""
    july, august = datetime(2027, 7, 9, 9, tzinfo=UTC), datetime(2027, 8, 23, 9, tzinfo=UTC)
    world = at(july)
    before = set(world.vault)
    for moment, group, year_group in ((july, "6a", "6"), (august, "7b", "7")):
        world.now_ms = int(moment.timestamp() * 1000)
        class_list = replace(
            enrolment(created=moment), body=Identity(group_ids=(group,), year_group=year_group, under_16=True)
        )
        membership = event(
            kind="MEMBERSHIP", created=moment, subject=Subject("PUPIL", None, (("LAS_KEY", "L0001"),)),
            body=Roster(group_ids=(group,), year_group=year_group), school_year=str(SchoolYear.of(moment.date())),
        )  # fmt: skip
        decisions = world.send(SIS, class_list, membership)
        assert {d.outcome for d in decisions if d.receiver in ("vault", PORTAL)} == {Outcome.DELIVERED}
    old, new = world.delivered(PORTAL, "roster")
    assert (old.body["group_ids"], new.body["group_ids"]) == (["6a"], ["7b"])
    assert (old.envelope["school_year"], new.envelope["school_year"]) == ("2026-2027", "2027-2028")
    assert old.subject["eck_id"] == new.subject["eck_id"] == EMMA
    assert old.record.key == new.record.key
    assert set(world.vault) == before


def test_a_result_of_last_year_still_finds_its_pupil_after_the_rollover() -> None:
    """Usage of the last week of school, told in September under last year's name."""
    world = at(datetime(2027, 7, 9, 9, tzinfo=UTC))
    september = datetime(2027, 9, 1, 9, tzinfo=UTC)
    world.now_ms = int(september.timestamp() * 1000)
    assert {d.code for d in world.send(DELTA, event(created=september, school_year="2026-2027"))} == {"ok"}
    assert world.delivered(PORTAL)[0].subject["eck_id"] == EMMA
