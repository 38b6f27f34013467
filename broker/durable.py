"""Bytes and names that are on the disk when the call returns: what a power cut must not take back."""

from __future__ import annotations

import os
from pathlib import Path


def write_new(path: Path, data: bytes) -> None:
    """Have a new file with these bytes on the disk. Its name is there for sure only after `sync_folder`.

    Raises:
        FileExistsError: there is one of that name.
    """
    _write(path, data, os.O_EXCL)


def write_over(path: Path, data: bytes) -> None:
    """Have a file with these bytes on the disk; what a killed process left at the name is overwritten."""
    _write(path, data, os.O_TRUNC)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(path: Path, data: bytes, how: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | how | os.O_CLOEXEC, 0o644)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)
