"""The demo's log builder, and the auditor who holds its logs against their signatures."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Final

from broker.app.provision import add_login
from broker.audit import verify
from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.directory import LogDirectory
from broker.audit.log.note import split_note
from broker.auditlog.book import SECRET
from broker.demo.stage import Stage
from broker.errors import BrokerError
from broker.kafka import access
from broker.kafka.admin import Admin
from broker.keys import FileKeys

NAME: Final = "demo.eck-broker.nl/audit"
LOGS: Final = "auditlog"
KEYS: Final = "auditlog-keys"
PATIENCE_S: Final = 60.0


def start(scene: Stage) -> None:
    """Start a log builder as a process of its own, with a login and a key of its own."""
    root = scene.kafka.admin_connection()
    file = scene.home / "connections" / f"{access.LOG_BUILDER}.json"
    add_login(Admin(root), root, access.LOG_BUILDER, file)
    FileKeys(scene.home / KEYS).create_secret(SECRET)
    command = [
        sys.executable, "-m", "broker", "auditlog", "run", "--name", NAME, "--connection", str(file),
        "--keys", str(scene.home / KEYS), "--logs", str(scene.home / LOGS),
    ]  # fmt: skip
    with (scene.home / "log-builder.log").open("ab") as out:
        scene.workers.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out))  # noqa: S603


def checkpoints(home: Path) -> dict[str, Checkpoint]:
    """What is signed, by folder of the log."""
    found = {}
    for folder in sorted((home / LOGS).glob("*-*")):
        note = LogDirectory(folder).checkpoint()
        if note is not None:
            found[folder.name] = Checkpoint.parse(split_note(note)[0])
    return found


def until_signed(home: Path, leaves: int, control: int) -> None:
    """Wait until so many leaves of decisions and of the control log are signed.

    Raises:
        BrokerError: `demo.auditlog`: they are not, in time.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        sizes = {name: checkpoint.size for name, checkpoint in checkpoints(home).items()}
        of_control = sum(size for name, size in sizes.items() if name.startswith("control-"))
        if of_control >= control and sum(sizes.values()) - of_control >= leaves:
            return
        if time.monotonic() > deadline:
            raise BrokerError(
                f"not all of the audit was signed; see {home / 'log-builder.log'}", code="demo.auditlog"
            )  # fmt: skip
        time.sleep(0.05)


def verified(home: Path) -> list[dict[str, Any]]:
    """Have the offline verifier look at each log: what it says, in its own words.

    Raises:
        BrokerError: `demo.auditlog`: one does not hold.
    """
    found = []
    for name, checkpoint in checkpoints(home).items():
        said = io.StringIO()
        with redirect_stdout(said):
            code = verify.main(["log", str(home / LOGS / name)])
        if code:
            raise BrokerError(f"the log {name} does not hold: {said.getvalue()}", code="demo.auditlog")
        found.append({"log": name, "leaves": checkpoint.size, "says": said.getvalue().splitlines()[-1]})
    return found
