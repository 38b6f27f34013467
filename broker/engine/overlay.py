"""A lane's own vault writes that the vault view has not read back yet."""

from __future__ import annotations

from collections.abc import Mapping

from broker.exchange.model import VaultReader


class VaultOverlay:
    """Committed by this lane, not yet seen by the view: an enrolment is known to the very next batch."""

    def __init__(self) -> None:
        self._written: dict[bytes, tuple[int, int, bytes | None]] = {}

    def __len__(self) -> int:
        return len(self._written)

    def add(self, partition: int, offset: int, key: bytes, value: bytes | None) -> None:
        """A write was committed at or before this offset; None deletes."""
        self._written[key] = (partition, offset, value)

    def prune(self, read: Mapping[int, int]) -> None:
        """Forget what the view has read: `read` is its next offset by partition."""
        if self._written:
            self._written = {k: w for k, w in self._written.items() if read.get(w[0], 0) <= w[1]}

    def clear(self) -> None:
        """Forget everything: the view has passed the lane's last transaction."""
        self._written.clear()

    def over(self, reader: VaultReader) -> VaultReader:
        """A reader that looks here first."""
        return _Overlaid(self._written, reader) if self._written else reader


class _Overlaid:
    def __init__(self, written: Mapping[bytes, tuple[int, int, bytes | None]], below: VaultReader) -> None:
        self._written, self._below = written, below

    def get(self, key: bytes) -> bytes | None:
        found = self._written.get(key)
        return found[2] if found is not None else self._below.get(key)
