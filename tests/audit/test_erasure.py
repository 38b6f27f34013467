"""One of many persons is erased: all that was signed stays as it is, and nothing leads to the person any more."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.audit import verify as one_file
from broker.audit.index import forgets
from broker.audit.indexing import forget_people, index_log, index_people
from broker.audit.leaf import lookup_tag
from broker.audit.query import Query
from broker.audit.receipt import Receipt, verify
from broker.audit.store import Store, Wanted
from broker.client import Subject
from broker.errors import ConfigError, TransientError
from broker.wire import AUDIT_SALT
from tests.audit.signed_world import GrowingLog, audit_events, audit_index, busy_world
from tests.exchange.test_erasure import ERASE, again, las, merged, person_of
from tests.exchange.world import DELTA, EMMA, NOAH, PORTAL, SIS, World, enrolment, event, make_world

ERASED_TWICE = "7d4f0b1e-4a53-4d0e-9b1e-2f7c3a5b6c7d"


@dataclass
class Desk:
    """A world, its signed log, and a store of both."""

    world: World
    log: GrowingLog
    file: Path
    leaves: int = 0
    entries: int = 0

    def sign(self) -> None:
        """What was written since is signed."""
        leaves = audit_events(self.world)
        self.log.grow(leaves[self.leaves :])
        self.leaves = len(leaves)

    def take_in(self, store: Store) -> int:
        """As `broker audit index` does it; how many rows led to who was erased."""
        index_log(store, self.log.signed())
        entries = audit_index(self.world)
        with store.transaction():
            index_people(store, entries[self.entries :], self.world.exchange_keys.vault)
        self.entries = len(entries)
        return forget_people(store, self.world.exchange_keys.vault)

    def query(self, store: Store) -> Query:
        """Of this store."""
        return Query(store, self.log.root, [self.log.signer.verifier])

    def bytes_left(self) -> bytes:
        """All that SQLite has on disk: file and journal."""
        return b"".join(path.read_bytes() for path in self.file.parent.glob(f"{self.file.name}*"))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Nothing is signed yet."""
    return Desk(busy_world(), GrowingLog(tmp_path / "logs"), tmp_path / "store")


