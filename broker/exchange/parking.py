"""Events that wait for an identity, as one batch sees them: what waited before, and what it adds and releases.

Nothing here walks or copies all that waits, but `keys`: a full lane must not make each of its batches dear.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from broker.exchange.check import is_random
from broker.exchange.model import InputRecord, Parked, StateDelta
from broker.exchange.state import LaneState
from broker.limits import Limits
from broker.wire import DATA_KEY, REPLAY_OF, TRACEPARENT

ALLOWED_IN = (DATA_KEY, TRACEPARENT, REPLAY_OF)


class Parking:
    """The lane's parked events; changes go into the delta, the state stays as it is. Its length: how many wait."""

    def __init__(self, state: LaneState, delta: StateDelta, limits: Limits) -> None:
        self._state, self._delta, self._limits = state, delta, limits
        self._first_new = state.next_parked
        self._count, self._bytes = len(state.parked), state.parked_bytes
        self._changed: dict[bytes, list[int]] = {}  # numbers of the keys that this batch adds to or takes from

    def __len__(self) -> int:
        return self._count

    def numbers(self, key: bytes) -> Sequence[int]:
        """The events that wait for a vault key, in order."""
        changed = self._changed.get(key)
        return self._state.waiting.get(key, ()) if changed is None else changed

    def waits(self, key: bytes) -> bool:
        """Whether any event waits for this vault key."""
        return bool(self.numbers(key))

    def keys(self) -> Iterator[bytes]:
        """All vault keys that events wait for."""
        return (key for key in self._state.waiting.keys() | self._changed.keys() if self.waits(key))

    def event(self, number: int) -> Parked | None:
        """A parked event; None if it does not wait any more."""
        if number in self._delta.parked:
            return self._delta.parked[number]
        return None if number >= self._first_new else self._state.parked.get(number)

    def expired(self, day: int) -> list[Parked]:
        """Those of before this batch whose last day is over, the oldest first."""
        numbers = sorted(n for last, of_day in self._state.last_days.items() if last < day for n in of_day)
        return [event for number in numbers if (event := self.event(number)) is not None]

    def has_room(self, record: InputRecord, key: bytes) -> bool:
        """Whether one more event may wait for this key."""
        limits, size = self._limits, len(record.value or b"")
        return (
            len(self) < limits.parked_per_lane
            and len(self.numbers(key)) < limits.parked_per_subject
            and self._bytes + size <= limits.parked_bytes_per_lane
        )

    def add(self, record: InputRecord, key: bytes, expires: int) -> None:
        """Park an event until its last day; `has_room` was asked."""
        # A trace context that is none would be a text in clear.
        allowed = [(name, value) for name, value in record.headers if name in ALLOWED_IN]
        headers = tuple((name, value) for name, value in allowed if name != TRACEPARENT or is_random(name, value))
        kept = InputRecord(
            record.topic, record.partition, record.offset, record.timestamp, record.key, record.value, headers
        )
        parked = Parked(self._delta.next_parked, key, expires, kept)
        self._delta.next_parked += 1
        self._delta.parked[parked.number] = parked
        self._numbers_to_change(key).append(parked.number)
        self._count += 1
        self._bytes += len(record.value or b"")

    def remove(self, parked: Parked) -> None:
        """It waits no more."""
        self._numbers_to_change(parked.waits_for).remove(parked.number)
        self._count -= 1
        self._bytes -= len(parked.record.value or b"")
        if parked.number < self._first_new:
            self._delta.parked[parked.number] = None
        else:  # parked and released within this batch
            del self._delta.parked[parked.number]

    def _numbers_to_change(self, key: bytes) -> list[int]:
        if key not in self._changed:
            self._changed[key] = list(self._state.waiting.get(key, ()))
        return self._changed[key]
