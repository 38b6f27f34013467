"""What goes wrong: faults by a seed, one after the other, some at the same time; each is undone after a while."""

from __future__ import annotations

import heapq
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from random import Random
from typing import Final

from broker.errors import ConfigError
from broker.kafka.embedded import EmbeddedKafka
from chaos.crew import STOP_S, Crew, Worker
from chaos.field import Field
from chaos.proxy import Mode
from chaos.world import MODEL_LINKS, PORTAL, PUBLISHERS, link_of

STEP_S: Final = 0.1
EVERY_S: Final = (3.0, 6.0)
PATIENCE_S: Final = 25.0
PATIENT: Final = 0.7  # share of the faults that wait for a delivery
STOP_BROKER_S: Final = 30.0
IN_SYNC_S: Final = 120.0
ALONE_S: Final = 25.0
TRIES: Final = 5  # to find a fault that is possible now
MOST_EXTRA: Final = 2  # workers beyond the run's own number
LINKS: Final = dict(zip(MODEL_LINKS, PUBLISHERS, strict=True))


class Nemesis:
    """Strikes, and heals in the end. From the main thread only.

    Args:
        records: of the registry as it stands.

    Attributes:
        done: how many faults there were of each kind.
    """

    def __init__(
        self,
        kafka: EmbeddedKafka,
        crew: Crew,
        field: Field,
        records: Mapping[str, bytes],
        schools: list[str],
        random: Random,
        note: Callable[[str], None],
    ) -> None:
        self.done: Counter[str] = Counter()
        self._kafka, self._crew, self._field, self._records = kafka, crew, field, records
        self._random, self._note = random, note
        self._linked = [(school, model) for school in schools for model in LINKS]
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._number, self._next_broker = 0, 0.0
        self._brokers = len(kafka.layout.nodes)

    def storm(self, seconds: float) -> None:
        """Strike for so long.

        Most faults wait until something was delivered since the one before, though not for long: a system that stands
        still shows nothing. Some do not wait.
        """
        end = time.monotonic() + seconds
        strike_at, patient_until = time.monotonic() + self._random.uniform(2.0, 4.0), 0.0
        delivered = self._field.delivered
        while (now := time.monotonic()) < end:
            self._undo(now)
            self._crew.supervise()
            moved = self._field.delivered > delivered
            if now >= strike_at and (moved or now >= patient_until):
                self._strike()
                now, delivered = time.monotonic(), self._field.delivered
                strike_at = now + self._random.uniform(*EVERY_S)
                patient_until = now + (PATIENCE_S if self._random.random() < PATIENT else 0.0)
            time.sleep(STEP_S)

    def heal(self) -> None:
        """Undo everything at once."""
        while self._later:
            due, self._later = sorted(self._later, key=lambda item: item[:2]), []
            for _, _, undo in due:
                undo()
            time.sleep(STEP_S)
        for node in self._kafka.layout.nodes:
            self._kafka.thaw(node)
        self._kafka.start()
        self._kafka.wait_in_sync(IN_SYNC_S)
        for worker in self._crew.workers:
            self._field.be("open", worker.name)
        self._crew.heal()
        self._note("all is healed")

    def _undo(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            heapq.heappop(self._later)[2]()

    def _after(self, seconds: float, what: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._later, (time.monotonic() + seconds, self._number, what))

    def _strike(self) -> None:
        weights = [weight for weight, _ in FAULTS.values()]
        for kind in self._random.choices(list(FAULTS), weights, k=TRIES):
            if FAULTS[kind][1](self):
                self.done[kind] += 1
                return

    def _worker(self) -> Worker | None:
        running = self._crew.running()
        return self._random.choice(running) if running else None

    # ---- workers: each tells whether it did something

    def kill(self) -> bool:
        """kill -9; started anew later."""
        if (worker := self._worker()) is None:
            return False
        self._note(f"{worker.name} is killed")
        worker.kill()
        self._after(self._random.uniform(0.3, 8.0), lambda: self._start(worker))
        return True

    def freeze(self) -> bool:
        """SIGSTOP, often beyond what session and transaction allow."""
        if (worker := self._worker()) is None:
            return False
        seconds = self._random.choice((2.0, 6.0, 12.0, 18.0, 25.0))
        self._note(f"{worker.name} stands still for {seconds:.0f} s")
        worker.freeze()
        self._after(seconds, worker.thaw)
        return True

    def deploy(self) -> bool:
        """SIGTERM, and a new process at once."""
        if (worker := self._worker()) is None:
            return False
        self._note(f"{worker.name} is told to stop")
        worker.tell_to_stop()
        self._when_ended(worker, time.monotonic())
        return True

    def _when_ended(self, worker: Worker, told_at: float) -> None:
        took = time.monotonic() - told_at
        if not worker.alive:
            self._note(f"{worker.name} ended after {took:.1f} s, code {worker.code}")
            worker.start()
        elif took > STOP_S:
            self._note(f"{worker.name} did not end within {STOP_S:.0f} s, and is killed")
            worker.kill()
            worker.start()
        else:
            self._after(STEP_S, lambda: self._when_ended(worker, told_at))

    def storm_of_rebalances(self) -> bool:
        """A worker more and one less, again and again."""
        self._note("workers come and go")
        for number in range(3):
            self._after(1.5 * number, self._come_or_go)
        return True

    def lose_disk(self) -> bool:
        """kill -9, and its disk is gone."""
        if (worker := self._worker()) is None:
            return False
        self._note(f"{worker.name} is killed, and its disk is gone")
        worker.kill()
        worker.lose_disk()
        self._after(1.0, lambda: self._start(worker))
        return True

    def fill_disk(self) -> bool:
        """No room for the copy of the vault."""
        if (worker := self._worker()) is None or not worker.fill_disk():
            return False
        seconds = self._random.uniform(3.0, 15.0)
        self._note(f"the disk of {worker.name} is full for {seconds:.0f} s")
        self._after(seconds, worker.free_disk)
        return True

    def slow_disk(self) -> bool:
        """Each look into the copy of the vault takes long."""
        if (worker := self._worker()) is None:
            return False
        delay, seconds = self._random.choice((0.001, 0.01, 0.05)), self._random.uniform(3.0, 15.0)
        self._note(f"the disk of {worker.name} takes {delay} s for each look for {seconds:.0f} s")
        worker.order(vault_s=delay)
        self._after(seconds, lambda: worker.order(vault_s=0.0))
        return True

    def clock(self) -> bool:
        """Its clock jumps; back by less than what makes events of today events of the future."""
        if (worker := self._worker()) is None:
            return False
        jump, seconds = self._random.choice((-240.0, -20.0, 45.0, 3600.0, 86_400.0)), self._random.uniform(3.0, 20.0)
        self._note(f"the clock of {worker.name} is off by {jump:.0f} s for {seconds:.0f} s")
        worker.order(clock_s=jump)
        self._after(seconds, lambda: worker.order(clock_s=0.0))
        return True

    def _start(self, worker: Worker) -> None:
        if not worker.alive:
            worker.start()

    def _come_or_go(self) -> None:
        crew = self._crew
        extra = crew.extra()
        if len(extra) >= MOST_EXTRA or (extra and self._random.random() < 0.5):
            extra[0].tell_to_stop()
            self._note(f"{extra[0].name} goes")
        else:
            self._note(f"{crew.add().name} comes")

    # ---- the cluster and the ways to it

    def kill_broker(self) -> bool:
        """kill -9 of a broker; it comes back with its data."""
        if (node := self._broker()) is None:
            return False
        self._note(f"broker {node} is killed")
        self._kafka.kill(node)
        self._after(self._random.choice((0.0, 2.0, 9.0)), lambda: self._restart(node))
        return True

    def stop_broker(self) -> bool:
        """SIGTERM of a broker."""
        if (node := self._broker()) is None:
            return False
        pid, pause = self._kafka.status().pids[node], self._random.choice((0.0, 2.0, 6.0))
        self._note(f"broker {node} is told to stop")
        os.kill(pid, signal.SIGTERM)
        self._when_broker_ended(node, pid, time.monotonic(), pause)
        return True

    def freeze_broker(self) -> bool:
        """SIGSTOP of a broker, often beyond what its own session allows."""
        if (node := self._broker()) is None:
            return False
        seconds = self._random.choice((1.0, 4.0, 9.0))
        self._note(f"broker {node} stands still for {seconds:.0f} s")
        self._kafka.freeze(node)
        self._after(seconds, lambda: void(self._kafka.thaw(node)))
        return True

    def kill_controller(self) -> bool:
        """kill -9 of the broker that leads the controllers."""
        node = self._kafka.controller() if self._brokers > 1 else None
        if node is None:
            return False
        self._note(f"broker {node}, the controller, is killed")
        self._kafka.kill(node)
        self._after(self._random.choice((2.0, 9.0)), lambda: self._restart(node))
        return True

    def _broker(self) -> int | None:
        """Any that runs; of a single one we wait until it was up for a while, else nothing is ever under way."""
        pids = self._kafka.status().pids
        now = time.monotonic()
        if not pids or now < self._next_broker:
            return None
        self._next_broker = now + (ALONE_S if self._brokers == 1 else 0.0)
        return self._random.choice(sorted(pids))

    def _when_broker_ended(self, node: int, pid: int, told_at: float, pause: float) -> None:
        took = time.monotonic() - told_at
        if self._kafka.status().pids.get(node) != pid:
            self._note(f"broker {node} ended after {took:.1f} s")
            self._after(pause, lambda: self._restart(node))
        elif took > STOP_BROKER_S:
            self._note(f"broker {node} did not end within {STOP_BROKER_S:.0f} s, and is killed")
            self._kafka.kill(node)
            self._after(pause, lambda: self._restart(node))
        else:
            self._after(STEP_S, lambda: self._when_broker_ended(node, pid, told_at, pause))

    def _restart(self, node: int) -> None:
        if node in self._kafka.status().pids:
            return
        self._kafka.kill(node)  # only takes note of its end
        try:
            self._kafka.restart(node, wait=False)
        except ConfigError as error:  # its port is not free yet
            self._note(f"broker {node} can not start yet: {error.code}")
            self._after(1.0, lambda: self._restart(node))
        else:
            self._note(f"broker {node} starts")

    def cut(self) -> bool:
        """A worker's connections are cut, and no new one comes about."""
        return self._hinder("cut", (0.0, 1.0, 8.0, 25.0))

    def silence(self) -> bool:
        """Its connections stand, and nothing comes through."""
        return self._hinder("silent", (1.0, 4.0, 12.0, 25.0))

    def slow_way(self) -> bool:
        """Everything takes long."""
        return self._hinder("slow", (5.0, 15.0))

    def _hinder(self, mode: Mode, times: tuple[float, ...]) -> bool:
        if (worker := self._worker()) is None:
            return False
        seconds, address = self._random.choice(times), None
        if self._brokers > 1 and self._random.random() < 0.5:
            address = self._random.choice(self._kafka.hosts())
        self._note(f"the way of {worker.name} to {address or 'Kafka'} is {mode} for {seconds:.0f} s")
        self._field.be(mode, worker.name, address)
        self._after(seconds, lambda: self._field.be("open", worker.name))
        return True

    # ---- registry and input

    def touch(self) -> bool:
        """Something in the registry changes, of no consequence."""
        key = "board/bestuur-horizon"
        entry = json.loads(self._records[key]) | {"name": f"Stichting {self._random.randrange(10_000)}"}
        self._note("the registry changes")
        self._field.change({key: json.dumps(entry).encode()})
        return True

    def withdraw(self) -> bool:
        """A school switches a link off, for good."""
        if len(self._linked) < len(LINKS) * 4:
            return self.touch()
        school, model = self._linked.pop(self._random.randrange(len(self._linked)))
        link = f"{link_of(f'{model}portaal', school)}/receiver"
        entry = json.loads(self._records[f"connection/{link}"])
        entry |= {"state": "revoked", "at": datetime.now(UTC).isoformat()}
        self._note(f"{school} switches {link} off")
        changes: dict[str, bytes | None] = {f"connection/{link}": json.dumps(entry).encode()}
        self._field.withdraw(changes, LINKS[model], PORTAL, school)
        return True

    def poison(self) -> bool:
        """Records that are no events."""
        self._note("poison records are sent")
        self._field.start(self._field.workload.poison())
        return True

    def corrupt(self) -> bool:
        """A record that the worker's client can not read."""
        if self.done["corrupt"] >= 3:  # a partition with one is read apart for long
            return self.poison()
        self._note("a record with a broken header is sent")
        self._field.start(self._field.workload.unparsable())
        return True


def void(_: object) -> None:
    """For a call whose answer is of no use."""


FAULTS: Final[dict[str, tuple[int, Callable[[Nemesis], bool]]]] = {
    "kill": (5, Nemesis.kill), "freeze": (5, Nemesis.freeze), "deploy": (3, Nemesis.deploy),
    "rebalances": (2, Nemesis.storm_of_rebalances), "lost-disk": (1, Nemesis.lose_disk),
    "full-disk": (2, Nemesis.fill_disk), "slow-disk": (2, Nemesis.slow_disk), "clock": (2, Nemesis.clock),
    "kill-broker": (2, Nemesis.kill_broker), "stop-broker": (1, Nemesis.stop_broker),
    "freeze-broker": (1, Nemesis.freeze_broker), "kill-controller": (1, Nemesis.kill_controller),
    "cut": (3, Nemesis.cut),
    "silence": (2, Nemesis.silence), "slow": (2, Nemesis.slow_way), "touch": (2, Nemesis.touch),
    "withdraw": (2, Nemesis.withdraw), "poison": (3, Nemesis.poison), "corrupt": (1, Nemesis.corrupt),
}  # fmt: skip
