"""Receive events and outcomes from the broker."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from broker.client.counting import CountBook
from broker.client.profile import Profile
from broker.client.published import missing_topic, schemas
from broker.client.records import BODIES, Event, Subject
from broker.crypto import DataKeyOpener
from broker.errors import ConfigError, ContractError
from broker.kafka.closing import ClosingConsumer
from broker.kafka.diagnosis import explain
from broker.schemas import Schema, catalogue, unframe
from broker.wire import AUDIT_SALT, DATA_KEY, FLOW, FLOW_SEQ, POLICY, TRACEPARENT, decode_envelope, open_parts

COMMIT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Received:
    """An event that came in, and what the broker says about it.

    Args:
        policy: version of the policy that it was minimised under.
        flow, seq: number of the record within its flow (the broker's lane and this partition); consecutive.
        record: value of the record as it came, sealed parts and all; the audit leaf has a commitment to these bytes.
        salt: opens that commitment. Keep both if you may have to show what you got (`broker.client.receipts`).
        traceparent: the trace of the event, with the broker's span of this delivery as the parent of what you do with
            it (W3C Trace Context); the same ids are in the audit leaf.
    """

    event: Event
    topic: str
    partition: int
    offset: int
    policy: str
    flow: str
    seq: int
    record: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """Sequence numbers of a flow that did not come: tell the operator; an audit shows what was sent."""

    flow: str
    expected: int
    got: int


@dataclass(frozen=True, slots=True)
class Result:
    """What was decided over one event for one receiver."""

    outcome: str
    receiver: str | None
    code: str
    field: str | None
    rule: str | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Status:
    """What became of an event that this party sent."""

    event_id: str
    decided: datetime
    results: tuple[Result, ...]


class _Reader:
    """Base of the two consumers: own group, read_committed, commits what the caller was done with."""

    def __init__(
        self, profile: Profile, topic: str, group: str, *, from_beginning: bool, counting: CountBook | None = None
    ) -> None:
        self.profile, self.topic, self._counting = profile, topic, counting
        self.group = f"{profile.party}.{group}"
        self._start_at = "earliest" if from_beginning else "latest"
        self._consumer: AIOKafkaConsumer | None = None
        self._done: dict[TopicPartition, int] = {}
        self._given: ConsumerRecord | None = None
        self._committed_at = time.monotonic()

    async def start(self) -> Self:
        """Connect and join the group.

        Raises:
            ConfigError: with what is wrong: address, certificate, login or topic; or `count.*`.
        """
        if self._counting is not None:
            await self._counting.open()
        try:
            self._consumer = await self._started()
        except BaseException:
            if self._counting is not None:
                await self._counting.close()
            raise
        return self

    async def _started(self) -> AIOKafkaConsumer:
        consumer = ClosingConsumer(
            **self.profile.connection.aiokafka(), group_id=self.group, isolation_level="read_committed",
            enable_auto_commit=False, auto_offset_reset=self._start_at,
        )  # fmt: skip
        try:
            await consumer.start()
            # Kafka shows a topic only to who may read it; subscribing to another one would wait for ever.
            if self.topic not in await consumer.topics():
                raise missing_topic(self.topic, self.profile.party)
        except KafkaError as exc:
            await consumer.stop()
            raise explain(exc, self.profile.connection) from exc
        except BaseException:
            await consumer.stop()
            raise
        consumer.subscribe([self.topic])
        return consumer

    async def stop(self) -> None:
        """Commit what was processed, and leave."""
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            try:
                try:
                    await self._commit(consumer)
                finally:
                    await consumer.stop()
            finally:
                if self._counting is not None:
                    await self._counting.close()

    async def _records(self, idle_seconds: float | None) -> AsyncIterator[ConsumerRecord]:
        """Records in order; one counts as processed when the next one is asked for.

        Args:
            idle_seconds: end when nothing came for so long; None: never.
        """
        consumer = self._consumer
        if consumer is None:
            raise ConfigError("the consumer was not started; use `async with`", code="client.not_started")
        last = time.monotonic()
        placed: set[TopicPartition] = set()
        while idle_seconds is None or time.monotonic() - last < idle_seconds:
            if self._start_at == "latest":
                placed = await self._keep_place(consumer, placed)
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    self._given = record
                    yield record
                    self.done()
                    last = time.monotonic()
            if not consumer.assignment():  # still joining the group: nothing can come yet
                last = time.monotonic()
            if time.monotonic() - self._committed_at > COMMIT_SECONDS:
                await self._commit(consumer)

    async def _keep_place(self, consumer: AIOKafkaConsumer, placed: set[TopicPartition]) -> set[TopicPartition]:
        """Commit where reading began: without it, the next assignment would jump to a later end and lose records."""
        assigned = set(consumer.assignment())
        if new := assigned - placed:
            with suppress(IllegalStateError):  # taken away meanwhile: the next round sees
                for partition in new:
                    self._done.setdefault(partition, await consumer.position(partition))
                await self._commit(consumer)
        return assigned

    def done(self) -> None:
        """Count what was given last as processed too: for who stops after it instead of asking for the next."""
        if (record := self._given) is not None:
            self._done[TopicPartition(record.topic, record.partition)] = record.offset + 1
            if self._counting is not None:
                headers = dict(record.headers)
                flow = f"{headers[FLOW].decode()}/{record.topic}/{record.partition}"
                self._counting.read(flow, int(headers[FLOW_SEQ]), headers.get(TRACEPARENT, b"").decode())

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        self._committed_at = time.monotonic()
        mine = {p: offset for p, offset in self._done.items() if p in consumer.assignment()}
        self._done.clear()
        if self._counting is not None:  # before the position: what is not given again must be on the disk
            await self._counting.save()
        if mine:
            # A rebalance came in between: who owns the partition now reads these again (at least once).
            with suppress(CommitFailedError, IllegalStateError):
                await consumer.commit(mine)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()


class Consumer(_Reader):
    """Receives a family's events, opened and typed.

        async with Consumer(Profile.load("portaal"), "usage") as consumer:
            async for received in consumer:
                print(received.event)

    At least once: an event counts as processed when the next one is asked for, so after a crash the last ones come
    again; their event ids tell. Only what is committed is read (`read_committed`).

    Args:
        counting: counts what was processed, for the auditors; then this must be the only reader of its group, or one
            that reads everything all the same.

    Attributes:
        gaps: sequence numbers that were missing, if ever.
    """

    def __init__(
        self,
        profile: Profile,
        family: str,
        *,
        group: str = "default",
        from_beginning: bool = True,
        counting: CountBook | None = None,
    ) -> None:
        topic = f"out.{profile.party}.{family}"
        super().__init__(profile, topic, group, from_beginning=from_beginning, counting=counting)
        self.family, self.gaps = family, list[Gap]()
        self._opener = DataKeyOpener(profile.keys.private_key)
        self._schemas: dict[bytes, Schema] = {}
        self._seen: dict[str, int] = {}

    def __aiter__(self) -> AsyncIterator[Received]:
        return self.events()

    async def events(self, idle_seconds: float | None = None) -> AsyncIterator[Received]:
        """The events, in the order of their partition.

        Args:
            idle_seconds: end when nothing came for so long; None: never.
        """
        async for record in self._records(idle_seconds):
            yield await self._receive(record)

    async def _receive(self, record: ConsumerRecord) -> Received:
        headers = dict(record.headers)
        envelope, associated = decode_envelope(record.value)
        if envelope["receiver"] != self.profile.party:  # two systems of one supplier may have one key
            raise ContractError(
                f"a record on {record.topic} is for another receiver; somebody put it there: tell the operator",
                code="receiver.other",
            )
        subject, body = open_parts(envelope, associated, self._opener.open(headers[DATA_KEY]))
        schema = await self._writer_schema(envelope["body_schema"])
        event = Event(
            event_id=envelope["event_id"], kind=envelope["kind"], school=envelope["school"],
            sector=envelope["sector"], school_year=envelope["school_year"], sender=envelope["sender"],
            receiver=envelope["receiver"], correlation=envelope["correlation"], agreement=envelope["agreement"],
            created=_moment(envelope["created"]),
            subject=Subject.from_datum(catalogue()["subject.v1"].decode(subject)),
            body=BODIES[envelope["family"]].received(schema.decode(body)),
        )  # fmt: skip
        flow, seq = f"{headers[FLOW].decode()}>{record.topic}/{record.partition}", int(headers[FLOW_SEQ])
        self._follow(flow, seq)
        return Received(
            event, record.topic, record.partition, record.offset, headers[POLICY].decode(), flow, seq,
            record.value, headers[AUDIT_SALT], headers[TRACEPARENT].decode() if TRACEPARENT in headers else None,
        )  # fmt: skip

    def _follow(self, flow: str, seq: int) -> None:
        expected = self._seen.get(flow, seq - 1) + 1
        if seq > expected:
            self.gaps.append(Gap(flow, expected, seq))
        self._seen[flow] = max(seq, self._seen.get(flow, 0))

    async def _writer_schema(self, fingerprint: bytes) -> Schema:
        """The schema that the broker wrote with: published before its first record, so it is there."""
        if fingerprint not in self._schemas:
            self._schemas = await schemas(self.profile.connection)
        try:
            return self._schemas[fingerprint]
        except KeyError:
            raise ContractError(
                "the body's schema is not on the topic `schemas`; tell the operator", code="schema.unknown"
            ) from None


class StatusConsumer(_Reader):
    """Receives the outcomes of what this party sent.

    async with StatusConsumer(profile) as statuses:
        async for status in statuses: ...
    """

    def __init__(self, profile: Profile, *, group: str = "status", from_beginning: bool = True) -> None:
        super().__init__(profile, f"status.{profile.party}", group, from_beginning=from_beginning)

    def __aiter__(self) -> AsyncIterator[Status]:
        return self.statuses()

    async def statuses(self, idle_seconds: float | None = None) -> AsyncIterator[Status]:
        """The outcomes; see `Consumer.events`."""
        schema = catalogue()["status.v1"]
        async for record in self._records(idle_seconds):
            fingerprint, data = unframe(record.value)
            if fingerprint != schema.fingerprint:
                raise ContractError("a status of a version that this client does not know", code="schema.unknown")
            datum: dict[str, Any] = schema.decode(data)
            results = tuple(Result(**result) for result in datum["results"])
            yield Status(datum["event_id"], _moment(datum["decided"]), results)


def _moment(milliseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
