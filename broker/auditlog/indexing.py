"""The indexer as a process: takes what is new in the logs into the store, and who it is about.

Each look opens the store and closes it again: whoever erases a person needs a moment in which nobody reads it.
Position and rows are written in one transaction, so that a kill at any moment loses and doubles nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import Counter, Gauge

from broker.app.scrape import new_registry
from broker.audit.indexing import SchoolCiphers, index_log
from broker.audit.log.directory import KEY, LogDirectory
from broker.audit.signed import SignedLog, folders, keys_in_file
from broker.audit.store import Store
from broker.auditlog.indexer import LOST, read_people
from broker.auditlog.looking import keep_looking
from broker.errors import BrokerError, told
from broker.kafka.connection import KafkaConnection

log = structlog.get_logger("broker.auditlog")

LOOK_S: Final = 60.0
Failure = BrokerError | OSError
_FAILURES: Final = (BrokerError, OSError)


class IndexMetrics:
    """What is counted of the store.

    Args:
        clock: seconds, of any beginning.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._good_at = clock, clock()
        self.registry = registry = new_registry()
        self.leaves = Gauge(
            "broker_index_leaves", "Leaves of a log that were taken in or passed over.", ("log",), registry=registry
        )
        self.entries = Counter("broker_index_entries", "Entries about persons that were read.", registry=registry)
        self.waiting = Gauge(
            "broker_index_waiting_entries", "Entries about persons whose leaf is not in the store yet.",
            registry=registry,
        )  # fmt: skip
        self.lost = Counter(
            "broker_index_lost", "Times that entries had gone before they were read, by partition.", ("partition",),
            registry=registry,
        )  # fmt: skip
        self.failures = Counter(
            "broker_index_failures", "Looks that failed, by type of error.", ("kind",), registry=registry
        )
        age = Gauge(
            "broker_index_look_age_seconds", "Since the last look that went well, or since the start.",
            registry=registry,
        )  # fmt: skip
        age.set_function(lambda: self._clock() - self._good_at)

    def went_well(self) -> None:
        """The store has all there was."""
        self._good_at = self._clock()


@dataclass(frozen=True, slots=True)
class People:
    """What is needed to know whom leaves are about.

    Args:
        connection: of an auditor. schools: gives the keys under which the entries are sealed; asked at each look, since
            they may have been replaced.
    """

    connection: KafkaConnection
    schools: Callable[[], SchoolCiphers]


class Indexing:
    """All logs of an installation, and the store of them.

    Args:
        root: folder of the logs. store: file; made at the first look.
        key_file: keys of the logs from elsewhere; None: of each log the one beside it: that shows damage, no forger.
        people: None: no leaf is found by the person.
    """

    def __init__(
        self,
        root: Path,
        store: Path,
        *,
        key_file: Path | None = None,
        people: People | None = None,
        metrics: IndexMetrics | None = None,
    ) -> None:
        self._root, self._store, self._key_file, self._people = root, store, key_file, people
        self.metrics = metrics or IndexMetrics()

    def look(self) -> None:
        """Take in what is new. What fails does not keep the rest from being taken in.

        Raises:
            BrokerError, OSError: the first that failed, see `index_log` and `read_people`; any others are logged.
        """
        with Store(self._store) as store:
            failed = [*self._all_leaves(store), *self._all_people(store)]
        for error in failed[1:]:
            self.metrics.failures.labels(type(error).__name__).inc()
            log.warning("auditlog.indexing", error=told(error))
        if failed:
            raise failed[0]
        self.metrics.went_well()

    def _all_leaves(self, store: Store) -> Iterator[Failure]:
        """Take in the leaves of all logs; gives what failed."""
        try:
            found = folders(self._root)
        except _FAILURES as error:
            found = []
            yield error
        for folder in found:
            try:
                self._leaves(store, folder)
            except _FAILURES as error:
                yield error

    def _leaves(self, store: Store, folder: Path) -> None:
        known = keys_in_file(self._key_file or folder / KEY)
        signed = SignedLog.open(LogDirectory(folder), known)
        if signed is None:
            return
        done = index_log(store, signed)
        self.metrics.leaves.labels(folder.name).set(done.size)
        if done.decisions or done.others:
            log.info("auditlog.indexed", log=done.origin, new=done.decisions + done.others, leaves=done.size)

    def _all_people(self, store: Store) -> Iterator[Failure]:
        """Take in whom they are about; gives what failed."""
        if self._people is None:
            return
        people = self._people
        try:
            done = asyncio.run(read_people(store, people.connection, people.schools(), self._lost))
        except _FAILURES as error:
            yield error
            return
        self.metrics.entries.inc(done.read)
        self.metrics.waiting.set(done.waiting)

    def _lost(self, source: str) -> None:
        self.metrics.lost.labels(source).inc()
        log.error("auditlog.lost", partition=source, text=LOST)


class IndexService:
    """Looks until cancelled.

    Args:
        look_s: pause between two looks. http: host and port of probes and metrics; None: none.
    """

    def __init__(self, indexing: Indexing, *, look_s: float = LOOK_S, http: tuple[str, int] | None = None) -> None:
        self._indexing, self._look_s, self._http = indexing, look_s, http

    async def run(self) -> None:
        """A look that fails is told and tried again. Ready once all there was is in the store."""
        metrics = self._indexing.metrics
        await keep_looking(
            self._indexing.look, event="auditlog.indexing", look_s=self._look_s, failures=metrics.failures,
            registry=metrics.registry, http=self._http,
        )  # fmt: skip
