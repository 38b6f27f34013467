"""Read what is on the topics: as parties and auditors do, and raw as nobody else may."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from broker.audit.leaf import is_decision
from broker.cli.send import send_all
from broker.client import Consumer, Event, Received, Sent, Status, StatusConsumer
from broker.demo.stage import Stage
from broker.kafka.connection import KafkaConnection
from broker.kafka.reading import looking

PATIENCE_SECONDS = 90.0


async def send(scene: Stage, party: str, events: list[Event]) -> list[Sent]:
    """Send with the party's own profile."""
    return await send_all(scene.profile(party), events)


async def outcomes(scene: Stage, party: str, sent: list[Sent], *, times: int = 1) -> dict[str, list[Status]]:
    """Wait until each of these events has so many statuses; gives all by event id."""
    wanted = {s.event_id for s in sent}
    found: dict[str, list[Status]] = {}
    deadline = time.monotonic() + PATIENCE_SECONDS
    async with StatusConsumer(scene.profile(party), group=f"watch-{time.time_ns()}") as statuses:
        async for status in statuses.statuses(idle_seconds=PATIENCE_SECONDS):
            found.setdefault(status.event_id, []).append(status)
            if all(len(found.get(event_id, ())) >= times for event_id in wanted):
                return found
            assert time.monotonic() < deadline, f"{len(wanted - found.keys())} of {len(wanted)} have no outcome"
    raise AssertionError(f"{len(wanted - found.keys())} of {len(wanted)} events have no outcome")


async def received(scene: Stage, party: str, *, count: int) -> list[Received]:
    """What a receiver reads, at least so many, and then whatever still comes within two seconds."""
    found: list[Received] = []
    async with Consumer(scene.profile(party), "usage", group=f"watch-{time.time_ns()}") as consumer:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(found) < count:
            found += [r async for r in consumer.events(idle_seconds=2.0)]
            assert time.monotonic() < deadline, f"{len(found)} of {count} came"
        assert consumer.gaps == []
    return found


async def leaves(scene: Stage) -> list[dict[str, Any]]:
    """All leaves of decisions, as the auditor reads them."""
    found = raw(scene.connections["auditor"], lambda t: t == "audit.events")
    return [json.loads(record.value) async for record in found if is_decision(record.value)]


async def raw(
    connection: KafkaConnection, wanted: Callable[[str], bool], *, isolation: str = "read_committed"
) -> AsyncIterator[ConsumerRecord]:
    """Every record of the topics, from their beginning to their present end."""
    consumer = looking(connection, isolation_level=isolation)
    await consumer.start()
    try:
        topics = [topic for topic in await consumer.topics() if wanted(topic)]
        parts = [TopicPartition(t, p) for t in topics for p in sorted(await _partitions(consumer, t))]
        consumer.assign(parts)
        for part, offset in (await consumer.beginning_offsets(parts)).items():
            consumer.seek(part, offset)
        ends = await consumer.end_offsets(parts)
        while any([await consumer.position(p) < ends[p] for p in parts]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    yield record
    finally:
        await consumer.stop()


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    deadline = time.monotonic() + 10
    consumer.assign([TopicPartition(topic, 0)])
    while not (found := consumer.partitions_for_topic(topic)):
        assert time.monotonic() < deadline, topic
        await asyncio.sleep(0.05)
    return set(found)


def scraped(scene: Stage) -> dict[str, Any]:
    """The worker's metrics by name, as Prometheus' own parser has them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{scene.ports[0]}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    families = [f for f in text_string_to_metric_families(text) if not f.name.endswith("_created")]
    return {f.name + ("_total" if f.type == "counter" else ""): f for f in families}
