"""Markers in every field of every family are found nowhere but inside a part that its intended receiver opened.

One flight for all tests of this module: every kind of every family, in three schools, about people who differ in what
decides over an attribute (`flock`), and each family's events wrong in one thing each.
"""

from __future__ import annotations

import asyncio
import json
import os
import urllib.request
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from broker.audit.leaf import is_decision
from broker.client import Producer
from broker.client.producer import Sealed
from broker.client.receipts import Evidence
from broker.crypto import DataKeyMaker, DataKeyOpener
from broker.demo.stage import Stage, stage
from broker.kafka.reading import looking
from broker.registry import Registry
from broker.schemas import Schema, catalogue, unframe
from broker.schemas.outputs import output_schemas
from broker.wire import AUDIT_SALT, DATA_KEY, decode_envelope, encode_event, open_parts
from tests.e2e import auditing, flock, markers
from tests.e2e.flock import SCHOOLS, Sent
from tests.e2e.watch import PATIENCE_SECONDS, raw

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

ID_ATTRIBUTES = {
    "LAS_KEY": "lasKey", "LEERLINGNUMMER": "leerlingnummer", "NL_EDU_PERSON_PROFILE_ID": "nlEduPersonProfileId",
    "NL_EDU_PERSON_REAL_ID": "nlEduPersonRealId", "MEDEWERKERNUMMER": "employeeNumber",
}  # fmt: skip
# What a good event may be told: it went, or nobody may have it in this school.
FAIR = ("ok", "gate.route", "gate.receivers", "gate.connection", "gate.agreement", "gate.policy", "event.duplicate")


@dataclass(frozen=True)
class Record:
    """A record as it stands on Kafka."""

    topic: str
    key: bytes
    value: bytes
    headers: dict[str, bytes]


