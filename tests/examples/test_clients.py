"""The example clients in Java, JavaScript and Go: by the wire format alone, they send, receive and open events."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka.admin import AdminClient

from broker.client import Consumer, Event, Identity, Received, Usage, pupil
from broker.demo import story
from broker.demo.stage import Stage, stage
from broker.kafka.pki import DevelopmentCA
from tests.e2e.watch import outcomes, raw, send
from tests.examples.bundles import another_topic, bundle_of, change_settings
from tests.examples.programs import RUN_S, Client, build, lines, need_tools

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]
LANGUAGES = ("java", "javascript", "go")
ECK_ID = "https://ketenid.nl/pilot/" + "1f" * 64
IDLE_S = 20.0


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Client]]]:
    """All languages, built beside each other while the stage is set."""
    homes = {language: tmp_path_factory.mktemp(language) for language in LANGUAGES}
    with ThreadPoolExecutor(len(LANGUAGES)) as pool:
        yield {language: pool.submit(build, language, home) for language, home in homes.items()}


@pytest.fixture(scope="module", params=LANGUAGES)
def client(request: pytest.FixtureRequest, builds: dict[str, Future[Client]]) -> Client:
    """The programs of one language; skips where its tools are absent, or as its build did."""
    need_tools(request.param)
    request.getfixturevalue("place")  # it is set while the languages build
    return builds[request.param].result()


@dataclass(frozen=True)
class Place:
    """An installation with an enrolled pupil, and the folders of a sender and a receiver.

    Args:
        ours: an event that our own client sent, as our own client received it.
    """

    scene: Stage
    sender: Path
    receiver: Path
    ours: Received


@pytest.fixture(scope="module")
def place(builds: dict[str, Future[Client]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One for all languages. Asks for the builds first, so that they have begun."""
    folder = tmp_path_factory.mktemp("stage")
    with stage(folder / "home") as scene:
        enrol = Event(
            kind="ENROL", school=story.PO_SCHOOL, sector="PO", subject=pupil(eck_id=ECK_ID, las_key="L0001"),
            body=Identity(),
        )  # fmt: skip
        body = Usage(
            entitlement_id=story.new_id(), product_id=story.BOOK, usage_type="WEEKLY_USAGE", frequency=1,
            usage_date=story.today().date(),
        )  # fmt: skip
        event = Event(kind="USE", school=story.PO_SCHOOL, sector="PO", subject=pupil(eck_id=ECK_ID), body=body)

        async def begin() -> Received:
            await outcomes(scene, story.SIS, await send(scene, story.SIS, [enrol]))
            await send(scene, story.PUBLISHER, [event])
            return (await received(scene, "begin", {event.event_id}))[event.event_id]

        ours = asyncio.run(begin())
        sender, receiver = (bundle_of(scene, who, folder / who) for who in (story.PUBLISHER, story.PORTAL))
        yield Place(scene, sender, receiver, ours)


async def received(scene: Stage, group: str, wanted: set[str]) -> dict[str, Received]:
    """What our own client receives, by event id, until all that is wanted came."""
    found: dict[str, Received] = {}
    async with Consumer(scene.profile(story.PORTAL), "usage", group=group) as consumer:
        async for one in consumer.events(idle_seconds=IDLE_S):
            found[one.event.event_id] = one
            if wanted <= found.keys():
                break
    assert wanted <= found.keys(), "not delivered"
    return found


def usage(frequency: int, **other: Any) -> dict[str, Any]:
    """A line for `send`: two kinds of date, a record in the record."""
    moment = story.today().replace(microsecond=0).isoformat().replace("+00:00", "Z")
    body = {
        "entitlement_id": story.new_id(), "product_id": story.BOOK, "usage_type": "WEEKLY_USAGE",
        "usage_date": moment[:10], "frequency": frequency,
        "progress": {"status": "STARTED", "assignable_unit_id": "les-1", "at": moment},
    }  # fmt: skip
    subject = {"kind": "PUPIL", "user_ids": [{"type": "LAS_KEY", "value": "L0001"}]}
    return {
        "kind": "USE", "school": story.PO_SCHOOL, "sector": "PO", "subject": subject, "body": body | other,
    }  # fmt: skip


