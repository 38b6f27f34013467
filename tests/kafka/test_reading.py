"""The consumer that looks."""

from __future__ import annotations

from typing import Any

import pytest

from broker.kafka import reading
from broker.kafka.connection import KafkaConnection


def test_who_looks_sees_what_is_committed_and_ends_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """No offset is guessed and none is committed; aiokafka's `stop` waits for a fetch, so a fetch waits for little."""
    monkeypatch.setattr(reading, "ClosingConsumer", lambda **settings: settings)
    connection = KafkaConnection("127.0.0.1:1", insecure_plaintext=True)
    found: Any = reading.looking(connection, auto_offset_reset="earliest")
    assert found["isolation_level"] == "read_committed"
    assert found["enable_auto_commit"] is False
    assert found["fetch_max_wait_ms"] <= 100
    assert found["auto_offset_reset"] == "earliest"
    plain: Any = reading.looking(connection)
    assert plain["auto_offset_reset"] == "none"
    assert "group_id" not in plain
