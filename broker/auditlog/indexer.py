"""Reads `audit.index` into the store: from its last position to the present end, committed entries only.

Position and entries are written in one transaction of the store, so a kill at any moment loses and doubles nothing.
Needs only the right to read the topic; it joins no group.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from broker.audit.indexing import SchoolCiphers, forget_people, index_people
from broker.audit.store import Store
from broker.client.published import missing_topic
from broker.errors import ConfigError, TransientError
from broker.exchange.model import AUDIT_INDEX
from broker.kafka.connection import KafkaConnection
from broker.kafka.diagnosis import explain
from broker.kafka.reading import looking, partitions_of

FETCH_RECORDS: Final = 5_000
FETCH_MS: Final = 500
STALL_S: Final = 30.0
LOST: Final = (
    "Entries had gone before they were read, and with them perhaps that a person was erased. Make a new store in the "
    "place of this one. They stay for six days: read them daily."
)


@dataclass(frozen=True, slots=True)
class PeopleRead:
    """What was taken in.

    Args:
        read: entries that are new. waiting: entries whose leaf is not signed yet, or not in the store.
        forgotten: rows of the store that led to persons who were erased.
    """

    read: int
    waiting: int
    forgotten: int = 0


async def read_people(
    store: Store, connection: KafkaConnection, schools: SchoolCiphers, lost: Callable[[str], None]
) -> PeopleRead:
    """Read what is new, match it and what waited with the leaves in the store, and forget who was erased.

    To be run at least daily: that long at most a person who was erased is in the store, and in a week entries go.

    Args:
        lost: is told each partition whose entries had gone before they were read (`LOST`): those leaves are not found
            by the person, and who was erased meanwhile may still be. At once, since what is read behind it stays,
            whatever fails then.

    Raises:
        ConfigError: `audit.index_key`, if an entry does not open; `audit.index_topic`, if the topic is another one
            than before; `topic.missing`, `kafka.*`. TransientError: `audit.index_unavailable`;
            `audit.store_busy`, if who was erased could not be forgotten for now.
    """
    consumer = looking(connection)
    try:
        await consumer.start()
        if AUDIT_INDEX not in await consumer.topics():
            raise missing_topic(AUDIT_INDEX, connection.username)
        places = await partitions_of(consumer, AUDIT_INDEX, STALL_S)
        with store.transaction():
            index_people(store, [], schools)  # those that waited
        read = 0
        for place in places:
            end, gone = await _begin(consumer, place, store)
            if gone:
                lost(_source(place))
            read += await _read(consumer, place, end, store, schools)
        forgotten = forget_people(store, schools)
        return PeopleRead(read, store.waiting(), forgotten)
    except TimeoutError as error:
        raise TransientError(
            f"{AUDIT_INDEX} could not be read to its end: Kafka does not answer in time. Try again later; what was "
            "read stays.",
            code="audit.index_unavailable",
        ) from error
    except KafkaError as error:
        raise explain(error, connection) from error
    finally:
        await consumer.stop()


async def _begin(consumer: AIOKafkaConsumer, place: TopicPartition, store: Store) -> tuple[int, bool]:
    """Go to where the store stands.

    Returns:
        The present end, and whether entries have gone that were never read.
    """
    consumer.assign([place])
    first = (await consumer.beginning_offsets([place]))[place]
    end: int = (await consumer.end_offsets([place]))[place]
    position = store.offset(_source(place))
    if position is not None and position > end:
        raise ConfigError(
            f"{_source(place)} ends at {end}, but was read up to {position} before: the topic was made anew, or this "
            "is another Kafka. Make a new store from the logs.",
            code="audit.index_topic",
        )
    consumer.seek(place, first if position is None else max(first, position))
    return end, position is not None and position < first


async def _read(
    consumer: AIOKafkaConsumer, place: TopicPartition, end: int, store: Store, schools: SchoolCiphers
) -> int:
    """Read to the end; how many entries there were."""
    read, moved, position = 0, time.monotonic(), await consumer.position(place)
    while position < end:
        fetched = await consumer.getmany(place, timeout_ms=FETCH_MS, max_records=FETCH_RECORDS)
        entries = [record.value or b"" for record in fetched.get(place, [])]
        before, position = position, await consumer.position(place)
        if position > before:  # behind aborted transactions there may be no entry at all
            with store.transaction():
                index_people(store, entries, schools)
                store.read_up_to(_source(place), position)
            read, moved = read + len(entries), time.monotonic()
        elif time.monotonic() - moved > STALL_S:
            raise TimeoutError
    return read


def _source(place: TopicPartition) -> str:
    return f"{place.topic}/{place.partition}"