@dataclass
class Flight:
    """What was sent, what was decided, and what stands on Kafka afterwards."""

    scene: Stage
    sent: dict[str, Sent] = field(default_factory=dict)
    strays: dict[str, tuple[str, Sent]] = field(default_factory=dict)
    statuses: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)

    @property
    def registry(self) -> Registry:
        """As the stage has it."""
        return self.scene.registry

    @cached_property
    def leaves(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The evidence of each delivery, by event and receiver."""
        found = (
            json.loads(r.value)["x"]
            for r in self.records
            if r.topic == "audit.events" and r.value and is_decision(r.value)
        )
        return {(x["event"], x["receiver"]): x for x in found if x["decision"] == "delivered"}

    def to_parties(self) -> Iterator[Record]:
        """What was delivered."""
        return (record for record in self.records if record.topic.startswith("out.") and record.value)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A stage whose processes have their folder for temporary files inside it."""
    home = tmp_path_factory.mktemp("canary") / "home"
    (home / "tmp").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TMPDIR", "TMP", "TEMP"):
            patch.setenv(name, str(home / "tmp"))
        patch.setenv("JDK_JAVA_OPTIONS", f"-Djava.io.tmpdir={home / 'tmp'}")
        with stage(home) as built:
            yield built


@pytest.fixture(scope="module")
def flight(scene: Stage) -> Flight:
    """Everything is sent and decided, and all topics are read."""
    flown = Flight(scene)
    asyncio.run(_fly(flown))
    return flown


async def _fly(flown: Flight) -> None:
    async with AsyncExitStack() as stack:
        pilot = Pilot(flown, await stack.enter_async_context(_statuses(flown.scene)))
        for party in flown.registry.parties:
            pilot.producers[party] = await stack.enter_async_context(Producer(flown.scene.profile(party)))
        await pilot.send(chain.from_iterable(map(flock.enrolments, SCHOOLS)))
        passing = [sent for school in SCHOOLS for sent in flock.flights(flown.registry, school)]
        await pilot.send(passing)
        await pilot.send(chain.from_iterable(map(flock.identity_changes, SCHOOLS)))
        await pilot.send(chain.from_iterable(map(flock.connections, SCHOOLS)))
        examples = {sent.event.family: sent for sent in (*flown.sent.values(), *passing)}
        for code, sent in chain.from_iterable(flock.strays(sent) for sent in examples.values()):
            flown.strays[sent.event.event_id] = (code, sent)
        await pilot.send([sent for _, sent in flown.strays.values()], good=False)
        await pilot.send_broken(passing[0])
    async for r in raw(flown.scene.kafka.admin_connection(), lambda t: t[0] != "_", isolation="read_uncommitted"):
        flown.records.append(Record(r.topic, r.key or b"", r.value or b"", dict(r.headers)))


@dataclass
class Pilot:
    """Sends, and waits for what is decided."""

    flown: Flight
    statuses: AIOKafkaConsumer
    producers: dict[str, Producer] = field(default_factory=dict)

    async def send(self, some: Iterable[Sent], *, good: bool = True) -> None:
        """Send each in its party's name, and wait."""
        by_party: defaultdict[str, list[Sent]] = defaultdict(list)
        for sent in some:
            by_party[sent.party].append(sent)
            if good:
                self.flown.sent[sent.event.event_id] = sent
        for party, mine in by_party.items():
            await self.producers[party].send_many([one.event for one in mine])
        await self.wait({one.event.event_id for mine in by_party.values() for one in mine})

    async def send_broken(self, example: Sent) -> None:
        """Bodies that do not decode: their bytes hold markers, and what a decoder says of them could quote them."""
        word = markers.WORD.encode()
        async with Careless(self.flown.scene.profile(example.party)) as producer:
            for producer.behind in (word, b"\x02\xff" + word, b"\x02" + word):
                sent = await producer.send(replace(example.event, event_id=flock.new_id()))
                self.flown.strays[sent.event_id] = ("schema.", example)
        await self.wait(self.flown.strays.keys())

    async def wait(self, wanted: Iterable[str]) -> None:
        """Until each of these events has a status."""
        left, schema = set(wanted) - self.flown.statuses.keys(), catalogue()["status.v1"]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while left:
                for record in chain.from_iterable((await self.statuses.getmany(timeout_ms=200)).values()):
                    told = schema.decode(unframe(record.value)[1])
                    self.flown.statuses.setdefault(told["event_id"], told["results"])
                    left.discard(told["event_id"])


@asynccontextmanager
async def _statuses(scene: Stage) -> AsyncIterator[AIOKafkaConsumer]:
    """A reader of all parties' statuses, from their beginning; without groups, which take seconds to form."""
    consumer = looking(scene.kafka.admin_connection())
    await consumer.start()
    try:
        parts = [TopicPartition(f"status.{party}", 0) for party in scene.registry.parties]
        consumer.assign(parts)
        await consumer.seek_to_beginning(*parts)
        yield consumer
    finally:
        await consumer.stop()


class Careless(Producer):
    """A client of somebody else's making, whose sealed parts are no whole records."""

    behind = b""

    def seal(self, event: Any, maker: DataKeyMaker) -> Sealed:
        """As ours, with bytes behind the body."""
        key, value, _ = super().seal(event, maker)
        envelope, _ = decode_envelope(value)
        subject, datum = catalogue()["subject.v1"].encode(event.subject.datum()), event.body.datum()
        data_key = maker.current()
        body = catalogue().family(event.family).schema.encode(datum)
        body = self.behind + body[:-9] if self.behind.startswith(b"\x02") else body + self.behind
        return key, encode_event(envelope, subject, body, data_key), [(DATA_KEY, data_key.header)]


# ---- nothing is forgotten


def test_every_kind_of_every_family_arrived_on_every_route_of_the_table(flight: Flight) -> None:
    """The flight is complete: each kind, from each role to each role that the route table has."""
    registry, arrived = flight.registry, set[tuple[str, str, str, str]]()
    for event_id, receiver in flight.leaves:
        sent = flight.sent.get(event_id)
        if sent is not None:
            role = registry.parties[receiver].roles[0] if receiver in registry.parties else receiver.upper()
            arrived.add((sent.event.family, sent.event.kind, registry.parties[sent.party].roles[0], role))
    expected = {(r.family, kind, r.sender_role, r.receiver_role) for r in registry.routes for kind in r.kinds}
    # Here the SIS speaks for its schools; what another party of a link may say of its own side is for tests/exchange.
    expected = {way for way in expected if way[0] != "connection" or way[2:] == ("SIS", "REGISTRY")}
    assert expected - arrived == set()
    kinds = {(family.name, kind) for family in catalogue().families.values() for kind in family.kinds}
    assert kinds - {way[:2] for way in arrived} == {("control", "SEED_REQUEST")}, "what only the broker sends"


def test_a_good_event_is_delivered_or_stopped_by_a_gate(flight: Flight) -> None:
    """No marker was taken for something wrong: a field whose form is checked needs a marker of that form."""
    told = {
        (sent.event.family, sent.event.kind, result["code"], result["field"])
        for event_id, sent in flight.sent.items()
        for result in flight.statuses[event_id]
        if not result["code"].startswith(FAIR)
    }
    assert told == set()


def test_a_wrong_event_reaches_nobody(flight: Flight) -> None:
    """Each is refused, quarantined or parked for what is wrong with it."""
    wrong = {}
    for event_id, (code, sent) in flight.strays.items():
        codes = {result["code"] for result in flight.statuses[event_id]}
        if not all(told.startswith(code) for told in codes):
            wrong[sent.event.family, sent.event.kind, code] = codes
    assert wrong == {}
    assert {code for code, _ in flight.strays.values()} >= {"pgn.bsn", "subject.waiting", "schema.", "field.missing"}


# ---- what receivers get


def test_receivers_open_what_policy_and_agreement_let_pass_and_nothing_else(flight: Flight) -> None:
    """Attribute by attribute, for every delivery: what may pass is there as it was sent, all else is not (P3)."""
    schemas = {s.fingerprint: s for _, s in output_schemas(catalogue(), flight.registry.policy, flight.registry.routes)}
    openers = {p: DataKeyOpener(flight.scene.profile(p).keys.private_key) for p in flight.registry.parties}
    wrong, passed, compared = {}, set[str](), 0
    for record in flight.to_parties():
        receiver = record.topic.split(".")[1]
        envelope, associated = decode_envelope(record.value)
        sent = flight.sent.get(envelope["event_id"])
        if sent is None:  # what the broker itself tells
            assert envelope["sender"] == "broker"
            continue
        subject, body = open_parts(envelope, associated, openers[receiver].open(record.headers[DATA_KEY]))
        opened = schemas[envelope["body_schema"]].decode(body)
        may = allowed(flight, sent, receiver)
        compared += 1
        passed |= {name for name in may if name in sent.family.attributes}
        differing = differs(sent, schemas[envelope["body_schema"]], opened, may)
        differing |= differing_ids(sent, catalogue()["subject.v1"].decode(subject), may)
        if differing:
            wrong[sent.event.family, sent.event.kind, sent.event.school, receiver] = differing
    assert wrong == {}
    assert compared > len(flight.sent) / 2
    assert {"homeAddress", "activationCode", "score", "birthDate", "familyName", "irregularities"} <= passed


def allowed(flight: Flight, sent: Sent, receiver: str) -> set[str]:
    """Attributes that may pass, by the policy's projection under the agreement, and the conditions that hold."""
    registry, event, today = flight.registry, sent.event, datetime.now(UTC).date()
    evidence = flight.leaves[event.event_id, receiver]
    name = evidence["agreement"].rpartition("/")[0]
    (agreement,) = [a for a in registry.agreements_of(receiver) if a.id == name]
    family, party, datum = sent.family, registry.parties[receiver], event.body.datum()
    product = datum[family.product_field] if family.product_field else None
    types = {p.id: p.type for p in agreement.products}
    projection = registry.policy.projection(
        evidence["process"], event.sector, party.roles[0], types.get(product, "ordinary"),
        (*family.attributes, "eckId", *ID_ATTRIBUTES.values()), agreement.named(today),
    )  # fmt: skip
    digital = family.schema.document.get("digital", False)
    holds = set() if sent.person is None else set(sent.person.met)
    holds |= {"digital-line"} if digital is True or (digital and datum[digital] == "DIGITAL") else set()
    holds |= {"home-delivery"} if datum.get("delivery") == "HOME" else set()
    holds |= {"covenant-attested"} if party.covenant != "geen" and party.eck_id_attested_on else set()
    holds |= {"own-school-sis"} if receiver == SCHOOLS[event.school][1] else set()
    passing = {*projection.kept, *projection.transformed}
    return {n for n in passing if holds.issuperset(projection.conditions.get(n, ()))}


def differs(sent: Sent, schema: Schema, opened: dict[str, Any], may: set[str]) -> set[str]:
    """Fields of a body that are not as they should be."""
    datum, there = sent.event.body.datum(), {f.name for f in schema.fields}
    found = set(opened) ^ there
    for declared in sent.family.schema.fields:
        passes = declared.attribute is None or declared.attribute in may
        value, got = datum[declared.name], opened.get(declared.name)
        if got != (value if passes else None) and not (passes and got and value.startswith(got)):  # its first letter
            found.add(declared.name)
    return found


def differing_ids(sent: Sent, opened: dict[str, Any], may: set[str]) -> set[str]:
    """Ids of a subject that are not as they should be: the ECK iD, else one local id, else a pseudonym."""
    person = None if sent.event.subject.kind == "NONE" else sent.person
    ids = {(i["type"], i["value"]) for i in opened["user_ids"]}
    if person is None:
        return set() if opened["kind"] == "NONE" and not ids and opened["eck_id"] is None else {"subject"}
    wrong = set()
    if opened["eck_id"] != (person.subject.eck_id if "eckId" in may else None):
        wrong.add("eck_id")
    permitted = [(t, v) for t, v in person.subject.user_ids if ID_ATTRIBUTES[t] in may]
    pseudonyms = {(t, v) for t, v in ids if t == "RECEIVER_PSEUDONYM"}
    if ids - pseudonyms != set(permitted[:1]) or bool(pseudonyms) != (not permitted and opened["eck_id"] is None):
        wrong.add("user_ids")
    return wrong | ({"previous_user_ids"} if opened["previous_user_ids"] else set())


# ---- nothing in clear


@pytest.fixture(scope="module")
def needles(flight: Flight) -> frozenset[bytes]:
    """The markers as they would look in clear, and unkeyed hashes of a pupil's ids."""
    subject = flock.people("99PA")[0].subject
    return markers.needles((subject.eck_id or "", subject.user_ids[0][1]))


def test_no_marker_is_in_clear_on_any_topic(flight: Flight, needles: frozenset[bytes]) -> None:
    """Keys, headers and values of all records, those of aborted transactions too."""
    words, found, topics = markers.words(), defaultdict[str, set[bytes]](set), set[str]()
    assert {b"NOT_APPLICABLE", b"NOT_FINISHED", b"VO_VMBO_BB"} <= words
    for record in flight.records:
        topics.add(record.topic)
        whole = b"\n".join((record.key, record.value, *chain(*((n.encode(), v) for n, v in record.headers.items()))))
        forms = needles if record.topic == "schemas" else needles | words
        found[record.topic] |= markers.hits(whole, forms)
    assert {topic: forms for topic, forms in found.items() if forms} == {}
    assert {"vault.identity", "audit.events", "audit.control", "parked", "lane.state", "registry"} <= topics
    assert {"in", "out", "status", "quarantine"} <= {topic.partition(".")[0] for topic in topics}


def test_no_marker_is_in_metrics_or_logs(flight: Flight, needles: frozenset[bytes]) -> None:
    """What the worker tells while it runs, after everything that went wrong."""
    forms = needles | markers.words()
    with urllib.request.urlopen(f"http://127.0.0.1:{flight.scene.ports[0]}/metrics", timeout=5) as answer:
        metrics = answer.read()
    assert b"broker_decisions_total" in metrics
    assert not markers.hits(metrics, forms)
    (log,) = flight.scene.home.glob("worker-*.log")
    assert not markers.hits(log.read_bytes(), forms)


def test_no_marker_is_in_anything_that_is_made_of_the_audit(flight: Flight, needles: frozenset[bytes]) -> None:
    """Logs and tiles, the store and its index of persons, answers, stories, exports, receipts, lines of the Logboek."""
    people = [
        {"board": board, "school": school, "sector": sector, "type": id_type, "value": value}
        for school, (sector, _) in SCHOOLS.items()
        for board in [flight.registry.schools[school].board]
        for id_type, value in flock.people(school)[0].subject.user_ids[:1]
    ]
    delivered = [
        Evidence(envelope["event_id"], envelope["receiver"], record.value, record.headers[AUDIT_SALT])
        for record in flight.to_parties()
        for envelope in [decode_envelope(record.value)[0]]
        if (envelope["event_id"], envelope["receiver"]) in flight.leaves
    ]
    made = asyncio.run(auditing.make_all(flight.scene, people, delivered))
    assert made.rows > 500
    assert made.lines > 500
    assert made.persons > len(people)
    assert made.receipts == min(len(delivered), auditing.RECEIPTS) > 50
    for path in sorted(p for p in (flight.scene.home / auditing.FOLDER).iterdir()):
        assert not markers.hits(path.read_bytes(), needles | markers.words()), f"in clear in {path.name}"


def test_no_marker_is_in_any_file_of_the_processes(flight: Flight, needles: frozenset[bytes]) -> None:
    """State (LMDB), temporary files, Kafka's own files; and nothing is open outside of the stage's folder."""
    for path in sorted(p for p in flight.scene.home.rglob("*") if p.is_file()):
        data, place = _content(path), path.relative_to(flight.scene.home)
        forms = needles if place.parts[0] == "kafka" else needles | markers.words()
        assert not markers.hits(data, forms), f"in clear in {place}"
    assert any(p.name == "data.mdb" for p in flight.scene.home.rglob("*"))
    written = _written_files(flight.scene.workers[0].pid)
    assert written
    assert {p for p in written if not p.is_relative_to(flight.scene.home)} == set()


def _content(path: Path) -> bytes:
    """Of a file, without what was only allocated: Kafka's index files are 10 MiB of zeros each."""
    try:
        with path.open("rb") as file:
            return file.read(path.stat().st_blocks * 512).rstrip(b"\x00")
    except FileNotFoundError:  # the log builder has just given it its name
        assert path.parent.name == ".tmp"
        return b""


def _written_files(pid: int) -> set[Path]:
    """Files that a process has open for writing."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        target = entry.readlink()
        flags = int(Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text("utf-8").split("flags:")[1].split()[0], 8)
        if target.is_file() and flags & os.O_ACCMODE != os.O_RDONLY:
            found.add(target)
    return found
