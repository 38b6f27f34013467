"""Tests of `broker.audit.indexing`: only what is signed, all of it, once; persons by their entries, in any order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.indexing import Indexed, index_log, index_people
from broker.audit.log.directory import HistoryDiffers
from broker.audit.log.merkle import ProofError
from broker.audit.log.note import Cosigner, NoteError, render
from broker.audit.log.tiles import TileError, bundle_path
from broker.audit.signed import SignedLog, folders, keys_beside_logs, keys_in_file
from broker.audit.store import Store, Wanted
from broker.errors import ConfigError
from broker.identity.vault import VaultCipher
from tests.audit.signed_world import ORIGIN, GrowingLog, audit_events, audit_index, busy_world, tag_of
from tests.exchange.world import DELTA, World, event


@pytest.fixture(scope="module")
def world() -> World:
    """What the exchange wrote."""
    return busy_world()


@pytest.fixture
def store(tmp_path: Path) -> Any:
    """An empty store."""
    with Store(tmp_path / "store") as made:
        yield made


WINDOW = b'{"v":1,"window":{}}'


@pytest.mark.parametrize("batch", [1, 3, 1_000])
def test_each_decision_that_is_signed_is_taken_in_once(store: Store, tmp_path: Path, world: World, batch: int) -> None:
    """In two steps or again: the same rows. What is not signed yet is not there; leaves of windows are passed over."""
    log, leaves = GrowingLog(tmp_path), [WINDOW, *world.leaves()]
    assert index_log(store, log.grow(leaves[:4]), batch) == Indexed(ORIGIN, 4, 3, 1)
    log.directory.write_immutable(log.builder.append(leaves[4:5]).files)  # written, but not signed
    assert index_log(store, log.signed(), batch) == Indexed(ORIGIN, 4, 0, 0)
    assert index_log(store, log.grow(leaves[5:]), batch) == Indexed(ORIGIN, len(leaves), len(leaves) - 4, 0)
    rows = store.find(Wanted())
    assert [row.index for row in rows] == list(range(1, len(leaves)))
    assert [row.leaf.event for row in rows] == [json.loads(leaf)["x"]["event"] for leaf in leaves[1:]]


def test_a_store_that_was_killed_goes_on_from_what_was_whole(
    store: Store, tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever step it does not live to see."""
    log = GrowingLog(tmp_path).grow(world.leaves())
    kept = Store.add
    for dies_at in range(1, 4):
        steps = 0

        def dying(self: Store, *args: Any) -> None:
            nonlocal steps
            steps += 1
            kept(self, *args)
            if steps == dies_at:  # noqa: B023 - called within this round
                raise KeyboardInterrupt

        monkeypatch.setattr(Store, "add", dying)
        with pytest.raises(KeyboardInterrupt):
            index_log(store, log, 2)
        assert store.find(Wanted()) == []
    monkeypatch.undo()
    assert index_log(store, log, 2).decisions == len(world.leaves())


def test_entries_that_do_not_lead_to_the_root_are_not_taken_in(store: Store, tmp_path: Path, world: World) -> None:
    """One bit of one entry."""
    log = GrowingLog(tmp_path)
    signed = log.grow(world.leaves())
    file = log.folder / bundle_path(0, len(world.leaves()))
    data = bytearray(file.read_bytes())
    data[300] ^= 1
    file.write_bytes(data)
    with pytest.raises(ProofError, match="do not lead to the root"):
        index_log(store, signed)
    assert store.find(Wanted()) == []
    file.unlink()
    with pytest.raises(TileError, match="missing"):
        index_log(store, signed)


def test_another_history_is_noticed(store: Store, tmp_path: Path, world: World) -> None:
    """A signed log that does not begin with what was read before, or is shorter."""
    leaves = world.leaves()
    index_log(store, GrowingLog(tmp_path / "a").grow(leaves))
    with pytest.raises(HistoryDiffers, match="history was changed"):
        index_log(store, GrowingLog(tmp_path / "b").grow([*leaves[:-1], WINDOW, WINDOW]))
    with pytest.raises(HistoryDiffers, match="taken back"):
        index_log(store, GrowingLog(tmp_path / "c").grow(leaves[:-1]))


def test_a_checkpoint_of_another_key_is_refused(tmp_path: Path, world: World) -> None:
    """Known keys are those that the caller gives."""
    log = GrowingLog(tmp_path)
    log.grow(world.leaves())
    stranger = GrowingLog(tmp_path / "other", "broker.example/audit/p1/1").signer
    with pytest.raises(NoteError, match="no signature of a key that is known"):
        SignedLog.open(log.directory, [stranger.verifier])
    text = log.signed().checkpoint.text()
    log.directory.publish(render(text, [stranger.sign(text)]))
    with pytest.raises(NoteError, match="not signed by its log"):
        SignedLog.open(log.directory, [stranger.verifier, log.signer.verifier])
    witness = Cosigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(32)))  # of the log's name, but no log
    log.directory.publish(render(text, [witness.sign(text, 1)]))
    with pytest.raises(NoteError, match="not signed by its log"):
        SignedLog.open(log.directory, [witness.verifier])
    assert SignedLog.open(GrowingLog(tmp_path / "empty").directory, []) is None


