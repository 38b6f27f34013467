"""A consumer that can be closed at any moment; and cancellations that are a library's own.

aiokafka 0.14 lets a CancelledError of its own tasks escape from `stop()` and others while Kafka is away. It is no
Exception, so it ends the task that called, silently. Out of `stop()` any error leaves connections open, for good:
aiokafka takes it for stopped. And a cancellation that is meant for the caller it may swallow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from aiokafka import AIOKafkaConsumer

CLOSE_S: Final = 5.0


def told_to_end() -> bool:
    """Whether a CancelledError that was just caught is meant for this task."""
    return _told() > 0


def _told() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


class ClosingConsumer(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka has no types
    """An AIOKafkaConsumer whose `stop` leaves nothing open, whatever its tasks are at, and is cancelled by its caller
    only; also where it is called in the `finally` of a task that was cancelled before.
    """

    async def stop(self) -> None:
        """See AIOKafkaConsumer.

        Raises:
            KafkaError: as aiokafka; nothing is left open then either.
        """
        before = _told()
        try:
            await super().stop()
        except BaseException as error:
            closing = self._abandon()
            if _told() > before or not isinstance(error, asyncio.CancelledError):
                raise
            if closing:
                await asyncio.wait(closing, timeout=CLOSE_S)
        if _told() > before:
            raise asyncio.CancelledError

    def _abandon(self) -> list[asyncio.Future[object]]:
        """Cancel its tasks, which would connect anew, and close its connections; what can be waited for."""
        tasks = list(self._own_tasks())
        for task in tasks:
            task.cancel()
        return [*tasks, *(connection.close() for connection in list(self._client._conns.values()))]

    def _own_tasks(self) -> Iterator[asyncio.Task[object]]:
        if self._fetcher is not None:
            yield from (self._fetcher._fetch_task, *self._fetcher._pending_tasks)
        names = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_reset_committed_task")
        found = (getattr(self._coordinator, name, None) for name in names)
        yield from (task for task in (*found, self._client._sync_task) if task is not None)
