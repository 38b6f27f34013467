"""The quarantine on Kafka: read it, replay out of it as its sender, drop from it and open it as the operator.

What is done is written in one transaction with its audit, or by the exchange with the decision over the replay. An
opening is on the control log before anything is shown.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalOperation, KafkaError, ProducerFenced

from broker.audit.leaf import control_leaf
from broker.client.profile import Profile
from broker.client.published import broker_kids, missing_topic
from broker.crypto import jwe_kid
from broker.errors import ConfigError, ContractError, TransientError
from broker.exchange.model import AUDIT_CONTROL, InputRecord
from broker.kafka.connection import KafkaConnection
from broker.kafka.diagnosis import check as check_connection
from broker.kafka.diagnosis import explain
from broker.kafka.reading import looking, partitions_of
from broker.keys import KeyProvider
from broker.quarantine.content import Opened, open_entry, private_key_of, replay_headers
from broker.quarantine.entries import DROPPED, PREFIX, Entry, Place, Quarantine
from broker.registry.store import require_why
from broker.schemas import catalogue, frame, unframe
from broker.wire import DATA_KEY

TRANSACTIONAL_ID: Final = "operator.quarantine"
STALL_SECONDS: Final = 30.0


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


async def read(connection: KafkaConnection, party: str | None = None) -> Quarantine:
    """What is in quarantine now.

    Args:
        party: only of this one; None: of all that this user may read.

    Raises:
        ConfigError: `topic.missing`, or `kafka.*`.
        TransientError: `quarantine.unavailable`.
    """
    await check_connection(connection)
    consumer = looking(connection)
    try:
        await consumer.start()
        known = {topic for topic in await consumer.topics() if topic.startswith(PREFIX)}
        if party is not None and f"{PREFIX}{party}" not in known:
            raise missing_topic(f"{PREFIX}{party}", connection.username)
        topics = sorted(known) if party is None else [f"{PREFIX}{party}"]
        return Quarantine.read([value async for value in _values(consumer, topics)])
    except TimeoutError as error:
        raise TransientError(
            "The quarantine could not be read to its end: Kafka does not answer in time. Try again later.",
            code="quarantine.unavailable",
        ) from error
    except KafkaError as error:
        raise explain(error, connection) from error
    finally:
        await consumer.stop()


async def _values(consumer: AIOKafkaConsumer, topics: Iterable[str]) -> AsyncIterator[bytes | None]:
    """All committed records up to the present end of the topics."""
    for topic in topics:
        ends = await _seek(consumer, topic, to_end=False)
        while unfinished := [p for p, end in ends.items() if await consumer.position(p) < end]:
            before = [await consumer.position(p) for p in unfinished]
            deadline = time.monotonic() + STALL_SECONDS
            while before == [await consumer.position(p) for p in unfinished]:
                if time.monotonic() > deadline:
                    raise TimeoutError
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        yield record.value


async def _seek(consumer: AIOKafkaConsumer, topic: str, *, to_end: bool) -> dict[TopicPartition, int]:
    """Stand at the beginning, or at the end, of all partitions of a topic; their ends."""
    partitions = await partitions_of(consumer, topic, STALL_SECONDS)
    consumer.assign(partitions)
    ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
    starts = ends if to_end else await consumer.beginning_offsets(partitions)
    for partition, offset in starts.items():
        consumer.seek(partition, offset)
    return ends


# ---- the operator


async def opened(connection: KafkaConnection, entry: Entry, keys: KeyProvider, operator: str, reason: str) -> Opened:
    """Open an entry as the operator; who, what and why stand on the control log before.

    Args:
        keys: with the operator's private key.

    Raises:
        ConfigError: `quarantine.why`, `quarantine.key`; nothing was opened.
        TransientError: the control log could not be written; nothing was opened.
    """
    require_why(operator, reason, "an opening", code="quarantine.why")
    private_key_of(entry, keys.private_key)
    async with _writing(connection) as producer, producer.transaction():
        await producer.send_and_wait(AUDIT_CONTROL, _leaf("opened", entry, operator, reason, now_ms()), partition=0)
    return open_entry(entry, keys.private_key)


async def drop(connection: KafkaConnection, place: Place, operator: str, reason: str) -> None:
    """Mark a quarantined record as dealt with; what was sealed stays until its term ends.

    Raises:
        ConfigError: `quarantine.why`, `quarantine.unknown`, `quarantine.handled`.
        TransientError: nothing was written.
    """
    require_why(operator, reason, "a drop", code="quarantine.why")
    async with _writing(connection) as producer:  # which shuts out another drop at the same time: then read
        entry = (await read(connection, place.party)).require_open(place)[0]
        at, schema = now_ms(), catalogue()["handled.v1"]
        datum = {
            "topic": place.topic, "partition": place.partition, "offset": place.offset, "state": DROPPED.upper(),
            "at": at, "by": operator, "reason": reason, "replay": None,
        }  # fmt: skip
        value, key = frame(schema.fingerprint, schema.encode(datum)), entry.event_id.encode()
        async with producer.transaction():
            await producer.send_and_wait(f"{PREFIX}{place.party}", value, key=key, partition=0)
            await producer.send_and_wait(AUDIT_CONTROL, _leaf("dropped", entry, operator, reason, at), partition=0)


@asynccontextmanager
async def _writing(connection: KafkaConnection) -> AsyncIterator[AIOKafkaProducer]:
    await check_connection(connection)
    producer = AIOKafkaProducer(**connection.aiokafka(), transactional_id=TRANSACTIONAL_ID, acks="all")
    try:
        await producer.start()
        yield producer
    except (ProducerFenced, IllegalOperation) as error:  # the second: it learned of the first by itself
        raise TransientError(
            "Somebody else worked on the quarantine at the same time; nothing was written. Run it again.",
            code="quarantine.busy",
        ) from error
    except KafkaError as error:
        raise TransientError(
            f"It could not be written ({type(error).__name__}), so nothing was done. Check that this user may write to "
            f"{AUDIT_CONTROL} and {PREFIX}* (`broker topics plan`).",
            code="quarantine.unavailable",
        ) from error
    finally:
        await producer.stop()


def _leaf(action: str, entry: Entry, operator: str, reason: str, at: int) -> bytes:
    """For the control log: who did what with which record, and why. Nothing of what it held."""
    school = {} if entry.school is None else {"school": entry.school}
    return control_leaf(
        "quarantine",
        {
            **school,
            "action": action,
            "at": at,
            "code": entry.code,
            "event": entry.event_id,
            "in": entry.place.json(),
            "operator": operator,
            "reason": reason,
            "sender": entry.place.party,
        },
    )


# ---- the sender


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay, and what was decided over it.

    Args:
        place: of the replay itself.
        results: of its status, as `broker receive PARTY status` gives them; empty if none came in time.
    """

    place: Place
    results: tuple[dict[str, Any], ...]


