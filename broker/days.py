"""Days, as the schools count them: in Dutch time.

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


def date_at(moment: datetime) -> date:
    """The date in the Netherlands at a moment, which has a zone."""
    try:
        return moment.astimezone(NETHERLANDS).date()
    except OverflowError:  # the first or the last day that there is: no calendar goes on beyond it
        return moment.date()


@lru_cache(maxsize=64)
def _offset_ms(hour: int) -> int:
    """How far ahead of UTC the clock is in an hour; summer time begins and ends on a whole one."""
    try:
        offset = datetime.fromtimestamp(hour * 3600, NETHERLANDS).utcoffset()
    except (OverflowError, ValueError, OSError):  # beyond the years 1 to 9999: no day that anything is held against
        return 0
    return 0 if offset is None else int(offset.total_seconds()) * 1000
