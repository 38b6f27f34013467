"""Attacks on Kafka's own door: by a party that has a login, and by somebody who has none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import NamedTuple

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from broker.errors import ConfigError
from broker.kafka.access import AclSpec
from broker.kafka.diagnosis import check
from tests.kafka.conftest import DEADLINE_S, Cluster

pytestmark = pytest.mark.kafka


class Attack(NamedTuple):
    """What `pub` tries, how Kafka refuses it, and the one rule that would let it through."""

    tries: Callable[[Cluster], Awaitable[None]]
    refused: type[Exception]
    rule: AclSpec


async def write_as_another(cluster: Cluster) -> None:
    """Speak in the name of the school's administration."""
    await cluster.write("pub", "in.sis")


async def write_a_delivery(cluster: Cluster) -> None:
    """Give another party what the exchange never sent."""
    await cluster.write("pub", "out.pub2.usage")


async def write_audit(cluster: Cluster) -> None:
    """Put a leaf of one's own into the audit."""
    await cluster.write("pub", "audit.events")


async def read_anothers(cluster: Cluster) -> None:
    """Read what pub2 receives, whose name begins with ours; in no group, which nobody asks for."""
    await cluster.write("exchange", "out.pub2.usage", b"for pub2")
    await cluster.read("pub", "out.pub2.usage")


async def read_input(cluster: Cluster) -> None:
    """Read what the administration sent."""
    await cluster.write("sis", "in.sis", b"of sis")
    await cluster.read("pub", "in.sis")


async def read_vault(cluster: Cluster) -> None:
    """Copy the vault; it is compacted, so that records there have keys."""
    async with asyncio.timeout(DEADLINE_S):
        worker = AIOKafkaProducer(**cluster.connection("exchange").aiokafka())
        try:
            await worker.start()
            await worker.send_and_wait("vault.identity", b"a record", key=b"k")
        finally:
            await worker.stop()
    await cluster.read("pub", "vault.identity")


async def steal_group(cluster: Cluster) -> None:
    """Commit a position into a group of the administration's, so that it skips what it has not read."""
    async with asyncio.timeout(DEADLINE_S):
        consumer = AIOKafkaConsumer(
            **cluster.connection("pub").aiokafka(), group_id="sis.default", enable_auto_commit=False
        )
        try:
            await consumer.start()
            consumer.assign([TopicPartition("status.pub", 0)])
            await consumer.commit({TopicPartition("status.pub", 0): 0})
        finally:
            await consumer.stop()


async def join_workers(cluster: Cluster) -> None:
    """Become one of the workers, and be given lanes."""
    async with asyncio.timeout(DEADLINE_S):
        consumer = AIOKafkaConsumer("status.pub", **cluster.connection("pub").aiokafka(), group_id="exchange")
        try:
            await consumer.start()
            while not consumer.assignment():
                await consumer.getmany(timeout_ms=50)
        finally:
            await consumer.stop()


async def fence_lane(cluster: Cluster) -> None:
    """Take a lane's transactional id: its worker would be fenced, and stand still."""
    async with asyncio.timeout(DEADLINE_S):
        producer = AIOKafkaProducer(**cluster.connection("pub").aiokafka(), transactional_id="exchange.in.sis.0")
        try:
            await producer.start()
        finally:
            await producer.stop()


ATTACKS = {
    "another's input written": Attack(
        write_as_another, TopicAuthorizationFailedError, AclSpec("pub", "TOPIC", "in.sis", "WRITE")
    ),
    "another's output written": Attack(
        write_a_delivery, TopicAuthorizationFailedError, AclSpec("pub", "TOPIC", "out.pub2.usage", "WRITE")
    ),
    "audit written": Attack(
        write_audit, TopicAuthorizationFailedError, AclSpec("pub", "TOPIC", "audit.events", "WRITE")
    ),
    "another's output read": Attack(
        read_anothers, TopicAuthorizationFailedError, AclSpec("pub", "TOPIC", "out.pub", "READ", prefixed=True)
    ),
    "another's input read": Attack(
        read_input, TopicAuthorizationFailedError, AclSpec("pub", "TOPIC", "in.sis", "READ")
    ),
    "vault read": Attack(read_vault, TopicAuthorizationFailedError, AclSpec("pub", "TOPIC", "vault.identity", "READ")),
    "another's group": Attack(
        steal_group, GroupAuthorizationFailedError, AclSpec("pub", "GROUP", "sis.", "READ", prefixed=True)
    ),
    "workers' group": Attack(join_workers, GroupAuthorizationFailedError, AclSpec("pub", "GROUP", "exchange", "READ")),
    "a lane's transactional id": Attack(
        fence_lane,
        TransactionalIdAuthorizationFailed,
        AclSpec("pub", "TRANSACTIONAL_ID", "exchange.", "WRITE", prefixed=True),
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
async def test_a_party_can_not_go_beyond_its_own(cluster: Cluster, name: str) -> None:
    """Refused by Kafka itself; with the one rule that is missing it would have worked."""
    attack = ATTACKS[name]
    with pytest.raises(attack.refused):
        await attack.tries(cluster)
    await asyncio.to_thread(cluster.admin.apply, cluster.topics, cluster.acls | {attack.rule})
    try:
        await attack.tries(cluster)
    finally:
        await asyncio.to_thread(cluster.admin.apply, cluster.topics, cluster.acls)
    with pytest.raises(attack.refused):
        await attack.tries(cluster)


# ---- without a login


async def test_guessed_passwords_and_guessed_names_get_one_answer(cluster: Cluster) -> None:
    """A name that exists is not told apart from one that does not; and guessing locks nobody out."""
    good = cluster.connection("pub")
    answers = set()
    for user, password in (("pub", "password-of-pub2"), ("pub", ""), ("nobody", "x"), ("Pub", "password-of-pub")):
        guess = replace(good, username=user, password=password or "-")
        with pytest.raises(ConfigError) as caught:
            await check(guess)
        answers.add((caught.value.code, str(caught.value).replace(repr(user), "…")))
    assert len(answers) == 1
    assert answers.pop()[0] == "kafka.login"
    await check(good)


async def test_a_login_of_before_is_refused_once_the_password_is_another(cluster: Cluster) -> None:
    """Stolen credentials end with a rotation."""
    old = cluster.connection("pub2")
    await asyncio.to_thread(cluster.admin.ensure_user, "pub2", "another-password")
    try:
        with pytest.raises(ConfigError):
            await check(old)
        await check(replace(old, password="another-password"))
    finally:
        await asyncio.to_thread(cluster.admin.ensure_user, "pub2", "password-of-pub2")
