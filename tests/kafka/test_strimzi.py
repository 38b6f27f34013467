"""Users for Strimzi: the same rights, in its words."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from typer.testing import CliRunner

from broker.app.cluster import Wanted, wanted_of
from broker.cli import build
from broker.kafka.access import CLUSTER_NAME, Operation, desired_acls
from broker.kafka.quotas import desired_quotas, of_user
from broker.kafka.strimzi import kafka_users
from broker.registry import load

REGISTRY = Path(__file__).parents[2] / "examples" / "registry"
# What the CustomResourceDefinition allows (kafkausers.kafka.strimzi.io, version v1).
OPERATIONS = {
    "Read", "Write", "Create", "Delete", "Alter", "Describe", "ClusterAction", "AlterConfigs", "DescribeConfigs",
    "IdempotentWrite", "All",
}  # fmt: skip
TYPES = {"topic": "TOPIC", "group": "GROUP", "transactionalId": "TRANSACTIONAL_ID", "cluster": "CLUSTER"}


def wanted() -> Wanted:
    """What the example registry asks of Kafka."""
    return wanted_of(load(REGISTRY), suspended=())


def rights(user: dict[str, Any]) -> set[tuple[str, str, str, str, bool]]:
    """What a document gives, as the User Operator reads it."""
    found = set()
    for acl in user["spec"]["authorization"]["acls"]:
        resource = acl["resource"]
        assert set(acl) == {"resource", "operations"}
        assert set(acl["operations"]) <= OPERATIONS
        name = resource.get("name", CLUSTER_NAME)
        for operation in acl["operations"]:
            word = "".join(f"_{c}" if c.isupper() else c for c in operation).upper().removeprefix("_")
            prefixed = resource.get("patternType") == "prefix"
            found.add((user["metadata"]["name"], TYPES[resource["type"]], name, word, prefixed))
    return found


def test_the_users_of_strimzi_have_the_very_rights_of_the_broker() -> None:
    """All of them and no other, of services and of parties; each user once, with a password that Strimzi makes."""
    acls = desired_acls(load(REGISTRY).parties)
    users = kafka_users(acls, wanted().quotas or (), "exchange")
    assert set().union(*map(rights, users)) == {(a.user, a.resource, a.name, a.operation, a.prefixed) for a in acls}
    names = [user["metadata"]["name"] for user in users]
    assert names == sorted({acl.user for acl in acls})
    assert all(user["spec"]["authentication"] == {"type": "scram-sha-512"} for user in users)
    assert {user["metadata"]["labels"]["strimzi.io/cluster"] for user in users} == {"exchange"}


def test_every_operation_has_a_word_of_strimzi() -> None:
    """Also those that no right has today."""
    words = {"".join(part.capitalize() for part in operation.split("_")) for operation in get_args(Operation)}
    assert words == OPERATIONS


def test_the_users_of_strimzi_have_the_very_quotas_of_the_broker() -> None:
    """It takes away what is not in its document: then the limit of everybody else would count for the services.

    Its numbers have 31 bits (`KafkaUserQuotas` of its API).
    """
    quotas = {quota.entity: sorted(quota.limits.values()) for quota in wanted().quotas or ()}
    for user in kafka_users(wanted().acls or (), wanted().quotas or (), "exchange"):
        found = user["spec"]["quotas"]
        assert found.keys() == {"producerByteRate", "consumerByteRate", "requestPercentage"}
        assert sorted(found.values()) == quotas[of_user(user["metadata"]["name"])]
        assert all(type(limit) is int and 0 < limit < 2**31 for limit in found.values())


def test_the_command_prints_documents_that_can_be_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services without a registry, parties too with one; nothing else stands on stdout.

    Of parties Kafka is asked who is suspended: nothing is printed without an answer, unless it is said that nobody is.
    """
    monkeypatch.delenv("BROKER_CONNECTION", raising=False)
    run, words = CliRunner().invoke, ["topics", "strimzi", "--cluster", "exchange"]
    services = run(build("topics"), words)
    assert services.exit_code == 0, services.output
    unasked = run(build("topics"), [*words, "--registry", str(REGISTRY)])
    assert (unasked.exit_code, unasked.stdout) == (1, "")
    all_users = run(build("topics"), [*words, "--registry", str(REGISTRY), "--nobody-suspended"])
    printed = kafka_users(desired_acls(()), desired_quotas({}), "exchange")
    assert list(yaml.safe_load_all(services.stdout)) == printed
    printed = kafka_users(wanted().acls or (), wanted().quotas or (), "exchange")
    assert list(yaml.safe_load_all(all_users.stdout)) == printed
