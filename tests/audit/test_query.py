"""Tests of `broker.audit.query` and its stories: what is found is the leaf itself, with its proof or why there is none."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from broker.audit.coordinates import coordinates
from broker.audit.indexing import index_log, index_people
from broker.audit.leaf import Commitments, Ids, leaf
from broker.audit.log.tiles import bundle_path, tile_path
from broker.audit.query import Found, Query
from broker.audit.receipt import Receipt, ReceiptError, verify
from broker.audit.store import Store, Wanted
from broker.audit.story import story
from broker.client import Subject
from broker.errors import ConfigError
from broker.wire import AUDIT_SALT
from tests.audit.signed_world import GrowingLog, audit_events, audit_index, busy_world, tag_of
from tests.exchange.test_parking import DAY_MS, LATE, MAYA
from tests.exchange.test_replay import again, declare, taken_for_a_bsn
from tests.exchange.world import BOOK, DELTA, EMMA, NOAH, PORTAL, SIS, World, enrolment, event


@contextmanager
def asked(folder: Path, world: World) -> Iterator[tuple[Query, GrowingLog, Store]]:
    """A store and the log of what a world wrote, in the hands of an auditor."""
    log = GrowingLog(folder / "logs")
    with Store(folder / "store") as store:
        index_log(store, log.grow(audit_events(world)))
        with store.transaction():
            index_people(store, audit_index(world), world.exchange_keys.vault)
        yield Query(store, folder / "logs", [log.signer.verifier]), log, store


@pytest.fixture
def world() -> World:
    """Enrolled, delivered, repeated, refused."""
    return busy_world()


def again_asked(query: Query, log: GrowingLog, store: Store) -> list[Found]:
    """All leaves, by a query that remembers nothing."""
    del query
    return Query(store, log.root, [log.signer.verifier]).find(Wanted())


def test_what_is_found_is_the_leaf_with_its_proof(tmp_path: Path, world: World) -> None:
    """Every decision, in order, by any question; each proven at the size that is signed."""
    with asked(tmp_path, world) as (query, log, _):
        found = query.find(Wanted())
        assert [f.entry for f in found] == world.leaves()
        assert {f.status for f in found} == {f"proven at size {log.builder.edge.size}"}
        about_emma = query.find(Wanted(tag=tag_of(world)))
        assert [f.entry for f in about_emma] == [entry for entry in world.leaves() if b"data_subject_id" in entry]
        assert {f.leaf.code for f in query.find(Wanted(decision="refused"))} == {"school.not_yours"}


@pytest.mark.parametrize("kind", ["bundle", "tile"])
def test_each_bit_that_is_changed_is_a_finding(tmp_path: Path, world: World, kind: str) -> None:
    """In the entries or in the tree: a leaf is never called proven then, and what was meant to be there is still told."""
    with asked(tmp_path, world) as (query, log, store):
        size = log.builder.edge.size
        file = log.folder / (bundle_path(0, size) if kind == "bundle" else tile_path(0, 0, size))
        good = file.read_bytes()
        for at in range(0, len(good), 97 if kind == "bundle" else 7):
            file.write_bytes(good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :])
            found = again_asked(query, log, store)
            assert len(found) == len(world.leaves())
            wrong = [f for f in found if f.problem is not None]
            assert wrong
            assert all(f.status.startswith("signed, not proven: ") and f.size is None for f in wrong)
            # Who is proven in spite of it is still the leaf that was signed.
            assert all(f.entry in world.leaves() for f in found if f.problem is None)
        file.write_bytes(good)
        assert all(f.problem is None for f in again_asked(query, log, store))


def test_whatever_is_missing_is_a_finding(tmp_path: Path, world: World) -> None:
    """A bundle, a log, leaves at its end, or the signature."""
    with asked(tmp_path, world) as (query, log, store):
        bundle = log.folder / bundle_path(0, log.builder.edge.size)
        data = bundle.read_bytes()
        bundle.unlink()
        assert {f.entry for f in again_asked(query, log, store)} == {None}
        assert all("missing" in f.status for f in again_asked(query, log, store))
        bundle.write_bytes(data)
        stranger = GrowingLog(tmp_path / "b", "broker.example/audit/p1/1").signer.verifier
        unknown = Query(store, log.root, [stranger]).find(Wanted())
        assert all("its log is not here; p0-1: a note has no signature" in f.status for f in unknown)
        short = GrowingLog(tmp_path / "short")
        short.grow(audit_events(world)[:2])
        found = Query(store, short.root, [log.signer.verifier]).find(Wanted())
        assert [f.problem is None for f in found] == [True, True] + [False] * (len(found) - 2)
        assert "leaves were taken back" in found[-1].status


def test_a_store_that_says_something_else_is_a_finding(tmp_path: Path, world: World) -> None:
    """The leaf's own words are shown."""
    with asked(tmp_path, world) as (query, _, _store):
        other = sqlite3.connect(tmp_path / "store")
        with other:
            other.execute("UPDATE leaves SET time = time + 1 WHERE idx = 1")
        other.close()
        found = query.find(Wanted())[-1]  # the newest now, as the store has it
        assert found.index == 1
        assert found.leaf.time == world.now_ms
        assert "the store says something else" in found.status


