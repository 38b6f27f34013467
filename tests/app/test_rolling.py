"""What was erased leaves Kafka's log also where nobody writes any more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError

from broker.app import rolling
from broker.app.provision import add_login
from broker.app.rolling import KEY, keep_rolling, roll
from broker.exchange.model import PARKED, VAULT
from broker.kafka.access import WORKER, worker_acls
from broker.kafka.admin import Admin
from broker.kafka.connection import KafkaConnection
from broker.kafka.embedded import EmbeddedKafka
from tests.engine.machine import create_topics, put

PERSON = "a person's key"
IDLE = "idle"
GENEROUS_S = 150.0


async def everything(
    connection: KafkaConnection, topic: str, partition: int
) -> list[tuple[bytes | None, bytes | None]]:
    """Keys and values that Kafka still has of a partition, from offset 0 to its end."""
    place, found = TopicPartition(topic, partition), []
    async with AIOKafkaConsumer(**connection.aiokafka(), auto_offset_reset="earliest") as consumer:
        consumer.assign([place])
        consumer.seek(place, 0)
        end = (await consumer.end_offsets([place]))[place]
        while await consumer.position(place) < end:
            for records in (await consumer.getmany(place, timeout_ms=200)).values():
                found += [(record.key, record.value) for record in records]
    return found


@pytest.mark.kafka
@pytest.mark.timeout(240)
async def test_what_was_erased_is_gone_from_each_idle_partition_and_stays_without_these_records(tmp_path: Path) -> None:
    """The record first, then its tombstone, by a worker's own rights; of the records themselves the newest is left.

    Segments and terms are of a second and less, instead of hours.
    """
    short = {"max.compaction.lag.ms": "500", "delete.retention.ms": "500", "cleanup.policy": "compact"}
    with EmbeddedKafka(tmp_path / "kafka", heap_mb=192, extra={"log.cleaner.backoff.ms": "100"}) as kafka:
        root = kafka.admin_connection()
        admin = Admin(root)
        create_topics(root, {VAULT: 2, PARKED: 1, IDLE: 1}, **short)
        admin.apply((), worker_acls())
        worker = add_login(admin, root, WORKER, tmp_path / "exchange" / "connection.json")
        watched = [(VAULT, 0), (VAULT, 1), (PARKED, 0)]
        for topic, partition in [*watched, (IDLE, 0)]:
            await put(root, topic, PERSON, b"sealed", partition)
            await put(root, topic, PERSON, None, partition)
        async with asyncio.timeout(GENEROUS_S):
            for topic, partition in watched:
                while PERSON.encode() in {key for key, _ in await everything(root, topic, partition)}:
                    assert await roll(worker) == len(watched)
                    await asyncio.sleep(0.6)
        assert {key for place in watched for key, _ in await everything(root, *place)} == {KEY}
        assert await everything(root, IDLE, 0) == [(PERSON.encode(), b"sealed"), (PERSON.encode(), None)]


async def test_it_goes_on_when_kafka_comes_back_and_ends_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever aiokafka dies of; and the time is told only when all partitions have their record."""
    failures: list[BaseException] = [KafkaConnectionError(), TimeoutError(), asyncio.CancelledError(), RuntimeError()]
    told: list[float] = []
    twice = asyncio.Event()

    async def attempt(connection: object) -> int:
        del connection
        if failures:
            assert told == []
            raise failures.pop()
        return 3

    def done(now_s: float) -> None:
        told.append(now_s)
        if len(told) == 2:
            twice.set()

    monkeypatch.setattr(rolling, "roll", attempt)
    for name in ("START_S", "RETRY_S", "EVERY_S"):
        monkeypatch.setattr(rolling, name, 0.0)
    connection = KafkaConnection("127.0.0.1:1", None, "exchange", "secret")
    task = asyncio.create_task(keep_rolling(connection, done))
    await asyncio.wait_for(twice.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert failures == []
