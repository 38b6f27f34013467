"""A worker that writes at least once: the same worker, without transactions. For comparison only.

    python -m bench.lax worker --connection ...

It writes the same records to the same partitions and waits until they are acknowledged (`acks=all`); nothing begins,
ends, fences or settles. After a crash it would decide again over what it had written, so it is of no use but to tell
what a transaction costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition

from broker.cli import main
from broker.engine import clients, takeover
from broker.engine.config import EngineConfig
from broker.engine.transaction import LaneProducer, sending


class LaxProducer(LaneProducer):
    """Does nothing where a lane begins and ends a transaction."""

    async def begin_transaction(self) -> None:
        """Nothing."""

    def include(self, places: Iterable[TopicPartition]) -> None:
        """Nothing."""

    async def commit(self, look: Callable[[], object]) -> None:
        """What was acknowledged is there already."""
        look()


def lax_producer(settings: dict[str, Any], lane: str, config: EngineConfig) -> LaxProducer:  # noqa: ARG001
    """As a lane's, without its transactional id."""
    return LaxProducer(**sending(settings, config))


async def nothing_to_settle(
    producer: AIOKafkaProducer,  # noqa: ARG001
    partitions: Iterable[TopicPartition],  # noqa: ARG001
) -> dict[TopicPartition, int]:
    """No transaction can be open."""
    return {}


if __name__ == "__main__":
    clients.lane_producer = lax_producer  # type: ignore[attr-defined, assignment]
    takeover.settle = nothing_to_settle  # type: ignore[attr-defined]
    main()
