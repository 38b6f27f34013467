"""Tests of `broker.audit.signed`: many entries checked against one signed root."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.audit.log.merkle import HASH_BYTES, ProofError, leaf_hash
from broker.audit.log.tiles import tile_path
from broker.audit.signed import SignedLog
from tests.audit.signed_world import GrowingLog

ENTRIES = [f"entry {number}".encode() for number in range(600)]


def is_signed(log: SignedLog, index: int, entry: bytes) -> bool:
    """Whether the check passes, and with it the proof."""
    try:
        log.check(index, entry)
    except ProofError:
        with pytest.raises(ProofError):
            log.prove(index, entry)
        return False
    log.prove(index, entry)
    return True


def test_an_entry_passes_at_its_own_place_alone(tmp_path: Path) -> None:
    """Whichever was checked before it, of this tile or another; a refusal is no reason to believe or doubt the next."""
    log = GrowingLog(tmp_path).grow(ENTRIES)
    for index in (0, 1, 255, 256, 0, 511, 512, 599, 300):
        other = ENTRIES[index - 1]
        assert not is_signed(log, index, other)
        assert is_signed(log, index, ENTRIES[index])
        assert not is_signed(log, index, other)


@pytest.mark.parametrize("changed", [256, 300, 511])
def test_a_changed_tile_shows_nothing_of_its_entries(tmp_path: Path, changed: int) -> None:
    """One hash in it is that of a forged entry: then none of its entries is shown to be signed but that one, whose own
    hash its path does not need; the forged one never, whatever was checked before."""
    growing = GrowingLog(tmp_path)
    growing.grow(ENTRIES)
    file, at = growing.folder / tile_path(0, 1), (changed - 256) * HASH_BYTES
    data = file.read_bytes()
    file.write_bytes(data[:at] + leaf_hash(b"forged") + data[at + HASH_BYTES :])
    log = growing.signed()
    shown = [index for index, entry in enumerate(ENTRIES) if is_signed(log, index, entry)]
    assert shown == [*range(256), changed, *range(512, 600)]
    log.check(changed, ENTRIES[changed])
    assert not is_signed(log, changed, b"forged")


def test_the_entries_of_a_tile_take_one_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, as rows of a question are."""
    log, paths, prove = GrowingLog(tmp_path).grow(ENTRIES), list[int](), SignedLog.prove

    def counted(self: SignedLog, index: int, entry: bytes) -> object:
        paths.append(index)
        return prove(self, index, entry)

    monkeypatch.setattr(SignedLog, "prove", counted)
    for index, entry in enumerate(ENTRIES):
        log.check(index, entry)
    assert paths == [0, 256, 512]
