"""Clients of the cluster in memory, in aiokafka's form and with aiokafka's ways: what the engine uses of it.

aiokafka's peculiarities that the engine has to live with are here as well: `commit_transaction` does not look at what
became of the records, a request that failed is sent again after the lane gave up, a consumer that joins believes group
offsets, a seek throws away the fetch under way.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import (
    ConcurrentTransactions,
    IllegalGenerationError,
    InvalidProducerEpoch,
    InvalidTxnState,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    OffsetOutOfRangeError,
    ProducerFenced,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from broker.engine import EngineConfig
from tests.simulation.cluster import Fetched, Item, MemoryCluster
from tests.simulation.network import Network

RETRY_S = 0.05
POLL_S = 0.9  # longer than on a real cluster: what there is comes at once anyhow
BATCH_RECORDS = 200


class SimClients:
    """The clients of one party."""

    address = "memory"

    def __init__(self, cluster: MemoryCluster, network: Network) -> None:
        self.cluster, self.network = cluster, network

    def consumer(self, **settings: Any) -> Any:
        """See Clients."""
        return SimConsumer(self.cluster, self.network, **settings)

    def producer(self, lane: str, config: EngineConfig) -> Any:
        """See Clients."""
        return SimProducer(self.cluster, self.network, lane, config)

    def metadata(self) -> Any:
        """See Clients."""
        return SimMetadata(self.cluster, self.network)

    async def unparsed(self, group: str, partition: TopicPartition, offset: int) -> ConsumerRecord | None:  # noqa: ARG002
        """Every record here can be parsed."""
        raise AssertionError


class SimMetadata:
    """AIOKafkaClient, and the ClusterMetadata that it gives."""

    def __init__(self, cluster: MemoryCluster, network: Network) -> None:
        self._cluster, self._network = cluster, network
        self._counts: dict[str, int] = {}

    async def bootstrap(self) -> None:
        """Connect."""
        await self.fetch_all_metadata()

    async def fetch_all_metadata(self) -> SimMetadata:
        """What topics there are."""
        self._counts = await self._network.call(lambda: dict(self._cluster.counts), 5.0)
        return self

    def topics(self) -> set[str]:
        """Names."""
        return set(self._counts)

    def partitions_for_topic(self, topic: str) -> set[int]:
        """Their partitions."""
        return set(range(self._counts.get(topic, 0)))

    async def close(self) -> None:
        """Nothing to close."""


# ---- writing


@dataclass(slots=True)
class Waiting:
    """A batch on its way."""

    place: TopicPartition
    items: list[Item]
    sequence: int
    future: asyncio.Future[Written]


class Written(NamedTuple):
    """RecordMetadata, as far as it is used."""

    offset: int


class Builder:
    """BatchBuilder."""

    def __init__(self) -> None:
        self.items: list[Item] = []

    def append(self, *, key: bytes | None, value: bytes | None, timestamp: Any, headers: Any) -> Any:  # noqa: ARG002
        """None: full."""
        if len(self.items) >= BATCH_RECORDS:
            return None
        self.items.append(Item(key, value, tuple(headers)))
        return self

    def record_count(self) -> int:
        """How many are in it."""
        return len(self.items)


class SimProducer:
    """LaneProducer: a sender of its own carries everything out in order, and again when no answer came."""

    def __init__(self, cluster: MemoryCluster, network: Network, lane: str, config: EngineConfig) -> None:
        self._cluster, self._network, self._id, self._config = cluster, network, lane, config
        self.client = self  # its `close`
        self._epoch = -1
        self._queue: list[Waiting] = []
        self._added: set[TopicPartition] = set()
        self._included: set[TopicPartition] = set()
        self._sequence = 0
        self._ending: tuple[bool, asyncio.Future[None]] | None = None
        self._look: Callable[[], object] = lambda: None
        self._dead: Exception | None = None
        self._wake = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """InitProducerId, until it is answered."""
        timeout = self._config.transaction_timeout_s
        _, self._epoch = await self._insist(lambda: self._cluster.init_producer(self._id, timeout))
        self._sender = asyncio.create_task(self._send())

    async def stop(self) -> None:
        """Flush and end; hangs while the cluster is away, as aiokafka's."""
        if self._sender is not None:
            while (self._queue or self._ending) and self._dead is None:  # noqa: ASYNC110 - as aiokafka's flush ends
                await asyncio.sleep(RETRY_S)
            self._sender.cancel()

    async def close(self) -> None:
        """The connections: none."""

    async def begin_transaction(self) -> None:
        """Says nothing to the cluster."""
        self._check()

    def include(self, places: Iterable[TopicPartition]) -> None:
        """See LaneProducer."""
        self._included |= set(places)
        self._wake.set()

    def create_batch(self) -> Builder:
        """See aiokafka."""
        return Builder()

    async def send_batch(self, builder: Builder, topic: str, *, partition: int) -> asyncio.Future[Written]:
        """See aiokafka."""
        return self._enqueue(TopicPartition(topic, partition), builder.items)

    async def send(self, topic: str, value: bytes, *, key: bytes, partition: int) -> asyncio.Future[Written]:
        """See aiokafka."""
        return self._enqueue(TopicPartition(topic, partition), [Item(key, value)])

    async def commit(self, look: Callable[[], object]) -> None:
        """See LaneProducer."""
        self._look = look
        await self._end(commit=True)

    async def abort_transaction(self) -> None:
        """See aiokafka."""
        await self._end(commit=False)

    # ---- the sender

    def _enqueue(self, place: TopicPartition, items: list[Item]) -> asyncio.Future[Written]:
        self._check()
        self._sequence += 1
        waiting = Waiting(place, items, self._sequence, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._wake.set()
        return waiting.future

    async def _end(self, *, commit: bool) -> None:
        self._check()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ending = commit, future
        self._wake.set()
        await asyncio.shield(future)  # who gives up does not keep the sender from going on

    def _check(self) -> None:
        if self._dead is not None:
            raise self._dead

    async def _send(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._queue or self._included:
                    await self._flush(list(self._queue))
                if self._ending is not None:
                    await self._finish(*self._ending)
        except Exception as error:  # noqa: BLE001 - it dies, and says so to everybody who asks
            self._die(error)

    async def _flush(self, batch: list[Waiting]) -> None:
        new = ({waiting.place for waiting in batch} | self._included) - self._added
        self._included = set()
        if new:
            await self._insist(lambda: self._cluster.add_partitions(self._id, self._epoch, new))
            self._added |= new
        try:
            offsets = await self._insist(lambda: [self._produce(waiting) for waiting in batch], tries=40)
        except KafkaTimeoutError as error:
            for waiting in batch:
                _fail(waiting.future, error)
        else:
            for waiting, offset in zip(batch, offsets, strict=True):
                if not waiting.future.done():
                    waiting.future.set_result(Written(offset))
        del self._queue[: len(batch)]

    def _produce(self, waiting: Waiting) -> int:
        return self._cluster.produce(self._id, self._epoch, waiting.place, waiting.sequence, waiting.items)

    async def _finish(self, commit: bool, future: asyncio.Future[None]) -> None:
        def end() -> None:
            self._cluster.end_transaction(self._id, self._epoch, commit)

        if self._added:  # else the cluster knows of nothing
            await self._insist(end, before=self._look if commit else None)
        self._added, self._ending = set(), None
        if not future.done():
            future.set_result(None)

    async def _insist(
        self, operation: Callable[[], Any], *, tries: int = 1_000_000, before: Callable[[], object] | None = None
    ) -> Any:
        """Until the cluster answers: what is not known to be done is done again."""
        for _ in range(tries):
            if before is not None:
                before()
            try:
                return await self._network.call(operation, self._config.request_timeout_s)
            except (ConcurrentTransactions, KafkaConnectionError):
                await asyncio.sleep(RETRY_S)
            except (InvalidProducerEpoch, InvalidTxnState) as error:
                raise ProducerFenced from error
        raise KafkaTimeoutError

    def _die(self, error: Exception) -> None:
        self._dead = error
        for waiting in self._queue:
            _fail(waiting.future, error)
        self._queue.clear()
        if self._ending is not None:
            _fail(self._ending[1], error)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # it may be that nobody waits any more


# ---- reading


@dataclass(slots=True)
class At:
    """Where a consumer stands in one partition."""

    position: int | None = None
    paused: bool = False
    end: int | None = None
    stable: int | None = None
    polled_ms: int | None = None


class SimConsumer:
    """AIOKafkaConsumer."""

    def __init__(self, cluster: MemoryCluster, network: Network, **settings: Any) -> None:
        self._cluster, self._network, self._settings = cluster, network, settings
        self._at: dict[TopicPartition, At] = {}
        self._counts: dict[str, int] = {}
        self._pattern: re.Pattern[str] | None = None
        self._listener: Any = None
        self._member: str | None = None
        self._generation = -1
        self._coordination: asyncio.Task[None] | None = None
        self._stopped = False

    async def start(self) -> None:
        """Connect."""
        self._counts = await self._call(lambda: dict(self._cluster.counts))

    async def stop(self) -> None:
        """Leave the group at once."""
        self._stopped = True
        if self._coordination is not None:
            self._coordination.cancel()
            if self._member is not None:
                member = self._member
                with suppress(KafkaError):
                    await self._call(lambda: self._cluster.leave(self._settings["group_id"], member))

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """See aiokafka."""
        return set(range(self._counts[topic])) if topic in self._counts else None

    # ---- what is read

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """See aiokafka."""
        self._at = {place: At() for place in partitions}

    def assignment(self) -> frozenset[TopicPartition]:
        """See aiokafka."""
        return frozenset(self._at)

    def seek(self, place: TopicPartition, offset: int) -> None:
        """See aiokafka."""
        self._at[place].position = offset

    def pause(self, *places: TopicPartition) -> None:
        """See aiokafka."""
        for place in places:
            self._at[place].paused = True

    def resume(self, *places: TopicPartition) -> None:
        """See aiokafka."""
        for place in places:
            self._at[place].paused = False

    async def position(self, place: TopicPartition) -> int:
        """See aiokafka."""
        position = self._at[place].position
        assert position is not None
        return position

    async def committed(self, place: TopicPartition) -> int | None:
        """What the group's coordinator says: not to be believed."""
        group: str = self._settings["group_id"]
        found: int | None = await self._call(lambda: self._cluster.committed_offset(group, place))
        return found

    def highwater(self, place: TopicPartition) -> int | None:
        """See aiokafka."""
        return self._at[place].end

    def last_stable_offset(self, place: TopicPartition) -> int | None:
        """See aiokafka."""
        return self._at[place].stable

    def last_poll_timestamp(self, place: TopicPartition) -> int | None:
        """See aiokafka."""
        return self._at[place].polled_ms

    async def beginning_offsets(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """See aiokafka."""
        found: dict[TopicPartition, int] = await self._call(lambda: {p: self._cluster.log(p).start for p in places})
        return found

    async def end_offsets(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """See aiokafka: of a read_committed consumer the last stable ones."""
        found: dict[TopicPartition, int] = await self._call(lambda: {p: self._cluster.log(p).stable for p in places})
        return found

    async def offsets_for_times(self, times: Mapping[TopicPartition, int]) -> dict[TopicPartition, Any]:
        """See aiokafka: the first record that is not older; None when all are."""
        return {place: self._cluster.first_since(place, at_ms / 1000) for place, at_ms in times.items()}

    async def getmany(
        self,
        *only: TopicPartition,
        timeout_ms: int = 0,  # noqa: ARG002
        max_records: int | None = None,  # noqa: ARG002
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        """One fetch; what was sought or taken away meanwhile is dropped."""
        wanted = {
            place: at.position
            for place, at in self._at.items()
            if at.position is not None and not at.paused and (not only or place in only)
        }
        if not wanted:
            await asyncio.sleep(0.15)
            return {}
        most = self._settings.get("max_poll_records") or BATCH_RECORDS
        try:
            answer = await self._call(lambda: self._when_there_is_news(wanted, most))
        except KafkaConnectionError:
            return {}
        if isinstance(answer, dict) and answer.get("out"):
            raise OffsetOutOfRangeError(answer["out"])
        return self._take(wanted, answer["fetched"])

    def _when_there_is_news(self, wanted: Mapping[TopicPartition, int], most: int) -> Any:
        """In the cluster: answers now, or once there is something, or after a while."""
        cluster = self._cluster
        answer: asyncio.Future[Any] = cluster.loop.create_future()

        def look(*, last: bool) -> None:
            if answer.done():
                return
            if out := cluster.out_of_range(wanted):
                answer.set_result({"out": out})
            elif last or cluster.has_news(wanted):
                answer.set_result({"fetched": cluster.fetch(wanted, most)})
                timer.cancel()
            else:
                cluster.when_news(wanted, lambda: look(last=False))

        timer = cluster.later(POLL_S, lambda: look(last=True))
        look(last=False)
        return answer

    def _take(
        self, wanted: Mapping[TopicPartition, int], fetched: Mapping[TopicPartition, Fetched]
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        found = {}
        now_ms = int(self._cluster.time.time() * 1000)
        for place, got in fetched.items():
            at = self._at.get(place)
            if at is None or at.position != wanted[place] or at.paused:
                continue
            at.position, at.end, at.stable, at.polled_ms = got.position, got.end, got.stable, now_ms
            if got.records:
                found[place] = got.records
        return found

    # ---- the group

    def subscribe(self, *, pattern: str, listener: Any) -> None:
        """See aiokafka."""
        self._pattern, self._listener = re.compile(pattern), listener
        self._coordination = asyncio.create_task(self._coordinate())

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """See aiokafka."""
        group, member, generation = self._settings["group_id"], self._member, self._generation
        if member is not None:
            await self._call(lambda: self._cluster.commit_offsets(group, member, generation, offsets))

    async def _coordinate(self) -> None:
        group = self._settings["group_id"]
        while not self._stopped:
            try:
                if self._generation < 0:
                    await self._join(group)
                await asyncio.sleep(self._settings["heartbeat_interval_ms"] / 1000)
                member, generation = self._member, self._generation
                assert member is not None
                await self._call(lambda m=member, g=generation: self._cluster.heartbeat(group, m, g))
            except UnknownMemberIdError:
                self._member, self._generation = None, -1
            except (RebalanceInProgressError, IllegalGenerationError):
                self._generation = -1
            except KafkaConnectionError:
                continue

    async def _join(self, group: str) -> None:
        await self._listener.on_partitions_revoked(set(self._at))
        assert self._pattern is not None
        topics = frozenset(topic for topic in self._counts if self._pattern.match(topic))
        session = self._settings["session_timeout_ms"] / 1000
        rebalance = self._settings["rebalance_timeout_ms"] / 1000
        member = self._member
        self._member, self._generation, places = await self._network.call(
            lambda: self._cluster.join(group, member, topics, session, rebalance), rebalance + 5.0
        )
        self._at = {place: At() for place in places}
        await self._listener.on_partitions_assigned(set(places))

    async def _call(self, operation: Callable[[], Any]) -> Any:
        return await self._network.call(operation, self._settings.get("request_timeout_ms", 5000) / 1000)
