"""Users of Kafka as Strimzi's User Operator takes them: a `KafkaUser` each, with the rights of `broker.kafka.access`.

It makes a password for each, in a secret of the user's name, which the Helm chart reads (`kafka.strimzi`). Rights and
quotas are the same, so `broker topics plan` finds no difference, and nobody needs a super user's login to begin. It
gives them again every two minutes, and takes what it has no document for: a service without quotas in its document
would fall under the limit of everybody else, and a suspended party with a document would have login and rights again.
Source: CustomResourceDefinition `kafkausers.kafka.strimzi.io`, version v1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from broker.kafka.access import AclSpec, Resource
from broker.kafka.quotas import IN, OUT, REQUESTS, Quota, of_user

API_VERSION: Final = "kafka.strimzi.io/v1"
TYPES: Final[Mapping[Resource, str]] = {
    "TOPIC": "topic",
    "GROUP": "group",
    "TRANSACTIONAL_ID": "transactionalId",
    "CLUSTER": "cluster",
}
_QUOTAS: Final = {IN: "producerByteRate", OUT: "consumerByteRate", REQUESTS: "requestPercentage"}


def kafka_users(acls: Iterable[AclSpec], quotas: Iterable[Quota], cluster: str) -> list[dict[str, Any]]:
    """One document for each user that has rights, by name.

    Args:
        quotas: those of others, and of everybody else, are left out.
        cluster: name of the `Kafka` resource that they belong to.
    """
    rights: dict[str, dict[tuple[Resource, str, bool], set[str]]] = defaultdict(lambda: defaultdict(set))
    for acl in acls:
        rights[acl.user][acl.resource, acl.name, acl.prefixed].add(_operation(acl))
    limits = {quota.entity: quota.limits for quota in quotas}
    return [
        {
            "apiVersion": API_VERSION,
            "kind": "KafkaUser",
            "metadata": {"name": user, "labels": {"strimzi.io/cluster": cluster}},
            "spec": {
                "authentication": {"type": "scram-sha-512"},
                "authorization": {
                    "type": "simple",
                    "acls": [
                        {"resource": _resource(*what), "operations": sorted(operations)}
                        for what, operations in sorted(rights[user].items())
                    ],
                },
                "quotas": {_QUOTAS[name]: limit for name, limit in limits[of_user(user)].items()},
            },
        }
        for user in sorted(rights)
    ]


def _operation(acl: AclSpec) -> str:
    """`DESCRIBE_CONFIGS` is `DescribeConfigs` there."""
    return "".join(word.capitalize() for word in acl.operation.split("_"))


def _resource(resource: Resource, name: str, prefixed: bool) -> dict[str, str]:
    if resource == "CLUSTER":  # there is one, so it has no name there
        return {"type": TYPES[resource]}
    return {"type": TYPES[resource], "name": name, "patternType": "prefix" if prefixed else "literal"}
