"""What the exchange writes when a person is erased, and what is left of the person afterwards: nothing that leads there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from broker.audit.index import forgets, index_entry, open_entry, span_of
from broker.audit.leaf import Commitments, Ids, is_decision, lookup_tag
from broker.client import Event, Subject
from broker.crypto import seal
from broker.errors import ConfigError
from broker.exchange.model import AUDIT_EVENTS, AUDIT_INDEX, VAULT
from broker.identity.vault import VaultCipher, VaultRecord, new_subject_key
from broker.limits import Limits
from broker.schemas import catalogue
from broker.schemas.model import parse
from tests.exchange.world import DELTA, EMMA, NOAH, PORTAL, SIS, World, enrolment, event, make_world

ERASE = replace(enrolment(), kind="ERASE")


def person_of(world: World, eck_id: str = EMMA) -> VaultRecord:
    """Who is enrolled under an ECK iD."""
    vault = world.exchange_keys.vault
    person = vault.find(world.vault, vault.key("PO", "99PA", "ECK_ID", eck_id))
    assert person is not None
    return person


def again(number: int) -> Event:
    """A second enrolment of Emma by mistake, without her ECK iD."""
    return enrolment(None, f"DUBBEL{number}")


def merged(number: int) -> Event:
    """The MERGE of it with Emma's own."""
    subject = Subject("PUPIL", EMMA, (("LAS_KEY", "L0001"),), (("LAS_KEY", f"DUBBEL{number}"),))
    return replace(enrolment(), kind="MERGE", subject=subject)


def las(number: int) -> Subject:
    """Emma, by the local id of her second enrolment."""
    return Subject("PUPIL", None, (("LAS_KEY", f"DUBBEL{number}"),))


def erased_leaves(world: World) -> list[dict[str, Any]]:
    """What the `erased` leaves say."""
    leaves = [json.loads(out.value or b"") for out in world.topic(AUDIT_EVENTS)]
    return [leaf["erased"] for leaf in leaves if "erased" in leaf]


def forgotten(world: World) -> list[bytes]:
    """The tags that the index is told to forget."""
    cipher = world.exchange_keys.vault.school_cipher("99PA")
    entries = [out.value or b"" for out in world.topic(AUDIT_INDEX)]
    return [open_entry(cipher, entry).tag for entry in entries if forgets(entry)]


# ---- merged enrolments


def test_who_was_merged_keeps_the_keys_of_all_enrolments(school: World) -> None:
    """Chained, and of two that were merged before they met; the one that the event names goes on. Leaves of before are
    found by them, so none may be missing, and none be there twice."""
    keys = [person_of(school).subject_key]
    for number in range(3):
        school.send(SIS, again(number))
        vault = school.exchange_keys.vault
        other = vault.find(school.vault, vault.key("PO", "99PA", "LAS_KEY", f"DUBBEL{number}"))
        assert other is not None
        keys.append(other.subject_key)
    pair = Subject("PUPIL", None, (("LAS_KEY", "DUBBEL2"),), (("LAS_KEY", "DUBBEL1"),))
    assert school.send(SIS, merged(0))[0].code == "ok.vault"
    assert school.send(SIS, replace(enrolment(), kind="MERGE", subject=pair))[0].code == "ok.vault"
    assert school.send(SIS, merged(2))[0].code == "ok.vault"
    person = person_of(school)
    assert person.subject_key == keys[0]
    assert set(person.subject_keys) == set(keys)
    assert len(person.subject_keys) == len(keys)
    for kind in ("CHANGE", "ENROL", "MERGE"):
        sent = merged(0) if kind == "MERGE" else replace(enrolment(), kind=kind)
        school.send(SIS, sent)
        assert person_of(school).subject_keys == person.subject_keys


def test_no_enrolment_gathers_keys_without_end() -> None:
    """Refused by name, and nothing is changed by it."""
    world = make_world(Limits(merged_enrolments=2))
    world.send(SIS, enrolment(), *map(again, range(3)))
    decisions = [world.send(SIS, merged(number))[0] for number in range(3)]
    assert [(d.code, d.field) for d in decisions[1:]] == [
        ("ok.vault", None), ("list.too_long", "previous_user_ids")
    ]  # fmt: skip
    assert len(person_of(world).subject_keys) == 3


