"""Days are days in the Netherlands: their midnight is at 22:00 UTC in summer and at 23:00 in winter."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.days import MS_PER_DAY, date_at, date_of, day_of

# Summer time begins on 29 March 2026 and ends on 25 October 2026, both at 01:00 UTC.
MIDNIGHTS = {
    "2026-07-31T22:00:00+00:00": date(2026, 8, 1),
    "2026-11-24T23:00:00+00:00": date(2026, 11, 25),
    "2026-03-28T23:00:00+00:00": date(2026, 3, 29),
    "2026-03-29T22:00:00+00:00": date(2026, 3, 30),
    "2026-10-24T22:00:00+00:00": date(2026, 10, 25),
    "2026-10-25T23:00:00+00:00": date(2026, 10, 26),
}


def ms(moment: datetime) -> int:
    """Milliseconds since 1970."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@pytest.mark.parametrize("written", MIDNIGHTS)
def test_a_day_begins_at_midnight_in_the_netherlands(written: str) -> None:
    """And not a moment before, however the moment is written."""
    moment, day = datetime.fromisoformat(written), MIDNIGHTS[written]
    before, yesterday = moment - timedelta(milliseconds=1), day - timedelta(days=1)
    assert (date_of(day_of(ms(moment))), date_of(day_of(ms(before)))) == (day, yesterday)
    for hours in (-11, 0, 2, 14):
        zone = timezone(timedelta(hours=hours))
        assert (date_at(moment.astimezone(zone)), date_at(before.astimezone(zone))) == (day, yesterday)


@given(st.integers(0, 7_000_000_000_000))
@example(ms(datetime(2026, 10, 25, 0, 59, 59, 999_000, UTC)))
@example(ms(datetime(2026, 10, 25, 1, tzinfo=UTC)))
def test_a_moment_and_its_milliseconds_have_one_day(milliseconds: int) -> None:
    """Records hold the one, the registry's entries the other."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    assert date_at(moment) == date_of(day_of(milliseconds))


def test_the_ends_of_the_calendar_have_a_day_too() -> None:
    """An entry of the registry with such a time must not stop a worker."""
    last = datetime(9999, 12, 31, 23, 30, tzinfo=UTC)
    first = datetime(1, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=9)))
    assert (date_at(last), date_at(first)) == (date(9999, 12, 31), date(1, 1, 1))
    assert day_of(ms(datetime(9999, 12, 31, 12, tzinfo=UTC)) + 400 * MS_PER_DAY) > 0
