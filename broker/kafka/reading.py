"""A consumer for a look at what is there; and which partitions a topic has, asked through it."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from broker.kafka.closing import ClosingConsumer
from broker.kafka.connection import KafkaConnection

FETCH_WAIT_MS: Final = 50  # aiokafka's `stop` waits for the fetch under way: half a second with its own 500


def looking(connection: KafkaConnection, **settings: Any) -> AIOKafkaConsumer:
    """A consumer that is not started: of committed records, by itself, at offsets that it is given.

    For who looks and stops soon. Who follows a topic has settings of its own: this one asks 20 times a second.

    Args:
        settings: of aiokafka, instead of these or beside them.
    """
    given: dict[str, Any] = {
        "isolation_level": "read_committed",
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "fetch_max_wait_ms": FETCH_WAIT_MS,
    }
    return ClosingConsumer(**connection.aiokafka(), **given | settings)


async def partitions_of(consumer: AIOKafkaConsumer, topic: str, patience_s: float) -> list[TopicPartition]:
    """All partitions of a topic that exists, in order; the consumer is assigned its first one afterwards.

    Raises:
        TimeoutError: Kafka does not say so in time.
    """
    consumer.assign([TopicPartition(topic, 0)])  # the client asks for the metadata of what is assigned
    async with asyncio.timeout(patience_s):
        while not (numbers := consumer.partitions_for_topic(topic)):  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.02)
    return [TopicPartition(topic, number) for number in sorted(numbers)]
