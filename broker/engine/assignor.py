"""Which worker has which lanes: as evenly as possible, and as few as possible change hands.

A lane that stays goes on as soon as the group has come together. One that moves is taken over anew by its next owner:
a producer, a settling transaction, a look at the state. With aiokafka's round robin nearly all lanes move whenever a
worker comes or goes; here those of the worker that is gone do, and as many as one that comes shall have.

Each worker says what it had, and of which round of assignments that was: somebody who was away for long, and still
claims what others got meanwhile, is known by an older round.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from aiokafka import TopicPartition
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

VERSION: Final = 0


class Claim(NamedTuple):
    """What a worker had, and since which round."""

    round: int
    lanes: tuple[TopicPartition, ...]


class LaneAssignor:
    """One for each consumer: it remembers. In the form that aiokafka asks for (`AbstractPartitionAssignor`)."""

    name = "lanes"

    def __init__(self) -> None:
        self._claim = Claim(0, ())

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """What this worker tells the one that assigns."""
        return ConsumerProtocolMemberMetadata(VERSION, list(topics), written(self._claim))

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """What this worker got."""
        self._claim = Claim(read(assignment.user_data).round, tuple(assignment.partitions()))

    def assign(
        self, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Done by one worker of the group, for all."""
        topics = {topic for metadata in members.values() for topic in metadata.subscription}
        there = [TopicPartition(t, number) for t in topics for number in cluster.partitions_for_topic(t) or ()]
        claims = {member: read(metadata.user_data) for member, metadata in members.items()}
        told = written(Claim(1 + max((claim.round for claim in claims.values()), default=0), ()))
        return {
            member: ConsumerProtocolMemberAssignment(VERSION, _by_topic(lanes), told)
            for member, lanes in share(there, claims).items()
        }


def share(there: Iterable[TopicPartition], claims: Mapping[str, Claim]) -> dict[str, list[TopicPartition]]:
    """Share the lanes out, so that no worker has two more than another.

    Args:
        there: all lanes.
        claims: by worker.
    """
    left, shares = set(there), dict[str, list[TopicPartition]]()
    for name in sorted(claims, key=lambda name: (-claims[name].round, name)):  # the newest claim counts
        shares[name] = [lane for lane in claims[name].lanes if lane in left]
        left.difference_update(shares[name])
    least, more = divmod(len(left) + sum(map(len, shares.values())), len(claims))
    for number, name in enumerate(sorted(shares, key=lambda name: (-len(shares[name]), name))):
        kept = _spread(shares[name])
        most = least + (number < more)
        shares[name] = kept[:most]
        left.update(kept[most:])
    topics = {name: Counter(lane.topic for lane in lanes) for name, lanes in shares.items()}
    for lane in sorted(left):

        def fit(name: str, topic: str = lane.topic) -> tuple[int, int, int, str]:
            count = len(shares[name])
            return max(count - least, -1), topics[name][topic], count, name

        to = min(shares, key=fit)
        shares[to].append(lane)
        topics[to][lane.topic] += 1
    return {name: sorted(lanes) for name, lanes in shares.items()}


def _spread(lanes: Iterable[TopicPartition]) -> list[TopicPartition]:
    """In such an order that what is cut off at the end is not all of one party."""
    seen: Counter[str] = Counter()
    ranked = []
    for lane in sorted(lanes):
        ranked.append((seen[lane.topic], lane))
        seen[lane.topic] += 1
    return [lane for _, lane in sorted(ranked)]


def _by_topic(lanes: Sequence[TopicPartition]) -> list[tuple[str, list[int]]]:
    found: dict[str, list[int]] = {}
    for topic, partition in lanes:
        found.setdefault(topic, []).append(partition)
    return list(found.items())


def written(claim: Claim) -> bytes:
    """For others of the group."""
    return json.dumps({"round": claim.round, "lanes": _by_topic(claim.lanes)}, separators=(",", ":")).encode()


def read(data: bytes | None) -> Claim:
    """What another one wrote; nothing, if it is of another version of this program."""
    try:
        said = json.loads(data or b"")
        lanes = [TopicPartition(str(topic), int(number)) for topic, numbers in said["lanes"] for number in numbers]
        return Claim(int(said["round"]), tuple(lanes))
    except (ValueError, KeyError, TypeError):
        return Claim(0, ())
