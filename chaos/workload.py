"""What is sent while faults fall: numbered events of two publishers about many pupils, enrolments at any time, some
events twice, and records that are no events at all. Knows afterwards what Kafka acknowledged.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from broker.client import Event, Producer, Profile, Sent
from broker.errors import ContractError, TransientError
from broker.kafka.closing import told_to_end
from chaos.history import Place, Seen
from chaos.world import PUBLISHERS, SIS, Pupil, enrolment, usage

ROUND_S: Final = 0.1
RETRY_S: Final = 0.5
GIVE_UP_S: Final = 60.0  # for what is still not acknowledged when the time is over
SOON: Final = 0.6  # share of the pupils whose schools are in time
SOON_S: Final = 4.0
AGAIN: Final = 0.03  # share of events that are sent twice
AGAIN_WITHIN_S: Final = 8.0  # well within what a lane remembers
BSN: Final = b"182071649"  # published test number; belongs to nobody


@dataclass
class Ledger:
    """What was sent.

    Attributes:
        pupils: whom each event is about. acknowledged: what Kafka said to have. repeated: sent once more in doubt.
    """

    pupils: dict[str, str | None] = field(default_factory=dict)
    acknowledged: list[Seen] = field(default_factory=list)
    repeated: int = 0


class Sender:
    """One party's client: sends until Kafka acknowledged, whatever that takes, in the order it was told."""

    def __init__(self, profile: Profile, ledger: Ledger, note: Callable[[str], None]) -> None:
        self._profile, self._ledger, self.note = profile, ledger, note
        self._waiting: list[Event] = []
        self._ended = False

    def tell(self, event: Event, pupil: Pupil) -> None:
        """Send this soon."""
        self._ledger.pupils[event.event_id] = pupil.name
        self._waiting.append(event)

    def finish(self) -> None:
        """End when all is sent."""
        self._ended = True

    async def run(self) -> None:
        """Send until told to finish; a client that failed is replaced, as a party's software would.

        Raises:
            ContractError: the run's own events are wrong.
        """
        deadline = float("inf")
        while self._waiting or not self._ended:
            try:
                async with Producer(self._profile) as producer:
                    more = True
                    while more:
                        more = await self._round(producer)
                        await asyncio.sleep(ROUND_S)
            except ContractError:
                raise
            except (Exception, asyncio.CancelledError) as error:  # of any kind, while Kafka is away
                if told_to_end():
                    raise
                self.note(f"{self._profile.party}: {type(error).__name__}")
                await asyncio.sleep(RETRY_S)
            if self._ended:
                deadline = min(deadline, time.monotonic() + GIVE_UP_S)
                if time.monotonic() > deadline:
                    return

    async def _round(self, producer: Producer) -> bool:
        """Send what waits; whether there may be more.

        Raises:
            TransientError: some of it was perhaps not taken, and waits again.
        """
        events, self._waiting = self._waiting, []
        queued: list[asyncio.Future[Sent]] = []
        try:
            for event in events:
                queued.append(await producer.send_soon(event))  # noqa: PERF401 - some are, when one fails
        finally:
            told = await asyncio.gather(*queued, return_exceptions=True)
            failed = [event for event, one in zip(events, told, strict=False) if isinstance(one, BaseException)]
            failed += events[len(told) :]
            self._waiting = failed + self._waiting
            self._ledger.repeated += len(failed)
            self._ledger.acknowledged += [
                Seen(Place(one.topic, one.partition, one.offset), one.event_id)
                for one in told
                if not isinstance(one, BaseException)
            ]
        if failed:
            raise TransientError("Kafka did not take all.", code="chaos.again")
        return bool(self._waiting) or not self._ended


