"""Removes input that was decided over, and nothing else (R28).

What was decided is what a lane's own record on `lane.state`, read back as committed, says: not what a worker believes,
nor the group's offsets. This runs apart from the workers, under a user of its own: Kafka's right to remove records is
the right to delete the topic as well, and who opens what parties send must not have it (docs/adr/0010).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import structlog
from aiokafka import ConsumerRecord, TopicPartition

from broker.engine import Clients, CompactedTail, TopicCounts, read_to_end
from broker.exchange.model import LANE_STATE
from broker.schemas import catalogue

log = structlog.get_logger("broker.removal")

INPUTS: Final = r"^in\..+"
READ_S: Final = 600.0  # at most, for `lane.state`


class Extent(NamedTuple):
    """What is known of one input partition.

    Args:
        position: the next offset of its lane; None if no lane ever committed anything there.
        first: of the records that exist. end: behind the last one that can be read.
        young: the first record that is too young to be removed; `end` if there is none.
    """

    position: int | None
    first: int
    end: int
    young: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What can be removed.

    Args:
        before: for each partition the offset of the first record that stays.
        odd: partitions that end before their lane's position: another topic under the same name, or one that lost its
            end. Nothing is removed there: the lane will read it from its beginning.
    """

    before: Mapping[TopicPartition, int]
    odd: frozenset[TopicPartition]

    @property
    def partitions(self) -> int:
        """How many have something to remove."""
        return len(self.before)


def removable(extent: Extent) -> int | None:
    """Before which offset records may be removed; None: none may, or there are none."""
    if extent.position is None or extent.position > extent.end:
        return None
    before = min(extent.position, extent.young)
    return before if before > extent.first else None


async def plan_removal(clients: Clients, group: str, keep_s: float) -> Plan:
    """Look at all input topics that this user may see.

    Args:
        group: of the workers; the first part of their lanes' names.
        keep_s: how long a record stays at least, decided or not: time to look into what went wrong.
    """
    topics = TopicCounts(clients)
    try:
        await topics.require([LANE_STATE])
        names = topics.matching(INPUTS)
        places = [TopicPartition(name, number) for name in names for number in range(topics.partitions(name))]
    finally:
        await topics.close()
    positions = await lane_positions(clients, group, places)
    extents = await _extents(clients, positions, keep_s)
    odd = frozenset(p for p, e in extents.items() if e.position is not None and e.position > e.end)
    for place in sorted(odd):
        log.warning("removal.odd", code="input.truncated", topic=place.topic, partition=place.partition)
    before = {place: offset for place, extent in extents.items() if (offset := removable(extent)) is not None}
    return Plan(before, odd)


class _Heads(CompactedTail):
    """Where the lanes stand, and none of what else they keep: that can be hundreds of megabytes."""

    async def _apply(self, records: Sequence[ConsumerRecord], read: Mapping[int, int]) -> None:
        await super()._apply([record for record in records if b"#" not in (record.key or b"")], read)


async def lane_positions(clients: Clients, group: str, places: list[TopicPartition]) -> dict[TopicPartition, int]:
    """Where the lanes stand, of those that ever committed anything."""
    tail = _Heads(clients, LANE_STATE)
    await read_to_end(tail, READ_S)
    found = {}
    for place in places:
        lane = f"{group}.{place.topic}.{place.partition}"
        head = tail.of(lane).get(lane)
        if head is not None:
            found[place] = int(catalogue()["lane.v1"].decode(head)["next_offset"])
    return found


async def _extents(
    clients: Clients, positions: Mapping[TopicPartition, int], keep_s: float
) -> dict[TopicPartition, Extent]:
    if not positions:
        return {}
    consumer = clients.consumer(isolation_level="read_committed", enable_auto_commit=False)
    await consumer.start()
    try:
        places = list(positions)
        first, end = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
        since = int((time.time() - keep_s) * 1000)
        found = await consumer.offsets_for_times(dict.fromkeys(places, since))
    finally:
        await consumer.stop()
    extents = {}
    for place, position in positions.items():
        at = found.get(place)
        extents[place] = Extent(position, first[place], end[place], end[place] if at is None else at.offset)
    return extents
