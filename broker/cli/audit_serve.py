"""`broker audit serve`: answer boards and parties over HTTPS."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.audit_find import KeyFile, Logs, StoreFile
from broker.cli.output import err
from broker.cli.witness import address


def serve(
    store: StoreFile,
    logs: Logs,
    connection: Annotated[Path, typer.Option(envvar="BROKER_CONNECTION", help="That of the user audit-service.")],
    keys: Annotated[Path, typer.Option("--keys", help="Folder with vault-mac, vault-records and school-keys.")],
    state: Annotated[Path, typer.Option(help="Folder of this process alone, for its copy of the vault.")],
    cert: Annotated[Path, typer.Option(help="Certificate of the service, PEM.")],
    cert_key: Annotated[Path, typer.Option(help="Its private key, PEM.")],
    client_ca: Annotated[Path, typer.Option(help="Who signs the certificates of boards and parties, PEM.")],
    client_crl: Annotated[
        bool, typer.Option("--client-crl", help="The file of --client-ca has revocation lists too, and they count.")
    ] = False,
    listen: Annotated[str, typer.Option(help="Host and port.")] = "127.0.0.1:8470",
    http: Annotated[str | None, typer.Option(help="Host and port of /healthz, /readyz and /metrics.")] = None,
    key_file: KeyFile = None,
) -> None:
    """Answer boards and parties until SIGTERM: each with a client certificate, each what is its own, all of it audited.

    There is no way to listen without TLS.
    """
    from broker.app import logs as output  # with what follows it imports Kafka's clients, which takes a second
    from broker.app.keys import kept_open, wait_for_keys
    from broker.app.worker import wait_for_kafka
    from broker.auditserve.desk import Source
    from broker.auditserve.server import Listening
    from broker.auditserve.service import ServiceJob, cipher_of
    from broker.auditserve.service import serve as run
    from broker.kafka.connection import KafkaConnection

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold keys and pupils' data
    host, port = address(listen)
    listening = Listening(
        cert, cert_key, client_ca, host, port, None if http is None else address(http), crl=client_crl
    )
    listening.context()  # what is wrong shows before anything starts
    output.configure()
    provider = wait_for_keys(keys)
    cipher_of(provider)
    kafka = KafkaConnection.from_file(connection)
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    wait_for_kafka(kafka)
    job = ServiceJob(kafka, provider, Source(store, logs, key_file), listening, state)

    async def answer() -> None:
        async with kept_open(provider):
            await run(job, lambda server: err.print(f"listens on {host}, port {server.port}", markup=False))

    asyncio.run(answer())
