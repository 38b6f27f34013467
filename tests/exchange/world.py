"""A small world for tests of the exchange: the example registry, keys in memory, a vault in a dict."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cache, lru_cache
from typing import Any
from uuid import uuid4

from broker.audit.leaf import canonical, is_decision
from broker.client import Event, Identity, Producer, Profile, Subject, Usage
from broker.client.profile import RECORD_KEY_SECRET
from broker.crypto import DataKeyMaker, DataKeyOpener
from broker.data import data_path
from broker.exchange import Decision, ExchangeKeys, InputRecord, LaneState, Outgoing, Step, Views, exchange
from broker.exchange.keys import BROKER, OPERATOR, SECRETS
from broker.exchange.model import AUDIT_CONTROL, AUDIT_EVENTS, LANE_STATE, PARKED, REGISTRY, VAULT
from broker.kafka.connection import KafkaConnection
from broker.keys import MemoryKeys
from broker.limits import DEFAULT, Limits
from broker.policy import Policy, Routes
from broker.registry import PublicKey, Registry, load_document, records_of, with_keys
from broker.schemas import Catalogue, Schema, catalogue, unframe
from broker.schemas.outputs import output_schemas
from broker.wire import DATA_KEY, decode_envelope, encode_event, open_parts

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
SIS, DELTA, OOST, PORTAL, SHOP = "sis-noord", "uitgeverij-delta", "uitgeverij-oost", "portaal-plein", "winkel-boekhuis"
BOOK = "8717927130834"
EMMA = "https://ketenid.nl/pilot/" + "e1" * 64
TEACHER = "https://ketenid.nl/pilot/" + "7e" * 64
NOAH = "https://ketenid.nl/pilot/" + "b2" * 64


def usage(**changes: Any) -> Usage:
    """A usage body that is right."""
    values: dict[str, Any] = {
        "entitlement_id": "0b9f4c7e-6f0a-4f4e-9c55-0d6b3f3c2a11",
        "product_id": BOOK,
        "usage_type": "WEEKLY_USAGE",
        "usage_date": date(2026, 11, 24),
    }
    return Usage(**values | changes)


def event(**changes: Any) -> Event:
    """A usage event about Emma that is right."""
    values: dict[str, Any] = {
        "kind": "USE", "school": "99PA", "sector": "PO", "created": NOW,
        "subject": Subject("PUPIL", EMMA), "body": usage(),
    }  # fmt: skip
    return Event(**values | changes)


def enrolment(eck_id: str | None = EMMA, las_key: str = "L0001", **changes: Any) -> Event:
    """An ENROL of a pupil at 99PA."""
    values: dict[str, Any] = {
        "kind": "ENROL", "school": "99PA", "sector": "PO", "created": NOW,
        "subject": Subject("PUPIL", eck_id, (("LAS_KEY", las_key),)), "body": Identity(),
    }  # fmt: skip
    return Event(**values | changes)


@dataclass(frozen=True)
class Delivered:
    """What a receiver reads, opened with its own keys."""

    receiver: str
    envelope: dict[str, Any]
    subject: dict[str, Any]
    body: dict[str, Any]
    record: Outgoing


@dataclass
class World:
    """Lanes that run the exchange one batch at a time, and what came out of it so far."""

    records: dict[str, bytes]
    limits: Limits = DEFAULT
    keys: MemoryKeys = field(default_factory=MemoryKeys)
    party_keys: dict[str, MemoryKeys] = field(default_factory=dict)
    vault: dict[bytes, bytes] = field(default_factory=dict)
    states: dict[str, LaneState] = field(default_factory=dict)
    outgoing: list[Outgoing] = field(default_factory=list)
    partitions: Callable[[str], int] = lambda _topic: 2
    now_ms: int = NOW_MS
    partition: int = 1  # of the lanes; the lane of partition 0 also tells its party its duties
    base: Registry | None = field(default=None, repr=False)  # of these records, if it was built before
    compacted: dict[str, dict[str, bytes]] = field(default_factory=dict)  # what the lanes keep on Kafka
    arrived: Collection[bytes] | None = None  # vault keys that parked events are looked after for; None: all

    def __post_init__(self) -> None:
        self.exchange_keys = ExchangeKeys(self.keys)
        # A registry object of its own for each world: what is remembered hangs on it.
        base = self.base or (_registry() if self.records == _example()[0] else Registry.from_records(self.records))
        self.registry = base.with_changes({})
        self._makers: dict[str, DataKeyMaker] = {}

    # ---- in

    def record(self, party: str, sent: Event, **changes: Any) -> InputRecord:
        """Seal an event as the party's client does."""
        profile = Profile(party, _NO_CONNECTION, self.party_keys[party])
        producer = Producer(profile)
        producer._secret = profile.keys.secret(RECORD_KEY_SECRET)
        broker = self.keys.recipient_keys(BROKER)[0]
        maker = self._makers.setdefault(broker.kid, DataKeyMaker(broker.jwk, broker.kid))
        key, value, headers = producer.seal(sent, maker)
        values: dict[str, Any] = {"key": key, "value": value, "headers": tuple(headers)}
        return self.raw(party, **values | changes)

    def sealed(self, party: str, sent: Event, subject: bytes, body: bytes, **changes: Any) -> InputRecord:
        """The envelope of an event with any bytes sealed behind it, as a foreign client could send them."""
        envelope, _ = decode_envelope(self.record(party, sent).value)
        broker = self.keys.recipient_keys(BROKER)[0]
        data_key = self._makers.setdefault(broker.kid, DataKeyMaker(broker.jwk, broker.kid)).current()
        value = encode_event({**envelope, **changes}, subject, body, data_key)
        return self.raw(party, value=value, headers=((DATA_KEY, data_key.header),))

    def made(
        self,
        party: str,
        family: str,
        kind: str,
        body: Mapping[str, Any],
        subject: Subject | None = None,
        **changes: Any,
    ) -> InputRecord:
        """An event of any family from plain values, its envelope right but for what is changed."""
        found = catalogue().family(family)
        envelope: dict[str, Any] = {
            "event_id": str(uuid4()), "family": family, "kind": kind, "body_schema": found.schema.fingerprint,
            "school": "99PA", "sector": "PO", "school_year": "2026-2027", "sender": party, "receiver": None,
            "created": self.now_ms, "correlation": None, "agreement": None,
        }  # fmt: skip
        encoded = catalogue()["subject.v1"].encode((subject or Subject()).datum())
        broker = self.keys.recipient_keys(BROKER)[0]
        data_key = self._makers.setdefault(broker.kid, DataKeyMaker(broker.jwk, broker.kid)).current()
        value = encode_event(envelope | changes, encoded, found.schema.encode(body), data_key)
        return self.raw(party, value=value, headers=((DATA_KEY, data_key.header),))

    def edit(self, key: str, **fields: Any) -> None:
        """Change fields of one registry entry; without any, take the entry away."""
        document = json.loads(self.records[key]) | fields
        self.registry = self.registry.with_changes({key: canonical(document) if fields else None})

    def cut_off(self, party: str, school: str) -> None:
        """Take away every agreement and connection that a party has with a school."""
        board = json.loads(self.records[f"school/{school}"])["board"]
        for key, value in self.records.items():
            entry = json.loads(value)
            is_agreement = key.startswith("agreement/") and (entry["party"], entry["board"]) == (party, board)
            is_link = key.startswith("connection/") and party in (entry["sender"], entry["receiver"])
            if is_agreement or (is_link and entry["school"] == school):
                self.edit(key)

    def raw(self, party: str, *, value: bytes | None, key: bytes | None = b"k" * 32, headers: Any = ()) -> InputRecord:
        """A record of any bytes at the party's next offset."""
        state = self.state(party)
        return InputRecord(f"in.{party}", self.partition, state.next_offset, self.now_ms, key, value, headers)

    def state(self, party: str) -> LaneState:
        """The party's lane."""
        lane = f"exchange.in.{party}.{self.partition}"
        return self.states.setdefault(lane, LaneState(lane, limits=self.limits))

    # ---- through

    def run(self, party: str, *records: InputRecord) -> Step:
        """One batch, committed."""
        state = self.state(party)
        inputs = [
            InputRecord(r.topic, r.partition, state.next_offset + i, r.timestamp, r.key, r.value, r.headers)
            for i, r in enumerate(records)
        ]
        step = self.step(party, inputs)
        state.adopt(step.delta)
        for out in step.outgoing:
            if out.topic == VAULT:
                assert out.key is not None
                if out.value is None:
                    self.vault.pop(out.key, None)
                else:
                    self.vault[out.key] = out.value
        written = {(o.key or b"").decode(): o.value for o in step.outgoing if o.topic == REGISTRY}
        if written:  # the lane goes on once its view of the registry has read what it wrote
            self.registry = self.registry.with_changes(written)
        for out in step.outgoing:
            if out.topic in (LANE_STATE, PARKED):
                kept, key = self.compacted.setdefault(out.topic, {}), (out.key or b"").decode()
                kept.pop(key, None)
                kept |= {} if out.value is None else {key: out.value}
        self.outgoing += step.outgoing
        return step

    def take_over(self, party: str) -> None:
        """Another worker takes the party's lane over: it goes on from what stands on Kafka."""
        left = self.state(party)
        states, parked = (self.compacted.get(topic, {}) for topic in (LANE_STATE, PARKED))
        loaded = LaneState.load(left.lane, states, parked, limits=self.limits)
        assert loaded == left
        self.states[left.lane] = loaded

    def step(self, party: str, inputs: Sequence[InputRecord]) -> Step:
        """One call of the exchange, nothing adopted."""
        views = Views(self.registry, self.vault, self.partitions, self.arrived)
        state = self.state(party)
        next_offset = inputs[-1].offset + 1 if inputs else state.next_offset
        return exchange(state, inputs, views, self.exchange_keys, self.now_ms, next_offset, self.limits)

    def send(self, party: str, *events: Event) -> list[Decision]:
        """Seal and exchange events in one batch; gives the decisions."""
        return self.run(party, *[self.record(party, e) for e in events]).decisions

    # ---- out

    def topic(self, name: str) -> list[Outgoing]:
        """All records written to a topic."""
        return [o for o in self.outgoing if o.topic == name]

    def delivered(self, receiver: str, family: str = "usage") -> list[Delivered]:
        """What a receiver got, opened with its keys."""
        opener = DataKeyOpener(self.party_keys[receiver].private_key)
        found = []
        for out in self.topic(f"out.{receiver}.{family}"):
            envelope, associated = decode_envelope(out.value)
            subject, body = open_parts(envelope, associated, opener.open(dict(out.headers)[DATA_KEY]))
            schema = self._writer_schema(envelope["body_schema"])
            found.append(
                Delivered(receiver, envelope, catalogue()["subject.v1"].decode(subject), schema.decode(body), out)
            )
        return found

    def writer_schemas(self) -> dict[bytes, Schema]:
        """The published output schemas."""
        found = output_schemas(Catalogue(), self.registry.policy, self.registry.routes)
        return {schema.fingerprint: schema for _, schema in found}

    def _writer_schema(self, fingerprint: bytes) -> Schema:
        known = _published(self.registry.policy, self.registry.routes)
        return known[fingerprint] if fingerprint in known else self.writer_schemas()[fingerprint]

    def statuses(self, party: str) -> list[dict[str, Any]]:
        """What the sender was told."""
        schema = catalogue()["status.v1"]
        return [schema.decode(unframe(o.value)[1]) for o in self.topic(f"status.{party}")]

    def leaves(self) -> list[bytes]:
        """The audit leaves."""
        return [o.value or b"" for o in self.topic(AUDIT_EVENTS) if is_decision(o.value or b"")]

    def evidence(self) -> list[dict[str, Any]]:
        """What the audit leaves say of our own."""
        return evidence_in(self.outgoing)

    def controls(self) -> list[dict[str, Any]]:
        """The leaves of the control log."""
        return [json.loads(o.value or b"") for o in self.topic(AUDIT_CONTROL)]


