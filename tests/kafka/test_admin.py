"""Topics and rights as code, on a real broker: what is wanted becomes what is there, and no more."""

from __future__ import annotations

from dataclasses import replace

import pytest
from aiokafka.errors import TopicAuthorizationFailedError
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from broker.errors import ConfigError
from broker.kafka.access import AclSpec, desired_acls, party_acls
from broker.kafka.admin import Admin
from broker.kafka.diagnosis import check
from broker.kafka.rights import has_topic
from broker.kafka.topics import TopicSpec
from tests.kafka.conftest import PARTIES, Cluster

pytestmark = pytest.mark.kafka


def found_config(cluster: Cluster, topic: str) -> dict[str, str | None]:
    """Settings as the broker tells them."""
    client = AdminClient(cluster.admin.connection.confluent())
    resource = ConfigResource(ResourceType.TOPIC, topic)
    return {name: entry.value for name, entry in client.describe_configs([resource])[resource].result(10).items()}


def kinds(cluster: Cluster, topics: list[TopicSpec], acls: frozenset[AclSpec] | None = None) -> list[tuple[str, str]]:
    """What a plan says, without its sentences."""
    return [(change.kind, change.target) for change in cluster.admin.plan(topics, acls)]


def test_what_was_applied_is_not_applied_again(cluster: Cluster) -> None:
    """A second apply finds nothing to do, and so does a plan."""
    assert cluster.admin.apply(cluster.topics, cluster.acls) == []
    assert cluster.admin.plan(cluster.topics, cluster.acls) == []


def test_topics_get_every_setting_of_their_file(cluster: Cluster) -> None:
    """Read back from the broker, for every topic."""
    for spec in cluster.topics:
        assert spec.config.items() <= found_config(cluster, spec.name).items(), spec.name


def test_a_changed_setting_is_found_and_set_back(cluster: Cluster) -> None:
    """Both ways: one that differs from the file, and one that the file does not have."""
    spec = TopicSpec("drifting", 1, 1, {"cleanup.policy": "delete", "retention.ms": "1000"})
    cluster.admin.apply([spec], None)
    by_hand = replace(spec, config={"cleanup.policy": "delete", "retention.ms": "2000", "flush.ms": "77"})
    assert [change.kind for change in cluster.admin.apply([by_hand], None)] == ["set_config"]
    (change,) = cluster.admin.plan([spec], None)
    assert change.config == {"retention.ms": "1000", "flush.ms": None}
    cluster.admin.apply([spec], None)
    assert found_config(cluster, "drifting")["flush.ms"] != "77"
    assert found_config(cluster, "drifting")["retention.ms"] == "1000"
    assert cluster.admin.plan([spec], None) == []


def test_partitions_are_added_only_where_order_does_not_depend_on_them(cluster: Cluster) -> None:
    """A keyed topic with another count, and one that has too many, are reported and left as they are."""
    plain = TopicSpec("counted", 2, 1, {"cleanup.policy": "delete"})
    keyed = replace(plain, name="counted.keyed", keyed=True)
    cluster.admin.apply([plain, keyed], None)
    wider = [replace(plain, partitions=3), replace(keyed, partitions=3)]
    assert kinds(cluster, wider) == [("add_partitions", "counted"), ("drift", "counted.keyed")]
    assert [change.kind for change in cluster.admin.apply(wider, None)] == ["add_partitions"]
    assert kinds(cluster, wider) == [("drift", "counted.keyed")]
    assert kinds(cluster, [replace(plain, partitions=1)]) == [("drift", "counted")]
    assert cluster.admin.apply([replace(plain, partitions=1)], None) == []


def test_another_number_of_replicas_is_reported(cluster: Cluster) -> None:
    """Moving replicas is for a person, who knows what it costs."""
    three = [spec.with_replicas(3) for spec in cluster.topics if spec.name == "audit.events"]
    assert ("drift", "audit.events") in kinds(cluster, three)


def test_topics_that_nobody_asked_for_stay(cluster: Cluster) -> None:
    """Apply never deletes: a party that left keeps its topics until their records expire."""
    cluster.admin.apply([TopicSpec("left.alone", 1, 1, {"cleanup.policy": "delete"})], None)
    cluster.admin.apply(cluster.topics, cluster.acls)
    assert found_config(cluster, "left.alone")


async def test_a_right_too_many_is_taken_away(cluster: Cluster) -> None:
    """Given by hand to a user of ours, or to everybody, it is found; and afterwards it does not work."""
    extra = AclSpec("pub", "TOPIC", "out.sis.order", "READ")
    everybody = AclSpec("*", "TOPIC", "vault.", "READ", prefixed=True)
    cluster.admin._add_acls([extra, everybody])
    cluster.admin._wait(lambda: len(cluster.admin.plan([], cluster.acls)) == 2, "both to be visible")
    assert {change.acl for change in cluster.admin.apply([], cluster.acls)} == {extra, everybody}
    with pytest.raises(TopicAuthorizationFailedError):
        await cluster.read("pub", "out.sis.order")


