"""A log in a folder, as c2sp.org/tlog-tiles lays it out: any web server can show it, any reader can copy it.

A file is whole or not there: it is written beside the log, flushed, and only then gets its name, as a hard link, which
the file system refuses if the name is taken. So nothing that stands here is ever overwritten, whoever writes at the
same time, and a writer that was killed can do its work again from the start. Needs hard links (ext4, xfs, NFS do).
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.note import NoteError, Verifier, split_note
from broker.audit.log.tiles import Edge, check_path, full_path, read_edge
from broker.durable import sync_folder, write_new
from broker.errors import BrokerError, TransientError

CHECKPOINT: Final = "checkpoint"
COSIGNED: Final = "checkpoint.w"  # with cosignatures: of the newest tree that witnesses signed
KEY: Final = "log.vkey"
LEFTOVER_AGE_S: Final = 3600.0
FLUSHERS: Final = 8  # files flushed side by side share a commit of the file system: twice the leaves each second

_TEMPORARY: Final = ".tmp"
_LOCK: Final = ".lock"


class HistoryDiffers(BrokerError):
    """What is to be written contradicts what stands in the log: stop, sign nothing, call the operator."""

    default_code = "log.history"


class LogDirectory:
    """The files of one log.

    Args:
        path: of its folder; made, with its parents, at the first writing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._named: set[Path] = set()  # folders whose own name is on the disk for sure
        self._flushers = ThreadPoolExecutor(FLUSHERS, "log-flusher")  # no thread before the first writing

    def read(self, name: str) -> bytes | None:
        """The bytes at a name of `tiles`; None if there are none.

        Raises:
            TileError: if it is not such a name. A name from outside can not lead out of the log.
        """
        return _read(self.path / check_path(name))

    def write_immutable(self, files: Mapping[str, bytes]) -> None:
        """Write files that never change, and return when they are on the disk.

        A file that is there already with the same bytes is as good as written.

        Raises:
            HistoryDiffers: if a name has other bytes already, or a partial file is not how its full file begins.
            TileError: if a name is not one of `tiles`.
        """
        missing: dict[str, Path] = {}
        folders: set[Path] = set()
        for name, data in files.items():
            path = self.path / check_path(name)
            full = full_path(name)
            whole = None if full is None else _read(self.path / full)
            if whole is not None and not whole.startswith(data):
                raise HistoryDiffers(f"{name} is not how {full} begins, which is in the log already")
            if not self._holds(name, path, data):
                missing[name] = path
            folders.add(path.parent)
        self._link_all({path: (name, files[name]) for name, path in missing.items()})
        # Also where nothing was missing: a writer may have been killed between naming its files and this.
        self._flush(folders)

    def checkpoint(self) -> bytes | None:
        """The note that was published last; None before the first."""
        return _read(self.path / CHECKPOINT)

    def publish(self, note: bytes) -> None:
        """Show a signed checkpoint to readers, when all files of its tree are written.

        The note is not verified: the caller signed it. The same size again (with more signatures) replaces it.

        Raises:
            HistoryDiffers: if another origin, a larger tree or the same size with another root is published.
            NoteError: if it is not a checkpoint in a note.
            TransientError: if another process is publishing at this moment.
        """
        self._publish(CHECKPOINT, _LOCK, note)

    def cosigned(self) -> bytes | None:
        """The note with cosignatures that was published last; None before the first."""
        return _read(self.path / COSIGNED)

    def publish_cosigned(self, note: bytes) -> None:
        """Show a checkpoint with cosignatures, beside the newest one. Errors as `publish`."""
        # A lock of its own: who collects cosignatures must not be in the way of who lets the log grow.
        self._publish(COSIGNED, f"{_LOCK}.w", note)

    def _publish(self, name: str, lock: str, note: bytes) -> None:
        new = Checkpoint.parse(split_note(note)[0])
        self.path.mkdir(parents=True, exist_ok=True)
        with self._alone(lock):
            shown = _read(self.path / name)
            if shown is not None and shown != note:
                _check_follows(Checkpoint.parse(split_note(shown)[0]), new)
            if shown != note:
                temporary = self._temporary()
                try:
                    write_new(temporary, note)
                    temporary.replace(self.path / name)
                finally:
                    temporary.unlink(missing_ok=True)
            self._flush({self.path})

    def show_key(self, *vkeys: str) -> None:
        """Put public keys beside the log, for a first look; who relies on the log has them from elsewhere.

        Those that are there already stay, before the new ones: what a retired key signed is verified with it for ever.
        Lines that are no key of this log go.

        Args:
            vkeys: of this log, newest last.

        Raises:
            TransientError: if another process is writing them at this moment.
        """
        name = Verifier.parse(vkeys[0]).name
        self.path.mkdir(parents=True, exist_ok=True)
        with self._alone(f"{_LOCK}.vkey"):
            there = _read(self.path / KEY) or b""
            known = [line for line in there.decode(errors="replace").splitlines() if _is_key_of(name, line)]
            data = "".join(f"{vkey}\n" for vkey in dict.fromkeys([*known, *vkeys])).encode()
            if there != data:
                temporary = self._temporary()
                write_new(temporary, data)
                temporary.replace(self.path / KEY)
                self._flush({self.path})

    def load_edge(self, size: int) -> Edge:
        """What a `TileBuilder` needs to go on from a size; compare its `root()` with the signed checkpoint first.

        Raises:
            TileError: if a file is missing or damaged.
        """
        return read_edge(self.read, size)

    def remove_superseded(self) -> int:
        """Remove partial files whose full file is there, and what killed writers left an hour ago or earlier.

        Returns:
            How many files went.

        Raises:
            HistoryDiffers: if a partial file is not how its full file begins: that one is evidence, and stays.
        """
        removed = 0
        for folder in sorted(self.path.rglob("*.p")):
            full = _read(folder.with_suffix(""))
            if full is None:
                continue
            for file in sorted(folder.iterdir()):
                if not full.startswith(file.read_bytes()):
                    name = file.relative_to(self.path)
                    raise HistoryDiffers(f"{name} is not how {name.parent.with_suffix('')} begins; both are kept")
                file.unlink()
                removed += 1
            with suppress(OSError):  # a writer may have come back to it
                folder.rmdir()
        for left in (self.path / _TEMPORARY).glob("*"):
            with suppress(FileNotFoundError):  # its writer has just named it
                if left.stat().st_mtime < time.time() - LEFTOVER_AGE_S:
                    left.unlink()
                    removed += 1
        return removed

    def _holds(self, name: str, path: Path, data: bytes) -> bool:
        """Whether the file is there already."""
        there = _read(path)
        if there is not None and there != data:
            raise HistoryDiffers(f"{name} is in the log already, with other bytes")
        return there is not None

    def _link_all(self, files: Mapping[Path, tuple[str, bytes]]) -> None:
        """Write and flush all, side by side; then give each its name."""
        temporaries = {path: self._temporary() for path in files}
        try:
            self._side_by_side([partial(write_new, temporaries[path], data) for path, (_, data) in files.items()])
            for path, (name, data) in files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    path.hardlink_to(temporaries[path])
                except FileExistsError:
                    self._holds(name, path, data)
        finally:
            for temporary in temporaries.values():
                temporary.unlink(missing_ok=True)

    def _side_by_side(self, work: list[Callable[[], None]]) -> None:
        """Do all, wait for all, then raise what one of them raised."""
        done = [self._flushers.submit(each) for each in work]
        wait(done)
        for each in done:
            each.result()

    def _temporary(self) -> Path:
        """A path that no reader knows and no other writer uses."""
        path = self.path / _TEMPORARY / os.urandom(12).hex()
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _flush(self, folders: set[Path]) -> None:
        """Have the names in these folders on the disk, and the folders' own names."""
        todo, named = set(folders), set()
        for folder in folders:
            while folder not in self._named and folder not in named:
                named.add(folder)
                todo.add(folder.parent)
                if folder == self.path:
                    break
                folder = folder.parent
        self._side_by_side([partial(sync_folder, folder) for folder in todo])
        # A folder of partial files is used a few times and may be removed: not worth remembering.
        self._named |= {folder for folder in named if folder.suffix != ".p"}

    @contextmanager
    def _alone(self, lock: str) -> Iterator[None]:
        """No other process between reading the checkpoint and replacing it. Released by the kernel if we die."""
        with (self.path / lock).open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise TransientError("another process is publishing a checkpoint of this log; try again") from None
            yield


def _check_follows(old: Checkpoint, new: Checkpoint) -> None:
    if new.origin != old.origin:
        raise HistoryDiffers(f"this is the log {old.origin}, not {new.origin}; each log needs a folder of its own")
    if new.size < old.size:
        raise HistoryDiffers(f"a tree of {old.size} leaves is published; one of {new.size} would take leaves back")
    if new.size == old.size and new.root != old.root:
        raise HistoryDiffers(f"a tree of {old.size} leaves with another root is published: one of the two is false")


def _is_key_of(name: str, line: str) -> bool:
    try:
        return Verifier.parse(line).name == name
    except NoteError:
        return False


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
