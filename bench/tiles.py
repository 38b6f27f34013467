"""Leaves into the tiles of a log on the disk, as the log's builder writes them, beside a bare SHA-256 of each.

Entries of the exchange's lengths (`bench/leaves.py`); all files flushed, offsets beside the entries, then the signed
checkpoint shown; each 1,000 entries and each 10,000. A core's rate is that of CPU time, the threads that flush
included: on the clock the disk counts too.
"""

from __future__ import annotations

import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.leaves import Leaves
from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.directory import LogDirectory
from broker.audit.log.note import Signer, render
from broker.audit.log.tiles import TileBuilder
from broker.auditlog.book import LogName
from broker.auditlog.builder import _Growing

STEPS: Final = (1_000, 10_000)
_NAME: Final = LogName("broker.example/audit", "p0")


def run(count: int = 200_000, folder: Path | None = None) -> dict[str, Any]:
    """Measure.

    Args:
        count: of leaves. folder: on whose disk; by default that of temporary files.
    """
    entries = list(Leaves(count).entries(0, count))
    result: dict[str, Any] = {"leaves": count, "entry_bytes": sum(map(len, entries)) / count, "steps": {}}
    for step in STEPS:
        bare = _bare_s(entries)
        with tempfile.TemporaryDirectory(prefix="bench-", dir=folder) as home:
            wall, cpu = _write(Path(home), entries, step)
        result["steps"][str(step)] = {
            "leaves_per_cpu_s": count / cpu,
            "leaves_per_s": count / wall,
            "bare_per_cpu_s": count / bare,
            "ratio": cpu / bare,
        }
    return result


def _write(home: Path, entries: list[bytes], step: int) -> tuple[float, float]:
    """Seconds on the clock, and of CPU."""
    signer = Signer(_NAME.origin, Ed25519PrivateKey.generate())
    # Kafka is not part of it: the offsets are those of a partition without gaps.
    growing = _Growing(_NAME, LogDirectory(home / _NAME.folder), TileBuilder(), None, b"", None, None)  # type: ignore[arg-type]
    wall, cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(entries), step):
        new = entries[start : start + step]
        growth = growing.add(new, range(start, start + len(new)))
        checkpoint = Checkpoint(_NAME.origin, growth.size, growth.root)
        growing.show(checkpoint, render(checkpoint.text(), [signer.sign(checkpoint.text())]))
    return time.perf_counter() - wall, time.process_time() - cpu


def _bare_s(entries: list[bytes]) -> float:
    began = time.process_time()
    for entry in entries:
        sha256(entry).digest()
    return time.process_time() - began


def rows(r: dict[str, Any]) -> list[tuple[str, str]]:
    """The table."""
    table = [("leaves, their mean length", f"{r['leaves']:,}, {r['entry_bytes']:,.0f} bytes")]
    for step, one in r["steps"].items():
        table += [
            (f"a checkpoint each {int(step):,}: of one core", f"{one['leaves_per_cpu_s']:,.0f} leaves/s"),
            ("  on the clock", f"{one['leaves_per_s']:,.0f} leaves/s"),
            ("  CPU beside a bare SHA-256 of each", f"{one['ratio']:.1f} times"),
        ]
    return table
