"""Command line of the hostile run.

python -m chaos run --seconds 600 --brokers 1 --workers 3 --seed 4711
python -m chaos outages --times 5 --brokers 3
python -m chaos check build/chaos/.../history.jsonl.gz
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

from broker.kafka import artifacts
from chaos import journal
from chaos.checker import check
from chaos.outages import Measure, measure
from chaos.run import Plan, last_line, new_seed, run

BUILD = Path("build") / "chaos"


def main(arguments: list[str]) -> int:
    """Run, or judge a history again; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description="Nothing lost, doubled or out of order?")
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="faults on a real Kafka, and what came of it")
    runs.add_argument("--seconds", type=float, default=600.0, help="of the storm")
    runs.add_argument("--brokers", type=int, choices=(1, 3), default=1)
    runs.add_argument("--workers", type=int, default=3)
    runs.add_argument("--rate", type=float, default=200.0, help="events of publishers in a second")
    runs.add_argument("--kafka", choices=artifacts.versions(), default=None, help="version; by default the tested one")
    runs.add_argument("--seed", type=int, default=None, help="of the faults; by default any")
    outages = commands.add_parser("outages", help="how long nothing is delivered after a fault")
    outages.add_argument("--times", type=int, default=5, help="how often each fault")
    outages.add_argument("--brokers", type=int, choices=(1, 3), default=1)
    outages.add_argument("--workers", type=int, default=3)
    outages.add_argument("--only", action="append", default=[], help="this fault alone; can be given again")
    checks = commands.add_parser("check", help="judge a history that a run left")
    checks.add_argument("file", type=Path)
    given = parser.parse_args(arguments)
    if given.command == "check":
        return _check(given.file)
    return _outages(given) if given.command == "outages" else _run(given)


def _outages(given: argparse.Namespace) -> int:
    folder = BUILD / time.strftime("outages-%Y%m%d-%H%M%S", time.gmtime())
    folder.mkdir(parents=True)
    _log_clients(folder / "clients.log")
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as work:
        plan = Measure(
            given.times, folder, Path(work), given.brokers, given.workers, kinds=tuple(given.only)
        )  # fmt: skip
        print(measure(plan))
    return 0


def _run(given: argparse.Namespace) -> int:
    seed = new_seed() if given.seed is None else given.seed
    folder = BUILD / time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    folder.mkdir(parents=True)
    _log_clients(folder / "clients.log")
    print(f"seed {seed}; faults, logs and history: {folder}", flush=True)
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as work:
        plan = Plan(given.seconds, seed, folder, Path(work), given.brokers, given.workers, given.rate, given.kafka)
        result = run(plan)
    print(result)
    return 0 if result.clean else 1


def _log_clients(file: Path) -> None:
    """What the clients of senders and receivers say while Kafka is away goes into a file."""
    clients = logging.getLogger("aiokafka")
    clients.addHandler(logging.FileHandler(file, encoding="utf-8"))
    clients.propagate = False
    logging.getLogger("asyncio").addHandler(logging.FileHandler(file, encoding="utf-8"))
    logging.getLogger("asyncio").propagate = False


def _check(file: Path) -> int:
    history = journal.load(file)
    verdict = check(history)
    print(verdict)
    print(last_line(verdict, 0, len(history.inputs)))
    return 0 if verdict.clean else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
