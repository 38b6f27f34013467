"""What a witness knows of each log: the checkpoint that it cosigned last, with the signatures, one file for each.

    <state>/<SHA-256 of the origin, hex>       the note: text, the log's signatures, the witness's own
    <state>/<the same>.new                     being written; worth nothing until it gets its name
    <state>/fork-..., unproven-...             evidence: see `server`
    <state>/.lock                              held while a witness runs

A file is flushed, renamed, and its name flushed, before `replace` returns: only then may a cosignature leave the house.
Killed anywhere in between, the witness knows the old checkpoint or the new one, and gave out no more than the old.
**Never put an older copy of this folder back**: the witness would cosign a second history from there.
"""

from __future__ import annotations

import fcntl
import os
from hashlib import sha256
from pathlib import Path
from threading import Lock

from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.note import NoteError, split_note
from broker.durable import sync_folder, write_over
from broker.errors import BrokerError, ConfigError


class StateDamaged(BrokerError):
    """The state can not be relied on: nothing is cosigned until a person has looked."""

    default_code = "witness.state"


def origin_hash(origin: str) -> str:
    """How a log is called in addresses and file names (tlog-witness, "Monitor Retrieval Mechanism")."""
    return sha256(origin.encode()).hexdigest()


class State:
    """The files of one witness. Safe for threads; no two processes can have it open.

    Args:
        folder: made if it is not there.

    Raises:
        ConfigError: `witness.state`: another process has it, or it can not be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._one = Lock()
        self._unsure = False
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"The folder {folder} can not be used: {error.strerror}.", code="witness.state"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise ConfigError(
                f"Another witness runs on {folder}. Two on one state could cosign two histories; end one of them.",
                code="witness.state",
            ) from None

    def close(self) -> None:
        """Let another process have it."""
        os.close(self._lock)

    def get(self, origin: str) -> bytes | None:
        """The note that was cosigned last; None if none ever was.

        Raises:
            StateDamaged: the file is not a checkpoint of this log. It is never taken for "none".
        """
        with self._one:
            return self._read(origin)

    def replace(self, origin: str, known: bytes | None, note: bytes) -> bool:
        """Remember another note, if the one remembered is still `known`; return when it is on the disk.

        Returns:
            False if another request was first; nothing is changed then.

        Raises:
            StateDamaged: see `get`; or an earlier writing ended in the middle.
            OSError: it could not be written.
        """
        with self._one:
            if self._read(origin) != known:
                return False
            file = self.folder / origin_hash(origin)
            new = file.with_suffix(".new")
            write_over(new, note)
            # After a rename whose flush failed, nobody can say what a restart would find: Linux tells of such a
            # failure once. Whoever reads the state then must not build on it.
            self._unsure = True
            os.replace(new, file)  # noqa: PTH105 -- with os.open and os.fsync these are all steps; tests fail each
            sync_folder(self.folder)
            self._unsure = False
            return True

    def keep(self, name: str, data: bytes) -> None:
        """Put evidence beside the state, whole or not at all.

        Raises:
            OSError: it could not be written.
        """
        with self._one:
            new = self.folder / f"{name}.new"
            write_over(new, data)
            new.replace(self.folder / name)
            sync_folder(self.folder)

    def _read(self, origin: str) -> bytes | None:
        if self._unsure:
            raise StateDamaged(
                f"A file in {self.folder} got its name, but the disk did not confirm it. Check the disk, then start "
                f"the witness again."
            )
        try:
            data = (self.folder / origin_hash(origin)).read_bytes()
        except FileNotFoundError:
            return None
        try:
            whole = Checkpoint.parse(split_note(data)[0]).origin == origin
        except NoteError:
            whole = False
        if not whole:
            raise StateDamaged(
                f"{self.folder / origin_hash(origin)} is not a checkpoint of {origin}. Nothing is cosigned for this "
                f"log. Make a new witness with a new key, unless you know the last state for sure."
            )
        return data