async def test_a_party_that_left_loses_all_rights(cluster: Cluster) -> None:
    """Though it is no longer among the parties, its rights are recognised as ours by its own input topic."""
    without = desired_acls(set(PARTIES) - {"pub2"})
    try:
        removed = {change.acl for change in cluster.admin.apply([], without)}
        assert removed == party_acls("pub2")
        with pytest.raises(TopicAuthorizationFailedError):
            await cluster.write("pub2", "in.pub2")
    finally:
        cluster.admin.apply([], cluster.acls)


def test_rights_of_users_who_are_not_ours_are_left_alone(cluster: Cluster) -> None:
    """Others may share the cluster."""
    foreign = AclSpec("reporting", "TOPIC", "sales", "READ")
    cluster.admin._add_acls([foreign])
    assert cluster.admin.apply([], cluster.acls) == []


async def test_a_user_can_log_in_once_it_is_made_and_not_once_it_is_removed(cluster: Cluster) -> None:
    """Made, given another password, removed with its rights; each time at once."""
    cluster.admin.ensure_user("guest", "first-password")
    await check(cluster.kafka.connection("guest", "first-password"))
    cluster.admin.ensure_user("guest", "second-password")
    await check(cluster.kafka.connection("guest", "second-password"))
    with pytest.raises(ConfigError, match="wrong user or password"):
        await check(cluster.kafka.connection("guest", "first-password"))
    rights = party_acls("guest")
    cluster.admin._add_acls(sorted(rights))
    cluster.admin.remove_user("guest")
    cluster.admin.remove_user("guest")
    assert "guest" not in cluster.admin.users()
    assert not any(change.target == "guest" for change in cluster.admin.plan([], cluster.acls))
    with pytest.raises(ConfigError, match="wrong user or password"):
        await check(cluster.kafka.connection("guest", "second-password"))


def test_the_operator_can_do_all_of_it(cluster: Cluster) -> None:
    """The operator's rights are enough for plan and apply; the super user is for the first time only."""
    operator = Admin(cluster.connection("operator"))
    spec = TopicSpec("by.operator", 1, 1, {"cleanup.policy": "delete"})
    assert [change.kind for change in operator.apply([spec], None)] == ["create_topic"]
    assert [change.kind for change in operator.apply([replace(spec, partitions=2)], None)] == ["add_partitions"]
    changed = replace(spec, partitions=2, config={"cleanup.policy": "compact"})
    assert [change.kind for change in operator.apply([changed], None)] == ["set_config"]
    assert operator.plan(cluster.topics, cluster.acls) == []
    operator.ensure_user("guest2", "password-of-guest2")
    operator.remove_user("guest2")


def test_a_party_cannot_administer(cluster: Cluster) -> None:
    """The message says who may."""
    party = Admin(cluster.connection("pub"))
    with pytest.raises(ConfigError, match="as the operator") as raised:
        party.apply([TopicSpec("by.party", 1, 1, {"cleanup.policy": "delete"})], None)
    assert raised.value.code == "kafka.not_allowed"
    for action in (
        lambda: party.plan([], cluster.acls),
        lambda: party.ensure_user("pub", "new-password"),
        lambda: party.remove_user("sis"),
        party.users,  # would abort the process, were the client asked without looking first
    ):
        with pytest.raises(ConfigError, match="as the operator"):
            action()


def test_a_wrong_password_has_its_message_here_too(cluster: Cluster) -> None:
    """librdkafka would say that all brokers are down."""
    with pytest.raises(ConfigError, match="wrong user or password"):
        Admin(cluster.kafka.connection("pub", "wrong")).plan([], frozenset())


def test_what_is_left_of_a_party_is_found_by_any_of_its_rights(cluster: Cluster) -> None:
    """Taking them away may end half way; the first ones to go are those that come first by name."""
    left = [AclSpec("gone", "TOPIC", "audit.counts", "WRITE"), AclSpec("gone", "TOPIC", "status.gone", "READ")]
    cluster.admin._add_acls([*left, AclSpec("reporting", "TOPIC", "schemas", "READ")])
    try:
        assert {str(change.acl) for change in cluster.admin.apply([], cluster.acls)} == set(map(str, left))
    finally:
        cluster.admin.remove_user("reporting")


def test_who_may_not_know_of_a_topic_is_not_told_that_there_is_none(cluster: Cluster) -> None:
    """Else nobody would seem to be suspended to whoever may give rights and not read the registry."""
    assert has_topic(cluster.admin, "registry")
    assert not has_topic(cluster.admin, "registry2")
    with pytest.raises(ConfigError) as refused:
        has_topic(Admin(cluster.connection("pub")), "registry")
    assert refused.value.code == "kafka.not_allowed"
