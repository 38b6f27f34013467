"""One log: reads an audit partition, lets the tree grow, signs it.

    take over -> compare the stored tree with what was signed -> [read -> files -> sign -> one transaction -> show]*
    any failure -> drop the producer, back off, begin again at "take over"

The n-th leaf is the n-th committed record of the partition: a read_committed reader finds the same ones in the same
order whenever it reads, so every builder makes the same files. That makes it harmless to be killed anywhere, and
harmless if two work on one log:

- files are written first, and never changed (`broker.audit.log.directory`);
- where the log stands is one record on `audit.checkpoints`, written in a transaction under the log's own
  transactional id: who takes over shuts an older builder out, and then reads its own last record back;
- `checkpoint` is shown to readers after that, and never gets smaller.

It never signs a tree that it could not hold against what was signed before: the right edge of the stored tree must have
the signed root, Kafka must still have the record behind it, and the last leaf must be the record that Kafka has at that
offset. Else it stops and says so; `broker auditlog epoch` begins anew, on the record.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from broker.audit.leaf import canonical
from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.directory import HistoryDiffers, LogDirectory
from broker.audit.log.merkle import leaf_hash
from broker.audit.log.note import split_note
from broker.audit.log.tiles import WIDTH, Growth, TileBuilder, TileError, TileReader, offsets_path
from broker.auditlog.book import TOPIC, LogName, SigningKeys, Standing, newest
from broker.engine import Clients, CompactedTail, EngineConfig
from broker.engine.ending import end_within
from broker.engine.failures import pause_s
from broker.engine.transaction import LaneProducer, settle, stop_producer
from broker.errors import BrokerError, ConfigError, told
from broker.kafka.closing import told_to_end

log = structlog.get_logger("broker.auditlog")

ENTRY_BYTES: Final = 65_535  # c2sp.org/tlog-tiles: an entry's length is a uint16
IDLE_S: Final = 1.0  # of one look, while nothing comes
NO_OFFSET: Final = 2**64 - 1  # in `tile/offsets`: a leaf that is no record of Kafka's
STANDING: Final = TopicPartition(TOPIC, 0)


class HistoryLost(BrokerError):
    """What Kafka has is not what was signed: nothing is signed until a person decided."""

    default_code = "auditlog.history"


@dataclass(frozen=True, slots=True)
class BuilderConfig:
    """When a log is sealed, and how long a builder waits.

    Attributes:
        seal_s: how long records are gathered before a checkpoint is signed. seal_records: ... or so many.
        backoff_s: first and longest pause after a failure. stopped_s: after a history that does not fit.
        takeover_s, stop_s: time-outs of taking over and of ending.
    """

    seal_s: float = 0.25
    seal_records: int = 4_096
    backoff_s: tuple[float, float] = (0.5, 10.0)
    stopped_s: float = 60.0
    takeover_s: float = 30.0
    stop_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Sealed:
    """What was signed.

    Args:
        name: of the log. size: leaves. entries: new ones.
        oldest_ms: timestamp in Kafka of the oldest of these; milliseconds since 1970.
    """

    name: LogName
    size: int
    entries: int
    oldest_ms: int


class Watcher:
    """Hears what builders do; for metrics and tests."""

    def sealed(self, sealed: Sealed) -> None:
        """A checkpoint is shown."""

    def current(self, place: TopicPartition, at_s: float) -> None:
        """All committed records that Kafka took before this moment, seconds since 1970, are signed."""

    def failed(self, place: TopicPartition, error: BaseException, *, stopped: bool) -> None:
        """A builder begins again; `stopped`: nothing is signed until a person has looked."""


class LogBuilder:
    """See the module.

    Args:
        base: of the names of all logs. place: the audit partition. root: folder of all logs.
        tail: follows `audit.checkpoints`; shared by the builders of a process.
    """

    def __init__(
        self,
        base: str,
        place: TopicPartition,
        clients: Clients,
        keys: SigningKeys,
        root: Path,
        tail: CompactedTail,
        config: BuilderConfig | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self._base, self._place, self._clients, self._keys, self._root = base, place, clients, keys, root
        self._tail, self._config, self._watcher = tail, config or BuilderConfig(), watcher or Watcher()
        self._engine = EngineConfig(backoff_s=self._config.backoff_s, fenced_backoff_s=self._config.backoff_s[0])
        first = LogName.of(base, place)
        self._id, self._transactional_id = first.id, first.transactional_id
        self._failures = 0

    async def run(self) -> None:
        """Let the log grow until cancelled."""
        while True:
            producer, consumer = self._clients.producer(self._transactional_id, self._engine), self._consumer()
            try:
                await self._grow(await self._take_over(producer, consumer), producer)
            except (Exception, asyncio.CancelledError) as error:
                if told_to_end():
                    raise
                await asyncio.sleep(self._tell(error))
            finally:
                await asyncio.gather(
                    end_within(consumer.stop(), self._config.stop_s),
                    end_within(stop_producer(producer), self._config.stop_s),
                )

    def _tell(self, error: BaseException) -> float:
        """Say what is wrong; for how many seconds to pause."""
        stopped = isinstance(error, HistoryLost | HistoryDiffers | TileError | ConfigError)
        pause = self._config.stopped_s if stopped else pause_s(self._engine, self._failures, error)
        self._failures += 1
        tell = log.error if stopped else log.warning
        tell("auditlog.stopped" if stopped else "auditlog.retry", log=self._id, error=told(error), retry_s=pause)
        self._watcher.failed(self._place, error, stopped=stopped)
        return pause

    # ---- take over

    async def _take_over(self, producer: LaneProducer, consumer: AIOKafkaConsumer) -> _Growing:
        async with asyncio.timeout(self._config.takeover_s):
            name, standing = await own_standing(self._base, self._place, producer, self._tail)
            growing = await asyncio.to_thread(self._open, name, standing, consumer)
            await self._position(growing, standing)
        log.info("auditlog.took_over", log=name.origin, size=growing.builder.edge.size)
        return growing

    def _consumer(self) -> AIOKafkaConsumer:
        return self._clients.consumer(
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=8 << 20,
        )

    def _open(self, name: LogName, standing: Standing | None, consumer: AIOKafkaConsumer) -> _Growing:
        """Read the right edge back and hold it against what was signed."""
        directory = LogDirectory(self._root / name.folder)
        size = 0 if standing is None else standing.size
        builder = TileBuilder(directory.load_edge(size))
        if standing is not None and builder.edge.root() != standing.checkpoint.root:
            raise HistoryLost(
                f"The files of {name.origin} do not have the root that was signed at {size} leaves. Restore them from "
                f"a copy of the log (anybody who mirrors it has one); nothing is signed until then."
            )
        directory.show_key(*self._keys.vkeys(name))
        shown = directory.checkpoint()
        last = size % WIDTH
        offsets = (directory.read(offsets_path(size // WIDTH, last)) or b"") if last else b""
        seen = None if shown is None else Checkpoint.parse(split_note(shown)[0])
        growing = _Growing(name, directory, builder, consumer, offsets, seen, standing)
        if standing is not None and standing.note != shown:
            growing.show(standing.checkpoint, standing.note)  # whoever was killed may not have come to it
        return growing

    async def _position(self, growing: _Growing, standing: Standing | None) -> None:
        consumer, place, origin = growing.consumer, self._place, growing.name.origin
        await consumer.start()
        consumer.assign([place])
        first = (await consumer.beginning_offsets([place]))[place]
        end = (await consumer.end_offsets([place]))[place]
        next_offset = 0 if standing is None else standing.next_offset
        if not first <= next_offset <= end:
            raise HistoryLost(
                f"{place.topic}/{place.partition} has records {first} to {end}, but {origin} goes on at {next_offset}: "
                f"what lies between is lost. Nothing is signed. If it can not be restored, begin a new epoch: "
                f"broker auditlog epoch {self._id}.",
            )
        if standing is not None and standing.last_offset is not None and standing.last_offset >= first:
            await self._compare(growing, standing.last_offset)
        consumer.seek(place, next_offset)

    async def _compare(self, growing: _Growing, offset: int) -> None:
        """The last leaf must be what Kafka has at that offset: else it is another history with the same numbers."""
        growing.consumer.seek(self._place, offset)
        found: list[ConsumerRecord] = []
        while not found and await growing.consumer.position(self._place) <= offset:
            fetched = await growing.consumer.getmany(self._place, timeout_ms=500, max_records=1)
            found = fetched.get(self._place, [])
        size = growing.builder.edge.size
        last = TileReader(growing.directory.read, size).hash_at(0, size - 1)
        if not found or found[0].offset != offset or leaf_hash(entry_of(found[0].value)) != last:
            raise HistoryLost(
                f"The record {offset} of {self._place.topic}/{self._place.partition} is not the one that was signed as "
                f"the last leaf of {growing.name.origin}: the partition has another history now. Nothing is signed. If "
                f"the old one can not be restored, begin a new epoch: broker auditlog epoch {self._id}."
            )

    # ---- grow

    async def _grow(self, growing: _Growing, producer: LaneProducer) -> None:
        while True:
            began_s = time.time()
            records = await self._gather(growing)
            if records:
                await self._seal(growing, records, producer)
                self._failures = 0
            elif growing.standing is not None and self._keys.lack(growing.name, growing.standing.note):
                await self._sign(growing, growing.standing, producer)
            self._watcher.current(self._place, records[-1].timestamp / 1000 if records else began_s)

    async def _gather(self, growing: _Growing) -> list[ConsumerRecord]:
        """What came, until it is time to seal."""
        most, found = growing.room(self._config.seal_records), list[ConsumerRecord]()
        ends_at = time.monotonic() + IDLE_S
        try:
            while len(found) < most and (left := ends_at - time.monotonic()) > 0:
                fetched = await growing.consumer.getmany(
                    self._place, timeout_ms=int(left * 1000), max_records=most - len(found)
                )
                if not found and fetched:
                    ends_at = time.monotonic() + self._config.seal_s
                found += fetched.get(self._place, [])
        except OffsetOutOfRangeError as error:
            raise HistoryLost(
                f"{self._place.topic}/{self._place.partition} lost records that {growing.name.origin} has not read yet."
            ) from error
        return found

    async def _seal(self, growing: _Growing, records: Sequence[ConsumerRecord], producer: LaneProducer) -> None:
        name = growing.name
        entries = [entry_of(record.value) for record in records]
        grown = await asyncio.to_thread(growing.add, entries, [record.offset for record in records])
        checkpoint = Checkpoint(name.origin, grown.size, grown.root)
        growing.require_shown(checkpoint)
        last = records[-1].offset
        await self._write(
            growing, Standing(grown.size, last + 1, last, self._keys.sign(name, checkpoint)), producer
        )  # fmt: skip
        oldest = min(record.timestamp for record in records)
        self._watcher.sealed(Sealed(name, grown.size, len(records), oldest))

    async def _sign(self, growing: _Growing, standing: Standing, producer: LaneProducer) -> None:
        """Sign the same tree with a key that came since.

        A log that does not grow would else be refused by who knows the newer key only. Only for a key that came, not
        for one that went: else two builders, of which one has not got the new key yet, would undo each other's work.
        """
        signed = self._keys.sign(growing.name, standing.checkpoint)
        await self._write(growing, replace(standing, note=signed), producer)
        log.info("auditlog.signed_again", log=growing.name.origin, size=standing.size)

    async def _write(self, growing: _Growing, standing: Standing, producer: LaneProducer) -> None:
        """The keys first, so that nobody finds a signature without its key; where the log stands; the checkpoint."""
        await asyncio.to_thread(growing.directory.show_key, *self._keys.vkeys(growing.name))
        await write_standing(producer, growing.name, standing)
        growing.standing = standing
        await asyncio.to_thread(growing.show, standing.checkpoint, standing.note)


class _Growing:
    """A log in the hands of its builder."""

    def __init__(
        self, name: LogName, directory: LogDirectory, builder: TileBuilder, consumer: AIOKafkaConsumer, offsets: bytes,
        shown: Checkpoint | None, standing: Standing | None,
    ) -> None:  # fmt: skip
        self.name, self.directory, self.builder, self.consumer = name, directory, builder, consumer
        self.shown, self.standing, self._offsets = shown, standing, offsets

    def room(self, most: int) -> int:
        """How many entries may come next: up to a checkpoint that is shown already, if the log stands before it.

        That happens when a checkpoint was shown whose transaction Kafka acknowledged and then rolled back (ADR 12). Its
        tree must come to be again, to the last bit.
        """
        size = self.builder.edge.size
        if self.shown is not None and self.shown.size > size:
            return min(most, self.shown.size - size)
        return most

    def add(self, entries: Sequence[bytes], offsets: Sequence[int]) -> Growth:
        """Let the tree grow on the disk."""
        size = self.builder.edge.size
        growth = self.builder.append(entries)
        files = dict(growth.files)
        for at, offset in enumerate(offsets, size + 1):
            self._offsets += offset.to_bytes(8)
            if at % WIDTH == 0:
                files[offsets_path(at // WIDTH - 1)] = self._offsets
                self._offsets = b""
        if self._offsets:
            files[offsets_path(growth.size // WIDTH, growth.size % WIDTH)] = self._offsets
        self.directory.write_immutable(files)
        return growth

    def require_shown(self, checkpoint: Checkpoint) -> None:
        """Refuse to sign another tree of a size that readers have seen."""
        shown = self.shown
        if shown is not None and shown.size == checkpoint.size and shown != checkpoint:
            raise HistoryLost(
                f"{self.name.origin} showed another tree of {shown.size} leaves than Kafka has records for. Nothing is "
                f"signed. If the old history can not be restored, begin a new epoch: broker auditlog epoch."
            )

    def show(self, checkpoint: Checkpoint, note: bytes) -> None:
        """Publish a checkpoint, unless readers have seen a larger one already."""
        if self.shown is None or self.shown.size <= checkpoint.size:
            self.directory.publish(note)
            self.shown = checkpoint


async def own_standing(
    base: str, place: TopicPartition, producer: LaneProducer, tail: CompactedTail
) -> tuple[LogName, Standing | None]:
    """Shut out whoever else lets a log grow, and read where it stands: its own last record, all before it decided."""
    await producer.start()
    written = await settle(producer, [STANDING])
    await tail.passed({STANDING.partition: written[STANDING]})
    return newest(base, place, tail.values)


async def write_standing(producer: LaneProducer, name: LogName, standing: Standing) -> None:
    """Write where a log stands, in one transaction; who was shut out fails here."""
    await producer.begin_transaction()
    sent = await producer.send(TOPIC, standing.pack(), key=name.origin.encode(), partition=STANDING.partition)
    await sent
    await producer.commit_transaction()


def entry_of(value: bytes | None) -> bytes:
    """The log entry of a record: its value, to the byte; of one that is too long for a log, what it can be known by."""
    value = value or b""
    if len(value) <= ENTRY_BYTES:
        return value
    return canonical({"digest": {"bytes": len(value), "sha256": sha256(value).hexdigest()}, "v": 1})
