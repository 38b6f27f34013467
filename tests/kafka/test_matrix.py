"""Every user, every topic, group, transactional id and power over the cluster: what Kafka allows is what the table says.

The table (`matrix.txt`) is written by hand. It does not come from `broker.kafka.access`: a right too many there shows
here. Asked is the authorizer itself, as each user, by requests that change nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import (
    DeleteAclsRequest,
    DeleteGroupsRequest,
    DescribeAclsRequest,
    DescribeClientQuotasRequest,
    DescribeGroupsRequest,
)
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicCollection,
    TopicPartition,
)  # fmt: skip
from confluent_kafka.admin import (
    AclOperation,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from broker.kafka.access import services
from broker.kafka.quota_requests import AlterClientQuotas
from broker.kafka.quotas import of_user
from broker.kafka.topics import PartyTopics, desired_topics, load_specs
from tests.kafka.conftest import DEADLINE_S, Cluster, running

Rows = dict[tuple[str, str], str]
NOTHING: Final = "."
TOPIC_REFUSED, GROUP_REFUSED, CLUSTER_REFUSED, ID_REFUSED = 29, 30, 31, 53
LETTERS: Final = {"READ": "r", "WRITE": "w", "DELETE": "D", "ALTER": "a", "ALTER_CONFIGS": "c"}
ALONG: Final = {"DESCRIBE": "rwDa", "DESCRIBE_CONFIGS": "c"}
CLUSTER_POWERS: Final = {
    "CREATE": "create", "ALTER": "alter", "DESCRIBE": "describe", "ALTER_CONFIGS": "change-settings",
    "DESCRIBE_CONFIGS": "read-settings",
}  # fmt: skip


def _table(what: str) -> dict[str, Rows]:
    """By user, and by kind and name of the resource, the letters of one part of the table."""
    found: dict[str, Rows] = {}
    kind, users = "", []
    for line in Path(__file__).with_name("matrix.txt").read_text().splitlines():
        words = line.split()
        if not words or words[0] == "#" or line.startswith("#"):
            continue
        if "exchange" in words[1:2]:
            kind, users = words[0], words[1:]
        elif kind == what:
            for user, letters in zip(users, words[1:], strict=True):
                assert (kind, words[0]) not in found.setdefault(user, {}), f"{words[0]} is there twice"
                found[user][kind, words[0]] = letters
    return found


TABLES: Final = {what: _table(what) for what in ("topic", "group", "transactional-id", "cluster")}
USERS: Final = tuple(TABLES["topic"])


def _names(what: str) -> list[str]:
    return [name for _, name in TABLES[what]["nobody"]]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of its own, since all is written to, with every topic there is and a user without any right."""
    with running(tmp_path_factory.mktemp("full")) as cluster:
        cluster.admin.apply(_every_topic(), cluster.acls)
        cluster.admin.ensure_user("nobody", "password-of-nobody")
        yield cluster


def _every_topic() -> Any:
    specs = load_specs()
    families = frozenset(spec.family for spec in specs if spec.family)
    parties = {"pub": PartyTopics(families), "sis": PartyTopics(families, partitions=2)}
    return desired_topics(specs, parties, replicas=1)


def test_the_table_has_every_topic_and_every_user() -> None:
    """One that is added without a row, or a service without a column, fails here."""
    assert set(_names("topic")) == {spec.name for spec in _every_topic()}
    assert set(USERS) == services() | {"pub", "sis", "nobody"}
    for what, table in TABLES.items():
        assert tuple(table) == USERS, what


@pytest.mark.kafka
@pytest.mark.parametrize("user", USERS)
def test_a_user_may_do_with_topics_and_the_cluster_what_the_table_says(full: Cluster, user: str) -> None:
    """Kafka tells itself what this user is authorised to; what it hides from him is tried."""
    client = AdminClient({**full.connection(user).confluent(), "log_level": 0})
    assert _topic_rights(client) == TABLES["topic"][user]
    assert _cluster_rights(client) | _cluster_attempts(full, user) == TABLES["cluster"][user]


