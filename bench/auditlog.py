"""Ten million leaves: a log, its verification offline, its store, and what is asked of them.

The log is written as the builder writes it, leaves of the exchange's lengths in (`bench/leaves.py`), and a checkpoint
at a tenth of it. `broker/audit/verify.py` runs as a process of its own, on the tenth and on the whole: its CPU time,
and whether its memory is flat. The files were written just before, so as much of them as memory has room for is read
from there, and not from the disk.

The store is filled through `Store.add`, by a second process at the same time, its indexes made at the end, since that
is faster; the last leaves are taken in by `index_log`, as `broker audit index` does, into the full store. A question is
then the whole way: rows from the store, leaves from the log, each with its proof against the signed root.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from bench.leaves import BEGIN_MS, DAY_MS, DAYS, Leaves
from bench.worker import quantile
from broker.audit import verify
from broker.audit.indexing import index_log
from broker.audit.log.directory import LogDirectory
from broker.audit.query import Query
from broker.audit.store import Store, Wanted
from tests.audit.signed_world import GrowingLog

GROWTH: Final = 65_536  # leaves between two checkpoints of the log
SUBJECTS: Final = 200  # that are asked for
WINDOWS: Final = 10  # of a supplier, that are asked for
LAST: Final = 100  # a hundredth of the leaves is taken in by `index_log`
LEAF_BYTES, STORE_BYTES = 1_600, 1_000  # on the disk, for each leaf; the store's includes what making indexes takes
TYPICAL: Final = 25  # the supplier in the middle
_ORIGIN: Final = "broker.example/audit/p0/1"


def run(count: int = 10_000_000, folder: Path | None = None) -> dict[str, Any]:
    """Measure.

    Args:
        count: of leaves. folder: on whose disk; by default that of temporary files. What is written is removed.
    """
    require_room(Path(folder or tempfile.gettempdir()), count)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=folder) as home:
        return _run(Path(home), Leaves(count))


def require_room(folder: Path, count: int) -> None:
    """End with a sentence where the disk is too small."""
    free, needed = shutil.disk_usage(folder).free, count * (LEAF_BYTES + STORE_BYTES)
    if free < needed:
        sys.exit(
            f"bench auditlog: {count:,} leaves take {needed / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB free. "
            "Name another folder with --folder, or fewer leaves with --count."
        )


def _run(home: Path, leaves: Leaves) -> dict[str, Any]:
    logs, tenth = home / "logs", home / "tenth"
    took: dict[str, float] = {}
    last = leaves.count - max(1, leaves.count // LAST)
    # Not forked: the threads that flush the log's files are no child's.
    with ProcessPoolExecutor(1, get_context("spawn")) as beside:
        filled = beside.submit(_fill, home / "audit.db", leaves, last)
        with _timed(took, "log"):
            log, root = _write(logs, tenth, leaves, last)
        took |= filled.result()
    result = {"leaves": leaves.count, "subjects": leaves.subjects, "entry_bytes": _mean_bytes(leaves), "took_s": took}
    with _timed(took, "verify"):
        result["verify"] = {"tenth": _verify(tenth), "whole": _verify(logs / log.folder.name)}
    with Store(home / "audit.db") as store:
        with store.transaction():
            store.add(_ORIGIN, (), last, root)
        with _timed(took, "index"):
            began = time.process_time()
            indexed = index_log(store, log.signed())
            result["index"] = {"leaves": indexed.decisions, "cpu_s": time.process_time() - began}
        result["index"]["wall_s"] = took["index"]
        with _timed(took, "ask"):
            result |= _ask(store, logs, leaves, log)
    result["disk_mib"] = {"log": _mib(logs), "store": (home / "audit.db").stat().st_size / 2**20}
    return result


# ---- the log


def _write(logs: Path, tenth: Path, leaves: Leaves, last: int) -> tuple[GrowingLog, bytes]:
    """The log, and beside it the same log as it was at a tenth; the root of the first `last` leaves."""
    log, root = GrowingLog(logs, _ORIGIN), b""
    small = max(1, leaves.count // 10)
    ends = sorted({*range(GROWTH, leaves.count, GROWTH), small, last, leaves.count})
    for start, end in zip([0, *ends], ends, strict=False):
        signed = log.grow(list(leaves.entries(start, end)))
        if end == last:
            root = signed.checkpoint.root
        if end == small:
            tenth.mkdir()
            directory = LogDirectory(tenth)
            directory.show_key(log.signer.vkey)
            directory.publish(signed.note)
            (tenth / "tile").symlink_to(log.folder / "tile")
    return log, root


# A child's largest memory is at least that of who started it, for Linux counts from the fork on: so a small process
# starts it and not this one.
_START: Final = """
import json, os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=sys.stderr)
_, status, usage = os.wait4(process.pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss]))
"""


def _verify(folder: Path) -> dict[str, float]:
    """What `verify.py log` takes, as a process of its own."""
    began = time.perf_counter()
    command = [sys.executable, "-c", _START, sys.executable, verify.__file__, "log", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    code, cpu_s, rss_kib = json.loads(done.stdout)
    assert code == 0, done.stderr
    return {"wall_s": time.perf_counter() - began, "cpu_s": cpu_s, "rss_mib": rss_kib / 1024}


# ---- the store


def _fill(path: Path, leaves: Leaves, last: int) -> dict[str, float]:
    """A store of the first `last` leaves and of all subjects; seconds that it took."""
    took: dict[str, float] = {}
    with Store(path) as store:
        indexes = _without_indexes(path)
        with _timed(took, "store_rows"):
            for start in range(0, last, GROWTH):
                end = min(start + GROWTH, last)
                with store.transaction():
                    store.add(_ORIGIN, leaves.coordinates(start, end), end, bytes(32))
    with _timed(took, "store_indexes"):
        db = sqlite3.connect(path, isolation_level=None)
        # Faster; what was written so far can be made again.
        for setting in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-500000", "threads=2"):
            db.execute(f"PRAGMA {setting}")
        (log,) = db.execute("SELECT id FROM logs").fetchone()
        db.execute("BEGIN")
        db.executemany("INSERT INTO tags (tag, log, idx) VALUES (?, ?, ?)", _tags(leaves, log))
        db.execute("COMMIT")
        for statement in indexes:
            db.execute(statement)
        db.close()
    return took


def _without_indexes(path: Path) -> list[str]:
    """Drop the indexes; gives the statements that make them."""
    db = sqlite3.connect(path, isolation_level=None)
    found = list(db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL"))
    for name, _ in found:
        db.execute(f"DROP INDEX {name}")
    db.close()
    return [sql for _, sql in found]


def _tags(leaves: Leaves, log: int) -> Iterator[tuple[bytes, int, int]]:
    """The rows of all subjects, in the order of the table."""
    for tag, subject in sorted((leaves.tag(subject), subject) for subject in range(leaves.subjects)):
        for index in leaves.of_subject(subject):
            yield tag, log, index


# ---- questions


def _ask(store: Store, logs: Path, leaves: Leaves, log: GrowingLog) -> dict[str, Any]:
    query, chosen = Query(store, logs, [log.signer.verifier]), random.Random(2)
    subjects = [Wanted(tag=leaves.tag(chosen.randrange(leaves.subjects))) for _ in range(SUBJECTS)]
    days = [BEGIN_MS + chosen.randrange((DAYS - 1) * DAY_MS) for _ in range(WINDOWS)]

    def of(supplier: int, most: int = leaves.count) -> list[Wanted]:
        party = leaves.suppliers[supplier]
        return [Wanted(party=party, since_ms=day, until_ms=day + DAY_MS, most=most) for day in days]

    def proven(wanted: Wanted) -> int:
        found = query.find(wanted)
        assert all(one.problem is None for one in found)
        return len(found)

    return {
        "subject": _times(subjects, proven),
        "supplier": {
            "typical": _times(of(TYPICAL), proven),
            "largest_newest": _times(of(0, 1_000), proven),
            "largest": _times(of(0), proven),
            "largest_rows_only": _times(of(0), lambda wanted: len(store.find(wanted))),
        },
    }


def _times(questions: Sequence[Wanted], ask: Callable[[Wanted], int]) -> dict[str, float]:
    taken, found = list[float](), list[int]()
    for wanted in questions:
        began = time.perf_counter()
        found.append(ask(wanted))
        taken.append((time.perf_counter() - began) * 1000)
    assert any(found)
    ordered = sorted(taken)
    return {
        "times": len(taken), "rows": statistics.median(found), "p50_ms": quantile(ordered, 0.5),
        "p99_ms": quantile(ordered, 0.99), "most_ms": ordered[-1], "first_ms": taken[0],
    }  # fmt: skip


# ---- what it takes


@contextmanager
def _timed(took: dict[str, float], what: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    took[what] = time.perf_counter() - began


def _mean_bytes(leaves: Leaves) -> float:
    some: Sequence[bytes] = list(leaves.entries(0, min(leaves.count, 1_000)))
    return math.fsum(map(len, some)) / len(some)


def _mib(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20


def rows(r: dict[str, Any]) -> list[tuple[str, str]]:
    """The table."""
    whole, tenth, ask, index = r["verify"]["whole"], r["verify"]["tenth"], r["supplier"], r["index"]

    def asked(name: str, what: str) -> tuple[str, str]:
        one = ask[name]
        return (f"{what}, {one['rows']:,.0f} rows: p50, most", f"{one['p50_ms']:,.0f} ms, {one['most_ms']:,.0f} ms")

    subject = r["subject"]
    return [
        ("leaves, their mean length", f"{r['leaves']:,}, {r['entry_bytes']:,.0f} bytes"),
        ("verify.py log: clock, CPU", f"{whole['wall_s']:.1f} s, {whole['cpu_s']:.1f} s"),
        ("  largest memory; at a tenth", f"{whole['rss_mib']:.0f} MiB; {tenth['rss_mib']:.0f} MiB"),
        (f"a subject's {subject['rows']:.0f} leaves, proven: p50, p99, most",
         f"{subject['p50_ms']:.1f} ms, {subject['p99_ms']:.1f} ms, {subject['most_ms']:.1f} ms"),
        asked("typical", "a day of the supplier in the middle, proven"),
        asked("largest_newest", "a day of the largest, the newest, proven"),
        asked("largest", "a day of the largest, proven"),
        asked("largest_rows_only", "a day of the largest, from the store alone"),
        ("indexing into the full store", f"{index['leaves'] / index['wall_s']:,.0f} leaves/s"),
        ("disk: log, store", f"{r['disk_mib']['log']:,.0f} MiB, {r['disk_mib']['store']:,.0f} MiB"),
        ("it took", ", ".join(f"{what} {seconds:.0f} s" for what, seconds in r["took_s"].items())),
    ]  # fmt: skip
