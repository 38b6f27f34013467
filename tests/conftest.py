"""Fixtures that many tests share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from broker.kafka.embedded import EmbeddedKafka


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Beside others (`-n`) the files with the longest time-outs come first: else all end with waiting for one of them."""
    if not hasattr(config, "workerinput"):
        return
    longest: dict[Path, float] = {}
    for item in items:
        marker = item.get_closest_marker("timeout")
        seconds = float(marker.args[0]) if marker is not None and marker.args else 0.0
        longest[item.path] = max(longest.get(item.path, 0.0), seconds)
    items.sort(key=lambda item: -longest[item.path])


@pytest.fixture(autouse=True)
def logs_of_its_own() -> Iterator[None]:
    """A test that runs one of our commands has it set logging up for the process; the next test must not have that."""
    yield
    root = logging.getLogger()
    root.handlers[:] = [
        one for one in root.handlers if not isinstance(one.formatter, structlog.stdlib.ProcessorFormatter)
    ]
    for name in ("broker", "broker.app.worker"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.raiseExceptions = True
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A real Apache Kafka with TLS, logins and ACLs; one per test process, so use topics of your own."""
    embedded = EmbeddedKafka(tmp_path_factory.mktemp("kafka"), heap_mb=192)
    with embedded:
        yield embedded
