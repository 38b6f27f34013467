"""`broker auditlog`: make signed logs of the audit topics, watch and index them as they grow, and begin one anew."""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path
from typing import Annotated

import typer

from broker.audit.log.note import check_name
from broker.auditlog.book import LogName, SigningKeys
from broker.auditlog.epoch import begin_epoch
from broker.auditlog.folders import PARTY_KEYS
from broker.auditlog.restoring import restore as make_again
from broker.cli import auditlog_key
from broker.cli.auditlog_options import (
    DEFAULT_KEYS,
    DEFAULT_LOGS,
    Connection,
    HttpHost,
    HttpPort,
    Keys,
    Logs,
    Name,
)
from broker.cli.output import err
from broker.engine import EngineConfig, KafkaClients
from broker.errors import ConfigError
from broker.kafka.connection import KafkaConnection
from broker.keys.open import open_keys

app = typer.Typer(no_args_is_help=True, help="Make signed logs of the audit topics (the log builder).")

app.add_typer(auditlog_key.app, name="key")


@app.callback()
def auditlog() -> None:
    """Make signed logs of the audit topics (the log builder)."""


@app.command()
def run(
    name: Name,
    connection: Connection,
    keys: Keys = DEFAULT_KEYS,
    logs: Logs = DEFAULT_LOGS,
    http_host: HttpHost = "127.0.0.1",
    http: HttpPort = 0,
    policy: Annotated[
        Path | None, typer.Option(help="tlog-policy file that names the witnesses to ask; without it none is asked.")
    ] = None,
) -> None:
    """Build the logs until stopped (SIGTERM). A second one of these does no harm, and no good."""
    from broker.app import logs as output
    from broker.app.keys import kept_open, wait_for_keys
    from broker.app.worker import wait_for_kafka
    from broker.audit.log.policy import Policy
    from broker.auditlog.service import LogService, run_until_told
    from broker.auditlog.witnessing import WitnessingConfig

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold keys
    output.configure("info")
    folder = wait_for_keys(keys)
    signing = SigningKeys(folder)  # what is missing shows before anything starts
    witnesses = None if policy is None else WitnessingConfig(Policy.parse(policy.read_bytes()))
    kafka = KafkaConnection.from_file(connection)
    wait_for_kafka(kafka)

    async def build() -> None:
        clients = KafkaClients.of_engine(kafka, EngineConfig())
        service = LogService(
            name, clients, signing, logs, http=(http_host, http) if http else None, witnesses=witnesses
        )
        async with kept_open(folder):
            await run_until_told(service.run())

    asyncio.run(build())


@app.command()
def counts(
    name: Name,
    connection: Annotated[Path, typer.Option(envvar="BROKER_CONNECTION", help="Connection file of user count-keeper.")],
    http_host: HttpHost = "127.0.0.1",
    http: HttpPort = 0,
) -> None:
    """Put what parties counted and signed into the control log, until stopped (SIGTERM).

    A second one of these does no harm, and no good.
    """
    from broker.app import logs as output
    from broker.app.worker import wait_for_kafka
    from broker.auditlog.counting import CountService
    from broker.auditlog.service import run_until_told

    output.configure("info")
    check_name(name)
    kafka = KafkaConnection.from_file(connection)
    wait_for_kafka(kafka)

    async def keep() -> None:
        clients = KafkaClients.of_engine(kafka, EngineConfig())
        await run_until_told(CountService(name, clients, http=(http_host, http) if http else None).run())

    asyncio.run(keep())


