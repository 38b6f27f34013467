"""Who may do what: asked of a real broker, since what counts is what Kafka makes of the rules."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError

from broker.errors import ConfigError
from broker.kafka.access import RESERVED, desired_acls, party_acls
from tests.kafka.conftest import Cluster

Refused = Callable[[Awaitable[object], type[Exception]], Awaitable[None]]


@pytest.mark.parametrize("party", ["", "ab", "Pub", "pub.x", "pub_x", "-pub", "pub-", "a" * 41, "pub*", "*"])
def test_an_id_that_would_be_more_than_a_name_is_refused(party: str) -> None:
    """A dot would make one party's prefix cover another; a star is everybody."""
    with pytest.raises(ConfigError):
        party_acls(party)


@pytest.mark.parametrize("party", sorted(RESERVED))
def test_no_party_has_the_name_of_a_service(party: str) -> None:
    """A party called exchange would share the workers' consumer groups."""
    with pytest.raises(ConfigError):
        party_acls(party)


def test_no_right_of_a_party_covers_another_party() -> None:
    """Whatever the ids, also when one is the beginning of another."""
    parties = ["pub", "pub2", "pub-2", "pub-2b"]
    for acl in (acl for party in parties for acl in party_acls(party)):
        for other in set(parties) - {acl.user}:
            for name in (f"in.{other}", f"out.{other}.usage", f"status.{other}", f"quarantine.{other}", f"{other}.g"):
                assert not (name.startswith(acl.name) if acl.prefixed else name == acl.name), acl


def test_only_the_party_and_nobody_else_may_write_to_its_input() -> None:
    """The topic is the proof of the sender (design, section 1): not even a service may write there."""
    writers = {acl.user for acl in desired_acls(["pub", "sis"]) if acl.operation == "WRITE" and acl.name == "in.pub"}
    covering = [
        acl
        for acl in desired_acls(["pub", "sis"])
        if acl.resource == "TOPIC"
        and acl.operation in ("WRITE", "ALL")
        and acl.prefixed
        and "in.pub".startswith(acl.name)
    ]
    assert writers == {"pub"}
    assert covering == []


@pytest.mark.kafka
async def test_a_party_writes_to_its_input_and_the_exchange_reads_it(cluster: Cluster) -> None:
    """The way in, with an idempotent producer: WRITE is enough for one."""
    value = uuid.uuid4().bytes
    await cluster.write("sis", "in.sis", value, enable_idempotence=True)
    assert await cluster.read("exchange", "in.sis", group="exchange") == value


@pytest.mark.kafka
async def test_the_exchange_writes_in_a_transaction_and_the_party_reads(cluster: Cluster) -> None:
    """The way out: a transaction over every kind of topic that a lane writes to; the receiver reads committed."""
    value = uuid.uuid4().bytes
    lane = AIOKafkaProducer(**cluster.connection("exchange").aiokafka(), transactional_id="exchange.in.sis.0")
    await lane.start()
    topics = [
        *("out.pub2.usage", "status.sis", "quarantine.sis", "parked", "lane.state", "vault.identity"),
        *("audit.events", "audit.control", "audit.index"),
    ]
    try:
        async with lane.transaction():
            for topic in topics:
                await lane.send_and_wait(topic, value, key=b"k")
    finally:
        await lane.stop()
    assert await cluster.read("pub2", "out.pub2.usage", group="pub2.reader") == value
    assert await cluster.read("sis", "status.sis", group="sis") == value


@pytest.mark.kafka
async def test_a_party_cannot_write_where_another_sends(cluster: Cluster, refused: Refused) -> None:
    """Else it could speak in another's name."""
    await refused(cluster.write("pub", "in.sis"), TopicAuthorizationFailedError)


@pytest.mark.kafka
async def test_only_exchange_and_operator_say_what_became_of_a_quarantined_record(
    cluster: Cluster, refused: Refused
) -> None:
    """Its sender reads it."""
    value = uuid.uuid4().bytes
    await cluster.write("operator", "quarantine.sis", value)
    await refused(cluster.write("sis", "quarantine.sis"), TopicAuthorizationFailedError)
    await refused(cluster.write("auditor", "quarantine.sis"), TopicAuthorizationFailedError)


@pytest.mark.kafka
@pytest.mark.parametrize(
    "topic",
    [
        *("in.pub", "in.sis", "out.sis.order", "status.sis", "quarantine.sis", "vault.identity", "registry"),
        *("audit.events", "audit.counts", "counts.state"),
    ],
)
async def test_a_party_cannot_read_what_is_not_its_own(cluster: Cluster, refused: Refused, topic: str) -> None:
    """Not another's topics, not the exchange's, and not even its own input."""
    await refused(cluster.read("pub", topic), TopicAuthorizationFailedError)


@pytest.mark.kafka
async def test_a_party_whose_name_begins_like_anothers_sees_nothing_of_it(cluster: Cluster, refused: Refused) -> None:
    """The prefix trap: `out.pub` must not cover `out.pub2`."""
    await refused(cluster.read("pub", "out.pub2.usage"), TopicAuthorizationFailedError)
    await refused(cluster.write("pub", "in.pub2"), TopicAuthorizationFailedError)


