"""What the broker publishes for everybody: its public keys and all schemas. Read from compacted topics."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from broker.errors import ConfigError
from broker.kafka.connection import KafkaConnection
from broker.kafka.publish import BROKER_KEYS, SCHEMAS
from broker.kafka.reading import looking
from broker.keys import RecipientKey
from broker.schemas import Schema, parse


async def read_compacted(connection: KafkaConnection, topic: str) -> dict[str, bytes]:
    """Read a compacted topic of one partition from its beginning to its present end.

    Raises:
        ConfigError: `topic.missing`, if it does not exist or may not be read.
    """
    found: dict[str, bytes] = {}
    async for key, value in _records(connection, topic):
        name = (key or b"").decode()
        if value is None:
            found.pop(name, None)
        else:
            found[name] = value
    return found


async def read_log(connection: KafkaConnection, topic: str) -> list[bytes]:
    """All values of a topic of one partition, in order, to its present end. Raises as `read_compacted`."""
    return [value async for _, value in _records(connection, topic) if value is not None]


async def _records(connection: KafkaConnection, topic: str) -> AsyncIterator[tuple[bytes | None, bytes | None]]:
    partition = TopicPartition(topic, 0)
    consumer = looking(connection)
    await consumer.start()
    try:
        consumer.assign([partition])
        if not await _exists(consumer, topic):
            raise missing_topic(topic, connection.username)
        start = (await consumer.beginning_offsets([partition]))[partition]
        consumer.seek(partition, start)
        end = (await consumer.end_offsets([partition]))[partition]
        while await consumer.position(partition) < end:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    yield record.key, record.value
    finally:
        await consumer.stop()


def missing_topic(topic: str, user: str | None) -> ConfigError:
    """Kafka answers alike for a topic that does not exist and one that the user has no right to."""
    return ConfigError(
        f"there is no topic {topic} for user {user}: it does not exist, or the user has no right to it. "
        "An operator sets both with `broker topics apply`",
        code="topic.missing",
    )


async def _exists(consumer: AIOKafkaConsumer, topic: str) -> bool:
    return topic in await consumer.topics()


async def broker_key(connection: KafkaConnection) -> RecipientKey:
    """The newest public key of the broker.

    Raises:
        ConfigError: `keys.missing`.
    """
    records = await read_compacted(connection, BROKER_KEYS)
    keys = [_key(kid, json.loads(value)) for kid, value in records.items()]
    if not keys:
        raise ConfigError(
            "the broker has not published a key yet; an operator does it with `broker keys publish`",
            code="keys.missing",
        )
    return max(keys, key=lambda k: (k.created, k.kid))


async def broker_kids(connection: KafkaConnection) -> frozenset[str]:
    """Ids of all keys that the broker has published and not taken back."""
    return frozenset(await read_compacted(connection, BROKER_KEYS))


def _key(kid: str, document: Mapping[str, Any]) -> RecipientKey:
    return RecipientKey(kid, {name: document["jwk"][name] for name in ("kty", "crv", "x", "y")}, document["created"])


async def schemas(connection: KafkaConnection) -> dict[bytes, Schema]:
    """All published schemas, by fingerprint."""
    records = await read_compacted(connection, SCHEMAS)
    found = [parse(json.loads(value)) for value in records.values()]
    return {schema.fingerprint: schema for schema in found}
