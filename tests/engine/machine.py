"""What the engine's tests share: a copying function in place of the exchange, topics of one's own, and a checker.

Run as a program it is a worker process that a test can kill: see `main`.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from broker.engine import DataPlane, EngineConfig, KafkaClients, Observer, RegistryView, VaultView, topic_identity
from broker.errors import ConfigError
from broker.exchange.model import AUDIT_EVENTS, Decision, InputRecord, Outcome, Outgoing, StateDelta, Step, Views
from broker.exchange.state import LaneState, delivery_id, lane_partition
from broker.kafka.connection import KafkaConnection
from broker.kafka.reading import looking

OWN = {
    "lane.state": 4,
    "parked": 4,
    "audit.events": 4,
    "audit.control": 1,
    "audit.index": 4,
    "vault.identity": 2,
    "registry": 1,
}
COMPACTED = {"lane.state", "parked", "vault.identity", "registry"}


def copy(state: LaneState, inputs: Sequence[InputRecord], views: Views, now_ms: int, next_offset: int) -> Step:
    """Copy each record to `out.<party>.copy`, with an audit record that tells where it came from."""
    delta = StateDelta(next_offset, next_parked=state.next_parked, incidents=dict(state.incidents))
    outgoing, decisions = [], []
    audit = lane_partition(state.lane, views.partitions(AUDIT_EVENTS))
    for record in inputs:
        topic = f"out.{record.party}.copy"
        flow = f"{topic}/{record.partition}"
        delta.flows[flow] = delta.flows.get(flow, state.flows.get(flow, 0)) + 1
        headers = (("seq", str(delta.flows[flow]).encode()), ("registry", views.registry.version.encode()))
        outgoing.append(Outgoing(topic, record.partition, record.key, record.value, headers))
        where = json.dumps([record.topic, record.partition, record.offset]).encode()
        outgoing.append(Outgoing(AUDIT_EVENTS, audit, None, where))
        delta.delivered.append(delivery_id(f"{record.topic}/{record.partition}/{record.offset}", "copy"))
        decisions.append(Decision(Outcome.DELIVERED, "ok", record.party))
    if outgoing or next_offset != state.next_offset:
        outgoing += state.records(delta, views.partitions("lane.state"), views.partitions("parked"))
    return Step(outgoing, decisions, delta)


def outputs(topic: str) -> list[str]:
    """Where `copy` writes for an input topic."""
    return [f"out.{topic.partition('.')[2]}.copy"]


def fast(group: str, **changes: Any) -> EngineConfig:
    """Settings with short waits: `group` names the consumer group and the input topics `in.<group>...`."""
    short: dict[str, Any] = {
        "pattern": rf"^in\.{group}.*", "session_timeout_s": 6.0, "heartbeat_s": 0.5, "rebalance_timeout_s": 8.0,
        "metadata_age_s": 2.0, "fenced_backoff_s": 1.0,
    }  # fmt: skip
    return EngineConfig(group=group, **(short | changes))


def some_registry(last: Any, records: Mapping[str, bytes], changes: Mapping[str, bytes | None]) -> Any:
    """A registry that is only a version: the value of the record `version`; `invalid` makes it one."""
    if records.get("version") == b"invalid":
        raise ConfigError("no such version", code="registry.record")
    return SimpleNamespace(version=records.get("version", b"0").decode())


def make_plane(
    connection: KafkaConnection, config: EngineConfig, folder: Path, process: Any = copy, *,
    observer: Observer | None = None, build: Any = some_registry, set_aside: Any = None,
) -> DataPlane:  # fmt: skip
    """A data plane with a vault copy in `folder`."""
    clients = KafkaClients(connection, request_timeout_ms=5000)
    vault = VaultView(clients, topic_identity(connection, "vault.identity"), folder)
    registry = RegistryView(clients, build)
    return DataPlane(
        clients, process, registry, vault, outputs=outputs, config=config, observer=observer, set_aside=set_aside
    )


def create_topics(connection: KafkaConnection, topics: Mapping[str, int], **settings: str) -> None:
    """Create topics, and wait until they have leaders."""
    admin = AdminClient(connection.confluent())
    wanted = []
    for name, partitions in topics.items():
        config = {"cleanup.policy": "compact"} if name in COMPACTED else {}
        wanted.append(NewTopic(name, partitions, 1, config={**config, **settings}))
    for future in admin.create_topics(wanted).values():
        try:
            future.result()
        except KafkaException as error:  # a request that got no answer in time was sent again, by librdkafka
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    for _ in range(200):
        found = admin.list_topics(timeout=5).topics
        if all(name in found and all(p.leader >= 0 for p in found[name].partitions.values()) for name in topics):
            return


async def produce(connection: KafkaConnection, topic: str, values: Sequence[bytes], partitions: int = 1) -> None:
    """Send values; the key is the value's part before `:`, and decides the partition."""
    producer = AIOKafkaProducer(**connection.aiokafka(), enable_idempotence=True, linger_ms=5)
    await producer.start()
    try:
        sent = []
        for value in values:
            key = value.partition(b":")[0]
            sent.append(await producer.send(topic, value, key=key, partition=int(key) % partitions))
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def put(connection: KafkaConnection, topic: str, key: str, value: bytes | None, partition: int = 0) -> int:
    """Send one record; its offset."""
    producer = AIOKafkaProducer(**connection.aiokafka())
    await producer.start()
    try:
        return (await producer.send_and_wait(topic, value, key=key.encode(), partition=partition)).offset
    finally:
        await producer.stop()


