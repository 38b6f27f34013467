"""A consumer is closed at a moment when aiokafka's own does not close."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError

from broker.kafka.closing import ClosingConsumer
from broker.kafka.embedded import EmbeddedKafka
from tests.engine.machine import create_topics, until

pytestmark = pytest.mark.kafka
PLACE = TopicPartition("closing", 0)


async def failing(kafka: EmbeddedKafka, kind: type[AIOKafkaConsumer], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A consumer whose fetch has failed, and waits to be tried again."""
    consumer = kind(**kafka.admin_connection().aiokafka(), auto_offset_reset="earliest", retry_backoff_ms=60_000)
    await consumer.start()
    failed = asyncio.Event()

    async def send(*_: object, **__: object) -> None:
        failed.set()
        raise KafkaConnectionError("gone")

    consumer.assign([PLACE])
    await consumer.position(PLACE)
    monkeypatch.setattr(consumer._client, "send", send)
    async with asyncio.timeout(30):
        await failed.wait()
    await until(lambda: consumer._fetcher._pending_tasks, "a fetch that waits")
    return consumer


def connected(consumer: AIOKafkaConsumer) -> bool:
    """Whether a connection of it is open."""
    return any(connection.connected() for connection in consumer._client._conns.values())


async def test_it_closes_while_a_fetch_waits_to_be_tried_again(
    kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an error, and without a connection that stays open; aiokafka's own leaves both."""
    create_topics(kafka.admin_connection(), {PLACE.topic: 1})
    theirs = await failing(kafka, AIOKafkaConsumer, monkeypatch)
    with pytest.raises(asyncio.CancelledError):
        await theirs.stop()
    assert connected(theirs), "when this fails, aiokafka has mended it: ClosingConsumer can go"
    await theirs._client.close()

    ours = await failing(kafka, ClosingConsumer, monkeypatch)
    await ours.stop()
    assert not connected(ours)
    assert ours._fetcher._fetch_task.done()


async def test_who_is_told_to_end_while_it_closes_ends(kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancellation that is meant is not swallowed."""
    consumer = ClosingConsumer(**kafka.admin_connection().aiokafka())
    await consumer.start()
    close, closing = consumer._client.close, asyncio.Event()

    async def slow() -> None:
        closing.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(consumer._client, "close", slow)
    task = asyncio.create_task(consumer.stop())
    await closing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await close()
