"""One entry's place in a log, in one file: path and checkpoint (c2sp.org/tlog-proof, version 1)."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import Final

from broker.audit.log.checkpoint import Checkpoint, parse_decimal
from broker.audit.log.merkle import HASH_BYTES, verify_inclusion
from broker.audit.log.note import MAX_NOTE_BYTES, Note, NoteError, Verifier, decode_base64, open_note, split_note

HEADER: Final = "c2sp.org/tlog-proof@v1"
MAX_PATH: Final = 63  # a tree has fewer than 2^63 leaves
MAX_EXTRA_BYTES: Final = 49_000  # its line stays below 64 KiB: Go's line reader takes no longer ones
MAX_PROOF_BYTES: Final = MAX_NOTE_BYTES


@dataclass(frozen=True, slots=True)
class Proof:
    """An entry's place in a log.

    Args:
        extra: of the application, **not authenticated**; None if there is none.
        index: of the leaf.
        path: 32 bytes each, from the leaf's neighbour to a child of the root.
        checkpoint_note: the signed checkpoint, as the log gave it out.
    """

    extra: bytes | None
    index: int
    path: tuple[bytes, ...]
    checkpoint_note: bytes

    def __post_init__(self) -> None:
        if self.extra is not None and not 0 < len(self.extra) <= MAX_EXTRA_BYTES:
            raise NoteError(f"the extra of a proof is empty, or larger than {MAX_EXTRA_BYTES} bytes")
        if len(self.path) > MAX_PATH or any(len(node) != HASH_BYTES for node in self.path):
            raise NoteError(f"the path of a proof has more than {MAX_PATH} hashes, or one that is not 32 bytes")
        checkpoint = Checkpoint.parse(split_note(self.checkpoint_note)[0])
        if not 0 <= self.index < checkpoint.size:
            raise NoteError(f"the proof is of leaf {self.index}, but its checkpoint has {checkpoint.size} leaves")

    def render(self) -> bytes:
        """The file, `.tlog-proof`."""
        extra = [] if self.extra is None else [f"extra {b64encode(self.extra).decode()}"]
        lines = [HEADER, *extra, f"index {self.index}", *(b64encode(node).decode() for node in self.path), "", ""]
        return "\n".join(lines).encode() + self.checkpoint_note

    @classmethod
    def parse(cls, data: bytes) -> Proof:
        """Read a file and verify nothing.

        Raises:
            NoteError: for any spelling but that of `render()`.
        """
        if len(data) > MAX_PROOF_BYTES:
            raise NoteError(f"a proof is larger than {MAX_PROOF_BYTES} bytes")
        head, gap, note = data.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            lines = []
        if not gap or lines[:1] != [HEADER]:
            raise NoteError(f"a proof does not begin with {HEADER}, or has no checkpoint behind an empty line")
        extra = None
        if lines[1:2] and lines[1].startswith("extra "):
            extra = decode_base64(lines.pop(1)[6:], "the extra")
        if not lines[1:2] or not lines[1].startswith("index "):
            raise NoteError("a proof has no line `index <number>` where it should stand")
        path = tuple(decode_base64(line, "a hash of the path") for line in lines[2:])
        return cls(extra, parse_decimal(lines[1][6:], "the index"), path, note)

    def verify(self, leaf: bytes, verifiers: tuple[Verifier, ...]) -> tuple[Checkpoint, Note]:
        """Check signatures and path. Whether enough witnesses signed is for `Policy.satisfied` to say.

        Args:
            leaf: the hash of the entry.
            verifiers: keys of logs and witnesses that are known here.

        Raises:
            NoteError: if a signature is wrong, or the log's own (named as its origin) is not there.
            ProofError: if the path does not lead to the root.
        """
        note = open_note(self.checkpoint_note, verifiers)
        checkpoint = Checkpoint.parse(note.text)
        if not any(signed.name == checkpoint.origin and signed.time_s is None for signed in note.verified):
            raise NoteError(
                f"the checkpoint is not signed by the log {checkpoint.origin} with a key that is known here"
            )
        verify_inclusion(leaf, self.index, checkpoint.size, self.path, checkpoint.root)
        return checkpoint, note
