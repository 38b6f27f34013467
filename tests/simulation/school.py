"""What is exchanged in the simulation: one school, its SIS, a publisher, and who reads; sealed once for all schedules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import NamedTuple
from uuid import NAMESPACE_OID, uuid5

from broker.client import Subject
from broker.client.profile import RECORD_KEY_SECRET
from broker.data import data_path
from broker.exchange import ExchangeKeys
from broker.exchange.keys import BROKER, OPERATOR, SECRETS
from broker.keys import MemoryKeys
from broker.registry import PublicKey, Registry, load_document, records_of, with_keys
from tests.exchange.world import DELTA, NOW, PORTAL, SIS, World, enrolment, event
from tests.simulation.cluster import Item

PUPILS = 3
EVENTS = 4  # of each pupil
KEPT = (
    "policy", "routes", f"party/{SIS}", f"party/{DELTA}", f"party/{PORTAL}", "board/bestuur-horizon",
    "school/99PA", "agreement/vwo-po-", "connection/po-usage-delta-",
)  # fmt: skip
TOPICS = {
    f"in.{SIS}": 1, f"in.{DELTA}": 2, f"out.{PORTAL}.usage": 1, f"out.{SIS}.usage": 1,
    f"out.{DELTA}.control": 1, f"status.{SIS}": 1, f"status.{DELTA}": 1, f"quarantine.{SIS}": 1,
    f"quarantine.{DELTA}": 1, "registry": 1, "vault.identity": 2, "parked": 1, "lane.state": 2, "audit.events": 2,
    "audit.control": 1, "audit.index": 2,
}  # fmt: skip
EPOCH_S = NOW.timestamp() + 7200  # a clock that jumps back must not find events from tomorrow


class Sealed(NamedTuple):
    """An event as its sender writes it.

    Args:
        event: its id; None for a record that is no event.
    """

    event: str | None
    pupil: str | None
    item: Item


class FixedKeys(MemoryKeys):
    """Secrets that are the same in each process: where a record goes depends on them."""

    def create_secret(self, name: str) -> bool:
        """See MemoryKeys."""
        self._secrets[name] = sha256(f"simulation/{name}".encode()).digest()
        return True


@dataclass(frozen=True)
class School:
    """All that the schedules share.

    Attributes:
        records: of the registry. enrolments: by pupil. uses: of each pupil in order, every other by a local id.
        bad: records that will be quarantined or refused.
    """

    records: Mapping[str, bytes]
    registry: Registry
    keys: ExchangeKeys
    enrolments: tuple[Sealed, ...]
    uses: tuple[tuple[Sealed, ...], ...]
    bad: tuple[Sealed, ...]


@cache
def the_school() -> School:
    """Made once in a process."""
    document = load_document(data_path("examples") / "registry")
    keys, parties, public = FixedKeys(), {}, {}
    for owner in (BROKER, OPERATOR):
        keys.create(owner)
    for name in SECRETS:
        keys.create_secret(name)
    for party in document.parties:
        parties[party.id] = FixedKeys()
        parties[party.id].create_secret(RECORD_KEY_SECRET)
        key = parties[party.id].create(party.id)
        public[party.id] = [PublicKey(kid=key.kid, jwk=dict(key.jwk))]
    every = dict(records_of(with_keys(document, public)))
    records = {key: value for key, value in every.items() if key.startswith(KEPT)}
    registry = Registry.from_records(records)
    world = World(records, keys=keys, party_keys=parties, base=registry)
    pupils = range(PUPILS)
    return School(
        records,
        registry,
        ExchangeKeys(keys),
        tuple(_enrolment(world, pupil) for pupil in pupils),
        tuple(tuple(_use(world, pupil, number) for number in range(EVENTS)) for pupil in pupils),
        _bad(world),
    )


def without_portal(records: Mapping[str, bytes]) -> dict[str, bytes]:
    """What an operator writes to end the link to the portal."""
    key = "connection/po-usage-delta-portaal/receiver"
    entry = json.loads(records[key]) | {"state": "revoked", "at": NOW.isoformat()}
    return {key: json.dumps(entry).encode()}


def eck_id(pupil: int) -> str:
    """Invented."""
    return "https://ketenid.nl/pilot/" + sha256(f"pupil {pupil}".encode()).hexdigest() * 2


def _id(*what: object) -> str:
    return str(uuid5(NAMESPACE_OID, "/".join(map(str, what))))


def _enrolment(world: World, pupil: int) -> Sealed:
    name = _id("enrol", pupil)
    record = world.record(SIS, enrolment(eck_id(pupil), f"L{pupil:04d}", event_id=name))
    return Sealed(name, f"p{pupil}", Item(record.key, record.value, record.headers))


def _use(world: World, pupil: int, number: int) -> Sealed:
    name = _id("use", pupil, number)
    who = Subject("PUPIL", None, (("LAS_KEY", f"L{pupil:04d}"),)) if number % 2 else Subject("PUPIL", eck_id(pupil))
    record = world.record(DELTA, event(event_id=name, subject=who))
    return Sealed(name, f"p{pupil}", Item(record.key, record.value, record.headers))


def _bad(world: World) -> tuple[Sealed, ...]:
    """Bytes that are nothing, no bytes at all, and an event with a number of the state in its key."""
    good = world.record(DELTA, event(event_id=_id("pgn")))
    return (
        Sealed(None, None, Item(b"k" * 32, b"\x00\x01\x02")),
        Sealed(None, None, Item(b"k" * 32, None)),
        Sealed(_id("pgn"), None, Item(b"182071649", good.value, good.headers)),
    )
