"""Command line of the simulation; see `schedule`."""

from __future__ import annotations

import sys
import time

from tests.simulation.schedule import Schedule, quiet


def main(arguments: list[str]) -> int:
    """Run one seed or many; the exit code."""
    quiet()
    first = int(arguments[0])
    if len(arguments) == 1:
        outcome = Schedule(first).run()
        print(outcome)
        return 0 if outcome.clean else 1
    last, failed, began = int(arguments[1]), [], time.monotonic()
    faults = decisions = aborted = 0
    for seed in range(first, last):
        outcome = Schedule(seed).run()
        faults, decisions, aborted = faults + outcome.faults, decisions + outcome.decisions, aborted + outcome.aborted
        if not outcome.clean:
            failed.append(seed)
            print(outcome, flush=True)
    seconds = time.monotonic() - began
    print(
        f"schedules={last - first} failed={len(failed)} faults={faults} decisions={decisions} aborted={aborted} "
        f"seconds={seconds:.0f} seeds={failed[:20]}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
