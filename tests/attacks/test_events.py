"""Attacks by what is written: a party with a login and keys of its own, and records that it got hold of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import pytest
from aiokafka import ConsumerRecord

from broker.client import Consumer, Profile, Subject
from broker.crypto import DataKeyMaker
from broker.errors import ContractError
from broker.exchange import InputRecord, pipeline
from broker.exchange.keys import BROKER, ExchangeKeys
from broker.exchange.pipeline import _Batch
from broker.keys import MemoryKeys
from broker.schemas import JsonObject, catalogue, frame, unframe
from broker.wire import DATA_KEY, encode_event
from tests.exchange.mutants import Patch, never, own_word, stub, without_associated_data, wrapped
from tests.exchange.world import (
    _NO_CONNECTION,
    DELTA,
    EMMA,
    NOAH,
    PORTAL,
    SHOP,
    SIS,
    World,
    enrolment,
    event,
    make_world,
)


class Attack(NamedTuple):
    """What somebody writes, what becomes of it, and the guard without which it would have worked.

    Args:
        records: that the attacker puts on the topic of `by`; all of them in order.
        code: of the decision over the last one.
        guard: takes the guard away.
        gained: whether the attacker got what he wanted: asked of the world afterwards.
    """

    by: str
    records: Callable[[World], list[InputRecord]]
    code: str
    guard: Callable[[Patch], None]
    gained: Callable[[World], bool]


def opened(record: InputRecord) -> JsonObject:
    """The envelope, its sealed parts still sealed."""
    found: JsonObject = catalogue()["envelope.v1"].decode(unframe(record.value)[1])
    return found


def with_envelope(record: InputRecord, **changes: object) -> InputRecord:
    """The same record, fields of its envelope changed."""
    schema = catalogue()["envelope.v1"]
    return replace(record, value=frame(schema.fingerprint, schema.encode({**opened(record), **changes})))


def forged_sender(world: World) -> list[InputRecord]:
    """The portal writes on its own topic that the publisher says so: sealed by itself, so every byte is right."""
    return [world.sealed(PORTAL, event(), subject_of(EMMA), body_of(), sender=DELTA)]


def record_of_another(world: World) -> list[InputRecord]:
    """The portal puts a record of the publisher, byte for byte, on its own topic."""
    stolen = world.record(DELTA, event())
    return [world.raw(PORTAL, key=stolen.key, value=stolen.value, headers=stolen.headers)]


def own_record_again(world: World) -> list[InputRecord]:
    """The publisher sends what was delivered once more."""
    sent = world.record(DELTA, event(receiver=PORTAL))
    return [sent, sent]


def subject_of(eck_id: str) -> bytes:
    """The subject part of a pupil."""
    return catalogue()["subject.v1"].encode(Subject("PUPIL", eck_id).datum())


def body_of() -> bytes:
    """The body of a usage event."""
    return catalogue().family("usage").schema.encode(event().body.datum())


def parts_of_two(world: World) -> list[InputRecord]:
    """Emma's identifiers with what Noah did: both events are the sender's own, under one data key."""
    emma, noah = (world.record(DELTA, event(subject=replace(event().subject, eck_id=who))) for who in (EMMA, NOAH))
    return [with_envelope(noah, subject=opened(emma)["subject"])]


def block_in_another_event(world: World) -> list[InputRecord]:
    """The parts of an event for the portal behind the envelope of one for the shop."""
    for_portal, for_shop = (world.record(DELTA, event(receiver=who)) for who in (PORTAL, SHOP))
    return [with_envelope(for_shop, **{part: opened(for_portal)[part] for part in ("subject", "body")})]


def old_key(world: World) -> list[InputRecord]:
    """Sealed for a key of the broker's that was destroyed; whoever has an old backup could still read it."""
    broker = MemoryKeys()
    broker.create(BROKER)
    former = broker.recipient_keys(BROKER)[0]
    world.former = broker  # type: ignore[attr-defined]
    key = DataKeyMaker(former.jwk, former.kid).current()
    good = opened(world.record(DELTA, event()))
    envelope = {name: value for name, value in good.items() if name not in ("subject", "body")}
    value = encode_event(envelope, subject_of(EMMA), body_of(), key)
    return [world.raw(DELTA, value=value, headers=((DATA_KEY, key.header),))]


def key_kept(patch: Patch) -> None:
    """The old private key was never destroyed."""
    real = World.run

    def run(self: World, party: str, *records: InputRecord) -> object:
        former = getattr(self, "former", None)
        if former is not None:
            own = self.keys.private_key
            self.exchange_keys = ExchangeKeys(self.keys)
            self.exchange_keys.opener._private = lambda kid: own(kid) or former.private_key(kid)
        return real(self, party, *records)

    patch.setattr(World, "run", run)


