"""A thousand lanes on one worker: how soon it has them, what they cost in memory and connections, and at rest.

A hundred publishers with ten input partitions each, beside the example's parties. A worker takes all of them over; one
of the example's publishers sends; then the worker is left alone for a while. Another one comes, the first is told to
stop, and all lanes change hands.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]

from bench.worker import Worker, enrol_pupils, send_events
from broker.demo.stage import Stage, example_document, set_up
from broker.kafka.embedded import EmbeddedKafka
from broker.registry.models import RegistryDocument

MODEL: Final = "uitgeverij-delta"
PER_PARTY: Final = 10
READY_S: Final = 600.0
BROKER_HEAP_MB: Final = (
    2048  # the embedded Kafka's 256 MiB are for a handful of parties: thousands of connections fill them
)
EVENTS: Final = 2_000

Rows = list[tuple[str, str]]


def run(seconds: float = 60.0, count: int = 1_000) -> dict[str, Any]:
    """Measure.

    Args:
        seconds: of rest. count: lanes of the further parties.
    """
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as home:
        kafka = EmbeddedKafka(Path(home) / "kafka", heap_mb=BROKER_HEAP_MB)
        kafka.start()
        scene: Stage | None = None
        try:
            scene = asyncio.run(set_up(Path(home), kafka, _with_parties(example_document(), count // PER_PARTY)))
            _more_partitions(scene, count // PER_PARTY)
            return _measure(scene, seconds)
        finally:
            kafka.stop() if scene is None else scene.stop()


def _party(number: int) -> str:
    return f"uitgeverij-{number:04}"


def _with_parties(document: RegistryDocument, count: int) -> RegistryDocument:
    model = next(party for party in document.parties if party.id == MODEL)
    more = (
        model.model_copy(update={"id": _party(number), "name": f"Uitgeverij {number}", "oin": None})
        for number in range(count)
    )
    return document.model_copy(update={"parties": (*document.parties, *more)})


def _more_partitions(scene: Stage, parties: int) -> None:
    admin = AdminClient({**scene.kafka.admin_connection().confluent(), "log_level": 0})
    wanted = [NewPartitions(f"in.{_party(number)}", PER_PARTY) for number in range(parties)]
    for future in admin.create_partitions(wanted).values():
        future.result()


def _measure(scene: Stage, seconds: float) -> dict[str, Any]:
    before = _Process(scene.kafka.status().pids[1])
    broker = {"rss_mib_before": before.rss_mib}
    first, told = _started(scene, 1)
    worker = Worker(scene)
    began = time.monotonic()
    asyncio.run(enrol_pupils(scene))
    asyncio.run(send_events(scene, EVENTS))
    while worker.look().records < EVENTS:
        time.sleep(0.1)
    decided_s = time.monotonic() - began
    rest = _rest((first, before), seconds)
    state = {"rss_mib": first.rss_mib, "sockets": first.sockets, "threads": first.threads}
    broker |= {"rss_mib": before.rss_mib, "sockets": before.sockets}
    moved = time.monotonic()
    scene.start_worker(2, patience_s=READY_S)  # returns when it serves; half of the lanes are its own then
    halved_s = time.monotonic() - moved
    scene.workers[0].send_signal(signal.SIGTERM)
    moved = time.monotonic()
    scene.workers[0].wait(60)
    stopped_s = time.monotonic() - moved
    taken_s = _all_taken(scene.home / "worker-2.log", told["lanes"], moved)
    return {
        "lanes": told["lanes"], "first": told, "events_s": decided_s, "worker": state, "broker": broker, "rest": rest,
        "halved_s": halved_s, "stopped_s": stopped_s, "handed_over_s": taken_s, "load_average": os.getloadavg(),
    }  # fmt: skip


def _started(scene: Stage, number: int) -> tuple[_Process, dict[str, Any]]:
    """A worker that is alone, and what its log tells of how it came to its lanes."""
    worker = scene.start_worker(number, patience_s=READY_S)
    lines = _lines(scene.home / f"worker-{number}.log")
    at = {name: [_at(line) for line in lines if line["event"] == name] for name in ("views.loaded", "lane.took_over")}
    ready = next(line for line in lines if line["event"] == "worker.ready")
    took = at["lane.took_over"]
    joined = at["views.loaded"][0]
    return _Process(worker.pid), {
        "lanes": ready["lanes"], "failed": sum(line["event"] == "lane.failed" for line in lines),
        "p50_s": statistics.median(took) - joined, "last_s": max(took) - joined,
    }  # fmt: skip


def _all_taken(log: Path, lanes: int, since: float) -> float:
    """Until the one that stays has them all."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        told = {line["lane"] for line in _lines(log) if line["event"] == "lane.took_over"}
        if len(told) >= lanes:
            return time.monotonic() - since
        time.sleep(0.2)
    raise TimeoutError(f"{len(told)} of {lanes} lanes were taken over")


def _lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text("utf-8").splitlines() if line.startswith("{")]


def _at(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()


def _rest(processes: tuple[_Process, _Process], seconds: float) -> dict[str, float]:
    time.sleep(10.0)  # what was begun before comes to its end
    before = [process.cpu_s for process in processes]
    time.sleep(seconds)
    used = [(process.cpu_s - cpu) / seconds for process, cpu in zip(processes, before, strict=True)]
    return {"seconds": seconds, "worker_cpu_share": used[0], "broker_cpu_share": used[1]}


class _Process:
    """Seen from outside."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")

    @property
    def cpu_s(self) -> float:
        """Of its life."""
        fields = (self._folder / "stat").read_text("utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def rss_mib(self) -> float:
        """Memory."""
        pages = int((self._folder / "statm").read_text("utf-8").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    @property
    def threads(self) -> int:
        """How many."""
        return len(list((self._folder / "task").iterdir()))

    @property
    def sockets(self) -> int:
        """Open ones."""
        found = 0
        for descriptor in (self._folder / "fd").iterdir():
            try:
                found += str(descriptor.readlink()).startswith("socket:")
            except OSError:
                continue  # closed meanwhile
        return found


def rows(r: dict[str, Any]) -> Rows:
    """For people."""
    first, rest, worker, broker = r["first"], r["rest"], r["worker"], r["broker"]
    return [
        ("lanes", f"{r['lanes']:,}"),
        ("joined -> all taken over; half of them", f"{first['last_s']:.1f} s; {first['p50_s']:.1f} s"),
        ("take-overs that failed and were tried again", f"{first['failed']}"),
        ("worker: memory, sockets, threads", f"{worker['rss_mib']:.0f} MiB, {worker['sockets']}, {worker['threads']}"),
        ("  a lane", f"{worker['rss_mib'] / r['lanes'] * 1024:.0f} KiB, {worker['sockets'] / r['lanes']:.1f} sockets"),
        ("broker: memory before, after", f"{broker['rss_mib_before']:.0f}, {broker['rss_mib']:.0f} MiB"),
        ("broker: sockets", f"{broker['sockets']}"),
        ("at rest: worker, broker", f"{rest['worker_cpu_share']:.1%}, {rest['broker_cpu_share']:.1%} of a core"),
        ("second worker: started -> serves", f"{r['halved_s']:.1f} s"),
        ("first told to stop -> ended; -> the other has all", f"{r['stopped_s']:.1f} s; {r['handed_over_s']:.1f} s"),
    ]
