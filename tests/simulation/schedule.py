"""One schedule: a school's events, two workers, and what a seed does to them; judged by the checker of the hostile run.

The command line is in `__main__`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
import structlog
from aiokafka import TopicPartition

from broker.engine import arrivals, contact, deciding, lane, proof, reader, service, takeover, topics, topicview, views
from broker.exchange import windows
from chaos.checker import Verdict, check
from chaos.history import Withdrawal
from tests.exchange.world import DELTA, PORTAL, SIS
from tests.simulation.cluster import Item, MemoryCluster
from tests.simulation.loop import NOBODY, SimLoop, SimTime, Stuck
from tests.simulation.network import Network
from tests.simulation.reading import findings_of, history_of, lane_heads
from tests.simulation.school import EPOCH_S, TOPICS, Sealed, the_school, without_portal
from tests.simulation.worker import MemoryStore, Worker

STORM_S = 7.0  # how long events come and faults fall
REST_S = 150.0  # how long it may take afterwards until all is decided
WINDOW_MS = 2_000  # else a schedule would end before its first window
SWEEP = 10  # schedules until what they left is collected
MISTAKES = frozenset({"AttributeError", "TypeError", "NameError", "KeyError", "IndexError", "UnboundLocalError"})
CLOCKED: tuple[ModuleType, ...] = (
    arrivals,
    contact,
    deciding,
    lane,
    proof,
    reader,
    service,
    takeover,
    topics,
    topicview,
    views,
)


@dataclass
class Outcome:
    """What became of a schedule.

    Attributes:
        log: what was done to whom, with the second.
        findings: where the leaves of the audit do not add up.
        mistakes: types of failures that a program makes and no fault of the world.
    """

    seed: int
    verdict: Verdict = field(default_factory=Verdict)
    stuck: str | None = None
    log: list[str] = field(default_factory=list)
    seconds: float = 0.0
    faults: int = 0
    kinds: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    mistakes: set[str] = field(default_factory=set)
    decisions: int = 0
    aborted: int = 0

    @property
    def clean(self) -> bool:
        """Whether it went as promised."""
        return self.stuck is None and self.verdict.clean and not self.findings

    def __str__(self) -> str:
        """Everything that a reader needs to understand a failure."""
        what = self.stuck or str(self.verdict)
        return "\n".join([f"seed {self.seed}", *self.log, what, *self.findings])


class Schedule:
    """See the module.

    Args:
        kinds: faults that may fall; all of them unless told otherwise.
        most: faults at most.
        only: which of them do fall, by number; the rest of the schedule stays as it is. None: all.
    """

    def __init__(
        self, seed: int, kinds: frozenset[str] | None = None, most: int = 5, only: frozenset[int] | None = None
    ) -> None:
        self.loop = SimLoop(seed)
        self.random = self.loop.random
        self.time = SimTime(self.loop, EPOCH_S)
        self.cluster = MemoryCluster(self.loop, self.time, TOPICS)
        self.network = Network(self.loop)
        self.outcome = Outcome(seed)
        self.workers: list[Worker] = []
        self.sent: dict[str, str | None] = {}
        self.withdrawals: list[Withdrawal] = []
        self._number = 0
        self._kinds = sorted(FAULTS.keys() if kinds is None else kinds)
        self._most, self._only = most, only
        self._storming = True

    def run(self) -> Outcome:
        """Run it to its end."""
        if self.outcome.seed % SWEEP == 0:
            gc.collect()
        asyncio.set_event_loop(self.loop)
        MemoryStore.disks.clear()
        with pytest.MonkeyPatch.context() as patch:
            for module in CLOCKED:
                patch.setattr(module, "time", self.time)
            patch.setattr(views, "Store", MemoryStore)
            patch.setattr(windows, "WINDOW_MS", WINDOW_MS)
            self._run_to_end()
        outcome = self.outcome
        if outcome.stuck is None:
            history = history_of(self.cluster, self.sent, self.withdrawals)
            outcome.verdict, outcome.decisions = check(history), len(history.decisions)
            outcome.findings = findings_of(self.cluster)
        outcome.seconds, outcome.aborted = self.loop.time(), self.cluster.aborted
        return outcome

    def _run_to_end(self) -> None:
        try:
            self.loop.run_until_complete(self.loop.create_task(self._run(), context=NOBODY.copy()))
        except Stuck as stuck:
            self.outcome.stuck = str(stuck)
        finally:
            self._end()

    async def _run(self) -> None:
        school = the_school()
        self.cluster.write(TopicPartition("registry", 0), [Item(k.encode(), v) for k, v in school.records.items()])
        self._send_all()
        for number in range(2):
            self.start_worker(f"disk-{number}")
        for number in range(self.random.randint(1, self._most)):
            kind = self.random.choice(self._kinds)
            self.after(STORM_S * self.random.random(), self._strike, kind, number)
        await asyncio.sleep(STORM_S)
        self._storming = False
        self._heal()
        deadline = self.loop.time() + REST_S
        while not self.at_rest():
            if self.loop.time() > deadline:
                raise Stuck(f"not at rest: {self._where()}")
            await asyncio.sleep(0.5)
        await asyncio.sleep(1.0)  # what should not happen any more would happen now

    def _end(self) -> None:
        """Nothing of it runs on: the tasks of this loop are dropped, unheard."""
        for worker in self.workers:
            worker.party.alive = False
            self._note_mistakes(worker)
        for task in asyncio.all_tasks(self.loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        self.loop._ready.clear()  # type: ignore[attr-defined]
        self.loop._timers.clear()  # type: ignore[attr-defined]

    # ---- what is sent

    def _send_all(self) -> None:
        """Each pupil's events in order; enrolments at any time; some twice, and some that are no events."""
        school, random = the_school(), self.random
        for pupil, enrolment in enumerate(school.enrolments):
            self.after(STORM_S * random.random() * random.random(), self._put, SIS, 0, enrolment)
            if random.random() < 0.2:
                self.after(STORM_S * random.random(), self._put, SIS, 0, enrolment)
            moments = sorted(STORM_S * random.random() for _ in school.uses[pupil])
            for moment, use in zip(moments, school.uses[pupil], strict=True):
                self.after(moment, self._put, DELTA, pupil % 2, use)
                if random.random() < 0.15:
                    self.after(random.uniform(moment, STORM_S), self._put, DELTA, pupil % 2, use)
        for bad in school.bad:
            if random.random() < 0.5:
                self.after(STORM_S * random.random(), self._put, DELTA, random.randrange(2), bad)

    def _put(self, party: str, partition: int, sealed: Sealed) -> None:
        self.cluster.write(TopicPartition(f"in.{party}", partition), [sealed.item])
        if sealed.event is not None:
            self.sent[sealed.event] = sealed.pupil

    # ---- parties

    def after(self, seconds: float, what: Callable[..., Any], *args: Any) -> None:
        """Later; of nobody."""
        self.loop.call_later(max(0.0, seconds), what, *args, context=NOBODY)

    def start_worker(self, disk: str) -> None:
        """A new process on this disk."""
        self._number += 1
        worker = Worker(self.loop, self.cluster, self.network, f"worker-{self._number}", disk)
        worker.ended = lambda: self.after(0.2, self.restart, worker)
        self.workers.append(worker)
        worker.start()

    def _note_mistakes(self, worker: Worker) -> None:
        self.outcome.mistakes |= worker.failures.kinds & MISTAKES

    def restart(self, worker: Worker) -> None:
        """What its supervisor does after its end."""
        if worker in self.workers:
            self.workers.remove(worker)
            self._note_mistakes(worker)
            self.network.cut.discard(worker.party)
            self.start_worker(worker.disk)

    def some_worker(self) -> Worker:
        """Any."""
        return self.random.choice(self.workers)

    def note(self, what: str) -> None:
        """For the reader of a failure."""
        self.outcome.log.append(f"{self.loop.time() - 1000:7.3f} s  {what}")

    def _strike(self, kind: str, number: int) -> None:
        self.outcome.faults += 1
        self.outcome.kinds.append(kind)
        if self._only is None or number in self._only:
            FAULTS[kind](self)

    def _heal(self) -> None:
        self.note("all is healed")
        self.network.cut.clear()
        self.network.down = self.cluster.leaderless = False
        self.network.loss = 0.0
        for worker in self.workers:
            worker.party.slow = 0.0
            worker.party.at.clear()
            if worker.party.frozen:
                self.loop.thaw(worker.party)

    # ---- the end

    def at_rest(self) -> bool:
        """Every input is behind its lane's position, and nothing is open."""
        ends = {
            f"{p.topic}.{p.partition}": log.end for p, log in self.cluster.logs.items() if p.topic.startswith("in.")
        }
        if any(log.open for log in self.cluster.logs.values()):
            return False
        heads = self._heads()
        waiting = self.cluster.logs[TopicPartition("vault.identity", 0)].end
        return all(heads.get(name, 0) == end for name, end in ends.items()) and waiting >= 0 and not self._parked()

    def _parked(self) -> bool:
        """Whether an event waits: all pupils are enrolled in the end, so none may."""
        last: dict[bytes | None, bytes | None] = {}
        for entry in self.cluster.logs[TopicPartition("parked", 0)].committed():
            assert entry.item is not None
            last[entry.item.key] = entry.item.value
        return any(value is not None for value in last.values())

    def _heads(self) -> dict[str, int]:
        return {name.removeprefix("exchange."): head["next_offset"] for name, head in lane_heads(self.cluster).items()}

    def _where(self) -> str:
        ends = {
            f"{p.topic}.{p.partition}": log.end for p, log in self.cluster.logs.items() if p.topic.startswith("in.")
        }
        opened = [str(p.topic) for p, log in self.cluster.logs.items() if log.open]
        return json.dumps({"ends": ends, "lanes": self._heads(), "open": opened, "parked": self._parked()})


