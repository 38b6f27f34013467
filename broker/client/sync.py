"""The client for software that does not use asyncio: the same, one call at a time.

An event loop of its own runs in a thread, so that connections stay alive between calls.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Iterator
from typing import Any, Self, TypeVar

from broker.client.consumer import Consumer, Received
from broker.client.counting import CountBook
from broker.client.producer import Producer, Sent
from broker.client.profile import Profile
from broker.client.records import Event
from broker.client.seed import answer_seed

T = TypeVar("T")


class _Loop:
    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="broker-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Blocking:
    """Base: a client with `start` and `stop` as a context manager, on a loop of its own."""

    def __init__(self, client: Producer | Consumer) -> None:
        self._client = client
        self._loop = _Loop()

    def __enter__(self) -> Self:
        try:
            self._loop.run(self._client.start())
        except BaseException:
            self._loop.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self._loop.run(self._client.stop())
        finally:
            self._loop.close()


class SyncProducer(_Blocking):
    """`Producer`, blocking.

    with SyncProducer(Profile.load("delta")) as producer:
        producer.send(event)
    """

    def __init__(self, profile: Profile, *, counting: CountBook | None = None) -> None:
        self.producer = Producer(profile, counting=counting)
        super().__init__(self.producer)

    def send(self, event: Event) -> Sent:
        """See `Producer.send`."""
        return self._loop.run(self.producer.send(event))

    def send_many(self, events: Iterable[Event]) -> list[Sent]:
        """See `Producer.send_many`."""
        return self._loop.run(self.producer.send_many(events))

    def answer_seed(self, request: Event, objects: Iterable[Event]) -> int:
        """See `broker.client.answer_seed`."""
        return self._loop.run(answer_seed(self.producer, request, objects))


class SyncConsumer(_Blocking):
    """`Consumer`, blocking: iterate over it."""

    def __init__(
        self,
        profile: Profile,
        family: str,
        *,
        group: str = "default",
        from_beginning: bool = True,
        counting: CountBook | None = None,
    ) -> None:
        self.consumer = Consumer(profile, family, group=group, from_beginning=from_beginning, counting=counting)
        super().__init__(self.consumer)

    def events(self, idle_seconds: float | None = None) -> Iterator[Received]:
        """See `Consumer.events`."""
        source = self.consumer.events(idle_seconds)
        while True:
            try:
                yield self._loop.run(anext(source))  # type: ignore[arg-type]
            except StopAsyncIteration:
                return

    def __iter__(self) -> Iterator[Received]:
        return self.events()
