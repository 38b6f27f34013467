"""Whether Kafka answers at all, and a line a minute as long as it does not.

The views ask without a pause, so their silence is Kafka's. It is no reason to end: a new process would not reach it
either. Lanes and views go on by themselves once it answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import structlog

from broker.engine.topicview import SILENCE_S, TopicTail

log = structlog.get_logger()

AWAY_S: Final = SILENCE_S + 5.0  # by then a view has tried with a new connection too
SAY_S: Final = 60.0
STANDSTILL_S: Final = 3.0  # between two looks: it was this process that stood still, and not Kafka


class Contact:
    """See the module.

    Args:
        address: of the cluster, for the log.
        tails: what asks it all the time.
        lanes: how many there are.

    Attributes:
        away: whether Kafka does not answer.
        away_at: monotonic seconds of the last look at which it did not.
    """

    def __init__(self, address: str, tails: Sequence[TopicTail], lanes: Callable[[], int]) -> None:
        self.away = False
        self.away_at = float("-inf")
        self._address, self._tails, self._lanes = address, tails, lanes
        self._looked = self._floor = time.monotonic()
        self._said = float("-inf")

    def look(self) -> None:
        """Take note; call it at least once in `STANDSTILL_S`."""
        now = time.monotonic()
        if now - self._looked > STANDSTILL_S:
            self._floor = now
        self._looked = now
        answered = max(self._floor, *(tail.answered_at for tail in self._tails))
        if now - answered <= AWAY_S:
            if self.away:
                log.info("kafka.back", address=self._address, text="Kafka answers again; views and lanes go on.")
            self.away, self._said = False, float("-inf")
            return
        self.away, self.away_at = True, now
        if now - self._said >= SAY_S:
            self._said = now
            self._say(now - answered)

    def _say(self, seconds: float) -> None:
        since = datetime.fromtimestamp(time.time() - seconds, UTC).isoformat(timespec="seconds")
        tried = ", ".join(tail.topic for tail in self._tails)
        log.warning(
            "kafka.away",
            code="kafka.unreachable",
            address=self._address,
            since=since,
            seconds=round(seconds),
            text=f"Kafka at {self._address} has not answered since {since} ({seconds:.0f} s). Tried again and again, "
            f"with new connections: to read {tried}, and to take over {self._lanes()} lanes. The worker goes on by "
            "itself once Kafka answers; check the network and the cluster.",
        )