# ---- stories


def told(folder: Path, world: World, number: int = -1) -> str:
    """The story of the event of one of the leaves."""
    with asked(folder, world) as (query, _, _store):
        text = "\n".join(query.explain(world.evidence()[number]["event"]))
        assert "not proven" not in text
        return text


def test_the_story_of_a_delivery(tmp_path: Path, world: World) -> None:
    """Who sent what, to whom it went, on which agreement and policy, and which attributes went along."""
    text = told(tmp_path, world, 1)
    first, *rest = text.split("\n")
    assert first.startswith(f"{DELTA} sent usage USE of school 99PA, event {world.evidence()[1]['event']}.")
    assert "It stood at in.uitgeverij-delta/1@0. The broker took it up at 2026-11-24 09:00:00 UTC." in first
    assert (
        "  2026-11-24 09:00:00 UTC: It was delivered to portaal-plein in the process Gebruik. Code ok: Delivered."
        in rest
    )
    assert "  It rests on the agreement vwo-po-portaal/1.0." in rest
    assert f"  The policy was {world.registry.policy.version}, the registry {world.registry.version}." in rest
    x = world.evidence()[1]
    assert f"  The receiver got: {', '.join(x['kept'])}." in rest
    assert f"  The receiver did not get: {', '.join(x['dropped'])}." in rest
    assert f"  This leaf is proven at size {len(audit_events(world))}." in rest
    # The same event id was sent twice: it is told as a second record, for each receiver.
    assert text.count("sent usage USE") == 2
    assert text.count("It was a repetition of what was sent before for ") == 3


def test_the_story_of_a_refusal(tmp_path: Path, world: World) -> None:
    """With the code's own sentence."""
    text = told(tmp_path, world)
    assert f"{DELTA} sent an event whose kind could not be read, event" in text
    assert "It was refused. Code school.not_yours:" in text


def test_the_story_of_an_event_that_the_broker_told_itself() -> None:
    """Nobody sent it; with all that a leaf may say beside, and what this version does not know told as it stands."""
    x = {
        "sender": "broker", "decision": "delivered", "code": "ok.duty", "event": "e", "receiver": "portaal", "kept": [],
        "exceptions": ["ex-1"], "closing": 20_000, "field": "subject", "rule": "R7", "policy": "p\x1b[2J",
    }  # fmt: skip
    text = "\n".join(story([made_up(x)]))
    assert text == "\n".join([
        "The broker itself told an event whose kind could not be read, event e. The broker took it up at "
        "1970-01-01 00:00:00 UTC.",
        "  1970-01-01 00:00:01 UTC: It was delivered to portaal. Code ok.duty: Told by the broker itself, since the "
        "registry changed.",
        "  It was decided by the rule R7 and the field subject.",
        "  The policy was p?[2J, the registry not named.",
        "  The receiver got: nothing.",
        "  Temporary exceptions let attributes pass: ex-1.",
        "  A gate was closed by then; since this event closes what was open before, it still passed.",
        "  This leaf is proven at size 1.",
    ])  # fmt: skip
    strange = story([made_up(x | {"sender": "delta", "decision": "new", "code": "new.code", "in": {"topic": 1}})])
    assert "It was decided for portaal: new. Code new.code." in strange[1]
    one_of_many = story([made_up(x | {"decision": "quarantined", "code": "internal.error"})])
    assert "It was put into quarantine for portaal. Code internal.error:" in one_of_many[1]


def made_up(x: dict[str, Any]) -> Found:
    """A leaf with this evidence."""
    entry = leaf(
        ids=Ids(bytes(16), bytes(8)), name="n", activity="a", processor=None, token=None, start_ms=0, end_ms=1_000,
        evidence=x,
    )  # fmt: skip
    read = coordinates(entry)
    assert read is not None
    return Found("o", 0, read, entry, 1, None)


def test_the_story_of_an_event_that_waited(tmp_path: Path, world: World) -> None:
    """And then was delivered."""
    world.send(DELTA, event(subject=LATE, receiver=PORTAL))
    world.send(SIS, enrolment(MAYA, "L0099"))
    world.now_ms += DAY_MS
    world.run(DELTA)
    text = told(tmp_path, world)
    waits, came = text.index("It waits: nothing was decided yet"), text.index("It was delivered to portaal-plein")
    assert waits < came
    assert text.count("sent usage USE") == 1
    assert "2026-11-25" in text[waits:came]