@lru_cache(maxsize=8)
def _published(policy: Policy, routes: Routes) -> dict[bytes, Schema]:
    return {schema.fingerprint: schema for _, schema in output_schemas(Catalogue(), policy, routes)}


def evidence_in(outgoing: Sequence[Outgoing]) -> list[dict[str, Any]]:
    """What the audit leaves among some records say of our own."""
    values = (o.value or b"" for o in outgoing if o.topic == AUDIT_EVENTS)
    return [json.loads(value)["x"] for value in values if is_decision(value)]


_NO_CONNECTION = KafkaConnection("127.0.0.1:1", insecure_plaintext=True)


def make_world(limits: Limits = DEFAULT) -> World:
    """The example registry with keys for everybody; nobody is enrolled. Keys and registry are the same for all."""
    records, keys, party_keys = _example()
    return World(dict(records), limits, keys, dict(party_keys), base=_registry())


@cache
def _registry() -> Registry:
    return Registry.from_records(_example()[0])


@cache
def _example() -> tuple[dict[str, bytes], MemoryKeys, dict[str, MemoryKeys]]:
    document = load_document(data_path("examples") / "registry")
    keys = MemoryKeys()
    for owner in (BROKER, OPERATOR):
        keys.create(owner)
    for name in SECRETS:
        keys.create_secret(name)
    party_keys: dict[str, MemoryKeys] = {}
    public: dict[str, list[PublicKey]] = {}
    for party in document.parties:
        party_keys[party.id] = MemoryKeys()
        party_keys[party.id].create_secret(RECORD_KEY_SECRET)
        key = party_keys[party.id].create(party.id)
        public[party.id] = [PublicKey(kid=key.kid, jwk=dict(key.jwk))]
    return dict(records_of(with_keys(document, public))), keys, party_keys
