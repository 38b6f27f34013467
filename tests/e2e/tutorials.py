"""Runs a tutorial as it stands: every command, and the result that it states."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
ENDS_WITHIN_SECONDS = 30.0
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Step(NamedTuple):
    """A command of the tutorial, or a program, and what it is to print; `…` stands for anything."""

    line: int
    command: str
    program: bool
    shown: str


def steps(tutorial: str) -> list[Step]:
    """All of one, in order."""
    return list(_steps((ROOT / "docs" / tutorial).read_text("utf-8")))


def _steps(text: str) -> Iterator[Step]:
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start()) + 1
        if block[1] == "python":
            yield Step(line, block[2], True, _promised(text[block.end() :]))
            continue
        for part in re.split(r"^\$ ", block[2], flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            yield Step(line, command, False, shown)


def _promised(after: str) -> str:
    """What the text behind a program says that it prints."""
    found = re.match(r"\s*It prints `([^`]*)`", after)
    assert found, "a program without a stated result"
    return found[1] + "\n"


def pattern(shown: str) -> re.Pattern[str]:
    """The stated output as a pattern: a line `…` is any number of lines, within a line it is any text.

    A tab in the output may stand as spaces in the tutorial after `…`, where columns begin.
    """
    lines = []
    for line in shown.splitlines():
        if line == "…":
            lines.append(r"(?:.*\n)*?")
        else:
            lines.append(re.escape(line).replace("…\\ ", r".*?[ \t]").replace("…", ".*?") + r"\n")
    return re.compile("".join(lines))


def play(tutorial: str, folder: Path) -> None:
    """A folder with the examples, the command on the path, and then step by step.

    Args:
        folder: empty; it is played there.
    """
    (folder / "examples").symlink_to(ROOT / "examples")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    groups: list[int] = []
    try:
        for step in steps(tutorial):
            if step.command.startswith("export "):
                name, _, value = step.command.removeprefix("export ").partition("=")
                environment[name] = _run(f"printf %s {value.rstrip()}", folder, environment, groups).stdout
                continue
            done = _run(step.command, folder, environment, groups, program=step.program)
            where = f"docs/{tutorial}, block at line {step.line}: {step.command.splitlines()[0]}"
            assert done.returncode == 0, f"{where}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
            assert pattern(step.shown).fullmatch(done.stdout), f"{where}\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}"
    finally:
        _end(groups)
        homes = [found.parent for found in (folder / "build").rglob("kafka.json")]
        for stop in (["demo", "--stop"], *(["kafka", "stop", "--home", str(home)] for home in homes)):
            command = [sys.executable, "-m", "broker", *stop]
            subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True)


def _run(
    command: str, folder: Path, environment: dict[str, str], groups: list[int], *, program: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run it in a process group of its own, which is remembered: what it leaves in the background belongs to that."""
    shell = [sys.executable, "-c", command] if program else ["bash", "-c", command]
    with subprocess.Popen(
        shell, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        groups.append(process.pid)
        out, said = process.communicate()
    if not _lives(process.pid):
        groups.remove(process.pid)
    return subprocess.CompletedProcess(shell, process.returncode, out, said)


def _end(groups: list[int]) -> None:
    """End what a failed step left in the background; of a tutorial that came to its end there is nothing."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        for group in filter(_lives, groups):
            os.killpg(group, sent)
        deadline = time.monotonic() + ENDS_WITHIN_SECONDS
        while any(map(_lives, groups)) and time.monotonic() < deadline:
            time.sleep(0.1)


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
