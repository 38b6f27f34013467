"""Follow a whole topic, read_committed, and know at any moment how current that is.

`TopicTail` reads every partition for ever and survives what Kafka does meanwhile; what it keeps is up to its
descendants. A proof of being current is a fetch response up to whose end everything was read. Its age is counted from
the *request*, since a process that was stopped for a minute finds an old response in its socket: the request was
sent after the response before it, and that one came after our last look at it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from broker.engine.clients import Clients
from broker.engine.ending import end_within
from broker.kafka.closing import told_to_end

log = structlog.get_logger()

POLL_MS: Final = 100
RETRY_S: Final = 0.5
METADATA_MS: Final = 3_000  # default five minutes: so long would a restarted Kafka's "no such topic" be believed
SILENCE_S: Final = 10.0  # aiokafka's own tasks can die unnoticed: a new consumer then goes on
STOP_S: Final = 5.0
TELL_S: Final = 60.0


@dataclass(slots=True)
class _Proof:
    """When a partition was last proven current; monotonic seconds.

    Attributes:
        open: (when a request was sent, where the log ended in its response), not read that far yet. The end is the high
            watermark, not the last stable offset: behind an open transaction of one writer there may be a withdrawal
            of another that is committed already.
    """

    confirmed: float
    stamp: int | None = None
    floor: float = float("-inf")  # the last fetch response cannot have come before
    sent: float = float("-inf")  # ... so the request of this one was not sent before

    open: deque[tuple[float, int]] = field(default_factory=deque)

    def look(self, stamp: int | None, looked_before: float, position: int, end: int | None) -> None:
        """Take the newest response.

        Args:
            position: everything before it is decided and read. end: the response's high watermark.
        """
        if stamp != self.stamp:
            self.sent, self.floor, self.stamp = self.floor, looked_before, stamp
        if stamp is not None and end is not None:
            if self.open and self.open[-1][1] == end:
                self.open.pop()
            self.open.append((self.sent, end))
        while self.open and self.open[0][1] <= position:
            self.confirmed = max(self.confirmed, self.open.popleft()[0])


class TopicTail:
    """Reads all partitions of a topic, for ever.

    Args:
        clients: makes a consumer, and another one when that does not answer.
    """

    def __init__(self, clients: Clients, topic: str) -> None:
        self.topic = topic
        self._clients = clients
        self._read: dict[int, int] = {}
        self._proofs: dict[int, _Proof] = {}
        self._looked = float("-inf")
        self._confirmed_at = self._answered_at = self._told_at = float("-inf")
        self._blocked_since: float | None = None
        self._loaded = asyncio.Event()
        self._moved = asyncio.Condition()

    # ---- for readers

    @property
    def read(self) -> Mapping[int, int]:
        """The next offset of each partition."""
        return self._read

    @property
    def confirmed_at(self) -> float:
        """Monotonic seconds of the last moment when this was proven to be all there was."""
        return self._confirmed_at

    @property
    def answered_at(self) -> float:
        """Monotonic seconds of a moment after which Kafka answered."""
        return self._answered_at

    @property
    def age_s(self) -> float:
        """Seconds since `confirmed_at`."""
        return time.monotonic() - self._confirmed_at

    def caught_up(self) -> bool:
        """Whether everything that was there at the start has been read."""
        return self._loaded.is_set()

    async def loaded(self) -> None:
        """Wait until it is."""
        await self._loaded.wait()

    async def loaded_or_blocked(self, seconds: float) -> None:
        """Wait until everything has been read, or for so long nothing but an open transaction keeps it from that."""
        while not self.caught_up() and self.blocked_s < seconds:
            async with self._moved:
                await self._moved.wait()

    @property
    def blocked_s(self) -> float:
        """For how many seconds all that is left to read stands behind a transaction that does not end."""
        return 0.0 if self._blocked_since is None else time.monotonic() - self._blocked_since

    def has_passed(self, partition: int, offset: int) -> bool:
        """Whether everything up to and including `offset` is decided and read."""
        return self._read.get(partition, -1) > offset

    async def passed(self, offsets: Mapping[int, int]) -> None:
        """Wait until all these are, by partition."""
        async with self._moved:
            await self._moved.wait_for(lambda: all(self.has_passed(p, o) for p, o in offsets.items()))

    async def confirmed_after(self, moment: float) -> None:
        """Wait until the content is proven current at a later moment than this (monotonic seconds)."""
        async with self._moved:
            await self._moved.wait_for(lambda: self._confirmed_at > moment)

    # ---- for descendants

    async def _start_offsets(self) -> Mapping[int, int]:
        """Where to go on; empty: at the beginning."""
        return self._read

    async def _apply(self, records: Sequence[ConsumerRecord], read: Mapping[int, int]) -> None:
        """Take over what was read, in the order of each partition; `read` is where it ends."""

    async def _publish(self) -> None:
        """Everything there was has been applied: called before that counts as confirmed."""

    async def _clear(self) -> None:
        """Forget everything: the topic is not the one that was read before."""

    # ---- reading

    async def run(self) -> None:
        """Follow the topic until cancelled."""
        while True:
            consumer = self._clients.consumer(
                isolation_level="read_committed",
                enable_auto_commit=False,
                auto_offset_reset="none",
                fetch_max_wait_ms=POLL_MS,
                metadata_max_age_ms=METADATA_MS,
                max_partition_fetch_bytes=4 << 20,
                fetch_max_bytes=32 << 20,
            )
            try:
                await self._follow(consumer)
            except OffsetOutOfRangeError:
                log.error("view.restarted", code="view.restarted", topic=self.topic)  # noqa: TRY400
                await self._restart()
            except (Exception, asyncio.CancelledError) as error:
                if told_to_end():
                    raise
                self._check(error)
                self._tell_retry(error)
                await asyncio.sleep(RETRY_S)
            finally:
                await end_within(consumer.stop(), STOP_S)

    async def _restart(self) -> None:
        self._read, self._confirmed_at = {}, float("-inf")
        self._loaded.clear()
        await self._clear()

    def _tell_retry(self, error: BaseException) -> None:
        """Once a minute: as long as Kafka is away, each try fails."""
        now = time.monotonic()
        if now - self._told_at >= TELL_S:
            self._told_at = now
            log.warning("view.retry", topic=self.topic, error=type(error).__name__)

    def _check(self, error: BaseException) -> None:
        """Raise what trying again cannot help."""

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        async with asyncio.timeout(SILENCE_S):
            await consumer.start()
            self._answered_at = time.monotonic()
            found = await self._partitions(consumer)
        partitions = await self._assign(consumer, found)
        known = {number: proof.confirmed for number, proof in self._proofs.items()}
        self._proofs = {p.partition: _Proof(known.get(p.partition, float("-inf"))) for p in partitions}
        self._looked = started = time.monotonic()
        while True:
            fetched = await consumer.getmany(timeout_ms=POLL_MS)
            read = {p.partition: await consumer.position(p) for p in partitions}
            await self._apply([record for records in fetched.values() for record in records], read)
            self._read = read
            await self._prove(consumer, partitions)
            async with self._moved:  # markers and aborted records move it as well
                self._moved.notify_all()
            self._answered_at = max(self._answered_at, *(p.floor for p in self._proofs.values()))
            answered = min(p.floor for p in self._proofs.values())
            if time.monotonic() - max(started, answered) > SILENCE_S:
                raise TimeoutError

    async def _partitions(self, consumer: AIOKafkaConsumer) -> set[int]:
        first = TopicPartition(self.topic, 0)
        consumer.assign([first])  # makes the client ask for metadata of this topic
        consumer.seek(first, 0)
        # A broker that just started may not know the topic yet, and aiokafka asks again only at the metadata's age.
        while not (found := consumer.partitions_for_topic(self.topic)):  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(POLL_MS / 1000)
        return set(found)

    async def _assign(self, consumer: AIOKafkaConsumer, found: set[int]) -> list[TopicPartition]:
        partitions = [TopicPartition(self.topic, p) for p in sorted(found)]
        offsets = await self._start_offsets()
        if offsets.keys() != found:
            await self._restart()
            beginnings = await consumer.beginning_offsets(partitions)
            offsets = {p.partition: offset for p, offset in beginnings.items()}
        consumer.assign(partitions)
        for partition in partitions:
            consumer.seek(partition, offsets[partition.partition])
        return partitions

    async def _prove(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> None:
        at_end, behind, looked_before, self._looked = True, False, self._looked, time.monotonic()
        for partition in partitions:
            stable = consumer.last_stable_offset(partition)
            here = stable is not None and self._read[partition.partition] >= stable
            position, end = self._read[partition.partition], consumer.highwater(partition)
            self._proofs[partition.partition].look(
                consumer.last_poll_timestamp(partition), looked_before, position, end
            )
            at_end, behind = at_end and here, behind or (end is not None and end > position)
        if not (at_end and behind):
            self._blocked_since = None
        elif self._blocked_since is None:
            self._blocked_since = self._looked
        if not at_end:
            return
        confirmed = min(p.confirmed for p in self._proofs.values())
        if confirmed > float("-inf"):
            await self._publish()
            self._confirmed_at = max(self._confirmed_at, confirmed)
            if self._ready():
                self._loaded.set()

    def _ready(self) -> bool:
        """Whether what was published can be used."""
        return True


class CompactedTail(TopicTail):
    """A compacted topic as a dict: key -> last value, in groups by the part of the key before `#`.

    The groups let one lane find its own keys without a look at those of a thousand others.
    """

    def __init__(self, clients: Clients, topic: str) -> None:
        super().__init__(clients, topic)
        self._groups: dict[str, dict[str, bytes]] = {}

    def of(self, group: str) -> Mapping[str, bytes]:
        """All keys of one group: `group` itself and `group#...`."""
        return self._groups.get(group, {})

    @property
    def values(self) -> dict[str, bytes]:
        """Everything, as one new dict."""
        return {key: value for group in self._groups.values() for key, value in group.items()}

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    async def _apply(self, records: Sequence[ConsumerRecord], read: Mapping[int, int]) -> None:  # noqa: ARG002
        for record in records:
            if record.key is None:
                continue
            key = record.key.decode(errors="replace")
            name = key.partition("#")[0]
            if record.value is not None:
                self._groups.setdefault(name, {})[key] = record.value
            elif (group := self._groups.get(name)) is not None:
                group.pop(key, None)
                if not group:
                    del self._groups[name]

    async def _clear(self) -> None:
        self._groups.clear()


async def read_to_end(tail: TopicTail, within_s: float) -> None:
    """Read a topic once, to its present end, instead of following it.

    Raises:
        TimeoutError: it was not read within that time.
    """
    reading = asyncio.create_task(tail.run())
    try:
        async with asyncio.timeout(within_s):
            await tail.loaded()
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
