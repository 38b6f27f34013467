"""What a supplier runs on its bundle: does everything work, and if not, what is to be done by whom?

Each step is done as the party's software would do it, with the party's own login and keys. No finding holds a secret,
nor anything of a person.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError

from broker.client import Consumer, Event, Producer, Profile
from broker.client.profile import CONNECTION_FILE, KEYS_FOLDER, RECORD_KEY_SECRET
from broker.client.published import broker_key, schemas
from broker.client.records import BODIES
from broker.client.records_material import new_id
from broker.crypto import jwe_kid
from broker.errors import BrokerError, told
from broker.kafka.diagnosis import check as check_connection
from broker.kafka.reading import looking
from broker.onboarding.bundle import KAFKA_FOLDER, PARTY_FILE, SANDBOX_FOLDER, SCHEMAS_FOLDER
from broker.schemas import catalogue, parse, unframe
from broker.wire import DATA_KEY, decode_envelope

PATIENCE_SECONDS: Final = 20.0
RETRY_SECONDS: Final = 0.5
LOOKED_AT: Final = 200  # of the newest records of a partition
_PUBLIC: Final = frozenset({"audit.counts"})  # where every party writes its counts
OPERATOR: Final = "Ask the operator"


class Finding(NamedTuple):
    """One line.

    Args:
        step: what was looked at. said: what is so. todo: what is to be done, if it is not ok.
    """

    step: str
    ok: bool
    said: str
    todo: str = ""


async def findings(folder: Path) -> AsyncIterator[Finding]:
    """Go through everything; what rests on something that is not there is left out."""
    document, files = _files(folder)
    for finding in files:
        yield finding
    if document is None or not all(finding.ok for finding in files):
        return
    profile = Profile.load(folder)
    try:
        await check_connection(profile.connection)
    except BrokerError as error:
        yield Finding(
            "login", False, str(error), f"If that does not help: {OPERATOR.lower()} whether the login is there."
        )
        return
    yield Finding("login", True, f"connected to {profile.connection.bootstrap} with TLS, as {profile.party}")
    check = _Check(folder, profile, document)
    try:
        async for finding in check.run():
            yield finding
    except (BrokerError, KafkaError, TimeoutError) as error:
        yield Finding("kafka", False, told(error), f"Try again; if it stays so: {OPERATOR.lower()}.")


# ---- the folder


def _files(folder: Path) -> tuple[dict[str, Any] | None, list[Finding]]:
    """Whether all is there, and nobody else can read it."""
    missing = [
        name for name in (CONNECTION_FILE, PARTY_FILE, KEYS_FOLDER, SCHEMAS_FOLDER) if not (folder / name).exists()
    ]
    if missing:
        todo = f"{OPERATOR} for the whole bundle (`broker party add PARTY --registry DIR`)."
        return None, [Finding("files", False, f"{folder} has no {', '.join(missing)}.", todo)]
    secret = [folder / CONNECTION_FILE, *(folder / KAFKA_FOLDER).glob("*"), *(folder / KEYS_FOLDER).glob("*")]
    if readable := sorted(str(path) for path in secret if path.stat().st_mode & 0o077):
        said = f"{len(readable)} secret files can be read by other users of this machine, {readable[0]} first."
        todo = f"Run: chmod -R go= {folder}. Was the machine shared, then ask the operator for a new password and key."
        return None, [Finding("files", False, said, todo)]
    try:
        document: dict[str, Any] = json.loads((folder / PARTY_FILE).read_text("utf-8"))
        _ = [document["topics"][name] for name in ("in", "status", "quarantine", "out", "schemas", "broker_keys")]
        _ = [document["group_prefix"], document["sandbox"]["school"]]
        profile = Profile.load(folder)
        profile.keys.secret(RECORD_KEY_SECRET)
        kids = [key.kid for key in profile.keys.recipient_keys(document["party"]) if profile.keys.private_key(key.kid)]
    except (BrokerError, ValueError, KeyError, TypeError) as error:
        said = str(error) if isinstance(error, BrokerError) else f"{folder / PARTY_FILE} is damaged."
        return None, [Finding("files", False, said, f"{OPERATOR} for the bundle again, or take it from a backup.")]
    if profile.party != document["party"] or not kids:
        said = f"{folder} has no private key of {document['party']}, or the login of another party."
        return None, [Finding("files", False, said, f"{OPERATOR} for the bundle again.")]
    return document, [Finding("files", True, "all there, and readable by you alone")]


# ---- Kafka


class _Check:
    """The steps that need a connection. Each has a consumer of its own: aiokafka's breaks when it is assigned anew."""

    def __init__(self, folder: Path, profile: Profile, document: dict[str, Any]) -> None:
        self.folder, self.profile, self.document = folder, profile, document
        self.topics: dict[str, Any] = document["topics"]
        self.visible: dict[str, list[TopicPartition]] = {}

    async def run(self) -> AsyncIterator[Finding]:
        """All of them."""
        async with self._reader([]) as consumer:
            cluster = await consumer._client.fetch_all_metadata()
        for topic in cluster.topics():
            numbers = sorted(cluster.partitions_for_topic(topic) or ())
            self.visible[topic] = [TopicPartition(topic, number) for number in numbers]
        yield self._visible()
        steps = [self._rights, self._broker_key, self._schemas]
        steps += [self._send] if self.topics["status"] in self.visible else []
        for step in (*steps, self._receive):
            yield await _patiently(step)
            if step == self._rights:
                yield self._others()

    @asynccontextmanager
    async def _reader(self, places: list[TopicPartition]) -> AsyncIterator[AIOKafkaConsumer]:
        group = f"{self.document['group_prefix']}check" if places else None
        consumer = looking(self.profile.connection, group_id=group, auto_offset_reset="earliest")
        await consumer.start()
        try:
            if places:
                consumer.assign(places)
            yield consumer
        finally:
            await consumer.stop()

    def _readable(self) -> list[str]:
        names = [self.topics[name] for name in ("status", "quarantine", "schemas", "broker_keys")]
        return [*names, *self.topics["out"].values()]

    def _visible(self) -> Finding:
        missing = sorted({self.topics["in"], *self._readable()} - self.visible.keys())
        if not missing:
            return Finding("topics", True, f"all {1 + len(self._readable())} of them are there")
        todo = f"{OPERATOR} to run `broker registry apply DIR` and `broker topics apply --registry DIR`."
        return Finding("topics", False, f"Kafka shows no {', '.join(missing)}.", todo)

    async def _rights(self) -> Finding:
        """Fetch from each topic, and ask for the place of a group: Kafka says no where a right is missing."""
        if not any(name in self.visible for name in self._readable()):
            return Finding("rights", False, "You may read nothing.", f"{OPERATOR}: as for the topics.")
        todo = f"{OPERATOR} to run `broker topics plan --registry DIR`: it shows which right is missing."
        topics = [name for name in self._readable() if name in self.visible]
        places = [place for topic in topics for place in self.visible[topic]]
        try:
            async with self._reader(places) as consumer:
                await _newest(consumer, places, 1)
                await consumer.getmany(timeout_ms=500)  # empty ones too: a refusal comes at once
                for place in places[:1]:
                    await consumer.committed(place)
        except TopicAuthorizationFailedError:
            return Finding("rights", False, "One of your topics can be seen, but not read.", todo)
        except GroupAuthorizationFailedError:
            said = f"Groups that begin with {self.document['group_prefix']} can not be used."
            return Finding("rights", False, said, todo)
        return Finding("rights", True, f"you may read your {len(topics)} topics, in groups of your own")

    def _others(self) -> Finding:
        """Who may read or write a topic sees it: what is not seen can be neither."""
        prefix = f"out.{self.profile.party}."
        own = {self.topics["in"], *self._readable(), *_PUBLIC}
        foreign = sorted(name for name in self.visible if name not in own and not name.startswith(prefix))
        if not foreign:
            return Finding("others", True, "Kafka shows you no topic of anybody else")
        said = f"Kafka shows you {len(foreign)} topics that are not yours, {foreign[0]} first."
        return Finding("others", False, said, "Tell the operator at once: you have rights that you should not have.")

    async def _broker_key(self) -> Finding:
        try:
            key = await broker_key(self.profile.connection)
        except BrokerError as error:
            return Finding("broker key", False, str(error), f"{OPERATOR} to run `broker keys publish`.")
        return Finding("broker key", True, f"{key.kid}; what you send is sealed for it")

    async def _schemas(self) -> Finding:
        try:
            known = await schemas(self.profile.connection)
        except BrokerError as error:
            return Finding("schemas", False, str(error), f"{OPERATOR} to run `broker registry apply DIR`.")
        files = sorted((self.folder / SCHEMAS_FOLDER).glob("*.avsc"))
        unknown = [f.name for f in files if parse(json.loads(f.read_text("utf-8"))).fingerprint not in known]
        if not unknown:
            return Finding("schemas", True, f"all {len(files)} of the bundle are published")
        said = f"{len(unknown)} schemas of the bundle are not published, {unknown[0]} first."
        return Finding("schemas", False, said, f"{OPERATOR} for a new bundle, or to run `broker registry apply DIR`.")

    # ---- one event there, one back

    async def _send(self) -> Finding:
        """Send one event of the sandbox, under new ids, and wait for what became of it."""
        events = _ready(self.folder)
        if not events:
            return Finding("send", True, "your roles send nothing")
        places = self.visible[self.topics["status"]]
        async with self._reader(places) as consumer:
            await consumer.seek_to_end(*places)
            for place in places:
                await consumer.position(place)
            try:
                async with Producer(self.profile) as producer:
                    for event in events:
                        await producer.send(event)
            except BrokerError as error:
                todo = f"{OPERATOR} to run `broker topics plan --registry DIR`, if it is about a right."
                return Finding("send", False, str(error), todo)
            last = events[-1]
            result = await _status(consumer, last.event_id)
        if result is None:
            said = f"No outcome of the {last.family} came within {PATIENCE_SECONDS:.0f} seconds."
            return Finding("send", False, said, f"{OPERATOR} whether the workers run.")
        if result["code"].partition(".")[0] == "ok":
            return Finding("send", True, f"{last.family} {last.kind} to the sandbox: {result['code']}")
        said = f"{result['code']}: {result['sentence']}"
        return Finding("send", False, said, _todo(result["code"], self.profile.party))

    async def _receive(self) -> Finding:
        """Open the newest event of the sandbox that came, of each family.

        After a rotation the older key is destroyed, and what was sealed for it stays on the topics for weeks. That is
        no fault, if something that came later is sealed for a key that is here.
        """
        kids = [key.kid for key in self.profile.keys.recipient_keys(self.profile.party)]
        found: dict[str, ConsumerRecord] = {}
        places = [place for topic in self.topics["out"].values() for place in self.visible.get(topic, ())]
        if places:
            async with self._reader(places) as consumer:
                records = await _newest(consumer, places, LOOKED_AT)
            since = max((one.timestamp for one in records if _sealed_for(one) in kids), default=0)
            for record in records:
                if _sealed_for(record) not in kids and record.timestamp < since:
                    continue
                # Only the sandbox's: what is about people is not opened by a check.
                if decode_envelope(record.value)[0]["school"] == self.document["sandbox"]["school"]:
                    family = record.topic.rpartition(".")[2]
                    found[family] = max(found.get(family, record), record, key=lambda one: one.timestamp)
        for family, record in found.items():
            try:
                await Consumer(self.profile, family)._receive(record)
            except BrokerError as error:
                todo = (
                    f"{OPERATOR} which of your keys the registry has; it must be one of {KEYS_FOLDER}/. If "
                    f"you destroyed an older one: ask for `broker party sandbox {self.profile.party}`, and check again."
                )
                return Finding("receive", False, f"What came on {record.topic} does not open: {error}.", todo)
        if not found:
            todo = f"{OPERATOR} to run `broker party sandbox {self.profile.party}`, then check again."
            said = "Nothing of the sandbox came to you yet that is sealed for a key of yours."
            return Finding("receive", False, said, todo)
        said = f"opened what came of {', '.join(sorted(found))}, with the key that the registry has of you"
        if any(_sealed_for(record) != kids[0] for record in found.values()):
            said += "; some of it was sealed for an older key of yours"
        return Finding("receive", True, said)


