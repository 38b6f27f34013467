"""A log builder on a real Kafka: what it signs is what Kafka has, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient

from broker.audit.log.directory import CHECKPOINT, KEY, LogDirectory
from broker.audit.log.tiles import offsets_path, tile_path
from broker.auditlog import builder as module
from broker.auditlog.book import TOPIC, Standing
from broker.auditlog.builder import ENTRY_BYTES, HistoryLost, LogBuilder, entry_of
from broker.auditlog.epoch import begin_epoch
from broker.auditlog.service import LogMetrics
from broker.engine.topicview import CompactedTail
from broker.errors import ConfigError
from tests.auditlog.conftest import FAST, Desk
from tests.engine.machine import create_topics


def values(start: int, end: int) -> list[bytes]:
    """Leaves that can be told apart."""
    return [json.dumps({"n": n, "v": "x" * (n % 50)}).encode() for n in range(start, end)]


async def test_every_committed_record_becomes_a_leaf_and_no_aborted_one(desk: Desk) -> None:
    """In Kafka's order, with markers and aborted transactions between them; the offsets stand beside the leaves."""
    await desk.write(*values(0, 300))
    await desk.write(*values(900, 920), abort=True)
    await desk.write(*values(300, 310))
    async with desk.building():
        await desk.until_size(310)
        await desk.write(*values(920, 930), abort=True)
        await desk.write(*values(310, 320))
        await desk.until_size(320)
    assert desk.leaves() == values(0, 320)
    raw = desk.directory().read(offsets_path(0)) or b""
    offsets = [int.from_bytes(raw[at : at + 8]) for at in range(0, len(raw), 8)]
    assert offsets == list(range(256))
    last = desk.directory().read(offsets_path(1, 64)) or b""
    # 300 records, a marker, 20 aborted ones, a marker, ten, a marker, ten aborted ones, a marker, ten.
    assert int.from_bytes(last[-8:]) == 300 + 1 + 20 + 1 + 10 + 1 + 10 + 1 + 9
    assert (desk.directory().path / KEY).read_text() == desk.keys.vkeys(desk.name())[-1] + "\n"


async def test_a_builder_goes_on_where_the_one_before_ended(desk: Desk) -> None:
    """Each of five builders finds what the others left; the log is one."""
    for round_ in range(5):
        await desk.write(*values(round_ * 130, round_ * 130 + 130))
        async with desk.building():
            await desk.until_size(round_ * 130 + 130)
    assert desk.leaves() == values(0, 650)
    assert desk.seen.failures == []


async def test_a_log_is_current_as_of_now_while_nothing_comes_and_after_a_restart(desk: Desk) -> None:
    """Its age is that of what waits, not of the last checkpoint: a quiet night is no alarm."""
    await desk.write(*values(0, 3))
    for _ in range(2):
        began = time.time()
        async with desk.building():
            await desk.until(lambda: desk.seen.until_s > began)  # noqa: B023 - within the round
        assert desk.seen.until_s <= time.time()
    assert (shown := desk.shown()) is not None
    assert shown.size == 3


def test_the_age_of_a_log_is_a_metric() -> None:
    """Of the partition that it is made of."""
    metrics, place = LogMetrics(), TopicPartition("audit.events", 2)
    metrics.current(place, 1_796_030_000.0)
    labels = {"topic": "audit.events", "partition": "2"}
    assert metrics.registry.get_sample_value("broker_auditlog_current_timestamp_seconds", labels) == 1_796_030_000.0


class Killed(Exception):
    """Stands for a kill -9: nothing after it is done."""