class Workload:
    """See the module.

    Args:
        profiles: of the SIS and the publishers.
        rate: events of publishers in a second.
        seconds: within which pupils come; who has not come when all ends comes then.
        note: where to write what clients met.
    """

    def __init__(
        self,
        profiles: dict[str, Profile],
        pupils: Sequence[Pupil],
        random: Random,
        rate: float,
        seconds: float,
        note: Callable[[str], None],
    ) -> None:
        self.ledger = Ledger()
        self._profiles, self._pupils, self._random = profiles, pupils, random
        self._rate, self._seconds = rate, seconds
        self._senders = {party: Sender(profile, self.ledger, note) for party, profile in profiles.items()}
        self._due: list[tuple[float, int, str, Event, Pupil]] = []  # a heap: when, number, sender
        self._number, self._over = 0, False

    def finish(self) -> None:
        """Send what is left, and end; from any thread."""
        self._over = True

    async def run(self) -> None:
        """Send until told to finish, and until all that was sent is acknowledged."""
        began = time.monotonic()
        for pupil in self._pupils:
            if pupil.comes:
                self._plan_enrolment(began, pupil)
        tasks = [asyncio.create_task(sender.run()) for sender in self._senders.values()]
        told = 0
        while not self._over:
            now = time.monotonic()
            while told < (now - began) * self._rate:
                self._use(now, told)
                told += 1
            self._tell_what_is_due(now)
            await asyncio.sleep(ROUND_S)
        self._tell_what_is_due(float("inf"))
        for sender in self._senders.values():
            sender.finish()
        await asyncio.gather(*tasks)

    def _plan_enrolment(self, began: float, pupil: Pupil) -> None:
        """Most soon, some late; some twice. An ECK iD that nobody knows is refused: those come soon."""
        random, event = self._random, enrolment(pupil)
        soon = pupil.naming == "eck" or random.random() < SOON
        moment = (min(SOON_S, self._seconds) if soon else self._seconds * 0.9) * random.random()
        self._plan(began + moment, SIS, event, pupil)
        if random.random() < 0.1:
            self._plan(began + moment + AGAIN_WITHIN_S * random.random(), SIS, event, pupil)

    def _use(self, now: float, number: int) -> None:
        random = self._random
        publisher, pupil = random.choice(tuple(PUBLISHERS)), random.choice(self._pupils)
        event = usage(pupil, publisher, number)
        self._senders[publisher].tell(event, pupil)
        if random.random() < AGAIN:
            self._plan(now + AGAIN_WITHIN_S * random.random(), publisher, event, pupil)

    def _plan(self, moment: float, party: str, event: Event, pupil: Pupil) -> None:
        self._number += 1
        heapq.heappush(self._due, (moment, self._number, party, event, pupil))

    def _tell_what_is_due(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            _, _, party, event, pupil = heapq.heappop(self._due)
            self._senders[party].tell(event, pupil)

    # ---- what is no event

    async def poison(self) -> None:
        """Records that a party's broken software could write; each gets its decision."""
        party = self._random.choice(tuple(PUBLISHERS))
        profile = self._profiles[party]
        async with Producer(profile) as client:
            maker = await client._fresh_key()
            event = usage(self._pupils[0], party, 1)
            key, value, headers = client.seal(event, maker)
        broken = value[:-1] + bytes([value[-1] ^ 1])
        noise = self._random.randbytes(self._random.choice((3, 500, 200_000)))
        records: list[tuple[bytes | None, bytes | None, Any]] = [
            (key, noise, headers), (key, None, headers), (None, value, headers), (BSN, value, headers),
            (key, broken, headers), (key, value, []), (key, value[:40], headers), (key, value, [("data-key", b"x")]),
        ]  # fmt: skip
        async with AIOKafkaProducer(**profile.connection.aiokafka(), acks="all") as producer:
            for poison_key, poison_value, poison_headers in self._random.sample(records, 4):
                place = self._random.randrange(len(await producer.partitions_for(f"in.{party}")))
                await producer.send_and_wait(
                    f"in.{party}", poison_value, key=poison_key, headers=poison_headers, partition=place
                )

    async def unparsable(self) -> None:
        """A record with a header whose name is not UTF-8: Kafka takes it, and aiokafka can not read it."""
        party = self._random.choice(tuple(PUBLISHERS))
        async with AIOKafkaProducer(**self._profiles[party].connection.aiokafka()) as producer:
            place = self._random.randrange(len(await producer.partitions_for(f"in.{party}")))
            batch = producer.create_batch()
            batch._builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, 0, 100_000)
            batch.append(key=b"k" * 32, value=b"no event", timestamp=None, headers=[(_NotUtf8("x"), b"1")])
            await (await producer.send_batch(batch, f"in.{party}", partition=place))


class _NotUtf8(str):
    """A header name that encodes to bytes which are not UTF-8."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:  # noqa: ARG002
        return b"\xff\xfe"
