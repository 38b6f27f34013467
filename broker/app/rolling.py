"""Has Kafka close the segments of `vault.identity` and `parked`, also when nobody writes to them.

Kafka compacts no segment that is still written to, and closes one only when the next record comes (KAFKA-20664). So
what was erased would stay in a partition until somebody else there changes. Each worker therefore writes a record to
each partition every hour: a tombstone under a key that nobody has, which takes nothing from any reader.

It is no part of a transaction: one that is left open, by a kill or by Kafka itself (KAFKA-20734), would hold back all
views of the vault, and with them the lanes. Several workers do no harm, since the record is always the same.

How long what was erased stays, with `max.compaction.lag.ms` and `delete.retention.ms` of the topic:

    the record      lag + EVERY_S                            7 hours
    its tombstone   2 * (lag + EVERY_S) + delete.retention   38 hours

A tombstone goes with the first compaction after its term, which began with the compaction that took the record.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from aiokafka import AIOKafkaProducer

from broker.engine.ending import end_within
from broker.exchange.model import PARKED, VAULT
from broker.kafka.closing import told_to_end
from broker.kafka.connection import KafkaConnection

log = structlog.get_logger("broker.rolling")

TOPICS: Final = (VAULT, PARKED)
KEY: Final = b"roll"  # keys of the vault are 32 bytes, those of parked events have a lane's name and a `#`
EVERY_S: Final = 3600.0
START_S: Final = 300.0  # at most, before the first time: workers that start together do not write together
RETRY_S: Final = 60.0
ATTEMPT_S: Final = 60.0
STOP_S: Final = 2.0


async def roll(connection: KafkaConnection, topics: Sequence[str] = TOPICS) -> int:
    """Write one record to each partition.

    Returns:
        The number of partitions; all have theirs.

    Raises:
        KafkaError, TimeoutError: one of them has it not, or Kafka did not say so.
    """
    producer = AIOKafkaProducer(**connection.aiokafka(), acks="all")
    try:
        async with asyncio.timeout(ATTEMPT_S):
            await producer.start()
            places = [(topic, number) for topic in topics for number in await producer.partitions_for(topic)]
            sent = [await producer.send(topic, None, key=KEY, partition=number) for topic, number in places]
            await asyncio.gather(*sent)
    finally:
        await end_within(producer.stop(), STOP_S)
    return len(places)


async def keep_rolling(connection: KafkaConnection, done: Callable[[float], None]) -> None:
    """Write these records until cancelled, whatever happens to Kafka.

    Args:
        done: is told each time when all partitions have theirs; seconds since 1970.
    """
    await asyncio.sleep(random.uniform(0, START_S))  # noqa: S311 - guards no secret
    while True:
        try:
            partitions = await roll(connection)
        except (Exception, asyncio.CancelledError) as error:
            if told_to_end():
                raise
            log.warning(
                "topics.not_rolled",
                code="topics.not_rolled",
                error=type(error).__name__,
                retry_s=RETRY_S,
                text=f"Not every partition of {' and '.join(TOPICS)} could be written to, so what was erased there "
                "may stay longer. It is tried again.",
            )
            await asyncio.sleep(RETRY_S)
        else:
            done(time.time())
            log.debug("topics.rolled", partitions=partitions)
            await asyncio.sleep(EVERY_S)