async def replay(profile: Profile, place: Place, wait_seconds: float) -> Replay:
    """Send a quarantined record of this party again, byte for byte, with a link to the first try.

    Raises:
        ConfigError: `quarantine.*`: it can not be replayed, and why; nothing was sent.
        ContractError: `seal.*`: the entry was changed.
        TransientError: Kafka did not take it in time.
    """
    if place.party != profile.party:
        raise ConfigError(
            f"{place} is not of {profile.party}: only the sender of a record can replay it.", code="quarantine.sender"
        )
    entry = (await read(profile.connection, place.party)).require_open(place)[0]
    if not entry.whole:
        raise ConfigError(
            f"{place} was too large to be kept whole, so it can not be replayed. Split it and send it anew.",
            code="quarantine.cut",
        )
    record = open_entry(entry, profile.keys.private_key).record
    if record.value is None and record.key is None:
        raise ConfigError(f"{place} is an empty record; there is nothing to replay.", code="quarantine.cut")
    await _require_key(profile, place, record.headers)
    return await _send(profile, place, record, wait_seconds)


async def _require_key(profile: Profile, place: Place, headers: Iterable[tuple[str, bytes]]) -> None:
    """What the broker can not open any more is not worth its one replay."""
    try:
        kids = {jwe_kid(value) for name, value in headers if name == DATA_KEY}
    except ContractError:
        return  # what it is, is for the exchange to say
    gone = sorted(kids - await broker_kids(profile.connection))
    if gone:
        raise ConfigError(
            f"{place} is sealed for {gone[0]}, which is none of the broker's keys (any more), so the broker can not "
            "open it. Send the event anew from your own system.",
            code="quarantine.key_gone",
        )


async def _send(profile: Profile, place: Place, record: InputRecord, wait_seconds: float) -> Replay:
    connection = profile.connection
    producer = AIOKafkaProducer(
        **connection.aiokafka(), acks="all", enable_idempotence=True, compression_type="lz4",
        max_request_size=1_048_576,
    )  # fmt: skip
    consumer = looking(connection)
    try:
        await consumer.start()
        await _seek(consumer, f"status.{place.party}", to_end=True)
        await producer.start()
        sent = await producer.send_and_wait(
            place.topic, record.value, key=record.key, partition=place.partition, headers=replay_headers(record)
        )
        again = place._replace(offset=sent.offset)
        return Replay(again, await _results(consumer, again, wait_seconds))
    except TimeoutError as error:
        raise TransientError(
            f"Kafka does not show status.{place.party}; nothing was sent. Try again later.",
            code="quarantine.unavailable",
        ) from error
    except KafkaError as error:
        raise explain(error, connection) from error
    finally:
        await asyncio.gather(producer.stop(), consumer.stop())


async def _results(consumer: AIOKafkaConsumer, place: Place, wait_seconds: float) -> tuple[dict[str, Any], ...]:
    """What the sender is told of the record at this place."""
    schema, deadline = catalogue()["status.v1"], time.monotonic() + wait_seconds
    while time.monotonic() < deadline:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            for record in records:
                fingerprint, data = unframe(record.value)
                if fingerprint != schema.fingerprint:
                    continue
                datum = schema.decode(data)
                if (datum["topic"], datum["partition"], datum["offset"]) == (
                    place.topic,
                    place.partition,
                    place.offset,
                ):
                    return tuple(datum["results"])
    return ()
