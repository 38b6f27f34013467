"""`broker party suspend`, `resume`, `rotate` and `remove`: what an operator does with a party that is there."""

from __future__ import annotations

import asyncio
import getpass
from pathlib import Path
from typing import Annotated

import typer

from broker.app import farewell, renewal, suspension
from broker.cli.output import err
from broker.cli.send import PROFILES_HELP
from broker.client.profile import CONNECTION_FILE
from broker.kafka.admin import Admin
from broker.kafka.connection import KafkaConnection
from broker.onboarding.bundle import refresh_client_settings
from broker.onboarding.folder import put_keys, remove_files
from broker.onboarding.sandbox import BOARD, COUNTERPART
from broker.registry import Registry, store

PartyId = Annotated[str, typer.Argument(metavar="PARTY", help="Its id.")]
Connection = Annotated[Path, typer.Option(envvar="BROKER_CONNECTION", help="The operator's connection file.")]
Reason = Annotated[str, typer.Option(help="Why; stands in the audit for ever.")]
Operator = Annotated[str | None, typer.Option(help="Who; by default the user of this machine.")]
Profiles = Annotated[Path, typer.Option(envvar="BROKER_PROFILES", help=PROFILES_HELP)]
Folder = Annotated[
    Path | None, typer.Option("--registry", file_okay=False, help="The registry's folder, to bring it up to date too.")
]


def register(app: typer.Typer) -> None:
    """Add these commands to `broker party`."""
    app.command()(suspend)
    app.command()(resume)
    app.command()(rotate)
    app.command()(remove)


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
    made = suspension.resume(admin, party_id, operator or getpass.getuser(), reason, file, _tell)
    refresh_client_settings(file.parent, made)
    err.print(f"give {file.parent} to the party over a safe channel", markup=False)


def rotate(
    party_id: PartyId,
    connection: Connection,
    reason: Reason,
    operator: Operator = None,
    profiles: Profiles = Path("profiles"),
    registry: Folder = None,
    finish: Annotated[bool, typer.Option("--finish", help="End it: only the newest key is left.")] = False,
) -> None:
    """Give a party a newer key and a new password, in its profile folder; run it again if it fails half way.

    What goes to the party is sealed for the newer key at once, and its old password is worth nothing: hand the folder
    over without delay. Nothing is lost meanwhile: what comes waits on its topics. The key before stays in the registry
    and in the profile until --finish, or until the next rotation but one.
    """
    admin, who = Admin(KafkaConnection.from_file(connection)), operator or getpass.getuser()
    folder = profiles / party_id
    if finish:
        renewal.finish(admin, party_id, who, reason, folder, _tell)
    else:
        made = renewal.rotate(admin, party_id, who, reason, folder, _tell)
        refresh_client_settings(folder, made)
        err.print(f"give {folder} to the party over a safe channel, now", markup=False)
    keys = Registry.from_records(asyncio.run(store.read_records(admin.connection))).parties[party_id].keys
    if registry is None:
        err.print(
            "note: if the registry's folder has keys of it, give it with --registry, or the next apply undoes this"
        )
    elif not put_keys(registry, party_id, keys):
        err.print(f"note: write `keys: []` at {party_id} in {registry}, or the next apply undoes this", markup=False)


def remove(
    party_id: PartyId, connection: Connection, reason: Reason, operator: Operator = None, registry: Folder = None
) -> None:
    """Let a party go: out of the registry with its connections and its sandbox, then its rights, login and quota.

    Its agreements end before, in the registry's folder: that asks it to destroy what it got. Topics are never deleted.
    """
    admin = Admin(KafkaConnection.from_file(connection))
    # The counterpart has to do with every sandbox: it stays as long as there is one.
    board = None if party_id == COUNTERPART else BOARD
    farewell.remove(admin, party_id, operator or getpass.getuser(), reason, board, _tell)
    for path in remove_files(registry, party_id) if registry is not None else ():
        err.print(f"registry: removed {path}", markup=False)
    err.print("note: its entry must be out of the registry's folder too, or the next apply brings it back")
    err.print("next: broker topics apply --registry DIR (quotas follow the schools that a party works for)")


def _tell(sentence: str) -> None:
    err.print(sentence, markup=False)
