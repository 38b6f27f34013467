"""The engine's seam to Kafka: everything it reads or writes goes through clients that are made here.

The simulation (`tests/simulation`) puts a cluster in memory behind it, under a scheduler of its own; the engine's code
is the same.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.client import AIOKafkaClient

from broker.engine.config import EngineConfig
from broker.engine.rescue import read_raw
from broker.engine.transaction import LaneProducer, lane_producer
from broker.kafka.closing import ClosingConsumer
from broker.kafka.connection import KafkaConnection


class Clients(Protocol):
    """Makes clients of one cluster, with the rights of one user; in aiokafka's form, whatever is behind them."""

    @property
    def address(self) -> str:
        """Where the cluster is, for people."""

    def consumer(self, **settings: Any) -> AIOKafkaConsumer:
        """One that is not started yet; settings as aiokafka's."""

    def producer(self, lane: str, config: EngineConfig) -> LaneProducer:
        """One that is not started yet; to start it shuts out every older one of this lane."""

    def metadata(self) -> AIOKafkaClient:
        """For the names and sizes of topics; not started yet."""

    async def unparsed(self, group: str, partition: TopicPartition, offset: int) -> ConsumerRecord | None:
        """A record that a consumer can not parse, without its headers; None when it does not come."""


class KafkaClients:
    """Clients of a real cluster.

    Args:
        settings: for aiokafka, over those of the connection.
    """

    def __init__(self, connection: KafkaConnection, **settings: Any) -> None:
        self._connection = connection
        self._settings = connection.aiokafka() | settings

    @classmethod
    def of_engine(cls, connection: KafkaConnection, config: EngineConfig) -> KafkaClients:
        """With the engine's time-out of one request."""
        return cls(connection, request_timeout_ms=int(config.request_timeout_s * 1000))

    @property
    def address(self) -> str:
        """See Clients."""
        return self._connection.bootstrap

    def consumer(self, **settings: Any) -> AIOKafkaConsumer:
        """See Clients."""
        return ClosingConsumer(**self._settings, **settings)

    def producer(self, lane: str, config: EngineConfig) -> LaneProducer:
        """See Clients."""
        return lane_producer(self._settings, lane, config)

    def metadata(self) -> AIOKafkaClient:
        """See Clients."""
        return AIOKafkaClient(**self._settings)

    async def unparsed(self, group: str, partition: TopicPartition, offset: int) -> ConsumerRecord | None:
        """See Clients."""
        return await asyncio.to_thread(read_raw, self._connection, group, partition, offset)
