"""Ends that are waited for, for so long at most: what aiokafka ends may hang, or fail (`broker.kafka.closing`)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger()


async def end_within(work: Coroutine[Any, Any, Any], seconds: float) -> bool:
    """Let something end that is thrown away afterwards, whatever it does; False if it took too long."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task], timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
    if not task.done():
        return False
    if not task.cancelled() and (error := task.exception()) is not None:
        log.info("end.failed", error=type(error).__name__)
    return True


async def set_within(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait until an event is set, for so long at most (None: as long as it takes); whether it is."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()
