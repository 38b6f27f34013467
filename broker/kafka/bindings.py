"""Our permissions in the words of confluent-kafka, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast, get_args

from broker.kafka.access import AclSpec, Operation, Resource
from broker.kafka.confluent import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

_RESOURCES: Final[Mapping[Resource, ResourceType]] = {
    "TOPIC": ResourceType.TOPIC,
    "GROUP": ResourceType.GROUP,
    "TRANSACTIONAL_ID": ResourceType.TRANSACTIONAL_ID,
    "CLUSTER": ResourceType.BROKER,  # librdkafka's name of what Kafka calls the cluster
}


def any_acl(principal: str | None = None) -> AclBindingFilter:
    return AclBindingFilter(
        ResourceType.ANY,
        cast("str", None),  # the type says str; the documentation and the code say None for any
        ResourcePatternType.ANY,
        cast("str", principal),
        cast("str", None),
        AclOperation.ANY,
        AclPermissionType.ANY,
    )


def _parts(acl: AclSpec) -> tuple[Any, ...]:
    pattern = ResourcePatternType.PREFIXED if acl.prefixed else ResourcePatternType.LITERAL
    operation = AclOperation[acl.operation]
    return (_RESOURCES[acl.resource], acl.name, pattern, f"User:{acl.user}", "*", operation, AclPermissionType.ALLOW)


def as_binding(acl: AclSpec) -> AclBinding:
    return AclBinding(*_parts(acl))


def as_filter(acl: AclSpec) -> AclBindingFilter:
    return AclBindingFilter(*_parts(acl))


def as_spec(binding: AclBinding) -> AclSpec | None:
    """`None` for a rule of a shape that we never make: a denial, for one host, or an unknown operation."""
    b = cast("Any", binding)  # its attributes are typed as what the constructor takes, not as what they are
    resource = {kind: name for name, kind in _RESOURCES.items()}.get(b.restype)
    pattern = {ResourcePatternType.LITERAL: False, ResourcePatternType.PREFIXED: True}.get(b.resource_pattern_type)
    ours = b.permission_type == AclPermissionType.ALLOW and b.host == "*" and b.principal.startswith("User:")
    if resource is None or pattern is None or not ours or b.operation.name not in get_args(Operation):
        return None
    return AclSpec(b.principal.removeprefix("User:"), resource, b.name, b.operation.name, pattern)
