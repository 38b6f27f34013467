"""The life of quarantined records on a real Kafka, by the commands that people give."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from click.testing import Result
from typer.testing import CliRunner

from broker.cli import build
from broker.client import Event, Identity, Producer, Sent, Subject
from broker.client.profile import RECORD_KEY_SECRET
from broker.client.published import broker_kids
from broker.crypto import DataKeyMaker
from broker.demo import story
from broker.demo.stage import Stage
from broker.errors import BrokerError
from broker.keys import FileKeys, MemoryKeys
from broker.policy.document import canonical
from broker.quarantine.entries import Place
from broker.registry import store
from broker.wire import REPLAY_OF
from tests.e2e.watch import leaves, outcomes, raw, scraped, send

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

NUMBER = "182071649"  # published test number of a BSN; a school may have local ids of nine digits
SIS, SCHOOL = story.SIS, story.PO_SCHOOL


def enrolment(number: int) -> Event:
    """Of a new pupil, whose local id is taken for a BSN."""
    subject = Subject("PUPIL", f"https://ketenid.nl/pilot/{number:0128x}", (("LAS_KEY", NUMBER),))
    return Event(kind="ENROL", school=SCHOOL, sector="PO", subject=subject, body=Identity())


def quarantined(scene: Stage, number: int) -> str:
    """An enrolment that was set aside; its place."""

    async def work() -> str:
        sent = await send(scene, SIS, [enrolment(number)])
        results = (await outcomes(scene, SIS, sent))[sent[0].event_id][0].results
        assert [r.code for r in results] == ["pgn.bsn"]
        return str(Place(SIS, sent[0].partition, sent[0].offset))

    return asyncio.run(work())


def run(scene: Stage, *arguments: str, user: str = "operator") -> Result:
    """A command, as the operator or with the profiles of the parties."""
    environment = {
        "BROKER_CONNECTION": str(scene.home / "connections" / f"{user}.json"),
        "BROKER_PROFILES": str(scene.home / "profiles"),
        "BROKER_OPERATOR_KEYS": str(scene.home / "operator-keys"),
    }
    return CliRunner().invoke(build("quarantine"), ["quarantine", *arguments], env=environment)


def done(scene: Stage, *arguments: str) -> str:
    """What a command that goes well writes."""
    result = run(scene, *arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return str(result.stdout)


def error(result: Result) -> str:
    """The code of the error that a command ended with; it showed nothing."""
    assert isinstance(result.exception, BrokerError), result.output
    assert result.stdout == ""
    return result.exception.code


def state(scene: Stage, place: str, *who: str) -> str:
    """As a list shows it."""
    listed = [json.loads(line) for line in done(scene, "list", "--json", *who).splitlines()]
    return next(str(entry["state"]) for entry in listed if entry["place"] == place)


def waiting(scene: Stage) -> int:
    """How many the worker tells Prometheus of."""
    return int(sum(sample.value for sample in scraped(scene)["broker_quarantined_events"].samples))


def comes_to_wait(scene: Stage, number: int) -> bool:
    """Whether it tells that number, now or soon: what is committed is read before the lane has heard of it."""
    deadline = time.monotonic() + 10
    while waiting(scene) != number and time.monotonic() < deadline:
        time.sleep(0.05)
    return waiting(scene) == number


def on_the_control_log(scene: Stage, place: str) -> list[dict[str, Any]]:
    """What was done with a quarantined record."""

    async def work() -> list[dict[str, Any]]:
        records = raw(scene.connections["auditor"], lambda topic: topic == "audit.control")
        return [json.loads(r.value)["control"] async for r in records]

    where = Place.parse(place)
    found = [leaf for leaf in asyncio.run(work()) if leaf["kind"] == "quarantine"]
    return [leaf for leaf in found if leaf["in"] == where.json()]


def declare(scene: Stage, form: str | None) -> None:
    """The school says what its local ids look like."""

    async def work() -> None:
        operator = scene.connections["operator"]
        entry = json.loads((await store.read_records(operator))[f"school/{SCHOOL}"])
        changed = canonical({**entry, "local_id_form": form})
        await store.change(operator, {f"school/{SCHOOL}": changed}, "test", "local ids of nine digits")

    asyncio.run(work())
    time.sleep(1)  # the workers' views follow


def test_looking_opens_nothing(scene: Stage) -> None:
    """Code, field, school, place and time for operator and sender; no content, and so nothing in the audit."""
    place = quarantined(scene, 1)
    for who in ((), ("--as", SIS)):
        listed = [json.loads(line) for line in done(scene, "list", "--json", "--code", "pgn", *who).splitlines()]
        entry = next(e for e in listed if e["place"] == place)
        assert (entry["code"], entry["field"], entry["school"], entry["state"]) == (
            "pgn.bsn",
            "user_ids",
            SCHOOL,
            "open",
        )
        assert done(scene, "list", "--since", "2999-01-01", "--json", *who) == ""
        assert place in done(scene, "show", place, *who)
    assert NUMBER not in done(scene, "show", place)
    assert "ketenid" not in done(scene, "show", place)
    assert error(run(scene, "list", "--as", story.PUBLISHER, "--party", SIS)) == "quarantine.sender"
    assert on_the_control_log(scene, place) == []


def test_the_operator_opens_with_a_reason_that_stands_on_the_control_log(scene: Stage) -> None:
    """Who, which, why. The number itself is not shown."""
    place = quarantined(scene, 2)
    assert error(run(scene, "show", place, "--open")) == "quarantine.why"
    assert error(run(scene, "show", place, "--open", "--reason", f"pupil {NUMBER}")) == "quarantine.why"
    assert on_the_control_log(scene, place) == []
    opened = run(scene, "show", place, "--open", "--reason", "ticket 41", "--operator", "anna")
    assert opened.exit_code == 0
    assert f"subject.eck_id\thttps://ketenid.nl/pilot/{2:0128x}" in opened.stdout
    assert "subject.user_ids.0.value\t#########\tholds what looks like a number of the state (bsn)" in opened.stdout
    assert NUMBER not in opened.output
    assert "a person's data" in opened.stderr
    (leaf,) = on_the_control_log(scene, place)
    assert (leaf["action"], leaf["operator"], leaf["reason"]) == ("opened", "anna", "ticket 41")
    assert (leaf["sender"], leaf["school"], leaf["code"]) == (SIS, SCHOOL, "pgn.bsn")
    assert NUMBER not in json.dumps(leaf)


def test_nothing_is_opened_that_can_not_be_audited(scene: Stage) -> None:
    """The operator's key in the hands of who may read the topic, but not write to the control log."""
    place = quarantined(scene, 3)
    environment = {"BROKER_OPERATOR_KEYS": str(scene.home / "operator-keys")}
    connection = str(scene.home / "profiles" / SIS / "connection.json")
    arguments = ["quarantine", "show", place, "--open", "--reason", "x", "--connection", connection]
    assert error(CliRunner().invoke(build("quarantine"), arguments, env=environment)) == "quarantine.unavailable"
    elsewhere = [*arguments[:-1], str(scene.home / "connections" / "operator.json"), "--keys", str(scene.home / "keys")]
    assert error(CliRunner().invoke(build("quarantine"), elsewhere, env=environment)) == "quarantine.key"
    assert on_the_control_log(scene, place) == []


