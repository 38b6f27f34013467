"""Processes of the embedded Kafka: start, recognise, end.

A process id alone proves nothing, since numbers are used again: a process is ours when its command
line names our home folder.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from broker.errors import ConfigError

PR_SET_PDEATHSIG: Final = 1
POLL_S: Final = 0.05

_left_running: list[subprocess.Popen[bytes]] = []


def spawn(command: Sequence[str], output: Path, *, detached: bool) -> subprocess.Popen[bytes]:
    """Starts a process with its own session: a Ctrl-C in the terminal is for us, not for it.

    Unless detached it dies with this process, also when this one is killed (Linux). The kernel ties that
    to the starting *thread*, so it is only asked for from the main one; elsewhere `stop` must be called.
    """
    # A new file each time: the tail that an error shows must not be that of an earlier run.
    with output.open("wb") as out:
        return subprocess.Popen(  # noqa: S603 - the command is ours
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            preexec_fn=None if detached else _die_with_parent(),
        )


def _die_with_parent() -> Callable[[], None] | None:
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up here: after the fork as little as possible

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    return ask


def let_go(process: subprocess.Popen[bytes]) -> None:
    """Leaves a detached process running; it is kept in a list, else `Popen` warns of one left behind."""
    _left_running.append(process)


def reap() -> None:
    """Takes note of detached children of ours that have ended, so that they do not stay as zombies."""
    _left_running[:] = [process for process in _left_running if process.poll() is None]


def recorded(pid_file: Path) -> int | None:
    """The process id in the file, if that process lives and is ours."""
    try:
        pid = int(pid_file.read_text())
    except (OSError, ValueError):
        return None
    # The broker's own number counts too: another broker of this home may have got the process id since.
    return pid if is_ours(pid, pid_file.parent, f"{pid_file.stem}.args") else None


def is_ours(pid: int, home: Path, arguments: str = "broker-") -> bool:
    """Whether the process lives and its command line names the home folder's arguments of a broker."""
    reap()
    return f"@{home}/{arguments}" in _command_line(pid)


def _command_line(pid: int) -> str:
    if pid <= 0:
        return ""
    if Path("/proc/self").exists():
        try:  # empty for a zombie: that one is dead
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    listing = subprocess.run(  # noqa: S603
        ["ps", "-o", "command=", "-p", str(pid)],  # noqa: S607 - macOS, and wherever there is no /proc
        capture_output=True,
        text=True,
        check=False,
    )
    return listing.stdout


def send(pid: int, home: Path, number: signal.Signals) -> bool:
    """Sends a signal to a process of ours; false when it is gone."""
    if not is_ours(pid, home):
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def end(pids: Iterable[int], home: Path, *, kill: bool, timeout_s: float) -> None:
    """Ends processes of ours: SIGTERM, and SIGKILL for those that are still there after the time-out."""
    left = [pid for pid in pids if is_ours(pid, home)]
    for number in [signal.SIGKILL] if kill else [signal.SIGTERM, signal.SIGKILL]:
        for pid in left:
            send(pid, home, number)
            send(pid, home, signal.SIGCONT)  # a frozen one can not end
        deadline = time.monotonic() + timeout_s
        while left and time.monotonic() < deadline:
            time.sleep(POLL_S)
            left = [pid for pid in left if is_ours(pid, home)]
        if not left:
            return
    raise ConfigError(
        f"Process {left[0]} does not end, not even by SIGKILL: it waits for the disk or for a debugger.",
        code="kafka.stuck",
    )
