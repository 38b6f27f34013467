"""The data plane on a real Kafka: nothing lost, doubled or out of order."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient

from broker.engine import BatchReport, DataPlane, Observer
from broker.errors import TransientError
from broker.exchange.model import VAULT, InputRecord, Outgoing, Parked, StateDelta, Step, Views
from broker.exchange.state import LaneState
from broker.kafka.connection import KafkaConnection
from broker.kafka.embedded import EmbeddedKafka
from tests.engine.machine import OWN, copy, create_topics, fast, make_plane, produce, put, read_all, until, verify

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


class Seen(Observer):
    """Counts what the lanes report."""

    def __init__(self) -> None:
        self.records = self.recomputations = self.take_overs = 0
        self.failures: list[str] = []
        self.lost_records = 0

    def committed(self, report: BatchReport) -> None:
        self.records += report.records

    def took_over(self, lane: str, seconds: float) -> None:  # noqa: ARG002
        self.take_overs += 1

    def failed(self, lane: str, kind: str) -> None:  # noqa: ARG002
        self.failures.append(kind)

    def recomputed(self, lane: str) -> None:  # noqa: ARG002
        self.recomputations += 1

    def lost(self, lane: str, records: int) -> None:  # noqa: ARG002
        self.lost_records += records


def numbered(count: int, keys: int = 16) -> list[bytes]:
    """Values `key:number`, numbered within each key."""
    return [b"%d:%d" % (i % keys, i // keys) for i in range(count)]


def at_end(planes: Sequence[DataPlane], total: int) -> bool:
    """Whether the lanes of these planes have committed so many records of their partitions together."""
    committed = {p: lane.committed or 0 for plane in planes for p, lane in plane.lanes.items()}
    return sum(committed.values()) >= total


async def test_one_worker_copies_everything_once(connection: KafkaConnection, group: str, tmp_path: Path) -> None:
    """Every record comes out once, in order, audited, and numbered without a gap."""
    create_topics(connection, {f"in.{group}": 4, f"out.{group}.copy": 4})
    await produce(connection, f"in.{group}", numbered(4000), 4)
    async with make_plane(connection, fast(group), tmp_path) as plane:
        assert await plane.ready() == 4
        await until(lambda: at_end([plane], 4000), "all committed")
        assert plane.lag() == dict.fromkeys(plane.lanes, 0)
    verdict = await verify(connection, [group], 4000)
    assert verdict.clean, verdict
    assert verdict.found == 4000


class Workers:
    """Worker processes of one group."""

    def __init__(self, kafka: EmbeddedKafka, group: str, folder: Path) -> None:
        self.kafka, self.group, self.folder, self.count = kafka, group, folder, 0
        self.running: list[subprocess.Popen[bytes]] = []

    async def start(self) -> None:
        """Start one more and wait until it is ready."""
        self.count += 1
        log = self.folder / f"{self.count}.log"
        command = [sys.executable, "-m", "tests.engine.machine", str(self.kafka.connection_file), self.group]
        with log.open("wb") as out:
            child = subprocess.Popen([*command, str(self.folder / f"vault-{self.count}")], stdout=out, stderr=out)
        self.running.append(child)
        await until(lambda: b"ready" in log.read_bytes() or child.poll() is not None, f"worker {self.count} ready", 40)

    def kill_oldest(self) -> None:
        """SIGKILL."""
        child = self.running.pop(0)
        child.kill()
        child.wait()

    async def end(self) -> list[int]:
        """SIGTERM to all; their exit codes."""
        for child in self.running:
            child.send_signal(signal.SIGTERM)
        return [await asyncio.to_thread(child.wait, 20) for child in self.running]

    def kill_all(self) -> None:
        """Clean up."""
        for child in self.running:
            child.kill()
            child.wait()


class Load:
    """Sends values in small portions until all are sent."""

    def __init__(self, connection: KafkaConnection, topic: str, values: list[bytes], partitions: int) -> None:
        self.sent, self.values = 0, values
        self.task = asyncio.create_task(self._run(connection, topic, partitions))

    async def _run(self, connection: KafkaConnection, topic: str, partitions: int) -> None:
        while self.sent < len(self.values):
            await produce(connection, topic, self.values[self.sent : self.sent + 300], partitions)
            self.sent += 300

    async def more(self, count: int) -> None:
        """Wait until so many more were sent, or all."""
        enough = min(self.sent + count, len(self.values))
        await until(lambda: self.sent >= enough, "load goes on")


async def test_workers_killed_in_the_middle_lose_and_double_nothing(
    kafka: EmbeddedKafka, connection: KafkaConnection, group: str, tmp_path: Path
) -> None:
    """SIGKILL of one of two worker processes under load, three times over: 0 lost, 0 doubled, 0 out of order."""
    create_topics(connection, {f"in.{group}": 6, f"out.{group}.copy": 6})
    workers = Workers(kafka, group, tmp_path)
    try:
        await asyncio.gather(workers.start(), workers.start())
        load = Load(connection, f"in.{group}", numbered(18_000, 32), 6)
        for _ in range(3):
            await load.more(1500)
            workers.kill_oldest()
            await workers.start()
        await load.task
        await until(lambda: _came_out(connection, group, 18_000), "everything came out", 60)
        assert await workers.end() == [0, 0]
    finally:
        workers.kill_all()
    verdict = await verify(connection, [group], 18_000)
    assert verdict.clean, verdict


async def test_a_zombie_worker_doubles_nothing(
    kafka: EmbeddedKafka, connection: KafkaConnection, group: str, tmp_path: Path
) -> None:
    """A worker stopped (SIGSTOP) until others have its lanes, then continued: what it still holds never commits."""
    create_topics(connection, {f"in.{group}": 4, f"out.{group}.copy": 4})
    workers = Workers(kafka, group, tmp_path)
    try:
        await asyncio.gather(workers.start(), workers.start())
        load = Load(connection, f"in.{group}", numbered(12_000, 32), 4)
        await load.more(1500)
        zombie = workers.running[0]
        zombie.send_signal(signal.SIGSTOP)
        await load.task
        await until(lambda: _came_out(connection, group, 12_000), "the other one did it all", 60)
        zombie.send_signal(signal.SIGCONT)
        await produce(connection, f"in.{group}", [b"%d:100000" % key for key in range(32)], 4)
        await until(lambda: _came_out(connection, group, 12_032), "both go on", 60)
        assert await workers.end() == [0, 0]
    finally:
        workers.kill_all()
    verdict = await verify(connection, [group], 12_032)
    assert verdict.clean, verdict


async def _came_out(connection: KafkaConnection, group: str, total: int) -> bool:
    await asyncio.sleep(0.5)  # not a wait for time: the condition is looked at twice a second, it reads a whole topic
    return len(await read_all(connection, f"out.{group}.copy")) >= total


async def test_rebalances_between_two_services_lose_and_double_nothing(
    connection: KafkaConnection, group: str, tmp_path: Path
) -> None:
    """A second member joins, leaves and joins again while records flow."""
    create_topics(connection, {f"in.{group}": 6, f"out.{group}.copy": 6})
    values = numbered(9000, 24)
    loading = asyncio.create_task(_trickle(connection, f"in.{group}", values, 6))
    async with make_plane(connection, fast(group), tmp_path / "a") as first:
        await first.ready()
        for turn in range(2):
            async with make_plane(connection, fast(group), tmp_path / f"b{turn}") as second:
                await until(
                    lambda s=second: len(s.lanes) == 3 and all(x.positioned for x in s.lanes.values()), "shared"
                )
                await until(lambda: len(first.lanes) == 3, "the first let go of three")
        await loading
        await until(lambda: at_end([first], len(values)), "all committed")
    verdict = await verify(connection, [group], len(values))
    assert verdict.clean, verdict


async def _trickle(connection: KafkaConnection, topic: str, values: list[bytes], partitions: int) -> None:
    for start in range(0, len(values), 250):
        await produce(connection, topic, values[start : start + 250], partitions)


async def test_failures_in_the_middle_lose_and_double_nothing(
    connection: KafkaConnection, group: str, tmp_path: Path
) -> None:
    """One batch in five fails before or after its decision; the lane goes back to its take-over and repeats it."""
    create_topics(connection, {f"in.{group}": 3, f"out.{group}.copy": 3})
    await produce(connection, f"in.{group}", numbered(6000, 12), 3)
    dice, seen = random.Random(5), Seen()

    def shaky(state: LaneState, inputs: Sequence[InputRecord], views: Views, now: int, next_offset: int) -> Step:
        fate = dice.random()
        if fate < 0.1:
            raise TransientError("the lookup service is away")
        step = copy(state, inputs, views, now, next_offset)
        if fate < 0.2:  # the transaction cannot be completed: partition 99 does not exist
            step.outgoing.append(Outgoing(f"out.{group}.copy", 99, None, b"x"))
        return step

    config = fast(group, batch_records=100, backoff_s=(0.05, 0.2), batch_timeout_s=3.0, request_timeout_s=2.0)
    async with make_plane(connection, config, tmp_path, shaky, observer=seen) as plane:
        await until(lambda: at_end([plane], 6000), "all committed", 80)
    assert len(seen.failures) >= 5, "the test provoked too little"
    verdict = await verify(connection, [group], 6000)
    assert verdict.clean, verdict


async def test_a_bug_stops_only_its_own_lane_and_is_told_without_data(
    connection: KafkaConnection, group: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lane stands still and says which code failed where, not on what; the others go on; nothing passes it."""
    create_topics(connection, {f"in.{group}": 2, f"out.{group}.copy": 2})
    await produce(connection, f"in.{group}", [b"0:0", b"0:1", b"1:0", b"1:1"], 2)
    broken = True

    def buggy(state: LaneState, inputs: Sequence[InputRecord], views: Views, now: int, next_offset: int) -> Step:
        if broken and any(record.value == b"0:1" for record in inputs):
            raise ValueError("secret 0:1 of Jan Jansen")
        return copy(state, inputs, views, now, next_offset)

    async with make_plane(connection, fast(group, batch_records=1), tmp_path, buggy) as plane:
        await until(lambda: any(lane.failures >= 3 for lane in plane.lanes.values()), "the lane failed")
        standing = next(lane for lane in plane.lanes.values() if lane.failures)
        other = next(lane for lane in plane.lanes.values() if lane is not standing)
        assert isinstance(standing.failure, ValueError)
        assert other.committed == 2
        broken = False
        await until(lambda: at_end([plane], 4), "cured")
        assert standing.failure is None
    logged = capsys.readouterr().out
    assert "test_service.py:" in logged
    assert "ValueError" in logged
    assert "Jansen" not in logged
    assert (await verify(connection, [group], 4)).clean


