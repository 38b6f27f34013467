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


def write_over(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Have a file with these bytes on the disk; what a killed process left at the name is overwritten.

    Args:
        mode: of a file that is made.
    """
    _write(path, data, os.O_TRUNC, mode)


def replace(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Have these bytes at the name, on the disk; who reads there meanwhile finds the old ones or the new ones, whole.

    By way of a file of the same name with `.new` behind it: one process at a time.
    """
    new = path.with_name(f"{path.name}.new")
    write_over(new, data, mode)
    new.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(path: Path, data: bytes, how: int, mode: int = 0o644) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | how | os.O_CLOEXEC, mode)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)
