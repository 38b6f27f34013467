"""`broker auditlog key`: let a new key take the place of the one that signs the logs."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from broker.audit.rotation import OVERLAP_DAYS, KeyChange
from broker.auditlog.rotation import announce as write_announcement
from broker.auditlog.rotation import change_of, destroy_old, make_next, require_over
from broker.cli.auditlog_options import DEFAULT_KEYS, DEFAULT_LOGS, Keys, Logs, Name
from broker.cli.output import err
from broker.errors import ConfigError
from broker.kafka.connection import KafkaConnection
from broker.keys.open import open_keys

app = typer.Typer(no_args_is_help=True, help="Replace the key that signs the logs.")

MOST_BYTES = 1 << 16


@app.callback()
def key() -> None:
    """Replace the key that signs the logs."""


@app.command()
def new(name: Name, keys: Keys = DEFAULT_KEYS) -> None:
    """Make the next signing key, where the builder's keys are. Prints what the operator announces; it is public."""
    _print(make_next(open_keys(keys), name))
    err.print("both keys sign from now on; a builder that runs sees it by itself", markup=False)
    err.print("bring the line above to the operator: broker auditlog key announce FILE", markup=False)


@app.command()
def show(name: Name, keys: Keys = DEFAULT_KEYS) -> None:
    """Print again what `new` printed, while a rotation is under way."""
    _print(change_of(open_keys(keys), name))


@app.command()
def announce(
    file: Annotated[Path, typer.Argument(help="What `broker auditlog key new` printed.", exists=True, dir_okay=False)],
    connection: Annotated[Path, typer.Option(envvar="BROKER_CONNECTION", help="The operator's connection file.")],
    operator: Annotated[str, typer.Option(help="Who decides it; it stands in the log for ever.")],
    reason: Annotated[str, typer.Option(help="Why; it stands there too.")],
    overlap_days: Annotated[int, typer.Option(min=1, max=366, help="How long both keys sign.")] = OVERLAP_DAYS,
) -> None:
    """Write the new key to the control log, as the operator. A second time does no harm: the last one counts."""
    with file.open("rb") as opened:
        change = KeyChange.unpack(opened.read(MOST_BYTES))
    now_ms = time.time_ns() // 1_000_000
    cluster = KafkaConnection.from_file(connection)
    told = asyncio.run(
        write_announcement(
            cluster, change, operator=operator, reason=reason, now_ms=now_ms, days=overlap_days
        )
    )  # fmt: skip
    end = time.strftime("%Y-%m-%d %H:%M", time.gmtime(told.both_until_ms / 1000))
    err.print(f"announced; both keys sign until {end} UTC. Publish the new public keys now.", markup=False)


@app.command()
def retire(
    name: Name,
    keys: Keys = DEFAULT_KEYS,
    logs: Logs = DEFAULT_LOGS,
    before_the_overlap_ends: Annotated[
        bool,
        typer.Option(
            "--before-the-overlap-ends",
            help="Destroy the old key whatever readers know of the new one: it is in other hands.",
        ),
    ] = False,
) -> None:
    """Destroy the old key, where the builder's keys are, once the signed logs show that the overlap is over."""
    folder = open_keys(keys)
    try:
        change = change_of(folder, name)
    except ConfigError:
        if not (finished := destroy_old(folder)):  # one that was killed left files behind
            raise
        err.print(f"{', '.join(finished)} is destroyed", markup=False)
        return
    if not before_the_overlap_ends:
        require_over(change, logs, time.time_ns() // 1_000_000)
    err.print(f"{', '.join(destroy_old(folder))} is destroyed; the newest key signs alone", markup=False)


def _print(change: KeyChange) -> None:
    sys.stdout.write(change.pack().decode())
