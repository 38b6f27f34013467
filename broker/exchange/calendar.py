"""School years; they begin on 1 August, in Dutch time (`broker.days`)."""

from __future__ import annotations

from datetime import date
from functools import lru_cache

from broker.days import EPOCH, date_of


def school_year(day: int) -> str:
    """The school year of a day since 1970, such as 2026-2027; it begins on 1 August."""
    today = date_of(day)
    first = today.year if today.month >= 8 else today.year - 1
    return f"{first}-{first + 1}"


def first_day(year: str) -> int:
    """The first day of a school year, 1 August, in days since 1970."""
    return (date(int(year[:4]), 8, 1) - EPOCH).days


@lru_cache(maxsize=8)
def school_years(day: int) -> frozenset[str]:
    """Previous, current and next school year on a day since 1970."""
    first = int(school_year(day)[:4])
    return frozenset(f"{y}-{y + 1}" for y in (first - 1, first, first + 1))
