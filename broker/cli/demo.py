"""`broker demo`: a school year on a real Kafka."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.output import err
from broker.errors import ConfigError

PIDS = "kept.json"
STOP_SECONDS = 30.0


def run(
    home: Annotated[Path, typer.Option(help="Folder for everything the demo makes; replaced each time.")] = Path(
        "build/demo"
    ),
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running at the end.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop what --keep left running.")] = False,
) -> None:
    """A school year from class list to audit, on a real and secured Apache Kafka.

    Ends with exit code 0 when each event has its outcome. The facts are in report.json in the home folder.
    """
    home = home.absolute()
    _stop_kept(home)
    if stop:
        return
    _clear(home)
    # Ctrl-C and `kill` both take the stage down in an orderly way.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    err.print("starting Apache Kafka (TLS, logins, access rights) and a worker …")
    try:
        _play(home, keep)
    except KeyboardInterrupt:
        err.print("interrupted; nothing was left running")
        raise typer.Exit(130) from None


def _play(home: Path, keep: bool) -> None:
    from broker.demo import auditlog, questions, report, show
    from broker.demo.stage import stage
    from broker.demo.year import live

    with stage(home, keep=keep) as scene:
        auditlog.start(scene)
        lived = asyncio.run(live(scene, lambda line: err.print(f"… {line}")))
        facts = report.build(lived, scene.registry)
        file = home / "report.json"
        report.write(facts, file)
        show.show(facts, file)
        if keep:
            err.print("starting what boards and parties may ask the audit …")
            questions.start(scene)
            pids = [worker.pid for worker in scene.workers]
            (home / PIDS).write_text(json.dumps({"workers": pids}), "utf-8")
            show.next_steps(home)


def _stop_kept(home: Path) -> None:
    """Stop what an earlier `--keep` left: only processes that are ours, by what they were started with."""
    from broker.kafka.embedded import EmbeddedKafka

    kept = home / PIDS
    if kept.exists():
        pids = [pid for pid in json.loads(kept.read_text("utf-8"))["workers"] if _is_ours(pid, home)]
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while (left := [pid for pid in pids if _is_ours(pid, home)]) and time.monotonic() < deadline:
            time.sleep(0.1)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        kept.unlink()
    if (home / "kafka").exists():
        EmbeddedKafka(home / "kafka").stop()


def _is_ours(pid: int, home: Path) -> bool:
    """Whether the process still runs and was started with this home."""
    try:
        return str(home).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _clear(home: Path) -> None:
    """Begin anew; but never delete a folder that is not the demo's."""
    if not home.exists():
        return
    known = {
        "kafka", "connections", "keys", "operator-keys", "profiles", "report.json", "auditlog", "auditlog-keys",
        "log-builder.log", "audit-ca", "audit.db", "audit-service-keys", "indexer-keys", "audit-service.url",
        "audit-service.log", "indexer.log", PIDS,
    }  # fmt: skip
    unknown = [
        p.name
        for p in home.iterdir()
        if p.name not in known and not p.name.startswith(("state-", "worker-", "audit.db-"))
    ]
    if unknown:
        raise ConfigError(
            f"{home} holds {unknown[0]}, which is not the demo's; give another --home, or remove it", code="demo.home"
        )
    shutil.rmtree(home)
