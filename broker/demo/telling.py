"""What a chapter of the demo tells, and what the chapters share."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from broker.client import Event, Subject, school_year_of
from broker.client.records import Body
from broker.demo import story
from broker.demo.chain import Chain, Told
from broker.demo.stage import Stage
from broker.registry import Agreement


@dataclass(slots=True)
class Counts:
    """A small table of numbers."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


@dataclass(slots=True)
class Chapter:
    """A moment of the school year.

    Attributes:
        said: sentences that come before the events.
        shown: events in full: who got what of it, by which id.
        focus: receivers that are printed; none: all. The JSON has all of them in any case.
        counts: numbers, where single events would be too many.
        ending: sentences that come after the events.
    """

    season: str
    title: str
    said: list[str] = field(default_factory=list)
    shown: list[Told] = field(default_factory=list)
    focus: tuple[str, ...] = ()
    counts: Counts | None = None
    ending: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Year:
    """The demo's school year, as far as it has come.

    Attributes:
        now: the time of all its events: the broker's clock is the real one, so the year passes in half a minute.
        class_lists: what the connector counted, by school and sector.
        people: pupils by school and sector, as their own administration knows them. staff: its teachers.
        usage: what the publisher sent of the schools' use and was delivered: its current objects.
        agreements: every version that held in this year, by `id/version`.
        mistakes: what went wrong on purpose, by event id.
    """

    stage: Stage
    chain: Chain
    now: datetime
    chapters: list[Chapter] = field(default_factory=list)
    class_lists: dict[str, dict[str, Any]] = field(default_factory=dict)
    people: dict[tuple[str, str], list[story.Person]] = field(default_factory=dict)
    staff: dict[tuple[str, str], list[story.Person]] = field(default_factory=dict)
    usage: list[Told] = field(default_factory=list)
    agreements: dict[str, Agreement] = field(default_factory=dict)
    mistakes: dict[str, str] = field(default_factory=dict)
    orders: dict[str, Told] = field(default_factory=dict)

    @property
    def today(self) -> date:
        """The day on which all of it happens."""
        return self.now.date()

    @property
    def school_year(self) -> str:
        """Such as 2026-2027: the one of today."""
        return school_year_of(self.today)

    def pupil(self, school: str, sector: str, number: int = 0) -> story.Person:
        """One of those on the class list who have an ECK iD."""
        return [person for person in self.people[school, sector] if person.eck_id][number]

    def event(self, kind: str, person: story.Person, body: Body, *, by: Subject | None = None) -> Event:
        """An event about a pupil.

        Args:
            by: how its sender calls him; by default with the administration's own id.
        """
        return Event(
            kind=kind, school=person.school, sector=person.sector, created=self.now, body=body,
            subject=person.local if by is None else by,
        )  # fmt: skip

    def about_nobody(self, kind: str, school: str, sector: str, body: Body, **more: Any) -> Event:
        """An event about no person."""
        return Event(kind=kind, school=school, sector=sector, created=self.now, body=body, **more)

    def days(self, number: int) -> date:
        """So many days from now."""
        return self.today + timedelta(days=number)
