"""`broker party`: let a party in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml

from broker.app.provision import add_login, add_profile
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
from broker.kafka.topics import require_party_id
from broker.keys import FileKeys

SERVICES = (WORKER, OPERATOR, AUDITOR, LOG_BUILDER, REMOVER, LDV_EXPORTER, COUNT_KEEPER, AUDIT_SERVICE, KEY_ROTATOR)

app = typer.Typer(no_args_is_help=True, help="Let a party in: its login, topics, rights and profile.")


@app.callback()
def party() -> None:
    """Let a party in: its login and its profile."""


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


@app.command()
def add(
    party_id: Annotated[str, typer.Argument(metavar="PARTY", help="Its id: a-z, 0-9 and dashes.")],
    connection: Annotated[Path, typer.Option(envvar="BROKER_CONNECTION", help="The operator's connection file.")],
    profiles: Annotated[Path, typer.Option(envvar="BROKER_PROFILES", help=PROFILES_HELP)] = Path("profiles"),
) -> None:
    """Make a login, keys and a profile folder. Prints the public key for the registry; repeat it at will."""
    require_party_id(party_id)
    cluster = KafkaConnection.from_file(connection)
    profile = add_profile(Admin(cluster), cluster, party_id, profiles)
    err.print(f"profile: {profile.folder} (give it to the party over a safe channel; it holds its password and keys)")
    err.print("next: put the party with this key into the registry, then")
    err.print("  broker registry apply DIR && broker topics apply --registry DIR")
    entry = {"id": party_id, "keys": [profile.public_key.model_dump(mode="json")]}
    out.print(yaml.safe_dump(entry, sort_keys=False), end="")


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
