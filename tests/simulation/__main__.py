"""Command line of the simulation.

    python -m tests.simulation one 4711          a seed: what happened, and the fewest faults that still show it
    python -m tests.simulation many 0 10000      the last line is JSON: how many, and the seeds that failed
    python -m tests.simulation trace 7           a seed's course in numbers, to see whether it repeats
    python -m tests.simulation mutants 0 3       every third seeded bug, and the seed that caught it

Set PYTHONHASHSEED=0: the order in a set is part of a schedule.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from typing import Any

import pytest

from tests.simulation.mutants import MUTANTS
from tests.simulation.schedule import Outcome, Schedule, quiet

MOST_SEEDS = 1_000  # that a seeded bug may need until it shows


def one(seed: int) -> dict[str, Any]:
    """A seed, and if it fails the smallest selection of its faults that still does."""
    outcome = Schedule(seed).run()
    print(outcome)
    if not outcome.clean:
        print(f"\nThe fewest faults that show it:\n{least(outcome)}")
    return {"seed": seed, "failed": int(not outcome.clean)}


def least(outcome: Outcome) -> Outcome:
    """The same schedule with as few of its faults as possible, taken away one by one."""
    kept = list(range(outcome.faults))
    for number in range(outcome.faults):
        fewer = [n for n in kept if n != number]
        again = Schedule(outcome.seed, only=frozenset(fewer)).run()
        if not again.clean:
            kept, outcome = fewer, again
    return outcome


def many(first: int, last: int) -> dict[str, Any]:
    """All seeds of a range."""
    failed, began, kinds = [], time.monotonic(), Counter[str]()
    sums = {"faults": 0, "decisions": 0, "aborted": 0}
    for seed in range(first, last):
        outcome = Schedule(seed).run()
        for name in sums:
            sums[name] += getattr(outcome, name)
        kinds.update(outcome.kinds)
        if not outcome.clean:
            failed.append(seed)
            print(outcome, flush=True)
    seconds = round(time.monotonic() - began)
    return {"schedules": last - first, "failed": failed, "seconds": seconds, "kinds": kinds, **sums}


def trace(seed: int) -> dict[str, Any]:
    """What a schedule came to, in numbers that any difference would change."""
    schedule = Schedule(seed)
    outcome = schedule.run()
    logs = {f"{place.topic}/{place.partition}": log.end for place, log in schedule.cluster.logs.items()}
    return {"log": outcome.log, "turns": schedule.loop.turns, "ends": logs, "seconds": outcome.seconds}


def mutants(first: int, step: int) -> dict[str, Any]:
    """For each seeded bug the first seed that catches it (None: none did), and what its own code failed of."""
    caught: dict[str, int | None] = {}
    mistakes: dict[str, list[str]] = {}
    for mutant in MUTANTS[first::step]:
        with pytest.MonkeyPatch.context() as patch:
            mutant.plant(patch)
            outcomes = (Schedule(seed, mutant.faults, most=6).run() for seed in range(MOST_SEEDS))
            found = next((outcome for outcome in outcomes if not outcome.clean), None)
            caught[mutant.name] = None if found is None else found.seed
            mistakes.update({mutant.name: sorted(found.mistakes)} if found is not None and found.mistakes else {})
    return {"caught": caught, "mistakes": mistakes}


def main(arguments: list[str]) -> int:
    """Run a command; the exit code is 1 if a schedule failed."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        print("Set PYTHONHASHSEED=0: the order in a set is part of a schedule.", file=sys.stderr)
        return 2
    quiet()
    command, *numbers = arguments
    result = {"one": one, "many": many, "mutants": mutants, "trace": trace}[command](*map(int, numbers))
    print(json.dumps(result))
    return 1 if result.get("failed") else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
