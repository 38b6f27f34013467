"""Checkpoints: what a log signs (c2sp.org/tlog-checkpoint). Extension lines are not used and not accepted."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Final

from broker.audit.log.merkle import EMPTY_ROOT, HASH_BYTES
from broker.audit.log.note import NoteError, check_text, decode_base64

MAX_SIZE: Final = (1 << 63) - 1

_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}")


def parse_decimal(text: str, what: str) -> int:
    """A number of at most 19 ASCII digits, without leading zeroes; who asks checks that it is below 2^63.

    Raises:
        NoteError: for any other spelling.
    """
    if _DECIMAL.fullmatch(text) is None:
        raise NoteError(f"{what} is not a decimal number of at most 19 digits without leading zeroes")
    return int(text)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a tree.

    Args:
        origin: which log; one line, equal to the name of the log's key.
        size: number of leaves.
        root: 32 bytes, RFC 6962.
    """

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not self.origin or "\n" in self.origin:
            raise NoteError("the origin of a checkpoint is not one line with something on it")
        if not 0 <= self.size <= MAX_SIZE or len(self.root) != HASH_BYTES:
            raise NoteError("a checkpoint needs a size from 0 to 2^63 - 1 and a root of 32 bytes")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise NoteError("the root of an empty tree is the hash of nothing, this checkpoint has another")
        check_text(self.text())

    def text(self) -> str:
        """The text to sign."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read the text of a note.

        Raises:
            NoteError: for any spelling but that of `text()`.
        """
        lines = text.split("\n")
        if len(lines) != 4 or lines[3]:
            raise NoteError("a checkpoint is not three lines: origin, size, root")
        return cls(lines[0], parse_decimal(lines[1], "the size"), decode_base64(lines[2], "the root"))
