"""Three embedded brokers: every topic on all of them, and the loss of one loses nothing and stops nothing."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from typer.testing import CliRunner

from broker.cli import topics as topics_commands
from broker.errors import ConfigError
from broker.kafka import replication
from broker.kafka.admin import Admin
from broker.kafka.confluent import ConfigResource, ResourceType
from broker.kafka.embedded import EmbeddedKafka
from broker.kafka.topics import load_specs

TOPIC = "audit.control"
KAFKAS_OWN = ("__consumer_offsets", "__transaction_state")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """Three brokers with the broker's own topics, made by the command as an operator does."""
    with EmbeddedKafka(tmp_path_factory.mktemp("three"), brokers=3, heap_mb=192) as kafka:
        arguments = ["apply", "--connection", str(kafka.connection_file)]
        applied = CliRunner().invoke(topics_commands.app, arguments)
        assert applied.exit_code == 0, applied.output
        yield kafka


def in_transaction(kafka: EmbeddedKafka, value: bytes) -> None:
    """Commits one record and an offset, once all replicas that are in sync have them."""
    settings = {"transactional.id": "lane", "acks": "all", "log_level": 0, "transaction.timeout.ms": 20_000}
    producer = Producer({**kafka.admin_connection().confluent(), **settings})
    group = {"group.id": "group", "enable.auto.commit": False, "log_level": 0}
    consumer = Consumer({**kafka.admin_connection().confluent(), **group})
    try:
        producer.init_transactions(30)
        producer.begin_transaction()
        producer.produce(TOPIC, value)
        producer.send_offsets_to_transaction(
            [TopicPartition(TOPIC, 0, len(value))], consumer.consumer_group_metadata(), 30
        )
        producer.commit_transaction(30)
    finally:
        consumer.close()


def read_to_the_end(kafka: EmbeddedKafka) -> list[bytes | None]:
    """All that was committed."""
    settings = {"group.id": "reader", "enable.partition.eof": True, "enable.auto.commit": False, "log_level": 0}
    consumer = Consumer({**kafka.admin_connection().confluent(), **settings})
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    found: list[bytes | None] = []
    deadline = time.monotonic() + 30
    while True:
        assert time.monotonic() < deadline, "the end was not reached"
        message = consumer.poll(0.5)
        error = message.error() if message is not None else None
        if error is not None and error.code() == KafkaError._PARTITION_EOF:
            consumer.close()
            return found
        if message is not None and error is None:
            found.append(message.value())


def in_sync(kafka: EmbeddedKafka, asked: int) -> list[int]:
    """Brokers that have all of the topic, as far as the one that is asked knows."""
    metadata = replication.client(kafka.admin_connection(), kafka.hosts()[asked - 1]).list_topics(TOPIC, timeout=10)
    return sorted(metadata.topics[TOPIC].partitions[0].isrs)


@pytest.mark.kafka
def test_every_topic_is_on_three_brokers(three: EmbeddedKafka) -> None:
    """Also those that Kafka makes itself: a write counts when two have it."""
    in_transaction(three, b"before")
    names = {*KAFKAS_OWN, *(spec.name for spec in load_specs() if not spec.template)}
    client = replication.client(three.admin_connection())
    topics = client.list_topics(timeout=10).topics
    assert topics.keys() == names
    for name in names:
        assert {len(partition.replicas) for partition in topics[name].partitions.values()} == {3}, name
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    for resource, answer in client.describe_configs(resources).items():
        assert answer.result(10)["min.insync.replicas"].value == "2", resource
    assert len(three.hosts()) == 3
    assert three.admin_connection().bootstrap.split(",") == list(three.hosts())


@pytest.mark.kafka
def test_no_port_of_a_broker_speaks_without_tls(three: EmbeddedKafka) -> None:
    """Clients, brokers among themselves and controllers: each listener shows a certificate of the cluster's CA."""
    context = ssl.create_default_context(cafile=three.pki.ca_file)
    for port in three.status().ports:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as speaking,
        ):
            assert speaking.version() == "TLSv1.3"


@pytest.mark.kafka
def test_with_one_broker_killed_it_goes_on_and_is_whole_again_after_its_restart(three: EmbeddedKafka) -> None:
    """The one that leads the controllers, which is the hardest: all that was acknowledged is there, once."""
    lost = three.controller()
    assert lost is not None
    three.wait_in_sync()
    in_transaction(three, b"before")
    assert three.kill(lost)
    assert not three.kill(lost)
    assert three.status().state == "partly"
    in_transaction(three, b"while one is gone")
    leader = three.controller()
    assert leader not in (None, lost)
    assert lost not in in_sync(three, leader or 0)
    assert Admin(three.admin_connection()).brokers() == 3  # one of them away: `topics apply` still wants three replicas

    three.restart(lost)
    three.wait_in_sync()
    assert [in_sync(three, node) for node in (1, 2, 3)] == [[1, 2, 3]] * 3
    in_transaction(three, b"after")
    assert read_to_the_end(three)[-3:] == [b"before", b"while one is gone", b"after"]


@pytest.mark.kafka
def test_a_frozen_broker_is_done_without_and_catches_up(three: EmbeddedKafka) -> None:
    """SIGSTOP: no connection is refused, nothing is answered; then it goes on as if no time had passed."""
    three.wait_in_sync()
    leader = three.controller()
    assert leader is not None
    frozen = leader % 3 + 1
    assert three.freeze(frozen)
    stat = Path(f"/proc/{three.status().pids[frozen]}/stat")
    deadline = time.monotonic() + 30
    while stat.read_text().split()[2] != "T":  # a signal reaches a process with many threads a little later
        assert time.monotonic() < deadline, "the broker does not stand still"
        time.sleep(0.05)
    while frozen in in_sync(three, leader):
        assert time.monotonic() < deadline, "the frozen broker still counts"
        time.sleep(0.2)
    assert three.thaw(frozen)
    three.wait_in_sync()
    assert [in_sync(three, node) for node in (1, 2, 3)] == [[1, 2, 3]] * 3


def test_there_is_one_broker_or_there_are_three(tmp_path: Path) -> None:
    """Two would stop at the loss of either: the worst of both."""
    with pytest.raises(ConfigError, match="1 broker or 3") as raised:
        EmbeddedKafka(tmp_path, brokers=2)
    assert raised.value.code == "kafka.brokers"


def test_a_number_that_no_broker_has_is_refused(tmp_path: Path) -> None:
    """A test that kills broker 0 would else prove nothing."""
    kafka = EmbeddedKafka(tmp_path, brokers=3)
    for node in (0, 4):
        with pytest.raises(ConfigError, match=f"no broker {node}"):
            kafka.kill(node)
        with pytest.raises(ConfigError, match=f"no broker {node}"):
            kafka.freeze(node)
