"""Shut a party out at once, and let it in again.

To suspend is said first in the registry, in one transaction with its audit: from there on workers take nothing of the
party and deliver nothing to it, whatever it can still reach. Then its rights on Kafka go, then its login. To resume
goes the other way round, and the registry is last: what failed half way leaves the party shut out. Both can be repeated
until they are done (docs/adr/0017).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from broker.app.cluster import Wanted
from broker.app.provision import new_login
from broker.errors import BrokerError, ConfigError, TransientError
from broker.kafka.access import party_acls
from broker.kafka.admin import Admin
from broker.kafka.changes import Change
from broker.kafka.connection import KafkaConnection
from broker.kafka.rights import give_rights, has_rights, has_topic
from broker.registry import Suspension
from broker.registry.registry import record_of
from broker.registry.store import REGISTRY, read_records, require_why, revise
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

    Where the registry can not be changed, rights and login are taken all the same, and the error is raised after that.
    A `resume` of somebody else that is under way does not undo it: the registry is looked at once more in the end.

    Raises:
        ConfigError: `party.id`, `party.unknown`, `registry.why`: nothing was done.
        ConfigError, TransientError: something was done; repeat it.
    """
    party_acls(party)  # no service of the broker is shut out by this
    require_why(operator, reason, "a change", code="registry.why")
    records, key = asyncio.run(read_records(admin.connection)), suspension_key(party)
    if records.keys().isdisjoint({key, f"party/{party}"}) and party not in admin.users():
        raise ConfigError(
            f"Neither the registry nor Kafka knows a party {party}; `broker registry list --kind party` shows them.",
            code="party.unknown",
        )
    failure = None
    try:
        if _enter(admin, party, operator, reason):
            tell(f"registry: {party} is suspended; it is on `audit.control`, and workers hold to it within 5 seconds")
        else:
            tell(f"registry: {party} is suspended already; its reason stands")
    except BrokerError as error:
        failure = error
        tell("registry: it could NOT be changed, so workers go on; rights and login are taken away all the same")
    admin.remove_user(party)
    tell(f"rights: all of {party}'s are gone; connections that are open get nothing any more")
    tell(f"login: {party} has none any more")
    if failure is not None:
        tell("not done: run it again, and until then neither `broker topics apply` nor `broker party resume`")
        raise failure
    while _enter(admin, party, operator, reason):
        tell(f"registry: somebody let {party} in again meanwhile; it is suspended anew")
        admin.remove_user(party)


def _enter(admin: Admin, party: str, operator: str, reason: str) -> bool:
    """Put the record into the registry, if it is not there; whoever changes the registry right now is fenced."""
    key, since = suspension_key(party), datetime.now(UTC).replace(microsecond=0)
    record = record_of(Suspension(id=party, since=since, reason=reason, by=operator))

    def missing(current: Mapping[str, bytes]) -> dict[str, bytes | None]:
        return {} if key in current else {key: record}

    return bool(asyncio.run(revise(admin.connection, missing, operator, reason)))


def resume(admin: Admin, party: str, operator: str, reason: str, file: Path, tell: Tell) -> KafkaConnection:
    """Let a suspended party in again, with a new password: login, then rights, then registry. Tells each step.

    Args:
        file: where its connection file goes; one that is there is replaced. The CA goes beside it.

    Raises:
        ConfigError: `party.not_suspended`, `registry.why`, or as `broker.registry.store.change`.
        TransientError: `party.suspended`, if somebody suspends it meanwhile; it is still suspended, repeat it. The
            password is another one then.
    """
    acls = party_acls(party)
    require_why(operator, reason, "a change", code="registry.why")
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

    def lifted(current: Mapping[str, bytes]) -> dict[str, bytes | None]:
        # Whoever suspends it now takes these first and looks at the registry after that, and so fences this change.
        if party not in admin.users() or not has_rights(admin, acls):
            raise TransientError(
                f"Somebody took {party}'s login or rights away meanwhile, so it stays suspended. Ask who suspends it; "
                "then run this again.",
                code="party.suspended",
            )
        return {key: None} if key in current else {}

    try:
        asyncio.run(revise(admin.connection, lifted, operator, reason))
    except TransientError as error:
        if error.code == "party.suspended":
            admin.remove_user(party)  # what was given after it was taken
        raise
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


def take_back_from_suspended(admin: Admin, party: str) -> None:
    """Take a login away again that was just made, if the party was suspended meanwhile.

    Raises:
        ConfigError: `party.suspended`.
    """
    if party in suspended_parties(admin):
        admin.remove_user(party)
        require_not_suspended(admin, party)


def apply_to_cluster(admin: Admin, wanted_for: Callable[[frozenset[str]], Wanted]) -> tuple[Wanted, list[Change]]:
    """Make what should be there; anew if a party is suspended or let in while it is done.

    Without the second look a party that is suspended in between would be given its rights back, and its open
    connections with them. A login that a suspended party has is taken away.

    Args:
        wanted_for: what should be there when these parties are suspended.

    Returns:
        What should be there in the end, and all that was done.
    """
    done: list[Change] = []
    suspended = suspended_parties(admin)
    while True:
        wanted, failure = wanted_for(suspended), None
        try:
            done += admin.apply(wanted.topics, wanted.acls, wanted.quotas)
        except TransientError as error:  # such as rights that somebody else takes away while this waits for them
            failure = error
        before, suspended = suspended, suspended_parties(admin)
        if suspended == before:
            if failure is not None:
                raise failure
            break
    for party in sorted(suspended & admin.users()):
        admin.remove_user(party)  # a `suspend` that failed half way, or a new profile on another machine
    return wanted, done
