"""Tests of `broker.audit.store`: what it finds, that it forgets for good, and that a transaction is whole."""

from __future__ import annotations

import random
import sqlite3
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from broker.audit.coordinates import Coordinates, coordinates
from broker.audit.leaf import Ids, leaf
from broker.audit.store import Store, Wanted
from broker.errors import ConfigError, TransientError

ROOT = bytes(32)


def made(number: int, **changes: Any) -> Coordinates:
    """The coordinates of a leaf."""
    values = {
        "time": 1_000 + number, "sender": "delta", "decision": "delivered", "code": "ok",
        "event": f"00000000-0000-4000-8000-{number:012}", "span": number.to_bytes(8), "school": "99PA",
        "receiver": "portaal", "process": "Gebruik", "family": "usage", "kind": "USE",
        "activity": "https://register.example/Gebruik", "trace": (number % 2).to_bytes(16),
    }  # fmt: skip
    return Coordinates(**(values | changes))  # type: ignore[arg-type]


ODD = made(1, sender="sis", receiver=None, process=None, school=None, decision="refused", code="no", event="not-a-uuid")
LEAVES = [
    made(0), ODD, made(2, receiver="delta", sender="winkel", trace=None),
    made(3, school="99PB", process="BestellenLeveren", activity="https://other.example/Gebruik"),
]  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Any:
    """A store with four leaves in two logs."""
    with Store(tmp_path / "store") as made_store:
        with made_store.transaction():
            made_store.add("log/p0/1", enumerate(LEAVES[:3]), 3, ROOT)
            made_store.add("log/p1/1", [(7, LEAVES[3])], 8, ROOT)
        yield made_store


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(), [0, 1, 2, 3]),
        (Wanted(school="99PA"), [0, 2]),
        (Wanted(party="delta"), [0, 2, 3]),
        (Wanted(party="portaal"), [0, 3]),
        (Wanted(party="delta", most=2), [2, 3]),
        (Wanted(party="delta", most=1, until_ms=1_003), [2]),
        (Wanted(process="BestellenLeveren"), [3]),
        (Wanted(event="not-a-uuid"), [1]),
        (Wanted(event=LEAVES[2].event), [2]),
        (Wanted(event=LEAVES[2].event.upper()), [2]),
        (Wanted(decision="refused"), [1]),
        (Wanted(code="ok"), [0, 2, 3]),
        (Wanted(since_ms=1_001, until_ms=1_003), [1, 2]),
        (Wanted(most=2), [2, 3]),
        (Wanted(school="99PA", party="winkel"), [2]),
        (Wanted(school="nobody"), []),
        (Wanted(school="99PA", event=LEAVES[2].event, process="Gebruik", decision="delivered", code="ok"), [2]),
        (Wanted(school="99PB", event=LEAVES[2].event), []),
        (Wanted(party="sis", event=LEAVES[2].event), []),
        (Wanted(school="99PA", process="BestellenLeveren"), []),
        (Wanted(tag=bytes(16)), []),
        (Wanted(trace=bytes(16)), [0]),
        (Wanted(trace=(1).to_bytes(16)), [1, 3]),
        (Wanted(trace=(1).to_bytes(16), school="99PB", until_ms=1_004), [3]),
        (Wanted(trace=(2).to_bytes(16)), []),
        (Wanted(activity="https://register.example/Gebruik"), [0, 1, 2]),
        (Wanted(activity="https://register.example/Gebruik", school="99PA", most=1), [2]),
        (Wanted(activity="https://register.example/Gebruik", trace=bytes(16)), [0]),
        (Wanted(activity="https://register.example"), []),
    ],
)
def test_leaves_are_found_by_what_they_say(store: Store, wanted: Wanted, found: list[int]) -> None:
    """Each member alone and two together; in the order of time, with all that was put in."""
    assert [row.leaf for row in store.find(wanted)] == [LEAVES[n] for n in found]


