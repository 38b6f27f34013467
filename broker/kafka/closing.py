"""A consumer that can be closed at any moment; and cancellations that are a library's own.

aiokafka 0.14 lets a CancelledError of its own tasks escape from `stop()` and others while Kafka is away. It is no
Exception, so it ends the task that called, silently. Out of `stop()` it also leaves connections open.
"""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer


def told_to_end() -> bool:
    """Whether a CancelledError that was just caught is meant for this task."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class ClosingConsumer(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka has no types
    """An AIOKafkaConsumer whose `stop` closes all it has, whatever its tasks are at, and raises only what is meant."""

    async def stop(self) -> None:
        """See AIOKafkaConsumer."""
        try:
            await super().stop()
        except asyncio.CancelledError:
            if told_to_end():
                raise
            # Awaiting a fetch that it had cancelled, it gave up: before the other fetches, and before the connections.
            if self._fetcher is not None:
                left = [self._fetcher._fetch_task, *self._fetcher._pending_tasks]
                for task in left:
                    task.cancel()
                await asyncio.gather(*left, return_exceptions=True)
            await self._client.close()
