"""Fixtures of the engine's tests."""

from __future__ import annotations

import uuid

import pytest

from broker.kafka.connection import KafkaConnection
from broker.kafka.embedded import EmbeddedKafka
from tests.engine.machine import OWN, create_topics


@pytest.fixture(scope="session")
def connection(kafka: EmbeddedKafka) -> KafkaConnection:
    """The super user on a Kafka that has the broker's own topics."""
    found = kafka.admin_connection()
    create_topics(found, OWN)
    return found


@pytest.fixture
def group() -> str:
    """A name for this test alone: of its group, and the start of its parties' names."""
    return f"g{uuid.uuid4().hex[:8]}"
