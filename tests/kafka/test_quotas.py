"""Quotas as code, on a real broker: who is held back, who is not, and that Kafka has what the files say."""

from __future__ import annotations

import socket
import ssl
import sys
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer, ThrottleEvent

from broker.errors import ConfigError
from broker.kafka.access import AclSpec, services
from broker.kafka.admin import Admin
from broker.kafka.configuration import ADMIN, BROKER
from broker.kafka.quota_requests import alter_quotas, describe_quotas
from broker.kafka.quotas import (
    DEFAULT_IP,
    DEFAULT_USER,
    LOOPBACK,
    Difference,
    PartyLoad,
    Quota,
    QuotaLimits,
    desired_quotas,
    of_user,
)
from tests.kafka.conftest import PARTIES, Cluster

LOADS = {
    "pub": PartyLoad(frozenset({"PUBLISHER"}), schools=3),
    "pub2": PartyLoad(frozenset({"PUBLISHER"}), in_bytes_per_s=123_456),
    "sis": PartyLoad(frozenset({"SIS"}), schools=2),
}
QUOTAS = desired_quotas(LOADS)
DEADLINE_S = 30.0


@pytest.fixture
def limited(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with quotas; without any afterwards, since other tests have users of their own."""
    cluster.admin.apply([], None, QUOTAS)
    yield cluster
    left = describe_quotas(cluster.admin.connection)
    alter_quotas(cluster.admin.connection, [Difference(entity, limits, {}) for entity, limits in left.items()])
    cluster.admin._wait(lambda: not describe_quotas(cluster.admin.connection), "no quota to be left")


def limits_of(party: str) -> dict[str, int]:
    """What a party should have."""
    (found,) = (quota.limits for quota in QUOTAS if quota.entity == of_user(party))
    return dict(found)


def test_a_party_is_allowed_more_with_more_schools_and_what_its_entry_says_overrides() -> None:
    """By role and size, up to a most; one number of the entry leaves the other as it was."""
    few, many = (PartyLoad(frozenset({"PUBLISHER"}), schools=n) for n in (1, 50))
    both = PartyLoad(frozenset({"PUBLISHER", "SIS"}), schools=50)
    country = PartyLoad(frozenset({"SIS"}), schools=9_000)
    own = PartyLoad(frozenset({"SIS"}), schools=9_000, in_bytes_per_s=30_000_000)
    names = ("few", "many", "both", "country", "own")
    found = desired_quotas(dict(zip(names, (few, many, both, country, own), strict=True)))
    rates = {q.entity[0][1]: (q.limits["producer_byte_rate"], q.limits["consumer_byte_rate"]) for q in found[-8:-3]}
    most = (QuotaLimits().most_in_bytes_per_s, QuotaLimits().most_out_bytes_per_s)
    assert rates["few"] < rates["many"] < rates["both"] < rates["country"] == most
    assert rates["own"] == (30_000_000, most[1])


def test_everybody_who_has_rights_and_is_no_party_has_all_three_limits_far_away() -> None:
    """A kind of limit that an entry does not have would be the default user's."""
    found = {quota.entity: quota.limits for quota in desired_quotas({})}
    default = found[DEFAULT_USER]
    for user in services() | {ADMIN, BROKER}:
        assert found[of_user(user)].keys() == default.keys() == limits_of("pub").keys()
        assert all(value > 1_000 * default[name] for name, value in found[of_user(user)].items())


@pytest.mark.kafka
def test_quotas_are_set_and_what_was_set_is_not_set_again(limited: Cluster) -> None:
    """Read back from the broker: every user of ours, everybody else, and addresses."""
    found = describe_quotas(limited.admin.connection)
    assert found == {quota.entity: dict(quota.limits) for quota in QUOTAS}
    assert {of_user(party) for party in PARTIES} | {DEFAULT_USER, DEFAULT_IP} <= found.keys()
    assert limited.admin.plan([], None, QUOTAS) == []
    assert limited.admin.apply([], None, QUOTAS) == []


@pytest.mark.kafka
def test_what_was_changed_by_hand_shows_and_is_set_back(limited: Cluster) -> None:
    """Another value, a limit of a kind that we do not set, one that is gone, and one for a client id of a user of ours.

    An address and a user that are not ours keep what they were given.
    """
    by_hand = [
        Difference(of_user("pub"), {}, {"producer_byte_rate": 1}),
        Difference(of_user("exchange"), {}, {"controller_mutation_rate": 5}),
        Difference(of_user("sis"), {"request_percentage": 1}, {}),
        Difference((("client-id", "x"), ("user", "pub2")), {}, {"consumer_byte_rate": 7}),
        Difference((("ip", "10.0.0.7"),), {}, {"connection_creation_rate": 9}),
        Difference(of_user("reporting"), {}, {"consumer_byte_rate": 9}),
    ]
    alter_quotas(limited.admin.connection, by_hand)
    limited.admin._wait(lambda: len(limited.admin.plan([], None, QUOTAS)) == 4, "all changes to be visible")
    changes = limited.admin.apply([], None, QUOTAS)
    assert {(change.kind, change.target, change.detail) for change in changes} == {
        ("set_quota", "pub", f"producer_byte_rate 1 -> {limits_of('pub')['producer_byte_rate']}"),
        ("set_quota", "exchange", "controller_mutation_rate 5 -> none"),
        ("set_quota", "sis", "request_percentage none -> 100"),
        ("remove_quota", "client-id x, pub2", "consumer_byte_rate 7 -> none"),
    }
    found = describe_quotas(limited.admin.connection)
    assert found.pop((("ip", "10.0.0.7"),)) == {"connection_creation_rate": 9}
    assert found.pop(of_user("reporting")) == {"consumer_byte_rate": 9}
    assert found == {quota.entity: dict(quota.limits) for quota in QUOTAS}


@pytest.mark.kafka
def test_a_party_that_left_falls_under_the_limit_of_everybody_else(limited: Cluster) -> None:
    """Its entry is recognised as ours by its input topic, which stays."""
    without = desired_quotas({party: load for party, load in LOADS.items() if party != "pub2"})
    (change,) = limited.admin.apply([], None, without)
    assert (change.kind, change.target) == ("remove_quota", "pub2")
    assert of_user("pub2") not in describe_quotas(limited.admin.connection)


@pytest.mark.kafka
def test_the_operator_sets_quotas_and_a_party_does_not(limited: Cluster) -> None:
    """With the operator's rights alone; the party's message says who may."""
    operator = Admin(limited.connection("operator"))
    tighter = [*QUOTAS[:-1], Quota(LOOPBACK, {"connection_creation_rate": 999_999})]
    assert [change.kind for change in operator.plan([], None, tighter)] == ["set_quota"]
    assert [change.kind for change in operator.apply([], limited.acls, tighter)] == ["set_quota"]
    assert operator.plan(limited.topics, limited.acls, tighter) == []
    party = limited.connection("pub")
    for attempt in (
        lambda: Admin(party).plan([], None, QUOTAS),
        lambda: alter_quotas(party, [Difference(of_user("pub"), {}, {"producer_byte_rate": 10**9})]),
    ):
        with pytest.raises(ConfigError, match="as the operator") as raised:
            attempt()
        assert raised.value.code == "kafka.not_allowed"


@pytest.mark.kafka
def test_a_user_without_an_entry_is_held_back_and_a_service_and_a_party_are_not(limited: Cluster) -> None:
    """Kafka itself says whom it makes wait; who has 123 kB/s also after half a megabyte at once, though it was silent
    before: over Kafka's own eleven seconds it would not be too much."""
    limited.admin.ensure_user("guest", "password-of-guest")
    may_write = AclSpec("guest", "TOPIC", "schemas", "WRITE")
    limited.admin._add_acls([may_write])
    try:
        limited.admin._wait(lambda: _held_back(limited, "guest", "schemas") > 0, "the guest to be held back")
        assert _held_back(limited, "exchange", "lane.state") == 0
        assert _held_back(limited, "pub", "in.pub", records=2) == 0
        assert _held_back(limited, "pub2", "in.pub2", records=1) > 0
    finally:
        limited.admin.remove_user("guest")


@pytest.mark.kafka
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.2 is not this machine's by itself")
def test_an_address_that_connects_too_often_is_kept_out_and_this_machines_own_is_not(limited: Cluster) -> None:
    """Kafka closes what an address opens beyond its rate, before it has spent a handshake on it."""
    limited.admin.apply([], None, desired_quotas(LOADS, QuotaLimits(connections_per_s_per_address=1)))
    assert all(_shakes_hands(limited, "127.0.0.1") for _ in range(30))
    assert not all(_shakes_hands(limited, "127.0.0.2") for _ in range(30))


def _shakes_hands(cluster: Cluster, source: str) -> bool:
    """Whether a TLS handshake from this address comes to an end."""
    connection = cluster.admin.connection
    context, address = connection.ssl_context(), connection.hosts()[0]
    assert context is not None
    with socket.create_connection(address, DEADLINE_S, source_address=(source, 0)) as plain:
        try:
            context.wrap_socket(plain, server_hostname=address[0]).close()
        except (ssl.SSLError, OSError):
            return False
    return True


def _held_back(cluster: Cluster, user: str, topic: str, records: int = 4) -> float:
    """Seconds that Kafka makes the user wait after so many records of half a megabyte."""
    told: list[ThrottleEvent] = []
    settings = cluster.connection(user).confluent() | {"log_level": 0, "linger.ms": 0}
    producer = Producer({**settings, "throttle_cb": told.append})
    for _ in range(records):
        producer.produce(topic, b"x" * 500_000, key=b"k")
    deadline = time.monotonic() + DEADLINE_S
    while not told and len(producer):
        assert time.monotonic() < deadline, "neither written nor held back"
        producer.poll(0.05)
    producer.purge()
    producer.flush(5)
    return max((event.throttle_time for event in told), default=0.0)
