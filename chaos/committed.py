"""What of a partition is committed by now, though nobody can read it yet.

Who reads committed records is shown nothing behind the first transaction that is still open, such as that of a worker
that was just killed. What others committed behind it lies there all the same, with the markers of their commits. No
client shows markers, so the partition is read as Kafka stores it, batch by batch.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.control_record import COMMIT_MARKER, ControlRecord
from aiokafka.record.memory_records import MemoryRecords

Ranges = list[list[int]]  # of offsets, two each; the second is not included

_FETCH_BYTES: Final = 8 << 20
_READ_UNCOMMITTED: Final = 0


async def committed_behind(client: AIOKafkaClient, place: TopicPartition, first: int) -> Ranges:
    """Where committed records lie from an offset up to the present end.

    Args:
        client: started. first: where readers of committed records come to an end now (the last stable offset).

    Raises:
        KafkaError: the leader of the partition does not answer.
    """
    committed = Ranges()
    pending: defaultdict[int, Ranges] = defaultdict(Ranges)  # by producer
    position, end = first, await _end(client, place, first)
    while position < end:
        _, records = await _fetch(client, place, position)
        before = position
        while records.has_next():
            batch = records.next_batch()
            if batch.next_offset <= position:
                continue
            position = batch.next_offset
            if batch.is_control_batch:
                ended = pending.pop(batch.producer_id, [])
                committed += ended if ControlRecord.parse(next(batch).key) == COMMIT_MARKER else []
            elif batch.is_transactional:
                pending[batch.producer_id].append([batch.base_offset, batch.next_offset])
            else:
                committed.append([batch.base_offset, batch.next_offset])
        if position == before:
            raise TimeoutError(f"{place.topic}/{place.partition} can not be read at {position}")
    return sorted(committed)


async def _end(client: AIOKafkaClient, place: TopicPartition, position: int) -> int:
    end, _ = await _fetch(client, place, position)
    return end


async def _fetch(client: AIOKafkaClient, place: TopicPartition, offset: int) -> tuple[int, MemoryRecords]:
    """The end of the partition, and batches from an offset on."""
    await client.force_metadata_update()
    node = client.cluster.leader_for_partition(place)
    wanted = [(place.topic, [(place.partition, offset, _FETCH_BYTES)])]
    request = FetchRequest(100, 1, _FETCH_BYTES, _READ_UNCOMMITTED, wanted, rack_id="")
    answer = await client.send(node, request)
    ((_, ((_, code, end, *rest),)),) = answer.topics
    if code:
        raise for_code(code)(f"{place.topic}/{place.partition}")
    return end, MemoryRecords(rest[-1])
