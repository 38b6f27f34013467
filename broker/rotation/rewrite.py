"""Writes what stands in `vault.identity` anew under the versions of its secrets in use, while lanes write there.

Kafka has no compare-and-swap, but a log has an order: of two records with one key the later one counts. So a record is
rewritten in five steps, many at a time:

    1. read the partition, committed records only, to its end S: each key's last record, and whether it is an old one
    2. begin a transaction and write the same content under the new versions; the last of it stands at P
    3. read what anybody wrote between S and P, decided or not: what stands before P does not change any more
    4. has somebody written one of these keys there, a lane that knows more or an ERASE: abort; else commit
    5. go on once the end of the transaction is to be seen

What a lane writes after P stands behind it and counts: nothing newer is ever covered, and nobody who was erased comes
back. No lane waits, and none need know of it.

A transaction holds back the readers of its partition, so each is short. Killed anywhere, the next run shuts the last
one out, ends what it left open, and finds by reading what is still to be done. An acknowledged end is not proof
(docs/adr/0012): an abort that was not marked would let its records appear with the next commit. Hence step 5, and an
aborted transaction over all partitions at each beginning.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from broker.engine.clients import Clients
from broker.engine.config import EngineConfig
from broker.engine.ending import end_within
from broker.engine.transaction import LaneProducer, pack, settle, stop_producer, write
from broker.errors import ConfigError, TransientError, told
from broker.exchange.model import VAULT, Outgoing
from broker.identity.vault import VaultCipher
from broker.kafka.access import KEY_ROTATOR
from broker.rotation.reading import STOP_S, VaultReading

log = structlog.get_logger("broker.rotation")

CHUNK: Final = 500  # records of one transaction: about 0.2 s in which readers of the partition wait
TRIES: Final = 10
RETRY_S: Final = 1.0


class Progress(Protocol):
    """Is told how far a rewriting is."""

    def partition(self, number: int, of: int, old: int) -> None:
        """A partition was read; so many of its records are under older versions."""

    def rewritten(self, records: int) -> None:
        """So many of them are not any more."""


@dataclass(slots=True)
class _Old:
    """What was read of one partition.

    Attributes:
        records: key -> last record, of those that are to be written anew. end: everything before it was read.
        touched: keys that somebody has written since. They wait for the next round, which reads again.
    """

    records: dict[bytes, bytes] = field(default_factory=dict)
    end: int = 0
    touched: set[bytes] = field(default_factory=set)


class Rewriter:
    """See the module.

    Args:
        clients: of the user `key-rotator`. cipher: of the vault, with all versions, set to those in use.
    """

    def __init__(self, clients: Clients, cipher: VaultCipher, progress: Progress) -> None:
        self._clients, self._cipher, self._progress = clients, cipher, progress

    async def count(self) -> int:
        """How many records are under an older version; writes nothing."""
        async with VaultReading(self._clients) as reading:
            return sum([len((await self._read(reading, place)).records) for place in reading.places])

    async def run(self) -> int:
        """Go on until a whole look at the topic finds nothing under an older version; how many records were rewritten.

        Memory: the old records of one partition, about 0.5 kB each.

        Raises:
            TransientError: `vault.rewriting`: it could not go on. What is done stays done.
            ConfigError: `vault.key`, if a record does not open at all.
        """
        done = tries = 0
        while True:
            try:
                found, rewritten = await self._round()
            except ProducerFenced as error:
                raise _gave_up("another run of this command began, or Kafka ended a transaction") from error
            except (KafkaError, OSError, TransientError) as error:
                tries += 1
                log.info("rotation.retry", error=told(error))
                if tries == TRIES:
                    raise _gave_up(told(error)) from error
                await asyncio.sleep(RETRY_S)
            else:
                if not found:
                    return done
                done, tries = done + rewritten, 0

    async def _round(self) -> tuple[bool, int]:
        """Read all of the topic and rewrite what is old; whether anything was, and how many records that were."""
        producer = self._clients.producer(KEY_ROTATOR, EngineConfig())
        try:
            async with VaultReading(self._clients) as reading:
                await producer.start()  # shuts an earlier run out
                await reading.decided(await settle(producer, reading.places))
                found, done = False, 0
                for place in reading.places:
                    old = await self._read(reading, place)
                    found = found or bool(old.records)
                    self._progress.partition(place.partition, len(reading.places), len(old.records))
                    reading.watch(place, old.end)
                    keys = list(old.records)
                    for first in range(0, len(keys), CHUNK):
                        done += await self._rewrite(producer, reading, place, old, keys[first : first + CHUNK])
                return found, done
        finally:
            await end_within(stop_producer(producer), STOP_S)

    async def _read(self, reading: VaultReading, place: TopicPartition) -> _Old:
        old = _Old()
        unread: set[bytes] = set()  # under a version that was destroyed, if a later record takes its place
        async for records, position in reading.committed(place):
            old.end = position
            for key, raw in records:
                old.records.pop(key, None)
                unread.discard(key)
                if raw is None:
                    continue
                try:
                    if self._cipher.is_older(key, raw):
                        old.records[key] = raw
                except ConfigError:
                    unread.add(key)
                    old.records[key] = raw
        for key in unread:
            self._cipher.decrypt(key, old.records[key])  # raises
        return old

    async def _rewrite(
        self, producer: LaneProducer, reading: VaultReading, place: TopicPartition, old: _Old, keys: list[bytes]
    ) -> int:
        """Steps 2 to 5 with some keys, but for those that were touched; how many were rewritten."""
        while True:
            renewed = {key: self._cipher.renewed(key, old.records[key]) for key in keys if key not in old.touched}
            if not renewed:
                return 0
            await producer.begin_transaction()
            written = await write(
                producer, pack(producer, [Outgoing(VAULT, place.partition, k, raw) for k, raw in renewed.items()])
            )
            last = written[VAULT, place.partition]
            old.touched |= await reading.seen(place, last, renewed)
            alone = old.touched.isdisjoint(renewed)
            await (producer.commit_transaction() if alone else producer.abort_transaction())
            await reading.decided({place: last})
            if alone:
                self._progress.rewritten(len(renewed))
                return len(renewed)


def _gave_up(why: str) -> TransientError:
    return TransientError(
        f"{VAULT} could not be written anew to its end: {why}. What is done stays done; see whether Kafka is well, "
        "then run this again.",
        code="vault.rewriting",
    )
