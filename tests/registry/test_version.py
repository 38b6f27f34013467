"""The registry's version: one hash over all records, computed by whoever has them."""

from __future__ import annotations

from hashlib import sha256

from broker.registry.version import VersionTree

# Enough that some of the 65,536 leaves hold two.
RECORDS: dict[str, bytes | None] = {f"party/{number}": b"%d" % number for number in range(3_000)}


def by_the_book(records: dict[str, bytes | None]) -> str:
    """The definition in the class's docstring, written once more and without any tree."""
    hashes = sorted((sha256(k.encode()).digest(), sha256(v).digest()) for k, v in records.items() if v is not None)
    leaves: dict[bytes, bytes] = {}
    for name, digest in hashes:
        leaves[name[:2]] = leaves.get(name[:2], b"") + name + digest
    assert len(leaves) < len(hashes)
    branches: dict[bytes, bytes] = {}
    for prefix, leaf in sorted(leaves.items()):
        branches[prefix[:1]] = branches.get(prefix[:1], b"") + prefix[1:] + sha256(leaf).digest()
    whole = b"".join(first + sha256(branch).digest() for first, branch in sorted(branches.items()))
    return f"sha256:{sha256(whole).hexdigest()}"


def test_the_version_is_as_documented() -> None:
    """An auditor who has the records can compute it without our code."""
    assert VersionTree().with_changes(RECORDS).version == by_the_book(RECORDS)


def test_the_version_does_not_depend_on_the_way() -> None:
    """All at once, backwards, in parts, with detours: the records alone decide."""
    version = VersionTree().with_changes(RECORDS).version
    backwards = dict(reversed(RECORDS.items()))
    assert VersionTree().with_changes(backwards).version == version
    in_parts = VersionTree().with_changes(dict(list(backwards.items())[:1_000])).with_changes(RECORDS)
    assert in_parts.version == version
    detour = in_parts.with_changes({"party/1": b"x", "party/new": b"y"})
    assert detour.version != version
    assert detour.with_changes({"party/1": b"1", "party/new": None}).version == version
    assert in_parts.with_changes(dict.fromkeys(RECORDS)).version == VersionTree().version
