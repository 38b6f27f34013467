"""Set an installation up: profiles of parties, logins of services, keys, and what is published.

The steps of `broker party add` and of the demo; each can be repeated, and keeps what is there.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.client.profile import CONNECTION_FILE, KEYS_FOLDER, RECORD_KEY_SECRET
from broker.errors import ConfigError
from broker.exchange.keys import BROKER, OPERATOR, SECRETS
from broker.kafka.admin import Admin
from broker.kafka.connection import KafkaConnection
from broker.kafka.publish import publish_keys, publish_schemas
from broker.keys import FileKeys, RecipientKey, create_first
from broker.keys.open import open_keys
from broker.registry import PublicKey, Registry
from broker.schemas import catalogue
from broker.schemas.outputs import published

PASSWORD_BYTES: Final = 24
CA_FILE: Final = "ca.pem"


@dataclass(frozen=True, slots=True)
class NewProfile:
    """A profile folder that was made or completed.

    Args:
        folder: with `connection.json` and `keys/`, readable by its owner only.
        key: the public recipient key, for the registry.
    """

    folder: Path
    key: RecipientKey

    @property
    def public_key(self) -> PublicKey:
        """As the registry takes it."""
        return PublicKey(kid=self.key.kid, jwk=dict(self.key.jwk))


def add_login(admin: Admin, cluster: KafkaConnection, user: str, file: Path) -> KafkaConnection:
    """Make a Kafka user with a new password and write its connection file, unless there is one.

    The cluster's CA goes along into the same folder, so that the folder is all that the user needs.

    Args:
        cluster: any connection to the cluster; its address and CA are taken over, not its login.
    """
    if file.exists():
        return KafkaConnection.from_file(file)
    if user in admin.users():
        raise ConfigError(
            f"{user} has a login already, but {file} is not here; a new password would lock out who uses it. "
            "Use the file where it is, or remove the user first",
            code="party.exists",
        )
    return new_login(admin, cluster, user, file)


def new_login(admin: Admin, cluster: KafkaConnection, user: str, file: Path) -> KafkaConnection:
    """Give a user a new password and write its connection file, in the place of one that is there; else as `add_login`.

    Whoever uses the old password can log in with it no more; what is logged in stays so for as long as Kafka allows.
    """
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca_file = None
    if cluster.ca_file is not None:
        ca_file = file.parent / CA_FILE
        ca_file.write_bytes(cluster.ca_file.read_bytes())
    connection = KafkaConnection(cluster.bootstrap, ca_file, user, password)
    admin.ensure_user(user, password)
    connection.to_file(file)
    return connection


def add_profile(admin: Admin, cluster: KafkaConnection, party: str, profiles: Path) -> NewProfile:
    """Make a party's profile: login, recipient key and the secret for its record keys."""
    folder = profiles / party
    add_login(admin, cluster, party, folder / CONNECTION_FILE)
    keys = FileKeys(folder / KEYS_FOLDER)
    keys.create_secret(RECORD_KEY_SECRET)
    known = keys.recipient_keys(party)
    return NewProfile(folder, known[0] if known else keys.create(party))


def add_broker_keys(folder: Path, operators_folder: Path) -> FileKeys:
    """The keys of the broker's workers: the recipient key, the named secrets, and the operator's *public* key.

    Args:
        operators_folder: where the operator's private key is made. No worker gets it: quarantined content is for the
            eyes of people.
    """
    keys, operators = open_keys(folder), open_keys(operators_folder)
    if not keys.recipient_keys(BROKER):
        keys.create(BROKER)
    if not operators.recipient_keys(OPERATOR):
        operators.create(OPERATOR)
    if not keys.recipient_keys(OPERATOR):
        keys.add_public(OPERATOR, operators.recipient_keys(OPERATOR)[0])
    for name in SECRETS:
        create_first(keys, name)
    return keys


async def publish_all(operator: KafkaConnection, keys: FileKeys, registry: Registry) -> None:
    """Put schemas and the broker's public keys where every party finds them."""
    await publish_schemas(operator, published(catalogue(), registry))
    await publish_keys(operator, keys.recipient_keys(BROKER))
