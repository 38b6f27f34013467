"""A hash over many records that one change does not compute anew as a whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

Leaf = Mapping[bytes, bytes]  # SHA-256 of key -> SHA-256 of value


@dataclass(frozen=True, slots=True)
class _Branch:
    """The records whose keys' hashes begin with one byte, and hashes of them by the next byte."""

    leaves: Mapping[bytes, Leaf] = field(default_factory=dict)
    hashes: Mapping[bytes, bytes] = field(default_factory=dict)
    hash: bytes = b""


class VersionTree:
    """Three levels: records fall by the first two bytes of their key's hash into 256 branches of 256 leaves.

    A leaf's hash is SHA-256 over (SHA-256 of key, SHA-256 of value) of its records in the order of the former; a
    branch's is SHA-256 over (second byte, leaf's hash) of the leaves that have records, in order; the version is
    SHA-256 over (first byte, branch's hash) of the branches that have any, in order. So it depends on the records
    alone, and whoever has them can compute it. A change costs the records of a leaf and two times 256 hashes.
    """

    def __init__(self, branches: Mapping[bytes, _Branch] | None = None) -> None:
        self._branches = branches or {}
        hashes = {first: branch.hash for first, branch in self._branches.items()}
        self.version = f"sha256:{_hash_of(hashes).hex()}"

    def with_changes(self, changes: Mapping[str, bytes | None]) -> VersionTree:
        """The tree after some records changed; None removes one."""
        by_leaf: defaultdict[bytes, dict[bytes, bytes | None]] = defaultdict(dict)
        for key, value in changes.items():
            name = sha256(key.encode()).digest()
            by_leaf[name[:2]][name] = None if value is None else sha256(value).digest()
        by_branch: defaultdict[bytes, dict[bytes, dict[bytes, bytes | None]]] = defaultdict(dict)
        for prefix, changed in by_leaf.items():
            by_branch[prefix[:1]][prefix[1:]] = changed
        branches = dict(self._branches)
        for first, leaves in by_branch.items():
            branch = _changed(branches.pop(first, _Branch()), leaves)
            if branch.leaves:
                branches[first] = branch
        return VersionTree(branches)


def _changed(branch: _Branch, changes: Mapping[bytes, Mapping[bytes, bytes | None]]) -> _Branch:
    leaves, hashes = dict(branch.leaves), dict(branch.hashes)
    for second, changed in changes.items():
        merged = {**leaves.pop(second, {}), **changed}
        hashes.pop(second, None)
        if leaf := {name: digest for name, digest in merged.items() if digest is not None}:
            leaves[second], hashes[second] = leaf, _hash_of(leaf)
    return _Branch(leaves, hashes, _hash_of(hashes))


def _hash_of(parts: Mapping[bytes, bytes]) -> bytes:
    return sha256(b"".join(name + parts[name] for name in sorted(parts))).digest()
