"""From a decision to a signed checkpoint that covers it, on a secured Kafka with one worker and one log builder.

A publisher sends at a steady rate. Each audit record has the time at which the worker sent it (before its transaction
was committed); a thread of this process looks at the published checkpoint of each log every few milliseconds. The n-th
leaf of a log is the n-th committed record of its partition, so each record's delay is the time from its timestamp
until a checkpoint of more than n leaves was seen.

Sender, receiver, Kafka, worker, builder and this process share the cores of this machine.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.worker import enrol_pupils, quantile, steady
from broker.auditlog.book import LogName
from broker.demo import auditlog
from broker.demo.stage import Stage, stage
from broker.engine import KafkaClients, TopicCounts
from broker.exchange.model import AUDIT_EVENTS

RATE_PER_S: Final = 500
LOOK_S: Final = 0.005
PATIENCE_S: Final = 60.0
WARM_UP_MS: Final = 5_000

Seen = dict[str, list[tuple[float, int]]]  # by folder of the log: when which size was seen first


def run(seconds: float = 60.0) -> dict[str, Any]:
    """Measure.

    Args:
        seconds: of the steady part.
    """
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as home, stage(Path(home)) as scene:
        auditlog.start(scene)
        return asyncio.run(_run(scene, seconds))


async def _run(scene: Stage, seconds: float) -> dict[str, Any]:
    seen: Seen = {}
    ending = threading.Event()
    watcher = threading.Thread(target=_watch, args=(scene.home, seen, ending), daemon=True)
    watcher.start()
    try:
        await enrol_pupils(scene)
        began_ms = int(time.time() * 1000)
        measured = await steady(scene, seconds, RATE_PER_S)
        stamps = await _stamps(scene, await _partitions(scene))
        await asyncio.to_thread(auditlog.until_signed, scene.home, sum(map(len, stamps.values())), 0)
        await asyncio.sleep(10 * LOOK_S)
    finally:
        ending.set()
        watcher.join()
    delays = sorted(_delays(stamps, seen, began_ms + WARM_UP_MS))
    return {
        "rate_per_s": RATE_PER_S,
        "seconds": seconds,
        "leaves": len(delays),
        "p50_ms": quantile(delays, 0.5),
        "p90_ms": quantile(delays, 0.9),
        "p99_ms": quantile(delays, 0.99),
        "most_ms": delays[-1],
        "checkpoints": sum(map(len, seen.values())),
        "delivery": {name: measured[name] for name in ("p50_ms", "p99_ms", "missing", "cpu_wait")},
        "load_average": os.getloadavg(),
    }


def _watch(home: Path, seen: Seen, ending: threading.Event) -> None:
    while not ending.is_set():
        for name, checkpoint in auditlog.checkpoints(home).items():
            sizes = seen.setdefault(name, [])
            if not sizes or sizes[-1][1] < checkpoint.size:
                sizes.append((time.time() * 1000, checkpoint.size))
        ending.wait(LOOK_S)


async def _partitions(scene: Stage) -> int:
    counts = TopicCounts(KafkaClients(scene.connections["auditor"]))
    try:
        await counts.require([AUDIT_EVENTS])
        return counts.partitions(AUDIT_EVENTS)
    finally:
        await counts.close()


async def _stamps(scene: Stage, partitions: int) -> dict[int, list[int]]:
    """Timestamps of the committed audit records, by partition."""
    consumer = AIOKafkaConsumer(
        **scene.connections["auditor"].aiokafka(), isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        places = [TopicPartition(AUDIT_EVENTS, number) for number in range(partitions)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        found: dict[int, list[int]] = {place.partition: [] for place in places}
        for place in places:
            consumer.seek(place, 0)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for place, records in (await consumer.getmany(timeout_ms=500)).items():
                found[place.partition] += [record.timestamp for record in records]
            if all([await consumer.position(place) >= ends[place] for place in places]):
                return found
        raise TimeoutError
    finally:
        await consumer.stop()


def _delays(stamps: Mapping[int, list[int]], seen: Seen, since_ms: int) -> list[float]:
    delays = []
    for partition, times in stamps.items():
        folder = LogName.of(auditlog.NAME, TopicPartition(AUDIT_EVENTS, partition)).folder
        looks = iter(seen.get(folder, ()))
        at, size = 0.0, 0
        for index, stamp in enumerate(times):
            while size <= index:
                at, size = next(looks)
            if stamp >= since_ms:
                delays.append(at - stamp)
    return delays


def rows(r: dict[str, Any]) -> list[tuple[str, str]]:
    """For people."""
    return [
        (f"decision -> signed checkpoint that covers it, p50 at {r['rate_per_s']}/s", f"{r['p50_ms']:.0f} ms"),
        ("  p90", f"{r['p90_ms']:.0f} ms"),
        ("  p99", f"{r['p99_ms']:.0f} ms"),
        ("  most", f"{r['most_ms']:.0f} ms"),
        (f"leaves in {r['seconds']:.0f} s, checkpoints", f"{r['leaves']:,}, {r['checkpoints']:,}"),
        ("delivery meanwhile: p50, p99", f"{r['delivery']['p50_ms']:.0f} ms, {r['delivery']['p99_ms']:.0f} ms"),
    ]
