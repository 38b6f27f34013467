"""What `broker.auditlog.indexer` does with the entries of `audit.index`; Kafka is a list of records here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from broker.audit.indexing import index_log
from broker.audit.store import Store, Wanted
from broker.auditlog import indexer
from broker.auditlog.indexer import PeopleRead, read_people
from broker.errors import BrokerError
from broker.exchange.model import AUDIT_INDEX
from broker.kafka.connection import KafkaConnection
from tests.audit.signed_world import GrowingLog, audit_events, audit_index, busy_world, tag_of
from tests.exchange.world import SIS, World, enrolment

CONNECTION = KafkaConnection("127.0.0.1:1", insecure_plaintext=True)


@dataclass
class Topic:
    """A consumer of a topic: partitions of records; None stands for what a read_committed reader passes over: markers, what was aborted."""

    partitions: list[list[bytes | None]]
    first: int = 0  # offset of the oldest record that is still there
    visible: tuple[str, ...] = (AUDIT_INDEX,)
    answers: int | None = None  # fetches until nothing comes any more
    positions: dict[TopicPartition, int] = field(default_factory=dict)
    stopped: int = 0

    def __call__(self, **settings: Any) -> Topic:
        """A consumer; of committed records only, whose position nobody but the store keeps."""
        assert settings["isolation_level"] == "read_committed"
        assert "group_id" not in settings
        return self

    async def start(self) -> None:
        """Connect."""

    async def stop(self) -> None:
        """Close."""
        self.stopped += 1

    async def topics(self) -> set[str]:
        """What the user may see."""
        return set(self.visible)

    def assign(self, places: list[TopicPartition]) -> None:
        """See aiokafka."""
        self.positions = dict.fromkeys(places, 0)

    def partitions_for_topic(self, _topic: str) -> set[int]:
        """See aiokafka."""
        return set(range(len(self.partitions)))

    async def beginning_offsets(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """See aiokafka."""
        return dict.fromkeys(places, self.first)

    async def end_offsets(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """See aiokafka."""
        return {place: len(self.partitions[place.partition]) for place in places}

    def seek(self, place: TopicPartition, offset: int) -> None:
        """See aiokafka."""
        assert offset >= self.first
        self.positions[place] = offset

    async def position(self, place: TopicPartition) -> int:
        """See aiokafka."""
        return self.positions[place]

    async def getmany(self, place: TopicPartition, **_settings: Any) -> dict[TopicPartition, list[Any]]:
        """Two records at a time."""
        if self.answers is not None:
            self.answers -= 1
            if self.answers < 0:
                raise KafkaConnectionError
        position = self.positions[place]
        got = self.partitions[place.partition][position : position + 2]
        self.positions[place] = position + len(got)
        return {place: [SimpleNamespace(value=value) for value in got if value is not None]}


@dataclass
class Desk:
    """A store and the log it is of."""

    store: Store
    world: World
    log: GrowingLog
    lost: list[str] = field(default_factory=list)

    async def read(self, topic: Topic, monkeypatch: pytest.MonkeyPatch) -> PeopleRead:
        """Read what is new."""
        monkeypatch.setattr("broker.kafka.reading.ClosingConsumer", topic)
        before = topic.stopped
        try:
            return await read_people(self.store, CONNECTION, self.world.exchange_keys.vault, self.lost.append)
        finally:
            assert topic.stopped == before + 1

    def about_emma(self) -> int:
        """How many leaves are found by the person."""
        return len(self.store.find(Wanted(tag=tag_of(self.world))))


@pytest.fixture
def desk(tmp_path: Path) -> Any:
    """Nothing is in the store yet."""
    with Store(tmp_path / "store") as store:
        yield Desk(store, busy_world(), GrowingLog(tmp_path / "logs"))


async def test_entries_are_read_once_and_wait_for_their_leaf(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """From all partitions, past what was aborted, to the end; then only what is new."""
    entries = audit_index(desk.world)
    assert len(entries) > 4
    topic = Topic([[*entries[:2], None, None, None, entries[2], None], [], list(entries[3:-1])])
    count = len(entries) - 1
    assert await desk.read(topic, monkeypatch) == PeopleRead(count, count)
    assert [desk.store.offset(f"audit.index/{n}") for n in range(3)] == [7, None, count - 3]
    index_log(desk.store, desk.log.grow(audit_events(desk.world)))
    assert desk.about_emma() == 0
    assert await desk.read(topic, monkeypatch) == PeopleRead(0, 0)
    assert desk.about_emma() == count
    topic.partitions[1].append(entries[-1])
    assert await desk.read(topic, monkeypatch) == PeopleRead(1, 0)
    assert desk.about_emma() == len(entries)


async def test_who_was_erased_is_forgotten_at_the_end_of_a_run(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever partition the entry came from, once its leaf is signed; the run says how many rows went."""
    tag, before = tag_of(desk.world), len(audit_index(desk.world))
    desk.world.send(SIS, replace(enrolment(), kind="ERASE"))
    entries = audit_index(desk.world)
    topic = Topic([list(entries[before:]), list(entries[:before])])
    assert (await desk.read(topic, monkeypatch)).waiting == len(entries)
    index_log(desk.store, desk.log.grow(audit_events(desk.world)))
    assert await desk.read(topic, monkeypatch) == PeopleRead(0, 0, len(entries) - 1)
    assert desk.store.find(Wanted(tag=tag)) == []
    assert await desk.read(topic, monkeypatch) == PeopleRead(0, 0)


