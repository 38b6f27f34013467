"""Replaces the key that senders seal for.

    made        a newer key stands in the key store of the workers; no sender knows it
    in use      it is on `broker.keys`, and the registry names it: `key/broker`
    taken       senders look each fifteen minutes, so by now all seal for it
    unneeded    all that came in before is decided, and no parked event is sealed for an older one
    destroyed   the older ones are taken back and destroyed: what is left of the input is unreadable

Where it stands follows from the key store, `broker.keys`, the registry, the lanes' own records and their parked events.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from aiokafka import TopicPartition

from broker.app.removal import INPUTS, lane_positions
from broker.client.producer import KEY_REFRESH_SECONDS
from broker.crypto import jwe_kid
from broker.engine import Clients, CompactedTail, KafkaClients, TopicCounts, read_to_end
from broker.errors import ConfigError, ContractError
from broker.exchange.keys import BROKER
from broker.exchange.model import PARKED
from broker.exchange.state import unpack_parked
from broker.keys import FileKeys, RecipientKey
from broker.registry import KeyInUse, Registry, brokerkeys
from broker.rotation.secrets import Job, Telling, read_registry
from broker.wire import DATA_KEY

#: What senders have to take a newer key, with five minutes for clocks that differ.
TAKEN_AFTER: Final = timedelta(seconds=KEY_REFRESH_SECONDS + 300)
READ_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Needed:
    """What may still need an older key.

    Args:
        lanes: input partitions of which not all that came in before is decided.
        parked: events that wait and are sealed for an older key.
    """

    lanes: int
    parked: int

    def __bool__(self) -> bool:
        return bool(self.lanes or self.parked)


def under_way(keys: FileKeys, registry: Registry) -> tuple[KeyInUse | None, tuple[RecipientKey, ...]]:
    """What the registry says of the broker's key, and which keys are in the key store, newest first.

    Raises:
        ConfigError: `keys.missing`, if there is none.
    """
    found = keys.recipient_keys(BROKER)
    if not found:
        raise ConfigError(
            "the broker has no key in this key store; make one with `broker keys create broker`", code="keys.missing"
        )
    return registry.keys_in_use.get(BROKER), found


async def rotate_recipient(job: Job, keys: FileKeys, tell: Telling, group: str, *, destroy: bool) -> str | None:
    """Replace the broker's key, from where it stands on.

    Args:
        group: of the workers. destroy: whether what nothing needs any more may be destroyed.

    Returns:
        What it waits for; None: it is finished, or was to make the newer key only.

    Raises:
        ConfigError: `keys.*`, `kafka.*`, `registry.*`. TransientError: `registry.*`: run it again.
    """
    entry, found = under_way(keys, await read_registry(job.operator))
    in_use = found[-1].kid if entry is None else entry.version
    if not (entry and entry.older) and found[0].kid == in_use:
        found = (keys.create(BROKER), *found)
        tell.step("made", f"{found[0].kid} is made; no sender knows it yet")
    if job.make_only:
        return None
    if entry is None or not entry.older:
        await tell.wait(job.grace_s, "for every worker to get the newer key")
        await brokerkeys.publish(job.operator, found, job.who, job.reason)
        older = tuple(key.kid for key in found[1:])
        entry = KeyInUse(id=BROKER, version=found[0].kid, older=older, since=job.clock())
        await job.record(entry)
        tell.step("in use", f"{entry.version} is on broker.keys; senders take it within fifteen minutes")
    taken = entry.since + TAKEN_AFTER
    await tell.wait((taken - job.clock()).total_seconds(), "for every sender to take the newer key")
    needed = await still_needed(job, entry.older, taken, group)
    if needed:
        return (
            f"{needed.lanes} input partitions are not decided so far, {needed.parked} parked events are sealed for it"
        )
    if not destroy:
        return "nothing needs it any more: run this with --destroy"
    await brokerkeys.take_back(job.operator, entry.older, job.who, job.reason)
    for kid in entry.older:
        if keys.private_key(kid) is not None:
            keys.destroy(kid)
            tell.step("destroyed", f"{kid} is taken back, and destroyed in this key store")
    await job.record(entry.model_copy(update={"older": ()}))
    tell.step("ended", "finished; destroy the older key wherever else it is, backups included")
    return None


async def still_needed(job: Job, kids: tuple[str, ...], taken: datetime, group: str) -> Needed:
    """What may still need one of these keys.

    Args:
        taken: what came in from then on is sealed for a newer one. group: of the workers.
    """
    operator, rotator = KafkaClients(job.operator), KafkaClients(job.rotator)
    topics = TopicCounts(operator)
    try:
        await topics.refresh()
        names = topics.matching(INPUTS)
        places = [TopicPartition(name, number) for name in names for number in range(topics.partitions(name))]
    finally:
        await topics.close()
    positions = await lane_positions(rotator, group, places)
    goals = await _goals(operator, places, taken)
    behind = [place for place, (first, goal) in goals.items() if max(positions.get(place, first), first) < goal]
    return Needed(len(behind), await _parked(rotator, frozenset(kids)))


async def _goals(
    clients: Clients, places: list[TopicPartition], taken: datetime
) -> Mapping[TopicPartition, tuple[int, int]]:
    """For each partition its first record, and the first that came in at this moment or later (or its end)."""
    if not places:
        return {}
    consumer = clients.consumer(isolation_level="read_committed", enable_auto_commit=False)
    await consumer.start()
    try:
        first, end = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
        found = await consumer.offsets_for_times(dict.fromkeys(places, int(taken.timestamp() * 1000)))
    finally:
        await consumer.stop()
    return {p: (first[p], end[p] if (at := found.get(p)) is None else at.offset) for p in places}


async def _parked(clients: Clients, kids: frozenset[str]) -> int:
    """How many parked events are sealed for one of these keys."""
    tail = CompactedTail(clients, PARKED)
    await read_to_end(tail, READ_S)
    return sum(_kid(value) in kids for value in tail.values.values())


def _kid(value: bytes) -> str | None:
    """For which key a parked event is sealed; None if it can not be told, and so can not be opened either."""
    token = dict(unpack_parked(0, value).record.headers).get(DATA_KEY, b"")
    try:
        return jwe_kid(token)
    except ContractError:
        return None


async def described(job: Job, keys: FileKeys, registry: Registry, group: str) -> Mapping[str, object]:
    """As one row for people."""
    entry, found = under_way(keys, registry)
    needed = Needed(0, 0)
    if entry is not None and entry.older:
        needed = await still_needed(job, entry.older, entry.since + TAKEN_AFTER, group)
    in_use = found[0].kid if entry is None else entry.version
    return {
        "key": BROKER,
        "in_use": in_use,
        "since": "" if entry is None else entry.since.isoformat(),
        "older": " ".join(entry.older if entry else ()),
        "waiting": "" if found[0].kid == in_use else found[0].kid,
        "undecided_partitions": needed.lanes,
        "parked_for_older": needed.parked,
    }
