"""Days and school years, as the schools count them: in Dutch time.

An agreement that ends on 31 July ends at midnight in the Netherlands, not one or two hours later.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

MS_PER_DAY: Final = 86_400_000
MS_PER_HOUR: Final = 3_600_000
EPOCH: Final = date(1970, 1, 1)
NETHERLANDS: Final = ZoneInfo("Europe/Amsterdam")


def day_of(ms: int) -> int:
    """The day in the Netherlands of a time in milliseconds, counted from 1970-01-01."""
    return (ms + _offset_ms(ms // MS_PER_HOUR)) // MS_PER_DAY


def date_of(day: int) -> date:
    """The date of a day since 1970-01-01."""
    return EPOCH + timedelta(days=day)


@lru_cache(maxsize=64)
def _offset_ms(hour: int) -> int:
    """How far ahead of UTC the clock is in an hour; summer time begins and ends on a whole one."""
    try:
        offset = datetime.fromtimestamp(hour * 3600, NETHERLANDS).utcoffset()
    except (OverflowError, ValueError, OSError):  # beyond the years 1 to 9999: no day that anything is held against
        return 0
    return 0 if offset is None else int(offset.total_seconds()) * 1000


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