async def read_all(connection: KafkaConnection, *topics: str) -> list[ConsumerRecord]:
    """Everything that is committed in these topics."""
    consumer = looking(connection, auto_offset_reset="earliest")
    await consumer.start()
    try:
        counts = AdminClient(connection.confluent()).list_topics(timeout=5).topics
        partitions = [TopicPartition(t, p) for t in topics for p in counts[t].partitions]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        records: list[ConsumerRecord] = []
        while True:
            for fetched in (await consumer.getmany(timeout_ms=200)).values():
                records += fetched
            if all([await consumer.position(p) >= ends[p] for p in partitions]):
                return records
    finally:
        await consumer.stop()


@dataclass(frozen=True)
class Verdict:
    """What the checker found; all zero but `found` when every record came out once and in order."""

    found: int
    lost: int
    doubled: int
    disordered: int
    unaudited: int
    gaps: int

    @property
    def clean(self) -> bool:
        """Nothing lost, doubled, out of order, unaudited, and no gap in the flows' numbers."""
        return not (self.lost or self.doubled or self.disordered or self.unaudited or self.gaps)


async def verify(connection: KafkaConnection, parties: Sequence[str], expected: int | None = None) -> Verdict:
    """Compare what came out, and its audit, with what went in."""
    taken = await read_all(connection, *(f"in.{party}" for party in parties))
    came_out = await read_all(connection, *(f"out.{party}.copy" for party in parties))
    audited = [json.loads(r.value) for r in await read_all(connection, AUDIT_EVENTS)]
    mine = {f"in.{party}" for party in parties}
    places = [tuple(place) for place in audited if place[0] in mine]
    wanted, got = [(r.topic, r.value) for r in taken], [("in." + r.topic[4:-5], r.value) for r in came_out]
    assert expected is None or len(wanted) == expected, "the test's own input is not complete"
    last: dict[tuple[str, bytes], int] = {}
    seqs: dict[tuple[str, int], int] = {}
    disordered = gaps = 0
    for record in came_out:
        key, _, number = record.value.partition(b":")
        disordered += int(number) <= last.get((record.topic, key), -1)
        last[record.topic, key] = int(number)
        flow = record.topic, record.partition
        gaps += int(dict(record.headers)["seq"]) != seqs.get(flow, 0) + 1
        seqs[flow] = int(dict(record.headers)["seq"])
    inputs = {(r.topic, r.partition, r.offset) for r in taken}
    unaudited = len(inputs - set(places)) + len(places) - len(set(places))
    return Verdict(len(got), len(set(wanted) - set(got)), len(got) - len(set(got)), disordered, unaudited, gaps)


async def until(condition: Callable[[], Any], what: str, timeout_s: float = 30.0) -> Any:
    """Wait for a condition, sync or async."""
    async with asyncio.timeout(timeout_s) as limit:
        try:
            while True:
                found = condition()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(0.05)
        except TimeoutError:
            if limit.expired():
                raise AssertionError(f"not within {timeout_s} s: {what}") from None
            raise


async def end_offsets(connection: KafkaConnection, topic: str, partitions: int) -> dict[int, int]:
    """Where a topic ends."""
    consumer = AIOKafkaConsumer(**connection.aiokafka(), isolation_level="read_committed")
    await consumer.start()
    try:
        places = [TopicPartition(topic, p) for p in range(partitions)]
        return {p.partition: offset for p, offset in (await consumer.end_offsets(places)).items()}
    finally:
        await consumer.stop()


async def main(connection_file: str, group: str, folder: str) -> None:
    """A worker process: prints `ready N` and runs until SIGTERM."""
    connection = KafkaConnection.from_file(Path(connection_file))
    plane = make_plane(connection, fast(group), Path(folder))
    work = asyncio.create_task(plane.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: asyncio.ensure_future(plane.stop()))
    started = asyncio.create_task(_say_ready(plane, work))
    with suppress(asyncio.CancelledError):
        await work
    started.cancel()


async def _say_ready(plane: DataPlane, work: asyncio.Task[None]) -> None:
    while not plane.lanes and not work.done():  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    sys.stdout.write(f"ready {await plane.ready()}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
