"""Many schedules at once: processes of their own, with a fixed hash seed, so that a seed means the same everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def start(*arguments: str) -> subprocess.Popen[str]:
    """Run the simulation's command line in a process of its own."""
    environment = os.environ | {"PYTHONHASHSEED": "0", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def results(processes: Sequence[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    """What each says in its last line, as JSON; their failures are shown."""
    found = []
    for process in processes:
        said, _ = process.communicate()
        assert process.returncode in (0, 1), said
        *failures, last = said.strip().splitlines()
        print("\n".join(failures))
        found.append(json.loads(last))
    return found
