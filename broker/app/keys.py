"""Keys of what runs for long: a start waits for the server that unwraps them; a process that runs does without it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import structlog

from broker.errors import BrokerError, TransientError
from broker.keys import FileKeys
from broker.keys.open import open_keys
from broker.keys.transit import TransitWrapping

log = structlog.get_logger("broker.keys")
T = TypeVar("T")

LOOK_S: Final = 2.0
SAY_S: Final = 60.0
LEAST_LEASE_S: Final = 60.0
MOST_LOOKS: Final = 10  # so much longer is the pause after failures: each look may be a login, and a line of an audit


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
    renew_at, said, looks = 0.0, float("-inf"), 1
    while True:
        _, failure = await _tried(keys.open_all)
        if time.monotonic() >= renew_at:  # also when a file does not open: the token is for those to come
            renew_at = time.monotonic() + LEAST_LEASE_S  # also when it fails
            lease, unrenewed = await _tried(wrapping.transit.renew)
            if unrenewed is None:
                renew_at = float("inf") if lease is None else time.monotonic() + max(LEAST_LEASE_S, lease / 2)
            failure = unrenewed or failure
        looks = 1 if failure is None else min(2 * looks, MOST_LOOKS)
        if failure is not None and time.monotonic() - said >= SAY_S:
            said = time.monotonic()
            log.warning("keys.unopened", code=failure[0], text=f"{failure[1]} What is open stays open.")
        await asyncio.sleep(look_s * looks)


async def _tried(work: Callable[[], T]) -> tuple[T | None, tuple[str, str] | None]:
    """What comes of it in a thread, or the code and text of what keeps it from being done."""
    try:
        return await asyncio.to_thread(work), None
    except BrokerError as error:
        return None, (error.code, str(error))
    except OSError as error:
        return None, ("keys.folder", f"The folder of keys can not be read: {error.strerror or type(error).__name__}.")


@asynccontextmanager
async def kept_open(keys: FileKeys | None) -> AsyncIterator[None]:
    """`keep_open` beside what runs within."""
    task = asyncio.create_task(keep_open(keys))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
