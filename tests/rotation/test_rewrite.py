"""Rewriting the vault beside lanes that write there: whoever wrote last counts, on a real Kafka."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import TopicAuthorizationFailedError

from broker.crypto import partition_of
from broker.engine import KafkaClients
from broker.engine.transaction import LaneProducer
from broker.exchange.model import VAULT
from broker.identity.vault import VaultCipher, VaultRecord
from broker.kafka.access import KEY_ROTATOR, WORKER, desired_acls
from broker.kafka.connection import KafkaConnection
from broker.rotation.reading import VaultReading
from broker.rotation.rewrite import Rewriter, _Old

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

PARTITIONS = 4
DEADLINE_S = 30.0


class Silent:
    """Nobody looks."""

    def partition(self, number: int, of: int, old: int) -> None:
        """See Progress."""

    def rewritten(self, records: int) -> None:
        """See Progress."""


class Meddled(Rewriter):
    """Before its first transaction a lane writes, after everything of the partition was read."""

    meddle: Any = None
    aborted = 0

    async def _rewrite(
        self, producer: LaneProducer, reading: VaultReading, place: TopicPartition, old: _Old, keys: list[bytes]
    ) -> int:
        if self.meddle is not None and keys:
            meddle, self.meddle = self.meddle, None
            await meddle(old)
        return await super()._rewrite(producer, reading, place, old, keys)


def ciphers() -> tuple[VaultCipher, VaultCipher]:
    """Before a rotation of both secrets, and in it."""
    mac, records, schools = os.urandom(32), os.urandom(32), os.urandom(32)
    before = VaultCipher(mac, records, schools)
    after = VaultCipher(mac, {1: records, 2: os.urandom(32)}, {1: schools, 2: os.urandom(32)})
    after.use(2, 2)
    return before, after


def pupils(cipher: VaultCipher, count: int, partition: int) -> dict[bytes, VaultRecord]:
    """So many invented pupils whose records stand in one partition."""
    found: dict[bytes, VaultRecord] = {}
    number = 0
    while len(found) < count:
        number += 1
        record = VaultRecord("99PA", "PO", "PUPIL", None, (("LAS_KEY", f"L{number}"),), None, os.urandom(32))
        (key,) = cipher.keys(record)
        if partition_of(key, PARTITIONS) == partition:
            found[key] = record
    return found


async def write(producer: AIOKafkaProducer, values: dict[bytes, bytes | None]) -> None:
    """As a lane does."""
    for key, value in values.items():
        await producer.send_and_wait(VAULT, value, key=key, partition=partition_of(key, PARTITIONS))


async def standing(connection: KafkaConnection) -> dict[bytes, bytes]:
    """What stands in the vault."""
    found: dict[bytes, bytes] = {}
    async with VaultReading(KafkaClients(connection)) as reading:
        for place in reading.places:
            async for records, _ in reading.committed(place):
                for key, value in records:
                    if value is None:
                        found.pop(key, None)
                    else:
                        found[key] = value
    return found


async def test_what_a_lane_writes_meanwhile_is_never_covered(users: dict[str, KafkaConnection]) -> None:
    """A newer record, an erasure, and a transaction that is still open when the rewriter looks: each stays what it is,
    and all others get the same content under the newer versions."""
    before, after = ciphers()
    people = pupils(before, 6, partition=0)
    newer, erased, late, *others = people
    changed = {key: replace(people[key], left_on=20_000) for key in (newer, late)}
    lane = AIOKafkaProducer(**users[WORKER].aiokafka())
    slow = AIOKafkaProducer(**users[WORKER].aiokafka(), transactional_id=f"{WORKER}.slow")
    await lane.start()
    await slow.start()
    committed: list[asyncio.Task[None]] = []

    async def commit_once_seen(old: _Old) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while late not in old.touched:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.05)
        await slow.commit_transaction()

    async def meddle(old: _Old) -> None:
        await write(lane, {newer: after.encrypt(newer, changed[newer]), erased: None})
        await slow.begin_transaction()
        await write(slow, {late: after.encrypt(late, changed[late])})
        committed.append(asyncio.create_task(commit_once_seen(old)))

    try:
        await write(lane, {key: before.encrypt(key, person) for key, person in people.items()})
        rewriter = Meddled(KafkaClients(users[KEY_ROTATOR]), after, Silent())
        rewriter.meddle = meddle
        assert await rewriter.count() == len(people)
        assert await rewriter.run() == len(others)
        await asyncio.gather(*committed)
        found = await standing(users[WORKER])
    finally:
        await slow.stop()
        await lane.stop()
    assert {key: after.decrypt(key, raw) for key, raw in found.items()} == {
        **changed, **{key: people[key] for key in others}
    }  # fmt: skip
    assert not any(after.is_older(key, raw) for key, raw in found.items())
    assert await rewriter.count() == 0


async def test_the_rotator_reaches_the_vault_and_what_still_waits_and_nothing_else(
    users: dict[str, KafkaConnection],
) -> None:
    """Neither what parties send, nor the registry or the audit: that a key comes into use the operator says."""
    rights = {str(acl) for acl in desired_acls(["pub"]) if acl.user == KEY_ROTATOR}
    assert rights == {
        "key-rotator READ topic vault.identity", "key-rotator WRITE topic vault.identity",
        "key-rotator READ topic lane.state", "key-rotator READ topic parked",
        "key-rotator WRITE transactional id key-rotator",
    }  # fmt: skip
    producer = AIOKafkaProducer(**users[KEY_ROTATOR].aiokafka())
    await producer.start()
    try:
        for topic in ("registry", "audit.control", "lane.state", "parked"):
            with pytest.raises(TopicAuthorizationFailedError):
                await producer.send_and_wait(topic, b"x", key=b"k")
    finally:
        await producer.stop()
