"""Send events to the broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable
from contextlib import closing
from typing import Any, NamedTuple, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError

from broker.client.counting import CountBook
from broker.client.profile import RECORD_KEY_SECRET, Profile
from broker.client.published import broker_key, missing_topic
from broker.client.records import Event, milliseconds, school_year_of
from broker.client.tracing import current_traceparent, require_traceparent
from broker.crypto import DataKeyMaker, keyed_hash, partition_of
from broker.errors import BrokerError, ConfigError, ContractError, TransientError
from broker.kafka.diagnosis import explain
from broker.schemas import catalogue
from broker.wire import DATA_KEY, TRACEPARENT, encode_event

KEY_REFRESH_SECONDS = 900.0
KEY_LOOKUP_SECONDS = 15.0

Sealed = tuple[bytes, bytes, list[tuple[str, bytes]]]  # record key, value, headers


class Sent(NamedTuple):
    """Where an event stands now. Its outcome comes on `status.<party>` under its event id."""

    event_id: str
    topic: str
    partition: int
    offset: int


class Producer:
    """Sends a party's events, sealed for the broker, in order per person.

        async with Producer(Profile.load("delta")) as producer:
            await producer.send(event)

    An event is on Kafka, on all in-sync replicas, when `send` returns; its outcome is told on `status.<party>`.

    Args:
        counting: counts what was sent, for the auditors. Only who sees all offsets can: with it, this must be the only
            program that sends for the party, ever. A party that sends from several processes can not count.
    """

    def __init__(
        self, profile: Profile, *, counting: CountBook | None = None, refresh_seconds: float = KEY_REFRESH_SECONDS
    ) -> None:
        self.profile, self.topic, self._counting = profile, f"in.{profile.party}", counting
        self._refresh_seconds = refresh_seconds
        self._producer: AIOKafkaProducer | None = None
        self._maker: DataKeyMaker | None = None
        self._looked_at = 0.0
        self._partitions = 0
        self._lock = asyncio.Lock()
        self._open = False

    async def start(self) -> Self:
        """Connect.

        Raises:
            ConfigError: with what is wrong: address, certificate, login, topic or key; or `count.*`.
        """
        self._secret = self.profile.keys.secret(RECORD_KEY_SECRET)
        if self._counting is not None:
            await self._counting.open()
            self._open = True
        try:
            self._producer = await self._started()
            await self._fresh_key()
        except BaseException:
            await self.stop()
            raise
        return self

    async def _started(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self.profile.connection.aiokafka(), acks="all", enable_idempotence=True, linger_ms=5,
            compression_type="lz4", max_request_size=1_048_576,
        )  # fmt: skip
        try:
            await producer.start()
            self._partitions = len(await producer.partitions_for(self.topic))
        except (UnknownTopicOrPartitionError, TopicAuthorizationFailedError) as exc:
            await producer.stop()
            raise missing_topic(self.topic, self.profile.party) from exc
        except KafkaError as exc:
            await producer.stop()
            raise explain(exc, self.profile.connection) from exc
        return producer

    async def stop(self) -> None:
        """Send what is still under way, and disconnect."""
        counting, self._open = self._counting if self._open else None, False
        try:
            if self._producer is not None:
                producer, self._producer = self._producer, None
                await producer.stop()
        finally:
            if counting is not None:
                await counting.close()

    async def send(self, event: Event, *, traceparent: str | None = None) -> Sent:
        """Send one event and wait until Kafka has it.

        Args:
            traceparent: of the trace that it belongs to (W3C Trace Context); by default that of OpenTelemetry's current
                span, if `opentelemetry-api` is installed and there is one. All receivers see its trace id.

        Raises:
            ContractError: the event does not fit its family, or `trace.form`; nothing was sent.
            TransientError: Kafka did not take it in time; send it again with the same event id.
        """
        return await (await self.send_soon(event, traceparent=traceparent))

    async def send_soon(self, event: Event, *, traceparent: str | None = None) -> asyncio.Future[Sent]:
        """Queue one event; the future tells when Kafka has it. For many events: queue, then gather. Else as `send`.

        Raises:
            ContractError: as `send`.
        """
        trace = require_traceparent(traceparent) if traceparent is not None else current_traceparent()
        return await self._queue(event.event_id, self.seal(event, await self._fresh_key()), trace)

    async def send_many(self, events: Iterable[Event]) -> list[Sent]:
        """Send many events and wait for all. All are checked and sealed first: with an error in one, nothing is sent.

        Raises:
            ContractError: with the number of the event, counted from 1.
            TransientError: as `send`; some may have been sent.
        """
        maker = await self._fresh_key()
        sealed: list[tuple[str, Sealed]] = []
        for number, event in enumerate(events, 1):
            try:
                sealed.append((event.event_id, self.seal(event, maker)))
            except ContractError as error:
                message = f"event {number}: {error}; nothing was sent"
                raise ContractError(message, code=error.code, field=error.field) from None
        trace = current_traceparent()
        return list(await asyncio.gather(*[await self._queue(event_id, one, trace) for event_id, one in sealed]))

    async def _queue(self, event_id: str, sealed: Sealed, trace: str | None = None) -> asyncio.Future[Sent]:
        if self._producer is None:
            raise ConfigError("the producer was not started; use `async with`", code="client.not_started")
        key, value, headers = sealed
        if trace is not None:
            headers = [*headers, (TRACEPARENT, trace.encode())]
        partition = partition_of(key, self._partitions)
        try:
            queued = await self._counted(
                partition, self._producer.send(self.topic, value, key=key, partition=partition, headers=headers)
            )
        except KafkaError as exc:
            raise TransientError(f"Kafka did not take the event: {type(exc).__name__}", topic=self.topic) from exc
        return asyncio.ensure_future(self._acknowledged(queued, event_id))

    async def _counted(self, partition: int, sending: Coroutine[Any, Any, asyncio.Future[Any]]) -> asyncio.Future[Any]:
        """Send, and count what Kafka answers."""
        if self._counting is None:
            return await sending
        with closing(sending):  # never begun, if it can not be counted
            its = await self._counting.begin(self.topic, partition)
            try:
                queued = await sending
            except BaseException:
                self._counting.drop(its)
                raise
        self._counting.queue(its, queued)
        return queued

    def seal(self, event: Event, maker: DataKeyMaker) -> Sealed:
        """Encode and seal an event: record key, value and headers.

        Raises:
            ContractError: `schema.encode`, `kind.unknown` or `sender.forged`.
        """
        family = catalogue().family(event.family)
        if event.kind not in family.kinds:
            known = ", ".join(family.kinds)
            raise ContractError(f"{family.name} has no kind {event.kind!r}; it has: {known}", code="kind.unknown")
        if event.sender not in (None, self.profile.party):
            raise ContractError("an event can be sent only in the party's own name", code="sender.forged")
        envelope: dict[str, Any] = {
            "event_id": event.event_id, "family": family.name, "kind": event.kind,
            "body_schema": family.schema.fingerprint, "school": event.school, "sector": event.sector,
            "school_year": event.school_year or school_year_of(event.created.date()),
            "sender": self.profile.party, "receiver": event.receiver, "created": milliseconds(event.created),
            "correlation": event.correlation, "agreement": event.agreement,
        }  # fmt: skip
        subject = catalogue()["subject.v1"].encode(event.subject.datum())
        data_key = maker.current()
        value = encode_event(envelope, subject, family.schema.encode(event.body.datum()), data_key)
        return self._record_key(event), value, [(DATA_KEY, data_key.header)]

    def _record_key(self, event: Event) -> bytes:
        """Equal for one person, so that his events keep their order; without a person, for the school."""
        subject = event.subject
        ids = sorted(f"{t}={v}" for t, v in (subject.previous_user_ids or subject.user_ids))
        person = ids[0] if ids else subject.eck_id or ""
        return keyed_hash(self._secret, event.school, person)

    async def _acknowledged(self, queued: asyncio.Future[Any], event_id: str) -> Sent:
        try:
            where = await queued
        except KafkaError as exc:
            raise TransientError(
                f"Kafka did not take the event ({type(exc).__name__}); send it again with the same event id",
                topic=self.topic,
            ) from exc
        return Sent(event_id, where.topic, where.partition, where.offset)

    async def _fresh_key(self) -> DataKeyMaker:
        """The broker's newest key; looked up again from time to time, since it is rotated weekly."""
        if self._producer is None:
            raise ConfigError("the producer was not started; use `async with`", code="client.not_started")
        async with self._lock:
            if self._maker is None or time.monotonic() - self._looked_at > self._refresh_seconds:
                await self._look_up_key()
            if self._maker is None:
                raise ConfigError("the broker has no key", code="keys.missing")
            return self._maker

    async def _look_up_key(self) -> None:
        """Take the newest key. The one in use stays good for weeks: when Kafka does not answer, look again soon."""
        try:
            async with asyncio.timeout(KEY_LOOKUP_SECONDS):
                key = await broker_key(self.profile.connection)
        except (KafkaError, TimeoutError, BrokerError) as exc:
            if self._maker is None:
                raise exc if isinstance(exc, BrokerError) else explain(exc, self.profile.connection) from exc
            self._looked_at = time.monotonic() - self._refresh_seconds + KEY_LOOKUP_SECONDS
            return
        if self._maker is None or self._maker.kid != key.kid:
            self._maker = DataKeyMaker(key.jwk, key.kid)
        self._looked_at = time.monotonic()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()
