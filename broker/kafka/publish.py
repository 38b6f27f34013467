"""What the operator publishes for everybody: schemas, and how a public key of the broker is written.

Keys are published with their audit: `broker.registry.brokerkeys`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from aiokafka import AIOKafkaProducer

from broker.kafka.connection import KafkaConnection
from broker.keys import RecipientKey

BROKER_KEYS: Final = "broker.keys"
SCHEMAS: Final = "schemas"


async def publish(connection: KafkaConnection, topic: str, records: Mapping[str, bytes | None]) -> None:
    """Write compacted records and wait until all replicas in sync have them; None takes one back.

    Raises:
        KafkaError: the topic is missing, or the user may not write there.
    """
    producer = AIOKafkaProducer(**connection.aiokafka(), acks="all", enable_idempotence=True)
    await producer.start()
    try:
        for key, value in records.items():
            await producer.send_and_wait(topic, value, key=key.encode(), partition=0)
    finally:
        await producer.stop()


async def publish_schemas(connection: KafkaConnection, schemas: Mapping[str, bytes]) -> None:
    """Put schemas on `schemas`: before the first record that uses them."""
    await publish(connection, SCHEMAS, schemas)


def key_document(key: RecipientKey) -> bytes:
    """A record of `broker.keys`: public members only."""
    return json.dumps({"created": key.created, "jwk": dict(key.jwk)}, separators=(",", ":"), sort_keys=True).encode()
