"""Commits that no reader can see yet, on a real Kafka."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from broker.engine import KafkaClients
from broker.kafka.connection import KafkaConnection
from broker.kafka.embedded import EmbeddedKafka
from chaos.committed import committed_behind
from tests.engine.machine import create_topics

pytestmark = pytest.mark.kafka


@asynccontextmanager
async def producer(connection: KafkaConnection, name: str) -> AsyncIterator[AIOKafkaProducer]:
    """A transactional one."""
    made = AIOKafkaProducer(**connection.aiokafka(), transactional_id=name)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def test_what_was_committed_behind_an_open_transaction_is_known(kafka: EmbeddedKafka) -> None:
    """Readers stand before the open one; behind it lie a committed, an aborted and a plain record."""
    connection, topic = kafka.admin_connection(), f"behind-{uuid.uuid4().hex[:8]}"
    create_topics(connection, {topic: 1})
    place = TopicPartition(topic, 0)

    async def write(through: AIOKafkaProducer, number: int) -> int:
        for _ in range(number):
            sent = await through.send_and_wait(topic, b"x")
        return int(sent.offset)

    async def now() -> tuple[int, list[list[int]]]:
        reader = AIOKafkaConsumer(**connection.aiokafka(), isolation_level="read_committed")
        client = KafkaClients(connection).metadata()
        await reader.start()
        await client.bootstrap()
        client.set_topics([topic])
        try:
            reader.assign([place])
            stable = (await reader.end_offsets([place]))[place]
            return stable, await committed_behind(client, place, stable)
        finally:
            await reader.stop()
            await client.close()

    async with producer(connection, f"{topic}.open") as hanging, producer(connection, f"{topic}.other") as other:
        async with other.transaction():
            await write(other, 2)
        await hanging.begin_transaction()
        first = await write(hanging, 1)
        assert await now() == (first, [])
        async with other.transaction():
            committed = await write(other, 3)
        await other.begin_transaction()
        await write(other, 2)
        await other.abort_transaction()
        await other.begin_transaction()
        await write(other, 1)
        stable, behind = await now()
        assert stable == first
        assert {offset for low, high in behind for offset in range(low, high)} == {*range(committed - 2, committed + 1)}
        await other.commit_transaction()
        await hanging.commit_transaction()
        stable, behind = await now()
        assert stable > committed
        assert behind == []
