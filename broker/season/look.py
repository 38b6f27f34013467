"""What all checks look at: one school, in one school year, on one day."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cached_property

from broker.registry import Agreement, ConnectionSide, Party, School
from broker.season.calendar import SchoolYear
from broker.season.entries import Entries
from broker.season.facts import Facts
from broker.season.people import PupilCounts


@dataclass(frozen=True)
class Look:
    """One school.

    Args:
        day: today.
    """

    entries: Entries
    school: School
    day: date
    year: SchoolYear
    facts: Facts

    @property
    def start(self) -> date:
        """The first day that counts: of the school year, or today when that has begun."""
        return max(self.day, self.year.first_day)

    @property
    def end(self) -> date:
        """The school year's last day."""
        return self.year.last_day

    @cached_property
    def on(self) -> tuple[tuple[ConnectionSide, ConnectionSide], ...]:
        """The links that are on, both sides of each."""
        return tuple(self.entries.on(self.school))

    @cached_property
    def agreements(self) -> tuple[tuple[Agreement, tuple[str | None, ...]], ...]:
        """The agreements about the school that still hold today or later, with where in it they hold."""
        return tuple(
            (agreement, places)
            for agreement, places in self.entries.agreements_for(self.school)
            if agreement.valid_until >= self.day and agreement.valid_from <= self.end
        )

    @cached_property
    def in_year(self) -> tuple[Agreement, ...]:
        """Those of them that hold in the school year."""
        return tuple(agreement for agreement, _ in self.agreements if agreement.valid_until >= self.start)

    @cached_property
    def receivers(self) -> tuple[Party, ...]:
        """Who is to receive something in the school year."""
        return self._parties([*(sides[0].receiver for sides in self.on), *(a.party for a in self.in_year)])

    @cached_property
    def everybody(self) -> tuple[Party, ...]:
        """Receivers, senders, and the school's SIS."""
        senders = [sides[0].sender for sides in self.on]
        return self._parties([*(party.id for party in self.receivers), *senders, self.school.sis])

    @cached_property
    def pupils(self) -> dict[str, PupilCounts] | None:
        """The school's pupils by sector, former BRINs with them; None: nobody counted."""
        if self.facts.pupils is None:
            return None
        found: dict[str, PupilCounts] = {}
        for (school, sector), counts in sorted(self.facts.pupils.items()):
            if school in (self.school.id, *self.school.formerly):
                found[sector] = found.get(sector, PupilCounts()) + counts
        return found

    def _parties(self, names: Iterable[str]) -> tuple[Party, ...]:
        def known() -> Iterator[Party]:
            for name in sorted(set(names)):
                party = self.entries.registry.party(name)
                if party is not None:
                    yield party

        return tuple(known())


def listed(names: Iterable[str], most: int = 4) -> str:
    """Names in a sentence, not too many of them."""
    shown = list(dict.fromkeys(names))
    rest = len(shown) - most
    return ", ".join(shown) if rest <= 0 else f"{', '.join(shown[:most])} and {rest} more"