def anything_delivered(world: World) -> bool:
    """Something went out to some receiver."""
    return any(out.topic.startswith("out.") for out in world.outgoing)


def twice_at_the_portal(world: World) -> bool:
    """One event came out two times."""
    return len(world.topic(f"out.{PORTAL}.usage")) > 1


ATTACKS = {
    "forged sender": Attack(
        PORTAL, forged_sender, "sender.forged", wrapped(pipeline, "check_envelope", own_word),
        lambda world: any(leaf["code"] != "sender.forged" for leaf in world.evidence()),
    ),
    "record of another party": Attack(
        PORTAL, record_of_another, "sender.forged", wrapped(pipeline, "check_envelope", own_word),
        lambda world: any(leaf["code"] != "sender.forged" for leaf in world.evidence()),
    ),
    "own record again": Attack(
        DELTA, own_record_again, "event.duplicate", stub(_Batch, "_was_delivered", never), twice_at_the_portal
    ),
    "subject of one event, body of another": Attack(
        DELTA, parts_of_two, "seal.broken", without_associated_data, anything_delivered
    ),
    "sealed block in another event": Attack(
        DELTA, block_in_another_event, "seal.broken", without_associated_data, anything_delivered
    ),
    "old key": Attack(DELTA, old_key, "seal.recipient", key_kept, anything_delivered),
}  # fmt: skip


def enrolled() -> World:
    """Emma and Noah are enrolled at De Regenboog."""
    world = make_world()
    world.send(SIS, enrolment(), enrolment(NOAH, "L0002"))
    world.outgoing.clear()
    return world


def tried(attack: Attack) -> tuple[World, str]:
    """Do it; gives the world afterwards and the code of the last decision."""
    world = enrolled()
    decisions = world.run(attack.by, *attack.records(world)).decisions
    return world, decisions[-1].code


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_by_a_record_gains_nothing_and_is_told(name: str) -> None:
    """It is refused or quarantined by its own code, stands in the audit, and nobody got anything by it."""
    world, code = tried(ATTACKS[name])
    assert code == ATTACKS[name].code
    assert not ATTACKS[name].gained(world)
    assert world.evidence()[-1]["code"] == code


@pytest.mark.parametrize("name", ATTACKS)
def test_the_attack_would_have_worked_without_its_guard(name: str) -> None:
    """So what the test before holds is the guard, and not an attack that never could."""
    with pytest.MonkeyPatch.context() as patch:
        ATTACKS[name].guard(patch)
        world, _ = tried(ATTACKS[name])
    assert ATTACKS[name].gained(world)


# ---- what was delivered, moved by somebody who can write to Kafka


def moved_to(world: World, party: str, keys: MemoryKeys) -> tuple[Consumer, ConsumerRecord]:
    """A record that was sealed for the portal, on the topic of another party that has these keys."""
    world.send(DELTA, event(receiver=PORTAL))
    (sent,) = world.topic(f"out.{PORTAL}.usage")
    topic = f"out.{party}.usage"
    record = ConsumerRecord(
        topic, 0, 0, 0, 0, sent.key, sent.value, None, len(sent.key or b""), len(sent.value or b""), sent.headers
    )
    reader = Consumer(Profile(party, _NO_CONNECTION, keys), "usage")
    reader._schemas = world.writer_schemas()
    return reader, record


@pytest.mark.parametrize(("keys", "code"), [(SHOP, "seal.recipient"), (PORTAL, "seal.broken")])
async def test_a_block_that_was_moved_and_addressed_anew_does_not_open(keys: str, code: str) -> None:
    """Its data key is sealed for the portal alone; and who has the portal's keys sees that the envelope was changed."""
    world = enrolled()
    reader, record = moved_to(world, SHOP, world.party_keys[keys])
    schema = catalogue()["envelope.v1"]
    envelope = {**schema.decode(unframe(record.value)[1]), "receiver": SHOP}
    record = replace(record, value=frame(schema.fingerprint, schema.encode(envelope)))
    with pytest.raises(ContractError) as caught:
        await reader._receive(record)
    assert caught.value.code == code


async def test_a_receiver_that_shares_its_keys_with_another_does_not_take_the_others_block() -> None:
    """One supplier's two systems under one key: the envelope, which is authenticated, says whose it is."""
    world = enrolled()
    reader, record = moved_to(world, SHOP, world.party_keys[PORTAL])
    with pytest.raises(ContractError) as caught:
        await reader._receive(record)
    assert caught.value.code == "receiver.other"
    reader, record = moved_to(enrolled(), PORTAL, world.party_keys[PORTAL])
    assert (await reader._receive(record)).event.receiver == PORTAL
