"""Reads what is on the topics: in the end with a client of its own (librdkafka), and meanwhile as receivers do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from confluent_kafka import Consumer as RawConsumer
from confluent_kafka import KafkaError as RawError
from confluent_kafka import KafkaException, Message, TopicPartition

from broker.client import Consumer, Profile
from broker.kafka.closing import told_to_end
from broker.kafka.connection import KafkaConnection
from chaos.history import History, Place, Seen
from chaos.reading import Reading, Record, head_of, is_head, lane_place

POLL_S: Final = 0.5
ANSWER_S: Final = 10.0
QUIET_S: Final = 3.0  # how long all must have been at rest
NOTHING_READ_S: Final = 60.0
KINDS: Final = ("in.", "out.", "status.", "quarantine.", "audit.events", "lane.state", "parked")


def _consumer(connection: KafkaConnection) -> RawConsumer:
    return RawConsumer(
        connection.confluent()
        | {
            "group.id": "chaos", "enable.auto.commit": False, "isolation.level": "read_committed",
            "auto.offset.reset": "error", "enable.partition.eof": True, "log_level": 0,
            "queued.max.messages.kbytes": 32_768,
        }
    )  # fmt: skip


def _partitions(consumer: RawConsumer) -> list[TopicPartition]:
    topics = consumer.list_topics(timeout=ANSWER_S).topics
    return [
        TopicPartition(name, number, 0)
        for name, topic in topics.items()
        if name.startswith(KINDS)
        for number in topic.partitions
    ]


class Rest:
    """Tells whether a run came to rest: every input is decided, and only those wait who may."""

    def __init__(self, connection: KafkaConnection, may_wait: int) -> None:
        self._consumer = _consumer(connection)
        self._may_wait = may_wait
        self._heads: dict[str, int] = {}
        self._parked: set[bytes] = set()
        self._inputs: list[TopicPartition] = []

    def wait(self, seconds: float, meanwhile: Callable[[], None]) -> str | None:
        """Wait until it did, or until no lane moved for so long: then what it still waits for."""
        moved_at, quiet_since, trouble = time.monotonic(), None, "nothing was read"
        everything = _partitions(self._consumer)
        self._inputs = [p for p in everything if p.topic.startswith("in.")]
        self._consumer.assign([p for p in everything if p.topic in ("lane.state", "parked")])
        try:
            while time.monotonic() < moved_at + seconds:
                meanwhile()
                if self._read():
                    moved_at = time.monotonic()
                found = self._trouble()
                if found is not None:
                    trouble, quiet_since = found, None
                elif quiet_since is None:
                    quiet_since = time.monotonic()
                elif time.monotonic() - quiet_since > QUIET_S:
                    return None
        finally:
            self._consumer.close()
        return trouble

    def _read(self) -> bool:
        before = sum(self._heads.values())
        for message in self._consumer.consume(10_000, POLL_S):
            key, value = message.key() or b"", message.value()
            if message.error() is not None:
                continue
            if message.topic() == "parked":
                (self._parked.discard if value is None else self._parked.add)(key)
            elif is_head(name := key.decode()) and value:
                self._heads[lane_place(name)] = head_of(value)["next_offset"]
        return sum(self._heads.values()) > before

    def _trouble(self) -> str | None:
        for name, end in ends_of(self._consumer, self._inputs).items():
            if self._heads.get(name, 0) != end:
                return f"{name} ends at {end}, its lane stands at {self._heads.get(name, 0)}"
        if len(self._parked) > self._may_wait:
            return f"{len(self._parked)} events are parked, {self._may_wait} may be"
        return None


def ends_of(consumer: RawConsumer, partitions: list[TopicPartition]) -> dict[str, int]:
    """Where partitions end, by `topic/partition`."""
    return {f"{p.topic}/{p.partition}": consumer.get_watermark_offsets(p, ANSWER_S)[1] for p in partitions}


def read_everything(connection: KafkaConnection, sent: Mapping[str, str | None]) -> History:
    """The history of a run that came to rest.

    Raises:
        TimeoutError: a partition could not be read to its end: an open transaction, or Kafka does not answer.
    """
    consumer, reading = _consumer(connection), Reading(sent)
    partitions = _partitions(consumer)
    consumer.assign(partitions)
    left = {(p.topic, p.partition) for p in partitions}
    read_at = time.monotonic()
    try:
        while left:
            if time.monotonic() > read_at + NOTHING_READ_S:
                raise TimeoutError(f"not read to the end: {sorted(left)[:5]}")
            if messages := consumer.consume(5_000, POLL_S):
                read_at = time.monotonic()
            reading.read(_records(messages))
            left -= {(m.topic(), m.partition()) for m in messages if _at_end(m)}
        return reading.finish(ends_of(consumer, [p for p in partitions if p.topic.startswith("in.")]))
    finally:
        consumer.close()


def _at_end(message: Message) -> bool:
    error = message.error()
    if error is not None and error.code() != RawError._PARTITION_EOF and not error.retriable():
        raise KafkaException(error)
    return error is not None and error.code() == RawError._PARTITION_EOF


def _records(messages: list[Message]) -> Iterator[Record]:
    for message in messages:
        if message.error() is None:
            topic = str(message.topic())
            headers: dict[str, Any] = dict(message.headers() or ()) if topic.startswith("out.") else {}
            place = Place(topic, int(message.partition() or 0), int(message.offset() or 0))
            yield Record(place, message.timestamp()[1], message.key(), message.value(), headers)


class Receiver:
    """A party that reads all the while, with the client that parties have.

    Attributes:
        seen: what it read. gaps: what its client missed, in words.
        heard: called with the id of each event, if somebody wants to know at once.
    """

    def __init__(self, profile: Profile, note: Callable[[str], None]) -> None:
        self.seen: list[Seen] = []
        self.gaps: list[str] = []
        self.heard: Callable[[str], None] = lambda _: None
        self.topic = f"out.{profile.party}.usage"
        self._profile, self._note = profile, note

    async def run(self) -> None:
        """Read until cancelled; a client that failed is replaced."""
        while True:
            consumer = Consumer(self._profile, "usage", group="chaos")
            try:
                async with consumer:
                    async for received in consumer:
                        place = Place(received.topic, received.partition, received.offset)
                        self.seen.append(Seen(place, received.event.event_id))
                        self.heard(received.event.event_id)
            except (Exception, asyncio.CancelledError) as error:
                if told_to_end():
                    raise
                self._note(f"receiver {self._profile.party}: {type(error).__name__}")
                await asyncio.sleep(1.0)
            finally:
                self.gaps += [f"{gap.flow}: {gap.expected} was due, {gap.got} came" for gap in consumer.gaps]