@app.command()
def watch(
    state: Annotated[Path, typer.Option(help="File of what is known between two looks; made at the first.")],
    logs: Logs = DEFAULT_LOGS,
    keys: Annotated[
        Path | None,
        typer.Option(help=f"The parties' verifier keys, one a line; default: {PARTY_KEYS} in --counts; or no counts."),
    ] = None,
    counts: Annotated[
        Path | None, typer.Option(help="Folder of signed counts, *.count, besides those in the control log.")
    ] = None,
    lateness: Annotated[int, typer.Option(min=0, help="A window may be told so many seconds late.")] = 180,
    http_host: HttpHost = "127.0.0.1",
    http: HttpPort = 0,
) -> None:
    """Hold the logs against windows, numbers and counts as they grow, until stopped (SIGTERM)."""
    from broker.app import logs as output
    from broker.auditlog.reconciling import ReconcileService, Reconciling
    from broker.auditlog.service import run_until_told

    output.configure("info")
    known = keys if counts is None else keys or counts / PARTY_KEYS
    reconciling = Reconciling(logs, state, known, counts, lateness * 1000)
    service = ReconcileService(reconciling, http=(http_host, http) if http else None)
    asyncio.run(run_until_told(service.run()))


@app.command()
def index(
    store: Annotated[Path, typer.Option(help="The store; made at the first look.")],
    logs: Logs = DEFAULT_LOGS,
    key_file: Annotated[
        Path | None,
        typer.Option(
            help="Keys of the logs, one a line, that you have from elsewhere; default: those beside the logs."
        ),
    ] = None,
    connection: Annotated[
        Path | None, typer.Option(help="The auditor's connection file: leaves are then found by the person too.")
    ] = None,
    keys: Annotated[Path | None, typer.Option(help="Folder with the secret `school-keys`; goes with it.")] = None,
    every: Annotated[float, typer.Option(min=1.0, help="Seconds between two looks.")] = 60.0,
    http_host: HttpHost = "127.0.0.1",
    http: HttpPort = 0,
) -> None:
    """Take into the store what is signed, as the logs grow, until stopped (SIGTERM). Once: `broker audit index`."""
    from broker.app import logs as output
    from broker.app.keys import kept_open, wait_for_keys
    from broker.auditlog.indexing import Indexing, IndexService, People
    from broker.auditlog.service import run_until_told
    from broker.identity.vault import SCHOOLS, SchoolKeys
    from broker.keys import versions

    if (connection is None) != (keys is None):
        raise ConfigError("--connection and --keys go together: entries are sealed.", code="audit.people")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold keys
    output.configure("info")
    people = folder = None
    if connection is not None and keys is not None:
        folder = wait_for_keys(keys)
        versions(folder, SCHOOLS)  # what is missing shows before anything starts
        people = People(KafkaConnection.from_file(connection), lambda: SchoolKeys(versions(folder, SCHOOLS)))
    indexing = Indexing(logs, store, key_file=key_file, people=people)
    service = IndexService(indexing, look_s=every, http=(http_host, http) if http else None)

    async def follow() -> None:
        async with kept_open(folder):
            await run_until_told(service.run())

    asyncio.run(follow())


@app.command()
def anchor(
    tsa: Annotated[str, typer.Option(help="URL of an authority of time stamps (RFC 3161).")],
    tsa_ca: Annotated[Path, typer.Option(help="Certificates that its time stamps must lead to, PEM.")],
    logs: Logs = DEFAULT_LOGS,
    ca_file: Annotated[
        Path | None, typer.Option(help="Certificates for TLS, PEM; without it those of the operating system.")
    ] = None,
    insecure_plaintext: Annotated[
        bool, typer.Option("--insecure-plaintext", help="http to another machine; what it signs is verified.")
    ] = False,
    every: Annotated[int | None, typer.Option(min=60, help="Go on until SIGTERM, each so many seconds.")] = None,
    http_host: HttpHost = "127.0.0.1",
    http: HttpPort = 0,
) -> None:
    """Have what all logs show stamped by an authority that is not ours; at most one anchor an hour is kept."""
    from broker.app import logs as output
    from broker.audit.anchor import authorities_in
    from broker.auditlog.anchoring import AnchorService, Authority, session_for
    from broker.auditlog.anchoring import anchor as stamp
    from broker.auditlog.service import run_until_told

    authority = Authority(tsa, tuple(authorities_in(tsa_ca)), ca_file, insecure_plaintext)
    if every is not None:
        output.configure("info")
        service = AnchorService(logs, authority, every_s=every, http=(http_host, http) if http else None)
        asyncio.run(run_until_told(service.run()))
        return

    async def once() -> None:
        async with session_for(authority) as session:
            done = await stamp(logs, authority, session)
        told = "there is an anchor of this hour already" if done is None else f"anchor/{done[0]}: {done[1]:%F %T} UTC"
        err.print(told, markup=False)

    asyncio.run(once())


