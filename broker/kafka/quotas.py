"""How much each user may ask of Kafka, so that no party, and nobody without an entry, can crowd the others out.

Kafka counts per broker, and averages over as many seconds as `quota.window.num` says (3 on the brokers that we start,
11 by default); who is over it is answered later, not refused. A user without an entry falls under that of the *default
user*, each kind of limit for itself. So the default can be strict only if everybody who must not be throttled, the
services above all, has an entry with all kinds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from broker.kafka.access import services
from broker.kafka.configuration import ADMIN, BROKER

IN: Final = "producer_byte_rate"
OUT: Final = "consumer_byte_rate"
REQUESTS: Final = "request_percentage"
CONNECTIONS: Final = "connection_creation_rate"
#: Whom a quota is for, as Kafka writes it: pairs of kind (`user`, `ip`, `client-id`) and name; None is the default.
Entity = tuple[tuple[str, str | None], ...]
DEFAULT_USER: Final[Entity] = (("user", None),)
DEFAULT_IP: Final[Entity] = (("ip", None),)
LOOPBACK: Final[Entity] = (("ip", "127.0.0.1"),)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a role may use: a part for being there, and a part for each school.

    Args:
        in_bytes_per_s, out_bytes_per_s: to write and to read, whatever its size.
        in_bytes_per_s_per_school, out_bytes_per_s_per_school: on top of it.
    """

    in_bytes_per_s: int
    in_bytes_per_s_per_school: int
    out_bytes_per_s: int
    out_bytes_per_s_per_school: int


@dataclass(frozen=True, slots=True)
class QuotaLimits:
    """All limits, per broker of the cluster.

    A sealed event has 1 to 2 kB. An administration sends the class list of a school of 1,500 pupils (3 MB) in some
    seconds; a publisher with 1,000 schools sends at its busiest about 2,000 events a second. Reading is allowed to be
    faster than writing: who was away catches up.

    Args:
        roles: by role; a party with several has the widest.
        most_in_bytes_per_s, most_out_bytes_per_s: of a party whose registry entry says nothing else.
        party_request_percent: of one thread of a broker, which has about ten.
        unlisted_in_bytes_per_s, unlisted_out_bytes_per_s, unlisted_request_percent: of a user without an entry: enough
            to see that it works, not for work.
        service_bytes_per_s, service_request_percent: beyond what any broker can do, so never in force; Kafka has no
            word for "unlimited" that stands above the default user, and Strimzi no number beyond 31 bits.
        connections_per_s_per_address: new connections from one address; twice that at once. A login costs a broker
            about a millisecond, so a client that begins anew all the time can take a tenth of a core, and no more.
        connections_per_s_on_loopback: where all of an installation is on one machine, its address says nothing: a
            worker that starts opens three connections a lane. Never in force.
    """

    roles: Mapping[str, Allowance] = field(
        default_factory=lambda: MappingProxyType(
            {
                "SIS": Allowance(1_000_000, 50_000, 4_000_000, 100_000),
                "PUBLISHER": Allowance(1_000_000, 10_000, 4_000_000, 40_000),
                "PORTAL": Allowance(1_000_000, 10_000, 4_000_000, 40_000),
                "SHOP": Allowance(1_000_000, 5_000, 4_000_000, 20_000),
            }
        )
    )
    most_in_bytes_per_s: int = 20_000_000
    most_out_bytes_per_s: int = 50_000_000
    party_request_percent: int = 100
    unlisted_in_bytes_per_s: int = 50_000
    unlisted_out_bytes_per_s: int = 100_000
    unlisted_request_percent: int = 5
    service_bytes_per_s: int = 2_000_000_000
    service_request_percent: int = 1_000_000
    connections_per_s_per_address: int = 100
    connections_per_s_on_loopback: int = 1_000_000


