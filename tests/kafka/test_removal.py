"""Removing decided input on a real Kafka, with the rights that its user has."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import TopicAuthorizationFailedError
from typer.testing import CliRunner

from broker.cli import build
from broker.errors import ConfigError
from broker.exchange import LaneState, StateDelta
from broker.kafka.admin import Admin
from tests.kafka.conftest import Cluster
from tests.kafka.test_access import Refused

pytestmark = pytest.mark.kafka
PLACE = TopicPartition("in.sis", 1)


async def _offsets(cluster: Cluster) -> tuple[int, int]:
    consumer = AIOKafkaConsumer(**cluster.connection("exchange").aiokafka())
    await consumer.start()
    try:
        first, end = await consumer.beginning_offsets([PLACE]), await consumer.end_offsets([PLACE])
        return first[PLACE], end[PLACE]
    finally:
        await consumer.stop()


async def _decided(cluster: Cluster, position: int) -> None:
    """What the lane writes when it stands there."""
    lane = f"exchange.{PLACE.topic}.{PLACE.partition}"
    producer = AIOKafkaProducer(**cluster.connection("exchange").aiokafka(), transactional_id=lane)
    await producer.start()
    try:
        async with producer.transaction():
            for out in LaneState(lane).records(StateDelta(position), 50, 50):
                await producer.send_and_wait(out.topic, out.value, key=out.key)
    finally:
        await producer.stop()


async def test_the_remover_removes_what_a_lane_decided_and_nothing_else(cluster: Cluster, tmp_path: Path) -> None:
    """By the command, as an operator runs it; what is not decided stays, and a second time there is nothing to do."""
    producer = AIOKafkaProducer(**cluster.connection("sis").aiokafka())
    await producer.start()
    try:
        for _ in range(5):
            await producer.send_and_wait(PLACE.topic, uuid.uuid4().bytes, partition=PLACE.partition)
    finally:
        await producer.stop()
    _, end = await _offsets(cluster)
    await _decided(cluster, end - 2)
    file = tmp_path / "remover.json"
    cluster.connection("remover").to_file(file)
    command = ["topics", "trim", "--connection", str(file), "--json"]
    kept = await _run(command)
    assert kept == []
    assert await _run([*command, "--keep-hours", "0"]) == [
        {"topic": PLACE.topic, "partition": PLACE.partition, "before": end - 2}
    ]
    assert await _offsets(cluster) == (end - 2, end)
    assert await _run([*command, "--keep-hours", "0"]) == []


async def _run(command: list[str]) -> list[object]:
    done = await asyncio.to_thread(CliRunner().invoke, build("topics", "kafka"), command)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


async def test_workers_can_not_remove_input_and_the_remover_can_not_read_it(cluster: Cluster, refused: Refused) -> None:
    """Who opens what parties send can not destroy it, and who removes it can not read it."""
    with pytest.raises(ConfigError, match="may not remove decided input"):
        Admin(cluster.connection("exchange")).delete_records({("in.sis", 0): 0})
    await refused(cluster.read("remover", "in.sis"), TopicAuthorizationFailedError)
    await refused(cluster.write("remover", "lane.state"), TopicAuthorizationFailedError)
