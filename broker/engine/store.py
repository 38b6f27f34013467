"""The vault's copy on this machine's disk: one LMDB file with the records and how far they go.

Records and Kafka offsets change in the same LMDB transaction, so what is found after a kill -9 is a true state of
some moment. The values are encrypted already; the file is readable by its owner only.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import lmdb
import structlog

from broker.errors import ConfigError, TransientError

log = structlog.get_logger()

FORMAT: Final = 1
FIRST_MAP_BYTES: Final = 64 << 20  # address space, not disk: doubled whenever it is full
MAX_KEY_BYTES: Final = 511  # LMDB's own limit
META: Final = b"head"


class StoreFull(Exception):
    """The map is too small for this change; nothing was written."""


@dataclass(frozen=True, slots=True)
class _Head:
    """What the file is a copy of, how far, and when that was last known to be current (seconds since 1970)."""

    identity: str
    offsets: Mapping[int, int]
    confirmed: float


class StoreReader:
    """One read transaction: stands still while it lasts. Ends with the `with` block it came from."""

    __slots__ = ("_txn",)

    def __init__(self, txn: lmdb.Transaction) -> None:
        self._txn = txn

    def get(self, key: bytes) -> bytes | None:
        """The record's bytes, or None."""
        if not 0 < len(key) <= MAX_KEY_BYTES:
            return None
        try:
            found = self._txn.get(key)
        except lmdb.Error as error:  # of the disk, not of the event that asked
            raise TransientError("The vault's copy on disk can not be read.", code="vault.read") from error
        return None if found is None else bytes(found)


class Store:
    """An LMDB folder that one process owns.

    Args:
        folder: made when missing, mode 0700.
        identity: of the topic this is a copy of; a file of another one is thrown away.
        max_absence_s: a copy that was not current for longer is thrown away too: the topic's deletions may have
            been compacted away meanwhile, and who was deleted would live on here.

    Raises:
        ConfigError: another process uses the folder.
    """

    def __init__(self, folder: Path, identity: str, *, max_absence_s: float, map_bytes: int = FIRST_MAP_BYTES) -> None:
        self.folder, self.identity, self._map_bytes = folder, identity, map_bytes
        self._head = _decode(None)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _locked(folder)
        try:
            self._open(max_absence_s)
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def offsets(self) -> Mapping[int, int]:
        """The next offset of each partition; empty for a new copy."""
        return self._head.offsets

    def __len__(self) -> int:
        with self._env.begin(db=self._records) as txn:
            return int(txn.stat()["entries"])

    @contextmanager
    def reading(self) -> Iterator[StoreReader]:
        """A read transaction. Nothing may be awaited inside: `grow` must not meet one."""
        txn = self._env.begin(db=self._records)
        try:
            yield StoreReader(txn)
        finally:
            txn.abort()

    def apply(self, changes: Mapping[bytes, bytes | None], offsets: Mapping[int, int], confirmed: float) -> None:
        """Write changes and where they end, together; may run in a thread.

        Raises:
            StoreFull: call `grow`, in the thread of the readers, and try again.
        """
        head = _Head(self.identity, dict(offsets), max(confirmed, self._head.confirmed))
        try:
            with self._env.begin(write=True) as txn:
                for key, value in changes.items():
                    if value is None:
                        txn.delete(key, db=self._records)
                    else:
                        txn.put(key, value, db=self._records)
                txn.put(META, _encode(head), db=self._meta)
        except lmdb.MapFullError as error:
            raise StoreFull from error
        self._head = head

    def grow(self) -> None:
        """Double the map. No transaction may be open."""
        self._map_bytes = max(self._map_bytes, self._env.info()["map_size"]) * 2
        self._env.set_mapsize(self._map_bytes)
        log.info("vault.map_grown", bytes=self._map_bytes)

    def clear(self) -> None:
        """Throw the copy away and begin a new one."""
        self._env.close()
        self._remove()
        self._create()

    def close(self) -> None:
        """Flush and let go of the folder."""
        self._env.sync(True)
        self._env.close()
        os.close(self._lock)

    def _open(self, max_absence_s: float) -> None:
        try:
            self._create()
            absent = time.time() - self._head.confirmed
            if self._head.offsets and not (self._head.identity == self.identity and 0 <= absent <= max_absence_s):
                reason = "identity" if self._head.identity != self.identity else "absence"
                log.warning("vault.rebuild", code="vault.rebuild", reason=reason)
                self.clear()
        except (lmdb.Error, ValueError, LookupError) as error:
            log.warning("vault.rebuild", code="vault.rebuild", reason="damaged", error=type(error).__name__)
            self._remove()
            self._create()

    def _create(self) -> None:
        path = self.folder / "data"
        path.mkdir(exist_ok=True, mode=0o700)
        # Data is synced, the meta page is not: after a power cut the last transactions may be gone, never torn.
        self._env = lmdb.open(
            str(path), map_size=self._map_bytes, max_dbs=2, mode=0o600, readahead=False, metasync=False
        )
        try:
            self._records = self._env.open_db(b"records")
            self._meta = self._env.open_db(b"meta")
            with self._env.begin(db=self._meta) as txn:
                self._head = _decode(txn.get(META))
        except BaseException:
            self._env.close()
            raise

    def _remove(self) -> None:
        shutil.rmtree(self.folder / "data", ignore_errors=True)


def _encode(head: _Head) -> bytes:
    document = {"format": FORMAT, "identity": head.identity, "offsets": head.offsets, "confirmed": head.confirmed}
    return json.dumps(document).encode()


def _decode(data: bytes | memoryview | None) -> _Head:
    if data is not None:
        document = json.loads(bytes(data))
        if document["format"] == FORMAT:
            offsets = {int(partition): offset for partition, offset in document["offsets"].items()}
            return _Head(document["identity"], offsets, document["confirmed"])
        return _Head("", {0: 0}, 0.0)
    return _Head("", {}, time.time())  # a new copy begins to follow now


def _locked(folder: Path) -> int:
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise ConfigError(
            f"Another process uses the state folder {folder}. Give each worker a folder of its own (--state).",
            code="state.locked",
        ) from None
    return handle
