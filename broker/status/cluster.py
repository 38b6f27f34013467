"""What Kafka tells of itself, of the workers' group and of the input, without a topic being read.

Needs DESCRIBE on the group and on the input topics; what is refused is not shown. Every call blocks: run it in a
thread.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, KafkaError, KafkaException, TopicPartition

from broker.kafka.confluent import AdminClient, ClusterMetadata, OffsetSpec
from broker.kafka.connection import KafkaConnection, problem
from broker.kafka.diagnosis import explain
from broker.status.seen import Cluster, Flow, Group

ANSWER_S: Final = 15.0
PAUSE_S: Final = 0.5
SETTLE_S: Final = 10.0  # a group that comes together anew is asked again for so long
REFUSED: Final = frozenset({
    KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
})  # fmt: skip
OVERDUE_S: Final = 900.0
INPUT: Final = "in."
T = TypeVar("T")


class ClusterLook:
    """Asks one cluster again and again.

    Args:
        group: of the workers.
    """

    def __init__(self, connection: KafkaConnection, group: str) -> None:
        self._connection, self._group = connection, group
        self._client = AdminClient({**connection.confluent(), "log_level": 0})

    def look(self) -> Cluster:
        """Ask.

        Raises:
            ConfigError: Kafka does not answer, or does not let us in.
        """
        try:
            found = self._client.list_topics(timeout=ANSWER_S)
        except KafkaException as error:
            raise explain(error, self._connection) from error
        places = [
            TopicPartition(name, number)
            for name, topic in sorted(found.topics.items())
            if name.startswith(INPUT)
            for number in sorted(topic.partitions)
        ]
        leaderless = tuple(
            f"{name}/{number}"
            for name, topic in sorted(found.topics.items())
            for number, partition in sorted(topic.partitions.items())
            if partition.leader < 0
        )
        try:
            group = self._members()
            flows = self._flows(places) if places and group is not None else None
        except KafkaException as error:
            if not leaderless:
                code = error.args[0].name()
                raise problem(
                    f"Kafka at {self._connection.bootstrap} does not tell where the workers are ({code}).",
                    "Check that all its brokers run, and the topic __consumer_offsets.",
                    "kafka.group",
                ) from error
            group, flows = None, None  # what has no leader is found already
        return Cluster(
            len(found.brokers),
            _expected(found),
            leaderless,
            sum(
                len(partition.isrs) < len(partition.replicas)
                for topic in found.topics.values()
                for partition in topic.partitions.values()
            ),
            group,
            flows,
        )

    def _members(self) -> Group | None:
        """Who is in the group, once it has come to rest; None: that is not shown."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            group = self._unless_refused(self._described)
            if group is None or "REBALANCING" not in group.state or time.monotonic() > deadline:
                return group
            time.sleep(PAUSE_S)

    def _described(self) -> Group:
        (future,) = self._client.describe_consumer_groups([self._group], request_timeout=ANSWER_S).values()
        found: Any = future.result(ANSWER_S)
        lanes = {}
        for member in found.members:
            mine = member.assignment.topic_partitions if member.assignment is not None else ()
            name = f"{member.host.removeprefix('/')} {member.member_id[-8:]}"
            lanes[name] = sum(place.topic.startswith(INPUT) for place in mine)
        return Group(found.state.name, dict(sorted(lanes.items())))

    def _unless_refused(self, ask: Callable[[], T]) -> T | None:
        """Ask; None, if this login may not.

        Nothing else is taken for that: a group has no coordinator for some seconds after a broker went, nor on a new
        cluster before somebody asked for one. So it is asked again, and in the end Kafka does not answer.

        Raises:
            KafkaException: Kafka does not answer.
        """
        deadline = time.monotonic() + ANSWER_S
        while True:
            try:
                return ask()
            except KafkaException as error:
                if error.args[0].code() in REFUSED:
                    return None
                if time.monotonic() > deadline:
                    raise
            time.sleep(PAUSE_S)

    def _flows(self, places: list[TopicPartition]) -> dict[str, Flow] | None:
        """By party; who sends nothing is there too."""
        return self._unless_refused(lambda: self._counted(places))

    def _counted(self, places: list[TopicPartition]) -> dict[str, Flow]:
        overdue_at = int((time.time() - OVERDUE_S) * 1000)
        asked = self._client.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(self._group, places)], request_timeout=ANSWER_S
        )
        (positions,) = [future.result(ANSWER_S).topic_partitions for future in asked.values()]
        first = self._offsets(places, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        end = self._offsets(places, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        young = self._offsets(places, OffsetSpec.for_timestamp(overdue_at))
        decided = {(place.topic, place.partition): place.offset for place in positions}
        found: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for place in places:
            key = (place.topic, place.partition)
            position = max(decided.get(key, -1), first[key])  # negative: nothing was ever decided there
            fresh = young[key] if young[key] >= 0 else end[key]
            found[place.topic.removeprefix(INPUT)].append((max(0, end[key] - position), max(0, fresh - position)))
        return {
            party: Flow(len(each), sum(a for a, _ in each), sum(b for _, b in each)) for party, each in found.items()
        }

    def _offsets(self, places: Iterable[TopicPartition], at: OffsetSpec) -> Mapping[tuple[str, int], int]:
        asked = self._client.list_offsets(
            dict.fromkeys(places, at), isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=ANSWER_S
        )
        return {(place.topic, place.partition): future.result(ANSWER_S).offset for place, future in asked.items()}


def _expected(found: ClusterMetadata) -> int:
    partitions = [partition for topic in found.topics.values() for partition in topic.partitions.values()]
    return len(set(found.brokers).union(*(partition.replicas for partition in partitions)))