def files_of(folder: Path) -> dict[str, bytes]:
    """All files of a log but the checkpoint, which grows."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "checkpoint"
    }


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    people=st.integers(2, 6),
    gone=st.integers(0, 5),
    doubles=st.integers(0, 2),
    uses=st.lists(st.integers(0, 5), min_size=1, max_size=25),
)
def test_after_an_erasure_all_proofs_stay_and_nothing_leads_to_the_person(
    tmp_path_factory: pytest.TempPathFactory, people: int, gone: int, doubles: int, uses: list[int]
) -> None:
    """Whoever of however many, merged or not: every leaf, root and checkpoint of before stays, byte for byte, every old
    receipt is valid, in the tree of then and in that of now; no tag of the person is in any byte of the store."""
    folder = tmp_path_factory.mktemp("erased")
    desk, gone = Desk(make_world(), GrowingLog(folder / "logs"), folder / "store"), gone % people
    world, names = desk.world, [EMMA, *(f"https://ketenid.nl/201703/{n:0128x}" for n in range(1, people))]
    world.send(SIS, *(enrolment(name, f"L{n + 1:04}") for n, name in enumerate(names)))
    for number in range(doubles):
        world.send(SIS, enrolment(None, f"X{number}"))
        world.send(DELTA, event(receiver=PORTAL, subject=Subject("PUPIL", None, (("LAS_KEY", f"X{number}"),))))
        subject = Subject("PUPIL", names[gone], (("LAS_KEY", f"L{gone + 1:04}"),), (("LAS_KEY", f"X{number}"),))
        assert world.send(SIS, replace(enrolment(), kind="MERGE", subject=subject))[0].code == "ok.vault"
    sent = [event(receiver=PORTAL, subject=Subject("PUPIL", names[use % people])) for use in uses]
    world.send(DELTA, *sent)
    desk.sign()
    with Store(desk.file) as store:
        assert desk.take_in(store) == 0
        tags = {name: [lookup_tag(key) for key in person_of(world, name).subject_keys] for name in names}
        assert [len(tags[name]) for name in names] == [1 + doubles * (n == gone) for n in range(people)]
        found = {name: [store.find(Wanted(tag=tag)) for tag in tags[name]] for name in names}
        assert all(rows for name in names for rows in found[name])
        assert all(tag in desk.bytes_left() for name in names for tag in tags[name])
        before, leaves, checkpoint = files_of(desk.log.folder), audit_events(world), desk.log.directory.checkpoint()
        salts = {
            out.value: dict(out.headers)[AUDIT_SALT] for out in world.topic(f"out.{PORTAL}.usage")
        }  # fmt: skip
        receipts = [
            (value, desk.query(store).receipt(one.event_id, PORTAL, salts[value], value))
            for one, value in zip(sent, list(salts)[doubles:], strict=True)
        ]
        erase = replace(ERASE, subject=Subject("PUPIL", names[gone]))
        assert world.send(SIS, erase)[0].code == "ok.vault"
        world.send(DELTA, *sent[:3])
        desk.sign()
        assert desk.take_in(store) >= 1 + doubles
        # what was signed
        after = files_of(desk.log.folder)
        whole = {name: data for name, data in before.items() if ".p/" not in name}
        assert whole.items() <= after.items()
        assert audit_events(world)[: len(leaves)] == leaves
        assert list(desk.log.signed().reader.entries(0, len(leaves))) == leaves
        (folder / "old.checkpoint").write_bytes(checkpoint or b"")
        arguments = ["log", str(desk.log.folder), "--entries", "all", "--old", str(folder / "old.checkpoint")]
        assert one_file.main(arguments) == 0
        for value, receipt in receipts:
            assert verify(Receipt.parse(receipt), [desk.log.signer.verifier], value).side == "out"
            salt = salts[value]
            new = desk.query(store).receipt(sent[list(salts)[doubles:].index(value)].event_id, PORTAL, salt, value)
            assert verify(Receipt.parse(new), [desk.log.signer.verifier], value).entry == Receipt.parse(receipt).entry
        # what leads to the person
        for name in names:
            rows = [store.find(Wanted(tag=tag)) for tag in tags[name]]
            if name == names[gone]:
                assert not any(rows)
                assert not any(tag in desk.bytes_left() for tag in tags[name])
            else:
                assert all(len(now) >= len(then) for now, then in zip(rows, found[name], strict=True))
        # what can be asked
        data = desk.query(store).erasure(erase.event_id)
        assert (
            json.loads(verify(Receipt.parse(data), [desk.log.signer.verifier]).entry)["erased"]["event"]
            == erase.event_id
        )


# ---- the index


def test_an_entry_to_forget_waits_for_its_leaf_and_then_takes_all_rows(desk: Desk) -> None:
    """Both of a merged person; what was read late, or again, does not bring one back."""
    world = desk.world
    world.send(SIS, again(0))
    world.send(DELTA, event(subject=las(0)))
    world.send(SIS, merged(0))
    desk.sign()
    with Store(desk.file) as store:
        desk.take_in(store)
        tags = [lookup_tag(key) for key in person_of(world).subject_keys]
        rows = sum(len(store.find(Wanted(tag=tag))) for tag in tags)
        assert rows > 4
        world.send(SIS, ERASE)
        assert desk.take_in(store) == 0  # not signed yet
        assert store.waiting() == 3  # the leaf of the ERASE itself, and two keys
        assert sum(len(store.find(Wanted(tag=tag))) for tag in tags) == rows
        desk.sign()
        assert desk.take_in(store) == rows + 1
        assert store.waiting() == 0
        desk.entries = 0  # all once more, as after a store that lost its position
        assert desk.take_in(store) == 0
        assert store.waiting() == 0
        assert [store.find(Wanted(tag=tag)) for tag in tags] == [[], []]
        assert not any(tag in desk.bytes_left() for tag in tags)


def test_an_erasure_that_is_killed_on_the_way_is_done_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the rows are gone, but the file was not written anew."""
    desk.world.send(SIS, ERASE)
    desk.sign()
    with Store(desk.file) as store:
        kept = Store.forget

        def busy(self: Store, *tags: bytes) -> int:
            kept(self, *tags)
            raise TransientError("busy", code="audit.store_busy")

        monkeypatch.setattr(Store, "forget", busy)
        with pytest.raises(TransientError):
            desk.take_in(store)
        assert store.waiting() == 1
        monkeypatch.undo()
        calls = []
        monkeypatch.setattr(Store, "forget", lambda self, *tags: calls.append(tags) or kept(self, *tags))
        desk.take_in(store)
        desk.take_in(store)
        assert len(calls) == 1
        assert store.waiting() == 0