def test_a_record_from_before_there_were_former_keys_is_opened() -> None:
    """As it is written today for who was never merged: older workers, which may run beside, open it too."""
    cipher = VaultCipher(b"m" * 32, b"r" * 32, b"s" * 32)
    document = json.loads(json.dumps(catalogue()["vault.v1"].document))
    fields = document["fields"]
    assert fields.pop()["name"] == "former_keys"  # the last one: what stands before it is as it was
    record = VaultRecord("99PA", "PO", "PUPIL", EMMA, (("LAS_KEY", "L1"),), None, new_subject_key())
    key = cipher.key("PO", "99PA", "ECK_ID", EMMA)
    written = cipher.encrypt(key, record)
    records = AESGCM(b"r" * 32)
    plain = records.decrypt(written[:12], written[12:], key)
    before = parse(document)
    assert before.encode(before.decode(plain)) == plain
    assert cipher.decrypt(key, seal(records, plain, key)) == record
    merged_one = replace(record, former_keys=(new_subject_key(), new_subject_key()))
    assert cipher.decrypt(key, cipher.encrypt(key, merged_one)) == merged_one


# ---- what is written


def test_an_erasure_writes_a_leaf_that_names_nobody_in_the_same_transaction(school: World) -> None:
    """Behind the leaf of the ERASE, in its partition; with event, school, time and an id that says where it stood."""
    step = school.run(SIS, school.record(SIS, ERASE))
    assert [d.code for d in step.decisions] == ["ok.vault"]
    audit = [out for out in step.outgoing if out.topic == AUDIT_EVENTS]
    decided, erased = (json.loads(out.value or b"") for out in audit)
    assert len({out.partition for out in audit}) == 1
    assert erased.keys() == {"erased", "v"}
    assert erased["erased"].keys() == {"event", "id", "school", "time"}
    said = {"event": ERASE.event_id, "school": "99PA", "time": school.now_ms}
    assert erased["erased"] | said == erased["erased"]
    assert erased["erased"]["event"] == decided["x"]["event"]
    assert [out.value for out in step.outgoing if out.topic == VAULT] == [None, None]


def test_the_index_is_told_to_forget_all_keys_and_only_of_this_person(school: World) -> None:
    """One entry for each key, present and former, of the span of the leaf of the ERASE."""
    school.send(SIS, again(0), merged(0))
    tags = {lookup_tag(key) for key in person_of(school).subject_keys}
    assert len(tags) == 2
    step = school.run(SIS, school.record(SIS, ERASE))
    assert sorted(forgotten(school)) == sorted(tags)
    span = next(json.loads(leaf)["ldv"]["span_id"] for out in step.outgoing if is_decision(leaf := out.value or b""))
    entries = [out.value or b"" for out in step.outgoing if out.topic == AUDIT_INDEX]
    assert {span_of(entry).hex() for entry in entries} == {span}
    assert lookup_tag(person_of(school, NOAH).subject_key) not in tags


def test_an_erasure_that_comes_twice_is_one(school: World) -> None:
    """The same event again is a repetition; another one about who is not known any more is refused."""
    school.send(SIS, ERASE, ERASE)
    school.send(SIS, ERASE)
    assert (
        school.send(SIS, replace(ERASE, event_id="7d4f0b1e-4a53-4d0e-9b1e-2f7c3a5b6c7d"))[0].code == "subject.unknown"
    )
    school.take_over(SIS)
    school.send(SIS, ERASE)
    assert len(erased_leaves(school)) == 1
    assert len(forgotten(school)) == 1


def test_an_erasure_that_is_decided_again_after_an_abort_has_the_same_leaf(school: World) -> None:
    """Lanes decide again; and another ERASE, of the next offset, has another id."""
    record = school.record(SIS, ERASE)
    first, second = (
        [out.value for out in school.step(SIS, [record]).outgoing if b'"erased":' in (out.value or b"")[:12]]
        for _ in range(2)
    )
    assert first == second
    assert len(first) == 1
    school.run(SIS, record)
    school.send(SIS, replace(enrolment(NOAH, "L0002"), kind="ERASE"))
    assert len({said["id"] for said in erased_leaves(school)}) == 2


@pytest.mark.parametrize("kind", ["ENROL", "CHANGE", "MERGE", "REPLACE"])
def test_no_other_identity_event_erases_anybody(school: World, kind: str) -> None:
    """Nor an ERASE that is refused."""
    subject = Subject(
        "PUPIL", EMMA, (("LAS_KEY", "L0001"),), (("LAS_KEY", "L0001"),) if kind in ("MERGE", "REPLACE") else ()
    )
    school.send(SIS, replace(enrolment(), kind=kind, subject=subject))
    school.send(SIS, replace(enrolment(None, "NOBODY"), kind="ERASE"), replace(enrolment(EMMA, "L0002"), kind="ERASE"))
    assert erased_leaves(school) == []
    assert forgotten(school) == []


# ---- what is left


