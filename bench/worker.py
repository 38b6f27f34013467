"""One worker process on a secured Kafka: how fast, how soon, how much memory.

1. Drain: with a backlog of events, the worker's rate and CPU per event, beside a bare aiokafka loop over the same input
   (`bench.bare`): once writing what the exchange wrote (output, leaf and status: the same bytes to the same number of
   partitions in the same transactions), once only copying the input.
2. Steady: 200 events a second for some time, open loop: from the moment when an event is due at its sender to the
   moment when a receiver that reads read_committed has it. The worker's memory meanwhile.

Everything runs on this machine: Kafka, worker, sender and receiver share its cores.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, TopicPartition

from broker.client import Event, Producer, Sent, Subject
from broker.demo.stage import Stage, stage
from broker.errors import BrokerError
from broker.exchange.model import AUDIT_EVENTS
from broker.kafka.admin import Admin
from broker.kafka.connection import KafkaConnection
from broker.kafka.topics import TopicSpec
from broker.wire import decode_envelope
from tests.exchange.world import DELTA, PORTAL, SIS, enrolment, event, usage

PUPILS: Final = 200
RATE_PER_S: Final = 200
WARM_UP_S: Final = 5.0
WINDOW_S: Final = 10  # latency is given by window too, with how long something waited for a core meanwhile
INPUT, OUTPUT, STATUS = f"in.{DELTA}", f"out.{PORTAL}.usage", f"status.{DELTA}"
WRITTEN: Final = (OUTPUT, AUDIT_EVENTS, STATUS)
PATIENCE_S: Final = 120.0
SAMPLES: Final = 500
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def run(seconds: float = 600.0, count: int = 30_000) -> dict[str, Any]:
    """Measure.

    Args:
        seconds: of the steady part.
        count: events of the backlog.
    """
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as home, stage(Path(home)) as scene:
        return asyncio.run(_run(scene, seconds, count))


async def _run(scene: Stage, seconds: float, count: int) -> dict[str, Any]:
    await enrol_pupils(scene)
    measured = await steady(scene, seconds)
    drained = await _drain(scene, count)
    return {"steady": measured, "drain": drained, "load_average": os.getloadavg(), "cores": os.cpu_count()}


async def enrol_pupils(scene: Stage) -> None:
    """All about whom something is sent."""
    now = datetime.now(UTC)
    await _send(scene, SIS, [replace(enrolment(_eck_id(n), f"L{n:04}"), created=now) for n in range(PUPILS)])
    await _decided(Worker(scene), PUPILS)


async def send_events(scene: Stage, count: int) -> None:
    """A backlog."""
    await _send(scene, DELTA, [_event(number) for number in range(count)])


# ---- 1. a backlog


async def _drain(scene: Stage, count: int) -> dict[str, Any]:
    scene.workers[-1].terminate()
    await asyncio.to_thread(scene.workers[-1].wait, 60)
    admin = scene.kafka.admin_connection()
    first = await _ends(admin, INPUT)
    outputs_from = {topic: await _ends(admin, topic) for topic in WRITTEN}
    await send_events(scene, count)
    end = await _ends(admin, INPUT)
    await asyncio.to_thread(scene.start_worker, len(scene.workers) + 1)
    worker = Worker(scene)
    ours = await drain(worker, count)
    templates = [await _records(admin, topic, outputs_from[topic]) for topic in WRITTEN]
    partitions = len(first)
    _bench_topics(admin, partitions)
    result: dict[str, Any] = {"worker": ours, "batches": worker.batches(), "input_partitions": partitions}
    records = sum(end[p] - first[p] for p in first)
    for name, outputs in (("same_output", templates), ("copy_only", [])):
        job = {
            "input": INPUT, "partitions": partitions, "from": first, "records": records, "group": f"bare-{name}",
            "outputs": [[r | {"topic": f"bench.{n}"} for r in of_topic] for n, of_topic in enumerate(outputs)],
        }  # fmt: skip
        bare = await asyncio.to_thread(_bare, scene, job)
        result[name] = bare | {
            "events_per_s": bare["records"] / bare["seconds"],
            "cpu_us_per_event": bare["cpu_seconds"] / bare["records"] * 1e6,
        }
        result[f"ratio_{name}"] = ours["events_per_s"] / result[name]["events_per_s"]
    result["written_bytes_per_event"] = {
        topic: statistics.mean(_size(record) for record in of_topic)
        for topic, of_topic in zip(WRITTEN, templates, strict=True)
    }
    return result


async def drain(worker: Worker, count: int) -> dict[str, float]:
    """What a worker that just started makes of a backlog.

    Raises:
        BrokerError: `bench.slow`.
    """
    samples = [worker.look()]
    deadline = time.monotonic() + PATIENCE_S + count / 100
    while samples[-1].records < count:
        if time.monotonic() > deadline:
            raise BrokerError("the worker did not drain the backlog in time", code="bench.slow")
        await asyncio.sleep(0.25)
        samples.append(worker.look())
    used = [s for s in samples if s.records < count] or samples  # the last sample may hold idle time
    events, seconds = used[-1].records - used[0].records, used[-1].at - used[0].at
    return {
        "events": events,
        "events_per_s": events / seconds,
        "cpu_us_per_event": (used[-1].cpu_s - used[0].cpu_s) / events * 1e6,
        "cpu_share": (used[-1].cpu_s - used[0].cpu_s) / seconds,
    }


def _bare(scene: Stage, job: dict[str, Any]) -> dict[str, float]:
    path = scene.home / "job.json"
    path.write_text(json.dumps(job), "utf-8")
    command = [sys.executable, "-m", "bench.bare", str(scene.kafka.connection_file), str(path)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=300, text=True)  # noqa: S603 - our own
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def _bench_topics(admin: KafkaConnection, partitions: int) -> None:
    config = {"cleanup.policy": "delete", "max.message.bytes": "1048588"}
    names = ["bench.state", "bench.copy", *(f"bench.{number}" for number in range(len(WRITTEN)))]
    Admin(admin).apply([TopicSpec(name, partitions, 1, config) for name in names], None)


async def _ends(admin: KafkaConnection, topic: str) -> dict[int, int]:
    async with _reader(admin, topic) as consumer:
        return {p.partition: offset for p, offset in (await consumer.end_offsets(consumer.assignment())).items()}


async def _records(admin: KafkaConnection, topic: str, start: dict[int, int]) -> list[dict[str, Any]]:
    """Some of what the worker wrote, for the bare loop to write again."""
    found: list[dict[str, Any]] = []
    async with _reader(admin, topic) as consumer:
        for number, offset in start.items():
            consumer.seek(TopicPartition(topic, number), offset)
        while len(found) < SAMPLES:
            for records in (await consumer.getmany(timeout_ms=500, max_records=SAMPLES)).values():
                for r in records:
                    headers = [(name, _text(value)) for name, value in r.headers]
                    found.append({"key": _text(r.key), "value": _text(r.value), "headers": headers})
    return found[:SAMPLES]


def _text(data: bytes | None) -> str | None:
    return None if data is None else b64encode(data).decode()


def _size(record: dict[str, Any]) -> float:
    texts = [record["key"] or "", record["value"] or "", *(value for _, value in record["headers"])]
    return sum(len(text) * 3 / 4 for text in texts) + sum(len(name) for name, _ in record["headers"])


# ---- 2. a steady rate


async def steady(scene: Stage, seconds: float, rate: int = RATE_PER_S) -> dict[str, Any]:
    """Latency and memory at a steady rate (events a second)."""
    due: dict[str, float] = {}
    sent_at: dict[str, float] = {}
    arrived: dict[str, float] = {}
    worker = Worker(scene)
    memory: list[tuple[float, int]] = []
    waited: list[float] = []

    async def receive(consumer: AIOKafkaConsumer) -> None:
        async for record in consumer:
            arrived[decode_envelope(record.value)[0]["event_id"]] = time.monotonic()

    async with _reader(scene.profile(PORTAL).connection, OUTPUT) as consumer, Producer(scene.profile(DELTA)) as sender:
        receiving = asyncio.create_task(receive(consumer))
        acknowledged: list[asyncio.Future[Sent]] = []
        began = time.monotonic()
        total = int(rate * (WARM_UP_S + seconds))
        first = worker.look()
        for number in range(total):
            moment = began + number / rate
            await asyncio.sleep(max(0.0, moment - time.monotonic()))
            sent = _event(number)
            due[sent.event_id] = moment
            acknowledged.append(await sender.send_soon(sent))
            sent_at[sent.event_id] = time.monotonic()
            if number % rate == 0:
                memory.append((time.monotonic() - began, worker.rss_bytes()))
                waited.append(_cpu_wait_s())
                acknowledged = [future for future in acknowledged if not future.done() or future.exception()]
        last = worker.look()
        await asyncio.gather(*acknowledged)
        deadline = time.monotonic() + PATIENCE_S
        while len(arrived) < total and time.monotonic() < deadline:  # noqa: ASYNC110 - a poll ends the bench as well
            await asyncio.sleep(0.1)
        receiving.cancel()
    counted = [event_id for event_id, moment in due.items() if moment - began >= WARM_UP_S]
    lags = sorted((arrived[i] - due[i]) * 1000 for i in counted if i in arrived)
    behind = sorted((sent_at[i] - due[i]) * 1000 for i in counted)
    windows = []
    for start in range(0, int(seconds), WINDOW_S):
        low = WARM_UP_S + start
        inside = [i for i in counted if low <= due[i] - began < low + WINDOW_S and i in arrived]
        these = sorted((arrived[i] - due[i]) * 1000 for i in inside)
        wait = waited[int(low) : int(low) + WINDOW_S]
        windows.append({
            "p50_ms": quantile(these, 0.5), "p99_ms": quantile(these, 0.99),
            "cpu_wait": (wait[-1] - wait[0]) / max(1, len(wait) - 1),
        })  # fmt: skip
    return {
        "seconds": seconds,
        "events": len(counted),
        "missing": total - len(arrived),
        "p50_ms": quantile(lags, 0.5),
        "p90_ms": quantile(lags, 0.9),
        "p99_ms": quantile(lags, 0.99),
        "most_ms": lags[-1],
        "windows": windows,
        "calmest": min(windows, key=lambda window: window["cpu_wait"]),
        "cpu_wait": statistics.mean(window["cpu_wait"] for window in windows),
        "sender_late_p99_ms": quantile(behind, 0.99),
        "worker_cpu_share": (last.cpu_s - first.cpu_s) / (last.at - first.at),
        "memory": _slope(memory),
        "transactions": worker.batches(),
    }


def _slope(memory: Sequence[tuple[float, int]]) -> dict[str, Any]:
    """Least squares over the second half: the first is warm-up (caches, arenas)."""
    half = [m for m in memory if m[0] >= memory[-1][0] / 2]
    slope = statistics.linear_regression(*zip(*half, strict=True)).slope if len(half) > 2 else 0.0
    return {
        "rss_first_mib": memory[0][1] / 2**20,
        "rss_half_mib": half[0][1] / 2**20,
        "rss_last_mib": memory[-1][1] / 2**20,
        "slope_kib_per_minute": slope * 60 / 1024,
        "samples": [[round(at), rss] for at, rss in memory[:: max(1, len(memory) // 120)]],
    }


def _cpu_wait_s() -> float:
    """Seconds in which at least one process of this machine waited for a core (Linux's pressure stall information)."""
    try:
        return int(Path("/proc/pressure/cpu").read_text("utf-8").split("\n")[0].rpartition("total=")[2]) / 1e6
    except OSError:
        return 0.0


def quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


# ---- tools


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    records: int
    cpu_s: float


class Worker:
    """The worker that runs now, seen from outside."""

    def __init__(self, scene: Stage) -> None:
        self._pid, self._port = scene.workers[-1].pid, scene.ports[-1]

    def look(self) -> _Look:
        records = dict(self._metrics()).get("broker_records_total", 0.0)
        fields = Path(f"/proc/{self._pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        return _Look(time.monotonic(), int(records), (int(fields[11]) + int(fields[12])) / _TICKS)

    def rss_bytes(self) -> int:
        return int(Path(f"/proc/{self._pid}/statm").read_text("utf-8").split()[1]) * _PAGE

    def batches(self) -> dict[str, float]:
        """Means over the process's life."""
        m = dict(self._metrics())
        count = m["broker_batch_seconds_count"] or 1.0
        return {
            "transactions": count,
            "records_per_transaction": m["broker_records_total"] / count,
            "decide_ms": m["broker_batch_seconds_sum"] / count * 1000,
            "commit_ms": m["broker_transaction_seconds_sum"] / count * 1000,
        }

    def _metrics(self) -> Iterator[tuple[str, float]]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=10) as answer:
            for line in answer.read().decode().splitlines():
                if not line.startswith("#"):
                    name, _, value = line.rpartition(" ")
                    yield name, float(value)


async def _decided(worker: Worker, count: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while worker.look().records < count:
        if time.monotonic() > deadline:
            raise BrokerError(f"{count} events were not decided in time", code="bench.slow")
        await asyncio.sleep(0.1)


async def _send(scene: Stage, party: str, events: Sequence[Event]) -> None:
    async with Producer(scene.profile(party)) as producer:
        for first in range(0, len(events), 1000):
            await asyncio.gather(*[await producer.send_soon(sent) for sent in events[first : first + 1000]])


@asynccontextmanager
async def _reader(connection: KafkaConnection, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    """Reads all of a topic's partitions, from now on, without a group."""
    consumer = AIOKafkaConsumer(
        **connection.aiokafka(), isolation_level="read_committed", enable_auto_commit=False, fetch_max_wait_ms=100
    )
    await consumer.start()
    try:
        first = TopicPartition(topic, 0)
        consumer.assign([first])
        while not (found := consumer.partitions_for_topic(topic)):  # noqa: ASYNC110 - aiokafka has no event for it
            await asyncio.sleep(0.05)
        partitions = [TopicPartition(topic, number) for number in sorted(found)]
        consumer.assign(partitions)
        for partition, offset in (await consumer.end_offsets(partitions)).items():
            consumer.seek(partition, offset)
        yield consumer
    finally:
        await consumer.stop()


def _event(number: int) -> Event:
    body = usage(frequency=3, group_id="7a", year_group="7")
    subject = Subject("PUPIL", None, (("LAS_KEY", f"L{number % PUPILS:04}"),))
    sent: Event = event(event_id=str(uuid4()), created=datetime.now(UTC), receiver=PORTAL, subject=subject, body=body)
    return sent


def _eck_id(number: int) -> str:
    return f"https://ketenid.nl/pilot/{number:0128x}"
