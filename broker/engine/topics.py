"""Which topics exist, how many partitions they have, and whether a topic is still the same one."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from typing import Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError, KafkaError

from broker.engine.clients import Clients
from broker.errors import ConfigError, TransientError
from broker.kafka.connection import KafkaConnection

ABSENT_S: Final = 2.0  # how long "there is no such topic" is believed


class TopicCounts:
    """Partition counts from the cluster's metadata, all topics at once.

    `partitions` answers at once, from memory; a topic that was not there is looked for again with `recheck`.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._client: AIOKafkaClient | None = None
        self._counts: dict[str, int] = {}
        self._refreshed = float("-inf")
        self._lock = asyncio.Lock()
        self.missed: set[str] = set()

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has; 0 if there is none that we know of."""
        count = self._counts.get(topic, 0)
        if not count:
            self.missed.add(topic)
        return count

    def names(self) -> frozenset[str]:
        """All topics we may see."""
        return frozenset(self._counts)

    def matching(self, pattern: str) -> list[str]:
        """The topics whose name matches, in order."""
        return sorted(name for name in self._counts if re.match(pattern, name))

    async def refresh(self) -> None:
        """Ask the cluster.

        Raises:
            KafkaConnectionError: no broker answers. KafkaError: another one, such as a login that is refused.
        """
        async with self._lock:
            try:
                if self._client is None:
                    self._client = self._clients.metadata()
                    await self._client.bootstrap()
                cluster = await self._client.fetch_all_metadata()
            except BaseException as error:
                await self._close()
                if type(error) is KafkaError:  # aiokafka: the brokers went away since `bootstrap`
                    raise KafkaConnectionError(str(error)) from error
                raise
            found = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in cluster.topics()}
            if found or not self._counts:  # a broker that just started may know no topic yet
                self._counts = found
            self._refreshed = time.monotonic()

    async def recheck(self, missed: Iterable[str]) -> bool:
        """Look once more for topics that were not there; True if one is."""
        if time.monotonic() - self._refreshed > ABSENT_S:
            await self.refresh()
        return any(self._counts.get(topic) for topic in missed)

    async def require(self, names: Iterable[str], *, patience_s: float = 10.0) -> None:
        """Check that topics exist; metadata of new ones may be late.

        Raises:
            ConfigError: `topic.missing`.
        """
        deadline = time.monotonic() + patience_s
        while True:
            await self.refresh()
            absent = sorted(name for name in names if not self._counts.get(name))
            if not absent:
                return
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"These topics do not exist, or may not be seen by this user: {', '.join(absent)}. "
                    "Run: broker topics apply",
                    code="topic.missing",
                )
            await asyncio.sleep(0.3)

    async def close(self) -> None:
        """Close the connection."""
        async with self._lock:
            await self._close()

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()


def topic_identity(connection: KafkaConnection, topic: str) -> Callable[[], str]:
    """A function that tells which cluster and which incarnation of a topic this is: both have ids of their own.

    It blocks for at most some seconds: call it in a thread.

    Raises:
        TransientError: from the function, when Kafka does not answer.
    """

    def ask() -> str:
        from confluent_kafka import KafkaException, TopicCollection
        from confluent_kafka.admin import AdminClient

        client = AdminClient({**connection.confluent(), "log_level": 0})
        try:
            cluster = client.list_topics(topic, timeout=5).cluster_id
            described = client.describe_topics(TopicCollection([topic]), request_timeout=5)[topic].result()
        except KafkaException as error:
            raise TransientError(f"Kafka did not say which topic {topic} is.", code="topic.identity") from error
        return f"{cluster}/{described.topic_id}"

    return ask
