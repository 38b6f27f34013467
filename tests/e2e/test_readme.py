"""The README's twenty lines, run as they stand."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from broker.client import Event, Identity, pupil
from broker.demo import story
from broker.demo.stage import Stage
from tests.e2e.watch import outcomes, send

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]
README = (Path(__file__).parent.parent.parent / "README.md").read_text("utf-8")


def blocks() -> list[str]:
    """The Python blocks of the README: to send, to receive."""
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


async def test_what_the_readme_sends_the_readme_receives(scene: Stage) -> None:
    """Both programs run in a folder with profiles; the portal prints the kind, the ECK iD and the body."""
    eck_id = "https://ketenid.nl/pilot/" + "0d" * 64
    enrol = Event(
        kind="ENROL",
        school=story.PO_SCHOOL,
        sector="PO",
        subject=pupil(eck_id=eck_id, las_key="L0001"),
        body=Identity(),
    )
    await outcomes(scene, story.SIS, await send(scene, story.SIS, [enrol]))
    sending, receiving = blocks()
    done = subprocess.run([sys.executable, "-c", sending], cwd=scene.home, capture_output=True, text=True, check=True)
    assert "in.uitgeverij-delta" in done.stdout
    receiver = subprocess.Popen(
        [sys.executable, "-u", "-c", receiving], cwd=scene.home, stdout=subprocess.PIPE, text=True
    )
    try:
        assert receiver.stdout is not None
        line = receiver.stdout.readline()
    finally:
        receiver.send_signal(signal.SIGKILL)
        receiver.communicate()
    assert line.startswith(f"ACTIVATION {eck_id} Usage(")


def test_the_examples_are_about_ten_lines_each() -> None:
    """A promise of the README: twenty lines in all, blank ones and imports not counted."""
    for block in blocks():
        code = [line for line in block.splitlines() if line.strip() and not line.startswith(("import", "from"))]
        assert len(code) <= 10
