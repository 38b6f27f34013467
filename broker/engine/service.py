"""The data plane of one worker: views, reader, lanes, and the watchdog over them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError

from broker.engine.clients import Clients
from broker.engine.config import EngineConfig
from broker.engine.contact import Contact
from broker.engine.ending import end_within
from broker.engine.lane import Lane
from broker.engine.observe import Observer
from broker.engine.reader import InputReader
from broker.engine.takeover import LaneHost, Process, SetAside
from broker.engine.topics import TopicCounts
from broker.engine.topicview import CompactedTail
from broker.engine.views import REGISTRY, CurrentViews, RegistryView, VaultView
from broker.errors import TransientError
from broker.exchange.model import AUDIT_CONTROL, AUDIT_EVENTS, AUDIT_INDEX, LANE_STATE, PARKED, VAULT

log = structlog.get_logger()

REQUIRED: Final = (LANE_STATE, PARKED, AUDIT_EVENTS, AUDIT_CONTROL, AUDIT_INDEX, VAULT, REGISTRY)
REPORT_S: Final = 5.0
WATCH_S: Final = 0.5
READY_POLL_S: Final = 0.05
#: What a lane waits for that a new process would not have either: it could open no key at all while the server that
#: unwraps them is away.
FOR_KEYS: Final = frozenset(("keys.opening", "keys.behind"))


class DataPlane:
    """All lanes of one worker. An async context manager; or `run`, which lasts until `stop`.

    Args:
        clients: of the cluster.
        process: the pure function; see `Process`.
        set_aside: what is written instead for an event that it fails on; without it a lane stands still there.
        registry, vault: the views; run from here on, and the vault is closed at the end.
        outputs: names of the topics that an input topic may lead to.
        on_loaded: called once, when the views are loaded and the group is not joined yet.
    """

    def __init__(
        self,
        clients: Clients,
        process: Process,
        registry: RegistryView,
        vault: VaultView,
        *,
        outputs: Callable[[str], Iterable[str]],
        set_aside: SetAside | None = None,
        config: EngineConfig | None = None,
        observer: Observer | None = None,
        on_loaded: Callable[[], None] = lambda: None,
    ) -> None:
        self.config = config = config or EngineConfig()
        self.views = CurrentViews(registry, vault, config.view_age_s)
        self.topics = TopicCounts(clients)
        self._states, self._parked = CompactedTail(clients, LANE_STATE), CompactedTail(clients, PARKED)
        observer = observer or Observer()
        self._reader = InputReader(clients, config, self._make_lane, observer)
        self._tails = (self._states, self._parked, registry, vault)
        self._contact = Contact(clients.address, self._tails, lambda: len(self.lanes))
        self._host = LaneHost(
            config, clients, self._reader, process, set_aside, outputs, self._states, self._parked, self.views,
            self.topics, observer, self._contact, asyncio.Semaphore(config.starting_lanes), asyncio.Lock(),
        )  # fmt: skip
        self._on_loaded = on_loaded
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped, self._started = False, asyncio.Event()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        registry.on_change = lambda _: self._each(Lane.registry_changed)
        vault.on_change = lambda keys: self._each(lambda lane: lane.vault_changed(keys))

    @property
    def lanes(self) -> dict[TopicPartition, Lane]:
        """By input partition."""
        return self._reader.lanes

    def lag(self) -> dict[TopicPartition, int]:
        """Records that wait in Kafka, for the partitions where that is known."""
        return self._reader.lag()

    # ---- life

    async def run(self) -> None:
        """Start, and go on until `stop`, or until something fails that only a new process can cure.

        Raises:
            Exception: what that was.
        """
        await self.start()
        await self._ended

    async def start(self) -> None:
        """Load the views, then join the group: a worker without views would only hold partitions up.

        Raises:
            ConfigError: `topic.missing`, `state.locked`.
        """
        self._spawn(self._keep_contact(), "_keep_contact")
        await self._once_kafka_answers(lambda: self.topics.require(REQUIRED))
        tails = self._tails
        for tail in tails:
            self._spawn(tail.run(), f"tail {tail.topic}")
        # A transaction that does not end by itself (KAFKA-20734) is ended by the lane that left it. So its views must
        # not keep a worker from having lanes; a batch waits for them all the same.
        blocked_s = self.config.transaction_timeout_s + self.config.view_age_s
        await self._unless_failed(asyncio.gather(*(tail.loaded_or_blocked(blocked_s) for tail in tails)))
        blocked = [tail.topic for tail in tails if not tail.caught_up()]
        log.info("views.loaded", age_s=round(self.views.age_s, 2), blocked=blocked)
        self._on_loaded()
        await self._once_kafka_answers(self._reader.start)
        for name in ("_fetch", "_watch", "_report", "_follow_topics"):
            self._spawn(getattr(self, name)(), name)
        self._started.set()

    async def _once_kafka_answers(self, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do something at the start that needs Kafka; a new process would not reach it either."""
        while True:
            try:
                return await step()
            except KafkaConnectionError:
                await asyncio.sleep(WATCH_S)

    async def ready(self) -> int:
        """Wait until the group was joined and each lane has taken over, or failed to; how many lanes there are."""
        await self._unless_failed(self._started.wait())
        while self.topics.matching(self.config.pattern):
            lanes = self.lanes.values()
            if self._reader.joined.is_set() and all(lane.positioned or lane.failures for lane in lanes):
                break
            await self._unless_failed(asyncio.sleep(READY_POLL_S))
        return len(self.lanes)

    async def stop(self) -> None:
        """Stop fetching, end or abandon the open transactions, leave the group. Takes `stop_timeout_s` at most."""
        if self._stopped:
            return
        self._stopped = True
        await end_within(self._reader.stop(), self.config.stop_timeout_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.views.vault.close()
        await end_within(self.topics.close(), 1.0)
        if not self._ended.done():
            self._ended.set_result(None)

    async def __aenter__(self) -> DataPlane:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def _unless_failed(self, awaitable: asyncio.Future[Any] | Coroutine[Any, Any, Any]) -> None:
        work = asyncio.ensure_future(awaitable)
        await asyncio.wait([work, self._ended], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            await self._ended
        await work

    def _make_lane(self, partition: TopicPartition) -> Lane:
        return Lane(partition, self._host)

    def _each(self, tell: Callable[[Lane], None]) -> None:
        for lane in self.lanes.values():
            tell(lane)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._stopped or self._ended.done():
            return
        error = None if task.cancelled() else task.exception()
        self._ended.set_exception(error or stuck(f"its task {task.get_name()} ended"))

    # ---- background tasks

    async def _fetch(self) -> None:
        await self._reader.run()

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            await self._reader.report_offsets()

    async def _follow_topics(self) -> None:
        while True:
            await asyncio.sleep(self.config.metadata_age_s)
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                await self.topics.refresh()

    async def _keep_contact(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            self._contact.look()

    async def _watch(self) -> None:
        """End when there is work and nothing moves: aiokafka's own tasks may die or hang unnoticed.

        Only what happens while Kafka answers counts: what does not move since it is away moves by itself once it is
        back, and a new process would have to load its views first. Nor does the clock on the wall, which may be set.
        """
        moved = answered = time.monotonic()
        last_answer: float | None = None
        while True:
            await asyncio.sleep(WATCH_S)
            now, lag = time.monotonic(), self.lag()
            behind = [lane for p, lane in self.lanes.items() if (lane.busy or lag.get(p)) and not _waits_for_keys(lane)]
            moved = max([moved, *(lane.progressed_at for lane in behind)]) if behind else now
            answer = self._reader.answered_at()
            if answer is None or answer != last_answer:
                answered, last_answer = now, answer
            if self._contact.away:
                moved = answered = now
            since = self._reader.rebalancing_since
            rebalancing = since is not None and now - max(since, self._contact.away_at) > self.config.patience_s
            if now - moved > self.config.patience_s:
                failures = {type(lane.failure).__name__ for lane in behind if lane.failure is not None}
                raise stuck(
                    f"{len(behind)} lanes have work and none moved ({', '.join(sorted(failures)) or 'no error'})"
                )
            if now - answered > self.config.patience_s:
                raise stuck("no fetch was answered")
            if rebalancing and self.topics.matching(self.config.pattern):
                raise stuck("the consumer group did not get together again")


def _waits_for_keys(lane: Lane) -> bool:
    return getattr(lane.failure, "code", None) in FOR_KEYS


def stuck(what: str) -> TransientError:
    """Nothing moves; only a new process may help."""
    return TransientError(f"The worker stands still: {what}. It ends, to be started anew.", code="worker.stuck")