@pytest.mark.kafka
@pytest.mark.parametrize("group", ["pub2", "pub2.x", "exchange", "other"])
async def test_a_party_joins_only_groups_of_its_own(cluster: Cluster, refused: Refused, group: str) -> None:
    """In another's group it would take records away from it."""
    await refused(cluster.read("pub", "out.pub.usage", group=group), GroupAuthorizationFailedError)


@pytest.mark.kafka
async def test_a_party_cannot_take_a_lane_over(cluster: Cluster) -> None:
    """With the transactional id of a lane it could fence the worker."""
    producer = AIOKafkaProducer(**cluster.connection("pub").aiokafka(), transactional_id="exchange.in.pub.0")
    with pytest.raises(KafkaError, match="ransactional"):
        await producer.start()
    await producer.stop()


@pytest.mark.kafka
async def test_the_auditor_reads_the_audit_and_no_data(cluster: Cluster, refused: Refused) -> None:
    """The audit topics, and the public keys that senders seal for; writing nowhere."""
    await cluster.write("operator", "audit.control", b"leaf")
    assert await cluster.read("auditor", "audit.control", group="auditor.desk")
    for topic in ("in.pub", "out.pub.usage", "quarantine.pub", "registry", "vault.identity"):
        await refused(cluster.read("auditor", topic), TopicAuthorizationFailedError)
    await refused(cluster.write("auditor", "audit.events"), TopicAuthorizationFailedError)


def test_the_audit_service_has_three_rights() -> None:
    """No audit topic to read, no group, nothing to write but the control log."""
    rights = {str(acl) for acl in desired_acls(["pub"]) if acl.user == "audit-service"}
    assert rights == {
        "audit-service READ topic registry", "audit-service READ topic vault.identity",
        "audit-service WRITE topic audit.control",
    }  # fmt: skip


@pytest.mark.kafka
async def test_the_audit_service_writes_who_asked_and_reads_no_event(cluster: Cluster, refused: Refused) -> None:
    """With an idempotent producer; not what parties send, not the leaves, not even the control log."""
    value = uuid.uuid4().bytes
    await cluster.write("audit-service", "audit.control", value, acks="all", enable_idempotence=True)
    exchange = AIOKafkaProducer(**cluster.connection("exchange").aiokafka())
    await exchange.start()
    try:
        for topic, content in (("registry", None), ("vault.identity", value)):  # no entry for others to stumble over
            await exchange.send_and_wait(topic, content, key=b"k")
            await cluster.read("audit-service", topic)
    finally:
        await exchange.stop()
    for topic in (
        "in.pub",
        "out.pub.usage",
        "quarantine.pub",
        "parked",
        "audit.events",
        "audit.index",
        "audit.control",
    ):
        await refused(cluster.read("audit-service", topic), TopicAuthorizationFailedError)
    for topic in ("audit.events", "audit.index", "registry"):
        await refused(cluster.write("audit-service", topic), TopicAuthorizationFailedError)


@pytest.mark.kafka
async def test_the_operator_does_not_read_what_parties_send_and_receive(cluster: Cluster, refused: Refused) -> None:
    """Quarantine is his to look at, the flow of data is not."""
    await refused(cluster.read("operator", "in.sis"), TopicAuthorizationFailedError)
    await refused(cluster.read("operator", "out.pub2.usage"), TopicAuthorizationFailedError)


@pytest.mark.kafka
async def test_every_party_writes_its_counts_and_only_keeper_and_auditors_read_them(
    cluster: Cluster, refused: Refused
) -> None:
    """They go to one topic, since a note proves whose it is; the log builder has no business there."""
    value = uuid.uuid4().bytes
    await cluster.write("pub", "audit.counts", value, enable_idempotence=True)
    await cluster.write("sis", "audit.counts")
    assert await cluster.read("count-keeper", "audit.counts") == value
    assert await cluster.read("auditor", "audit.counts", group="auditor.counts") == value
    for user in ("sis", "exchange", "operator", "log-builder"):
        await refused(cluster.read(user, "audit.counts"), TopicAuthorizationFailedError)


@pytest.mark.kafka
async def test_the_count_keeper_does_nothing_else(cluster: Cluster, refused: Refused) -> None:
    """It reads counts and the registry, and writes leaves of the control log, as it must: in transactions of its own."""
    keeper = AIOKafkaProducer(**cluster.connection("count-keeper").aiokafka(), transactional_id="count-keeper")
    await keeper.start()
    try:
        async with keeper.transaction():
            for topic in ("audit.control", "counts.state"):
                await keeper.send_and_wait(topic, b"{}", key=b"k")
    finally:
        await keeper.stop()
    for topic in ("in.sis", "out.pub.usage", "audit.events", "audit.control", "vault.identity"):
        await refused(cluster.read("count-keeper", topic), TopicAuthorizationFailedError)
    for topic in ("audit.counts", "audit.events", "registry", "in.sis"):
        await refused(cluster.write("count-keeper", topic), TopicAuthorizationFailedError)
