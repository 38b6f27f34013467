"""A Kafka with parties, for the tests that change rights: those must not disturb others' tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from broker.kafka.access import (
    AUDIT_SERVICE,
    AUDITOR,
    COUNT_KEEPER,
    KEY_ROTATOR,
    LDV_EXPORTER,
    LOG_BUILDER,
    OPERATOR,
    REMOVER,
    WORKER,
    AclSpec,
    desired_acls,
)
from broker.kafka.admin import Admin
from broker.kafka.connection import KafkaConnection
from broker.kafka.embedded import EmbeddedKafka
from broker.kafka.topics import PartyTopics, TopicSpec, desired_topics, load_specs

PARTIES = {
    "pub": PartyTopics(frozenset({"usage", "licence"})),
    "pub2": PartyTopics(frozenset({"usage"})),
    "sis": PartyTopics(frozenset({"order"}), partitions=2),
}
DEADLINE_S = 20.0


@dataclass(frozen=True)
class Cluster:
    """A running Kafka in which the parties, the worker, the operator and the auditor can log in."""

    kafka: EmbeddedKafka
    admin: Admin
    topics: tuple[TopicSpec, ...]
    acls: frozenset[AclSpec]

    def connection(self, user: str) -> KafkaConnection:
        """How this user connects."""
        return self.kafka.connection(user, f"password-of-{user}")

    async def write(self, user: str, topic: str, value: bytes = b"x", **settings: object) -> None:
        """Sends one record as this user."""
        async with asyncio.timeout(DEADLINE_S):
            producer = AIOKafkaProducer(**self.connection(user).aiokafka(), **settings)
            try:
                await producer.start()
                await producer.send_and_wait(topic, value)
            finally:
                await producer.stop()

    async def read(self, user: str, topic: str, group: str | None = None) -> bytes:
        """Reads the first record of the topic as this user."""
        async with asyncio.timeout(DEADLINE_S):
            settings = self.connection(user).aiokafka() | {"auto_offset_reset": "earliest"}
            consumer = AIOKafkaConsumer(topic, group_id=group, **settings)
            try:
                await consumer.start()
                record = await consumer.getone()
            finally:
                await consumer.stop()
            return record.value


@contextmanager
def running(home: Path) -> Iterator[Cluster]:
    """Everything applied: topics, rights and logins."""
    with EmbeddedKafka(home, heap_mb=192) as kafka:
        admin = Admin(kafka.admin_connection())
        topics, acls = desired_topics(load_specs(), PARTIES, replicas=1), desired_acls(PARTIES)
        admin.apply(topics, acls)
        services = (
            WORKER,
            OPERATOR,
            AUDITOR,
            REMOVER,
            LDV_EXPORTER,
            LOG_BUILDER,
            COUNT_KEEPER,
            AUDIT_SERVICE,
            KEY_ROTATOR,
        )
        for user in (*PARTIES, *services):
            admin.ensure_user(user, f"password-of-{user}")
        yield Cluster(kafka, admin, topics, acls)


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that the tests of this package share."""
    with running(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture
def refused() -> Callable[[Awaitable[object], type[Exception]], Awaitable[None]]:
    """Awaits what must be refused with this error."""

    async def check(action: Awaitable[object], error: type[Exception]) -> None:
        with pytest.raises(error):
            await action

    return check