@dataclass(frozen=True, slots=True)
class PartyLoad:
    """What decides how much a party may use.

    Args:
        roles: as in the registry.
        schools: that it works for.
        in_bytes_per_s, out_bytes_per_s: what the registry says instead; None: by role and schools.
    """

    roles: frozenset[str]
    schools: int = 0
    in_bytes_per_s: int | None = None
    out_bytes_per_s: int | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits of one entity, by Kafka's name of each."""

    entity: Entity
    limits: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Difference:
    """One entity whose limits are not what they should be.

    Args:
        before, after: limits by name; `after` is empty when the entity should have none.
    """

    entity: Entity
    before: Mapping[str, float]
    after: Mapping[str, int]

    @property
    def names(self) -> list[str]:
        """All limits that it had or should have."""
        return sorted({*self.before, *self.after})

    @property
    def detail(self) -> str:
        """What changes, for people."""
        names = [name for name in self.names if self.before.get(name) != self.after.get(name)]
        return "; ".join(f"{name} {_shown(self.before.get(name))} -> {_shown(self.after.get(name))}" for name in names)


def desired_quotas(parties: Mapping[str, PartyLoad], limits: QuotaLimits | None = None) -> tuple[Quota, ...]:
    """All quotas that should be there: of the services, of these parties, and of everybody else.

    Args:
        parties: by id.
    """
    limits = limits or QuotaLimits()
    generous = _kinds(limits.service_bytes_per_s, limits.service_bytes_per_s, limits.service_request_percent)
    unlisted = _kinds(limits.unlisted_in_bytes_per_s, limits.unlisted_out_bytes_per_s, limits.unlisted_request_percent)
    # The brokers' own user and the super user too: the default user's limit counts for every login.
    quotas = [Quota(of_user(name), generous) for name in sorted(services() | {ADMIN, BROKER})]
    quotas += [Quota(of_user(party), _of_party(load, limits)) for party, load in sorted(parties.items())]
    quotas += [
        Quota(DEFAULT_USER, unlisted),
        Quota(DEFAULT_IP, {CONNECTIONS: limits.connections_per_s_per_address}),
        Quota(LOOPBACK, {CONNECTIONS: limits.connections_per_s_on_loopback}),
    ]
    return tuple(quotas)


def differences(
    wanted: Iterable[Quota], found: Mapping[Entity, Mapping[str, float]], formerly: Collection[str]
) -> list[Difference]:
    """What differs of the entities we manage, removals last.

    These are the wanted ones, the default user and the default address, and whatever else is about a user of ours: a
    limit for one of a user's client ids stands above that of the user. Others' users, and addresses that were given a
    limit of their own, are left alone.

    Args:
        found: all that the cluster has.
        formerly: users that are ours although nothing is wanted for them.
    """
    listed = {quota.entity: quota.limits for quota in wanted}
    ours = {name for entity in listed for kind, name in entity if kind == "user"} | {None, *formerly}
    changed = [
        Difference(entity, found.get(entity, {}), limits)
        for entity, limits in listed.items()
        if dict(found.get(entity, {})) != dict(limits)
    ]
    surplus = [
        Difference(entity, limits, {})
        for entity, limits in sorted(found.items(), key=str)
        if entity not in listed and any(kind == "user" and name in ours for kind, name in entity)
    ]
    return changed + surplus


def of_user(name: str) -> Entity:
    """A user's entity."""
    return (("user", name),)


def shown(entity: Entity) -> str:
    """An entity for people: a user by its name alone, others with what they are."""
    return ", ".join(
        (f"default {kind}" if name is None else name if kind == "user" else f"{kind} {name}") for kind, name in entity
    )


def _of_party(load: PartyLoad, limits: QuotaLimits) -> Mapping[str, int]:
    given = [limits.roles[role] for role in sorted(load.roles)]
    written = max(one.in_bytes_per_s + one.in_bytes_per_s_per_school * load.schools for one in given)
    read = max(one.out_bytes_per_s + one.out_bytes_per_s_per_school * load.schools for one in given)
    return _kinds(
        load.in_bytes_per_s or min(written, limits.most_in_bytes_per_s),
        load.out_bytes_per_s or min(read, limits.most_out_bytes_per_s),
        limits.party_request_percent,
    )


def _kinds(written: int, read: int, request_percent: int) -> Mapping[str, int]:
    return {IN: written, OUT: read, REQUESTS: request_percent}


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:g}" if value != int(value) else str(int(value))
