"""Logs as they are signed at this moment: what a reader may rely on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.directory import CHECKPOINT, KEY, LogDirectory
from broker.audit.log.merkle import HASH_BYTES, ProofError, inclusion_proof, leaf_hash, verify_inclusion
from broker.audit.log.note import NoteError, Verifier, open_note
from broker.audit.log.tiles import WIDTH, TileReader
from broker.errors import ConfigError


@dataclass(frozen=True, slots=True)
class SignedLog:
    """A log whose checkpoint is signed by its own key.

    Args:
        checkpoint: what was signed. note: it, with its signatures.
        reader: the stored tree up to there; what it gives is not proven yet.
        verifiers: the keys that were known.
    """

    checkpoint: Checkpoint
    note: bytes
    reader: TileReader
    verifiers: tuple[Verifier, ...]
    _proven: dict[int, bytes] = field(default_factory=dict, repr=False, compare=False)  # tile: its hashes

    @classmethod
    def open(cls, directory: LogDirectory, verifiers: Iterable[Verifier]) -> SignedLog | None:
        """Read a log's checkpoint; None if none was ever shown.

        Raises:
            NoteError: if it is not signed by the log, with a key that is known here.
        """
        note = directory.checkpoint()
        if note is None:
            return None
        known = tuple(verifiers)
        checkpoint = signed_by_log(note, known)
        return cls(checkpoint, note, TileReader(directory.read, checkpoint.size), known)

    def entry(self, index: int) -> bytes:
        """An entry, not proven.

        Raises:
            TileError: if its bundle is missing or damaged.
        """
        return self.reader.entry(index)

    def prove(self, index: int, entry: bytes) -> Sequence[bytes]:
        """The path from an entry to the signed root.

        Raises:
            TileError: if a tile is missing. ProofError: if the entry is not what was signed there.
        """
        size = self.checkpoint.size
        path = inclusion_proof(index, size, self.reader.hash_at)
        verify_inclusion(leaf_hash(entry), index, size, path, self.checkpoint.root)
        return path

    def check(self, index: int, entry: bytes) -> None:
        """Show that an entry is what was signed at its place, as `prove` does; the next ones of its tile cost a hash.

        Errors as `prove`.
        """
        tile, at = divmod(index, WIDTH)
        hashes, own = self._proven.get(tile), slice(at * HASH_BYTES, (at + 1) * HASH_BYTES)
        if hashes is None:
            self.prove(index, entry)
            hashes = self.reader.hashes(tile)
            # The path was made from all other hashes of this tile: since it leads to the signed root, they are right,
            # and so is the one that it was not made from, if it is the entry's.
            if hashes[own] == leaf_hash(entry):
                self._proven.clear()
                self._proven[tile] = hashes
        elif hashes[own] != leaf_hash(entry):
            raise ProofError(f"the entry is not the one that was signed as leaf {index}")


def signed_by_log(note: bytes, verifiers: Iterable[Verifier]) -> Checkpoint:
    """The checkpoint in a note that its own log signed; a cosignature does not count for that.

    Raises:
        NoteError: if it is not, with a key that is known here.
    """
    opened = open_note(note, verifiers)
    checkpoint = Checkpoint.parse(opened.text)
    if not any(signed.name == checkpoint.origin and signed.time_s is None for signed in opened.verified):
        raise NoteError(f"a checkpoint of {checkpoint.origin} is not signed by its log with a key known here")
    return checkpoint


def folders(root: Path) -> list[Path]:
    """The folders of logs below the folder of all logs: those in which something was signed.

    Raises:
        ConfigError: `audit.logs`, if there is none.
    """
    found = sorted(path.parent for path in root.glob(f"*/{CHECKPOINT}"))
    if not found:
        raise ConfigError(
            f"No log is in {root}: none of its folders has a checkpoint. Name the folder of all logs.",
            code="audit.logs",
        )
    return found


def keys_in_file(file: Path) -> list[Verifier]:
    """Public keys of logs, one a line as `log.vkey` has them.

    Raises:
        ConfigError: `audit.keys`, if it can not be read. NoteError: if a line is no key.
    """
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} can not be read: {type(error).__name__}.", code="audit.keys") from error
    return [Verifier.parse(line) for line in lines if line]


def keys_beside_logs(root: Path) -> list[Verifier]:
    """The keys that lie beside the logs: they show damage, but not a forger, who would have put his own there."""
    return [key for folder in folders(root) for key in keys_in_file(folder / KEY)]