@pytest.mark.kafka
@pytest.mark.parametrize("user", USERS)
async def test_a_user_joins_groups_and_takes_transactional_ids_as_the_table_says(full: Cluster, user: str) -> None:
    """Each is tried: an offset that fits no topic, a group that is not there, a new epoch of an id."""
    admin = AIOKafkaAdminClient(**full.connection(user).aiokafka())
    await admin.start()
    try:
        groups = {("group", name): await _group_rights(admin, name) for name in _names("group")}
        ids = {("transactional-id", name): await _id_rights(admin, name) for name in _names("transactional-id")}
    finally:
        await admin.close()
    assert groups == TABLES["group"][user]
    assert ids == TABLES["transactional-id"][user]


@pytest.mark.kafka
@pytest.mark.parametrize("party", ["pub", "sis"])
def test_what_the_table_says_of_a_party_is_so_when_it_is_done(full: Cluster, party: str) -> None:
    """Every topic is really read and written to, or refused."""
    table = {name: letters for (_, name), letters in TABLES["topic"][party].items()}
    settings = full.connection(party).confluent() | {"log_level": 0}
    assert _written(settings, table) == {name for name, letters in table.items() if "w" in letters}
    assert _read(settings, table) == {name for name, letters in table.items() if "r" in letters}


def _written(settings: Mapping[str, Any], topics: Iterable[str]) -> set[str]:
    """Topics that took a record; of all others Kafka said that the user may not."""
    codes: dict[str, int | None] = {}

    def told(error: KafkaError | None, message: Message) -> None:
        codes[message.topic() or ""] = None if error is None else error.code()

    producer = Producer({**settings, "enable.idempotence": True})
    for topic in topics:
        producer.produce(topic, b"x", key=b"k", on_delivery=told)
    assert producer.flush(DEADLINE_S) == 0
    assert set(codes.values()) <= {None, TOPIC_REFUSED}
    return {topic for topic, code in codes.items() if code is None}


def _read(settings: Mapping[str, Any], topics: Collection[str]) -> set[str]:
    """Topics of which the user read to the end; of all others Kafka said that he may not."""
    codes: dict[str, int] = {}
    extra = {"group.id": settings["sasl.username"], "enable.partition.eof": True, "auto.offset.reset": "earliest"}
    consumer = Consumer({**settings, **extra, "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, 0) for topic in topics])
        deadline = time.monotonic() + DEADLINE_S
        while codes.keys() < set(topics):
            assert time.monotonic() < deadline, set(topics) - codes.keys()
            message = consumer.poll(0.2)
            if message is not None and message.error() is not None:
                codes[message.topic() or ""] = message.error().code()
    finally:
        consumer.close()
    assert set(codes.values()) <= {KafkaError._PARTITION_EOF, TOPIC_REFUSED}
    return {topic for topic, code in codes.items() if code == KafkaError._PARTITION_EOF}


def _topic_rights(client: AdminClient) -> Rows:
    names = _names("topic")
    told: dict[str, set[str]] = {name: set() for name in names}
    answers = client.describe_topics(TopicCollection(names), include_authorized_operations=True)
    for name, answer in answers.items():
        if (found := _unless_refused(answer.result, TOPIC_REFUSED)) is not None:
            told[name] |= {operation.name for operation in found.authorized_operations}
    entry = ConfigEntry("flush.ms", "1000", incremental_operation=AlterConfigOpType.SET)
    resources = [ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry]) for name in names]
    for resource, answer in client.incremental_alter_configs(resources, validate_only=True).items():
        told[resource.name] |= _tried(answer.result, "ALTER_CONFIGS")
    for resource, answer in client.describe_configs(resources).items():
        told[resource.name] |= _tried(answer.result, "DESCRIBE_CONFIGS")
    new = [NewTopic(name, 1, 1) for name in names]
    for name, answer in client.create_topics(new, validate_only=True).items():
        told[name] |= _tried(answer.result, "CREATE", KafkaError.TOPIC_ALREADY_EXISTS)
    return {("topic", name): _letters(operations) for name, operations in told.items()}