@app.command()
def mirror(
    to: Annotated[Path, typer.Option(help="Folder of the copies; made if it is not there.")],
    logs: Logs = DEFAULT_LOGS,
    key_file: Annotated[
        Path | None, typer.Option(help="Public keys of the logs, one a line; without it those beside the logs.")
    ] = None,
) -> None:
    """Copy all logs, so that the copy is whole at every moment. Again and again: only what is new is copied."""
    from broker.audit.signed import keys_in_file
    from broker.auditlog.anchoring import mirror_anchors
    from broker.auditlog.mirroring import mirror as copy

    failed = False
    for one in copy(logs, to, None if key_file is None else keys_in_file(key_file)):
        failed |= one.error is not None
        told = f"{one.before} leaves before, {one.after} now" if one.error is None else one.error
        err.print(f"{one.folder}: {told}", markup=False)
    err.print(f"{mirror_anchors(logs, to)} anchors are new", markup=False)
    if failed:
        raise typer.Exit(1)


@app.command()
def vkey(
    name: Name,
    log: Annotated[str, typer.Argument(help="p0, p1, ... or control.")],
    epoch: Annotated[int, typer.Option(min=1, help="Which epoch of it.")] = 1,
    keys: Keys = DEFAULT_KEYS,
) -> None:
    """Print the public keys of a log, newest last, to publish them where auditors trust them."""
    for line in SigningKeys(open_keys(keys)).vkeys(LogName(name, log, epoch)):
        sys.stdout.write(f"{line}\n")


@app.command()
def epoch(
    log: Annotated[str, typer.Argument(help="p0, p1, ... or control.")],
    name: Name,
    connection: Connection,
    reason: Annotated[str, typer.Option(help="Why; it stands in the new log for ever.")],
    operator: Annotated[str, typer.Option(help="Who decides it; stands there too.")],
    keys: Keys = DEFAULT_KEYS,
    logs: Logs = DEFAULT_LOGS,
) -> None:
    """Begin a log anew, when the history behind it is lost and can not be restored. The old one stays as it is."""
    place = LogName(name, log).place
    clients = KafkaClients.of_engine(KafkaConnection.from_file(connection), EngineConfig())
    signing = SigningKeys(open_keys(keys))
    new, old = asyncio.run(
        begin_epoch(name, place, clients, signing, logs, reason=reason, operator=operator)
    )  # fmt: skip
    err.print(f"{new.origin} has begun; its first leaf holds the last checkpoint of {old.origin}, of {old.size} leaves")


@app.command()
def restore(
    log: Annotated[str, typer.Argument(help="p0, p1, ... or control.")],
    name: Name,
    connection: Connection,
    copy: Annotated[
        Path | None, typer.Option("--from", help="Folder of a mirror of all logs; without it Kafka must have it all.")
    ] = None,
    epoch: Annotated[int | None, typer.Option(min=1, help="Which epoch of it; default: the last.")] = None,
    keys: Keys = DEFAULT_KEYS,
    logs: Logs = DEFAULT_LOGS,
) -> None:
    """Make lost files of a log again, from a mirror and from Kafka, if they lead to the root that was signed."""
    clients = KafkaClients.of_engine(KafkaConnection.from_file(connection), EngineConfig())
    signing = SigningKeys(open_keys(keys))
    done = asyncio.run(
        make_again(name, LogName(name, log).place, clients, signing, logs, copy=copy, epoch=epoch)
    )  # fmt: skip
    read = done.size - done.stored
    err.print(
        f"{done.name.origin} is whole: {done.size} leaves, {done.stored} of files and {read} of Kafka, with the root "
        f"that was signed",
        markup=False,
    )
