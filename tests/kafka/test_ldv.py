"""The Logboek's lines on a real Kafka: what is committed is exported once, by a user that may do nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError
from click.testing import Result
from typer.testing import CliRunner

from broker.cli import build
from broker.data import data_path
from broker.registry import load_document, records_of
from tests.app.collecting import FIRST, LocalCollector, a_leaf, listening
from tests.kafka.conftest import Cluster
from tests.kafka.test_access import Refused

pytestmark = pytest.mark.kafka
BOARD = "bestuur-horizon"
ENDED = "[audit.events/0@"


async def nothing_left(cluster: Cluster) -> None:
    """What other tests wrote there is no leaf, and would rightly end every export."""
    consumer = AIOKafkaConsumer(**cluster.connection("auditor").aiokafka())
    await consumer.start()
    try:
        ends = await consumer.end_offsets([TopicPartition("audit.events", number) for number in range(4)])
    finally:
        await consumer.stop()
    before = {(place.topic, place.partition): end for place, end in ends.items() if end}
    await asyncio.to_thread(cluster.admin.delete_records, before)


async def write(cluster: Cluster, *values: bytes, commit: bool = True) -> list[int]:
    """Leaves as a lane writes them, in one transaction; their offsets."""
    lane = AIOKafkaProducer(**cluster.connection("exchange").aiokafka(), transactional_id="exchange.in.sis.0")
    await lane.start()
    try:
        await lane.begin_transaction()
        sent = [await lane.send_and_wait("audit.events", value, partition=0) for value in values]
        await (lane.commit_transaction() if commit else lane.abort_transaction())
    finally:
        await lane.stop()
    return [place.offset for place in sent]


def leaves(*names: str, school: str = "99PA") -> list[bytes]:
    """With a span of its own for each name."""
    return [a_leaf(name, FIRST, int.from_bytes(name.encode()), school=school).value for name in names]


async def set_registry(cluster: Cluster) -> None:
    """The example's boards and schools."""
    producer = AIOKafkaProducer(**cluster.connection("operator").aiokafka())
    await producer.start()
    try:
        for key, value in records_of(load_document(data_path("examples") / "registry")).items():
            await producer.send_and_wait("registry", value, key=key.encode())
    finally:
        await producer.stop()


def file_of(cluster: Cluster, user: str, folder: Path) -> str:
    """A connection file."""
    path = folder / f"{user}.json"
    cluster.connection(user).to_file(path)
    return str(path)


async def export(cluster: Cluster, url: str, folder: Path, *more: str) -> asyncio.subprocess.Process:
    """The command as an operator starts it."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "broker", "ldv", "export", "--connection", file_of(cluster, "ldv-exporter", folder),
        "--board", BOARD, "--endpoint", url, *more, stderr=asyncio.subprocess.PIPE, env=os.environ,
    )  # fmt: skip


async def check(cluster: Cluster, folder: Path) -> Result:
    """The command as an auditor starts it."""
    arguments = ["ldv", "check", "--connection", file_of(cluster, "auditor", folder)]
    return await asyncio.to_thread(CliRunner().invoke, build("ldv"), arguments)


async def test_the_lines_of_a_board_arrive_once_and_in_order(cluster: Cluster, tmp_path: Path) -> None:
    """Committed ones only; it ends at a line that is not taken, goes on there, and stops when it is told to.

    Then `check` finds what does not conform, by its place; and what was removed before it was exported is told.
    """
    await nothing_left(cluster)
    await set_registry(cluster)
    offsets = await write(cluster, *leaves("a", "b", "c"))
    await write(cluster, *leaves("x", "y"), commit=False)
    await write(cluster, *leaves("other", school="99VA"))
    await write(cluster, *leaves("d"))
    async with asyncio.timeout(120), listening(LocalCollector(refuses={"b"})) as collector:
        refused = await export(cluster, collector.url, tmp_path, "--idle", "30")
        _, said = await refused.communicate()
        assert refused.returncode == 1, said.decode()
        assert f"{ENDED}{offsets[1]}]" in said.decode()
        assert collector.kept == ["a"]
        collector.refuses.clear()
        running = await export(cluster, collector.url, tmp_path)
        while collector.kept != ["a", "b", "c", "d"]:
            assert running.returncode is None
            await asyncio.sleep(0.05)
        await write(cluster, *leaves("e"))
        while collector.kept[4:] != ["e"]:
            assert running.returncode is None
            await asyncio.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        _, said = await running.communicate()
        assert running.returncode == 0, said.decode()
        assert "4 lines exported" in said.decode()
        last = await export(cluster, collector.url, tmp_path, "--idle", "2")
        _, said = await last.communicate()
        assert "0 lines exported" in said.decode()
        assert collector.kept == ["a", "b", "c", "d", "e"]
    good = await check(cluster, tmp_path)
    assert (good.exit_code, good.stdout) == (0, "")
    assert "6 lines; 0 rules broken" in good.stderr
    (bad, again) = await write(cluster, b'{"ldv":"Emma"}', *leaves("a"))
    found = await check(cluster, tmp_path)
    assert found.exit_code == 1
    assert f"audit.events/0@{bad}\t" in found.stdout
    assert (
        f"audit.events/0@{again}\tOne line for each span_id: the line audit.events/0@{offsets[0]} has" in found.stdout
    )
    assert "Emma" not in found.output
    (gone,) = await write(cluster, *leaves("f"))
    await asyncio.to_thread(cluster.admin.delete_records, {("audit.events", 0): gone + 1})
    async with asyncio.timeout(60), listening(LocalCollector()) as collector:
        lost = await export(cluster, collector.url, tmp_path, "--idle", "30")
        _, said = await lost.communicate()
    assert lost.returncode == 1
    assert "code: ldv.lost" in said.decode()
    assert collector.requests == []


async def test_the_exporter_reads_leaves_and_the_registry_and_nothing_else(cluster: Cluster, refused: Refused) -> None:
    """No control log, no index, nobody's input or output; it writes nowhere."""
    for topic in ("audit.control", "audit.index", "vault.identity", "in.sis", "out.pub.usage"):
        await refused(cluster.read("ldv-exporter", topic), TopicAuthorizationFailedError)
    await refused(cluster.write("ldv-exporter", "audit.events"), KafkaError)