def test_sealed_entries_of_the_person_do_not_stay_in_the_file(desk: Desk) -> None:
    """They waited for their leaf, and who has the school's key could open what SQLite left of them."""
    early = audit_index(desk.world)
    with Store(desk.file) as store:
        with store.transaction():
            index_people(store, early, desk.world.exchange_keys.vault)
        assert all(entry in desk.bytes_left() for entry in early)
        desk.world.send(SIS, ERASE)
        desk.sign()
        desk.take_in(store)
        assert not any(entry in desk.bytes_left() for entry in early)


def test_an_entry_to_forget_of_another_school_is_told(desk: Desk) -> None:
    """As any other that does not open; nobody is erased by it."""
    desk.world.send(SIS, ERASE)
    desk.sign()

    class Others:
        def school_ciphers(self, school: str) -> tuple[AESGCM]:
            """Of nobody."""
            return (AESGCM(school.encode().ljust(32, b".")),)

    with Store(desk.file) as store:
        index_log(store, desk.log.signed())
        with store.transaction():
            index_people(store, [e for e in audit_index(desk.world) if forgets(e)], desk.world.exchange_keys.vault)
        with pytest.raises(ConfigError, match="does not open"):
            forget_people(store, Others())
        assert store.waiting() == 1


# ---- the receipt


def test_the_receipt_of_an_erasure_is_verified_by_the_one_file(desk: Desk, tmp_path: Path) -> None:
    """As an auditor runs it: a process of its own, with a key and nothing else of the project."""
    desk.world.send(SIS, ERASE, replace(enrolment(NOAH, "L0002"), kind="ENROL"))
    desk.sign()
    receipt = tmp_path / "erased.tlog-proof"
    with Store(desk.file) as store:
        desk.take_in(store)
        receipt.write_bytes(desk.query(store).erasure(ERASE.event_id))
    command = [sys.executable, "-I", one_file.__file__, "receipt", str(receipt), "--key", desk.log.signer.vkey]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "VERIFIED" in done.stdout
    assert ERASE.event_id in done.stdout


def test_there_is_no_receipt_of_what_was_not_erased(desk: Desk) -> None:
    """Refused, repeated, of another kind, not known, or without its leaf: each says what to do."""
    repeated = replace(ERASE, event_id=ERASED_TWICE)
    desk.world.send(SIS, ERASE, repeated)
    desk.sign()
    with Store(desk.file) as store:
        desk.take_in(store)
        query = desk.query(store)
        enrolled = next(row.leaf.event for row in store.find(Wanted()) if row.leaf.kind == "ENROL")
        for wrong in (ERASED_TWICE, enrolled, "00000000-0000-4000-8000-000000000000"):
            with pytest.raises(ConfigError) as caught:
                query.erasure(wrong)
            assert caught.value.code == "audit.event"


def test_an_erasure_whose_leaf_was_left_out_has_no_receipt(desk: Desk) -> None:
    """It is said where to look for it; the reconciler finds it too."""
    desk.world.send(SIS, ERASE)
    leaves = [leaf for leaf in audit_events(desk.world) if not leaf.startswith(b'{"erased"')]
    desk.log.grow(leaves)
    with Store(desk.file) as store:
        index_log(store, desk.log.signed())
        with pytest.raises(ConfigError, match="R7") as caught:
            desk.query(store).erasure(ERASE.event_id)
        assert caught.value.code == "audit.unproven"


def test_a_damaged_log_gives_no_receipt_of_an_erasure(desk: Desk) -> None:
    """The leaf of the ERASE is not proven then."""
    desk.world.send(SIS, ERASE)
    desk.sign()
    with Store(desk.file) as store:
        desk.take_in(store)
        tile = next(path for path in desk.log.folder.rglob("*") if path.is_file() and "tile/0" in str(path))
        tile.write_bytes(bytes(len(tile.read_bytes())))
        with pytest.raises(ConfigError) as caught:
            desk.query(store).erasure(ERASE.event_id)
        assert caught.value.code == "audit.unproven"
