"""Logs and counts as they stand in folders, for whoever reconciles them. Nothing here speaks to Kafka."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.directory import CHECKPOINT, LogDirectory
from broker.audit.log.note import Verifier, split_note
from broker.audit.log.tiles import TileReader
from broker.audit.told import read_count
from broker.errors import BrokerError, ConfigError

COUNT_SUFFIX: Final = ".count"
PARTY_KEYS: Final = "parties.vkey"
MOST_KEY_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class StoredLog:
    """A log as far as its checkpoint goes.

    Whether the leaves are those that were signed is not asked here: `broker audit verify` does that.
    """

    path: Path
    origin: str
    size: int

    @property
    def base(self) -> str:
        """Of all logs of the installation: the origin is `<base>/<id>/<epoch>`."""
        return self.origin.rsplit("/", 2)[0]

    @property
    def is_control(self) -> bool:
        """Whether it is of `audit.control`."""
        return self.origin.rsplit("/", 2)[1:2] == ["control"]

    def entries(self, start: int, end: int) -> Iterator[bytes]:
        """Leaves from `start` up to `end`.

        Raises:
            TileError: if a bundle is missing or damaged.
        """
        return TileReader(LogDirectory(self.path).read, self.size).entries(start, end)


def logs_in(root: Path) -> list[StoredLog]:
    """The logs in the folders of a folder, those of the control log first, older epochs before newer ones.

    Raises:
        ConfigError: `auditlog.none`: there is none.
    """
    found = []
    for path in sorted(root.glob(f"*/{CHECKPOINT}")):
        checkpoint = Checkpoint.parse(split_note(path.read_bytes())[0])
        found.append(StoredLog(path.parent, checkpoint.origin, checkpoint.size))
    if not found:
        raise ConfigError(f"No folder in {root} has a log in it: each has a file `checkpoint`.", code="auditlog.none")
    return sorted(found, key=lambda log: (not log.is_control, log.base, _epoch(log.origin), log.origin))


def _epoch(origin: str) -> int:
    last = origin.rsplit("/", 1)[-1]
    return int(last) if last.isascii() and last.isdecimal() and len(last) < 10 else 0


def counts_in(folder: Path, known: Sequence[str] = ()) -> list[tuple[str, bytes]]:
    """The counts in a folder, files that end in `.count`, by name; without those that are known already."""
    paths = sorted(path for path in folder.glob(f"*{COUNT_SUFFIX}") if path.name not in set(known))
    return [(path.name, path.read_bytes()) for path in paths]


def count_leaf(index: int, leaf: bytes, parties: Container[str]) -> tuple[str, bytes] | None:
    """The signed count in a leaf of the control log, and where it stands.

    None for a leaf of another kind, and for a count of none of these parties: without its key it proves nothing.

    Raises:
        LeafError: if it can not be read.
    """
    note = read_count(leaf)
    if note is None:
        return None
    _, _, party = note.partition(b"\n")
    if party.partition(b"\n")[0].decode(errors="replace") not in parties:
        return None
    return f"leaf {index} of the control log", note


def party_keys(path: Path) -> dict[str, list[Verifier]]:
    """Verifier keys of the parties that count, one a line; each is named as its party.

    Raises:
        ConfigError: `auditlog.keys`: the file can not be read, or a line is no such key.
    """
    keys: dict[str, list[Verifier]] = {}
    try:
        lines = path.read_bytes()[:MOST_KEY_BYTES].decode().splitlines()
        for key in (Verifier.parse(line) for line in lines if line and not line.startswith("#")):
            keys.setdefault(key.name, []).append(key)
    except (OSError, ValueError, BrokerError) as error:
        raise ConfigError(
            f"The keys of the parties in {path} can not be read: {error}.", code="auditlog.keys"
        ) from None
    return keys