def test_a_sender_opens_its_own_with_its_own_key(scene: Stage) -> None:
    """A supplier's developer needs nobody for that; what he sees is what he sent."""
    place = quarantined(scene, 4)
    opened = done(scene, "show", place, "--open", "--as", SIS, "--json")
    content = {line["where"]: line["text"] for line in json.loads(opened)["content"]}
    assert content["envelope.kind"] == "ENROL"
    assert NUMBER not in opened
    assert on_the_control_log(scene, place) == []


def test_a_replay_goes_the_same_way_once_and_leads_to_the_first_try(scene: Stage) -> None:
    """In vain while the fault is there; delivered after it; and never twice, not even by hand. It counts until then."""
    before = waiting(scene)
    place = quarantined(scene, 5)
    assert comes_to_wait(scene, before + 1)
    in_vain = run(scene, "replay", place, "--json")
    assert in_vain.exit_code == 2, in_vain.output
    second = json.loads(in_vain.stdout)["replay"]
    assert (state(scene, place), state(scene, second)) == ("replayed", "open")
    assert comes_to_wait(scene, before + 1)
    declare(scene, "[0-9]{9}")
    try:
        replayed = json.loads(done(scene, "replay", second, "--json"))
    finally:
        declare(scene, None)
    assert [r["code"] for r in replayed["results"]] == ["ok.vault"]
    assert comes_to_wait(scene, before)
    assert (state(scene, second), state(scene, second, "--as", SIS)) == ("replayed", "replayed")
    assert error(run(scene, "replay", second)) == "quarantine.handled"
    evidence = [leaf["x"] for leaf in asyncio.run(leaves(scene)) if "in" in leaf["x"]]
    places = [Place.parse(text).json() for text in (place, second, replayed["replay"])]
    tries = [x for where in places for x in evidence if x["in"].items() >= where.items()]
    assert [x["decision"] for x in tries] == ["quarantined", "quarantined", "delivered"]
    assert [x.get("replay_of") for x in tries] == [None, *places[:2]]
    assert len({x["event"] for x in tries}) == 1
    assert by_hand(scene, Place.parse(second)) == "replay.unknown"


