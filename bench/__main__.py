"""`python -m bench [NAME ...] [--seconds N] [--count N]`: figures, never a pass or a fail.

Prints a short table and writes everything that was measured to `build/bench/<name>.json`. No test depends on a time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import (
    auditlog,
    connections,
    evidence,
    exchange,
    families,
    fanout,
    flood,
    lanes,
    leaf,
    modes,
    parked,
    tiles,
    vault,
    withdrawal,
    worker,
)

FOLDER = Path("build/bench")

Rows = list[tuple[str, str]]


def main() -> None:
    """Run what was asked for; everything by default."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}; by default all")
    parser.add_argument(
        "--seconds",
        type=float,
        help="exchange, fanout, leaf: 20; families: 30; flood: 30, each part; evidence, lanes: 60;"
        " worker: 600, the steady part; modes: 30 a round",
    )
    parser.add_argument(
        "--count", type=int,
        help="worker: 30,000 events of backlog; lanes: 1,000; modes: 10,000; vault: 1,000,000 pupils;"
        " connections: 1,000,000; parked: 10,000 events; withdrawal: 30 times; tiles: 200,000 leaves;"
        " auditlog: 10,000,000 leaves, on 26 GB of disk",
    )  # fmt: skip
    parser.add_argument("--folder", type=Path, help="tiles, auditlog: on whose disk; default: that of temporary files")
    given = parser.parse_args()
    for name in given.names or list(BENCHES):
        if name not in BENCHES:
            parser.error(f"there is no bench {name!r}; there are: {', '.join(BENCHES)}")
    for name in given.names or list(BENCHES):
        measure, rows, takes = BENCHES[name]
        options = {what: getattr(given, what) for what in takes if getattr(given, what) is not None}
        load = os.getloadavg()
        result = measure(**options)
        FOLDER.mkdir(parents=True, exist_ok=True)
        machine = {"python": platform.python_version(), "cores": os.cpu_count(), "load_before": load}
        document = {"bench": name, "at": datetime.now(UTC).isoformat(), "options": options, "machine": machine}
        path = FOLDER / f"{name}.json"
        path.write_text(json.dumps(document | {"result": result}, indent=1, default=str) + "\n", "utf-8")
        print(f"\n{name}  (load before: {load[0]:.1f} on {os.cpu_count()} cores; raw figures in {path})")
        for what, figure in rows(result):
            print(f"  {what:<58} {figure}")


def _exchange(r: dict[str, Any]) -> Rows:
    rows = [
        ("bytes of an input event", f"{r['input_bytes'][0]}"),
        (f"exchange, CPU per decision (median of {r['rounds']} rounds)", f"{r['exchange_us']:.0f} us"),
        ("bare job, CPU per event", f"{r['bare_us']:.0f} us"),
        ("ratio, median of the rounds", f"{r['ratio']:.2f}"),
        ("ratio of the least", f"{r['ratio_of_least']:.2f}"),
    ]
    return rows + [(f"  {row['function']}"[:58], f"{row['own_share']:.1%}") for row in r["profile"][:10]]


def _worker(r: dict[str, Any]) -> Rows:
    steady, drain = r["steady"], r["drain"]
    ours, same, copy = drain["worker"], drain["same_output"], drain["copy_only"]
    memory, calm = steady["memory"], steady["calmest"]
    calmest = f"{calm['p50_ms']:.0f} ms, {calm['p99_ms']:.0f} ms, {calm['cpu_wait']:.0%}"
    sizes = [f"{memory[f'rss_{when}_mib']:.0f}" for when in ("first", "half", "last")]
    return [
        ("worker, exactly once, TLS", f"{ours['events_per_s']:,.0f}/s, {ours['cpu_us_per_event']:.0f} us CPU each"),
        ("bare loop, same bytes out", f"{same['events_per_s']:,.0f}/s, {same['cpu_us_per_event']:.0f} us CPU each"),
        ("bare loop, copies its input", f"{copy['events_per_s']:,.0f}/s, {copy['cpu_us_per_event']:.0f} us CPU each"),
        ("share of the bare rate: same bytes", f"{drain['ratio_same_output']:.3f}"),
        ("share of the bare rate: copy", f"{drain['ratio_copy_only']:.3f}"),
        ("due at the sender -> read_committed, p50 at 200/s", f"{steady['p50_ms']:.0f} ms"),
        ("  p90", f"{steady['p90_ms']:.0f} ms"),
        ("  p99", f"{steady['p99_ms']:.0f} ms"),
        ("  something waited for a core, share of the time", f"{steady['cpu_wait']:.0%}"),
        ("  calmest 10 s: p50, p99, share", calmest),
        (f"events in {steady['seconds']:.0f} s, missing", f"{steady['events']:,}, {steady['missing']}"),
        ("memory: start, half, end", f"{', '.join(sizes)} MiB"),
        ("memory: slope of the second half", f"{memory['slope_kib_per_minute']:+.0f} KiB a minute"),
    ]


def _vault(r: dict[str, Any]) -> Rows:
    return [
        ("pupils, records", f"{r['pupils']:,}, {r['records']:,}"),
        ("new worker: topic -> ready for lookups", f"{r['load_s']:.1f} s ({r['load_records_per_s']:,.0f} records/s)"),
        ("restarted worker", f"{r['resume_s']:.1f} s"),
        ("disk", f"{r['disk_mib']:,.0f} MiB ({r['disk_bytes_per_record']:.0f} bytes a record)"),
        ("lookup", f"{r['lookup_us']:.1f} us"),
        ("first look at a pupil: hash, lookup, decrypt", f"{r['lookup_and_open_us']:.1f} us"),
        ("memory of the process's own", f"{r['anonymous_mib']:.0f} MiB"),
    ]


def _withdrawal(r: dict[str, Any]) -> Rows:
    rows = [("plain transaction of one record, median", f"{r['round_trip_ms']:.1f} ms")]
    for name, what in (("revoked", "revoked -> last delivery read"), ("accepted", "accepted again -> first delivery")):
        one = r[name]
        rows += [
            (f"{what}, p50", f"{one['p50_s']:.2f} s, {one['p50_round_trips']:.0f} plain transactions"),
            (
                f"  worst of {r['changes']}",
                f"{one['worst_s']:.2f} s, {one['worst_round_trips']:.0f} plain transactions",
            ),
        ]
    return rows


BENCHES: dict[str, tuple[Callable[..., dict[str, Any]], Callable[[dict[str, Any]], Rows], tuple[str, ...]]] = {
    "exchange": (exchange.run, _exchange, ("seconds",)),
    "families": (families.run, families.rows, ("seconds",)),
    "fanout": (fanout.run, fanout.rows, ("seconds",)),
    "flood": (flood.run, flood.rows, ("seconds",)),
    "parked": (parked.run, parked.rows, ("count",)),
    "connections": (connections.run, connections.rows, ("count",)),
    "worker": (worker.run, _worker, ("seconds", "count")),
    "leaf": (leaf.run, leaf.rows, ("seconds",)),
    "tiles": (tiles.run, tiles.rows, ("count", "folder")),
    "evidence": (evidence.run, evidence.rows, ("seconds",)),
    "lanes": (lanes.run, lanes.rows, ("seconds", "count")),
    "modes": (modes.run, modes.rows, ("seconds", "count")),
    "vault": (vault.run, _vault, ("count",)),
    "withdrawal": (withdrawal.run, _withdrawal, ("count",)),
    "auditlog": (auditlog.run, auditlog.rows, ("count", "folder")),  # last: it ends where the disk is too small
}

if __name__ == "__main__":
    main()
