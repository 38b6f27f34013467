"""`broker party`: let a party in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml

from broker.app.provision import add_login
from broker.cli import party_life, party_start
from broker.cli.output import err, out
from broker.cli.send import PROFILES_HELP
from broker.client.counting import COUNT_KEY, count_signer
from broker.client.profile import KEYS_FOLDER, Profile
from broker.errors import ConfigError
from broker.kafka.access import (
    AUDIT_SERVICE,
    AUDITOR,
    COUNT_KEEPER,
    KEY_ROTATOR,
    LDV_EXPORTER,
    LOG_BUILDER,
    OPERATOR,
    REMOVER,
    WORKER,
)
from broker.kafka.admin import Admin
from broker.kafka.connection import KafkaConnection
from broker.keys import FileKeys

SERVICES = (WORKER, OPERATOR, AUDITOR, LOG_BUILDER, REMOVER, LDV_EXPORTER, COUNT_KEEPER, AUDIT_SERVICE, KEY_ROTATOR)

app = typer.Typer(no_args_is_help=True, help="Let a party in, shut it out: its login, topics, rights and profile.")


@app.callback()
def party() -> None:
    """Let a party in, shut it out: its login, topics, rights and profile."""


@app.command()
def login(
    user: Annotated[
        str,
        typer.Argument(
            help="A service of the broker: exchange, operator, auditor, log-builder, remover, ldv-exporter, "
            "count-keeper, audit-service or key-rotator."
        ),
    ],
    file: Annotated[Path, typer.Option("--out", help="Where its connection file goes; the CA is put beside it.")],
    connection: Annotated[Path, typer.Option(envvar="BROKER_CONNECTION", help="The operator's connection file.")],
) -> None:
    """Make the login of a service; its rights come with `broker topics apply`. What is there is kept."""
    if user not in SERVICES:
        raise ConfigError(
            f"{user} is no service of the broker ({', '.join(SERVICES)}); a party is let in with `broker party add`",
            code="party.service",
        )
    cluster = KafkaConnection.from_file(connection)
    add_login(Admin(cluster), cluster, user, file)
    err.print(f"connection file: {file}")


@app.command("count-key")
def count_key(
    party_id: Annotated[str, typer.Argument(metavar="PARTY", help="Its id: the name of its profile folder.")],
    profiles: Annotated[Path, typer.Option(envvar="BROKER_PROFILES", help=PROFILES_HELP)] = Path("profiles"),
) -> None:
    """Make the key that signs a party's counts, in its profile. Prints the public half for the registry.

    It stays when there is one. To replace it, remove keys/count-key.secret of the profile first; the registry and the
    auditors go on with both until all counts of the older one are read.
    """
    profile = Profile.load(profiles / party_id)
    FileKeys(profiles / party_id / KEYS_FOLDER).create_secret(COUNT_KEY)
    err.print("next: the operator puts this key beside the party's others in the registry; auditors trust it then")
    out.print(yaml.safe_dump({"count_keys": [count_signer(profile).vkey]}, sort_keys=False, width=200), end="")


party_start.register(app)
party_life.register(app)
