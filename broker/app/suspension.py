"""Shut a party out at once, and let it in again.

To suspend is said first in the registry, in one transaction with its audit: from there on workers take nothing of the
party and deliver nothing to it, whatever it can still reach. Then its rights on Kafka go, then its login. To resume
goes the other way round, and the registry is last: what failed half way leaves the party shut out. Both can be repeated
until they are done (docs/adr/0017).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from broker.app.provision import new_login
from broker.errors import ConfigError
from broker.kafka.access import party_acls
from broker.kafka.admin import Admin
from broker.kafka.connection import KafkaConnection
from broker.kafka.rights import give_rights, has_topic
from broker.registry import Suspension
from broker.registry.registry import record_of
from broker.registry.store import REGISTRY, change, read_records
from broker.registry.suspension import suspension_key

Tell = Callable[[str], None]


def suspended_parties(admin: Admin) -> frozenset[str]:
    """Who is suspended as the registry stands on Kafka now; nobody as long as there is no topic for it.

    Raises:
        ConfigError, TransientError: the registry is there and can not be read: nobody is given rights then.
    """
    if not has_topic(admin, REGISTRY):
        return frozenset()
    records = asyncio.run(read_records(admin.connection))
    prefix = suspension_key("")
    return frozenset(key.removeprefix(prefix) for key in records if key.startswith(prefix))


def suspend(admin: Admin, party: str, operator: str, reason: str, tell: Tell) -> None:
    """Shut a party out: registry, then rights, then login. Tells each step once it is done.

    Raises:
        ConfigError: `party.id`, `party.unknown`, or as `broker.registry.store.change`; nothing was done.
        TransientError: something was done; repeat it.
    """
    party_acls(party)  # no service of the broker is shut out by this
    records = asyncio.run(read_records(admin.connection))
    key = suspension_key(party)
    if key in records:
        tell(f"registry: {party} is suspended already; its reason stands")
    elif f"party/{party}" not in records and party not in admin.users():
        raise ConfigError(
            f"Neither the registry nor Kafka knows a party {party}; `broker registry list --kind party` shows them.",
            code="party.unknown",
        )
    else:
        since = datetime.now(UTC).replace(microsecond=0)
        record = record_of(Suspension(id=party, since=since, reason=reason, by=operator))
        asyncio.run(change(admin.connection, {key: record}, operator, reason))
        tell(f"registry: {party} is suspended; it is on `audit.control`, and workers hold to it within 5 seconds")
    admin.remove_user(party)
    tell(f"rights: all of {party}'s are gone; connections that are open get nothing any more")
    tell(f"login: {party} has none any more")


def resume(admin: Admin, party: str, operator: str, reason: str, file: Path, tell: Tell) -> KafkaConnection:
    """Let a suspended party in again, with a new password: login, then rights, then registry. Tells each step.

    Args:
        file: where its connection file goes; one that is there is replaced. The CA goes beside it.

    Raises:
        ConfigError: `party.not_suspended`, or as `broker.registry.store.change`.
        TransientError: it is still suspended; repeat it. The password is another one then.
    """
    acls = party_acls(party)
    key = suspension_key(party)
    records = asyncio.run(read_records(admin.connection))
    if key not in records:
        raise ConfigError(
            f"{party} is not suspended, so nothing was done. If its rights are missing, `broker topics apply "
            "--registry DIR` gives them.",
            code="party.not_suspended",
        )
    if f"party/{party}" not in records:
        tell(f"note: the registry has no party {party}; it can log in, and nothing is taken of it")
    connection = new_login(admin, admin.connection, party, file)
    tell(f"login: {party} has a new password, in {file}; the old one is worth nothing")
    give_rights(admin, acls)
    tell(f"rights: {party} has those of a party again")
    asyncio.run(change(admin.connection, {key: None}, operator, reason))
    tell(f"registry: {party} is suspended no more; it is on `audit.control`")
    return connection


def require_not_suspended(admin: Admin, party: str) -> None:
    """Refuse what would give a suspended party something.

    Raises:
        ConfigError: `party.suspended`.
    """
    if party in suspended_parties(admin):
        raise ConfigError(
            f"{party} is suspended (`broker registry get {suspension_key(party)}` says since when and why, from the "
            f"topic {REGISTRY}); `broker party resume` lets it in again.",
            code="party.suspended",
        )
