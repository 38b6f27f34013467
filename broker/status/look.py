"""A look at an installation: the cluster, and what stands on the topics that this login may read.

What grows is read once and then followed: a look while watching costs what came since the last one.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from broker.auditlog.book import TOPIC as CHECKPOINTS
from broker.auditlog.book import LogName, Standing
from broker.engine.views import build_registry
from broker.errors import BrokerError, ConfigError
from broker.exchange.model import AUDIT_CONTROL, AUDIT_EVENTS, PARKED
from broker.exchange.state import lane_input
from broker.kafka.closing import ClosingConsumer
from broker.kafka.connection import KafkaConnection
from broker.kafka.diagnosis import check
from broker.kafka.reading import partitions_of
from broker.quarantine.entries import PREFIX, Quarantine
from broker.registry.store import REGISTRY
from broker.registry.version import VersionTree
from broker.status.cluster import ClusterLook
from broker.status.seen import EVIDENCE_S, Cluster, Log, Registered, Seen, Told

DAY_S: Final = 86_400.0
LATELY_S: Final = 1_800.0  # as the alert QuarantineJump
STALL_S: Final = 15.0
SUSPENSION: Final = "suspension/"
CONNECTION: Final = "connection/"


class _Record(NamedTuple):
    """What is kept of a record."""

    at_s: float
    key: bytes
    value: bytes | None


class Watch:
    """Looks again and again. An async context manager.

    Args:
        group: of the workers.
    """

    def __init__(self, connection: KafkaConnection, group: str) -> None:
        self._connection, self._cluster = connection, ClusterLook(connection, group)
        self._consumer: AIOKafkaConsumer | None = None
        self._kept: dict[str, list[_Record]] = {}
        self._at: dict[TopicPartition, int] = {}

    async def __aenter__(self) -> Watch:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._let_go()

    async def look(self) -> Seen:
        """See what there is to see; that Kafka does not answer is seen too."""
        now, cluster = time.time(), None
        try:
            if self._consumer is None:
                await check(self._connection)
                consumer = ClosingConsumer(
                    **self._connection.aiokafka(), isolation_level="read_committed", enable_auto_commit=False,
                    auto_offset_reset="none",
                )  # fmt: skip
                self._consumer = consumer
                await consumer.start()
            cluster = await asyncio.to_thread(self._cluster.look)
            return await self._read(self._consumer, cluster, now)
        except (BrokerError, KafkaError, TimeoutError) as error:
            await self._let_go()
            away = str(error) if isinstance(error, BrokerError) else f"Kafka did not answer: {type(error).__name__}."
            return Seen(now, away, cluster)

    async def _read(self, consumer: AIOKafkaConsumer, cluster: Cluster, now: float) -> Seen:
        names, since = sorted(await consumer.topics()), now - DAY_S
        quarantines = [name for name in names if name.startswith(PREFIX)]
        registry = await self._follow(consumer, [REGISTRY], names)
        logs = await self._follow(consumer, [CHECKPOINTS], names)
        control = await self._follow(consumer, [AUDIT_CONTROL], names, since)
        aside = await self._follow(consumer, quarantines, names, since, kept_as=PREFIX) if quarantines else None
        parked = await self._follow(consumer, [PARKED], names)
        standing = None if logs is None else await self._standing(consumer, _last(logs), names, now)
        found = {
            "registry": None if registry is None else _registered(_newest(registry)),
            "logs": standing,
            "told": None if control is None else _told(control),
            "quarantined": None if aside is None else _set_aside(aside, since),
            "quarantined_lately": None if aside is None else _set_aside(aside, now - LATELY_S),
            "parked": None if parked is None else _parked(_newest(parked)),
        }
        hidden = [name for name, value in found.items() if value is None and name != "quarantined_lately"]
        hidden += [name for name in ("group", "flows") if getattr(cluster, name) is None]
        return Seen(now, cluster=cluster, hidden=tuple(sorted(hidden)), **found)  # type: ignore[arg-type]

    async def _follow(
        self,
        consumer: AIOKafkaConsumer,
        topics: list[str],
        names: list[str],
        since_s: float | None = None,
        kept_as: str | None = None,
    ) -> list[_Record] | None:
        """What came on these topics, those of earlier looks included; None: they may not be read, or are not there.

        Args:
            since_s: only what is younger; None: all.
            kept_as: name of what is kept, where the topics may be others at the next look.
        """
        known = [name for name in topics if name in names]
        if not known:
            return None
        kept = self._kept.setdefault(kept_as or known[0], [])
        places = [place for name in known for place in await partitions_of(consumer, name, STALL_S)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        begins = await consumer.beginning_offsets(places)
        if since_s is not None and not any(place in self._at for place in places):
            young = await consumer.offsets_for_times(dict.fromkeys(places, int(since_s * 1000)))
            begins = {place: young[place].offset if young.get(place) else ends[place] for place in places}
        for place in places:
            consumer.seek(place, max(self._at.get(place, 0), begins[place]))
        try:
            await self._take(consumer, ends, kept)
        except TopicAuthorizationFailedError:
            return None
        self._at |= {place: await consumer.position(place) for place in places}
        if since_s is not None:
            kept[:] = [record for record in kept if record.at_s >= since_s]
        elif len(kept) > 2 * len(newest := _newest(kept)):
            kept[:] = [record for record in newest.values() if record.value is not None]
        return kept

    async def _take(self, consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int], kept: list[_Record]) -> None:
        moved = time.monotonic()
        while [place for place, end in ends.items() if await consumer.position(place) < end]:
            fetched: dict[TopicPartition, list[ConsumerRecord]] = await consumer.getmany(timeout_ms=200)
            for records in fetched.values():
                kept += map(_kept, records)
            if fetched:
                moved = time.monotonic()
            elif time.monotonic() - moved > STALL_S:
                raise TimeoutError

    async def _standing(
        self,
        consumer: AIOKafkaConsumer,
        last: Mapping[TopicPartition, tuple[LogName, _Record]],
        names: list[str],
        now: float,
    ) -> dict[str, Log]:
        """The log of each partition of the audit; what never had one is there too."""
        found = {}
        topics = [name for name in (AUDIT_EVENTS, AUDIT_CONTROL) if name in names]
        places = [place for name in topics for place in await partitions_of(consumer, name, STALL_S)]
        begins, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
        young = await consumer.offsets_for_times(dict.fromkeys(places, int((now - EVIDENCE_S) * 1000)))
        for place in places:
            name, leaves, age_s, signed = f"{place.topic}/{place.partition}", 0, None, begins[place]
            if (known := last.get(place)) is not None:
                standing = Standing.unpack(known[0].origin, known[1].value or b"")
                name, leaves, age_s = known[0].origin, standing.size, max(0.0, now - known[1].at_s)
                signed = max(signed, standing.next_offset)
            old = young[place].offset if young.get(place) else ends[place]
            overdue = max(0, old - signed)
            waits_s = await self._waits(consumer, place, signed, ends[place], now) if overdue else 0.0
            found[name] = Log(leaves, age_s, max(0, ends[place] - signed), overdue, waits_s)
        return dict(sorted(found.items()))

    async def _waits(
        self, consumer: AIOKafkaConsumer, place: TopicPartition, start: int, end: int, now: float
    ) -> float | None:
        """Seconds for which the first committed record from an offset on has been there; None: it may not be read."""
        consumer.assign([place])
        consumer.seek(place, start)
        moved = time.monotonic()
        try:
            while await consumer.position(place) < end:
                fetched: dict[TopicPartition, list[ConsumerRecord]]
                fetched = await consumer.getmany(place, timeout_ms=200, max_records=1)
                for record in fetched.get(place, []):
                    return max(0.0, now - float(record.timestamp) / 1000)
                if time.monotonic() - moved > STALL_S:
                    raise TimeoutError
        except TopicAuthorizationFailedError:
            return None
        return 0.0  # ends of transactions only

    async def _let_go(self) -> None:
        consumer, self._consumer = self._consumer, None
        self._kept.clear()
        self._at.clear()
        if consumer is not None:
            await consumer.stop()


def _kept(record: ConsumerRecord) -> _Record:
    value: bytes | None = record.value
    if record.topic == PARKED and value is not None:
        value = b""  # how many there are is all that is asked
    return _Record(record.timestamp / 1000, record.key or b"", value)


def _log(origin: str) -> LogName | None:
    """The log of this origin; None if it is none of a broker's."""
    rest, _, epoch = origin.rpartition("/")
    base, _, number = rest.rpartition("/")
    try:
        return LogName(base, number, int(epoch))
    except (ConfigError, ValueError):
        return None