def test_the_story_of_an_event_that_waited_too_long(tmp_path: Path, world: World) -> None:
    """Nobody received it."""
    world.send(DELTA, event(subject=LATE))
    world.now_ms += 400 * DAY_MS
    world.run(DELTA)
    assert "It had waited for an enrolment, which did not come in time" in told(tmp_path, world)


def test_the_story_of_a_replay_out_of_quarantine(tmp_path: Path, world: World) -> None:
    """Both tries, and which record the second one repeats."""
    entry = taken_for_a_bsn(world)
    declare(world)
    world.run(SIS, again(world, entry))
    text = told(tmp_path, world)
    quarantined = text.index("It was put into quarantine, and nobody received it. Code ")
    assert quarantined < text.index("It is a replay of the record at in.sis-noord/1@1, which stood in quarantine.")
    assert "It was delivered in the broker itself" in text[quarantined:]


def test_an_event_of_which_no_leaf_speaks_is_told(tmp_path: Path, world: World) -> None:
    """With what to do."""
    with asked(tmp_path, world) as (query, _, _store), pytest.raises(ConfigError) as caught:
        query.explain("00000000-0000-4000-8000-000000000000")
    assert caught.value.code == "audit.event"


def test_no_story_and_nothing_found_has_a_value_of_a_person(tmp_path: Path, world: World) -> None:
    """ECK iDs, local ids and what a body says: none of it gets out, nor a token or a salt."""
    secret = Subject("PUPIL", None, (("LAS_KEY", "CANARY-L77"),))
    world.send(SIS, enrolment(NOAH, "CANARY-L77"))
    world.send(DELTA, event(subject=secret), event(subject=LATE))
    canaries = [EMMA, NOAH, "CANARY-L77", "L0099", "L0001", BOOK, "0b9f4c7e-6f0a-4f4e-9c55-0d6b3f3c2a11"]
    with asked(tmp_path, world) as (query, _, _store):
        found = query.find(Wanted())
        text = "\n".join(line for f in found for line in (*query.explain(f.leaf.event), str(f.leaf), f.status))
        tokens = [Commitments(bytes(32), Ids(bytes(16), bytes(8))).token()]
    tokens += [entry.split(b'subject_id":"')[1][:22].decode() for entry in world.leaves() if b"subject_id" in entry]
    assert len(found) == len(world.leaves())
    commitments = [x["in"]["value"] for x in world.evidence()]
    assert [word for word in (*canaries, *tokens, *commitments) if word in text] == []


# ---- receipts


def test_a_receiver_gets_a_receipt_of_what_was_delivered(tmp_path: Path, world: World) -> None:
    """It verifies with the log's key alone, over the bytes that were delivered."""
    record = world.topic("out.portaal-plein.usage")[0]
    salt, value = dict(record.headers)[AUDIT_SALT], record.value or b""
    with asked(tmp_path, world) as (query, log, _):
        event_id = world.evidence()[1]["event"]
        data = query.receipt(event_id, PORTAL, salt, value)
        shown = verify(Receipt.parse(data), [log.signer.verifier], value)
        assert (shown.side, shown.size) == ("out", log.builder.edge.size)
        assert query.receipt(event_id, PORTAL, salt) == data
        with pytest.raises(ReceiptError):
            query.receipt(event_id, PORTAL, bytes(32), value)
        with pytest.raises(ReceiptError):
            query.receipt(event_id, PORTAL, salt[:31])


def test_there_is_no_receipt_of_what_was_not_delivered_or_not_proven(tmp_path: Path, world: World) -> None:
    """It says which of the two."""
    events = [x["event"] for x in world.evidence()]
    with asked(tmp_path, world) as (query, log, store):
        for number, receiver in ((-1, PORTAL), (1, "uitgeverij-oost")):
            with pytest.raises(ConfigError) as caught:
                query.receipt(events[number], receiver, bytes(32))
            assert caught.value.code == "audit.event"
        (log.folder / tile_path(0, 0, log.builder.edge.size)).unlink()
        damaged = Query(store, log.root, [log.signer.verifier])
        with pytest.raises(ConfigError) as caught:
            damaged.receipt(events[1], PORTAL, bytes(32))
        assert caught.value.code == "audit.unproven"
        assert "missing" in str(caught.value)


def test_a_story_says_what_could_not_be_proven(tmp_path: Path, world: World) -> None:
    """What a store alone says is told as that."""
    with asked(tmp_path, world) as (_, log, store):
        (log.folder / bundle_path(0, log.builder.edge.size)).unlink()
        text = "\n".join(Query(store, log.root, [log.signer.verifier]).explain(world.evidence()[1]["event"]))
    assert "It was delivered to portaal-plein" in text
    assert "This leaf is signed, not proven:" in text
    assert "The receiver got" not in text
