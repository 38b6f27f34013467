"""The parties of the demo, each with its own login and keys: they send, hear what became of it, and receive.

Everything goes over Kafka through the public client, as a party's own software would do it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Self, TypeVar

from broker.client import Consumer, Event, Producer, Received, Result, Status, StatusConsumer
from broker.demo import story
from broker.demo.stage import Stage
from broker.errors import BrokerError

PATIENCE_SECONDS: Final = 60.0
SENDERS: Final = (
    story.SIS, story.MBO_SIS, story.SHOP, story.PUBLISHER, story.TEST_PUBLISHER, story.PORTAL, story.STRANGER,
)  # fmt: skip
# Who reads which family. A delivery to anything else would be an error of the broker, and is told as one.
INBOXES: Final = {
    story.SIS: ("order", "usage", "result"),
    story.MBO_SIS: ("order", "usage", "result"),
    story.SHOP: ("order", "licence", "usage", "roster"),
    story.PUBLISHER: ("order", "licence", "roster", "connection", "control"),
    story.TEST_PUBLISHER: ("roster", "result"),
    story.PORTAL: ("licence", "usage", "result", "roster", "connection", "control"),
    story.SUPPORT: ("result",),
}
Found = TypeVar("Found")
# Receivers that are the broker itself.
OURSELVES: Final = frozenset({"vault", "registry"})


@dataclass(slots=True)
class Told:
    """An event of the demo: what was sent, what became of it, and what came out where.

    Attributes:
        what: in a few words, for the report.
        results: the newest outcome, one for each receiver.
        arrived: what each receiver read, opened with its own key.
    """

    what: str
    sender: str
    event: Event
    results: tuple[Result, ...] = ()
    arrived: dict[str, Received] = field(default_factory=dict)

    @property
    def codes(self) -> set[str]:
        """The codes of its outcomes."""
        return {result.code for result in self.results}


class Chain:
    """All parties at once. Use it with `async with`."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._tasks: list[asyncio.Task[None]] = []
        self._stops: list[Callable[[], Awaitable[None]]] = []
        self._producers: dict[str, Producer] = {}
        self._consumers: list[Consumer] = []
        self._moved = asyncio.Condition()
        self._failure: BaseException | None = None
        self.statuses: dict[str, list[Status]] = {party: [] for party in SENDERS}
        self.received: dict[tuple[str, str], list[Received]] = {
            (party, family): [] for party, families in INBOXES.items() for family in families
        }
        self.told: list[Told] = []
        self.sent: Counter[str] = Counter()
        self._answers: defaultdict[tuple[str, str], list[Status]] = defaultdict(list)
        self._asked: Counter[tuple[str, str]] = Counter()
        self._by_id: dict[tuple[str, str, str], Received] = {}

    async def __aenter__(self) -> Self:
        try:
            await asyncio.gather(
                *(self._start_sender(party) for party in SENDERS),
                *(self._start_inbox(party, family) for party, family in self.received),
            )
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stop()

    async def _start_sender(self, party: str) -> None:
        profile = self._stage.profile(party)
        self._producers[party] = await Producer(profile).start()
        outcomes = await StatusConsumer(profile, group=f"demo-{time.time_ns()}").start()
        self._stops.append(outcomes.stop)
        self._follow(outcomes.statuses(), lambda status: self._answered(party, status))

    async def _start_inbox(self, party: str, family: str) -> None:
        consumer = Consumer(self._stage.profile(party), family, group=f"demo-{time.time_ns()}")
        await consumer.start()
        self._stops.append(consumer.stop)
        self._consumers.append(consumer)
        self._follow(consumer.events(), lambda received: self._arrived(party, family, received))

    def _follow(self, records: AsyncIterator[Any], take: Callable[[Any], None]) -> None:
        self._tasks.append(asyncio.create_task(self._read(records, take)))

    async def _stop(self) -> None:
        """All at once: one by one, thirty goodbyes would take their time."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        stops = [*self._stops, *(producer.stop for producer in self._producers.values())]
        await asyncio.gather(*(stop() for stop in stops), return_exceptions=True)

    async def _read(self, records: AsyncIterator[Any], take: Callable[[Any], None]) -> None:
        try:
            async for record in records:
                async with self._moved:
                    take(record)
                    self._moved.notify_all()
        except Exception as error:  # noqa: BLE001 - whoever waits is told, and raises it
            async with self._moved:
                self._failure = error
                self._moved.notify_all()

    def _answered(self, party: str, status: Status) -> None:
        self.statuses[party].append(status)
        self._answers[party, status.event_id].append(status)

    def _arrived(self, party: str, family: str, received: Received) -> None:
        self.received[party, family].append(received)
        self._by_id[party, family, received.event.event_id] = received

    # ---- what chapters do

    def producer(self, party: str) -> Producer:
        """A party's own producer, for what has a function of its own in the client."""
        return self._producers[party]

    async def send(self, party: str, what: str, event: Event) -> Told:
        """Send one event; comes back when its outcome is there, and whatever was delivered has been read."""
        (told,) = await self.send_all(party, [(what, event)])
        return told

    async def send_all(self, party: str, events: Iterable[tuple[str, Event]]) -> list[Told]:
        """Send several at once, each with what it is in a few words; else as `send`."""
        told = [Told(what, party, event) for what, event in events]
        for one in told:
            self._asked[party, one.event.event_id] += 1
        self.sent[party] += len(told)
        await self._producers[party].send_many(one.event for one in told)
        self.told += told
        await self._settle(told)
        return told

    async def again(self, told: Told) -> None:
        """Wait for one outcome more of an event, such as after it was parked."""
        self._asked[told.sender, told.event.event_id] += 1
        await self._settle([told])

    async def outcome(self, party: str, unknown: Iterable[str]) -> Status:
        """Wait for an outcome of an event whose id the broker could not read: one that is none of these."""
        known = {*unknown, *(one.event.event_id for one in self.told)}

        def find() -> Status | None:
            return next((s for s in self.statuses[party] if s.event_id not in known), None)

        return await self._until(find, "the outcome of a damaged event")

    async def arrival(self, party: str, family: str, wanted: Callable[[Received], bool], what: str) -> Received:
        """Wait for something that a party is to receive."""
        return await self._until(lambda: next(filter(wanted, self.received[party, family]), None), what)

    async def arrivals(self, party: str, family: str, wanted: Callable[[Received], bool], count: int) -> list[Received]:
        """Wait until a party has received so many."""

        def find() -> list[Received] | None:
            found = [received for received in self.received[party, family] if wanted(received)]
            return found if len(found) >= count else None

        return await self._until(find, f"{count} {family} events for {party}")

    def check_whole(self) -> None:
        """No receiver misses a record.

        Raises:
            BrokerError: `demo.incomplete`.
        """
        for consumer in self._consumers:
            if consumer.gaps:
                raise BrokerError(f"{consumer.topic} misses records: {consumer.gaps}", code="demo.incomplete")

    # ---- waiting

    async def _settle(self, told: list[Told]) -> None:
        for one in told:
            key = one.sender, one.event.event_id
            one.results = (await self._until(partial(self._newest, key), f"the outcome of {one.what}")).results
            for result in one.results:
                if result.outcome == "DELIVERED" and result.receiver is not None and result.receiver not in OURSELVES:
                    place = result.receiver, one.event.family, one.event.event_id
                    if place[:2] not in self.received:
                        raise BrokerError(f"{place[0]} was not to get {one.what}", code="demo.surprise")
                    found = await self._until(partial(self._by_id.get, place), f"{one.what} at {place[0]}")
                    one.arrived[result.receiver] = found

    def _newest(self, key: tuple[str, str]) -> Status | None:
        answers = self._answers[key]
        return answers[-1] if len(answers) >= self._asked[key] else None

    async def _until(self, find: Callable[[], Found | None], what: str) -> Found:
        """Wait till there is something to find, or say what is missing."""
        found = find()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), self._moved:
                while found is None:
                    if self._failure is not None:
                        raise self._failure
                    await self._moved.wait()
                    found = find()
        except TimeoutError:
            raise BrokerError(
                f"{what} did not come within {PATIENCE_SECONDS:.0f} s; the worker's log says more",
                code="demo.incomplete",
            ) from None
        return found


async def together(*work: Coroutine[Any, Any, Told]) -> list[Told]:
    """What several parties do at the same time."""
    return list(await asyncio.gather(*work))
