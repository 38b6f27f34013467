"""Which partitions a topic has, asked through a consumer that chooses its own."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition


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
