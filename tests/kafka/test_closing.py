"""A consumer is closed at a moment when aiokafka's own does not close."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError

from broker.kafka.closing import ClosingConsumer
from broker.kafka.embedded import EmbeddedKafka
from tests.engine.machine import create_topics, until

pytestmark = pytest.mark.kafka
PLACE = TopicPartition("closing", 0)


@pytest.fixture(autouse=True)
def _topic(kafka: EmbeddedKafka) -> None:
    create_topics(kafka.admin_connection(), {PLACE.topic: 1})


async def reading(kafka: EmbeddedKafka, kind: type[AIOKafkaConsumer], group: str | None = None) -> Any:
    """A consumer that waits for records."""
    consumer = kind(**kafka.admin_connection().aiokafka(), group_id=group, auto_offset_reset="earliest")
    await consumer.start()
    if group is None:
        consumer.assign([PLACE])
    else:
        consumer.subscribe([PLACE.topic])
        await until(consumer.assignment, "the group comes together")
    await consumer.position(PLACE)
    return consumer


async def failing(consumer: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same once its fetch has failed, and waits to be tried again."""
    failed = asyncio.Event()

    async def send(*_: object, **__: object) -> None:
        failed.set()
        raise KafkaConnectionError("gone")

    monkeypatch.setattr(consumer._fetcher, "_retry_backoff", 60.0)
    monkeypatch.setattr(consumer._client, "send", send)
    async with asyncio.timeout(30):
        await failed.wait()
    await until(lambda: consumer._fetcher._pending_tasks, "a fetch that waits")
    return consumer


async def assert_nothing_is_open(consumer: Any) -> None:
    """No connection, and no task that would make one."""
    connections = list(consumer._client._conns.values())
    assert not any(connection.connected() for connection in connections)
    await asyncio.wait([connection._closed_fut for connection in connections], timeout=30)  # TLS says goodbye
    assert all(task.done() for task in consumer._own_tasks())


async def test_aiokafka_still_raises_a_cancellation_of_its_own(
    kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once this fails, it is mended there, and ClosingConsumer can go."""
    consumer = await failing(await reading(kafka, AIOKafkaConsumer), monkeypatch)
    with pytest.raises(asyncio.CancelledError):
        await consumer.stop()
    await consumer._client.close()
    await asyncio.sleep(0.5)


async def test_it_closes_while_a_fetch_waits_to_be_tried_again(
    kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an error, and nothing stays open."""
    consumer = await failing(await reading(kafka, ClosingConsumer), monkeypatch)
    await consumer.stop()
    await assert_nothing_is_open(consumer)


async def test_no_member_of_a_group_lives_on(kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its heartbeats would connect anew, and keep its partitions from the others."""
    consumer = await reading(kafka, ClosingConsumer, "closing")
    heartbeat = consumer._coordinator._heartbeat_task
    assert not heartbeat.done()

    async def leak() -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(consumer._coordinator, "close", leak)
    await consumer.stop()
    await assert_nothing_is_open(consumer)
    assert heartbeat.done()


async def test_it_closes_in_the_finally_of_a_task_that_was_cancelled(
    kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cancellation of before is not taken for one of now; what comes after the stop is done."""
    consumer, after = await failing(await reading(kafka, ClosingConsumer), monkeypatch), []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await consumer.stop()
            after.append("done")

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert after == ["done"]
    await assert_nothing_is_open(consumer)


@pytest.mark.parametrize("part", ["_fetcher", "_client"])
async def test_who_is_told_to_end_while_it_closes_ends(
    kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Whether aiokafka lets the cancellation through or swallows it."""
    consumer, closing = await reading(kafka, ClosingConsumer), asyncio.Event()

    async def slow() -> None:
        closing.set()
        if part == "_client":
            await asyncio.sleep(60)
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)

    monkeypatch.setattr(getattr(consumer, part), "close", slow)
    task = asyncio.create_task(consumer.stop())
    await closing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if part == "_fetcher":  # which was not asked to close
        consumer._abandon()
    await assert_nothing_is_open(consumer)


async def test_an_error_of_its_tasks_is_told_and_leaves_nothing_open(
    kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka would take it for stopped."""
    consumer = await reading(kafka, ClosingConsumer)

    async def fail() -> None:
        raise KafkaError("Unexpected error during data retrieval")

    monkeypatch.setattr(consumer._fetcher, "close", fail)
    with pytest.raises(KafkaError):
        await consumer.stop()
    await assert_nothing_is_open(consumer)
