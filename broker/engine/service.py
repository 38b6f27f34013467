"""The data plane: reads every input topic and feeds one lane per partition.

Fetch loop and lanes share one event loop, and fetched records are handed over without waiting: that makes a `start`
stamp true, because no seek or rebalance can come in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from broker.engine.config import EngineConfig
from broker.engine.lane import Lane
from broker.engine.observe import Observer
from broker.engine.rescue import read_unparsed
from broker.engine.takeover import LaneHost, NotAssigned, Process
from broker.engine.topics import TopicCounts
from broker.engine.topicview import CompactedTail
from broker.engine.views import CurrentViews, RegistryView, VaultView
from broker.engine.watchdog import Watchdog
from broker.exchange.model import AUDIT_CONTROL, AUDIT_EVENTS, LANE_STATE, PARKED, VAULT
from broker.kafka.connection import KafkaConnection

log = structlog.get_logger()

REQUIRED: Final = (LANE_STATE, PARKED, AUDIT_EVENTS, AUDIT_CONTROL, VAULT, "registry")
REPORT_S: Final = 5.0
WATCH_S: Final = 1.0


class DataPlane(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka publishes no types
    """All lanes of one worker.

    Args:
        process: the pure function; see `Process`.
        registry, vault: the views; started and stopped here.
        outputs: names of the topics that an input topic may lead to.

    Attributes:
        lanes: by input partition.
        ready: set once the group was joined and every lane has tried to take over.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        process: Process,
        registry: RegistryView,
        vault: VaultView,
        *,
        outputs: Callable[[str], Iterable[str]],
        config: EngineConfig | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.config = config or EngineConfig()
        self.connection = connection
        client = connection.aiokafka(request_timeout_ms=int(self.config.request_timeout_s * 1000))
        self.lanes: dict[TopicPartition, Lane] = {}
        self.ready = asyncio.Event()
        self.views = CurrentViews(registry, vault, self.config.view_age_s)
        self.topics = TopicCounts(client)
        self.states, self.parked = CompactedTail(client, LANE_STATE), CompactedTail(client, PARKED)
        self.observer = observer or Observer()
        self.host = LaneHost(
            self.config, client, self, process, outputs, self.states, self.parked, self.views, self.topics,
            self.observer, asyncio.Semaphore(self.config.starting_lanes),
        )  # fmt: skip
        self._consumer: AIOKafkaConsumer | None = None
        self._positions: dict[TopicPartition, int] = {}  # where the next fetch begins
        self._rebalancing, self._joined, self._stopped = True, False, False
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchdog = Watchdog(self.config.patience_s)
        registry.on_change = lambda _: self._each(Lane.registry_changed)
        vault.on_change = lambda keys: self._each(lambda lane: lane.vault_changed(keys))

    # ---- life

    async def run(self) -> None:
        """Start, and go on until something fails that only a new process can cure, or `stop`.

        Raises:
            BrokerError: what it was.
        """
        await self.start()
        await self._failed

    async def start(self) -> None:
        """Load the views, then join the group.

        Raises:
            ConfigError: `topic.missing`; another worker uses the state folder.
        """
        await self.topics.require(REQUIRED)
        tails = (self.states, self.parked, self.views.registry, self.views.vault)
        for tail in tails:
            self._spawn(tail.run(), f"tail {tail.topic}")
        loading = asyncio.gather(*(tail.loaded() for tail in tails))
        await asyncio.wait([loading, self._failed], return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            loading.cancel()
            await self._failed
        log.info("views.loaded", age_s=round(self.views.age_s, 2))
        config = self.config
        self._consumer = AIOKafkaConsumer(
            **self.host.client,
            group_id=config.group,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",  # never jump silently over lost records
            metadata_max_age_ms=int(config.metadata_age_s * 1000),
            fetch_max_wait_ms=100,  # a resumed partition waits for the fetch under way
            max_partition_fetch_bytes=1 << 20,
            fetch_max_bytes=8 << 20,
            session_timeout_ms=int(config.session_timeout_s * 1000),
            heartbeat_interval_ms=int(config.heartbeat_s * 1000),
            rebalance_timeout_ms=int(config.rebalance_timeout_s * 1000),
        )
        await self._consumer.start()
        self._consumer.subscribe(pattern=config.pattern, listener=self)
        self._spawn(self._fetch(self._consumer), "fetch")
        self._spawn(self._watch(), "watch")
        self._spawn(self._report(self._consumer), "report")
        self._spawn(self._follow_topics(), "topics")

    async def stop(self) -> None:
        """Stop fetching, end or abandon the open transactions, leave the group. Takes `stop_timeout_s` at most."""
        if self._stopped:
            return
        self._stopped = self._rebalancing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.stop_timeout_s):
                await asyncio.gather(*(lane.close() for lane in self.lanes.values()), *self._closing)
                if self._consumer is not None:
                    await self._consumer.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.views.vault.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.topics.close(), 1.0)
        if not self._failed.done():
            self._failed.set_result(None)

    async def __aenter__(self) -> DataPlane:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    @property
    def failure(self) -> BaseException | None:
        """What only a new process can cure, or None."""
        return self._failed.exception() if self._failed.done() else None

    def lag(self) -> dict[TopicPartition, int]:
        """Records that wait in Kafka, for the partitions where that is known."""
        found = {}
        for partition, lane in self.lanes.items():
            if self._consumer is not None and self.owns(partition) and lane.committed is not None:
                end = self._consumer.highwater(partition)
                if end is not None:
                    found[partition] = max(0, end - lane.committed)
        return found

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._failed.done():
            self._failed.set_exception(error)

    def _each(self, tell: Callable[[Lane], None]) -> None:
        for lane in self.lanes.values():
            tell(lane)

    # ---- background tasks

    async def _fetch(self, consumer: AIOKafkaConsumer) -> None:
        while not self._stopped:
            try:
                fetched = await consumer.getmany(timeout_ms=500)
            except NoOffsetForPartitionError:
                continue  # aiokafka's own positioning; lanes do theirs
            except OffsetOutOfRangeError as error:  # records deleted before we read them
                for partition in error.args[0].keys() & self.lanes.keys():
                    self.lanes[partition].reset(error)
            except KafkaError as error:
                # Records of *any* partition may be lost with the exception: read all again.
                log.warning("fetch.failed", error=type(error).__name__)
                self._forget()
                await asyncio.sleep(1.0)
            except Exception as error:  # noqa: BLE001 - the client cannot parse what a party wrote
                log.error("fetch.unparsed", code="fetch.unparsed", error=type(error).__name__)  # noqa: TRY400
                await self._rescue(consumer)
            else:
                self._hand_over(fetched)

    async def _rescue(self, consumer: AIOKafkaConsumer) -> None:
        """One record cannot be parsed and hides the others: find it, and give it to its lane all the same."""
        self._forget()
        for partition in list(self.lanes):
            await self._rescue_one(consumer, partition)

    async def _report(self, consumer: AIOKafkaConsumer) -> None:
        """Group offsets for lag monitors. Outside the transactions: nothing depends on them."""
        while True:
            await asyncio.sleep(REPORT_S)
            offsets = {p: lane.committed for p, lane in self.lanes.items() if lane.committed is not None}
            if offsets and all(map(self.owns, offsets)):
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(consumer.commit(offsets), 3.0)

    async def _follow_topics(self) -> None:
        while True:
            await asyncio.sleep(self.config.metadata_age_s)
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                await self.topics.refresh()

    # ---- rebalances