def _newest(records: Iterable[_Record]) -> dict[bytes, _Record]:
    return {record.key: record for record in records}


def _registered(records: Mapping[bytes, _Record]) -> Registered:
    entries = {key.decode(): record.value for key, record in records.items() if record.value is not None}
    suspended = tuple(sorted(key.removeprefix(SUSPENSION) for key in entries if key.startswith(SUSPENSION)))
    try:
        # As workers do: what one can not read grants nothing. Connections, of which a country has a million, make no
        # registry invalid, so they are counted in the version and not parsed.
        few = {key: value for key, value in entries.items() if not key.startswith(CONNECTION)}
        registry = build_registry(None, few, {})
    except ConfigError as error:
        return Registered("", 0, 0, 0, suspended, str(error))
    agreements = sum(key.startswith("agreement/") for key in entries)
    version = VersionTree().with_changes(entries).version
    return Registered(version, len(registry.parties), len(registry.schools), agreements, suspended)


def _last(records: Iterable[_Record]) -> dict[TopicPartition, tuple[LogName, _Record]]:
    """Of each partition the log of its last epoch: those before it grow no more."""
    last: dict[TopicPartition, tuple[LogName, _Record]] = {}
    for key, record in _newest(records).items():
        log = _log(key.decode())
        if log is not None and record.value is not None:
            known = last.get(log.place)
            if known is None or known[0].epoch < log.epoch:
                last[log.place] = log, record
    return last


def _told(records: Iterable[_Record]) -> Told:
    incidents, lost = Counter[str](), Counter[str]()
    for record in records:
        leaf = json.loads(record.value or b"{}").get("control", {})
        if leaf.get("kind") == "incident":
            incidents[leaf["code"]] += 1
        elif leaf.get("kind") == "input-lost":
            lost[leaf["topic"]] += leaf["last"] - leaf["first"] + 1
    return Told(dict(sorted(incidents.items())), dict(sorted(lost.items())))


def _set_aside(records: Iterable[_Record], since_s: float) -> dict[str, dict[str, int]]:
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for entry in Quarantine.read(record.value for record in records).entries:
        if entry.decided / 1000 >= since_s:
            found[entry.place.party][entry.code] += 1
    return {party: dict(sorted(codes.items())) for party, codes in sorted(found.items())}


def _parked(records: Mapping[bytes, _Record]) -> dict[str, int]:
    lanes = [key.decode().rpartition("#")[0] for key, record in records.items() if record.value is not None]
    return dict(sorted(Counter(lane_input(lane)[0].removeprefix("in.") for lane in lanes).items()))
