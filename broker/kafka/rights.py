"""What is asked and given for one name; `Admin.apply` holds everything against what should be there."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from broker.kafka.access import AclSpec
from broker.kafka.admin import Admin
from broker.kafka.bindings import any_acl, as_spec
from broker.kafka.quota_requests import alter_quotas, describe_quotas
from broker.kafka.quotas import Difference


def give_rights(admin: Admin, acls: Collection[AclSpec]) -> None:
    """Give rights beside those that are there, and wait until every broker shows them. What is there already stays.

    Raises:
        ConfigError, TransientError: as `Admin`.
    """
    wanted = frozenset(acls)
    admin._add_acls(sorted(wanted - _found(admin)))
    for there in admin._everywhere():
        admin._wait(partial(has_rights, there, wanted), "the rights to be visible")


def has_rights(admin: Admin, acls: Collection[AclSpec]) -> bool:
    """Whether all of these are given, as the broker that is asked knows it."""
    return frozenset(acls) <= _found(admin)


def remove_quotas(admin: Admin, user: str) -> None:
    """Take every limit away that was set for a user, also those for one of its client ids.

    Raises:
        ConfigError, TransientError: as `Admin`.
    """
    found = describe_quotas(admin.connection)
    if its := [Difference(entity, limits, {}) for entity, limits in found.items() if ("user", user) in entity]:
        alter_quotas(admin.connection, its)


def has_topic(admin: Admin, name: str) -> bool:
    """Whether there is such a topic.

    Raises:
        ConfigError: `kafka.not_allowed`: this user may not know. To take that for a no would be a guess.
    """
    return name in admin._metadata().topics or bool(admin._configs([name]))


def _found(admin: Admin) -> frozenset[AclSpec]:
    return frozenset(spec for spec in map(as_spec, admin._bindings(any_acl())) if spec is not None)