# ---- faults: each does something now, and undoes it later where it must


def _crash(s: Schedule) -> None:
    worker, step = s.some_worker(), s.random.randint(1, 300)

    def die(party: Any) -> None:
        s.note(f"{party.name} is killed")
        party.alive = False
        s.after(0.3 + 6 * s.random.random(), s.restart, worker)

    worker.party.at[worker.party.steps + step] = die


def _freeze(s: Schedule) -> None:
    worker, step = s.some_worker(), s.random.randint(1, 300)
    seconds = s.random.choice((0.3, 2.5, 5.0, 9.0))

    def freeze(party: Any) -> None:
        s.note(f"{party.name} stands still for {seconds} s")
        party.frozen = True
        s.after(seconds, s.loop.thaw, party)

    worker.party.at[worker.party.steps + step] = freeze


def _slow(s: Schedule) -> None:
    party = s.some_worker().party
    party.slow = s.random.choice((0.002, 0.01, 0.03))
    s.note(f"{party.name} is slow")
    s.after(3 * s.random.random(), setattr, party, "slow", 0.0)


def _cut(s: Schedule) -> None:
    party = s.some_worker().party
    s.note(f"{party.name} is cut off")
    s.network.cut.add(party)
    s.after(s.random.choice((0.5, 3.0, 8.0)), s.network.cut.discard, party)


