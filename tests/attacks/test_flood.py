"""Attacks by amount: floods, giant records, and a receiver that does not take what is for it.

What is held back here is held by counts and by what Kafka itself says; how much the others notice is measured in
`python -m bench flood`.
"""

from __future__ import annotations

import asyncio
import os
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from confluent_kafka import KafkaError, Producer, ThrottleEvent

from broker.client import Consumer
from broker.demo import story
from broker.demo.stage import Stage
from broker.kafka.admin import Admin
from broker.kafka.quota_requests import alter_quotas, describe_quotas
from broker.kafka.quotas import IN, Difference, of_user
from tests.e2e.conftest import scene
from tests.e2e.test_client import enrolled, use
from tests.e2e.watch import outcomes, send

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]
FLOODER = "uitgeverij-west"
JUNK_BYTES, MOST_BYTES_PER_S = 100_000, 200_000
PATIENCE_S = 60.0

__all__ = ["enrolled", "scene"]


def flood(stage: Stage, records: int) -> list[ThrottleEvent]:
    """Junk as fast as it goes, until all of it is written; what Kafka said meanwhile about being too fast."""
    told: list[ThrottleEvent] = []
    settings = stage.profile(FLOODER).connection.confluent() | {"log_level": 0, "linger.ms": 0, "acks": "all"}
    producer = Producer({**settings, "throttle_cb": told.append})
    for _ in range(records):
        producer.produce(f"in.{FLOODER}", os.urandom(JUNK_BYTES), key=b"k")
        producer.poll(0)
    assert producer.flush(PATIENCE_S) == 0
    return [event for event in told if event.throttle_time > 0]


def test_a_flood_is_held_back_and_takes_nothing_from_the_others(enrolled: Stage) -> None:
    """The flooder waits, as Kafka says; the other's events go through, each once; and every record of the flood is
    decided over, since a flood is no reason to lose one.
    """
    connection = enrolled.kafka.admin_connection()
    given = describe_quotas(connection)[of_user(FLOODER)]
    assert flood(enrolled, 5) == []
    alter_quotas(connection, [Difference(of_user(FLOODER), given, {**given, IN: MOST_BYTES_PER_S})])
    Admin(connection)._wait(
        lambda: describe_quotas(connection)[of_user(FLOODER)][IN] == MOST_BYTES_PER_S, "the tighter quota"
    )

    async def work() -> tuple[list[ThrottleEvent], list[str]]:
        flooding = asyncio.create_task(asyncio.to_thread(flood, enrolled, 40))
        events = [use(number) for number in range(20)]
        told = await outcomes(enrolled, story.PUBLISHER, await send(enrolled, story.PUBLISHER, events))
        codes = [result.code for of_one in told.values() for status in of_one for result in status.results]
        return await flooding, codes

    held, codes = asyncio.run(work())
    assert held
    assert set(codes) == {"ok"}
    deadline = time.monotonic() + PATIENCE_S
    while (lag := _lag(enrolled)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert lag == 0
    assert enrolled.workers[-1].poll() is None


def _lag(stage: Stage) -> int:
    """Input of the flooder that is not decided over, as the worker says."""
    with urllib.request.urlopen(f"http://127.0.0.1:{stage.ports[-1]}/metrics", timeout=10) as answer:
        lines = [line for line in answer.read().decode().splitlines() if line.startswith("broker_lag_records{")]
    return sum(int(float(line.rpartition(" ")[2])) for line in lines if f'topic="in.{FLOODER}"' in line)


def test_a_record_beyond_the_limit_is_refused_by_kafka_and_one_below_is_taken(enrolled: Stage) -> None:
    """1 MiB (`max.message.bytes`): what is larger never reaches a worker; what fits is decided over like any other."""
    settings = enrolled.profile(FLOODER).connection.confluent()
    refused: list[KafkaError] = []
    limits = {"log_level": 0, "message.max.bytes": 50_000_000, "compression.type": "none"}
    producer = Producer({**settings, **limits})

    def told(error: KafkaError | None, _message: object) -> None:
        if error is not None:
            refused.append(error)

    for size in (1_200_000, 5_000_000):
        producer.produce(f"in.{FLOODER}", b"x" * size, key=b"k", on_delivery=told)
        producer.flush(PATIENCE_S)
    assert [error.code() for error in refused] == [KafkaError.MSG_SIZE_TOO_LARGE] * 2
    producer.produce(f"in.{FLOODER}", b"x" * 1_000_000, key=b"k", on_delivery=told)
    assert producer.flush(PATIENCE_S) == 0
    assert len(refused) == 2


@asynccontextmanager
async def not_reading(consumer: Consumer) -> AsyncIterator[None]:
    """Its connections stay open and take no byte from the network, as of a program that hangs."""
    transports = [conn._writer.transport for conn in consumer._consumer._client._conns.values()]
    for transport in transports:
        transport.pause_reading()
    try:
        yield
    finally:
        for transport in transports:
            transport.resume_reading()


async def test_a_receiver_that_does_not_read_holds_up_nobody_and_misses_nothing(enrolled: Stage) -> None:
    """Kafka keeps what is for it; its sender and the other receivers notice nothing."""
    events = [replace(use(number)) for number in range(100, 130)]
    async with Consumer(enrolled.profile(story.PORTAL), "usage", group="slow") as slow:
        found = [received async for received in slow.events(idle_seconds=3.0)]
        async with not_reading(slow):
            told = await outcomes(enrolled, story.PUBLISHER, await send(enrolled, story.PUBLISHER, events))
            assert {result.code for of_one in told.values() for s in of_one for result in s.results} == {"ok"}
            async with Consumer(enrolled.profile(story.SIS), "usage", group="quick") as quick:
                others = [r.event.event_id async for r in quick.events(idle_seconds=3.0)]
        found = [received async for received in slow.events(idle_seconds=3.0)]
    sent = [event.event_id for event in events]
    assert set(sent) <= set(others)
    assert set(sent) <= {received.event.event_id for received in found}