def keys_within(thing: object, seen: set[int] | None = None) -> set[bytes]:
    """All subject keys that can be reached from an object of ours: of records, and as bytes of their length."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return set()
    seen.add(id(thing))
    if isinstance(thing, bytes):
        return {thing} if len(thing) == 32 else set()
    inner: list[object] = []
    if isinstance(thing, dict):
        inner = [*thing.keys(), *thing.values()]
    elif isinstance(thing, (list, tuple, set, frozenset)):
        inner = [*thing]
    elif type(thing).__module__.startswith("broker."):
        names = [
            *getattr(thing, "__dict__", {}),
            *(n for c in type(thing).__mro__ for n in getattr(c, "__slots__", ())),
        ]
        inner = [getattr(thing, name, None) for name in names]
    return set().union(*(keys_within(each, seen) for each in inner)) if inner else set()


def opened(world: World, evict: Callable[[World], None]) -> set[bytes]:
    """The subject keys that a worker holds, after its view told what changed."""
    evict(world)
    vault = world.exchange_keys.vault
    return keys_within([world.states, vault]) | {
        key for where, raw in world.vault.items() for key in vault.decrypt(where, raw).subject_keys
    }


def told_by_the_view(world: World) -> None:
    """What the view does with tombstones."""
    world.exchange_keys.vault.evict([out.key or b"" for out in world.topic(VAULT)])


def test_no_key_of_an_erased_person_is_left_and_nobody_else_is_touched(school: World) -> None:
    """In vault, what was opened of it, and what lanes keep: so no token, salt or tag of a leaf can be made again."""
    school.send(SIS, again(0))
    school.send(DELTA, event(), event(subject=Subject("PUPIL", NOAH)), event(subject=las(0)))
    school.send(SIS, merged(0))
    school.send(DELTA, event(), event(subject=las(0)))
    emma, noah = person_of(school), person_of(school, NOAH)
    assert opened(school, told_by_the_view) >= {*emma.subject_keys, noah.subject_key}
    leaves = school.leaves()
    school.send(DELTA, event())  # opened once more
    vault = school.exchange_keys.vault
    assert {*emma.subject_keys} <= {key for _, record in vault._cache.values() for key in record.subject_keys}
    school.send(SIS, ERASE)
    left = opened(school, told_by_the_view)
    assert not left & {*emma.subject_keys}
    assert noah.subject_key in left
    told = 0
    for leaf in leaves:
        line = json.loads(leaf)["ldv"]
        ids = Ids(bytes.fromhex(line["trace_id"]), bytes.fromhex(line["span_id"]))
        token = line["attributes"].get("dpl.core.data_subject_id")
        makers = {key for key in left if Commitments(key, ids).token() == token}
        by_emma = any(Commitments(key, ids).token() == token for key in emma.subject_keys)
        assert makers == (set() if by_emma or token is None else {noah.subject_key})
        told += by_emma
    assert told > 6
    assert school.leaves()[: len(leaves)] == leaves  # nothing of what was written before is another


def test_what_was_opened_goes_when_the_view_sees_the_tombstone(school: World) -> None:
    """Without anybody looking the id up again; and all of it when the view begins anew."""
    vault = school.exchange_keys.vault
    school.send(DELTA, event(), event(subject=Subject("PUPIL", NOAH)))
    school.send(SIS, ERASE)
    told_by_the_view(school)
    assert {record.eck_id for _, record in vault._cache.values()} == {NOAH}
    vault.evict(None)
    assert not vault._cache


def test_after_an_erasure_nothing_is_taken_for_the_person(school: World) -> None:
    """By ECK iD not known; by a local id an event waits as for any id that is not known yet, sealed, until it expires."""
    school.send(DELTA, event(receiver=PORTAL))
    school.send(SIS, ERASE)
    codes = [
        d.code for d in school.send(DELTA, event(), event(subject=Subject("PUPIL", None, (("LAS_KEY", "L0001"),))))
    ]
    assert codes == ["subject.unknown", "subject.waiting"]


def test_an_entry_to_forget_can_not_be_made_of_another_nor_another_of_it(school: World) -> None:
    """The label is bound in: who could turn one into the other would erase, or keep, at will."""
    cipher, span, key = school.exchange_keys.vault.school_cipher("99PA"), b"12345678", b"p" * 32
    normal = index_entry(cipher, span, key)
    school.send(SIS, ERASE)
    forget = next(out.value or b"" for out in school.topic(AUDIT_INDEX) if forgets(out.value or b""))
    for entry in (normal + b"\x01", forget[:-1]):
        with pytest.raises(ConfigError, match="does not open"):
            open_entry(cipher, entry)
    assert not forgets(normal)
