"""Reads all input topics with one consumer and hands what it reads to the lanes.

Fetched records are handed over without waiting, in the event loop that the lanes run in: that makes a `start` stamp
true, because no seek or rebalance can come in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from broker.engine.assignor import LaneAssignor
from broker.engine.clients import Clients
from broker.engine.config import EngineConfig
from broker.engine.ending import end_within
from broker.engine.lane import Lane
from broker.engine.observe import Observer
from broker.engine.takeover import NotAssigned
from broker.kafka.closing import told_to_end

log = structlog.get_logger()

PAUSE_S = 1.0
SEARCH_S = 30.0  # how long partitions are read one by one, to find the one whose record cannot be parsed
FRAGILE_S = 600.0  # how long a partition with such a record is read apart from the others
STANDSTILL_S = 3.0  # between two rounds, which take half a second: the process stood still, and may have been missed
DOUBT_S = 1.0  # then until the group has told us: a few heartbeats
APART = 200  # records of it in one round


class InputReader(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka publishes no types
    """The consumer, and the lanes of the partitions that are ours.

    Args:
        clients: of the cluster.
        make_lane: starts a lane; it runs from then on.

    Attributes:
        lanes: by input partition.
        joined: set after the first assignment.
    """

    def __init__(
        self,
        clients: Clients,
        config: EngineConfig,
        make_lane: Callable[[TopicPartition], Lane],
        observer: Observer,
    ) -> None:
        self.lanes: dict[TopicPartition, Lane] = {}
        self.joined = asyncio.Event()
        self.rebalancing_since: float | None = None
        self._clients, self._config, self._make_lane, self._observer = clients, config, make_lane, observer
        self._fragile: dict[TopicPartition, float] = {}  # with a record that cannot be parsed; until when
        self._search_until = float("-inf")
        self._positions: dict[TopicPartition, int] = {}  # where the next fetch begins
        self._rebalancing, self._stopped = True, False
        self._round_at, self._doubt_until = time.monotonic(), float("-inf")
        self._closing: set[asyncio.Task[None]] = set()
        self._consumer = self._new_consumer()

    def _new_consumer(self) -> AIOKafkaConsumer:
        config = self._config
        return self._clients.consumer(
            group_id=config.group,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",  # never jump silently over lost records
            metadata_max_age_ms=int(config.metadata_age_s * 1000),  # how soon new topics are found
            fetch_max_wait_ms=100,  # a resumed partition waits for the fetch under way
            max_partition_fetch_bytes=1 << 20,
            fetch_max_bytes=8 << 20,
            session_timeout_ms=int(config.session_timeout_s * 1000),
            heartbeat_interval_ms=int(config.heartbeat_s * 1000),
            rebalance_timeout_ms=int(config.rebalance_timeout_s * 1000),
            # One only: aiokafka 0.14 asks to join once for each, and the second time starts the rebalance anew. Two
            # workers that came at the same moment chased each other out of the group without an end.
            partition_assignment_strategy=(LaneAssignor(),),
        )

    async def start(self) -> None:
        """Join the group.

        Raises:
            KafkaError: no broker answers; it can be tried again.
        """
        self._round_at = time.monotonic()
        try:
            await self._consumer.start()
        except BaseException:
            unused, self._consumer = self._consumer, self._new_consumer()
            await end_within(unused.stop(), PAUSE_S)
            raise
        self._consumer.subscribe(pattern=self._config.pattern, listener=self)

    async def stop(self) -> None:
        """End all batches, leave the group, end the lanes; may hang while Kafka is away, so limit it."""
        self._stopped = self._rebalancing = True
        lanes = list(self.lanes.values())
        for lane in lanes:
            lane.reset()
        await asyncio.gather(*(lane.settle() for lane in lanes))
        # At once: others can take the lanes over now. What did not end by itself is shut out by that, and producers
        # that hang need not be waited for first.
        endings = (self._consumer.stop(), *(lane.close() for lane in lanes), *self._closing)
        await asyncio.gather(*endings, return_exceptions=True)  # aiokafka's may raise; the others end all the same

    async def run(self) -> None:
        """Fetch until stopped."""
        while not self._stopped:
            try:
                await self._round()
            except NoOffsetForPartitionError:
                continue  # aiokafka's own positioning; lanes do theirs
            except OffsetOutOfRangeError as error:  # records deleted before we read them
                for partition in error.args[0].keys() & self.lanes.keys():
                    self.lanes[partition].reset(error)
            except (KafkaError, asyncio.CancelledError) as error:
                if told_to_end():
                    raise
                # Records of *any* partition may be lost with the exception: read all again.
                log.warning("fetch.failed", error=type(error).__name__)
                self._forget()
                await asyncio.sleep(PAUSE_S)

    async def _round(self) -> None:
        now = self._look_at_the_clock()
        self._fragile = {p: until for p, until in self._fragile.items() if until > now and p in self.lanes}
        if now < self._search_until:
            await self._search()
        elif not self._fragile:
            await self._fetch_all()
        else:
            solid = [p for p in self.lanes if p not in self._fragile and self.owns(p)]
            if solid:
                await self._fetch_all(*solid)
            for partition in self._fragile:
                await self._fetch_apart(partition)
            await asyncio.sleep(0.01)

    async def _fetch_all(self, *only: TopicPartition) -> None:
        """Read everything, or only these: what is known to hold an unparsable record is read apart."""
        try:
            fetched = await self._consumer.getmany(*only, timeout_ms=50 if only else 500)
        except KafkaError:
            raise
        except Exception as error:  # noqa: BLE001 - a record that the client cannot parse, in some partition
            if self._stopped:
                return  # the consumer is closed
            log.error("fetch.unparsed", code="fetch.unparsed", error=type(error).__name__)  # noqa: TRY400
            self._search_until = time.monotonic() + SEARCH_S
            self._forget()  # the exception swallowed records of other partitions
        else:
            self._hand_over(fetched)

    async def _search(self) -> None:
        """Read partition by partition, until the exception shows whose it is."""
        for partition in list(self.lanes):
            if partition in self._fragile or not self.owns(partition):
                continue
            try:
                self._hand_over(await self._consumer.getmany(partition, timeout_ms=0))
            except KafkaError:
                raise
            except Exception:  # noqa: BLE001 - reported already
                self._fragile[partition] = time.monotonic() + FRAGILE_S
                self._search_until = float("-inf")
                self._positions.pop(partition, None)
                self.lanes[partition].reset()
        await asyncio.sleep(0.05)

    async def _fetch_apart(self, partition: TopicPartition) -> None:
        """One record at a time: where that fails, exactly the next record is the one that cannot be parsed."""
        for _ in range(APART):
            lane = self.lanes.get(partition)
            if lane is None or not lane.hungry or not self.owns(partition):
                return
            try:
                fetched = await self._consumer.getmany(partition, timeout_ms=0, max_records=1)
            except KafkaError:
                raise
            except Exception:  # noqa: BLE001 - reported already
                await self._rescue(partition)
                return
            if not fetched:
                return
            self._hand_over(fetched)

    async def _rescue(self, partition: TopicPartition) -> None:
        start = self._positions.get(partition)
        if start is None:
            return
        record = await self._clients.unparsed(self._config.group, partition, start)
        lane = self.lanes.get(partition)
        if lane is None or self._positions.get(partition) != start or not self.owns(partition):
            return  # positioned anew meanwhile
        if record is None:
            lane.reset()
            return
        log.error(
            "record.unparsed", code="record.unparsed", topic=partition.topic, partition=partition.partition,
            offset=record.offset,
        )  # fmt: skip
        self._observer.rescued(lane.id)
        self._hand_over({partition: [record]})
        if self.owns(partition):
            self._consumer.seek(partition, record.offset + 1)

    def _hand_over(self, fetched: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> None:
        """Must not wait; see the module."""
        for partition, records in fetched.items():
            start, lane = self._positions.get(partition), self.lanes.get(partition)
            if start is None or lane is None:
                continue
            self._positions[partition] = records[-1].offset + 1
            lane.accept(start, records)
            if not lane.hungry and self.owns(partition):  # the lane resumes it; others go on meanwhile
                # Only here, right after a fetch drained it: pausing throws buffered records away.
                self._consumer.pause(partition)

    # ---- what is known about the input

    def lag(self) -> dict[TopicPartition, int]:
        """Records that wait in Kafka, for the partitions where that is known."""
        found = {}
        for partition, lane in self.lanes.items():
            end = self._consumer.highwater(partition) if self.owns(partition) else None
            if end is not None and lane.committed is not None:
                found[partition] = max(0, end - lane.committed)
        return found

    def answered_at(self) -> float | None:
        """When a fetch was answered last, by the clock on the wall. That may be set: only its change tells something.

        None: there is nothing to fetch.
        """
        hungry = [p for p, lane in self.lanes.items() if lane.hungry and self.owns(p)]
        if not hungry:
            return None
        return max((self._consumer.last_poll_timestamp(p) or 0) / 1000 for p in hungry)

    async def report_offsets(self) -> None:
        """Group offsets for lag monitors. Outside the transactions: nothing depends on them."""
        offsets = {p: lane.committed for p, lane in self.lanes.items() if lane.committed is not None and self.owns(p)}
        if offsets:
            with contextlib.suppress(KafkaError, TimeoutError, OSError):
                await asyncio.wait_for(self._consumer.commit(offsets), 3.0)

    # ---- Source: what lanes ask for

    def owns(self, partition: TopicPartition) -> bool:
        """See Source."""
        # assignment() is empty once the pattern finds another topic, before we are told of it: seek, pause and
        # resume would fail on an assertion.
        return not self._rebalancing and partition in self._consumer.assignment()

    async def certain(self) -> None:
        """See Source."""
        now = self._look_at_the_clock()
        await asyncio.sleep(max(0.0, self._doubt_until - now))

    def _look_at_the_clock(self) -> float:
        now = time.monotonic()
        if now - self._round_at > STANDSTILL_S:
            self._doubt_until = now + DOUBT_S
        self._round_at = now
        return now

    def read_from(self, partition: TopicPartition, offset: int) -> None:
        """See Source."""
        if not self.owns(partition):
            raise NotAssigned
        self._consumer.seek(partition, offset)
        self._consumer.resume(partition)
        self._positions[partition] = offset

    def resume(self, partition: TopicPartition) -> None:
        """See Source."""
        if self.owns(partition):
            self._consumer.resume(partition)

    async def bounds(self, partition: TopicPartition) -> tuple[int, int]:
        """See Source."""
        first = await self._consumer.beginning_offsets([partition])
        end = await self._consumer.end_offsets([partition])
        return first[partition], end[partition]

    # ---- rebalance listener: exceptions in here would only be logged by aiokafka

    def _forget(self) -> None:
        self._positions.clear()
        for lane in self.lanes.values():
            lane.reset()

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """All partitions are revoked (eager protocol); heartbeats go on while we wait here."""
        if revoked:
            log.info("group.revoked", partitions=len(revoked))
        self._rebalancing, self.rebalancing_since = True, time.monotonic()
        self._forget()
        await asyncio.gather(*(lane.settle() for lane in self.lanes.values()))

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Must return at once: no heartbeat is sent meanwhile. Lanes start in the background."""
        if self._stopped or self._consumer.assignment() != assigned:
            return  # out of date: another rebalance follows
        for partition in assigned:
            # Any position keeps aiokafka from looking for one; paused, nothing is fetched.
            self._consumer.seek(partition, 0)
            self._consumer.pause(partition)
        self._rebalancing, self.rebalancing_since = False, None
        for partition in self.lanes.keys() - assigned:
            task = asyncio.create_task(self.lanes.pop(partition).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        for lane in self.lanes.values():  # ours before: they keep their producers
            lane.assigned()
        for partition in assigned - self.lanes.keys():
            self.lanes[partition] = self._make_lane(partition)
        log.info("group.assigned", partitions=len(assigned))
        self.joined.set()