def write_lines(path: Path, *events: dict[str, Any]) -> Path:
    """A file for `send`."""
    path.write_text("".join(json.dumps(event) + "\n" for event in events), "utf-8")
    return path


def as_ours(line: dict[str, Any]) -> dict[str, Any]:
    """What a program printed of an event, as our own client would have it."""
    event = Event.from_json({name: line[name] for name in Event.__dataclass_fields__ if name in line}, "usage")
    return event.json()


def test_the_vectors_hold(client: Client) -> None:
    """Framing, keyed hash, partition, sealing and value commitment, byte for byte; what was changed does not open."""
    done = client.run(*client.vectors)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_it_sends_is_delivered_and_opens_everywhere(client: Client, place: Place, tmp_path: Path) -> None:
    """Our own client opens it, and so does this language's `receive`, with the same in it; the outcome comes back. What
    stands ready in the bundle is taken as it is."""
    asked = [usage(10), usage(11)]
    ready = json.loads((place.sender / "sandbox" / "usage.jsonl").read_text("utf-8"))
    *sent, sandbox = lines(client.send(place.sender, "usage", write_lines(tmp_path / "events.jsonl", *asked, ready)))
    assert sandbox["event_id"] == ready["event_id"]
    ids = [one["event_id"] for one in sent]
    assert len(set(ids)) == 2
    assert sent[0]["partition"] == sent[1]["partition"], "one pupil, one partition"
    assert sent[0]["offset"] < sent[1]["offset"]
    ours = asyncio.run(received(place.scene, f"with-{client.language}", set(ids)))
    for event_id, line in zip(ids, asked, strict=True):
        body = ours[event_id].event.json()["body"]
        assert body["frequency"] == line["body"]["frequency"]
        assert datetime.fromisoformat(body["progress"]["at"]) == datetime.fromisoformat(line["body"]["progress"]["at"])
        assert body["progress"]["assignable_unit_id"] == "les-1"
    theirs = {
        one["event_id"]: one
        for one in lines(client.receive(place.receiver, "usage", group=client.language, max=len(ours), idle=20))
    }
    for event_id, one in ours.items():
        assert as_ours(theirs[event_id]) == one.event.json(), event_id
        assert (theirs[event_id]["flow"], theirs[event_id]["policy"]) == (one.flow.split(">")[0], one.policy)
    told = {
        one["event_id"]: one for one in lines(client.receive(place.sender, "status", group=client.language, idle=3))
    }
    assert {result["outcome"] for event_id in ids for result in told[event_id]["results"]} == {"DELIVERED"}
    assert told[ready["event_id"]]["results"][0]["code"] == "school.not_yours"  # this stage has no sandbox


def test_what_our_own_client_sent_opens(client: Client, place: Place) -> None:
    """The first event on the topic, for a reading group of its own. Stopped by a signal, as a service is, the program
    leaves its group at once and in silence; what was printed does not come again."""
    options = {"group": f"ours-{client.language}", "sender": story.PUBLISHER}
    reading = client.start_receive(place.receiver, "usage", subprocess.PIPE, **options)
    try:
        assert reading.stdout is not None
        printed = [reading.stdout.readline()]
        reading.terminate()
        rest, errors = reading.communicate(timeout=RUN_S)
    finally:
        reading.kill()
    printed += rest.splitlines()
    assert as_ours(json.loads(printed[0])) == place.ours.event.json()
    assert errors == ""
    assert members(place.scene, f"{story.PORTAL}.ours-{client.language}") == 0
    again = client.receive(place.receiver, "usage", idle=3, **options)
    assert {json.loads(line)["event_id"] for line in printed}.isdisjoint(one["event_id"] for one in lines(again))


def members(scene: Stage, group: str) -> int:
    """How many Kafka counts in a reading group."""
    admin = AdminClient(scene.kafka.admin_connection().confluent())
    return len(admin.describe_consumer_groups([group])[group].result(timeout=RUN_S).members)


def test_what_could_not_be_printed_comes_again(client: Client, place: Place) -> None:
    """Whoever read the output is gone: the event does not count as read."""
    nobody, stdout = os.pipe()
    os.close(nobody)
    options = {"group": f"unprinted-{client.language}", "max": 1, "idle": 20}
    reading = client.start_receive(place.receiver, "usage", stdout, **options)
    os.close(stdout)
    _, errors = reading.communicate(timeout=RUN_S)
    refused(subprocess.CompletedProcess((), reading.returncode, "", errors), "does not count as read")
    (line,) = lines(client.receive(place.receiver, "usage", **options))
    assert line["event_id"] == place.ours.event.event_id


