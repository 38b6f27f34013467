"""The order of kinds and revisions of one business object, as its sender says them."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.audit.leaf import canonical
from broker.client import Event, Identity, Subject
from broker.data import data_path
from broker.exchange import InputRecord
from broker.exchange.objects import ID_BYTES, ObjectMemory, Said
from broker.limits import Limits
from broker.schemas import catalogue
from tests.exchange.bodies import body
from tests.exchange.open_world import PUPIL, ROLES, SCHOOL, open_world, subject_of
from tests.exchange.world import NOW, World

SENDER = "sis-a"


def rules_of() -> dict[str, dict[str, Any]]:
    """Per family that remembers all in order: kind -> what its schema file says of it. Usage: `test_corrections`."""
    files = sorted((data_path("schemas") / "avro").glob("*.avsc"))
    documents = {path.stem.partition(".")[0]: json.loads(path.read_text("utf-8")) for path in files}
    return {
        name: document["kinds"]
        for name, document in documents.items()
        if any("first" in rules or "after" in rules for rules in document.get("kinds", {}).values())
        and "remembers" not in document
    }


RULES = rules_of()
PAIRS = [(family, before, kind) for family in RULES for before, kind in product(RULES[family], repeat=2)]
FOLLOWING = [(f, before, kind) for f, before, kind in PAIRS if before in RULES[f][kind].get("after", ())]


def all_roles(limits: Limits | None = None) -> World:
    """The sender has every role, so that every kind has a way."""
    world = open_world()
    world.limits = limits or world.limits
    party = json.loads(world.records[f"party/{SENDER}"]) | {"roles": list(ROLES)}
    world.registry = world.registry.with_changes({f"party/{SENDER}": canonical(party)})
    return world


@pytest.fixture(scope="module")
def shared() -> World:
    """One world for all pairs: each has an object of its own."""
    return all_roles()


def said(
    world: World, family: str, kind: str, thing: str, revision: int = 1, subject: Subject | None = None, **envelope: Any
) -> InputRecord:
    """An event about an object."""
    found = catalogue().family(family)
    changes: dict[str, Any] = {found.object_field or "": thing, found.revision_field or "": revision}
    made = body(family, kind, **changes)
    about = subject or subject_of(family, kind)
    return world.made(SENDER, family, kind, made, about, **{"school": SCHOOL, "sector": "VO"} | envelope)


def code(world: World, *args: Any, **envelope: Any) -> str:
    """The one code that the receivers of an event got."""
    codes = {d.code for d in world.run(SENDER, said(world, *args, **envelope)).decisions}
    assert len(codes) == 1, codes
    return codes.pop()


def alone(family: str, kind: str) -> str:
    """The code of a kind that is the first that is said of an object."""
    return "ok" if RULES[family][kind].get("first") else "ok.unchecked"


def test_the_families_with_an_order_are_these() -> None:
    """Their kinds all have a place in it: nothing goes round the order."""
    assert set(RULES) == {"licence", "order", "result"}
    assert len(FOLLOWING) > 60
    for family, kinds in RULES.items():
        assert all(kind.ordered for kind in catalogue().family(family).kinds.values())
        assert kinds.keys() == catalogue().family(family).kinds.keys()


@pytest.mark.parametrize("family", RULES)
@pytest.mark.parametrize("when", ["in one batch", "in the next batch", "after a take-over"])
def test_a_kind_comes_after_those_that_its_schema_names_and_after_no_other(
    shared: World, family: str, when: str
) -> None:
    """All pairs of kinds, both ways round; the memory is the same within a batch, after it and on another worker."""
    wrong, batches = {}, []
    for _, before, kind in (pair for pair in PAIRS if pair[0] == family):
        thing = str(uuid4())
        batches.append((before, kind, [said(shared, family, before, thing, 1), said(shared, family, kind, thing, 2)]))
    for before, kind, records in batches:
        if when == "in one batch":
            decisions = shared.run(SENDER, *records).decisions
        else:
            decisions = shared.run(SENDER, records[0]).decisions
            if when == "after a take-over":
                shared.take_over(SENDER)
            decisions += shared.run(SENDER, records[1]).decisions
        may = before in RULES[family][kind].get("after", ())
        codes = list(dict.fromkeys(d.code for d in decisions))
        expected = [alone(family, before), "ok" if may else "object.transition"]
        if codes != list(dict.fromkeys(expected)):
            wrong[before, kind] = codes
    assert wrong == {}


@pytest.mark.parametrize("family", RULES)
def test_an_object_that_nobody_spoke_of_begins_with_a_first_kind_or_unchecked(shared: World, family: str) -> None:
    """What is not known (any more) is delivered, and its sender is told that the order was not checked."""
    found = {kind: code(shared, family, kind, str(uuid4()), 7) for kind in RULES[family]}
    assert found == {kind: alone(family, kind) for kind in RULES[family]}
    assert {"ok", "ok.unchecked"} <= set(found.values())


@pytest.mark.parametrize("family", RULES)
def test_a_revision_that_is_not_higher_is_stale(shared: World, family: str) -> None:
    """Whatever may follow: lower and equal are refused, higher passes, also by more than one."""
    wrong = {}
    for _, before, kind in (pair for pair in FOLLOWING if pair[0] == family):
        for revision, expected in (
            (-3, "object.stale"),
            (4, "object.stale"),
            (5, "object.stale"),
            (6, "ok"),
            (99, "ok"),
        ):
            thing = str(uuid4())
            code(shared, family, before, thing, 5)
            decision = shared.run(SENDER, said(shared, family, kind, thing, revision)).decisions[0]
            field = "revision" if expected == "object.stale" else None
            if (decision.code, decision.field) != (expected, field):
                wrong[before, kind, revision] = decision
    assert wrong == {}


def test_a_refused_transition_names_the_kind_and_is_one_answer_for_all(shared: World) -> None:
    """Nobody got it, so the sender reads one refusal."""
    thing = str(uuid4())
    assert code(shared, "licence", "REVOKE", thing) == "ok.unchecked"
    decisions = shared.run(SENDER, said(shared, "licence", "REINSTATE", thing, 2)).decisions
    assert [(d.code, d.field, d.receiver) for d in decisions] == [("object.transition", "kind", None)]


# ---- again


@pytest.mark.parametrize(("family", "kind"), [(f, k) for f in RULES for k in RULES[f]])
def test_the_same_once_more_passes_to_a_named_receiver_only(shared: World, family: str, kind: str) -> None:
    """The initial seed of a new connection: each object in its latest revision, to the party that is new."""
    thing = str(uuid4())
    first = shared.run(SENDER, said(shared, family, kind, thing, 3)).decisions
    receiver = first[0].receiver
    assert code(shared, family, kind, thing, 3, receiver=receiver) == "ok"
    assert code(shared, family, kind, thing, 3) in ("object.transition", "object.stale")
    assert code(shared, family, kind, thing, 2, receiver=receiver) in ("object.transition", "object.stale")


def test_an_event_sent_again_under_its_id_is_not_held_against_itself(shared: World) -> None:
    """A resend is a duplicate for who got it, whatever was said since; it does not move the object back."""
    thing, event_id = str(uuid4()), str(uuid4())
    assert code(shared, "licence", "GRANT", thing, 1, event_id=event_id) == "ok"
    assert code(shared, "licence", "GRANT", thing, 1, event_id=event_id) == "event.duplicate"
    assert code(shared, "licence", "CHANGE", thing, 2) == "ok"
    assert code(shared, "licence", "GRANT", thing, 1, event_id=event_id) == "event.duplicate"
    assert code(shared, "licence", "CHANGE", thing, 2) == "object.stale"


def test_a_receiver_that_missed_an_event_gets_it_when_it_is_sent_again() -> None:
    """One of them had no topic yet; by now more was said of the object, which does not stand in the way."""
    world, thing, event_id = all_roles(), str(uuid4()), str(uuid4())
    world.partitions = lambda topic: 0 if topic == "out.portal-b.licence" else 2
    world.run(SENDER, said(world, "licence", "GRANT", thing, 1, event_id=event_id))
    world.run(SENDER, said(world, "licence", "CHANGE", thing, 2))
    world.partitions = lambda _: 2
    again = world.run(SENDER, said(world, "licence", "GRANT", thing, 1, event_id=event_id)).decisions
    assert {d.receiver: d.code for d in again if d.code != "event.duplicate"} == {"portal-b": "ok"}
    assert code(world, "licence", "CHANGE", thing, 2) == "object.stale"
    assert code(world, "licence", "CHANGE", thing, 3) == "ok"


# ---- what does not move it


def without_agreements(world: World) -> None:
    """No agreement of the receivers of a licence any more."""
    gone = {k: None for k in world.records if k.startswith("agreement/") and not k.endswith(SENDER)}
    world.registry = world.registry.with_changes(gone)


STRANGER = Subject("PUPIL", "https://ketenid.nl/pilot/" + "0" * 128)
LATE = Subject("PUPIL", None, (("LAS_KEY", "L0099"),))
UNMOVED: dict[str, tuple[Callable[[World], None], dict[str, Any], set[str]]] = {
    "a closed gate": (without_agreements, {}, {"gate.receivers"}),
    "a receiver without topic": (lambda w: setattr(w, "partitions", lambda t: 0 if "licence" in t else 2), {}, {"receiver.topic"}),
    "an unknown pupil": (lambda _: None, {"subject": STRANGER}, {"subject.unknown"}),
    "a pupil who is not known yet": (lambda _: None, {"subject": LATE}, {"subject.waiting"}),
    "a receiver without route": (lambda _: None, {"receiver": "sis-b"}, {"gate.route"}),
    "an unknown receiver": (lambda _: None, {"receiver": "niemand"}, {"gate.connection"}),
}  # fmt: skip


@pytest.mark.parametrize("name", UNMOVED)
def test_an_event_that_nobody_got_does_not_move_the_object(name: str) -> None:
    """What was refused or waits was not said: the next revision is held against the last that was delivered."""
    change, envelope, expected = UNMOVED[name]
    world, thing = all_roles(), str(uuid4())
    assert code(world, "licence", "GRANT", thing, 1) == "ok"
    before, registry, partitions = dict(world.state(SENDER).objects.known), world.registry, world.partitions
    change(world)
    decisions = world.run(SENDER, said(world, "licence", "REVOKE", thing, 9, **envelope)).decisions
    assert {d.code for d in decisions} == expected
    assert world.state(SENDER).objects.known == before
    world.registry, world.partitions = registry, partitions
    assert code(world, "licence", "CHANGE", thing, 2) == "ok"


def test_a_refused_event_of_a_batch_does_not_move_the_object_for_the_next_one(shared: World) -> None:
    """Within one batch too."""
    thing = str(uuid4())
    records = [said(shared, "licence", k, thing, r) for k, r in (("GRANT", 1), ("REINSTATE", 5), ("CHANGE", 2))]
    codes = list(dict.fromkeys(d.code for d in shared.run(SENDER, *records).decisions))
    assert codes == ["ok", "object.transition"]
    assert code(shared, "licence", "CHANGE", thing, 2) == "object.stale"


def test_events_that_waited_are_held_against_each_other_when_they_go_on() -> None:
    """Grant and change of a pupil who is enrolled later: in order; a grant behind a revocation: refused."""
    world, good, bad = all_roles(), str(uuid4()), str(uuid4())
    for kind, thing, revision in (("GRANT", good, 1), ("CHANGE", good, 2), ("REVOKE", bad, 1), ("GRANT", bad, 2)):
        assert code(world, "licence", kind, thing, revision, LATE) == "subject.waiting"
    sent = Event(kind="ENROL", school=SCHOOL, sector="VO", created=NOW, subject=LATE, body=Identity())
    codes = [d.code for d in world.send("sis-a", sent)]
    assert list(dict.fromkeys(codes)) == ["ok.vault", "ok", "ok.unchecked", "object.transition"]


# ---- whose object


OTHERS: dict[str, dict[str, Any]] = {
    "another school": {"school": "99VB"},
    "another family": {"family": "order", "kind": "LINE"},
    "another sender": {"sender": "shop-b"},
    "another sector of the school": {"sector": "PO", "same": True},
    "a location of the school": {"school": "99VA01", "same": True},
    "the id in capitals": {"upper": True, "same": True},
}


@pytest.mark.parametrize("name", OTHERS)
def test_an_object_is_one_senders_of_one_school_and_family(name: str) -> None:
    """The same id elsewhere is another object, and a first kind is right there; here it is refused."""
    change = OTHERS[name]
    world, thing = all_roles(), str(uuid4())
    school = json.loads(world.records[f"school/{SCHOOL}"]) | {"id": "99VB", "locations": []}
    world.registry = world.registry.with_changes({"school/99VB": canonical(school)})
    assert code(world, "licence", "GRANT", thing, 1, Subject()) == "ok"
    family, kind, sender = change.get("family", "licence"), change.get("kind", "GRANT"), change.get("sender", SENDER)
    field = {"order": "order_id", "licence": "entitlement_id"}[family]
    named: dict[str, Any] = {field: thing.upper() if "upper" in change else thing}
    again = body(family, kind, **named)
    where = {"school": change.get("school", SCHOOL), "sector": change.get("sector", "VO")}
    codes = {d.code for d in world.run(sender, world.made(sender, family, kind, again, Subject(), **where)).decisions}
    assert codes == {"object.transition" if "same" in change else "ok"}


# ---- the memory

SMALL = Limits(object_slots=3, object_slot_entries=4)


def test_the_memory_is_bounded_and_holds_the_newest_in_every_position_of_the_ring() -> None:
    """The last eight objects are known, never more than twelve; an older one is delivered unchecked; all of it
    survives a take-over."""
    world = all_roles(SMALL)
    things: list[str] = []
    for _ in range(30):
        things.append(str(uuid4()))
        assert code(world, "licence", "GRANT", things[-1], 1, Subject()) == "ok"
        assert len(world.state(SENDER).objects.known) <= 12
        world.take_over(SENDER)
        for thing in things[-8:]:
            assert code(world, "licence", "GRANT", thing, 2, Subject()) == "object.transition"
    assert code(world, "licence", "CHANGE", things[0], 2, Subject()) == "ok.unchecked"


def test_a_batch_larger_than_the_memory_leaves_its_end_in_it() -> None:
    """Within the batch everything is checked."""
    world, things = all_roles(SMALL), [str(uuid4()) for _ in range(30)]
    records = [said(world, "licence", "GRANT", thing, 1, Subject()) for thing in (*things, things[0])]
    codes = [d.code for d in world.run(SENDER, *records).decisions]
    assert (set(codes[:-1]), codes[-1]) == ({"ok"}, "object.transition")
    world.take_over(SENDER)
    for thing in things[-8:]:
        assert code(world, "licence", "GRANT", thing, 2, Subject()) == "object.transition"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.dictionaries(st.integers(0, 20), st.integers(0, 9), max_size=16), max_size=12))
def test_what_is_remembered_is_the_last_that_was_said_and_is_read_back_as_it_was(batches: list[dict[int, int]]) -> None:
    """Any sequence of batches: never an older word of an object, and the next owner knows exactly the same."""
    memory, kept, truth = ObjectMemory.sized(SMALL), dict[int, bytes](), dict[bytes, Said]()
    for batch in batches:
        new = {number.to_bytes(ID_BYTES): Said(number, revision) for number, revision in batch.items()}
        kept |= {slot: b"".join(entries) for slot, entries in memory.filled(new).items()}
        memory.adopt(new)
        truth |= new
        loaded = ObjectMemory.sized(SMALL)
        loaded.load(kept, memory.ring.slot)
        assert loaded == memory
        assert all(memory.last(thing) in (None, truth[thing]) for thing in truth)
        assert all(memory.last(thing) == new[thing] for thing in list(new)[-8:])
        assert len(memory.known) <= 12


def test_a_school_that_gets_a_new_number_keeps_nothing_of_the_order() -> None:
    """The memory goes by the number of now: what was said under the old one is delivered unchecked."""
    world, thing = all_roles(), str(uuid4())
    assert code(world, "licence", "GRANT", thing, 1, Subject()) == "ok"
    old = json.loads(world.records[f"school/{SCHOOL}"])
    new = old | {"id": "99VB", "formerly": [SCHOOL], "locations": []}
    world.registry = world.registry.with_changes({f"school/{SCHOOL}": None, "school/99VB": canonical(new)})
    assert code(world, "licence", "CHANGE", thing, 2, Subject(), school="99VB") == "ok.unchecked"


def test_whom_it_is_about_plays_no_part(shared: World) -> None:
    """A licence of Emma that is then granted to nobody is granted twice."""
    thing = str(uuid4())
    assert code(shared, "licence", "GRANT", thing, 1, PUPIL) == "ok"
    assert code(shared, "licence", "GRANT", thing, 2, Subject()) == "object.transition"
