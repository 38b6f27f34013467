"""School years: they begin on 1 August and end on 31 July (OSO; domain, section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Self

from broker.errors import ConfigError
from broker.identity.formats import is_school_year


@dataclass(frozen=True, slots=True, order=True)
class SchoolYear:
    """One school year.

    Args:
        first: calendar year in which it begins.
    """

    first: int

    @classmethod
    def of(cls, day: date) -> Self:
        """The one that a day is in."""
        return cls(day.year if day.month >= 8 else day.year - 1)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `2026-2027`.

        Raises:
            ConfigError: `season.year`.
        """
        if not is_school_year(text):
            raise ConfigError("a school year is written as 2026-2027: two years that follow", code="season.year")
        return cls(int(text[:4]))

    @property
    def next(self) -> SchoolYear:
        """The one after it."""
        return SchoolYear(self.first + 1)

    @property
    def first_day(self) -> date:
        """1 August."""
        return date(self.first, 8, 1)

    @property
    def last_day(self) -> date:
        """31 July."""
        return date(self.first + 1, 7, 31)

    def __str__(self) -> str:
        return f"{self.first}-{self.first + 1}"
