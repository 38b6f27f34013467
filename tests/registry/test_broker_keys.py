"""The keys that senders seal for, on a real Kafka: who put them there stands in the audit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka.admin import AdminClient, NewTopic
from joserfc.jwk import ECKey
from typer.testing import CliRunner

import broker.cli.keys as command
from broker.client.published import broker_kids, read_compacted, read_log
from broker.errors import ConfigError
from broker.kafka.connection import KafkaConnection
from broker.kafka.embedded import EmbeddedKafka
from broker.kafka.publish import BROKER_KEYS, key_document
from broker.keys import MemoryKeys, RecipientKey
from broker.registry import brokerkeys, store

AT = 1_795_305_600_000


@pytest.fixture
def keys() -> tuple[RecipientKey, ...]:
    """Two keys of the broker, newest first."""
    made = MemoryKeys()
    made.create("broker")
    made.create("broker")
    return made.recipient_keys("broker")


@pytest.fixture
async def connection(kafka: EmbeddedKafka) -> AsyncIterator[KafkaConnection]:
    """A cluster on which no key is published; what other tests had there comes back afterwards."""
    found = kafka.admin_connection()
    admin = AdminClient(found.confluent())
    there = admin.list_topics(timeout=10).topics
    for name, policy in ((BROKER_KEYS, "compact"), (store.AUDIT_CONTROL, "delete")):
        if name not in there:
            for made in admin.create_topics([NewTopic(name, 1, 1, config={"cleanup.policy": policy})]).values():
                made.result(20)
    before = await read_compacted(found, BROKER_KEYS)
    await put(found, dict.fromkeys(before))
    yield found
    await put(found, dict.fromkeys(await broker_kids(found)) | before)


async def put(connection: KafkaConnection, records: dict[str, bytes | None]) -> None:
    """Write past the commands."""
    producer = AIOKafkaProducer(**connection.aiokafka())
    await producer.start()
    try:
        for kid, value in records.items():
            await producer.send_and_wait(BROKER_KEYS, value, key=kid.encode(), partition=0)
    finally:
        await producer.stop()


async def leaves(connection: KafkaConnection) -> list[dict[str, Any]]:
    """What the audit says of these keys, in order."""
    found = [json.loads(leaf).get("control", {}) for leaf in await read_log(connection, store.AUDIT_CONTROL)]
    return [control for control in found if control.get("kind") == "broker-keys"]


def named(*keys: RecipientKey) -> list[dict[str, str]]:
    """As a leaf names keys."""
    found = [{"kid": key.kid, "thumbprint": ECKey.import_key(dict(key.jwk)).thumbprint()} for key in keys]
    return sorted(found, key=lambda one: one["kid"])


async def published(connection: KafkaConnection, folder: Path) -> tuple[int, dict[str, str]]:
    """Exit code of `broker keys published`, and what it says of each key."""
    file = folder / "connection.json"
    connection.to_file(file)
    result = await asyncio.to_thread(
        CliRunner().invoke, command.app, ["published", "--connection", str(file), "--json"]
    )
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    return result.exit_code, {row["kid"]: row["audited"] for row in rows}


@pytest.mark.kafka
async def test_who_published_a_key_and_what_stands_there_since_is_in_the_audit(
    connection: KafkaConnection, keys: tuple[RecipientKey, ...]
) -> None:
    """By id and thumbprint: what came, what went, and all that is there; what changes nothing needs no leaf."""
    newer, older = keys
    before = len(await leaves(connection))
    assert await brokerkeys.publish(connection, [older], "annelies", "first", clock=lambda: AT) == ((older.kid,), ())
    assert await brokerkeys.publish(connection, [older], "annelies", "again", clock=lambda: AT) == ((), ())
    await brokerkeys.publish(connection, keys, "annelies", "weekly", clock=lambda: AT)
    assert await read_compacted(connection, BROKER_KEYS) == {key.kid: key_document(key) for key in keys}
    await brokerkeys.take_back(connection, [older.kid], "annelies", "old", clock=lambda: AT)
    await brokerkeys.publish(connection, [newer], "annelies", "so it is", alone=True, clock=lambda: AT)
    assert await broker_kids(connection) == {newer.kid}
    told = {"kind": "broker-keys", "operator": "annelies", "at": AT}
    assert (await leaves(connection))[before:] == [
        {**told, "reason": "first", "came": named(older), "gone": [], "stand": named(older)},
        {**told, "reason": "weekly", "came": named(newer), "gone": [], "stand": named(*keys)},
        {**told, "reason": "old", "came": [], "gone": named(older), "stand": named(newer)},
        {**told, "reason": "so it is", "came": [], "gone": [], "stand": named(newer)},
    ]
    with pytest.raises(ConfigError) as caught:
        await brokerkeys.publish(connection, keys, "annelies", "")
    assert caught.value.code == "keys.why"
    assert await broker_kids(connection) == {newer.kid}


@pytest.mark.kafka
async def test_no_key_is_published_without_its_leaf(
    connection: KafkaConnection, keys: tuple[RecipientKey, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One transaction: a leaf that can not be written takes the key with it."""
    monkeypatch.setattr(brokerkeys, "control_leaf", lambda *_: "no bytes")
    with pytest.raises(Exception, match=r".*"):
        await brokerkeys.publish(connection, keys, "annelies", "test")
    assert await broker_kids(connection) == frozenset()


@pytest.mark.kafka
async def test_a_key_that_was_put_there_past_our_commands_is_told(
    connection: KafkaConnection, keys: tuple[RecipientKey, ...], tmp_path: Path
) -> None:
    """A new id, another key under an id that is known, a key that was removed, and what is no key at all."""
    newer, older = keys
    await brokerkeys.publish(connection, [older], "annelies", "first", alone=True)
    assert await published(connection, tmp_path) == (0, {older.kid: "yes"})
    await put(connection, {newer.kid: key_document(newer)})
    assert await published(connection, tmp_path) == (1, {older.kid: "yes", newer.kid: "no"})
    await put(connection, {newer.kid: None, older.kid: key_document(newer)})
    assert await published(connection, tmp_path) == (1, {older.kid: "no"})
    await put(connection, {older.kid: None})
    assert await published(connection, tmp_path) == (1, {older.kid: "only there"})
    await put(connection, {older.kid: key_document(older), "broker-zz": b"[["})
    assert await published(connection, tmp_path) == (1, {older.kid: "yes", "broker-zz": "no"})
    await brokerkeys.publish(connection, keys, "annelies", "put right", alone=True)
    assert await published(connection, tmp_path) == (0, {older.kid: "yes", newer.kid: "yes"})
