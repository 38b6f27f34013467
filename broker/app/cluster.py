"""What a registry means for Kafka: which topics there should be, who may do what, and how much of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from broker.kafka.access import AclSpec, desired_acls
from broker.kafka.quotas import PartyLoad, Quota, desired_quotas
from broker.kafka.topics import PartyTopics, TopicSpec, desired_topics, load_specs
from broker.registry import Registry, receivable_families


@dataclass(frozen=True, slots=True)
class Wanted:
    """What should be there, for `Admin.plan` and `Admin.apply` in this order.

    Args:
        acls, quotas: None leaves rights and quotas as they are.
    """

    topics: tuple[TopicSpec, ...]
    acls: frozenset[AclSpec] | None
    quotas: tuple[Quota, ...] | None


def wanted_of(
    registry: Registry,
    specs: Iterable[TopicSpec] | None = None,
    *,
    suspended: Collection[str],
    replicas: int | None = None,
) -> Wanted:
    """Everything that should be there with the parties of a registry.

    Args:
        specs: of topics; by default those that come with the broker.
        suspended: parties that the topic `registry` says are suspended; a folder can not know them
            (`broker.app.suspension.suspended_parties`).
        replicas: instead of what the specifications say.

    Raises:
        ConfigError: as `desired_topics` and `desired_acls`.
    """
    topics = desired_topics(load_specs() if specs is None else specs, topics_of(registry), replicas=replicas)
    rights = desired_acls(with_rights(registry, suspended))
    return Wanted(topics, rights, desired_quotas(loads_of(registry, registry.parties)))


def topics_of(registry: Registry) -> dict[str, PartyTopics]:
    """All parties, with the families each may receive."""
    return {party: PartyTopics(frozenset(receivable_families(registry, party))) for party in registry.parties}


def with_rights(registry: Registry, suspended: Collection[str]) -> frozenset[str]:
    """The parties that have rights. One that is suspended keeps topics and quota, for when it is let in again."""
    return frozenset(registry.parties) - registry.suspensions.keys() - set(suspended)


def loads_of(registry: Registry, parties: Iterable[str]) -> Mapping[str, PartyLoad]:
    """What decides over the quotas of these parties: roles, schools, and what their entries say."""
    found = {}
    for party in (registry.parties[name] for name in parties):
        boards = {agreement.board for agreement in registry.agreements_of(party.id)}
        schools = sum(school.sis == party.id or school.board in boards for school in registry.schools.values())
        own = party.quota
        found[party.id] = PartyLoad(
            frozenset(party.roles),
            schools,
            None if own is None else own.in_bytes_per_s,
            None if own is None else own.out_bytes_per_s,
        )
    return found
