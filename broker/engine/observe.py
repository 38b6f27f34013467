"""What the engine tells to whom it may concern: metrics in production, a list in tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker.exchange.model import Decision


@dataclass(frozen=True, slots=True)
class BatchReport:
    """A batch that was committed.

    Args:
        process_s, transaction_s: seconds in the pure function, and in Kafka.
        arrived_ms: when Kafka took each of the records; milliseconds since 1970.
    """

    lane: str
    records: int
    decisions: Sequence[Decision]
    process_s: float
    transaction_s: float
    arrived_ms: Sequence[int] = ()


class Observer:
    """Receives what happens in the lanes; does nothing with it. Called in the event loop: must not wait."""

    def committed(self, report: BatchReport) -> None:
        """A batch was committed."""

    def took_over(self, lane: str, seconds: float) -> None:
        """A lane fenced its last owner and read its state."""

    def failed(self, lane: str, kind: str) -> None:
        """A lane goes back to its take-over; `kind` is the type of the exception."""

    def recomputed(self, lane: str) -> None:
        """A batch was decided again, since the registry changed before its commit."""

    def lost(self, lane: str, records: int) -> None:
        """Input was deleted before it was read."""

    def rescued(self, lane: str) -> None:
        """A record that the client library cannot parse was read another way."""
