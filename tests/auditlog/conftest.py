"""Fixtures: an audit partition of one's own on a real Kafka, and builders of its log."""

from __future__ import annotations

import asyncio
import gc
import uuid
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.directory import LogDirectory
from broker.audit.log.merkle import leaf_hash, root_of
from broker.audit.log.note import Verifier, open_note
from broker.audit.log.tiles import TileReader
from broker.auditlog.book import SECRET, TOPIC, LogName, SigningKeys
from broker.auditlog.builder import BuilderConfig, LogBuilder, Sealed, Watcher
from broker.engine import CompactedTail, KafkaClients
from broker.kafka.connection import KafkaConnection
from broker.kafka.embedded import EmbeddedKafka
from broker.keys import MemoryKeys
from tests.engine.machine import create_topics

FAST = BuilderConfig(seal_s=0.05, backoff_s=(0.1, 0.5), stopped_s=0.3)
PATIENCE_S = 30.0


@dataclass
class Seen(Watcher):
    """What builders told."""

    sizes: list[int] = field(default_factory=list)
    failures: list[tuple[BaseException, bool]] = field(default_factory=list)
    until_s: float = 0.0

    def sealed(self, sealed: Sealed) -> None:
        """Remember the size."""
        self.sizes.append(sealed.size)

    def current(self, place: TopicPartition, at_s: float) -> None:
        """Remember until when all is signed."""
        del place
        self.until_s = at_s

    def failed(self, place: TopicPartition, error: BaseException, *, stopped: bool) -> None:
        """Remember the error."""
        del place
        self.failures.append((error, stopped))

    @property
    def stopped(self) -> BaseException | None:
        """Why the log stands still."""
        return self.failures[-1][0] if self.failures and self.failures[-1][1] else None


@dataclass
class Desk:
    """An audit partition, and the folder of its log."""

    connection: KafkaConnection
    topic: str
    root: Path
    keys: SigningKeys
    base: str
    seen: Seen = field(default_factory=Seen)

    @property
    def place(self) -> TopicPartition:
        """The partition."""
        return TopicPartition(self.topic, 0)

    def name(self, epoch: int = 1) -> LogName:
        """The log."""
        return LogName.of(self.base, self.place, epoch)

    def directory(self, epoch: int = 1) -> LogDirectory:
        """Its folder."""
        return LogDirectory(self.root / self.name(epoch).folder)

    @property
    def clients(self) -> KafkaClients:
        """Of the super user."""
        return KafkaClients(self.connection)

    async def write(self, *values: bytes | None, abort: bool = False) -> None:
        """One transaction with these records."""
        producer = AIOKafkaProducer(**self.connection.aiokafka(), transactional_id=f"t-{self.topic}")
        await producer.start()
        try:
            await producer.begin_transaction()
            for value in values:
                await (await producer.send(self.topic, value, key=b"k" if value is None else None, partition=0))
            await (producer.abort_transaction() if abort else producer.commit_transaction())
        finally:
            await producer.stop()

    @asynccontextmanager
    async def building(self, **changes: Any) -> AsyncIterator[asyncio.Task[None]]:
        """A builder that runs meanwhile."""
        tail = CompactedTail(self.clients, TOPIC)
        config: BuilderConfig = changes.get("config", FAST)
        builder = LogBuilder(self.base, self.place, self.clients, self.keys, self.root, tail, config, self.seen)
        tasks = [asyncio.create_task(tail.run()), asyncio.create_task(builder.run())]
        try:
            yield tasks[1]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def shown(self, epoch: int = 1) -> Checkpoint | None:
        """The checkpoint that readers see, its signature verified."""
        note = self.directory(epoch).checkpoint()
        if note is None:
            return None
        found = open_note(note, [Verifier.parse(vkey) for vkey in self.keys.vkeys(self.name(epoch))])
        assert found.verified
        return Checkpoint.parse(found.text)

    def leaves(self, epoch: int = 1) -> list[bytes]:
        """All entries of the log that is shown; they have the root that was signed."""
        shown = self.shown(epoch)
        if shown is None:
            return []
        entries = list(TileReader(self.directory(epoch).read, shown.size).entries(0, shown.size))
        assert root_of([leaf_hash(entry) for entry in entries]) == shown.root
        assert shown.origin == self.name(epoch).origin
        return entries

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110 - a folder has no event
                await asyncio.sleep(0.02)

    async def until_size(self, size: int, epoch: int = 1) -> None:
        """Wait until so many leaves are shown."""
        await self.until(lambda: (shown := self.shown(epoch)) is not None and shown.size >= size)


@pytest.fixture(scope="session")
def audited(kafka: EmbeddedKafka) -> KafkaConnection:
    """The super user on a Kafka that has the topic of checkpoints."""
    connection = kafka.admin_connection()
    create_topics(connection, {TOPIC: 1}, **{"cleanup.policy": "compact"})
    return connection


@pytest.fixture
def desk(audited: KafkaConnection, tmp_path: Path) -> Iterator[Desk]:
    """A partition for this test alone."""
    name = uuid.uuid4().hex[:8]
    create_topics(audited, {f"audit.t{name}": 1})
    keys = MemoryKeys()
    keys.create_secret(SECRET)
    found = Desk(audited, f"audit.t{name}", tmp_path / "logs", SigningKeys(keys), f"broker.example/t{name}")
    yield found
    # aiokafka forgets futures of a producer that was shut out. That asyncio tells of them later, while pytest parses
    # some other file, is more than CPython 3.11 can bear (python/cpython#106905): so now. Nor does it close a connection
    # whose making is cancelled, as a test does that ends a builder.
    found.seen.failures.clear()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed.*(socket|transport)", ResourceWarning)
        gc.collect()
