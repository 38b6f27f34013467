"""A hash over many records that one change does not compute anew as a whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from hashlib import sha256


class VersionTree:
    """Two levels: records fall by the first two bytes of their key's hash into 65,536 leaves.

    A leaf's hash is SHA-256 over (SHA-256 of key, SHA-256 of value) of its records in the order of the former; the
    version is SHA-256 over (two bytes, leaf's hash) of the leaves that have records, in order. So it depends on the
    records alone, and whoever has them can compute it.
    """

    def __init__(
        self, leaves: Mapping[bytes, Mapping[bytes, bytes]] | None = None, hashes: Mapping[bytes, bytes] | None = None
    ) -> None:
        self._leaves, self._hashes = leaves or {}, hashes or {}
        whole = sha256(b"".join(name + self._hashes[name] for name in sorted(self._hashes)))
        self.version = f"sha256:{whole.hexdigest()}"

    def with_changes(self, changes: Mapping[str, bytes | None]) -> VersionTree:
        """The tree after some records changed; None removes one."""
        by_leaf: defaultdict[bytes, dict[bytes, bytes | None]] = defaultdict(dict)
        for key, value in changes.items():
            name = sha256(key.encode()).digest()
            by_leaf[name[:2]][name] = None if value is None else sha256(value).digest()
        leaves, hashes = dict(self._leaves), dict(self._hashes)
        for prefix, changed in by_leaf.items():
            leaf = {name: d for name, d in {**leaves.get(prefix, {}), **changed}.items() if d is not None}
            if leaf:
                leaves[prefix] = leaf
                hashes[prefix] = sha256(b"".join(name + leaf[name] for name in sorted(leaf))).digest()
            else:
                leaves.pop(prefix, None)
                hashes.pop(prefix, None)
        return VersionTree(leaves, hashes)
