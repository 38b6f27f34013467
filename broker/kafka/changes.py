"""The differences between what should be on a cluster and what is there, as values: nothing here asks Kafka."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from broker.kafka.access import AclSpec
from broker.kafka.bindings import as_spec
from broker.kafka.confluent import AclBinding, ConfigEntry, ConfigSource, TopicMetadata
from broker.kafka.quotas import Difference, Entity, Quota, differences, shown
from broker.kafka.topics import TopicSpec

Kind = Literal[
    "create_topic", "set_config", "add_partitions", "set_quota", "remove_quota", "add_acl", "remove_acl", "drift"
]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    Args:
        kind: what closes it; `drift` is what no command closes: a person must decide.
        target: the topic, the user, or whom a quota is for.
        detail: a sentence for people.
        topic, config, acl, quota: what it is made of; a config value of `None` means back to the default.
    """

    kind: Kind
    target: str
    detail: str
    topic: TopicSpec | None = None
    config: Mapping[str, str | None] | None = None
    acl: AclSpec | None = None
    quota: Difference | None = None

    @property
    def can_be_applied(self) -> bool:
        """Whether `Admin.apply` closes it."""
        return self.kind != "drift"

    def __str__(self) -> str:
        return f"{self.kind.replace('_', ' ')} {self.target}: {self.detail}"


def topic_changes(
    wanted: Iterable[TopicSpec],
    present: Mapping[str, TopicMetadata],
    configs: Mapping[str, Mapping[str, ConfigEntry]],
) -> Iterator[Change]:
    """What differs of these topics; others in the cluster are left alone.

    Args:
        present, configs: topics and their settings by name. One without settings is not there yet.
    """
    for spec in wanted:
        if spec.name not in configs:
            detail = f"{spec.partitions} partition(s), {spec.replicas} replica(s), {spec.config['cleanup.policy']}"
            yield Change("create_topic", spec.name, detail, topic=spec)
        else:
            yield from _shape_changes(spec, present[spec.name])
            yield from _config_changes(spec, configs[spec.name])


def acl_changes(wanted: frozenset[AclSpec], bindings: Iterable[AclBinding]) -> Iterator[Change]:
    """What differs of the rights of the users we manage: those wanted, everybody (`*`), and parties that left.

    Args:
        bindings: all that the cluster has.
    """
    bindings = list(bindings)
    found = {spec for spec in map(as_spec, bindings) if spec is not None}
    managed = {spec.user for spec in wanted} | {"*"} | {spec.user for spec in found if _is_of_party(spec)}
    for spec in sorted(wanted - found):
        yield Change("add_acl", spec.user, str(spec), acl=spec)
    for spec in sorted(found - wanted):
        if spec.user in managed:
            yield Change("remove_acl", spec.user, str(spec), acl=spec)
    for binding in bindings:
        user = binding.principal.removeprefix("User:")
        if as_spec(binding) is None and user in managed:
            yield Change("drift", user, f"a rule of another kind than ours, remove it by hand: {binding!r}")


def quota_changes(
    wanted: Iterable[Quota], found: Mapping[Entity, Mapping[str, float]], topics: Iterable[str]
) -> Iterator[Change]:
    """What differs of the quotas of our users, of everybody else together, and of addresses.

    Args:
        found: all that the cluster has.
        topics: names of all there are. They outlive a party, and show whose user was ours.
    """
    formerly = {topic.removeprefix("in.") for topic in topics if topic.startswith("in.")}
    for quota in differences(wanted, found, formerly):
        kind: Kind = "set_quota" if quota.after else "remove_quota"
        yield Change(kind, shown(quota.entity), quota.detail, quota=quota)


def _shape_changes(spec: TopicSpec, found: TopicMetadata) -> Iterator[Change]:
    partitions = len(found.partitions)
    if partitions > spec.partitions:
        yield Change("drift", spec.name, f"has {partitions} partitions, wanted {spec.partitions}: never shrunk")
    elif partitions < spec.partitions and spec.keyed:
        detail = f"has {partitions} partitions, wanted {spec.partitions}: keyed, so never raised in place"
        yield Change("drift", spec.name, detail)
    elif partitions < spec.partitions:
        yield Change("add_partitions", spec.name, f"partitions {partitions} -> {spec.partitions}", topic=spec)
    replicas = {len(partition.replicas) for partition in found.partitions.values()}
    if replicas and replicas != {spec.replicas}:
        shown = "/".join(map(str, sorted(replicas)))
        yield Change("drift", spec.name, f"has {shown} replica(s), wanted {spec.replicas}: reassign its partitions")


def _config_changes(spec: TopicSpec, found: Mapping[str, ConfigEntry]) -> Iterator[Change]:
    own = {
        name: entry.value
        for name, entry in found.items()
        if entry.source in (ConfigSource.DYNAMIC_TOPIC_CONFIG, ConfigSource.DYNAMIC_TOPIC_CONFIG.value)
    }
    unknown = sorted(spec.config.keys() - found.keys())
    if unknown:
        yield Change("drift", spec.name, f"Kafka does not know the setting {', '.join(unknown)}")
    config: dict[str, str | None] = {
        name: value for name, value in spec.config.items() if name in found and own.get(name) != value
    }
    config |= dict.fromkeys(own.keys() - spec.config.keys())
    if config:
        detail = "; ".join(
            f"{name} {found[name].value} -> {'default' if value is None else value}"
            for name, value in sorted(config.items())
        )
        yield Change("set_config", spec.name, detail, config=config)


def _is_of_party(spec: AclSpec) -> bool:
    """Only a party's user has a right on a topic with its own name in it: one that we gave rights to, perhaps long ago.

    Any of them tells: what was taken away half way must not hide the rest.
    """
    own = (f"in.{spec.user}", f"status.{spec.user}", f"quarantine.{spec.user}", f"out.{spec.user}.")
    return spec.resource == "TOPIC" and spec.name in own
