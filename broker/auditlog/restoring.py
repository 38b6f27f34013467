"""Make a log's files again: from what is left of them, from a copy, and from the records that Kafka still has.

    what was signed last (`audit.checkpoints`) -> entries from the folder, the copy, then Kafka -> the root of them all
    -> only if it is the one that was signed: all once more, into files -> the keys, and then the checkpoint

Files follow from entries, so those that are made again are the ones that were lost, to the byte. No file is trusted for
what it says: what does not lead to the signed root is not written. Nothing is written to Kafka, nothing is signed, and
a file that is there is never changed, so that a builder may run meanwhile.

Cosigned checkpoints are not restored: the builder asks the witnesses again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.directory import KEY, LogDirectory
from broker.audit.log.note import NoteError, Verifier, open_note, split_note
from broker.audit.log.tiles import (
    WIDTH,
    TileBuilder,
    TileError,
    bundle_path,
    decode_bundle,
    full_path,
    offsets_path,
)
from broker.audit.signed import keys_in_file
from broker.auditlog.book import TOPIC, LogName, SigningKeys, Standing, newest
from broker.auditlog.builder import NO_OFFSET, HistoryLost, entry_of
from broker.auditlog.mirroring import OFFSET_BYTES, STEP, partial_files
from broker.engine import Clients, CompactedTail, read_to_end
from broker.engine.ending import end_within
from broker.errors import ConfigError, TransientError

PATIENCE_S: Final = 60.0  # without any progress
STOP_S: Final = 5.0

Pair = tuple[bytes, bytes]  # an entry, and its offset in Kafka as `offsets` has it; empty if nobody knows it


@dataclass(frozen=True, slots=True)
class Restored:
    """A log that is whole again.

    Args:
        size: leaves. stored: how many of these were in files; the others came from Kafka.
    """

    name: LogName
    size: int
    stored: int


@dataclass(frozen=True, slots=True)
class _Step:
    size: int
    root: bytes
    files: dict[str, bytes]


async def restore(
    base: str,
    place: TopicPartition,
    clients: Clients,
    keys: SigningKeys,
    root: Path,
    *,
    copy: Path | None = None,
    epoch: int | None = None,
) -> Restored:
    """Make the files of one log again.

    Args:
        base: of the names of all logs. place: the audit partition. root: folder of all logs.
        copy: folder of copies of all logs; None: there is none. epoch: None: the last one.

    Raises:
        ConfigError: `auditlog.restore`: there is no such log, or none of the keys signed it.
        HistoryLost: files and Kafka do not have all of it, or something else than what was signed. Nothing is written.
        HistoryDiffers: a file in the folder has other bytes than it had. What was missing may be there now.
        TransientError: Kafka does not answer.
    """
    name, standing = await _signed(base, place, clients, epoch)
    _require_signature(name, standing, keys)
    own = LogDirectory(root / name.folder)
    beside = [] if copy is None else [LogDirectory(copy / name.folder)]
    consumer = clients.consumer(
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=8 << 20,
    )
    restoring = _Restoring(name, place, standing, own, [own, *beside], consumer)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await consumer.start()
        stored = await restoring.run()
    except (TimeoutError, KafkaError):
        raise _no_answer() from None
    finally:
        await end_within(consumer.stop(), STOP_S)
    await asyncio.to_thread(_show, name, standing, own, beside, keys)
    return Restored(name, standing.size, stored)


async def _signed(base: str, place: TopicPartition, clients: Clients, epoch: int | None) -> tuple[LogName, Standing]:
    tail = CompactedTail(clients, TOPIC)
    try:
        await read_to_end(tail, PATIENCE_S)
    except TimeoutError:
        raise _no_answer() from None
    records = tail.values
    name, standing = newest(base, place, records)
    if epoch is not None:
        name = LogName.of(base, place, epoch)
        data = records.get(name.origin)
        standing = None if data is None else Standing.unpack(name.origin, data)
    if standing is None:
        raise ConfigError(f"Nobody ever signed {name.origin}, so there is nothing to restore.", code="auditlog.restore")
    return name, standing


def _no_answer() -> TransientError:
    return TransientError(
        "Kafka did not answer, or not in time; nothing was shown. Try again.", code="auditlog.restore"
    )


def _require_signature(name: LogName, standing: Standing, keys: SigningKeys) -> None:
    try:
        open_note(standing.note, [Verifier.parse(vkey) for vkey in keys.vkeys(name)])
    except NoteError as error:
        raise ConfigError(
            f"What {TOPIC} says of {name.origin} is not signed with a key that is here ({error}). Name the folder of "
            f"the keys that sign the logs.",
            code="auditlog.restore",
        ) from None


def _show(
    name: LogName, standing: Standing, own: LogDirectory, beside: Sequence[LogDirectory], keys: SigningKeys
) -> None:
    """The keys, retired ones of the copy too, and then the checkpoint, unless readers saw a larger one."""
    files = [file for place in beside if (file := place.path / KEY).exists()]
    known = [key.vkey for file in files for key in keys_in_file(file) if key.name == name.origin]
    own.show_key(*known, *keys.vkeys(name))
    shown = _shown(own)
    if shown is None or shown.size <= standing.size:
        own.publish(standing.note)


def _shown(own: LogDirectory) -> Checkpoint | None:
    note = own.checkpoint()
    return None if note is None else Checkpoint.parse(split_note(note)[0])


class _Restoring:
    """One log while it is made again.

    Args:
        own: the folder to write to. places: where its files may be, in this order.
    """

    def __init__(
        self, name: LogName, place: TopicPartition, standing: Standing, own: LogDirectory,
        places: Sequence[LogDirectory], consumer: AIOKafkaConsumer,
    ) -> None:  # fmt: skip
        self._name, self._place, self._standing, self._own = name, place, standing, own
        self._places, self._consumer = places, consumer
        self._stored, self._next_offset = 0, 0  # leaves in files, and where Kafka has what comes after them

    async def run(self) -> int:
        """Work all out and write nothing; then again, each step held against the first time before it is written.

        Returns:
            How many leaves were in files.
        """
        self._stored, last = await asyncio.to_thread(self._beginning)
        self._next_offset = last + 1
        if self._stored < self._standing.size:
            await self._position()
        shown = await asyncio.to_thread(_shown, self._own)
        marks = {self._standing.size} if shown is None else {self._standing.size, shown.size}
        roots = {step.size: step.root async for step in self._steps(marks)}
        if roots[self._standing.size] != self._standing.checkpoint.root:
            raise HistoryLost(self._differs())
        if shown is not None and shown.size <= self._standing.size and roots[shown.size] != shown.root:
            raise HistoryLost(
                f"The folder of {self._name.origin} shows a checkpoint of {shown.size} leaves with another root than "
                f"what was signed. Nothing was written. Keep that folder as evidence, and restore into another one."
            )
        async for step in self._steps(marks):
            if roots[step.size] != step.root:
                raise HistoryLost(f"The files or records of {self._name.origin} changed meanwhile; try again.")
            await asyncio.to_thread(self._own.write_immutable, step.files)
        return self._stored

    def _differs(self) -> str:
        read = self._standing.size - self._stored
        return (
            f"The first {self._stored} leaves of {self._name.origin} in files and {read} more in Kafka do not lead to "
            f"the root that was signed at {self._standing.size} leaves. Nothing was written. The copy is damaged or of "
            f"another log, or Kafka's records are others now: try another copy, or none into an empty folder. If "
            f"nobody has it, begin a new epoch: broker auditlog epoch {self._name.id}."
        )

    # ---- Kafka

    async def _position(self) -> None:
        if self._name.epoch > 1 and self._stored == 0:
            raise HistoryLost(
                f"The first leaf of {self._name.origin}, why that epoch began, stands in the log alone, and no file "
                f"has it. Nothing was written. Find a copy; if there is none, begin a new epoch: broker auditlog epoch "
                f"{self._name.id}."
            )
        consumer, place = self._consumer, self._place
        consumer.assign([place])
        first = (await consumer.beginning_offsets([place]))[place]
        if self._stored and self._next_offset == 0:  # nothing but the first leaf of an epoch, which no record is
            self._next_offset = first
        if first > self._next_offset:
            raise self._lost(self._stored, f"has records from {first} on")

    def _lost(self, size: int, what: str) -> HistoryLost:
        name, place = self._name, self._place
        return HistoryLost(
            f"{self._standing.size} leaves of {name.origin} were signed, and the first {size} can be had. The next "
            f"should follow at offset {self._next_offset} of {place.topic}/{place.partition}, which {what}. Nothing "
            f"was written. Find a copy with more leaves (whoever mirrors the log may have one). If there is none, "
            f"begin a new epoch: broker auditlog epoch {name.id}."
        )

    async def _records(self) -> AsyncIterator[list[Pair]]:
        """What Kafka has of the leaves that are in no file, in their order."""
        size, place, consumer = self._stored, self._place, self._consumer
        if size == self._standing.size:
            return
        consumer.seek(place, self._next_offset)
        moved_at, position = time.monotonic(), -1
        while size < self._standing.size:
            try:
                fetched = await consumer.getmany(
                    place, timeout_ms=500, max_records=min(STEP, self._standing.size - size)
                )
            except OffsetOutOfRangeError:
                raise self._lost(size, "lost records meanwhile, or ends before") from None
            records = fetched.get(place, [])
            if records:
                yield [(entry_of(record.value), record.offset.to_bytes(OFFSET_BYTES)) for record in records]
                size += len(records)
            now = await consumer.position(place)
            if now != position:
                moved_at, position = time.monotonic(), now
            elif now >= self._standing.next_offset:
                raise self._lost(size, f"has no more of them before {self._standing.next_offset}")
            elif time.monotonic() - moved_at > PATIENCE_S:
                raise TimeoutError

    # ---- files

    def _beginning(self) -> tuple[int, int]:
        """How many leaves files have, counted from the first without a gap, and the offset of the last of these."""
        size = self._standing.size
        at = 0
        while at < size and (found := self._bundle(at // WIDTH, min(WIDTH, size - at))):
            at += len(found)
            if at % WIDTH:
                break
        if at == size:
            return at, -1
        # Without an offset nobody knows what comes next: those leaves are read from Kafka again.
        while at > 0 and not (last := self._bundle((at - 1) // WIDTH, (at - 1) % WIDTH + 1)[-1][1]):
            at = (at - 1) // WIDTH * WIDTH
        if at == 0:
            return 0, -1
        offset = int.from_bytes(last)
        return at, -1 if offset == NO_OFFSET else offset

    def _bundle(self, number: int, most: int) -> list[Pair]:
        """The longest beginning of a bundle that is somewhere, `most` entries at most."""
        best: list[Pair] = []
        for place in self._places:
            entries = _longest(place, number)[:most]
            if len(entries) > len(best) or (len(entries) == len(best) and best and not best[-1][1]):
                offsets = _offsets(place, number, len(entries))
                best = [
                    (entry, offsets[at * OFFSET_BYTES : (at + 1) * OFFSET_BYTES]) for at, entry in enumerate(entries)
                ]
        return best

    def _pairs(self, start: int, end: int) -> list[Pair]:
        """Leaves of files."""
        found: list[Pair] = []
        while start < end:
            most = min(WIDTH, end - start // WIDTH * WIDTH)
            found += self._bundle(start // WIDTH, most)[start % WIDTH :]
            start = start // WIDTH * WIDTH + most
        return found

    # ---- the tree

    async def _steps(self, marks: set[int]) -> AsyncIterator[_Step]:
        """Size, root and files of each step of the growing tree.

        Args:
            marks: sizes at which a step must end.
        """
        growing = _Growing(self._standing.size)
        async for pairs in self._sources():
            waiting = pairs
            while waiting:
                size = growing.size
                end = min(size - size % STEP + STEP, *(mark for mark in marks if mark > size), size + len(waiting))
                step = await asyncio.to_thread(growing.add, waiting[: end - size])
                waiting = waiting[end - size :]
                yield step

    async def _sources(self) -> AsyncIterator[list[Pair]]:
        for start in range(0, self._stored, STEP):
            yield await asyncio.to_thread(self._pairs, start, min(start + STEP, self._stored))
        async for pairs in self._records():
            yield pairs


class _Growing:
    """A tree with the offsets of its leaves. Partial files only at its end: that size was signed."""

    def __init__(self, size: int) -> None:
        self._builder, self._end, self._offsets = TileBuilder(), size, list[bytes]()

    @property
    def size(self) -> int:
        """Leaves so far."""
        return self._builder.edge.size

    def add(self, pairs: Sequence[Pair]) -> _Step:
        """Entries with their offsets."""
        start = self.size - self.size % WIDTH
        grown = self._builder.append([entry for entry, _ in pairs])
        files = {name: data for name, data in grown.files.items() if full_path(name) is None}
        self._offsets += [offset for _, offset in pairs]
        while len(self._offsets) >= WIDTH or (grown.size == self._end and self._offsets):
            width = min(WIDTH, len(self._offsets))
            if all(self._offsets[:width]):  # older logs may not have all of them; they are not signed
                files[offsets_path(start // WIDTH, width)] = b"".join(self._offsets[:width])
            del self._offsets[:width]
            start += WIDTH
        if grown.size == self._end:
            files |= partial_files(self._builder.edge)
        return _Step(grown.size, grown.root, files)


def _longest(place: LogDirectory, number: int) -> list[bytes]:
    """The entries of a bundle, of the fullest file that can be read."""
    for width in _widths(place, bundle_path(number)):
        try:
            return decode_bundle(place.read(bundle_path(number, width)) or b"", width)
        except TileError:  # damaged: a smaller one, another place or Kafka may have it
            continue
    return []


def _offsets(place: LogDirectory, number: int, least: int) -> bytes:
    """The offsets of the first `least` entries of a bundle; empty if the place does not have them all."""
    for width in _widths(place, offsets_path(number)):
        data = place.read(offsets_path(number, width)) or b""
        if width >= least and len(data) == width * OFFSET_BYTES:
            return data[: least * OFFSET_BYTES]
    return b""


def _widths(place: LogDirectory, name: str) -> list[int]:
    """Which files there are of a bundle: the full one, then partial ones, fullest first."""
    partial = place.path / f"{name}.p"
    found = sorted((int(file.name) for file in partial.glob("*")), reverse=True) if partial.is_dir() else []
    return [WIDTH, *found] if (place.path / name).exists() else found
