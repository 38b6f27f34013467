"""From a change of the registry to its effect, under load, on a secured Kafka with one worker process.

A publisher sends 200 events a second for one receiver, which reads read_committed. Again and again that side of the
connection is revoked, and accepted again. Both are measured from the moment when the registry's transaction begins:

1. revoked: until the receiver reads its last delivery (0 if it had read it before);
2. accepted: until the receiver reads a delivery again.

Beside it, before each change: the round trip of a plain transaction of one record, produced and committed. Kafka, the
worker, sender and receiver share the cores of this machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from broker.client import Producer, StatusConsumer, Subject
from broker.demo.stage import Stage, stage
from broker.errors import BrokerError
from broker.kafka.admin import Admin
from broker.kafka.topics import TopicSpec
from broker.registry.store import change, read_records
from broker.wire import decode_envelope
from tests.e2e.watch import outcomes, send
from tests.exchange.world import DELTA, PORTAL, SIS, enrolment, event, usage

PUPILS: Final = 200
RATE_PER_S: Final = 200
FURTHER: Final = 50  # events that go out after a change before it counts as over
ROUND_TRIPS: Final = 5  # before each change
SIDE: Final = "connection/po-usage-delta-portaal/receiver"
OUTPUT: Final = f"out.{PORTAL}.usage"
PLAIN: Final = "bench.round-trip"
PATIENCE_S: Final = 120.0


def run(count: int = 30) -> dict[str, Any]:
    """Measure.

    Args:
        count: how often the connection is revoked.
    """
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as home, stage(Path(home)) as scene:
        return asyncio.run(_run(scene, count))


async def _run(scene: Stage, count: int) -> dict[str, Any]:
    now, operator = datetime.now(UTC), scene.connections["operator"]
    pupils = [enrolment(f"https://ketenid.nl/pilot/{n:0128x}", f"L{n:04}") for n in range(PUPILS)]
    await outcomes(scene, SIS, await send(scene, SIS, [replace(one, created=now) for one in pupils]))
    Admin(scene.kafka.admin_connection()).apply([TopicSpec(PLAIN, 1, 1, {"cleanup.policy": "delete"})], None)
    accepted = (await read_records(operator))[SIDE]
    revoked = json.dumps(json.loads(accepted) | {"state": "revoked"}).encode()
    stopped: list[float] = []
    flowing: list[float] = []
    round_trips: list[float] = []

    async def put(record: bytes) -> float:
        began: list[float] = []

        def clock() -> int:  # asked right before the transaction begins
            began.append(time.monotonic())
            return time.time_ns() // 1_000_000

        await change(operator, {SIDE: record}, operator="bench", reason="to be measured", clock=clock)
        return began[0]

    async with _load(scene) as load, _plain(scene) as round_trip:
        await load.until(lambda: load.arrived)
        for _ in range(count):
            round_trips += [await round_trip() for _ in range(ROUND_TRIPS)]
            began = await put(revoked)
            await load.further()
            last = max(load.arrived.values())
            stopped.append(max(0.0, last - began))
            round_trips += [await round_trip() for _ in range(ROUND_TRIPS)]
            began, before = await put(accepted), set(load.arrived)
            await load.until(lambda before=before: load.arrived.keys() - before)
            flowing.append(min(at for event_id, at in load.arrived.items() if event_id not in before) - began)
            await load.further()
    plain = statistics.median(round_trips)
    return {
        "changes": count,
        "revoked": _summary(stopped, plain),
        "accepted": _summary(flowing, plain),
        "round_trip_ms": plain * 1000,
        "round_trips": len(round_trips),
        "events": len(load.sent),
        "delivered": len(load.arrived),
        "rate_per_s": RATE_PER_S,
        "load_average": os.getloadavg(),
        "cores": os.cpu_count(),
    }


def _summary(seconds: Sequence[float], plain: float) -> dict[str, Any]:
    middle, worst = statistics.median(seconds), max(seconds)
    return {
        "p50_s": middle,
        "worst_s": worst,
        "p50_round_trips": middle / plain,
        "worst_round_trips": worst / plain,
        "each_s": [round(one, 4) for one in seconds],
    }


@dataclass
class _Load:
    """What was sent, what was told about it, and what arrived when (monotonic seconds)."""

    sent: list[str] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)
    arrived: dict[str, float] = field(default_factory=dict)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    settled: int = 0  # so many of those that were sent need no more looks

    async def until(self, reached: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            for task in self.tasks:
                if task.done():
                    task.result()
            if time.monotonic() > deadline:
                raise BrokerError("the worker did not get on", code="bench.slow")
            await asyncio.sleep(0.01)

    async def further(self) -> None:
        """Wait until everything sent so far, and some more, was decided, and until what was delivered of it arrived."""
        count = len(self.sent) + FURTHER
        await self.until(lambda: len(self.sent) >= count)
        ids = self.sent[self.settled : count]
        await self.until(lambda: all(event_id in self.told for event_id in ids))
        delivered = [event_id for event_id in ids if self.told[event_id] == "ok"]
        await self.until(lambda: all(event_id in self.arrived for event_id in delivered))
        self.settled = count


@asynccontextmanager
async def _load(scene: Stage) -> AsyncIterator[_Load]:
    load = _Load()
    load.tasks = [asyncio.create_task(work(scene, load)) for work in (_receive, _listen, _send)]
    try:
        yield load
    finally:
        for task in load.tasks:
            task.cancel()
        await asyncio.gather(*load.tasks, return_exceptions=True)


async def _receive(scene: Stage, load: _Load) -> None:
    consumer = AIOKafkaConsumer(
        OUTPUT, **scene.profile(PORTAL).connection.aiokafka(), isolation_level="read_committed",
        auto_offset_reset="earliest", enable_auto_commit=False, fetch_max_wait_ms=100,
    )  # fmt: skip
    await consumer.start()
    try:
        async for record in consumer:
            load.arrived[decode_envelope(record.value)[0]["event_id"]] = time.monotonic()
    finally:
        await consumer.stop()


async def _listen(scene: Stage, load: _Load) -> None:
    async with StatusConsumer(scene.profile(DELTA), group="bench") as statuses:
        async for status in statuses:
            load.told[status.event_id] = status.results[0].code


async def _send(scene: Stage, load: _Load) -> None:
    async with Producer(scene.profile(DELTA)) as producer:
        began, number = time.monotonic(), 0
        while True:
            await asyncio.sleep(max(0.0, began + number / RATE_PER_S - time.monotonic()))
            subject = Subject("PUPIL", None, (("LAS_KEY", f"L{number % PUPILS:04}"),))
            body = usage(frequency=3, usage_date=date.today())  # noqa: DTZ011 - the school's day
            one = event(event_id=str(uuid4()), created=datetime.now(UTC), receiver=PORTAL, subject=subject, body=body)
            await producer.send_soon(one)
            load.sent.append(one.event_id)
            number += 1


@asynccontextmanager
async def _plain(scene: Stage) -> AsyncIterator[Callable[[], Any]]:
    """A function that produces and commits one record, and gives the seconds that it took."""
    producer = AIOKafkaProducer(**scene.kafka.admin_connection().aiokafka(), transactional_id="bench", acks="all")
    await producer.start()

    async def round_trip() -> float:
        began = time.monotonic()
        async with producer.transaction():
            await producer.send_and_wait(PLAIN, b"x" * 500, partition=0)
        return time.monotonic() - began

    try:
        yield round_trip
    finally:
        await producer.stop()