def _sealed_for(record: ConsumerRecord) -> str:
    """The id of the key that opens it."""
    return jwe_kid(dict(record.headers)[DATA_KEY])


async def _newest(consumer: AIOKafkaConsumer, places: list[TopicPartition], most: int) -> list[ConsumerRecord]:
    """The newest records of partitions, at most so many of each."""
    first, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
    for place in places:
        consumer.seek(place, max(first[place], ends[place] - most))
    records: list[ConsumerRecord] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any([await consumer.position(place) < ends[place] for place in places]):
        if time.monotonic() > deadline:
            raise TimeoutError("Kafka does not give the records that it has")
        for some in (await consumer.getmany(timeout_ms=200)).values():
            records += some
    return records


async def _status(consumer: AIOKafkaConsumer, event_id: str) -> dict[str, Any] | None:
    """The outcome of an event, as soon as it comes."""
    schema, deadline = catalogue()["status.v1"], time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            for record in records:
                fingerprint, data = unframe(record.value)
                if fingerprint != schema.fingerprint:
                    continue  # of another version
                datum: dict[str, Any] = schema.decode(data)
                if datum["event_id"] == event_id:
                    result: dict[str, Any] = datum["results"][-1]
                    return result
    return None


async def _patiently(step: Callable[[], Awaitable[Finding]]) -> Finding:
    """Try a step again while Kafka is not ready for it: topics may be some seconds old, a group without coordinator."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    async with asyncio.timeout(3 * PATIENCE_SECONDS):  # whatever Kafka's client waits for: a check ends
        while True:
            try:
                return await step()
            except (KafkaError, TimeoutError):
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(RETRY_SECONDS)


def _ready(folder: Path) -> list[Event]:
    """What is sent: the enrolments, where the party keeps the pupils, and one event more; all under new ids."""
    files = sorted((folder / SANDBOX_FOLDER).glob("*.jsonl"))
    enrolments = [path for path in files if path.stem == "identity"]
    others = sorted((path for path in files if path not in enrolments), key=lambda path: path.stem == "control")
    found = []
    for path in (*enrolments, *others[:1]):
        for line in path.read_text("utf-8").splitlines():
            event = Event.from_json(json.loads(line), path.stem)
            name = catalogue().family(path.stem).object_field
            datum = event.body.datum() | ({} if name is None else {name: new_id()})
            found.append(replace(event, event_id=new_id(), body=BODIES[path.stem].from_datum(datum)))
    return found


def _todo(code: str, party: str) -> str:
    if code in ("subject.waiting", "subject.unknown"):
        return f"{OPERATOR} to run `broker party sandbox {party}`: the sandbox's pupils are not enrolled yet."
    return f"{OPERATOR} to put your party and its sandbox into the registry, and show him this code."
