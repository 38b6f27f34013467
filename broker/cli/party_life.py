"""`broker party suspend` and `resume`: what an operator does with a party that is there."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer

from broker.app import suspension
from broker.cli.output import err
from broker.cli.send import PROFILES_HELP
from broker.client.profile import CONNECTION_FILE
from broker.kafka.admin import Admin
from broker.kafka.connection import KafkaConnection

PartyId = Annotated[str, typer.Argument(metavar="PARTY", help="Its id.")]
Connection = Annotated[Path, typer.Option(envvar="BROKER_CONNECTION", help="The operator's connection file.")]
Reason = Annotated[str, typer.Option(help="Why; stands in the audit for ever.")]
Operator = Annotated[str | None, typer.Option(help="Who; by default the user of this machine.")]
Profiles = Annotated[Path, typer.Option(envvar="BROKER_PROFILES", help=PROFILES_HELP)]


def register(app: typer.Typer) -> None:
    """Add these commands to `broker party`."""
    app.command()(suspend)
    app.command()(resume)


def suspend(party_id: PartyId, connection: Connection, reason: Reason, operator: Operator = None) -> None:
    """Shut a party out, now: nothing is taken of it, nothing goes to it, and it can not log in.

    First the registry says so, with its audit; then its rights on Kafka go, which also open connections feel within
    half a second; then its login. Its topics, agreements, connections and keys stay. Run it again if it fails half way.
    """
    admin = Admin(KafkaConnection.from_file(connection))
    suspension.suspend(admin, party_id, operator or getpass.getuser(), reason, _tell)


def resume(
    party_id: PartyId,
    connection: Connection,
    reason: Reason,
    operator: Operator = None,
    profiles: Profiles = Path("profiles"),
) -> None:
    """Let a suspended party in again, with a new password: the old one may be known to others.

    Its new connection file goes into its profile folder. What was refused meanwhile its senders send again.
    """
    admin = Admin(KafkaConnection.from_file(connection))
    file = profiles / party_id / CONNECTION_FILE
    suspension.resume(admin, party_id, operator or getpass.getuser(), reason, file, _tell)
    err.print(f"give {file} to the party over a safe channel", markup=False)


def _tell(sentence: str) -> None:
    err.print(sentence, markup=False)
