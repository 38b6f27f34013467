"""Fixtures that many tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from broker.kafka.embedded import EmbeddedKafka


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A real Apache Kafka with TLS, logins and ACLs; one per test process, so use topics of your own."""
    embedded = EmbeddedKafka(tmp_path_factory.mktemp("kafka"), heap_mb=192)
    with embedded:
        yield embedded
