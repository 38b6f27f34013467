"""The tree: hashes, roots and proofs (RFC 6962 section 2.1; verification as RFC 9162 sections 2.1.3.2 and 2.1.4.2).

Proofs are made from *complete* nodes alone: `hash_at(level, index)` is the root of the leaves
`index * 2^level` up to `(index + 1) * 2^level`. A node with fewer leaves is put together from complete ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Final

from broker.errors import ContractError

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()

HashAt = Callable[[int, int], bytes]


class ProofError(ContractError):
    """A proof that does not show what it should, or was asked for a place outside the tree."""

    default_code = "log.proof"


def leaf_hash(entry: bytes) -> bytes:
    """32 bytes."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """32 bytes."""
    return sha256(b"\x01" + left + right).digest()


def parents(hashes: bytes) -> bytes:
    """The nodes over pairs of hashes that stand one after the other (32 bytes each); a last one alone has no parent."""
    step = 2 * HASH_BYTES
    ends = range(step, len(hashes) + 1, step)
    return b"".join([sha256(b"\x01" + hashes[end - step : end]).digest() for end in ends])


def complete_root(hashes: bytes) -> bytes:
    """The root over 2^k hashes that stand one after the other (32 bytes each)."""
    while len(hashes) > HASH_BYTES:
        hashes = parents(hashes)
    return hashes


def root_of(hashes: Sequence[bytes]) -> bytes:
    """The root over leaf hashes; `EMPTY_ROOT` for none."""
    if not hashes:
        return EMPTY_ROOT
    level = list(hashes)
    while len(level) > 1:
        pairs = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        # A node without a neighbour is its own parent: that is the same tree as splitting at powers of two.
        level = pairs + level[len(level) & ~1 :]
    return level[0]


def joined(peaks: Iterable[bytes]) -> bytes:
    """The root over complete nodes of falling size, given from the right: the smallest first."""
    root = b""
    for peak in peaks:
        root = node_hash(peak, root) if root else peak
    return root or EMPTY_ROOT


def range_root(start: int, end: int, hash_at: HashAt) -> bytes:
    """The root over the leaves from `start` up to `end`; `start` is a multiple of a power of two >= their number."""
    count = end - start
    if count and not count & (count - 1):  # nearly all parts of a proof: one complete node
        return hash_at(count.bit_length() - 1, start // count)
    peaks = []
    for level in range(count.bit_length()):
        if (end - start) >> level & 1:
            end -= 1 << level
            peaks.append(hash_at(level, end >> level))
    return joined(peaks)


def inclusion_proof(index: int, size: int, hash_at: HashAt) -> list[bytes]:
    """The path from a leaf's neighbour up to a child of the root (RFC 6962 section 2.1.1).

    Raises:
        ProofError: if the tree has no such leaf.
    """
    if not 0 <= index < size:
        raise ProofError(f"a tree of {size} leaves has no leaf {index}")
    path, start, end = [], 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(range_root(middle, end, hash_at))
            end = middle
        else:
            path.append(range_root(start, middle, hash_at))
            start = middle
    return path[::-1]


def consistency_proof(old: int, new: int, hash_at: HashAt) -> list[bytes]:
    """What shows that the tree of `new` leaves begins with the tree of `old` leaves (RFC 6962 section 2.1.2).

    Nothing is needed, and given, from an empty tree or between equal sizes.

    Raises:
        ProofError: if `new` is smaller.
    """
    if not 0 <= old <= new:
        raise ProofError(f"a tree of {new} leaves does not continue one of {old}")
    if old in (0, new):
        return []
    path, start, end = [], 0, new
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(range_root(middle, end, hash_at))
            end = middle
        else:
            path.append(range_root(start, middle, hash_at))
            start = middle
    # The reader knows the whole old tree; a part of it must be told.
    if start:
        path.append(range_root(start, end, hash_at))
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Check that a leaf stands in a tree (RFC 9162 section 2.1.3.2).

    Args:
        leaf: its hash.
        index, size: where, and of how many leaves.
        path: from `inclusion_proof`.
        root: of the tree.

    Raises:
        ProofError: if the path does not lead from the leaf to the root.
    """
    if not 0 <= index < size:
        raise ProofError(f"a tree of {size} leaves has no leaf {index}")
    node, last, found = index, size - 1, leaf
    for other in path:
        if last == 0 or len(other) != HASH_BYTES:
            raise ProofError("the path of an inclusion proof is too long, or has a hash that is not 32 bytes")
        if node & 1 or node == last:
            found = node_hash(other, found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, other)
        node, last = node >> 1, last >> 1
    if last or found != root:
        raise ProofError(f"the path does not lead from leaf {index} to the root of the tree of {size} leaves")


def verify_consistency(old: int, old_root: bytes, new: int, new_root: bytes, path: Sequence[bytes]) -> None:
    """Check that a tree continues another (RFC 9162 section 2.1.4.2).

    Raises:
        ProofError: if it is not shown that the tree of `new` leaves begins with that of `old` leaves.
    """
    problem = ProofError(f"it is not shown that the tree of {new} leaves continues the one of {old}")
    if not 0 <= old <= new or any(len(other) != HASH_BYTES for other in path):
        raise problem
    if old in (0, new):
        if path or old_root != (new_root if old else EMPTY_ROOT):
            raise problem
        return
    # An old tree of 2^k leaves is a node of the new one: its root begins the path, and need not be sent.
    whole = [old_root, *path] if old & (old - 1) == 0 else list(path)
    if not whole:
        raise problem
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    first = second = whole[0]
    for other in whole[1:]:
        if last == 0:
            raise problem
        if node & 1 or node == last:
            first, second = node_hash(other, first), node_hash(other, second)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, other)
        node, last = node >> 1, last >> 1
    if last or first != old_root or second != new_root:
        raise problem


def _split(count: int) -> int:
    """The largest power of two below `count`, which is at least 2."""
    return 1 << (count - 1).bit_length() - 1


class Frontier:
    """The right edge of a tree that grows: its complete nodes, largest first; one hash for each bit of `size`."""

    __slots__ = ("_peaks", "size")

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []

    @classmethod
    def restore(cls, size: int, hash_at: HashAt) -> Frontier:
        """The edge of a tree that is stored elsewhere."""
        frontier, end = cls(), size
        for level in range(size.bit_length()):
            if size >> level & 1:
                end -= 1 << level
                frontier._peaks.insert(0, hash_at(level, end >> level))
        frontier.size = size
        return frontier

    def append(self, leaf: bytes) -> None:
        """Add the hash of the next leaf."""
        size = self.size
        while size & 1:
            leaf, size = node_hash(self._peaks.pop(), leaf), size >> 1
        self._peaks.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """Of the tree so far."""
        return joined(reversed(self._peaks))
