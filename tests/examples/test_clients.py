"""The example clients in Java, JavaScript and Go: by the wire format alone, they send, receive and open events."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from broker.client import Consumer, Event, Identity, Received, Usage, pupil
from broker.data import data_path
from broker.demo import story
from broker.demo.stage import Stage, stage
from broker.kafka.pki import DevelopmentCA
from tests.e2e.watch import outcomes, raw, send
from tests.examples.bundles import write_bundle
from tests.examples.programs import Client, build, lines

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]
LANGUAGES = ("java", "javascript", "go")
ECK_ID = "https://ketenid.nl/pilot/" + "1f" * 64
IDLE_S = 20.0


@pytest.fixture(scope="module", params=LANGUAGES)
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """The programs of one language."""
    return build(request.param, tmp_path_factory.mktemp(request.param))


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
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One for all languages."""
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
        sender = write_bundle(scene, story.PUBLISHER, folder / "sender")
        shutil.copytree(data_path("schemas") / "avro", sender / "schemas")  # the receiver takes those of the tree
        yield Place(scene, sender, write_bundle(scene, story.PORTAL, folder / "receiver"), ours)


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
    """Our own client opens it, and so does this language's `receive`, with the same in it; the outcome comes back."""
    asked = [usage(10), usage(11)]
    sent = lines(client.send(place.sender, "usage", write_lines(tmp_path / "events.jsonl", *asked)))
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
        one["event_id"]: one for one in lines(client.receive(place.sender, "status", group=client.language, idle=5))
    }
    assert {result["outcome"] for event_id in ids for result in told[event_id]["results"]} == {"DELIVERED"}


def test_what_our_own_client_sent_opens(client: Client, place: Place) -> None:
    """The first event on the topic, for a reading group of its own; what was printed does not come again."""
    options = {"group": f"ours-{client.language}", "sender": story.PUBLISHER, "idle": 20}
    (line,) = lines(client.receive(place.receiver, "usage", max=1, **options))
    assert as_ours(line) == place.ours.event.json()
    again = client.receive(place.receiver, "usage", **(options | {"idle": 3}))
    assert line["event_id"] not in {one["event_id"] for one in lines(again)}


@pytest.fixture(scope="module")
def changed(place: Place, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A receiver's folder with a topic on which an event's envelope names another school; and where that stands."""
    topic = f"out.{story.PORTAL}.licence"
    folder = write_bundle(place.scene, story.PORTAL, tmp_path_factory.mktemp("changed") / "b", out={"usage": topic})
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
    """The sentence names line and field, and no value."""
    for wrong, words in (
        (usage(1, colour="SECRET"), ("line 2", "colour")),
        (usage(1, usage_date="SECRET"), ("line 2", "body.usage_date", "date")),
        (usage(1, progress={"status": "SECRET"}), ("line 2", "body.progress.status", "COMPLETED")),
    ):
        refused(client.send(place.sender, "usage", write_lines(tmp_path / "lines", usage(1), wrong)), *words)


def test_it_refuses_a_kafka_that_it_can_not_trust(client: Client, place: Place, tmp_path: Path) -> None:
    """A certificate of another authority, or a configuration without TLS: the password is not sent."""
    strange, plain = (write_bundle(place.scene, story.PORTAL, tmp_path / name) for name in ("strange", "plain"))
    authority = DevelopmentCA(tmp_path / "authority")
    authority.prepare()
    (strange / "ca.pem").write_bytes(authority.ca_file.read_bytes())
    for file in plain.glob("kafka/*.properties"):
        file.write_text(file.read_text("utf-8").replace("SASL_SSL", "SASL_PLAINTEXT"), "utf-8")
    refused(client.receive(plain, "usage", idle=5), "security.protocol")
    refused(client.receive(strange, "usage", idle=5))