def test_logs_and_their_keys_are_found(tmp_path: Path, world: World) -> None:
    """A folder without a checkpoint is no log yet; no log at all is told."""
    with pytest.raises(ConfigError, match="No log"):
        folders(tmp_path)
    log = GrowingLog(tmp_path)
    GrowingLog(tmp_path, "broker.example/audit/p1/1")
    log.grow(world.leaves())
    assert folders(tmp_path) == [log.folder]
    assert keys_beside_logs(tmp_path) == [log.signer.verifier]
    with pytest.raises(ConfigError, match="can not be read"):
        keys_in_file(tmp_path / "absent")


# ---- persons


def people(store: Store, entries: list[bytes], world: World) -> int:
    """Take entries in."""
    with store.transaction():
        return index_people(store, entries, world.exchange_keys.vault)


def spans(store: Store, tag: bytes) -> set[str]:
    """The leaves of a person."""
    return {row.leaf.span.hex() for row in store.find(Wanted(tag=tag))}


def tokens(world: World) -> set[str]:
    """Spans of leaves that are about a person."""
    lines = [json.loads(leaf)["ldv"] for leaf in world.leaves()]
    return {line["span_id"] for line in lines if "dpl.core.data_subject_id" in line["attributes"]}


def test_an_entry_waits_for_its_leaf(store: Store, tmp_path: Path, world: World) -> None:
    """In whatever order the two come; an entry that comes twice is one."""
    entries, leaves, log = audit_index(world), audit_events(world), GrowingLog(tmp_path)
    assert people(store, entries[:3], world) == 0
    assert store.waiting() == 3
    index_log(store, log.grow(leaves[:1]))
    assert people(store, [], world) == 1
    index_log(store, log.grow(leaves[1:]))
    assert people(store, entries, world) == len(entries) - 1 + 1  # the first, that came before, once more
    assert store.waiting() == 0
    assert spans(store, tag_of(world)) == tokens(world)
    assert people(store, entries, world) == len(entries)
    assert spans(store, tag_of(world)) == tokens(world)


def test_an_entry_that_waited_does_not_bring_an_erased_person_back(store: Store, tmp_path: Path) -> None:
    """Erased between entry and leaf."""
    world = busy_world()
    log = GrowingLog(tmp_path)
    index_log(store, log.grow(audit_events(world)))
    people(store, audit_index(world), world)
    before = len(audit_events(world)), len(audit_index(world))
    world.send(DELTA, event())
    people(store, audit_index(world)[before[1] :], world)
    assert store.waiting() > 0
    store.forget(tag_of(world))
    index_log(store, log.grow(audit_events(world)[before[0] :]))
    people(store, [], world)
    assert store.waiting() == 0
    assert spans(store, tag_of(world)) == set()


OLDER = {
    "another school, before": (b'"school":"99PA"', b'"school":"99XX"', True),
    "another school, behind": (b'"school":"99PA"', b'"school":"99XX"', False),
    "the same school": (b'"end_time":17', b'"end_time":16', True),
}


@pytest.mark.parametrize("case", OLDER)
def test_a_leaf_of_another_event_with_the_same_span_is_not_meant(
    store: Store, tmp_path: Path, world: World, case: str
) -> None:
    """An input topic that was made anew gives its offsets, and so spans, once more; no entry is about what was then."""
    old, new, first = OLDER[case]
    leaves = audit_events(world)
    others = [leaf.replace(old, new) for leaf in leaves]
    assert others != leaves
    log = GrowingLog(tmp_path)
    index_log(store, log.grow([*others, *leaves] if first else [*leaves, *others]))
    assert people(store, audit_index(world), world) == len(audit_index(world))
    mine = range(len(leaves), 2 * len(leaves)) if first else range(len(leaves))
    rows = store.find(Wanted(tag=tag_of(world)))
    assert {row.leaf.span.hex() for row in rows} == tokens(world)
    assert {row.index for row in rows} <= set(mine)


def test_keys_of_another_installation_open_nothing(store: Store, tmp_path: Path, world: World) -> None:
    """It is told, and nothing is written."""
    index_log(store, GrowingLog(tmp_path).grow(world.leaves()))
    other = VaultCipher(bytes(32), bytes(32), bytes(32))
    with pytest.raises(ConfigError) as caught, store.transaction():
        index_people(store, audit_index(world), other)
    assert caught.value.code == "audit.index_key"
    assert store.waiting() == 0
