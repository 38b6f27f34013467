"""Events that wait for an identity, as one batch sees them: what waited before, and what it adds and releases."""

from __future__ import annotations

from broker.exchange.check import is_random
from broker.exchange.model import InputRecord, Parked, StateDelta
from broker.exchange.state import LaneState
from broker.limits import Limits
from broker.wire import DATA_KEY, TRACEPARENT

ALLOWED_IN = (DATA_KEY, TRACEPARENT)


class Parking:
    """The lane's parked events; changes go into the delta, the state stays as it is.

    Attributes:
        parked: by number. waiting: numbers by the vault key they wait for, in order.
    """

    def __init__(self, state: LaneState, delta: StateDelta, limits: Limits) -> None:
        self._first_new, self._delta, self._limits = state.next_parked, delta, limits
        self.parked: dict[int, Parked] = dict(state.parked)
        self.waiting: dict[bytes, list[int]] = {key: list(numbers) for key, numbers in state.waiting.items()}
        self._bytes: int | None = None  # counted when the first event of the batch is parked

    def has_room(self, record: InputRecord, key: bytes) -> bool:
        """Whether one more event may wait for this key."""
        limits, size = self._limits, len(record.value or b"")
        if self._bytes is None:
            self._bytes = sum(len(event.record.value or b"") for event in self.parked.values())
        return (
            len(self.parked) < limits.parked_per_lane
            and len(self.waiting.get(key, ())) < limits.parked_per_subject
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
        self._bytes = (self._bytes or 0) + len(record.value or b"")
        self._delta.next_parked += 1
        self._delta.parked[parked.number] = parked
        self.parked[parked.number] = parked
        self.waiting.setdefault(key, []).append(parked.number)

    def remove(self, parked: Parked) -> None:
        """It waits no more."""
        del self.parked[parked.number]
        if self._bytes is not None:
            self._bytes -= len(parked.record.value or b"")
        numbers = self.waiting[parked.waits_for]
        numbers.remove(parked.number)
        if not numbers:
            del self.waiting[parked.waits_for]
        if parked.number < self._first_new:
            self._delta.parked[parked.number] = None
        else:  # parked and released within this batch
            del self._delta.parked[parked.number]
