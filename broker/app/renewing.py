"""Looks into the key store now and then, so that a process learns of new versions of secrets without a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from broker.errors import told
from broker.exchange.keys import VaultVersions
from broker.identity.vault import RECORDS, SCHOOLS
from broker.kafka.closing import told_to_end
from broker.keys import KeyProvider

log = structlog.get_logger("broker.keys")

LOOK_S: Final = 5.0


async def keep_renewing(
    provider: KeyProvider, changed: Callable[[VaultVersions], None], *, look_s: float = LOOK_S
) -> None:
    """Tell of each change of the vault's secrets until cancelled. What can not be read leaves what was read before.

    Args:
        changed: is called in the event loop, never while something else runs there.
    """
    known: VaultVersions | None = None
    while True:
        try:
            read = await asyncio.to_thread(VaultVersions.read, provider)
        except (Exception, asyncio.CancelledError) as error:
            if told_to_end():
                raise
            log.warning("keys.unreadable", code="keys.unreadable", text=told(error))
        else:
            if read != known:
                changed(read)
                log.info("keys.read", text=f"versions {[*read.records]} of {RECORDS}, {[*read.schools]} of {SCHOOLS}")
            known = read
        await asyncio.sleep(look_s)
