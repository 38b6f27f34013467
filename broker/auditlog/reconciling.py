"""The reconciler as a process: reads the logs as they grow, remembers where it stands, and says what does not add up.

Each look: the control log first, then every other log up to where it stood at the look before. So what the control log
tells of lost input is read before the leaves that need it, though each log is sealed at its own time.

What it knows is in one small file, replaced as a whole: killed anywhere, it reads some leaves again and may say a
finding twice; it never passes one over.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import structlog
from prometheus_client import Counter, Gauge

from broker.app.scrape import new_registry
from broker.audit.count import Confirmations, read_counts
from broker.audit.reconcile import LATENESS_MS, Finding, Reconciler
from broker.audit.told import InputGap, LeafError, read_gap
from broker.auditlog.folders import StoredLog, count_leaf, counts_in, logs_in, party_keys
from broker.auditlog.looking import keep_looking
from broker.durable import replace
from broker.errors import BrokerError, ConfigError

log = structlog.get_logger("broker.auditlog")

LOOK_S: Final = 10.0
TOLD: Final = -1


class ReconcileMetrics:
    """What is counted of findings."""

    def __init__(self) -> None:
        self.registry = registry = new_registry()
        self.findings = Counter(
            "broker_reconcile_findings_total", "What did not add up, by rule.", ("rule",), registry=registry
        )
        self.unconfirmed = Gauge(
            "broker_reconcile_unconfirmed_flows", "Flows that their party has not counted to the end.",
            registry=registry,
        )  # fmt: skip
        self.oldest_open = Gauge(
            "broker_reconcile_oldest_open_window_seconds", "Since the first leaf that is in no window yet.",
            registry=registry,
        )  # fmt: skip
        self.read = Gauge("broker_reconcile_leaves", "Leaves that were read.", ("log",), registry=registry)
        self.failures = Counter(
            "broker_reconcile_failures_total", "Looks that failed, by type of error.", ("kind",), registry=registry
        )


class Reconciling:
    """All logs of an installation.

    Args:
        root: folder of the logs. state: file of what is known; made at the first look.
        keys: file of the verifier keys of the parties that count; None: nobody counts.
        counts: folder of signed counts, besides those in the control log; without keys it says nothing.
        lateness_ms: how late a window may be told.

    Raises:
        ConfigError: `auditlog.reconciling`: the state can not be read; `auditlog.keys`.
    """

    def __init__(
        self,
        root: Path,
        state: Path,
        keys: Path | None = None,
        counts: Path | None = None,
        lateness_ms: int = LATENESS_MS,
        metrics: ReconcileMetrics | None = None,
    ) -> None:
        self._root, self._state, self._lateness_ms = root, state, lateness_ms
        self.metrics = metrics or ReconcileMetrics()
        self._counts = counts
        self._keys = {} if keys is None else party_keys(keys)
        self._notes: list[tuple[str, bytes]] = []  # of leaves of this look
        self._confirmations = Confirmations(self._keys)
        self._reconcilers: dict[str, Reconciler] = {}  # by origin
        self._seen: dict[str, int] = {}  # size of each log at the look before
        self._control: dict[str, int] = {}  # leaves of each control log that were read
        self._gaps: list[InputGap] = []
        self._known_counts: list[str] = []
        self._late: set[tuple[str, str, int]] = set()  # log, lane and window: told once
        self._ahead: dict[tuple[str, str, str], int] = {}  # counts without a leaf, and since when; or TOLD
        if state.exists():
            self._restore()

    def look(self, now_ms: int) -> list[Finding]:
        """Read what is new, say what was found, and remember."""
        logs, found, failed = logs_in(self._root), list[Finding](), list[BrokerError]()
        for each in logs:
            try:
                found += self._told(self._read_control(each) if each.is_control else self._read(each))
                self._seen[each.origin] = each.size
            except BrokerError as error:  # of one log: the others are read all the same
                failed.append(error)
        found += self._told(self._read_late(now_ms))
        found += self._told(self._read_counts(logs[0].base))
        found += self._told(self._read_ahead(now_ms))
        self._measure(now_ms)
        self._remember()
        if failed:
            raise failed[0]
        return found

    def _read(self, each: StoredLog) -> Iterator[Finding]:
        reconciler = self._reconcilers.get(each.origin)
        if reconciler is None:
            reconciler = Reconciler(gaps=list(self._gaps), watcher=self._confirmations)
            self._reconcilers[each.origin] = reconciler
        if each.size < reconciler.position:
            raise ConfigError(
                f"The log {each.origin} has {each.size} leaves, {reconciler.position} were read before. Restore it "
                f"from a copy, or find out who cut it: a log never gets shorter.",
                code="auditlog.shorter",
            )
        for leaf in each.entries(reconciler.position, max(reconciler.position, self._seen.get(each.origin, 0))):
            yield from reconciler.feed(leaf)
        self.metrics.read.labels(each.path.name).set(reconciler.position)

    def _read_control(self, each: StoredLog) -> Iterator[Finding]:
        start = self._control.get(each.origin, 0)
        for index, leaf in enumerate(each.entries(start, each.size), start):
            try:
                gap, count = read_gap(leaf), count_leaf(index, leaf, self._keys)
            except LeafError as error:
                yield Finding("R0", "", 0, f"leaf {index} of the control log can not be read: {error}.")
                continue
            if count is not None:
                self._notes.append(count)
            if gap is not None:
                self._gaps.append(gap)
                for reconciler in self._reconcilers.values():
                    reconciler.gaps.append(gap)
        self._control[each.origin] = max(start, each.size)

    def _read_counts(self, base: str) -> Iterator[Finding]:
        files = [] if self._counts is None else counts_in(self._counts, self._known_counts)
        counts, wrong = read_counts([*self._notes, *files], self._keys, base)
        yield from wrong
        for count in counts:
            self._confirmations.add(count)
        self._notes, self._known_counts = [], [*self._known_counts, *(name for name, _ in files)]
        yield from self._confirmations.findings()

    def _read_late(self, now_ms: int) -> Iterator[Finding]:
        for origin, reconciler in self._reconcilers.items():
            for finding in reconciler.late(now_ms, self._lateness_ms):
                key = (origin, finding.lane, finding.window)
                if key not in self._late:
                    self._late.add(key)
                    yield finding

    def _read_ahead(self, now_ms: int) -> Iterator[Finding]:
        """Counts of what has no leaf: leaves may be on their way, but not for ever."""
        ahead = {(f.rule, f.lane, f.sentence): f for f in self._confirmations.missing()}
        self._ahead = {key: self._ahead.get(key, now_ms) for key in ahead}
        for key, since in self._ahead.items():
            if since >= 0 and now_ms - since > self._lateness_ms:
                self._ahead[key] = TOLD
                yield ahead[key]

    def _told(self, findings: Iterator[Finding]) -> Iterator[Finding]:
        """Each at once: what is read is not read again, so a failure behind it must not silence it."""
        for finding in findings:
            self.metrics.findings.labels(finding.rule).inc()
            log.error(
                "auditlog.finding", rule=finding.rule, lane=finding.lane, window=finding.window, text=finding.sentence
            )
            yield finding

    def _measure(self, now_ms: int) -> None:
        self.metrics.unconfirmed.set(len(self._confirmations.unconfirmed()))
        since = [lane.since_ms for reconciler in self._reconcilers.values() for lane in reconciler.open_lanes()]
        self.metrics.oldest_open.set(max(0, now_ms - min(since)) / 1000 if since else 0)

    # ---- what is known

    def _remember(self) -> None:
        """Replace the file as a whole."""
        document: dict[str, Any] = {
            "v": 2, "logs": {origin: reconciler.pack() for origin, reconciler in self._reconcilers.items()},
            "seen": self._seen, "control": self._control, "counts": self._known_counts,
            "gaps": [[g.place, g.kind, g.first, g.last, g.position, g.next] for g in self._gaps],
            "confirmations": self._confirmations.pack(), "late": sorted(self._late),
            "ahead": [[*key, since] for key, since in self._ahead.items()],
        }  # fmt: skip
        replace(self._state, json.dumps(document, separators=(",", ":")).encode())

    def _restore(self) -> None:
        try:
            document = json.loads(self._state.read_bytes())
            if document["v"] != 2:
                raise ValueError
            self._reconcilers = {origin: Reconciler.unpack(its) for origin, its in document["logs"].items()}
            for reconciler in self._reconcilers.values():
                reconciler.watcher = self._confirmations
            self._seen, self._control, self._known_counts = (document[name] for name in ("seen", "control", "counts"))
            self._gaps = [InputGap(*gap) for gap in document["gaps"]]
            self._confirmations.restore(document["confirmations"])
            self._ahead = {(rule, lane, text): since for rule, lane, text, since in document["ahead"]}
            self._late = {(origin, lane, window) for origin, lane, window in document["late"]}
        except (OSError, ValueError, TypeError, LookupError, AttributeError, BrokerError):
            raise ConfigError(
                f"What the reconciler knew can not be read from {self._state}. Remove the file: it reads all logs "
                f"again from their first leaf, and says again what it found.",
                code="auditlog.reconciling",
            ) from None


class ReconcileService:
    """Looks until cancelled.

    Args:
        look_s: pause between two looks. http: host and port of probes and metrics; None: none.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        reconciling: Reconciling,
        *,
        look_s: float = LOOK_S,
        http: tuple[str, int] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._reconciling, self._look_s, self._http, self._clock = reconciling, look_s, http, clock

    async def run(self) -> None:
        """A look that fails is told and tried again. Ready once all logs were read."""
        metrics = self._reconciling.metrics
        await keep_looking(
            lambda: self._reconciling.look(int(self._clock() * 1000)), event="auditlog.reconciling",
            look_s=self._look_s, failures=metrics.failures, registry=metrics.registry, http=self._http,
        )  # fmt: skip
