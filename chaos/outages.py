"""How long nothing is delivered after a fault: one fault at a time on a system that is well, again and again.

Measured at a receiver, for each input partition: the longest time between two deliveries of it, from the fault until
all partitions deliver again what was sent after it. Of a fault the partition that waited longest counts. "Nothing" is
no fault at all, and tells how far apart deliveries are anyway.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from broker.kafka.embedded import EmbeddedKafka
from chaos.crew import Worker
from chaos.run import Notes
from chaos.setting import Setting, setting
from chaos.world import PORTAL, SIS, Pupil, pupils

SCHOOLS: Final = 12
PUPILS_PER_SCHOOL: Final = 20
WAIT_S: Final = 120.0
CALM_S: Final = 4.0
STEP_S: Final = 0.05
ZOMBIE_S: Final = 30.0
RECENT: Final = 20_000  # events: minutes
SILENT_S: Final = 1.0  # a partition that has been silent for so long is not calm


@dataclass(frozen=True, slots=True)
class Measure:
    """What is to be measured.

    Args:
        times: how often each fault. rate: events in a second.
        work: where Kafka and the workers live. folder: for the figures.
        kinds: of `FAULTS`; none: all.
    """

    times: int
    folder: Path
    work: Path
    brokers: int = 1
    workers: int = 3
    rate: float = 120.0
    kinds: tuple[str, ...] = ()


@dataclass(slots=True)
class Figures:
    """Seconds without delivery, by fault: of the partition that waited longest, and how many waited over a second."""

    longest: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    touched: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    lanes: int = 0

    def __str__(self) -> str:
        head = f"{'fault':24} {'times':>5} {'p50':>7} {'worst':>7}   silent over 1 s, of {self.lanes} partitions (most)"
        rows = [
            f"{kind:24} {len(found):5} {statistics.median(found):6.2f}s {max(found):6.2f}s   {max(self.touched[kind])}"
            for kind, found in self.longest.items()
        ]
        return "\n".join([head, *rows])


class Pulse:
    """When what came of each input partition was delivered; filled in the thread of the field."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, str]] = []

    def hear(self, event: str) -> None:
        """A delivery."""
        self.heard.append((time.monotonic(), event))