@pytest.fixture(scope="module")
def changed(place: Place, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A receiver's folder with a topic on which an event's envelope names another school; and where that stands."""
    topic = f"out.{story.PORTAL}.licence"
    folder = bundle_of(place.scene, story.PORTAL, tmp_path_factory.mktemp("changed") / story.PORTAL)
    another_topic(folder, "usage", topic)
    scene, usages = place.scene, f"out.{story.PORTAL}.usage"

    async def write() -> str:
        first, *_ = [one async for one in raw(scene.profile(story.PORTAL).connection, lambda name: name == usages)]
        other = first.value.replace(story.PO_SCHOOL.encode(), b"99PB", 1)
        assert other != first.value
        async with AIOKafkaProducer(**scene.connections["exchange"].aiokafka()) as producer:
            where = await producer.send_and_wait(topic, other, partition=0, headers=list(first.headers))
        return f"{where.topic}/{where.partition}/{where.offset}"

    return folder, asyncio.run(write())


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """One sentence and no stack trace, nothing on standard output, and nothing of what was refused."""
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("refused: ")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr
    assert "SECRET" not in done.stderr


def test_it_refuses_what_it_can_not_verify(client: Client, changed: tuple[Path, str]) -> None:
    """The event does not open, its place is told, and it does not count as read: it is there again."""
    folder, where = changed
    for _ in range(2):
        done = client.receive(folder, "usage", group=client.language, idle=20)
        refused(done, where, "does not open")


def test_it_refuses_a_wrong_line_and_sends_nothing(client: Client, place: Place, tmp_path: Path) -> None:
    """The sentence names line and field, and no value. Of two events on one line none is left out in silence."""
    good = json.dumps(usage(1))
    for wrong, words in (
        (json.dumps(usage(1, colour="SECRET")), ("colour",)),
        (json.dumps(usage(1, usage_date="SECRET")), ("body.usage_date", "date")),
        (json.dumps(usage(1, progress={"status": "SECRET"})), ("body.progress.status", "COMPLETED")),
        (good + good, ("JSON",)),
        (good + "}", ("JSON",)),
    ):
        path = tmp_path / "lines"
        path.write_text(f"{good}\n{wrong}\n", "utf-8")
        refused(client.send(place.sender, "usage", path), "line 2", *words)


def test_it_refuses_files_that_others_can_read(client: Client, place: Place, tmp_path: Path) -> None:
    """As our own client does: a password or a key that others can read is one that they may have."""
    bundle = bundle_of(place.scene, story.PORTAL, tmp_path / story.PORTAL)
    (key,) = bundle.glob("keys/*.jwk")
    for path in (bundle / "kafka" / "java.properties", bundle / "keys" / "record-key.secret", key):
        path.chmod(0o640)
        refused(client.receive(bundle, "usage", max=1), path.name, "chmod")
        path.chmod(0o600)


def test_it_refuses_a_kafka_that_it_can_not_trust(client: Client, place: Place, tmp_path: Path) -> None:
    """A certificate of another authority, named by its whole path, or a configuration without TLS: the password is not
    sent. A wrong password is not told either, also where its form spoils the settings."""
    strange, plain, spoilt = (bundle_of(place.scene, story.PORTAL, tmp_path / name) for name in "spx")
    authority = DevelopmentCA(tmp_path / "authority")
    authority.prepare()
    (strange / "ca.pem").unlink()
    change_settings(strange, "=ca.pem", f"={authority.ca_file.absolute()}")
    change_settings(plain, "SASL_SSL", "SASL_PLAINTEXT")
    password = place.scene.profile(story.PORTAL).connection.password
    assert password is not None
    change_settings(spoilt, password, 'wrong" SECRET')
    refused(client.receive(plain, "usage", idle=5), "security.protocol")
    done = client.receive(strange, "usage", idle=5)
    refused(done)
    assert "cert" in done.stderr.lower()  # not: that there is no such file
    refused(client.receive(spoilt, "usage", idle=5))