async def test_no_progress_ends_the_process_with_a_reason(
    connection: KafkaConnection, group: str, tmp_path: Path
) -> None:
    """When there is work and no lane moves for `patience_s`, `run` raises `worker.stuck`."""
    create_topics(connection, {f"in.{group}": 1, f"out.{group}.copy": 1})
    await produce(connection, f"in.{group}", [b"0:0"])

    def never(*_: Any) -> Step:
        raise TransientError("away")

    plane = make_plane(connection, fast(group, patience_s=2.0), tmp_path, never)
    with pytest.raises(TransientError, match="1 lanes have work and none moved \\(TransientError\\)") as caught:
        await asyncio.wait_for(plane.run(), 30)
    await plane.stop()
    assert caught.value.code == "worker.stuck"


async def test_a_registry_change_before_the_commit_decides_again(
    connection: KafkaConnection, group: str, tmp_path: Path
) -> None:
    """Records were sent already when the registry changed: nothing of them is seen, all are decided on the new one."""
    create_topics(connection, {f"in.{group}": 1, f"out.{group}.copy": 1})
    old, new = f"old-{group}".encode(), f"new-{group}".encode()
    await put(connection, "registry", "version", old)
    seen, changed = Seen(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def withdrawn(state: LaneState, inputs: Sequence[InputRecord], views: Views, now: int, next_offset: int) -> Step:
        step = copy(state, inputs, views, now, next_offset)
        if inputs and not changed.is_set():
            changed.set()
            # Before the records are acknowledged, the view gets another registry.
            loop.call_soon(lambda: setattr(plane.views.registry, "_registry", next_registry))
        return step

    plane = make_plane(connection, fast(group), tmp_path, withdrawn, observer=seen)
    async with plane:
        await plane.ready()
        assert plane.views.registry.current.version == old.decode()
        next_registry = type(plane.views.registry.current)(version=new.decode())
        await produce(connection, f"in.{group}", numbered(50))
        await until(lambda: at_end([plane], 50), "all committed")
    assert seen.recomputations >= 1
    verdict = await verify(connection, [group], 50)
    assert verdict.clean, verdict
    used = {dict(r.headers)["registry"] for r in await read_all(connection, f"out.{group}.copy")}
    assert used == {new}


async def test_a_registry_record_reaches_the_lanes_within_two_seconds(
    connection: KafkaConnection, group: str, tmp_path: Path
) -> None:
    """What the operator writes is what the next batch is decided on."""
    create_topics(connection, {f"in.{group}": 1, f"out.{group}.copy": 1})
    async with make_plane(connection, fast(group), tmp_path) as plane:
        await plane.ready()
        version = f"v-{group}"
        began = asyncio.get_running_loop().time()
        await put(connection, "registry", "version", version.encode())
        await until(lambda: plane.views.registry.current.version == version, "the view follows", 5)
        assert asyncio.get_running_loop().time() - began < 2.0


async def test_an_invalid_registry_pauses_the_lanes_until_there_is_a_good_one(
    connection: KafkaConnection, group: str, tmp_path: Path
) -> None:
    """It is reported, and nothing is decided on the one before: that may permit what was withdrawn since."""
    create_topics(connection, {f"in.{group}": 1, f"out.{group}.copy": 1})
    await put(connection, "registry", "version", f"good-{group}".encode())
    seen = Seen()
    async with make_plane(connection, fast(group), tmp_path, observer=seen) as plane:
        await plane.ready()
        try:
            await put(connection, "registry", "version", b"invalid")
            await until(lambda: plane.views.registry.invalid == "registry.record", "reported")
            assert plane.views.age_s < 2.0, "it is known to be the newest"
            await produce(connection, f"in.{group}", numbered(20))
            await until(lambda: "TransientError" in seen.failures, "the lane may not decide")
            assert seen.records == 0
        finally:
            await put(connection, "registry", "version", b"good again")
        await until(lambda: at_end([plane], 20), "goes on")
    assert {dict(r.headers)["registry"] for r in await read_all(connection, f"out.{group}.copy")} == {b"good again"}


async def test_a_new_topic_is_served_while_workers_run(connection: KafkaConnection, group: str, tmp_path: Path) -> None:
    """A party that is added gets its lanes without a restart, and the others lose nothing by that rebalance."""
    create_topics(connection, {f"in.{group}": 2, f"out.{group}.copy": 2})
    async with make_plane(connection, fast(group), tmp_path) as plane:
        await plane.ready()
        loading = asyncio.create_task(_trickle(connection, f"in.{group}", numbered(2000), 2))
        create_topics(connection, {f"in.{group}-b": 2, f"out.{group}-b.copy": 2})
        await produce(connection, f"in.{group}-b", numbered(500), 2)
        await loading
        await until(lambda: len(plane.lanes) == 4 and at_end([plane], 2500), "both served", 60)
    verdict = await verify(connection, [group, f"{group}-b"], 2500)
    assert verdict.clean, verdict


async def test_state_survives_a_take_over(connection: KafkaConnection, group: str, tmp_path: Path) -> None:
    """Flow numbers, the duplicate window and parked events are what the last owner committed."""
    create_topics(connection, {f"in.{group}": 1, f"out.{group}.copy": 1})
    await produce(connection, f"in.{group}", numbered(700))
    async with make_plane(connection, fast(group), tmp_path) as plane:
        await until(lambda: at_end([plane], 700), "committed")
        before = next(iter(plane.lanes.values()))._state
    states: list[LaneState] = []

    def look(state: LaneState, *rest: Any) -> Step:
        states.append(state)
        return copy(state, *rest)

    async with make_plane(connection, fast(group), tmp_path, look) as plane:
        await plane.ready()
        await produce(connection, f"in.{group}", [b"99:0"])
        await until(lambda: at_end([plane], 701), "committed")
        after = next(iter(plane.lanes.values()))._state
    assert before is not None
    assert after is not None
    assert states[0].delivered >= before.delivered
    assert len(after.delivered) == 701
    assert after.flows == {f"out.{group}.copy/0": 701}
    assert (await verify(connection, [group], 701)).clean


async def test_lost_input_is_told_and_not_passed_over_silently(
    connection: KafkaConnection, group: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Retention deleted records before they were read: the lane says which, and goes on at the beginning."""
    create_topics(connection, {f"in.{group}": 1, f"out.{group}.copy": 1})
    await produce(connection, f"in.{group}", numbered(10))
    async with make_plane(connection, fast(group), tmp_path) as plane:
        await until(lambda: at_end([plane], 10), "committed")
    await produce(connection, f"in.{group}", [b"7:%d" % n for n in range(5, 25)])
    admin = AdminClient(connection.confluent())
    await asyncio.to_thread(lambda: [f.result() for f in admin.delete_records([Place(f"in.{group}", 0, 15)]).values()])
    seen = Seen()
    async with make_plane(connection, fast(group), tmp_path, observer=seen) as plane:
        await until(lambda: at_end([plane], 30), "goes on")
    assert seen.lost_records == 5
    assert "input.lost" in capsys.readouterr().out
    leaves = [json.loads(record.value)["control"] for record in await read_all(connection, "audit.control")]
    told = [(leaf["kind"], leaf["first"], leaf["last"]) for leaf in leaves if leaf.get("topic") == f"in.{group}"]
    assert told == [("input-lost", 10, 14)]


async def test_a_record_whose_output_kafka_refuses_for_its_size_is_set_aside(
    connection: KafkaConnection, group: str, tmp_path: Path
) -> None:
    """As Kafka itself refuses it: only this record is set aside, all others come out once and in order."""
    create_topics(connection, {f"in.{group}": 1})
    create_topics(connection, {f"out.{group}.copy": 1}, **{"max.message.bytes": "5000"})
    sent = numbered(20)
    large = b"7:%d" % 90 + b" " + random.Random(1).randbytes(20_000)
    await produce(connection, f"in.{group}", [*sent[:10], large, *sent[10:]])

    def aside(
        state: LaneState,
        guilty: Any,
        views: Views,
        now: int,
        next_offset: int,
        *,
        brief: bool,
    ) -> Step:
        assert guilty.offset == 10
        delta = StateDelta(next_offset)
        return Step(state.records(delta, views.partitions("lane.state"), views.partitions("parked")), [], delta)

    async with make_plane(connection, fast(group), tmp_path, set_aside=aside) as plane:
        await until(lambda: at_end([plane], 21), "all decided", 60)
    assert [record.value for record in await read_all(connection, f"out.{group}.copy")] == sent


async def test_an_own_vault_write_is_known_to_the_next_batch(
    connection: KafkaConnection, group: str, tmp_path: Path
) -> None:
    """Every batch reads what the one before it wrote, though the view has not read it back yet."""
    create_topics(connection, {f"in.{group}": 1, f"out.{group}.copy": 1})
    await produce(connection, f"in.{group}", numbered(60))
    key, found, behind = f"own-{group}".encode().ljust(32, b"."), [], []

    def enrol(state: LaneState, inputs: Sequence[InputRecord], views: Views, now: int, next_offset: int) -> Step:
        if not inputs:
            return copy(state, inputs, views, now, next_offset)
        found.append(int(views.vault.get(key) or b"0"))
        with plane.views.vault.reading() as reader:
            behind.append(int(reader.get(key) or b"0"))
        step = copy(state, inputs, views, now, next_offset)
        step.outgoing.append(Outgoing(VAULT, 1, key, str(found[-1] + 1).encode()))
        return step

    plane = make_plane(connection, fast(group, batch_records=1), tmp_path, enrol)
    async with plane:
        await until(lambda: at_end([plane], 60), "committed")
        await until(lambda: not len(next(iter(plane.lanes.values()))._overlay) or _prune(plane), "overlay is let go")
    assert found == list(range(60))
    assert behind != found, "the view was never behind, so this proved nothing"


def _prune(plane: DataPlane) -> bool:
    overlay = next(iter(plane.lanes.values()))._overlay
    overlay.prune(plane.views.vault.read)
    return not len(overlay)


async def test_parked_events_are_taken_up_when_their_identity_arrives(
    connection: KafkaConnection, group: str, tmp_path: Path
) -> None:
    """A lane without input is called again once a vault key that it waits for is in the view, and at each tick."""
    create_topics(connection, {f"in.{group}": 1, f"out.{group}.copy": 1})
    await produce(connection, f"in.{group}", [b"0:0"])
    key = f"wait-{group}".encode().ljust(32, b".")
    calls: list[bool] = []

    def park(state: LaneState, inputs: Sequence[InputRecord], views: Views, now: int, next_offset: int) -> Step:
        known = views.vault.get(key) is not None
        calls.append(known)
        delta = StateDelta(next_offset, next_parked=state.next_parked)
        for record in inputs:
            delta.parked[state.next_parked] = Parked(state.next_parked, key, 30_000, record)
            delta.next_parked += 1
        if known and state.parked:
            step = copy(state, [p.record for p in state.parked.values()], views, now, next_offset)
            delta.parked.update(dict.fromkeys(state.parked))
            delta.flows = step.delta.flows
            out = [o for o in step.outgoing if not o.topic.startswith(("lane.", "parked"))]
            return Step([*out, *state.records(delta, 4, 4)], [], delta)
        moved = inputs or delta.parked
        return Step(state.records(delta, 4, 4) if moved else [], [], delta)

    async with make_plane(connection, fast(group, tick_s=1.0), tmp_path, park) as plane:
        await until(
            lambda: next(iter(plane.lanes.values()), None) and next(iter(plane.lanes.values())).waiting[0], "parked"
        )
        await until(lambda: len(calls) >= 3, "ticks")
        assert not any(calls)
    async with make_plane(connection, fast(group), tmp_path, park) as plane:  # taken over with what is parked
        await plane.ready()
        assert next(iter(plane.lanes.values())).waiting == (1, 0)
        calls.clear()
        await put(connection, VAULT, key.decode(), b"known", 1)
        await until(lambda: any(calls), "woken")
        await until(lambda: not next(iter(plane.lanes.values())).waiting[0], "released")
    verdict = await verify(connection, [group], 1)
    assert verdict.clean, verdict


async def test_a_stale_view_pauses_the_lanes(connection: KafkaConnection, group: str, tmp_path: Path) -> None:
    """While the vault view cannot be proven current nothing is decided; then the lanes go on."""
    create_topics(connection, {f"in.{group}": 1, f"out.{group}.copy": 1})
    seen = Seen()
    plane = make_plane(
        connection, fast(group, view_age_s=1.0, batch_timeout_s=3.0, request_timeout_s=2.0), tmp_path, observer=seen
    )
    async with plane:
        await plane.ready()
        view = plane.views.vault
        tail = next(task for task in plane._tasks if task.get_name() == f"tail {VAULT}")
        tail.remove_done_callback(plane._task_ended)  # else its end would end the worker, as it should
        plane._tasks.discard(tail)
        tail.cancel()
        await until(lambda: plane.views.age_s > 1.0, "stale")
        await produce(connection, f"in.{group}", numbered(20))
        await until(lambda: "TransientError" in seen.failures, "the lane waited in vain", 20)
        assert seen.records == 0
        assert next(iter(plane.lanes.values())).failure is not None
        plane._spawn(view.run(), "tail again")
        await until(lambda: at_end([plane], 20), "goes on", 20)
    assert (await verify(connection, [group], 20)).clean


class _NotUtf8(str):
    """A header name that encodes to bytes which are not UTF-8."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:  # noqa: ARG002
        return b"\xff\xfe"


async def _send_unparsable(connection: KafkaConnection, topic: str, value: bytes, partition: int) -> None:
    """A record with such a header, as a client in another language could send it."""
    from aiokafka import AIOKafkaProducer
    from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

    producer = AIOKafkaProducer(**connection.aiokafka())
    await producer.start()
    try:
        batch = producer.create_batch()
        batch._builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, 0, 100_000)
        batch.append(key=value.partition(b":")[0], value=value, timestamp=None, headers=[(_NotUtf8("x"), b"1")])
        await (await producer.send_batch(batch, topic, partition=partition))
    finally:
        await producer.stop()


async def test_a_record_that_the_client_cannot_parse_stops_nobody(
    connection: KafkaConnection, group: str, tmp_path: Path
) -> None:
    """A header name that is not UTF-8: the record gets its decision, in its place; the others lose nothing."""
    create_topics(connection, {f"in.{group}": 2, f"out.{group}.copy": 2})
    rescued: list[str] = []

    class Watching(Seen):
        def rescued(self, lane: str) -> None:
            rescued.append(lane)

    await produce(connection, f"in.{group}", numbered(200, 4), 2)
    await _send_unparsable(connection, f"in.{group}", b"0:50", 0)
    await produce(connection, f"in.{group}", [b"%d:%d" % (key, n) for n in range(51, 80) for key in range(4)], 2)
    await _send_unparsable(connection, f"in.{group}", b"0:80", 0)
    await produce(connection, f"in.{group}", [b"%d:%d" % (key, n) for n in range(81, 90) for key in range(4)], 2)
    total = 200 + 2 + 29 * 4 + 9 * 4
    async with make_plane(connection, fast(group), tmp_path, observer=Watching()) as plane:
        await until(lambda: at_end([plane], total), "all committed", 40)
    assert len(rescued) == 2
    came_out = await read_all(connection, f"out.{group}.copy")
    assert len({r.value for r in came_out}) == len(came_out) == total
    for key in range(4):
        numbers = [int(r.value.partition(b":")[2]) for r in came_out if r.value.startswith(b"%d:" % key)]
        assert numbers == sorted(numbers)


async def test_a_second_such_record_in_another_partition_stops_nobody_either(
    connection: KafkaConnection, group: str, tmp_path: Path
) -> None:
    """While one partition is read apart, the same happens in another: both records get their decisions."""
    create_topics(connection, {f"in.{group}": 2, f"out.{group}.copy": 2})
    rescued: list[str] = []

    class Watching(Seen):
        def rescued(self, lane: str) -> None:
            rescued.append(lane)

    async with make_plane(connection, fast(group), tmp_path, observer=Watching()) as plane:
        await _send_unparsable(connection, f"in.{group}", b"0:0", 0)
        await until(lambda: at_end([plane], 1), "the first is decided", 40)
        await _send_unparsable(connection, f"in.{group}", b"1:0", 1)
        await until(lambda: at_end([plane], 2), "the second is decided", 40)
        await produce(connection, f"in.{group}", [b"0:1", b"1:1"], 2)
        await until(lambda: at_end([plane], 4), "the others go on", 40)
    assert len(set(rescued)) == 2


async def test_a_decision_that_takes_long_still_commits(
    connection: KafkaConnection, group: str, tmp_path: Path
) -> None:
    """The event loop was held up longer than a view may be old: the lane lets the views read, and commits."""
    create_topics(connection, {f"in.{group}": 1, f"out.{group}.copy": 1})
    await produce(connection, f"in.{group}", numbered(30))
    seen = Seen()

    def slow(state: LaneState, inputs: Sequence[InputRecord], views: Views, now: int, next_offset: int) -> Step:
        time.sleep(1.0)
        return copy(state, inputs, views, now, next_offset)

    config = fast(group, view_age_s=0.8, batch_records=10)
    async with make_plane(connection, config, tmp_path, slow, observer=seen) as plane:
        await until(lambda: at_end([plane], 30), "all committed")
    assert seen.failures == []
    assert (await verify(connection, [group], 30)).clean


async def test_a_batch_too_large_for_its_time_out_is_cut_down(
    connection: KafkaConnection, group: str, tmp_path: Path
) -> None:
    """Each failure halves the next batch, until it fits."""
    create_topics(connection, {f"in.{group}": 1, f"out.{group}.copy": 1})
    await produce(connection, f"in.{group}", numbered(40))

    def slow(state: LaneState, inputs: Sequence[InputRecord], views: Views, now: int, next_offset: int) -> Step:
        time.sleep(0.08 * len(inputs))
        return copy(state, inputs, views, now, next_offset)

    config = fast(group, batch_timeout_s=1.2, request_timeout_s=1.0, batch_records=40)
    async with make_plane(connection, config, tmp_path, slow) as plane:
        await until(lambda: at_end([plane], 40), "all committed", 45)
    assert (await verify(connection, [group], 40)).clean


async def test_a_background_task_that_ends_ends_the_worker(
    connection: KafkaConnection, group: str, tmp_path: Path
) -> None:
    """A view that follows nothing any more must not go unnoticed, even if it was only cancelled."""
    plane = make_plane(connection, fast(group), tmp_path)
    work = asyncio.create_task(plane.run())
    await plane.ready()
    next(task for task in plane._tasks if task.get_name() == f"tail {VAULT}").cancel()
    with pytest.raises(TransientError, match=r"its task tail vault.identity ended") as caught:
        await asyncio.wait_for(work, 10)
    assert caught.value.code == "worker.stuck"
    await plane.stop()


async def test_a_take_over_waits_until_it_has_read_its_own_settling_record(
    connection: KafkaConnection, group: str, tmp_path: Path
) -> None:
    """While the tail of `lane.state` lags, the new owner does not begin: what it has is not the last state."""
    create_topics(connection, {f"in.{group}": 2, f"out.{group}.copy": 2})
    gate = asyncio.Event()
    gate.set()
    second = make_plane(connection, fast(group), tmp_path / "b")
    apply = second._states._apply

    async def gated(*arguments: Any) -> None:
        await gate.wait()
        await apply(*arguments)

    second._states._apply = gated  # type: ignore[method-assign]
    async with make_plane(connection, fast(group), tmp_path / "a") as first, second:
        await until(lambda: len(first.lanes) == len(second.lanes) == 1, "shared")
        await until(lambda: all(x.positioned for p in (first, second) for x in p.lanes.values()), "positioned")
        gate.clear()
        await produce(connection, f"in.{group}", numbered(400, 2), 2)
        await until(lambda: at_end([first, second], 400), "all committed")
        await first.stop()
        await until(lambda: len(second.lanes) == 2, "the second has both")
        taken = next(lane for lane in second.lanes.values() if not lane.positioned)
        await until(lambda: taken._producer is not None and taken._producer._txn_manager.has_pid(), "it fenced")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(until(lambda: taken.positioned, "never", 9), 1.5)
        gate.set()
        await until(lambda: taken.positioned, "goes on")
        assert taken.committed == 200
    verdict = await verify(connection, [group], 400)
    assert verdict.clean, verdict


@pytest.mark.timeout(240)
async def test_the_end_of_kafka_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The broker is killed (SIGKILL) under load and comes back: lanes go on, 0 lost, 0 doubled, 0 out of order."""
    with EmbeddedKafka(tmp_path / "kafka", heap_mb=192) as kafka:
        connection = kafka.admin_connection()
        create_topics(connection, OWN)
        create_topics(connection, {"in.down": 4, "out.down.copy": 4})
        await produce(connection, "in.down", numbered(12_000, 32), 4)
        async with make_plane(connection, fast("down", batch_records=50), tmp_path / "vault") as plane:
            await until(lambda: at_end([plane], 2000), "under way")
            await asyncio.to_thread(kafka.kill)
            await until(lambda: plane.views.age_s > 2.0, "noticed")
            assert not at_end([plane], 12_000), "it was over before it began"
            await asyncio.to_thread(kafka.start)
            await until(lambda: at_end([plane], 12_000), "all committed", 120)
        verdict = await verify(connection, ["down"], 12_000)
        assert verdict.clean, verdict
