"""A lane: the only one that moves an input partition forward, exactly once.

    records read from Kafka --accept()--> backlog --> process --> one transaction:
                                                      outputs + audit + the lane's own state

    take over (InitProducerId) -> settle -> read own state -> seek -> [batch -> transaction]*
    any failure -> drop the producer, back off, begin again at "take over"

Safety rests on two rules, whatever the consumer group does meanwhile:

1. The state is read *after* taking over, which shuts an older owner out, and after everything it wrote is decided:
   nobody can move the position between our reading it and our commit.
2. Records are accepted only if they were read from exactly the position where the previous ones ended (`start`).
   Anything lost or repeated on the way makes the lane read again.

An acknowledged commit is not believed on its own either: after any doubt the log is asked (`takeover`), and until the
lane's own record of it can be read, the next transaction has its end marked wherever that one wrote (`proof`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence

import structlog
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import ProducerFenced

from broker.engine.arrivals import Arrivals
from broker.engine.backlog import Backlog
from broker.engine.ending import told_to_end
from broker.engine.observe import BatchReport
from broker.engine.overlay import VaultOverlay
from broker.engine.proof import Unproven
from broker.engine.takeover import LaneHost, NotAssigned, take_over
from broker.engine.transaction import LaneProducer, write
from broker.errors import BrokerError, TransientError
from broker.exchange.duties import duties_of
from broker.exchange.model import REGISTRY, VAULT, InputRecord, Step, Views
from broker.exchange.state import LaneState
from broker.registry import Registry

log = structlog.get_logger()

RECOMPUTE_TRIES = 5


class RegistryMoved(Exception):
    """The registry changed after records were sent: this transaction must not commit."""


class Lane:
    """See the module.

    Attributes:
        failure: why the lane stands still, or None; for health checks.
        failures: how often in a row it failed.
        progressed_at: monotonic seconds of the last batch.
    """

    def __init__(self, partition: TopicPartition, host: LaneHost) -> None:
        self.partition, self.host = partition, host
        self.id = f"{host.config.group}.{partition.topic}.{partition.partition}"
        self.failure: BaseException | None = None
        self.failures = 0
        self.progressed_at = time.monotonic()
        self._state: LaneState | None = None  # known only while our producer lives
        self._producer: LaneProducer | None = None
        self._unproven = Unproven(host.states, host.config.proof_s)
        self._expected: int | None = None  # where the next records begin; None: not reading
        self._backlog = Backlog(host.config)
        # Most records of the next batch. Halved by a failure: what is too much for its time-out must not come back
        # for ever. It grows again slowly.
        self._most = host.config.batch_records
        self._overlay = VaultOverlay()
        self._arrivals = Arrivals(host.config.tick_s)
        self._duties = duties_of(self.id) is not None  # looks at each registry, and at each day
        self._nudged, self._ticked = False, time.monotonic()
        self._reported: BaseException | None = None  # a failure seen by the reader
        self._wake, self._settled = asyncio.Event(), asyncio.Event()
        self._settled.set()
        self._stopping: set[asyncio.Task[None]] = set()  # producers on their way out
        self._task = asyncio.create_task(self._run(), name=self.id)

    # ---- for the reader: none of these waits

    def accept(self, start: int, records: Sequence[ConsumerRecord]) -> None:
        """Take records that were read from position `start` on."""
        if self._expected is None:
            return  # in recovery: will seek before it reads on
        if start != self._expected or records[0].offset < start:
            log.warning("lane.broken_chain", lane=self.id, expected=self._expected, start=start)
            self.reset()
            return
        self._expected = records[-1].offset + 1
        self._backlog.extend(records)
        self._wake.set()

    @property
    def committed(self) -> int | None:
        """The next input offset; None while unknown."""
        return None if self._state is None else self._state.next_offset

    @property
    def parked(self) -> int:
        """How many events wait for an identity."""
        return 0 if self._state is None else len(self._state.parked)

    @property
    def positioned(self) -> bool:
        """Whether the lane has taken over and reads."""
        return self._expected is not None

    @property
    def busy(self) -> bool:
        """Whether there is work that should move: records, a batch under way, or a take-over."""
        return bool(self._backlog) or not self._settled.is_set() or self._expected is None

    @property
    def hungry(self) -> bool:
        """Whether it reads and has room."""
        return self._expected is not None and not self._backlog.full

    def reset(self, failure: BaseException | None = None) -> None:
        """Drop what waits and position again, after the open transaction."""
        self._expected, self._reported = None, failure or self._reported
        self._backlog.clear()
        self._wake.set()

    def vault_changed(self, keys: Iterable[bytes]) -> None:
        """The view read these keys: parked events may go on."""
        # Without a state the lane takes over, and then looks at everything. What the batch under way parks is looked
        # at once it is committed.
        if self._state is not None and self._arrivals.add(keys, self._state.waiting):
            self._nudge()

    def registry_changed(self) -> None:
        """Parked events may go on, or end; the party may have to be told of a duty."""
        if self.parked or self._duties:
            self._nudge()

    async def settle(self) -> None:
        """Let the batch under way end, if it will."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._settled.wait(), self.host.config.settle_timeout_s)

    async def close(self) -> None:
        """End after the batch under way; what does not end is left to the transaction's time-out."""
        self.reset()
        await self.settle()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._drop_producer()
        if self._stopping:
            await asyncio.wait(self._stopping, timeout=self.host.config.settle_timeout_s)

    # ---- the lane's own task

    async def _run(self) -> None:
        while True:
            try:
                await self._position()
                while self._expected is not None:
                    if self._backlog:
                        await self._transact(self._take())
                    elif self._due():
                        await self._transact([])
                    else:
                        await self._rest()
                if self._reported is not None:
                    failure, self._reported = self._reported, None
                    raise failure
            except NotAssigned:
                self._wake.clear()
                await self._wake.wait()
            except RegistryMoved:
                # What was sent must not commit. As after every doubt the way leads over a take-over: an abort that
                # was acknowledged may have skipped partitions, and a later commit would make those records visible.
                self.host.observer.recomputed(self.id)
                self._let_go()
            except (Exception, asyncio.CancelledError) as error:
                if told_to_end():
                    raise
                await self._recover(error)

    async def _position(self) -> None:
        if not self.host.source.owns(self.partition):
            raise NotAssigned  # and do not fence the new owner
        async with asyncio.timeout(self.host.config.takeover_timeout_s):
            if self._state is None:
                self._producer = self.host.clients.producer(self.id, self.host.config)
                self._state = await take_over(self.id, self.partition, self._producer, self.host, self.failures)
                self._overlay.clear()
                self._arrivals.everything()
                self._nudged = bool(self.parked) or self._duties
        # From here to the end without waiting: position and expectation change together.
        self.host.source.read_from(self.partition, self._state.next_offset)
        self._expected = self._state.next_offset
        self._backlog.clear()

    async def _rest(self) -> None:
        self._wake.clear()
        timeout = None
        if self.parked or self._duties:
            timeout = max(0.0, self._ticked + self.host.config.tick_s - time.monotonic())
        if self._unproven.places:
            timeout = min(timeout or self._unproven.patience_s, self._unproven.patience_s)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), timeout)

    def _due(self) -> bool:
        if self._unproven.in_doubt():
            return True
        if not self.parked and not self._duties:
            self._nudged = False
            return False
        return self._nudged or time.monotonic() >= self._ticked + self.host.config.tick_s

    def _nudge(self) -> None:
        self._nudged = True
        self._wake.set()

    # ---- batches

    def _take(self) -> list[InputRecord]:
        batch = self._backlog.take(self._most)
        if self.hungry:
            self.host.source.resume(self.partition)
        return batch

    async def _transact(self, records: list[InputRecord]) -> None:
        config = self.host.config
        await self.host.views.wait_current(config.batch_timeout_s)
        if self._expected is None:
            return  # told to position again meanwhile; these records will be read again
        self._settled.clear()
        try:
            async with asyncio.timeout(config.batch_timeout_s):
                await self._decide_and_commit(records)
        finally:
            self._settled.set()
        self.progressed_at = time.monotonic()
        if not records:
            return  # says nothing about the batch that failed: without its pause the lane would spin
        self.failure, self.failures = None, 0
        self._most = min(config.batch_records, self._most + max(1, config.batch_records // 50))

    async def _decide_and_commit(self, records: list[InputRecord]) -> None:
        state, views = self._state, self.host.views
        if state is None:
            raise TransientError("The lane has no state.", code="lane.state")
        next_offset = records[-1].offset + 1 if records else state.next_offset
        self._nudged, self._ticked = False, time.monotonic()
        for _ in range(RECOMPUTE_TRIES):
            registry, began = views.require_current(), time.monotonic()
            step = await self._decide(state, records, registry, next_offset)
            # A long decision kept the views from reading: let them, instead of failing again and again.
            await views.wait_current(self.host.config.request_timeout_s)
            if views.registry.current is registry:
                break
            self.host.observer.recomputed(self.id)  # nothing was sent yet
        else:
            raise TransientError("The registry changes faster than a batch.", code="registry.moving")
        decided = time.monotonic()
        written = await self._commit(step, registry) if step.outgoing or self._unproven.in_doubt() else {}
        state.adopt(step.delta)
        self._arrivals.committed(more=step.more)
        self._look_after(step)
        self._nudged = self._nudged or step.more
        # A link that this lane switched on is on for its very next event.
        await views.registry.passed({p: offset for (topic, p), offset in written.items() if topic == REGISTRY})
        committed = time.monotonic()
        report = BatchReport(self.id, len(records), step.decisions, decided - began, committed - decided)
        self.host.observer.committed(report)

    async def _decide(self, state: LaneState, records: list[InputRecord], registry: Registry, next_offset: int) -> Step:
        """Run the pure function; again if it missed a topic that exists by now."""
        topics, vault = self.host.topics, self.host.views.vault
        for _ in range(2):
            self._overlay.prune(vault.read)
            topics.missed.clear()
            with vault.reading() as reader:
                vault_now, look_at = self._overlay.over(reader), self._arrivals.to_look_at()
                views = Views(registry, vault_now, topics.partitions, look_at)
                step = self.host.process(state, records, views, time.time_ns() // 1_000_000, next_offset)
            if not topics.missed or not await topics.recheck(frozenset(topics.missed)):
                break
        return step

    async def _commit(self, step: Step, registry: Registry) -> dict[tuple[str, int], int]:
        producer = self._producer
        if producer is None:
            raise TransientError("The lane lost its producer.", code="lane.producer")
        await producer.begin_transaction()
        producer.include(self._unproven.places)
        offsets = await write(producer, step.outgoing)
        await self.host.views.wait_current(self.host.config.request_timeout_s)

        def look() -> None:
            if self.host.views.require_current() is not registry:
                raise RegistryMoved  # withdrawn meanwhile

        await producer.commit(look)
        self._unproven.acknowledged(offsets)
        for record in step.outgoing:
            if record.topic == VAULT and record.key is not None:
                self._overlay.add(record.partition, offsets[VAULT, record.partition], record.key, record.value)
        return offsets

    def _look_after(self, step: Step) -> None:
        """What was parked just now may have come between the decision and the commit, when nobody waited for it yet."""
        waits_for = {event.waits_for for event in step.delta.parked.values() if event is not None}
        if not waits_for:
            return
        vault = self.host.views.vault
        self._overlay.prune(vault.read)  # else it may hide what another lane wrote since
        with vault.reading() as reader:
            now = self._overlay.over(reader)
            came = [key for key in waits_for if now.get(key) is not None]
        if self._arrivals.add(came, waits_for):
            self._nudged = True

    # ---- failures

    async def _recover(self, error: BaseException) -> None:
        """The one answer to every failure: what was sent is unknown, so ask the cluster again."""
        self.failure, self.failures = error, self.failures + 1
        self._most = max(1, self._most // 2)
        low, high = self.host.config.backoff_s
        delay = min(high, low * 2 ** min(self.failures - 1, 8))
        if isinstance(error, ProducerFenced):  # not final: perhaps only a lost race
            delay = max(delay, self.host.config.fenced_backoff_s)
        # Never the text of a foreign exception: it may quote what it stumbled over.
        log.warning(
            "lane.failed",
            lane=self.id,
            code=error.code if isinstance(error, BrokerError) else "lane.error",
            error=type(error).__name__,
            at=_code_position(error),
            topic=self.partition.topic,
            partition=self.partition.partition,
            offset=self.committed,
            failures=self.failures,
            retry_s=round(delay, 1),
        )
        self.host.observer.failed(self.id, type(error).__name__)
        self._let_go()
        await asyncio.sleep(delay)

    def _let_go(self) -> None:
        self._expected = None
        self._backlog.clear()
        self._drop_producer()

    def _drop_producer(self) -> None:
        producer, self._producer, self._state = self._producer, None, None
        if producer is not None:
            self._unproven.clear()  # the take-over settles whatever the lane may have written
            # Never wait for it: stop() flushes and hangs while Kafka is away. Nor cut it short: its sender would
            # live on. It ends by itself once its id is taken over.
            task = asyncio.create_task(_stop(producer))
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)


async def _stop(producer: LaneProducer) -> None:
    try:
        await producer.stop()
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - raises what its sender died of, and leaks
        log.debug("lane.producer_stop", error=type(error).__name__)
    await producer.client.close()  # sockets and a task stay behind without this


def _code_position(error: BaseException) -> str | None:
    """Where in the code an exception was raised: `file:line`, no data."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return None
    return f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