def _letters(operations: set[str]) -> str:
    """Those of the table; what Kafka gives along is left out, and what has no letter is shown by its name."""
    letters = "".join(letter for name, letter in LETTERS.items() if name in operations)
    letters += "C" if "CREATE" in operations else ""
    alone = [name for name, by in ALONG.items() if name in operations and not set(by) & set(letters)]
    odd = sorted(operations - LETTERS.keys() - ALONG.keys() - {"CREATE"})
    return letters + "".join(f" {name}" for name in [*alone, *odd]) or NOTHING


def _tried(result: Callable[[float], Any], operation: str, *fine: int) -> set[str]:
    return set() if _unless_refused(result, TOPIC_REFUSED, *fine) is None else {operation}


def _unless_refused(result: Callable[[float], Any], refusal: int, *fine: int) -> Any:
    """The answer, or True when Kafka had another objection than the user's rights; None when it refused him."""
    try:
        return result(20) or True
    except KafkaException as error:
        code = error.args[0].code()
        assert code in (refusal, *fine), error
        return None if code == refusal else True


def _cluster_rights(client: AdminClient) -> Rows:
    told = client.describe_cluster(include_authorized_operations=True).result(20).authorized_operations or []
    names = {AclOperation(operation).name for operation in told}
    found = {("cluster", power): "yes" if name in names else NOTHING for name, power in CLUSTER_POWERS.items()}
    return found | {("cluster", name): "yes" for name in names - CLUSTER_POWERS.keys()}


def _cluster_attempts(cluster: Cluster, user: str) -> Rows:
    """What a user who may not describe the cluster is not told: so it is tried, with what changes nothing."""

    async def attempts() -> Rows:
        admin = AIOKafkaAdminClient(**cluster.connection(user).aiokafka())
        await admin.start()
        try:
            removed = (
                await admin._send_request(DeleteAclsRequest(1, None, 1, "User:not-there-at-all", None, 1, 1))
            ).filter_responses[0][0]
            rights = (await admin._send_request(DescribeAclsRequest(1, None, 1, None, None, 1, 1))).error_code
            limits = {of_user("not-there-at-all"): {"producer_byte_rate": 1.0}}
            altered = (await admin._send_request(AlterClientQuotas(limits, validate_only=True))).entries[0][0]
            quotas = (await admin._send_request(DescribeClientQuotasRequest([], strict=False))).error_code
        finally:
            await admin.close()
        codes = {"alter": removed, "describe": rights, "change-settings": altered, "read-settings": quotas}
        assert set(codes.values()) <= {0, CLUSTER_REFUSED}, codes
        return {("cluster", power): "yes" for power, code in codes.items() if code == 0}

    return asyncio.run(attempts())


async def _group_rights(admin: AIOKafkaAdminClient, group: str) -> str:
    commit = OffsetCommitRequest(group, -1, "", -1, [("not.there", [(0, 0, "")])])
    committed = (await admin._send_request(commit)).topics[0][1][0][1]
    described = (await admin._send_request(DescribeGroupsRequest([group]))).groups[0][0]
    deleted = (await admin._send_request(DeleteGroupsRequest([group]))).results[0][1]
    letters = "r" if committed != GROUP_REFUSED else ""
    letters += "D" if deleted != GROUP_REFUSED else ""
    letters += "d" if described != GROUP_REFUSED and "r" not in letters else ""
    return letters or NOTHING


async def _id_rights(admin: AIOKafkaAdminClient, name: str) -> str:
    begun = (await admin._send_request(InitProducerIdRequest(name, 10_000))).error_code
    found = (await admin._send_request(FindCoordinatorRequest(name, 1))).error_code
    letters = "w" if begun != ID_REFUSED else ""
    alone = " DESCRIBE" if found != ID_REFUSED and not letters else ""
    return letters + alone or NOTHING
