"""What a cluster of several brokers says of itself: which serve, which partitions are behind, who leads the quorum."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from broker.kafka.configuration import Layout
from broker.kafka.connection import KafkaConnection

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient


def client(connection: KafkaConnection, host: str | None = None) -> AdminClient:
    """A client that looks again soon; with `host` it asks that broker first and no other."""
    from confluent_kafka.admin import AdminClient

    if host is not None:
        connection = replace(connection, bootstrap=host)
    return AdminClient({**connection.confluent(), "reconnect.backoff.max.ms": 100, "log_level": 0})


def serves(asked: AdminClient, nodes: Collection[int], timeout_s: float = 2.0) -> bool:
    """Whether the login is accepted and these brokers take part in the cluster."""
    from confluent_kafka import KafkaException

    with suppress(KafkaException):
        return set(nodes) <= asked.list_topics(timeout=timeout_s).brokers.keys()
    return False


def behind(asked: AdminClient, timeout_s: float = 5.0) -> tuple[str, ...]:
    """Partitions (`topic-number`) that have no leader or a replica that is not in sync, as far as is known there."""
    from confluent_kafka import KafkaException

    try:
        topics = asked.list_topics(timeout=timeout_s).topics
    except KafkaException:
        return ("no answer",)
    return tuple(
        f"{name}-{number}"
        for name, topic in sorted(topics.items())
        for number, partition in sorted(topic.partitions.items())
        if partition.leader < 0 or set(partition.isrs) < set(partition.replicas)
    )


def quorum_leader(layout: Layout, pids: Mapping[int, int]) -> int | None:
    """The broker that is the active controller, as the latest election among live brokers has it on disk.

    Kafka's own answer to clients does not tell: it names any broker as the controller.
    """
    latest: tuple[int, int] | None = None
    for node in pids:
        with suppress(OSError, ValueError, KeyError):
            state = json.loads((layout.data(node) / "__cluster_metadata-0" / "quorum-state").read_text())
            found = (int(state["leaderEpoch"]), int(state["leaderId"]))
            latest = max(latest, found) if latest else found
    return latest[1] if latest and latest[1] in pids else None