def _kill(patch: pytest.MonkeyPatch, where: object, name: str, call: int, *, after: bool) -> None:
    """Kill at the n-th call of something, before or after it is done."""
    real: Callable[..., Any] = getattr(where, name)
    calls = 0

    def die() -> bool:
        nonlocal calls
        calls += 1
        return calls == call

    if asyncio.iscoroutinefunction(real):

        async def asynchronous(*args: Any, **kwargs: Any) -> Any:
            last = die()
            if last and not after:
                raise Killed
            done = await real(*args, **kwargs)
            if last:
                raise Killed
            return done

        patch.setattr(where, name, asynchronous)
        return

    def plain(*args: Any, **kwargs: Any) -> Any:
        last = die()
        if last and not after:
            raise Killed
        done = real(*args, **kwargs)
        if last:
            raise Killed
        return done

    patch.setattr(where, name, plain)


STEPS: dict[str, tuple[object, str]] = {
    "files": (LogDirectory, "write_immutable"),
    "transaction": (module, "write_standing"),
    "checkpoint": (LogDirectory, "publish"),
    "take-over": (module, "settle"),
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("call", [1, 2])
async def test_killed_at_any_step_the_log_comes_out_the_same(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, step: str, call: int, *, after: bool
) -> None:
    """Before and after the files, the transaction, the checkpoint, the take-over; in the first round and a later one."""
    where, name = STEPS[step]
    await desk.write(*values(0, 200))
    with monkeypatch.context() as patch:
        _kill(patch, where, name, call, after=after)
        async with desk.building():
            if call == 2:
                await desk.until_size(200)
                await desk.write(*values(200, 290))
            if (step, call) != ("take-over", 2):
                await desk.until(lambda: any(isinstance(error, Killed) for error, _ in desk.seen.failures))
        await desk.write(*values(290, 300))
    async with desk.building():
        await desk.until(lambda: (shown := desk.shown()) and shown.size == (300 if call == 2 else 210))
    assert desk.leaves() == [*values(0, 290 if call == 2 else 200), *values(290, 300)]
    assert desk.seen.stopped is None


async def test_two_builders_at_once_make_one_log(desk: Desk) -> None:
    """They shut each other out again and again; readers see one tree that only grows."""
    shown: list[int] = []
    async with desk.building(), desk.building():
        for round_ in range(20):
            await desk.write(*values(round_ * 40, round_ * 40 + 40))
            if (checkpoint := desk.shown()) is not None:
                shown.append(checkpoint.size)
        await desk.until_size(800)
    assert desk.leaves() == values(0, 800)
    assert shown == sorted(shown)
    assert not any(stopped for _, stopped in desk.seen.failures)


async def _stand(desk: Desk, standing: Standing) -> None:
    """Have Kafka say that the log stands there."""
    producer = AIOKafkaProducer(**desk.connection.aiokafka())
    await producer.start()
    try:
        await producer.send_and_wait(TOPIC, standing.pack(), key=desk.name().origin.encode(), partition=0)
    finally:
        await producer.stop()


async def _standing(desk: Desk) -> Standing:
    tail = CompactedTail(desk.clients, TOPIC)
    task = asyncio.create_task(tail.run())
    try:
        await tail.loaded()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return Standing.unpack(desk.name().origin, tail.values[desk.name().origin])


def remove_before(desk: Desk, offset: int) -> None:
    """Have Kafka forget the records before an offset."""
    admin, place = AdminClient(desk.connection.confluent()), Place(desk.topic, 0, offset)
    admin.delete_records([place])[place].result(30)


async def test_a_transaction_that_was_rolled_back_after_it_was_shown_is_made_again(desk: Desk) -> None:
    """Kafka acknowledged it and lost it (KAFKA-20734): the tree that readers saw must come to be again, no other one."""
    await desk.write(*values(0, 100))
    async with desk.building():
        await desk.until_size(100)
        before = await _standing(desk)
        await desk.write(*values(100, 170))
        await desk.until_size(170)
    await _stand(desk, before)
    await desk.write(*values(170, 180))
    async with desk.building():
        await desk.until_size(180)
    assert desk.leaves() == values(0, 180)
    assert 170 in desk.seen.sizes


async def test_another_tree_than_the_one_that_was_shown_is_not_signed(desk: Desk) -> None:
    """The record of where the log stands is lost, and Kafka has other records than readers were shown."""
    await desk.write(*values(0, 50))
    async with desk.building():
        await desk.until_size(50)
        before = await _standing(desk)
        await desk.write(*values(50, 60))
        await desk.until_size(60)
    note = (desk.directory().path / CHECKPOINT).read_bytes()
    await desk.write(*values(60, 70))
    for path in desk.directory().path.rglob("*.p/*"):  # the files of the lost part are gone as well
        if path.name == "60":
            path.unlink()
    remove_before(desk, 55)
    await _stand(desk, Standing(50, 55, None, before.note))
    async with desk.building():
        await desk.until(lambda: desk.seen.stopped)
    assert isinstance(desk.seen.stopped, HistoryLost)
    assert (desk.directory().path / CHECKPOINT).read_bytes() == note


@pytest.mark.parametrize("name", [tile_path(0, 0, 50), "tile/entries/000.p/50"])
async def test_a_damaged_edge_is_noticed_before_anything_is_signed(desk: Desk, name: str) -> None:
    """One bit of the last tile or bundle; once it is restored, the log goes on by itself."""
    await desk.write(*values(0, 50))
    async with desk.building():
        await desk.until_size(50)
    file = desk.directory().path / name
    good = file.read_bytes()
    file.write_bytes(bytes([good[0], good[1], good[2] ^ 1]) + good[3:])
    await desk.write(*values(50, 60))
    async with desk.building():
        await desk.until(lambda: desk.seen.stopped)
        shown = desk.shown()
        assert shown is not None
        assert shown.size == 50
        file.write_bytes(good)
        await desk.until_size(60)
    assert desk.leaves() == values(0, 60)


async def test_records_that_were_removed_before_they_were_read_stop_the_log(desk: Desk) -> None:
    """It says which; a person begins a new epoch, and the reason stands in it."""
    await desk.write(*values(0, 30))
    async with desk.building():
        await desk.until_size(30)
    await desk.write(*values(30, 60))
    remove_before(desk, 45)
    old = (desk.directory().path / CHECKPOINT).read_bytes().decode()
    async with desk.building():
        await desk.until(lambda: desk.seen.stopped)
        assert "goes on at 30" in str(desk.seen.stopped)
        with pytest.raises(ConfigError, match=r"Give the reason"):
            await _begin(desk, reason=" ")
        name, before = await _begin(desk, reason="the disk was full")
        assert (name.epoch, before.size) == (2, 30)
        # The marker of the first transaction is at 30, so the second begins at 31: fourteen of its records are gone.
        await desk.until_size(1 + 16, epoch=2)
        await desk.write(*values(60, 70))
        await desk.until_size(1 + 26, epoch=2)
    first, *rest = desk.leaves(epoch=2)
    told = json.loads(first)["epoch"]
    assert (told["reason"], told["operator"]) == ("the disk was full", "olga")
    assert old.startswith(told["previous"])
    assert rest == [*values(44, 60), *values(60, 70)]
    assert (desk.directory().path / CHECKPOINT).read_text() == old
    raw = desk.directory(2).read(offsets_path(0, 27)) or b""
    assert [int.from_bytes(raw[at : at + 8]) for at in (0, 8)] == [2**64 - 1, 45]


async def _begin(desk: Desk, reason: str) -> tuple[Any, Any]:
    return await begin_epoch(
        desk.base, desk.place, desk.clients, desk.keys, desk.root, reason=reason, operator="olga"
    )  # fmt: skip


async def test_an_epoch_needs_a_log_before_it(desk: Desk) -> None:
    """Who mistypes a name begins nothing."""
    with pytest.raises(ConfigError, match=r"Nobody ever began"):
        await _begin(desk, reason="by mistake")


async def test_another_history_with_the_same_offsets_is_noticed(desk: Desk) -> None:
    """The topic was deleted and filled again: same numbers, other records."""
    await desk.write(*values(0, 20))
    async with desk.building():
        await desk.until_size(20)
    admin = AdminClient(desk.connection.confluent())
    admin.delete_topics([desk.topic])[desk.topic].result(30)
    await desk.until(lambda: desk.topic not in admin.list_topics(timeout=5).topics)
    create_topics(desk.connection, {desk.topic: 1})
    await desk.write(*values(100, 130))
    async with desk.building():
        await desk.until(lambda: desk.seen.stopped)
    assert "another history" in str(desk.seen.stopped)
    shown = desk.shown()
    assert shown is not None
    assert shown.size == 20


async def test_a_topic_that_ends_before_the_log_does_is_noticed(desk: Desk) -> None:
    """It lost its end, or is another one."""
    await desk.write(*values(0, 20))
    async with desk.building():
        await desk.until_size(20)
    standing = await _standing(desk)
    await _stand(desk, Standing(standing.size, 500, standing.last_offset, standing.note))
    async with desk.building():
        await desk.until(lambda: desk.seen.stopped)
    assert "goes on at 500" in str(desk.seen.stopped)


async def test_a_record_that_says_nothing_readable_stops_the_log(desk: Desk) -> None:
    """Where the log stands is never guessed."""
    producer = AIOKafkaProducer(**desk.connection.aiokafka())
    await producer.start()
    try:
        await producer.send_and_wait(TOPIC, b'{"v":1}', key=desk.name().origin.encode(), partition=0)
    finally:
        await producer.stop()
    await desk.write(*values(0, 5))
    async with desk.building():
        await desk.until(lambda: desk.seen.stopped)
    assert isinstance(desk.seen.stopped, ConfigError)
    assert desk.shown() is None


async def test_a_record_too_long_for_a_log_is_known_by_its_digest(desk: Desk) -> None:
    """So that the numbers of all leaves behind it stay; one of the greatest length stands whole."""
    long = b"x" * (ENTRY_BYTES + 1)
    await desk.write(b"first", long, b"y" * ENTRY_BYTES, None, b"last")
    async with desk.building():
        await desk.until_size(5)
    leaves = desk.leaves()
    assert json.loads(leaves[1])["digest"] == {"bytes": ENTRY_BYTES + 1, "sha256": sha256(long).hexdigest()}
    assert (leaves[0], leaves[2], leaves[3], leaves[4]) == (b"first", b"y" * ENTRY_BYTES, b"", b"last")
    assert entry_of(None) == b""


def test_a_standing_is_read_back_as_it_was_written(desk: Desk) -> None:
    """And one of another log is refused."""
    origin = desk.name().origin
    note = f"{origin}\n3\n{'A' * 43}=\n\n— {origin} AAAAAAA=\n".encode()
    standing = Standing(3, 7, 6, note)
    assert Standing.unpack(origin, standing.pack()) == standing
    for other in (desk.name(2).origin, f"{origin}1"):
        with pytest.raises(ConfigError, match=r"can not be read"):
            Standing.unpack(other, standing.pack())
    with pytest.raises(ConfigError, match=r"can not be read"):
        Standing.unpack(origin, Standing(4, 7, 6, note).pack())


def test_places_have_names(desk: Desk) -> None:
    """The log of a partition, and the partition of a log."""
    assert desk.name().origin == f"{desk.base}/p0/1"
    assert desk.name(3).folder == "p0-3"
    assert desk.name().place == TopicPartition("audit.events", 0)


def test_however_often_it_failed_it_tries_again_after_the_longest_pause(desk: Desk) -> None:
    """A night without Kafka is thousands of failures in a row."""
    tail = CompactedTail(desk.clients, TOPIC)
    builder = LogBuilder(desk.base, desk.place, desk.clients, desk.keys, desk.root, tail, FAST)
    builder._failures = 5_000
    assert builder._tell(OSError()) == FAST.backoff_s[1]
