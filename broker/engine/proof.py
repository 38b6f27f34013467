"""What a lane was told to be committed and has not seen yet.

Kafka 4.3 may acknowledge a commit and write none of its markers (KAFKA-20734). Nobody can read such a transaction, and
the marker of the lane's next one decides over it as well, but only where both wrote: it would be half committed, and
a later take-over would abort the rest. If there is no next one, what was delivered is never seen. So, until the lane's
own record of a transaction can be read, each further transaction has its end marked in all those places, and one that
stays unseen is marked once more.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Set

from aiokafka import TopicPartition

from broker.engine.topicview import CompactedTail
from broker.exchange.model import LANE_STATE


class Unproven:
    """See the module.

    Args:
        states: the tail of `lane.state`.
        patience_s: how long an acknowledged commit may stay unseen.
    """

    def __init__(self, states: CompactedTail, patience_s: float) -> None:
        self._states, self.patience_s = states, patience_s
        self._places: set[TopicPartition] = set()
        self._head = 0, -1  # partition and offset of the lane's last record in `lane.state`
        self._since = 0.0  # monotonic seconds of the last acknowledgement

    @property
    def places(self) -> Set[TopicPartition]:
        """Where the end of the next transaction has to be marked as well."""
        if self._places and self._states.has_passed(*self._head):
            self._places.clear()
        return self._places

    def acknowledged(self, written: Mapping[tuple[str, int], int]) -> None:
        """A commit was acknowledged.

        Args:
            written: the offset of its last record, by topic and partition.
        """
        self._since = time.monotonic()
        for (topic, partition), offset in written.items():
            self._places.add(TopicPartition(topic, partition))
            if topic == LANE_STATE:
                self._head = partition, offset

    def in_doubt(self) -> bool:
        """Whether it was so long ago that it has to be marked once more."""
        return bool(self.places) and time.monotonic() >= self._since + self.patience_s

    def clear(self) -> None:
        """A take-over settles whatever there may be."""
        self._places.clear()
