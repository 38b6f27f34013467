"""A hostile run from beginning to end: set up, storm, heal, come to rest, read everything, judge."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from collections import Counter
from concurrent.futures import TimeoutError as Late
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Final, TextIO

from broker.kafka.embedded import EmbeddedKafka
from broker.registry.store import read_records
from chaos import journal
from chaos.checker import Verdict, check
from chaos.crew import Crew
from chaos.field import Field
from chaos.history import History
from chaos.nemesis import Nemesis
from chaos.recorder import Receiver, Rest, read_everything
from chaos.setting import setting
from chaos.world import pupils, schools

SCHOOLS: Final = 24
PUPILS_PER_SCHOOL: Final = 40
BEGIN_S: Final = 120.0
REST_S: Final = 150.0  # without a lane that moves
LAST_SENT_S: Final = 90.0
RECEIVE_S: Final = 60.0  # without a record that is received


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is.

    Args:
        seconds: of the storm. rate: events of publishers in a second.
        folder: where the history, the faults and the logs are left. work: where Kafka and the workers live meanwhile.
        kafka: its version; None: the one that all is tested with.
    """

    seconds: float
    seed: int
    folder: Path
    work: Path
    brokers: int = 1
    workers: int = 3
    rate: float = 200.0
    kafka: str | None = None


@dataclass(slots=True)
class Result:
    """What came of it.

    Attributes:
        verdict: of the checker. faults: by kind. events: how many inputs there were.
        deliveries: how many there are in the end. amid: how many two receivers had read before all was healed.
        unrest: what the run still waited for when its patience ended; None: it came to rest.
        wrong: what else went wrong, such as a worker that does not stop.
    """

    verdict: Verdict
    faults: Counter[str]
    events: int
    deliveries: int
    amid: int
    unrest: str | None
    wrong: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether it went as promised."""
        return self.verdict.clean and self.unrest is None and not self.wrong

    def __str__(self) -> str:
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        lines = [
            str(self.verdict),
            f"faults: {faults}",
            f"deliveries: {self.deliveries}; read amid faults: {self.amid}",
        ]
        lines += [f"not at rest: {self.unrest}"] if self.unrest else []
        lines += [f"wrong: {text}" for text in self.wrong]
        return "\n".join([*lines, last_line(self.verdict, sum(self.faults.values()), self.events)])


def last_line(verdict: Verdict, faults: int, events: int) -> str:
    """How a run, or a second look at it, ends."""
    late, aborted, disagreeing = map(len, (verdict.late, verdict.aborted, verdict.disagreeing))
    return (
        f"late={late} aborted={aborted} disagreeing={disagreeing}\n"
        f"lost={len(verdict.lost)} doubled={len(verdict.doubled)} reordered={len(verdict.reordered)} "
        f"unaudited={len(verdict.unaudited)} faults={faults} events={events}"
    )


class Notes:
    """What happened, with the second; from any thread."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._began, self._lock = out, time.monotonic(), threading.Lock()

    def __call__(self, text: str) -> None:
        with self._lock:
            clock = datetime.now(UTC).time().isoformat("milliseconds")
            self._out.write(f"{clock} {time.monotonic() - self._began:8.2f} s  {text}\n")
            self._out.flush()


