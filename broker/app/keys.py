"""Keys of what runs for long: a start waits for the server that unwraps them; a process that runs does without it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from broker.errors import BrokerError, TransientError
from broker.keys import FileKeys
from broker.keys.open import open_keys
from broker.keys.transit import TransitWrapping

log = structlog.get_logger("broker.keys")

LOOK_S: Final = 2.0
SAY_S: Final = 60.0
LEAST_LEASE_S: Final = 60.0


def wait_for_keys(folder: Path, *, pause_s: float = 3.0, say_s: float = SAY_S) -> FileKeys:
    """A folder of keys, all of them open; as long as the transit server can not answer, say so once a minute.

    A folder in clear is not read yet. A signal ends it.

    Raises:
        ConfigError: the settings are wrong, the server refuses for good, or a file does not open.
    """
    keys, began, said = open_keys(folder), time.monotonic(), float("-inf")
    while True:
        try:
            keys.open_all()
        except TransientError as error:
            now = time.monotonic()
            if now - said >= say_s:
                said = now
                log.warning(
                    "keys.away", code=error.code, text=f"{error} It is tried again.", seconds=round(now - began)
                )
            time.sleep(pause_s)
        else:
            return keys


async def keep_open(keys: FileKeys | None, *, look_s: float = LOOK_S) -> None:
    """Open new keys as they come, in a thread of their own, and renew the token; until cancelled.

    Meanwhile nobody who needs a key waits for the server: a key that is not open yet is a TransientError. What is
    open stays so, whatever becomes of the server. Returns at once when there are none, or they lie in clear.
    """
    if keys is None or not isinstance(wrapping := keys.wrapping, TransitWrapping):
        return
    wrapping.ahead_only()
    renew_at, said = 0.0, float("-inf")
    while True:
        try:
            await asyncio.to_thread(keys.open_all)
            if time.monotonic() >= renew_at:
                renew_at = time.monotonic() + LEAST_LEASE_S  # also when it fails
                lease = await asyncio.to_thread(wrapping.transit.renew)
                renew_at = float("inf") if lease is None else time.monotonic() + max(LEAST_LEASE_S, lease / 2)
        except BrokerError as error:
            if time.monotonic() - said >= SAY_S:
                said = time.monotonic()
                log.warning("keys.unopened", code=error.code, text=f"{error} What is open stays open.")
        await asyncio.sleep(look_s)


@asynccontextmanager
async def kept_open(keys: FileKeys | None) -> AsyncIterator[None]:
    """`keep_open` beside what runs within."""
    task = asyncio.create_task(keep_open(keys))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
