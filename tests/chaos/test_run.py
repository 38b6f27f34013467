"""A minute of faults on a real Kafka: nothing lost, doubled, reordered or without audit. `make chaos` is the long run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 60
LAST = r"lost=0 doubled=0 reordered=0 unaudited=0 faults=(\d+) events=(\d+)"


@pytest.mark.kafka
@pytest.mark.timeout(900)
def test_a_minute_of_faults_loses_doubles_and_reorders_nothing(tmp_path: Path) -> None:
    """The command itself, by whatever seed; its last line says so, and what it read can be judged again."""
    command = [sys.executable, "-m", "chaos", "run", "--seconds", str(SECONDS), "--workers", "2", "--rate", "100"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=840)
    (folder,) = (tmp_path / "build" / "chaos").iterdir()
    shown = f"{done.stdout}\n{done.stderr}\n{(folder / 'faults.log').read_text('utf-8')}"
    assert done.returncode == 0, shown
    last = re.fullmatch(LAST, done.stdout.splitlines()[-1])
    assert last is not None, shown
    assert int(last[1]) >= SECONDS / 20, shown
    assert int(last[2]) >= SECONDS * 50, shown
    again = [sys.executable, "-m", "chaos", "check", str(folder / "history.jsonl.gz")]
    judged = subprocess.run(again, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert re.fullmatch(r"lost=0 doubled=0 reordered=0 unaudited=0 faults=0 events=\d+", judged.stdout.splitlines()[-1])
