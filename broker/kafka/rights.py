"""What is asked and given for one name; `Admin.apply` holds everything against what should be there."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from broker.kafka.access import AclSpec
from broker.kafka.admin import Admin
from broker.kafka.bindings import any_acl, as_spec


def give_rights(admin: Admin, acls: Collection[AclSpec]) -> None:
    """Give rights beside those that are there, and wait until every broker shows them. What is there already stays.

    Raises:
        ConfigError, TransientError: as `Admin`.
    """
    wanted = frozenset(acls)
    admin._add_acls(sorted(wanted - _found(admin)))
    for there in admin._everywhere():
        admin._wait(partial(_has, there, wanted), "the rights to be visible")


def has_topic(admin: Admin, name: str) -> bool:
    """Whether there is such a topic that this user may know of."""
    return name in admin._metadata().topics


def _has(admin: Admin, wanted: frozenset[AclSpec]) -> bool:
    return wanted <= _found(admin)


def _found(admin: Admin) -> frozenset[AclSpec]:
    return frozenset(spec for spec in map(as_spec, admin._bindings(any_acl())) if spec is not None)
