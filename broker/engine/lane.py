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
import time
from collections.abc import Iterable, Sequence

import structlog
from aiokafka import ConsumerRecord, TopicPartition

from broker.engine.arrivals import Arrivals
from broker.engine.backlog import Backlog
from broker.engine.batchsize import BatchSize
from broker.engine.blame import TOO_LARGE, Blame, Trial
from broker.engine.deciding import run_pure, who_came
from broker.engine.ending import set_within
from broker.engine.failures import pause_s, tell_failure, tell_if_slow, tell_set_aside
from broker.engine.observe import BatchReport
from broker.engine.overlay import VaultOverlay
from broker.engine.proof import Unproven
from broker.engine.takeover import LaneHost, NotAssigned, RegistryMoved, take_over
from broker.engine.transaction import LaneProducer, pack, stop_producer, write
from broker.errors import TransientError
from broker.exchange.duties import duties_of
from broker.exchange.gap import Gap
from broker.exchange.model import REGISTRY, VAULT, InputRecord, Step, Views
from broker.exchange.state import LaneState
from broker.kafka.closing import told_to_end
from broker.registry import Registry

log = structlog.get_logger()

RECOMPUTE_TRIES = 5
YOUNG = 0.75  # of the age at which views are too old: a decision on them may still take its time


class Lane:
    """See the module.

    Attributes:
        failure: why the lane stands still, or None; for health checks.
        failures: how often in a row it failed.
        progressed_at: monotonic seconds of the last batch that wrote something.
    """

    def __init__(self, partition: TopicPartition, host: LaneHost) -> None:
        self.partition, self.host = partition, host
        self.id = f"{host.config.group}.{partition.topic}.{partition.partition}"
        self.failure: BaseException | None = None
        self.failures = 0
        self.progressed_at = time.monotonic()
        self._gap: Gap | None = None  # to be stepped over before anything else
        self._state: LaneState | None = None  # known only while our producer lives
        self._producer: LaneProducer | None = None
        self._unproven = Unproven(host.states, host.config.proof_s)
        self._expected: int | None = None  # where the next records begin; None: not reading
        self._backlog = Backlog(host.config)
        self._size = BatchSize(host.config)
        self._blame = Blame(host.config, can_set_aside=host.set_aside is not None)
        self._trial: Trial | None = None  # the batch under way
        self._decision_s = 0.0  # how long that took
        self._overlay = VaultOverlay()
        self._arrivals = Arrivals(host.config.tick_s)
        self._duties = duties_of(self.id) is not None  # looks at each registry, and at each day
        self._nudged, self._ticked = False, time.monotonic()
        self._reported: BaseException | None = None  # a failure seen by the reader
        self._wake, self._settled, self._again = asyncio.Event(), asyncio.Event(), asyncio.Event()
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
    def waiting(self) -> tuple[int, int]:
        """How many events wait for an identity; how many were set aside and not replayed (the newest 4,096)."""
        return (0, 0) if (state := self._state) is None else (len(state.parked), len(state.quarantined))

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

    def assigned(self) -> None:
        """The group came together, and this lane is ours: what fails of what was begun before needs no pause."""
        self.reset()
        self._again.set()

    def vault_changed(self, keys: Iterable[bytes]) -> None:
        """The view read these keys: parked events may go on."""
        # Without a state the lane takes over, and then looks at everything. What the batch under way parks is looked
        # at once it is committed.
        if self._state is not None and self._arrivals.add(keys, self._state.waiting):
            self._nudge()

    def registry_changed(self) -> None:
        """Parked events may go on, or end; the party may have to be told of a duty."""
        if self.waiting[0] or self._duties:
            self._nudge()

    async def settle(self) -> None:
        """Let the batch under way end, if it will."""
        await set_within(self._settled, self.host.config.settle_timeout_s)

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
            self._trial = None
            try:
                await self._position()
                while self._expected is not None:
                    self._trial = trial = self._next()
                    if trial is not None:
                        await self._transact(trial)
                    else:
                        await self._rest()
                if self._reported is not None:
                    failure, self._reported = self._reported, None
                    raise failure
            except NotAssigned:
                if self._state is None:
                    self._drop_producer()
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
        self._again.clear()
        if self._state is None:
            self._producer = self.host.clients.producer(self.id, self.host.config)
            found = await take_over(self.id, self.partition, self._producer, self.host, self.failures)
            self._state, self._gap = found
            self._overlay.clear()
            self._arrivals.everything()
            self._nudged = self._timed
        # From here to the end without waiting: position and expectation change together.
        start = self._state.next_offset if self._gap is None else self._gap.next_offset
        self.host.source.read_from(self.partition, start)
        self._expected = start
        self._backlog.clear()

    async def _rest(self) -> None:
        self._wake.clear()
        timeout = max(0.0, self._ticked + self.host.config.tick_s - time.monotonic()) if self._timed else None
        if self._unproven.places:
            timeout = min(timeout or self._unproven.patience_s, self._unproven.patience_s)
        await set_within(self._wake, timeout)

    def _due(self) -> bool:
        self._nudged = self._nudged and self._timed
        ticks = self._timed and time.monotonic() >= self._ticked + self.host.config.tick_s
        return self._nudged or ticks or self._unproven.in_doubt()

    @property
    def _timed(self) -> bool:
        """Whether there may be work without a record: time passes, and the registry changes."""
        return self._duties or (self._state is not None and self._state.is_timed)

    def _nudge(self) -> None:
        self._nudged = True
        self._wake.set()

    # ---- batches

    def _next(self) -> Trial | None:
        """What is to be done now; None: nothing."""
        blame, state = self._blame, self._state
        if self._gap is not None:
            return Trial([], gap=self._gap)
        if state is None or not blame.careful:
            if self._backlog:
                return Trial(self._take(self._size.most))
            return Trial([]) if self._due() else None
        if not blame.cleared:
            return Trial([], released=0)
        guilty = blame.guilty
        if guilty is not None and guilty.parked and guilty.number in state.parked:
            return Trial([], 0, state.parked[guilty.number])
        if self._nudged:
            return Trial([], released=1)
        if self._backlog:
            records = self._take(min(self._size.most, blame.most(state.next_offset)))
            found = guilty is not None and guilty == (records[0].offset, False)
            return Trial(records, 0, records[0] if found else None)
        return Trial([], released=1) if self._due() else None

    def _take(self, most: int) -> list[InputRecord]:
        batch = self._backlog.take(most)
        if self.hungry:
            self.host.source.resume(self.partition)
        return batch

    async def _transact(self, trial: Trial) -> None:
        batch_s = self.host.config.batch_timeout_s
        await self.host.views.wait_current(batch_s)
        self._settled.clear()
        self._decision_s = 0.0
        try:
            decided = await self._decided(trial)
            if decided is None:
                return  # these records will be read again
            async with asyncio.timeout(batch_s):
                await self._commit_all(trial, *decided)
        finally:
            self._settled.set()
        if not trial.records:
            return  # says nothing about the batch that failed: without its pause the lane would spin
        self.failure, self.failures = None, 0
        self._size.committed(len(trial.records), self._decision_s)
        tell_if_slow(self.id, trial, self._decision_s, batch_s / 2)

    async def _decided(self, trial: Trial) -> tuple[LaneState, Step, Registry] | None:
        """What to write, once it is our turn: the line is as long as there are busy lanes; None: told to position."""
        views, patience_s = self.host.views, self.host.config.request_timeout_s
        for _ in range(RECOMPUTE_TRIES):
            async with self.host.deciding, asyncio.timeout(self.host.config.batch_timeout_s):
                # Between two decisions the views read, whatever many busy lanes would do.
                await views.wait_current(patience_s, YOUNG * views.max_age_s)
                state = self._state
                if self._expected is None or state is None:
                    return None
                self._nudged, self._ticked = False, time.monotonic()
                registry, began = views.require_current(), time.monotonic()
                step = await self._decide(state, trial, registry)
                self._decision_s = time.monotonic() - began
            # A long decision kept the views from reading: let them, instead of failing again and again.
            await views.wait_current(patience_s)
            if views.registry.current is registry:
                return state, step, registry
            self.host.observer.recomputed(self.id)  # nothing was sent yet
        raise TransientError("The registry changes faster than a batch.", code="registry.moving")

    async def _commit_all(self, trial: Trial, state: LaneState, step: Step, registry: Registry) -> None:
        decided = time.monotonic()
        written = await self._commit(step, registry) if step.outgoing or self._unproven.in_doubt() else {}
        if written:  # a look at nothing, as after each take-over, is no progress
            self.progressed_at = time.monotonic()
        state.adopt(step.delta)
        self._arrivals.committed(more=step.more)
        # What was parked just now may have come between decision and commit, when nobody waited for it yet.
        came = self._arrivals.add(*who_came(self.host, self._overlay, step))
        self._nudged = self._nudged or came or step.more
        if trial.gap is not None:
            self._gap = None
            if trial.gap.kind == "input-lost":
                self.host.observer.lost(self.id, trial.gap.last - trial.gap.first + 1)
        if trial.guilty is not None:
            tell_set_aside(self.id, trial.guilty, self._blame.fault)
        self._blame.passed(trial, state.next_offset, more=step.more)
        # A link that this lane switched on is on for its very next event.
        own = {p: offset for (topic, p), offset in written.items() if topic == REGISTRY}
        await self.host.views.registry.passed(own)
        commit_s = time.monotonic() - decided
        report = BatchReport(self.id, len(trial.records), step.decisions, self._decision_s, commit_s, trial.arrived_ms)
        self.host.observer.committed(report)

    async def _decide(self, state: LaneState, trial: Trial, registry: Registry) -> Step:
        """Run the pure function; again if it missed a topic that exists by now."""
        next_offset = trial.ends_at(state.next_offset)
        topics, vault = self.host.topics, self.host.views.vault
        for _ in range(2):
            self._overlay.prune(vault.read)
            topics.missed.clear()
            with vault.reading() as reader:
                vault_now, look_at = self._overlay.over(reader), self._arrivals.to_look_at()
                views = Views(registry, vault_now, topics.partitions, look_at, trial.released)
                step = run_pure(self.host, self._blame, state, trial, views, next_offset)
            if not topics.missed or not await topics.recheck(frozenset(topics.missed)):
                break
        return step

    async def _commit(self, step: Step, registry: Registry) -> dict[tuple[str, int], int]:
        producer = self._producer
        if producer is None:
            raise TransientError("The lane lost its producer.", code="lane.producer")
        await producer.begin_transaction()
        producer.include(self._unproven.places)
        with self._blame.watching():
            packed = pack(producer, step.outgoing)
        with self._blame.watching(*TOO_LARGE):
            offsets = await write(producer, packed)
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

    # ---- failures

    async def _recover(self, error: BaseException) -> None:
        """The one answer to every failure: what was sent is unknown, so ask the cluster again."""
        self.failure, self.failures = error, self.failures + 1
        blame, trial = self._blame, self._trial
        blamed = blame.failed(error, trial)
        if not blamed:
            self._size.failed()
        # To look for who is to blame can not go on for long.
        delay = pause_s(self.host.config, blame.seen if blamed else self.failures - 1, error)
        tell_failure(self.id, self.partition, error, trial, offset=self.committed, failures=self.failures,
                     retry_s=delay, broken=blamed and blame.broken, away=self.host.contact.away)  # fmt: skip
        self.host.observer.failed(self.id, type(error).__name__)
        self._let_go()
        await set_within(self._again, delay)

    def _let_go(self) -> None:
        self._expected = None
        self._backlog.clear()
        self._drop_producer()

    def _drop_producer(self) -> None:
        producer, self._producer, self._state, self._gap = self._producer, None, None, None
        if producer is not None:
            self._unproven.clear()  # the take-over settles whatever the lane may have written
            # Never wait for it: stop() flushes and hangs while Kafka is away. Nor cut it short: its sender would
            # live on. It ends by itself once its id is taken over.
            task = asyncio.create_task(stop_producer(producer))
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)