async def test_what_was_read_before_kafka_went_away_stays(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next time goes on behind it: no entry is read twice, none is passed over."""
    entries = audit_index(desk.world)
    topic = Topic([list(entries)], answers=1)
    with pytest.raises(BrokerError) as caught:
        await desk.read(topic, monkeypatch)
    assert caught.value.code == "kafka.unreachable"
    assert desk.store.offset("audit.index/0") == 2
    topic.answers = None
    assert (await desk.read(topic, monkeypatch)).read == len(entries) - 2
    assert desk.store.waiting() == len(entries)


async def test_entries_that_do_not_open_leave_the_position_where_it_was(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the right keys they are read again."""
    index_log(desk.store, desk.log.grow(audit_events(desk.world)))
    entries = audit_index(desk.world)
    broken = entries[1][:-1] + bytes([entries[1][-1] ^ 1])
    with pytest.raises(BrokerError) as caught:
        await desk.read(Topic([[entries[0], broken]]), monkeypatch)
    assert caught.value.code == "audit.index_key"
    assert desk.store.offset("audit.index/0") is None
    assert (await desk.read(Topic([list(entries)]), monkeypatch)).read == len(entries)


async def test_entries_that_went_before_they_were_read_are_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on with the oldest there is. A first reading has lost nothing that it could know of."""
    entries = audit_index(desk.world)
    topic = Topic([list(entries[:2])])
    await desk.read(topic, monkeypatch)
    topic.partitions[0] += entries[2:]
    topic.first = 3
    assert await desk.read(topic, monkeypatch) == PeopleRead(len(entries) - 3, len(entries) - 1)
    assert desk.lost == ["audit.index/0"]
    await desk.read(topic, monkeypatch)
    assert desk.lost == ["audit.index/0"]


async def test_entries_that_had_gone_are_told_whatever_fails_behind_them(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The position moves on, so that the next run knows nothing of it any more."""
    entries = audit_index(desk.world)
    topic = Topic([list(entries[:2])])
    await desk.read(topic, monkeypatch)
    topic.partitions[0] += [*entries[2:], *entries[:2]]
    topic.first, topic.answers = 3, 1
    with pytest.raises(BrokerError):
        await desk.read(topic, monkeypatch)
    assert desk.store.offset("audit.index/0") == 5
    assert desk.lost == ["audit.index/0"]


async def test_a_topic_that_was_made_anew_is_noticed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends before the store's position."""
    entries = audit_index(desk.world)
    await desk.read(Topic([list(entries)]), monkeypatch)
    with pytest.raises(BrokerError) as caught:
        await desk.read(Topic([list(entries[:1])]), monkeypatch)
    assert caught.value.code == "audit.index_topic"


async def test_a_topic_that_the_user_may_not_see_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of waiting for it."""
    with pytest.raises(BrokerError) as caught:
        await desk.read(Topic([[]], visible=("other",)), monkeypatch)
    assert caught.value.code == "topic.missing"


async def test_a_kafka_that_gives_nothing_is_not_waited_for_without_end(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transient error: what was read stays."""
    monkeypatch.setattr(indexer, "STALL_S", 0.05)

    class Silent(Topic):
        async def getmany(self, place: TopicPartition, **_settings: Any) -> dict[TopicPartition, list[Any]]:
            del place
            return {}

    with pytest.raises(BrokerError) as caught:
        await desk.read(Silent([audit_index(desk.world)]), monkeypatch)  # type: ignore[list-item]
    assert caught.value.code == "audit.index_unavailable"
