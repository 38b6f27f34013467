"""Begin a new log where the history behind the old one was lost or changed: on the record, and by a person.

The new log's first leaf holds the last checkpoint of the old one and the reason. Then everything follows that the
partition has now, from its beginning: what stands in both logs can be held against each other, leaf by leaf.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from aiokafka import TopicPartition

from broker.audit.leaf import canonical
from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.directory import LogDirectory
from broker.audit.log.note import split_note
from broker.audit.log.tiles import TileBuilder, offsets_path
from broker.auditlog.book import TOPIC, LogName, SigningKeys, Standing
from broker.auditlog.builder import NO_OFFSET, own_standing, write_standing
from broker.engine import Clients, CompactedTail, EngineConfig
from broker.engine.ending import end_within
from broker.engine.transaction import LaneProducer, stop_producer
from broker.errors import ConfigError

PATIENCE_S = 60.0
STOP_S = 5.0


def epoch_leaf(previous: str, reason: str, operator: str, now_ms: int) -> bytes:
    """The first leaf of an epoch after the first.

    Args:
        previous: text of the last checkpoint of the log before.
    """
    told = {"at": now_ms, "operator": operator, "previous": previous, "reason": reason}
    return canonical({"epoch": told, "v": 1})


async def begin_epoch(
    base: str, place: TopicPartition, clients: Clients, keys: SigningKeys, root: Path, *, reason: str, operator: str
) -> tuple[LogName, Checkpoint]:
    """Begin a new log of a partition. A builder that runs goes on with it by itself.

    Returns:
        The new log, and the last checkpoint of the old one.

    Raises:
        ConfigError: `auditlog.epoch`: there is no old one, or no reason.
    """
    if not reason.strip():
        raise ConfigError("Give the reason: it stands in the log for ever.", code="auditlog.epoch")
    tail = CompactedTail(clients, TOPIC)
    following = asyncio.create_task(tail.run())
    producer = clients.producer(LogName.of(base, place).transactional_id, EngineConfig())
    try:
        async with asyncio.timeout(PATIENCE_S):
            name, standing = await own_standing(base, place, producer, tail)
        if standing is None:
            raise ConfigError(f"Nobody ever began the log {name.origin}: start a builder.", code="auditlog.epoch")
        first = await _beginning(clients, place)
        entry = epoch_leaf(split_note(standing.note)[0], reason, operator, time.time_ns() // 1_000_000)
        await _write_first(name.next_epoch(), entry, first, producer, keys, root)
        return name.next_epoch(), standing.checkpoint
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await end_within(stop_producer(producer), STOP_S)


async def _write_first(
    name: LogName, entry: bytes, first: int, producer: LaneProducer, keys: SigningKeys, root: Path
) -> None:
    directory = LogDirectory(root / name.folder)
    growth = TileBuilder().append([entry])
    directory.write_immutable({**growth.files, offsets_path(0, 1): NO_OFFSET.to_bytes(8)})
    note = keys.sign(name, Checkpoint(name.origin, growth.size, growth.root))
    await write_standing(producer, name, Standing(growth.size, first, None, note))
    directory.show_key(*keys.vkeys(name))
    directory.publish(note)


async def _beginning(clients: Clients, place: TopicPartition) -> int:
    consumer = clients.consumer(enable_auto_commit=False)
    await consumer.start()
    try:
        return int((await consumer.beginning_offsets([place]))[place])
    finally:
        await end_within(consumer.stop(), STOP_S)
