"""The data plane on a real Kafka: nothing lost, doubled or out of order."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.kafka.connection import KafkaConnection
from tests.engine.machine import copy, create_topics, fast, make_plane, produce, until, verify

pytestmark = pytest.mark.kafka


async def test_one_worker_copies_everything_once(connection: KafkaConnection, group: str, tmp_path: Path) -> None:
    """Every record comes out once, in order, audited, and numbered without a gap."""
    create_topics(connection, {f"in.{group}": 4, f"out.{group}.copy": 4})
    await produce(connection, f"in.{group}", [b"%d:%d" % (i % 16, i // 16) for i in range(4000)], 4)
    async with make_plane(connection, fast(group), tmp_path) as plane:
        assert await plane.ready() == 4
        await until(lambda: sum(lane.committed or 0 for lane in plane.lanes.values()) >= 4000, "all committed")
        assert plane.lag() == dict.fromkeys(plane.lanes, 0)
    verdict = await verify(connection, [group], 4000)
    assert verdict.clean, verdict
    assert verdict.found == 4000
    assert copy is not None