def measure(plan: Measure) -> Figures:
    """Do it; everything that was started has ended afterwards."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    kafka = EmbeddedKafka(plan.work / "kafka", brokers=plan.brokers)
    with (plan.folder / "outages.log").open("w", encoding="utf-8") as out:
        note = Notes(out)
        try:
            kafka.start()
            everybody = [Pupil(p.school, p.number, "local", comes=True) for p in pupils(SCHOOLS, PUPILS_PER_SCHOOL)]
            with setting(
                kafka, plan.work, plan.folder, everybody, Random(1), workers=plan.workers, rate=plan.rate, seconds=0.0,
                note=note,
            ) as here:  # fmt: skip
                return _Measuring(plan, here, note).all()
        finally:
            kafka.stop(kill=True)


class _Measuring:
    def __init__(self, plan: Measure, here: Setting, note: Callable[[str], None]) -> None:
        self._plan, self._here, self._note = plan, here, note
        self._pulse = Pulse()
        self._nodes = itertools.cycle(here.kafka.layout.nodes)
        self._figures = Figures()
        self._turn = itertools.count()
        self._lanes: list[tuple[str, str]] = []  # event, and the input partition it is in
        self._sent_to: set[str] = set()  # input partitions of publishers
        self._began = 0.0
        for receiver in here.beside.receivers:
            if PORTAL in receiver.topic:
                receiver.heard = self._pulse.hear

    def all(self) -> Figures:
        """Every fault so many times, in turn."""
        crew, plan = self._here.crew, self._plan
        crew.start()
        self._here.beside.begin()
        self._calm()
        kinds = {name: strike for name, (least, strike) in FAULTS.items() if plan.brokers >= least}
        for _ in range(plan.times):
            for kind, strike in kinds.items():
                if plan.kinds and kind not in plan.kinds:
                    continue
                self._one(kind, strike)
                self._save()
        self._here.beside.workload.finish()
        crew.stop()
        return self._figures

    def _one(self, kind: str, strike: Callable[[_Measuring], Callable[[], None]]) -> None:
        self._calm()
        self._began = time.monotonic()
        self._note(kind)
        undo = strike(self)
        by_lane = self._silences(self._began, self._flows_again())
        self._figures.longest[kind].append(max(by_lane.values()))
        self._figures.touched[kind].append(sum(seconds > SILENT_S for seconds in by_lane.values()))
        self._figures.lanes = len(by_lane)
        self._note(f"{kind}: {max(by_lane.values()):.2f} s")
        undo()

    def _save(self) -> None:
        figures = {"longest_s": self._figures.longest, "touched": self._figures.touched, "lanes": self._figures.lanes}
        (self._plan.folder / "outages.json").write_text(json.dumps(figures, indent=1) + "\n", "utf-8")

    # ---- what is heard

    def _by_lane(self) -> dict[str, list[float]]:
        told = self._here.beside.workload.ledger.acknowledged[len(self._lanes) :]
        self._lanes += [(one.event, f"{one.place.topic}/{one.place.partition}") for one in told]
        self._sent_to |= {lane for _, lane in self._lanes[-len(told) :] if f"in.{SIS}/" not in lane} if told else set()
        lanes = dict(self._lanes[-RECENT:])
        heard: defaultdict[str, list[float]] = defaultdict(list)
        for moment, event in list(self._pulse.heard):
            if (lane := lanes.get(event)) is not None:
                heard[lane].append(moment)
        return heard

    def _silences(self, began: float, ended: float) -> dict[str, float]:
        found = {}
        heard = self._by_lane()
        for lane in self._sent_to:
            pairs = itertools.pairwise(heard[lane])
            found[lane] = max((after - before for before, after in pairs if began <= after <= ended), default=0.0)
        return found

    def _flows_again(self) -> float:
        """Until every partition delivered something that was sent from now on."""
        ledger = self._here.beside.workload.ledger
        waiting = set(self._sent_to)
        known = len(ledger.acknowledged)
        before = {
            told.event for told in ledger.acknowledged[:known]
        }  # some events are sent again later, under the same id
        deadline = time.monotonic() + WAIT_S
        while waiting:
            self._step(deadline, "nothing is delivered any more")
            heard = {event for _, event in self._pulse.heard[-RECENT:]} - before
            new = (told.place for told in ledger.acknowledged[known:] if told.event in heard)
            waiting -= {f"{place.topic}/{place.partition}" for place in new}
        return time.monotonic()

    def _calm(self) -> None:
        """All workers run and all partitions have delivered without a pause for a while."""
        calm_since, deadline = None, time.monotonic() + WAIT_S
        workers = self._here.crew.workers[: self._plan.workers]
        while calm_since is None or time.monotonic() - calm_since < CALM_S:
            self._step(deadline, "it does not come to rest")
            now, heard = time.monotonic(), self._by_lane()
            well = heard.keys() >= self._sent_to and all(now - heard[lane][-1] < SILENT_S for lane in self._sent_to)
            ready = all(worker.alive and not worker.frozen and worker.ready for worker in workers)
            calm_since = None if not (self._sent_to and well and ready) else calm_since or now
            time.sleep(0.2)
        self._pulse.heard = self._pulse.heard[-RECENT:]

    def _step(self, deadline: float, otherwise: str) -> None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{otherwise}: see {self._plan.folder}")
        self._here.crew.supervise()
        time.sleep(STEP_S)

    # ---- faults; each gives what puts an end to it

    def _worker(self) -> Worker:
        return self._here.crew.workers[next(self._turn) % self._plan.workers]

    def nothing(self) -> Callable[[], None]:
        """No fault."""
        time.sleep(CALM_S)
        return lambda: None

    def kill(self) -> Callable[[], None]:
        """kill -9, and no other in its place."""
        (worker := self._worker()).kill()
        return worker.start

    def replace(self) -> Callable[[], None]:
        """kill -9, and another in its place at once."""
        (worker := self._worker()).kill()
        worker.start()
        return lambda: None

    def join(self) -> Callable[[], None]:
        """A worker more."""
        worker = self._here.crew.add()
        self._until(lambda: worker.ready)
        return lambda: self._go(worker)

    def zombie(self) -> Callable[[], None]:
        """SIGSTOP for long; later it goes on with what it knew."""
        (worker := self._worker()).freeze()
        thaw_at = time.monotonic() + ZOMBIE_S

        def undo() -> None:
            time.sleep(max(0.0, thaw_at - time.monotonic()))
            worker.thaw()

        return undo

    def thaw(self) -> Callable[[], None]:
        """A zombie goes on, after others have its lanes."""
        (worker := self._worker()).freeze()
        time.sleep(ZOMBIE_S)
        self._flows_again()
        self._began = time.monotonic()
        worker.thaw()
        time.sleep(CALM_S)
        return lambda: None

    def deploy(self) -> Callable[[], None]:
        """SIGTERM to a worker, and a new one in its place; the next when that is ready."""
        worker = self._worker()
        self._go(worker)
        worker.start()
        self._until(lambda: worker.ready)
        return lambda: None

    def kill_broker(self) -> Callable[[], None]:
        """kill -9 of a broker of three."""
        return self._away(next(self._nodes))

    def kill_controller(self) -> Callable[[], None]:
        """kill -9 of the broker that leads the controllers."""
        return self._away(self._here.kafka.controller() or 1)

    def restart_broker(self) -> Callable[[], None]:
        """SIGTERM to a broker, and it starts again: how versions are changed."""
        kafka, node = self._here.kafka, next(self._nodes)
        os.kill(kafka.status().pids[node], signal.SIGTERM)
        self._until(lambda: node not in kafka.status().pids)
        return self._back(node)

    def _away(self, node: int) -> Callable[[], None]:
        self._here.kafka.kill(node)
        return self._back(node)

    def _back(self, node: int) -> Callable[[], None]:
        kafka = self._here.kafka

        def undo() -> None:
            kafka.restart(node)
            kafka.wait_in_sync()

        if len(kafka.layout.nodes) > 1:
            return undo
        kafka.restart(node, wait=False)
        return lambda: None

    def _go(self, worker: Worker) -> None:
        worker.tell_to_stop()
        self._until(lambda: not worker.alive)

    def _until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not done():
            self._step(deadline, "what was started did not come about")


FAULTS: Final[dict[str, tuple[int, Callable[[_Measuring], Callable[[], None]]]]] = {
    "nothing": (1, _Measuring.nothing), "worker killed": (1, _Measuring.kill),
    "worker killed, replaced": (1, _Measuring.replace), "worker joins": (1, _Measuring.join),
    "zombie": (1, _Measuring.zombie), "zombie goes on": (1, _Measuring.thaw), "deploy": (1, _Measuring.deploy),
    "broker killed": (1, _Measuring.kill_broker), "broker restarted": (1, _Measuring.restart_broker),
    "controller killed": (3, _Measuring.kill_controller),
}  # fmt: skip
"""By name: how many brokers it takes at least, and what happens."""
