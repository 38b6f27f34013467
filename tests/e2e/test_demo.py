"""`broker demo`: interrupted it leaves nothing behind, and it runs again in the same folder."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_package import processes_of

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]


def _listen_to_ctrl_c() -> None:
    """A run in the background of a shell ignores SIGINT, and so would what it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupted_demo_leaves_no_process_and_the_next_one_is_whole(tmp_path: Path) -> None:
    """Ctrl-C in the middle of the day; then a full run, plain, since there is no terminal."""
    home = tmp_path / "demo"
    command = [sys.executable, "-m", "broker", "demo", "--home", str(home)]
    running = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=_listen_to_ctrl_c
    )
    assert running.stderr is not None
    for line in running.stderr:
        if "publisher sends" in line:
            break
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    assert processes_of(home) == []

    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert processes_of(home) == []
    assert "\x1b[" not in done.stdout, "no colours where there is no terminal"
    facts = json.loads((home / "report.json").read_text("utf-8"))
    for party, told in facts["parties"].items():
        assert sum(told["received"].values()) > 100
        assert told["sample"]["body"]
        assert party in done.stdout
    assert facts["class_lists"]["99PA"]["pgn_dropped"] == 3
    assert facts["audit"]["by_decision"]["delivered"] == sum(
        count for outcome in facts["outcomes"].values() for code, count in outcome.items() if code.startswith("ok")
    ), "one leaf for each delivery"
