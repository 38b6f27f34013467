"""What exactly-once costs: the same worker with and without transactions (`bench.lax`), in turn on one Kafka.

Each round starts a worker of each kind with an empty disk, lets it drain the same number of events, and then sends at
a steady rate. Everything shares the machine's cores.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import tempfile
from pathlib import Path
from typing import Any, Final

from bench import worker as one
from broker.demo.stage import Stage, stage

MODES: Final = {"exactly-once": "broker", "at-least-once": "bench.lax"}
RATIOS: Final = (("rate", "events_per_s"), ("cpu", "cpu_us_per_event"), ("p50", "p50_ms"), ("p99", "p99_ms"))
Rows = list[tuple[str, str]]


def run(rounds: int = 5, seconds: float = 30.0, count: int = 10_000) -> dict[str, Any]:
    """Measure.

    Args:
        seconds: of the steady part of each round. count: events of the backlog.
    """
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as home, stage(Path(home)) as scene:
        found = asyncio.run(_run(scene, rounds, seconds, count))
    ratios = {name: [both["exactly-once"][of] / both["at-least-once"][of] for both in found] for name, of in RATIOS}
    return {
        "rounds": found,
        "ratios": {name: {"median": statistics.median(values), "all": values} for name, values in ratios.items()},
        "load_average": os.getloadavg(),
    }


async def _run(scene: Stage, rounds: int, seconds: float, count: int) -> list[dict[str, dict[str, float]]]:
    await one.enrol_pupils(scene)
    await _stop(scene)
    found = []
    for number in range(rounds):
        order = list(MODES.items())[:: 1 if number % 2 == 0 else -1]
        found.append({mode: await _one(scene, module, seconds, count) for mode, module in order})
    return found


async def _one(scene: Stage, module: str, seconds: float, count: int) -> dict[str, float]:
    await one.send_events(scene, count)
    await asyncio.to_thread(scene.start_worker, len(scene.workers) + 1, module)
    drained = await one.drain(one.Worker(scene), count)
    steady = await one.steady(scene, seconds)
    await _stop(scene)
    return drained | {name: steady[name] for name in ("p50_ms", "p99_ms", "missing", "worker_cpu_share")}


async def _stop(scene: Stage) -> None:
    scene.workers[-1].send_signal(signal.SIGTERM)
    await asyncio.to_thread(scene.workers[-1].wait, 60)


def rows(r: dict[str, Any]) -> Rows:
    """For people."""
    found: Rows = []
    for mode in MODES:
        of_mode = [both[mode] for both in r["rounds"]]

        def median(what: str, of: list[dict[str, float]] = of_mode) -> float:
            return statistics.median(each[what] for each in of)

        rate, cpu = median("events_per_s"), median("cpu_us_per_event")
        found.append((f"{mode}: drain", f"{rate:,.0f}/s, {cpu:.0f} us CPU each"))
        found.append((f"{mode}: due -> received, p50, p99", f"{median('p50_ms'):.0f} ms, {median('p99_ms'):.0f} ms"))
    for what, of in r["ratios"].items():
        spread = ", ".join(f"{value:.2f}" for value in sorted(of["all"]))
        found.append((f"exactly once beside at least once: {what}", f"{of['median']:.2f} ({spread})"))
    return found
