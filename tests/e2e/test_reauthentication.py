"""Logins that run out while everything is in use: Kafka closes the connection, and nothing is lost, doubled or fails."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from broker.cli.connect import identity_events
from broker.client import Consumer, Event, Producer
from broker.connectors import edexml
from broker.demo import story
from broker.demo.stage import Stage, example_document, set_up
from broker.kafka.connection import KafkaConnection
from broker.kafka.embedded import EmbeddedKafka
from tests.e2e.watch import leaves, outcomes, send

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]
LOGIN_MS = 3_000
EXPIRIES = 6
PATIENCE_S = 90.0


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The demo's stage on a Kafka in which no login counts longer than three seconds."""
    home = tmp_path_factory.mktemp("stage") / "home"
    home.mkdir(mode=0o700)
    with EmbeddedKafka(home / "kafka", reauth_ms=LOGIN_MS) as kafka:
        built = asyncio.run(set_up(home, kafka, example_document()))
        try:
            built.start_worker()
            yield built
        finally:
            built.stop()


async def test_worker_and_client_outlive_their_logins_and_lose_and_double_nothing(scene: Stage) -> None:
    """One producer, one consumer and one worker keep their connections through many ends of their logins."""
    class_list = story.class_lists()[0]
    report = edexml.check(class_list.file)
    enrolments = list(identity_events(class_list.file, class_list.school, class_list.sector, report.school_year or ""))
    await outcomes(scene, story.SIS, await send(scene, story.SIS, enrolments))
    example = next(e for e in story.usage_day((class_list,), story.today()) if e.kind == "USE")
    usage_id = story.new_id()

    sent: list[Event] = []
    got: list[Event] = []
    over = asyncio.Event()

    async def receive() -> None:
        async with Consumer(scene.profile(story.PORTAL), "usage", group="lasting") as consumer:
            deadline = time.monotonic() + PATIENCE_S
            while not over.is_set() or len(got) < len(sent):
                assert time.monotonic() < deadline, f"{len(got)} of {len(sent)} came"
                got.extend([received.event async for received in consumer.events(idle_seconds=1.0)])
            got.extend([received.event async for received in consumer.events(idle_seconds=2.0)])
            assert consumer.gaps == []

    async def expiries() -> None:
        for _ in range(EXPIRIES):
            await _until_closed(scene.profile(story.PORTAL).connection)

    reading = asyncio.create_task(receive())
    acknowledged = []
    try:
        async with Producer(scene.profile(story.PUBLISHER)) as producer:
            passing = asyncio.create_task(expiries())
            while not passing.done():
                revision = len(sent) + 1
                sent.append(replace(
                    example, event_id=story.new_id(), body=replace(example.body, usage_id=usage_id, revision=revision),
                ))  # fmt: skip
                acknowledged.append(await producer.send(sent[-1]))
            await passing
    finally:
        over.set()
        await reading

    assert [event.event_id for event in got] == [event.event_id for event in sent], "each once, in their order"
    told = await outcomes(scene, story.PUBLISHER, acknowledged)
    assert all(len(told[event.event_id]) == 1 for event in sent), "one status each"
    decided = Counter(leaf["x"]["event"] for leaf in await leaves(scene) if leaf["x"].get("receiver") == story.PORTAL)
    assert all(decided[event.event_id] == 1 for event in sent), "one leaf each"
    assert scene.workers[0].poll() is None


async def _until_closed(connection: KafkaConnection) -> None:
    """Uses one connection until Kafka closes it, as it must when the login is too old."""
    settings = connection.aiokafka()
    settings.pop("bootstrap_servers")
    ((host, port),) = connection.hosts()
    opened = AIOKafkaConnection(host, port, **settings)
    await opened.connect()
    begun = time.monotonic()
    try:
        while time.monotonic() < begun + PATIENCE_S:
            await opened.send(MetadataRequest([]))
    except (KafkaError, OSError):
        assert time.monotonic() - begun > LOGIN_MS / 2000, "for as long as the login counts it is open"
        return
    finally:
        await opened.close()
    raise AssertionError("the connection outlived its login")