def test_a_place_is_taken_in_once(store: Store) -> None:
    """Again: nothing new, nothing changed, whatever is said of it then; the place says which log."""
    with store.transaction():
        store.add("log/p0/1", [(0, made(5)), *enumerate(LEAVES[1:3], 1)], 3, ROOT)
    assert store.find(Wanted())[0].leaf == LEAVES[0]
    assert [(row.origin, row.index) for row in store.find(Wanted())] == [
        ("log/p0/1", 0), ("log/p0/1", 1), ("log/p0/1", 2), ("log/p1/1", 7),
    ]  # fmt: skip
    assert store.position("log/p0/1") == (3, ROOT)
    assert store.position("log/p9/1") == (0, None)


def test_nothing_of_a_transaction_that_fails_stays(store: Store) -> None:
    """Leaves, words and position alike; the words of the failed one can be written again."""

    def fail() -> None:
        with store.transaction():
            store.add("log/p0/1", [(3, made(9, school="99NEW"))], 4, b"r" * 32)
            store.read_up_to("audit.index/0", 5)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert store.position("log/p0/1") == (3, ROOT)
    assert store.offset("audit.index/0") is None
    with store.transaction():
        store.add("log/p0/1", [(3, made(9, school="99NEW"))], 4, ROOT)
    assert len(store.find(Wanted(school="99NEW"))) == 1


def tag(number: int) -> bytes:
    """A tag like a real one."""
    return sha256(b"%d" % number).digest()[:16]


