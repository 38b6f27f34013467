"""Two readers of `vault.identity`: of what is committed, and of whatever stands there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from broker.engine.clients import Clients
from broker.engine.ending import end_within
from broker.errors import TransientError
from broker.exchange.model import VAULT
from broker.kafka.reading import partitions_of

PATIENCE_S: Final = 60.0  # for lanes' open transactions, which end within ten seconds or at the next take-over
POLL_MS: Final = 100
LOOK_S: Final = 0.02
STOP_S: Final = 5.0

Record = tuple[bytes, bytes | None]


class VaultReading:
    """Reads partition after partition; a context manager.

    Attributes:
        places: all partitions.
    """

    def __init__(self, clients: Clients) -> None:
        def consumer(isolation: str) -> AIOKafkaConsumer:
            return clients.consumer(isolation_level=isolation, enable_auto_commit=False, auto_offset_reset="none")

        self._committed, self._all = consumer("read_committed"), consumer("read_uncommitted")
        self.places: list[TopicPartition] = []

    async def __aenter__(self) -> VaultReading:
        try:
            await self._committed.start()
            await self._all.start()
            self.places = await partitions_of(self._committed, VAULT, PATIENCE_S)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        for consumer in (self._committed, self._all):
            await end_within(consumer.stop(), STOP_S)

    async def committed(self, place: TopicPartition) -> AsyncIterator[tuple[list[Record], int]]:
        """Committed records of a partition, from its beginning to where it ends now, and how far that is read.

        The end is where anything stands, decided or not: what a lane left open is waited for.

        Raises:
            TransientError: `vault.blocked`: a transaction there does not end.
        """
        end = (await self._all.end_offsets([place]))[place]
        position = (await self._committed.beginning_offsets([place]))[place]
        self._committed.assign([place])
        self._committed.seek(place, position)
        yield [], position
        moved = time.monotonic()
        while position < end:
            fetched = await self._committed.getmany(place, timeout_ms=POLL_MS)
            before, position = position, await self._committed.position(place)
            if position > before:  # markers and what was aborted move it as well
                moved = time.monotonic()
                yield [(record.key or b"", record.value) for record in fetched.get(place, [])], position
            elif time.monotonic() - moved > PATIENCE_S:
                raise _blocked(place)

    def watch(self, place: TopicPartition, offset: int) -> None:
        """Have `seen` begin here."""
        self._all.assign([place])
        self._all.seek(place, offset)

    async def seen(self, place: TopicPartition, last: int, mine: Mapping[bytes, bytes]) -> set[bytes]:
        """Go on to behind an offset; the keys of all records on the way that are not one of mine, decided or not.

        Args:
            mine: value by key; no value is ever written twice, since each is sealed with another nonce.
        """
        found: set[bytes] = set()
        moved = time.monotonic()
        while await self._all.position(place) <= last:
            fetched = (await self._all.getmany(place, timeout_ms=POLL_MS)).get(place, [])
            found.update(record.key for record in fetched if record.key and mine.get(record.key) != record.value)
            if fetched:
                moved = time.monotonic()
            elif time.monotonic() - moved > PATIENCE_S:
                raise _blocked(place)
        return found

    async def decided(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Wait until all that stands up to these offsets is committed or aborted, as any reader sees it.

        Raises:
            TransientError: `vault.blocked`.
        """
        began, places = time.monotonic(), list(offsets)
        while True:
            ends = await self._committed.end_offsets(places)
            open_still = [place for place in places if ends[place] <= offsets[place]]
            if not open_still:
                return
            if time.monotonic() - began > PATIENCE_S:
                raise _blocked(open_still[0])
            await asyncio.sleep(LOOK_S)


def _blocked(place: TopicPartition) -> TransientError:
    return TransientError(f"A transaction on {place.topic}/{place.partition} does not end.", code="vault.blocked")
