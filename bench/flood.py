"""What the others notice of a flood: one party writes junk as fast as Kafka lets it, another sends at a steady rate.

In rounds on one installation: quiet, and a flood under the flooder's own quota; at the end a flood without any.
Compared is the time from when an event is due at its sender until its receiver has it (`bench.worker`). The flooder is
a process of its own; everything shares the machine's cores, so what a flood costs here holds the worker's decisions
over it too.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench import worker as one
from broker.demo.stage import Stage, stage
from broker.kafka.admin import Admin
from broker.kafka.embedded import EmbeddedKafka
from broker.kafka.quota_requests import alter_quotas, describe_quotas
from broker.kafka.quotas import IN, REQUESTS, Difference, of_user

FLOODER: Final = "uitgeverij-west"
RATE_PER_S: Final = 20
NO_LIMIT: Final = {IN: 10**12, REQUESTS: 10**6}
PATIENCE_S: Final = 180.0
Rows = list[tuple[str, str]]


def run(rounds: int = 3, seconds: float = 30.0) -> dict[str, Any]:
    """Measure.

    Args:
        seconds: of each part of a round.
    """
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as home:
        # With the first compiler alone Kafka's own TLS takes a hundred milliseconds for each megabyte of the flood.
        kafka = EmbeddedKafka(Path(home) / "kafka", both_compilers=True)
        with stage(Path(home), kafka=kafka) as scene:
            asyncio.run(one.enrol_pupils(scene))
            found = [_round(scene, seconds) for _ in range(rounds)]
            free = _without_quota(scene, seconds)
    ratios = {
        f"with_quota_{of}": [part["with_quota"][f"{of}_ms"] / part["quiet"][f"{of}_ms"] for part in found]
        for of in ("p50", "p99")
    }
    for of in ("p50", "p99"):
        ratios[f"without_quota_{of}"] = [free[f"{of}_ms"] / found[-1]["quiet"][f"{of}_ms"]]
    return {
        "rounds": found,
        "without_quota": free,
        "ratios": {name: {"median": statistics.median(values), "all": values} for name, values in ratios.items()},
        "load_average": os.getloadavg(),
    }


def _round(scene: Stage, seconds: float) -> dict[str, Any]:
    quiet = _measured(scene, seconds)
    with _flood(scene) as told:
        limited = _measured(scene, seconds)
    limited["flood"] = told()
    _settle(scene)
    return {"quiet": quiet, "with_quota": limited}


def _without_quota(scene: Stage, seconds: float) -> dict[str, Any]:
    """Once, and last: what it leaves would take the worker minutes."""
    with _unlimited(scene), _flood(scene) as told:
        free = _measured(scene, seconds)
    free["flood"] = told()
    return free


def _measured(scene: Stage, seconds: float) -> dict[str, Any]:
    steady = asyncio.run(one.steady(scene, seconds, RATE_PER_S))
    return {name: steady[name] for name in ("p50_ms", "p99_ms", "most_ms", "missing", "cpu_wait", "worker_cpu_share")}


@contextmanager
def _flood(scene: Stage) -> Iterator[Any]:
    """A flood as long as the block lasts; gives what the flooder says afterwards (`bench.flooder`)."""
    folder = scene.home / "profiles" / FLOODER / "connection.json"
    command = [sys.executable, "-m", "bench.flooder", str(folder), f"in.{FLOODER}"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own
    said: dict[str, float] = {}
    try:
        yield lambda: said
    finally:
        answer, _ = process.communicate("stop\n", timeout=PATIENCE_S)  # its input ends: it stops
        said.update(json.loads(answer))


@contextmanager
def _unlimited(scene: Stage) -> Iterator[None]:
    connection = scene.kafka.admin_connection()
    given = describe_quotas(connection)[of_user(FLOODER)]
    _set(scene, given, {**given, **NO_LIMIT})
    try:
        yield
    finally:
        _set(scene, {**given, **NO_LIMIT}, given)


def _set(scene: Stage, before: Mapping[str, float], after: Mapping[str, float]) -> None:
    connection, entity = scene.kafka.admin_connection(), of_user(FLOODER)
    wanted = {name: int(value) for name, value in after.items()}
    alter_quotas(connection, [Difference(entity, before, wanted)])
    Admin(connection)._wait(lambda: describe_quotas(connection)[entity] == wanted, "the quota to be set")


def _settle(scene: Stage) -> None:
    """Until the worker has decided over what the flood left, so that the next part begins as the first did."""
    worker = one.Worker(scene)
    deadline, before = time.monotonic() + PATIENCE_S, -1
    while (now := worker.look().records) != before:
        if time.monotonic() > deadline:
            raise TimeoutError("the worker does not come to the end of what the flood left")
        before = now
        time.sleep(3)


def rows(r: dict[str, Any]) -> Rows:
    """For people."""
    found: Rows = []
    parts = {part: [each[part] for each in r["rounds"]] for part in ("quiet", "with_quota")}
    parts["without_quota"] = [r["without_quota"]]
    for part, measured in parts.items():
        p50, p99 = (statistics.median(each[f"{of}_ms"] for each in measured) for of in ("p50", "p99"))
        found.append((f"{part.replace('_', ' ')}: due -> received, p50, p99", f"{p50:.0f} ms, {p99:.0f} ms"))
        if part != "quiet":
            rate = statistics.median(each["flood"]["bytes"] / each["flood"]["seconds"] for each in measured)
            found.append(("  the flood got in", f"{rate / 1e6:.2f} MB/s"))
    for what, of in r["ratios"].items():
        spread = ", ".join(f"{value:.2f}" for value in sorted(of["all"]))
        found.append((f"flood beside quiet: {what.replace('_', ' ')}", f"{of['median']:.2f} ({spread})"))
    found.append(("missing", f"{sum(each['missing'] for measured in parts.values() for each in measured)}"))
    return found