def run(plan: Plan) -> Result:
    """Do it; everything that was started has ended afterwards, whatever happened."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    kafka = EmbeddedKafka(plan.work / "kafka", brokers=plan.brokers, version=plan.kafka)
    with (plan.folder / "faults.log").open("w", encoding="utf-8") as out:
        note = Notes(out)
        who = f"{plan.brokers} brokers, {plan.workers} workers"
        note(f"Kafka {kafka.version}, seed {plan.seed}, {who}, {plan.seconds:.0f} s, {plan.rate:.0f} events/s")
        try:
            kafka.start()
            return _Run(plan, kafka, note).result()
        finally:
            kafka.stop(kill=True)
            _keep_logs(plan, kafka)


def _keep_logs(plan: Plan, kafka: EmbeddedKafka) -> None:
    for node in kafka.layout.nodes:
        for log in plan.work.glob(f"kafka/broker-{node}.log*"):
            shutil.copy(log, plan.folder)


class _Run:
    def __init__(self, plan: Plan, kafka: EmbeddedKafka, note: Notes) -> None:
        self._plan, self._kafka, self._note = plan, kafka, note
        self._schools, self._pupils = schools(SCHOOLS), pupils(SCHOOLS, PUPILS_PER_SCHOOL)
        self._wrong: list[str] = []
        self._amid = 0

    def result(self) -> Result:
        """See `run`."""
        plan = self._plan
        with setting(
            self._kafka, plan.work, plan.folder, self._pupils, Random(plan.seed + 1), workers=plan.workers,
            rate=plan.rate, seconds=plan.seconds, note=self._note,
        ) as here:  # fmt: skip
            records = asyncio.run(read_records(here.scene.connections["operator"]))
            beside, crew, random = here.beside, here.crew, Random(plan.seed)
            nemesis = Nemesis(self._kafka, crew, beside, records, self._schools, random, self._note)
            crew.start()
            unrest = self._storm(nemesis, beside, crew)
            self._wrong += crew.stop()
            self._note("reading everything")
            history = self._read(beside)
            self._note("waiting for the receivers")
            self._wrong += unread(beside.receivers, history)
        journal.save(history, self._plan.folder / "history.jsonl.gz")
        self._note("judging")
        return Result(
            check(history), nemesis.done, len(history.inputs), len(history.outputs), self._amid, unrest, self._wrong
        )

    def _storm(self, nemesis: Nemesis, beside: Field, crew: Crew) -> str | None:
        plan = self._plan
        sending = beside.begin()
        if not _began(beside, crew):
            self._wrong.append(f"nothing was delivered within {BEGIN_S:.0f} s, before any fault")
        nemesis.storm(plan.seconds)
        self._amid = beside.delivered
        beside.workload.finish()
        nemesis.heal()
        try:
            sending.result(LAST_SENT_S)
        except Late:
            self._wrong.append("the senders did not end")
        if not beside.settled(LAST_SENT_S):
            self._wrong.append("the registry could not be changed")
        self._note("all is sent")
        may_wait = self._may_wait(beside)
        unrest = Rest(self._kafka.admin_connection(), may_wait).wait(REST_S, crew.supervise)
        self._note(unrest or "at rest")
        if crew.ended_by_themselves:
            self._note(f"{crew.ended_by_themselves} workers ended by themselves")
        return unrest

    def _may_wait(self, beside: Field) -> int:
        ledger = beside.workload.ledger
        absent = {pupil.name for pupil in self._pupils if not pupil.comes}
        return sum(ledger.pupils[told.event] in absent for told in ledger.acknowledged) + ledger.repeated

    def _read(self, beside: Field) -> History:
        ledger = beside.workload.ledger
        history = read_everything(self._kafka.admin_connection(), ledger.pupils)
        history.acknowledged = list(ledger.acknowledged)
        history.withdrawals = list(beside.withdrawals)
        history.absent = {pupil.name for pupil in self._pupils if not pupil.comes}
        return history


def _began(beside: Field, crew: Crew) -> bool:
    """Wait until something was delivered: faults then meet a system that works."""
    deadline = time.monotonic() + BEGIN_S
    while not beside.delivered and time.monotonic() < deadline:
        crew.supervise()
        time.sleep(0.2)
    return beside.delivered > 0


def unread(receivers: list[Receiver], history: History) -> list[str]:
    """Who did not read everything, though nothing hinders him any more."""
    missing = list[str]()
    for receiver in receivers:
        left = {output.place for output in history.outputs if output.place.topic == receiver.topic}
        looked, moved_at = 0, time.monotonic()
        while left:
            new = receiver.seen[looked:]
            if new:
                looked, moved_at = looked + len(new), time.monotonic()
                left.difference_update(seen.place for seen in new)
            elif time.monotonic() > moved_at + RECEIVE_S:
                missing.append(f"a receiver of {receiver.topic} did not read {len(left)} records: {sorted(left)[:3]}")
                break
            time.sleep(0.5)
        history.seen += receiver.seen
        history.gaps += receiver.gaps
    return missing


def new_seed() -> int:
    """Any."""
    return int.from_bytes(os.urandom(4))