def test_a_person_is_found_by_the_tag_and_forgotten_for_good(tmp_path: Path) -> None:
    """Of many, half are erased: not a row, and not a byte of a tag in the file or its journal; the others stay."""
    file = tmp_path / "store"
    people, chance = 400, random.Random(1)
    with Store(file) as store:
        with store.transaction():
            store.add("log/p0/1", ((n, made(n)) for n in range(4_000)), 4_000, ROOT)
        for part in range(4):
            with store.transaction():
                for index in range(part * 1_000, part * 1_000 + 1_000):
                    store.tag(tag(index % people), "log/p0/1", index)
        gone = chance.sample(range(people), people // 2)
        assert [row.index for row in store.find(Wanted(tag=tag(7)))] == list(range(7, 4_000, people))
        assert store.forget(*(tag(number) for number in gone[1:])) == 10 * len(gone) - 10
        assert store.forget(tag(gone[0])) == 10
        bytes_left = file.read_bytes() + (tmp_path / "store-wal").read_bytes()
        assert [n for n in gone if tag(n) in bytes_left] == []
        for number in range(people):
            assert len(store.find(Wanted(tag=tag(number)))) == (0 if number in gone else 10)
        assert tag(next(n for n in range(people) if n not in gone)) in bytes_left


def test_of_entries_that_waited_nothing_stays_once_somebody_is_forgotten(tmp_path: Path) -> None:
    """They are sealed, and who has the school's key could open what SQLite left of them where its rows were moved."""
    file, chance = tmp_path / "store", random.Random(2)
    entries = [chance.randbytes(52) for _ in range(3_000)]
    with Store(file) as store:
        for part in range(0, 3_000, 100):
            with store.transaction():
                for entry in entries[part : part + 100]:
                    store.wait(entry[:8], entry)
        with store.transaction():
            for entry in entries[::5]:
                store.settle(entry[:8], entry)
        store.forget(tag(1))
        bytes_left = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert [n for n, entry in enumerate(entries) if entry in bytes_left] == [n for n in range(3_000) if n % 5]
        assert store.waiting() == 2_400


def test_what_comes_late_does_not_bring_a_person_back(store: Store) -> None:
    """An entry that is read after the erasure: the topic keeps it for a week."""
    with store.transaction():
        store.tag(tag(1), "log/p0/1", 0)
    store.forget(tag(1))
    with store.transaction():
        store.tag(tag(1), "log/p0/1", 0)
        store.tag(tag(2), "log/p0/1", 0)
    assert store.find(Wanted(tag=tag(1))) == []
    assert len(store.find(Wanted(tag=tag(2)))) == 1


def test_an_erasure_is_not_done_while_somebody_reads_the_journal(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so, and is done once the reader has ended."""
    with store.transaction():
        store.tag(tag(1), "log/p0/1", 0)
    store._db.execute("PRAGMA busy_timeout=1")
    reader = sqlite3.connect(tmp_path / "store", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM tags").fetchall()
    with pytest.raises(TransientError, match="journal still has them"):
        store.forget(tag(1))
    reader.close()
    store.forget(tag(1))
    assert tag(1) not in (tmp_path / "store").read_bytes() + (tmp_path / "store-wal").read_bytes()


@pytest.mark.parametrize("content", [b"not a database, but long enough to be taken for one" * 50, "other"])
def test_another_file_is_not_taken_for_a_store(tmp_path: Path, content: bytes | str) -> None:
    """Neither one of no database nor a database of something else; it is left as it is."""
    file = tmp_path / "file"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        other = sqlite3.connect(file)
        other.execute("CREATE TABLE other (a)")
        other.close()
    with pytest.raises(ConfigError) as caught:
        Store(file)
    assert caught.value.code == "audit.store"


def test_only_its_owner_may_read_a_store(store: Store, tmp_path: Path) -> None:
    """Its journal too: both lead to persons. A place where no file can be is told."""
    assert store.position("log/p0/1") == (3, ROOT)
    assert [file.stat().st_mode & 0o077 for file in tmp_path.glob("store*")] == [0, 0, 0]
    with pytest.raises(ConfigError) as caught:
        Store(tmp_path / "absent" / "store")
    assert caught.value.code == "audit.store"


def test_coordinates_are_read_from_a_leaf() -> None:
    """Those it has; the others are None."""
    evidence = {"sender": "delta", "decision": "refused", "code": "no", "event": "e", "in": {"value": "secret"}}
    entry = leaf(
        ids=Ids(bytes(16), b"12345678"), name="n", activity="a", processor=None, token=None, start_ms=1, end_ms=2,
        evidence=evidence,
    )  # fmt: skip
    expected = Coordinates(
        time=2, sender="delta", decision="refused", code="no", event="e", span=b"12345678", activity="a",
        trace=bytes(16),
    )  # fmt: skip
    assert coordinates(entry) == expected
    evidence["sender"] = "delta\x1b[2J"
    found = coordinates(entry.replace(b'"delta"', b'"delta\\u001b[2J"'))
    assert found == replace(expected, sender="delta?[2J")


BROKEN = {
    "window": b'{"v":1,"window":{}}',
    "no json": b'{"ldv":',
    "no x": b'{"ldv":{},"v":1}',
    "no time": b'{"ldv":{"span_id":"00"},"v":1,"x":{"code":"a","decision":"a","event":"a","sender":"a"}}',
    "short span": b'{"ldv":{"end_time":1,"span_id":"00"},"v":1,"x":{"code":"a","decision":"a","event":"a","sender":"a"}}',
    "a number": b'{"ldv":{"end_time":1,"span_id":"0011223344556677"},"v":1,"x":{"code":1,"decision":"a","event":"a","sender":"a"}}',
    "a time below 1970": b'{"ldv":{"end_time":-1,"span_id":"0011223344556677"},"v":1,"x":{"code":"a","decision":"a","event":"a","sender":"a"}}',
    "a time without a date": b'{"ldv":{"end_time":253402300800000,"span_id":"0011223344556677"},"v":1,"x":{"code":"a","decision":"a","event":"a","sender":"a"}}',
    "a deep one": b'{"ldv":' + b"[" * 60_000,
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_decision_has_no_coordinates(case: str) -> None:
    """Never an exception: one leaf of another kind must not stop the others."""
    assert coordinates(BROKEN[case]) is None
