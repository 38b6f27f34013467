"""Logs to be witnessed, with trees and proofs from the independent `tests.audit.log.tree`."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.note import Cosigner, Signer, render
from tests.audit.log.tree import Tree, key

ORIGIN = "broker.example/audit/p3/1"
OTHER = "broker.example/audit/p4/1"
NOW = 1_795_305_600


def cosigner(name: str = "witness.example/w1") -> Cosigner:
    """A witness's key that is the same in every run."""
    return Cosigner(name, key(name))


class GrowingLog:
    """A log of any size. `forked_at`: its leaf there is another one."""

    def __init__(self, origin: str = ORIGIN, seed: str = "log", forked_at: int | None = None) -> None:
        self.origin, self._at = origin, forked_at
        self.signer = Signer(origin, key(seed))

    def tree(self, size: int) -> Tree:
        """The first leaves."""
        tree = Tree(size)
        if self._at is not None and self._at < size:
            tree.leaves[self._at] = sha256(b"another").digest()
        return tree

    def checkpoint(self, size: int) -> Checkpoint:
        """Of a size."""
        return Checkpoint(self.origin, size, self.tree(size).root(0, size))

    def note(self, size: int) -> bytes:
        """Signed."""
        text = self.checkpoint(size).text()
        return render(text, [self.signer.sign(text)])

    def proof(self, old: int, size: int) -> list[bytes]:
        """RFC 6962, PROOF(old, D[size])."""
        return self.tree(size).subproof(old, 0, size, True) if 0 < old < size else []

    def body(self, old: int, size: int) -> bytes:
        """A request."""
        return request(old, self.proof(old, size), self.note(size))


def request(old: object, proof: list[bytes], note: bytes) -> bytes:
    """Whatever these are."""
    return "".join([f"old {old}\n", *(f"{b64encode(node).decode()}\n" for node in proof), "\n"]).encode() + note
