"""A party counts what it sends and receives, signs it, and gives it to the auditors: `audit.counts`.

What it counted stands in one file of its profile. It is written before the reading group's position is committed: a
record that the group does not give again is in the file. What it gives again is passed over by its number. So a crash
anywhere makes neither a gap nor a number that counts twice; the same with notes, which stand in the file before they
are sent, and are sent again to the byte.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.log.note import NoteError, Signer, check_name
from broker.client.profile import Profile
from broker.client.published import missing_topic
from broker.client.tally import BLOCK, Input, Tally
from broker.durable import replace
from broker.errors import ConfigError

log = structlog.get_logger("broker.client")

TOPIC: Final = "audit.counts"
COUNT_KEY: Final = "count-key"  # the seed of the Ed25519 key that signs a party's counts
EVERY_S: Final = 3_600.0
SEND_S: Final = 30.0
STOP_S: Final = 5.0  # with Kafka away it would wait for ever


def count_signer(profile: Profile) -> Signer:
    """The key that signs the party's counts; named as the party.

    Raises:
        ConfigError: `count.key`: the profile has none.
    """
    try:
        seed = profile.keys.secret(COUNT_KEY)
    except ConfigError as error:
        if error.code != "keys.missing":
            raise
        raise ConfigError(
            f"The profile of {profile.party} has no key to sign counts with; make one with "
            f"`broker party count-key {profile.party}`, and give the line that it prints to the operator.",
            code="count.key",
        ) from None
    return Signer(profile.party, Ed25519PrivateKey.from_private_bytes(seed))


def _told(sentence: str) -> None:
    log.warning("client.count", text=sentence)


class CountBook:
    """Counts for one profile: give it to the consumers and producers of one program, as `counting=`.

        book = CountBook(Profile.load("portaal"), "broker.example/audit")
        async with Consumer(profile, "usage", counting=book) as consumer: ...

    Only who sees everything can count it. So count in the program that reads all partitions of a family, and in the
    one program that sends; with several processes that share a party's partitions, none of them can. Count from the
    first record on: a new reading group that begins at the beginning will do, as long as the topic still has it all.

    A flow that can not be counted on (a number is missing) is told in a sentence; the others go on.

    Args:
        origin: the name of the installation's logs, such as `broker.example/audit`; the operator tells it.
        file: in the profile's folder. Programs of one party that count different things need one each.
        every_s: seconds between two counts of a flow; one more is sent at the end.
        tell: is given sentences for a person; by default they are logged.

    Raises:
        ConfigError: `count.origin`, the name is none of logs; `count.key`; `count.folder`, the profile has no folder.
    """

    def __init__(
        self,
        profile: Profile,
        origin: str,
        *,
        file: str = "counts.json",
        every_s: float = EVERY_S,
        tell: Callable[[str], object] = _told,
    ) -> None:
        try:
            check_name(origin)
        except NoteError as error:
            raise ConfigError(f"{error}. Ask the operator for the name of the logs.", code="count.origin") from None
        if profile.folder is None:
            raise ConfigError("Counts stand in the profile's folder, and this one has none.", code="count.folder")
        self._profile, self._path, self._every_s, self._tell = profile, profile.folder / file, every_s, tell
        self._signer = count_signer(profile)
        self._tally = Tally(origin, profile.party, tell)
        self._users = 0
        self._handle = -1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._writing, self._telling, self._ending = asyncio.Lock(), asyncio.Lock(), asyncio.Event()
        self._disk, self._version, self._written = threading.Lock(), 0, 0

    # ---- for consumers and producers

    async def open(self) -> None:
        """Begin, or join who counts in this book already.

        Raises:
            ConfigError: `count.busy`, another process counts in this file; `count.file`, it can not be read;
                `count.origin`, it is of other logs; `count.loop`, the book is in use in another event loop.
        """
        loop = asyncio.get_running_loop()
        if self._users and self._loop is not loop:
            raise ConfigError(
                "A book of counts is used in two event loops. Give each blocking client a book with a file of its own.",
                code="count.loop",
            )
        if not self._users:
            self._handle = _lock(self._path)
            try:
                self._read()
            except BaseException:
                os.close(self._handle)
                raise
            self._ending.clear()
            self._loop, self._task = loop, asyncio.create_task(self._tell_now_and_then())
        self._users += 1

    async def close(self) -> None:
        """Leave; the last one sends what was counted."""
        self._users -= 1
        if self._users:
            return
        self._ending.set()
        try:
            if self._task is not None:
                await self._task
            await asyncio.sleep(0)  # Kafka's last answers are counted by callbacks
            self._tally.rest()
            await self.tell()
        finally:
            os.close(self._handle)

    def read(self, flow: str, seq: int, traceparent: str) -> None:
        """A record counts as processed (see Tally)."""
        self._tally.read(flow, seq, traceparent)

    async def begin(self, topic: str, partition: int) -> Input:
        """A record is about to be sent; returns once it is written down that one may be.

        Raises:
            ConfigError: `count.file`.
        """
        its = self._tally.input(topic, partition)
        while its.begun >= its.limit:
            await self.save(more=its)
        its.begun += 1
        its.flying += 1
        return its

    def queue(self, its: Input, answer: asyncio.Future[Any]) -> None:
        """See Tally."""
        self._tally.queue(its, answer)

    def drop(self, its: Input) -> None:
        """See Tally."""
        self._tally.drop(its)

    async def save(self, *, more: Input | None = None) -> None:
        """Have what was counted on the disk.

        Args:
            more: a partition to which a block of records may be sent after it.

        Raises:
            ConfigError: `count.file`: it can not be written.
        """
        async with self._writing:
            if more is not None and more.begun >= more.limit:
                more.promised = more.begun + BLOCK
            elif not self._tally.changed:
                return
            self._tally.changed, self._version = False, self._version + 1
            data = json.dumps(self._tally.pack(), separators=(",", ":")).encode()
            try:
                await asyncio.to_thread(self._write, self._version, data)
            except BaseException as error:
                self._tally.changed = True
                if not isinstance(error, OSError):
                    raise
                raise ConfigError(
                    f"What was counted can not be written to {self._path}: {error.strerror}.", code="count.file"
                ) from error
            if more is not None:
                more.limit = max(more.limit, more.promised)

    def _write(self, version: int, data: bytes) -> None:
        """In a thread, which goes on when who waited for it was cancelled: an older version must not come out last."""
        with self._disk:
            if version > self._written:
                replace(self._path, data, 0o600)
                self._written = version

    # ---- notes

    async def tell(self) -> None:
        """Sign what is new, and send all that was not sent yet. What can not be sent is told, and kept.

        Raises:
            ConfigError: `count.file`.
        """
        async with self._telling:
            for count in self._tally.counts():
                self._tally.unsent[count.flow] = count.sign(self._signer)
            await self.save()
            # aiokafka lets a CancelledError of its own tasks escape while Kafka is away: that is a failure like others.
            sending = asyncio.wait_for(self._send(dict(self._tally.unsent)), SEND_S)
            (error,) = await asyncio.gather(sending, return_exceptions=True)
            if isinstance(error, KafkaError | TimeoutError | ConfigError | asyncio.CancelledError):
                text = str(error) if isinstance(error, ConfigError) else type(error).__name__
                self._tell(f"counts could not be sent, and are kept until the next time: {text}")
            elif error is not None:
                raise error
            await self.save()

    async def _send(self, notes: dict[str, bytes]) -> None:
        if not notes:
            return
        producer = AIOKafkaProducer(**self._profile.connection.aiokafka(), acks="all", enable_idempotence=True)
        try:
            await producer.start()
            await producer.partitions_for(TOPIC)
            for flow, note in notes.items():
                await producer.send_and_wait(TOPIC, note, partition=0)
                del self._tally.unsent[flow]
                self._tally.changed = True
        except (TopicAuthorizationFailedError, UnknownTopicOrPartitionError) as error:
            raise missing_topic(TOPIC, self._profile.party) from error
        finally:
            await asyncio.gather(asyncio.wait_for(producer.stop(), STOP_S), return_exceptions=True)

    async def _tell_now_and_then(self) -> None:
        pause_s = 0.0 if self._tally.unsent else self._every_s
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), pause_s)
                return
            pause_s = self._every_s
            try:
                await self.tell()
            except ConfigError as error:
                self._tell(str(error))

    # ---- the file

    def _read(self) -> None:
        party, origin = self._tally.party, self._tally.origin
        try:
            data = json.loads(self._path.read_bytes())
            if (data["v"], data["party"]) != (1, party):
                raise ValueError
            if data["origin"] != origin:
                raise ConfigError(
                    f"{self._path} counts for other logs than {origin}. Give the name that it was begun with, or "
                    "count in another file.",
                    code="count.origin",
                )
            self._tally.restore(data)
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, LookupError, AttributeError):
            raise ConfigError(
                f"{self._path} is no book of counts of {party}. Restore it as it was last; without it, nothing that "
                "was counted before can be counted on.",
                code="count.file",
            ) from None


def _lock(path: Path) -> int:
    lock = path.with_name(f".{path.name}.lock")
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"{lock} can not be used: {error.strerror}.", code="count.file") from error
    with suppress(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return handle
    os.close(handle)
    raise ConfigError(
        f"Another process counts in {path}. Two would count over each other: end one, or give it a file of its own for "
        "what it alone reads or sends.",
        code="count.busy",
    )
