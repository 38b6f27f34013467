"""The worker processes of a run: started, killed, frozen and told to stop, each by its own process id."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from broker.kafka import process

STOP_S: Final = 30.0
NO_LIMIT: Final = resource.RLIM_INFINITY


class Worker:
    """A place for a worker: a disk, orders, and the process that runs there now.

    Args:
        home: of the installation. logs: folder. ways: ports to go by, by the address of each broker.
    """

    def __init__(self, number: int, home: Path, logs: Path, ways: Mapping[str, int]) -> None:
        self.name = f"worker-{number}"
        self.disk = home / f"state-{number}"
        self.frozen = False
        self.wanted = False  # whether it should run; one that does not, and should, ended by itself
        self._home, self._logs, self._lives = home, logs, 0
        self._file = home / f"{self.name}.orders.json"
        self._orders: dict[str, object] = {"ways": dict(ways), "clock_s": 0.0, "vault_s": 0.0}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        """Whether its process is there, frozen or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def code(self) -> int | None:
        """How the last process ended."""
        return None if self._process is None else self._process.returncode

    @property
    def ready(self) -> bool:
        """Whether its process said that it has its lanes."""
        return self.alive and b'"worker.ready"' in self._log.read_bytes()

    def start(self) -> None:
        """A new process; its log is a new file. From the main thread, so that it ends with this process."""
        self._lives += 1
        self.order()
        command = [
            sys.executable, "-m", "chaos.worker", str(self._file), "worker", "--connection",
            str(self._home / "connections" / "exchange.json"), "--keys", str(self._home / "keys"),
            "--state", str(self.disk), "--http", "0",
        ]  # fmt: skip
        self._process = process.spawn(command, self._log, detached=False)
        self.frozen, self.wanted = False, True

    def order(self, **orders: object) -> None:
        """Change what the process is told (`chaos.worker`)."""
        self._orders |= orders
        draft = self._file.with_suffix(".draft")
        draft.write_text(json.dumps(self._orders), "utf-8")
        draft.replace(self._file)

    def kill(self) -> None:
        """kill -9."""
        self.wanted = False
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP: it becomes a zombie that believes in what it knew."""
        self.frozen = True
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where it was."""
        if self.frozen:
            self.frozen = False
            self._signal(signal.SIGCONT)

    def tell_to_stop(self) -> None:
        """SIGTERM."""
        self.wanted = False
        self.thaw()
        self._signal(signal.SIGTERM)

    def ended(self, seconds: float = STOP_S) -> bool:
        """Wait for its end; False, and killed, if it did not come."""
        if self._process is None:
            return True
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True

    def lose_disk(self) -> None:
        """The copy of the vault is gone."""
        shutil.rmtree(self.disk, ignore_errors=True)

    def fill_disk(self) -> bool:
        """From now on its copy of the vault can not grow, nor be changed beyond its middle; whether that could be done.

        The limit is one of the process's for any file; what it logs is far smaller.
        """
        copy = self.disk / "vault" / "data" / "data.mdb"
        if not self.alive or not copy.exists() or not hasattr(resource, "prlimit"):
            return False
        limit = copy.stat().st_size // 2
        if limit < self._log.stat().st_size + 50_000:
            return False
        return self._limit_files(limit)

    def free_disk(self) -> None:
        """There is room again."""
        if self.alive:
            self._limit_files(NO_LIMIT)

    def _limit_files(self, limit: int) -> bool:
        with suppress(OSError):
            if self._process is not None:
                resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (limit, NO_LIMIT))
                return True
        return False

    @property
    def _log(self) -> Path:
        return self._logs / f"{self.name}.{self._lives}.log"

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)


class Crew:
    """All workers of a run.

    Args:
        make: a worker by its number.
        note: where to write what happens.
    """

    def __init__(self, make: Callable[[int], Worker], count: int, note: Callable[[str], None]) -> None:
        self.workers = [make(number + 1) for number in range(count)]
        self._make, self._note, self._count = make, note, count
        self._again: dict[str, float] = {}  # when one that ended by itself is started again
        self.ended_by_themselves = 0

    def start(self) -> None:
        """All of them."""
        for worker in self.workers:
            worker.start()

    def running(self) -> list[Worker]:
        """Those that run, frozen ones not."""
        return [worker for worker in self.workers if worker.alive and not worker.frozen]

    def supervise(self) -> None:
        """Start what ended by itself again, as a supervisor does, a second later."""
        now = time.monotonic()
        for worker in self.workers:
            if worker.wanted and not worker.alive:
                if worker.name not in self._again:
                    self.ended_by_themselves += 1
                    self._note(f"{worker.name} ended by itself, code {worker.code}")
                    self._again[worker.name] = now + 1.0
                elif self._again[worker.name] <= now:
                    del self._again[worker.name]
                    worker.start()

    def add(self) -> Worker:
        """One worker more than belong."""
        free = [worker for worker in self.workers[self._count :] if not worker.alive]
        if not free:
            free = [self._make(len(self.workers) + 1)]
            self.workers += free
        free[0].start()
        return free[0]

    def extra(self) -> list[Worker]:
        """Those that run and are more than belong."""
        return [worker for worker in self.workers[self._count :] if worker.alive]

    def heal(self) -> None:
        """All that belong run, unhindered; those that came in addition end."""
        for worker in self.workers[self._count :]:
            worker.tell_to_stop()
        for worker in self.workers[: self._count]:
            worker.free_disk()
            worker.thaw()
            worker.order(clock_s=0.0, vault_s=0.0)
            if not worker.alive:
                worker.start()

    def stop(self) -> list[str]:
        """Tell all to stop, and wait; what went wrong."""
        there = [worker for worker in self.workers if worker.alive]
        for worker in there:
            worker.tell_to_stop()
        wrong = [f"{worker.name} did not stop within {STOP_S:.0f} s" for worker in there if not worker.ended()]
        return wrong + [
            f"{worker.name} ended with code {worker.code}" for worker in there if worker.code not in (0, -15, -9)
        ]

    def kill(self) -> None:
        """Leave none behind."""
        for worker in self.workers:
            if worker.alive:
                worker.kill()