def _down(s: Schedule) -> None:
    s.note("Kafka is away")
    s.network.down = True
    s.after(s.random.choice((0.2, 1.0, 6.0)), setattr, s.network, "down", False)


def _leaderless(s: Schedule) -> None:
    s.note("partitions without leaders: markers are not written (KAFKA-20734)")
    s.cluster.leaderless = True
    s.after(0.3 * s.random.random(), setattr, s.cluster, "leaderless", False)
    if s.random.random() < 0.5:
        s.after(0.3 * s.random.random(), _down, s)


def _lossy(s: Schedule) -> None:
    s.network.loss = s.random.choice((0.03, 0.1, 0.25))
    s.note(f"requests and answers are lost, {s.network.loss:.0%}")
    s.after(4 * s.random.random(), setattr, s.network, "loss", 0.0)


def _deploy(s: Schedule) -> None:
    worker = s.some_worker()
    s.note(f"{worker.party.name} is told to stop")
    worker.stop()


def _more(s: Schedule) -> None:
    if len(s.workers) < 4:
        s.note("one more worker")
        s.start_worker(f"disk-more-{len(s.workers)}")


def _withdraw(s: Schedule) -> None:
    s.note("the link to the portal is switched off")
    changed = without_portal(the_school().records)
    s.cluster.write(TopicPartition("registry", 0), [Item(key.encode(), value) for key, value in changed.items()])
    if not s.withdrawals:
        s.withdrawals.append(Withdrawal(DELTA, PORTAL, "usage", int(s.time.time() * 1000)))


def _touch(s: Schedule) -> None:
    s.note("something in the registry changes")
    key = "board/bestuur-horizon"
    entry = json.loads(the_school().records[key]) | {"name": f"Stichting {s.random.random()}"}
    s.cluster.write(TopicPartition("registry", 0), [Item(key.encode(), json.dumps(entry).encode())])


def _clock(s: Schedule) -> None:
    party = s.some_worker().party
    party.clock = s.random.choice((-3600.0, -1.0, 30.0, 3600.0))
    s.note(f"the clock of {party.name} jumps by {party.clock} s")


def _new_disk(s: Schedule) -> None:
    worker = s.some_worker()
    s.note(f"{worker.party.name} is killed, and its disk is gone")
    worker.party.alive = False
    worker.disk = f"disk-new-{s.random.random()}"
    s.after(1.0, s.restart, worker)


FAULTS: dict[str, Callable[[Schedule], None]] = {
    "clock": _clock, "crash": _crash, "cut": _cut, "deploy": _deploy, "down": _down, "freeze": _freeze,
    "leaderless": _leaderless, "lossy": _lossy, "more": _more, "new-disk": _new_disk, "slow": _slow, "touch": _touch,
    "withdraw": _withdraw,
}  # fmt: skip


def quiet() -> None:
    """The engine's own log, but for what ends a process, is of no use here, and dear; nor is what Python says of tasks
    that were dropped in the middle, as those of a killed process are."""
    sys.unraisablehook = lambda _: None
    the_school()
    gc.collect()
    gc.freeze()  # what all schedules share need not be looked at again and again
    gc.disable()  # it takes a fifth of the time: `Schedule.run` collects after every few schedules instead
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