def by_hand(scene: Stage, place: Place) -> str:
    """A record with a link to what was replayed already; what is decided."""

    async def work() -> str:
        profile = scene.profile(SIS)
        async with Producer(profile) as producer:
            event = enrolment(6)
            key, value, headers = producer.seal(event, await producer._fresh_key())
        writer = AIOKafkaProducer(**profile.connection.aiokafka())
        await writer.start()
        link = (REPLAY_OF, str(place.offset).encode())
        await writer.send_and_wait(place.topic, value, key, partition=place.partition, headers=[*headers, link])
        await writer.stop()
        return (await outcomes(scene, SIS, [sent_at(event, place)]))[event.event_id][0].results[0].code

    return asyncio.run(work())


def sent_at(event: Event, place: Place) -> Sent:
    """As `outcomes` asks for it."""
    return Sent(event.event_id, place.topic, place.partition, 0)


def test_what_the_broker_can_not_open_any_more_keeps_its_one_replay(scene: Stage) -> None:
    """Sealed for a key that the broker does not have: the sender is told to send the event anew."""

    async def work() -> str:
        profile, stranger = scene.profile(SIS), MemoryKeys().create("broker")
        producer = Producer(profile)
        producer._secret = profile.keys.secret(RECORD_KEY_SECRET)
        event = enrolment(7)
        key, value, headers = producer.seal(event, DataKeyMaker(stranger.jwk, stranger.kid))
        writer = AIOKafkaProducer(**profile.connection.aiokafka())
        await writer.start()
        where = await writer.send_and_wait(f"in.{SIS}", value, key, partition=0, headers=headers)
        await writer.stop()
        place = Place(SIS, 0, where.offset)
        assert (await outcomes(scene, SIS, [sent_at(event, place)]))[event.event_id][0].results[0].code == (
            "seal.recipient"
        )
        return str(place)

    place = asyncio.run(work())
    refused = run(scene, "replay", place)
    assert error(refused) == "quarantine.key_gone"
    assert "anew" in str(refused.exception)
    assert state(scene, place) == "open"


def test_a_drop_is_seen_by_both_and_audited(scene: Stage) -> None:
    """Once, with a reason; the sender does not replay it any more."""
    place = quarantined(scene, 8)
    done(scene, "drop", place, "--reason", "test record", "--operator", "anna")
    assert (state(scene, place), state(scene, place, "--as", SIS)) == ("dropped", "dropped")
    (leaf,) = on_the_control_log(scene, place)
    assert (leaf["action"], leaf["operator"], leaf["reason"]) == ("dropped", "anna", "test record")
    assert error(run(scene, "drop", place, "--reason", "again")) == "quarantine.handled"
    assert error(run(scene, "replay", place)) == "quarantine.handled"
    assert len(on_the_control_log(scene, place)) == 1
    assert done(scene, "list", "--state", "open", "--json", "--party", SIS).count(f'"{place}"') == 0


def test_a_sender_can_neither_drop_nor_mark(scene: Stage) -> None:
    """It may read its quarantine, and write to its input alone."""
    place = quarantined(scene, 9)
    connection = str(scene.home / "profiles" / SIS / "connection.json")
    assert error(run(scene, "drop", place, "--reason", "x", "--connection", connection)) == "quarantine.unavailable"
    assert state(scene, place) == "open"


def test_a_destroyed_key_of_the_broker_is_taken_back(scene: Stage, tmp_path: Path) -> None:
    """So that a sender learns it before it replays what nobody can open."""
    operator = scene.connections["operator"]
    before = asyncio.run(broker_kids(operator))
    folder = tmp_path / "keys"
    shutil.copytree(scene.home / "keys", folder)  # the workers' own stay as they are
    newer = FileKeys(folder).create("broker")
    arguments = ["--keys", str(folder), "--connection", str(scene.home / "connections" / "operator.json")]

    def publish() -> frozenset[str]:
        result = CliRunner().invoke(build("keys"), ["keys", "publish", *arguments])
        assert result.exit_code == 0, (result.output, result.exception)
        return asyncio.run(broker_kids(operator))

    assert publish() == before | {newer.kid}
    FileKeys(folder).destroy(newer.kid)
    assert publish() == before
