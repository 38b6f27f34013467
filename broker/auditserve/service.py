"""The process behind `broker audit serve`: views of registry and vault, the audit's writer, HTTPS, probes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from broker.app.renewing import keep_renewing
from broker.auditserve.desk import Desk, Source
from broker.auditserve.record import KafkaRecorder
from broker.auditserve.server import AuditServer, Listening, ServiceMetrics
from broker.engine import KafkaClients, RegistryView, VaultView, topic_identity
from broker.engine.views import CurrentViews
from broker.errors import ConfigError
from broker.exchange.keys import MAC, vault_cipher
from broker.exchange.model import VAULT
from broker.identity.vault import RECORDS, SCHOOLS, VaultCipher
from broker.kafka.connection import KafkaConnection
from broker.keys import KeyProvider

log = structlog.get_logger("broker.auditserve")

VIEW_AGE_S: Final = 10.0
#: The secrets that it needs, all versions of them, and no other.
SECRETS: Final = (MAC, RECORDS, SCHOOLS)


@dataclass(frozen=True, slots=True)
class ServiceJob:
    """What one process serves.

    Args:
        connection: of the user `audit-service`. keys: with `SECRETS`. state: folder for the vault's copy, its own.
    """

    connection: KafkaConnection
    keys: KeyProvider
    source: Source
    listening: Listening
    state: Path


def cipher_of(keys: KeyProvider) -> VaultCipher:
    """Opens vault records, and remembers none.

    Raises:
        ConfigError: `keys.missing`.
    """
    return vault_cipher(keys, remembered=0)


async def serve(job: ServiceJob, listens: Callable[[AuditServer], None] = lambda _: None) -> None:
    """Answer until SIGTERM or SIGINT.

    Args:
        listens: called once it answers; questions that come before the views are read get 503.

    Raises:
        ConfigError: `keys.missing`, `audit.tls`, `audit.listen`, `state.locked`.
    """
    cipher = cipher_of(job.keys)
    clients = KafkaClients(job.connection)
    registry = RegistryView(clients)
    vault = VaultView(clients, topic_identity(job.connection, VAULT), job.state / "vault")
    views = CurrentViews(registry, vault, VIEW_AGE_S)
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        stack.callback(vault.close)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, told.set)
            stack.callback(loop.remove_signal_handler, number)
        following = [asyncio.create_task(view.run()) for view in (registry, vault)]
        following.append(asyncio.create_task(keep_renewing(job.keys, lambda read: cipher.renew(*read))))
        stack.push_async_callback(_ended, following)
        recorder = await stack.enter_async_context(KafkaRecorder(job.connection))
        desk = Desk(job.source, views, cipher, recorder)
        server = AuditServer(desk, job.listening, ServiceMetrics(), ready=lambda: views.age_s <= VIEW_AGE_S)
        try:
            await stack.enter_async_context(server)
        except OSError as error:
            raise ConfigError(f"The service can not listen: {error.strerror}.", code="audit.listen") from error
        listens(server)
        log.info("audit.listens", http_port=server.http_port)
        waiting = asyncio.create_task(told.wait())
        stack.push_async_callback(_ended, [waiting])
        await asyncio.wait((waiting, *following), return_when=asyncio.FIRST_COMPLETED)
        for task in following:
            if task.done():
                task.result()  # a view never ends but by an error


async def _ended(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
