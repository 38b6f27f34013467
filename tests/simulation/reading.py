"""From the logs of the cluster in memory to the plain history that the checker judges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from broker.audit.reconcile import Reconciler
from broker.audit.told import read_gap
from chaos.history import History, Place, Withdrawal
from chaos.reading import Reading, Record, Sent, head_of, is_head
from tests.simulation.cluster import MemoryCluster


def history_of(cluster: MemoryCluster, sent: Sent, withdrawals: list[Withdrawal]) -> History:
    """Everything that a read_committed reader would find."""
    reading = Reading(sent)
    reading.read(_records(cluster))
    ends = {f"{p.topic}/{p.partition}": log.end for p, log in cluster.logs.items() if p.topic.startswith("in.")}
    history = reading.finish(ends)
    history.withdrawals = withdrawals
    return history


def findings_of(cluster: MemoryCluster) -> list[str]:
    """What an auditor finds who holds the leaves against the windows of the lanes."""
    audit: dict[str, list[list[bytes]]] = {"audit.events": [], "audit.control": []}
    for place, log in cluster.logs.items():
        if place.topic in audit:
            audit[place.topic].append([entry.item.value or b"" for entry in log.committed() if entry.item is not None])
    gaps = [gap for leaves in audit["audit.control"] for leaf in leaves if (gap := read_gap(leaf)) is not None]
    found = []
    for leaves in audit["audit.events"]:
        reconciler = Reconciler(gaps=list(gaps))
        for leaf in leaves:
            found += [f"{f.rule} {f.lane}: {f.sentence}" for f in reconciler.feed(leaf)]
    return found


def lane_heads(cluster: MemoryCluster) -> dict[str, dict[str, Any]]:
    """What each lane last said of where it stands."""
    last: dict[str, bytes] = {}
    for place, log in cluster.logs.items():
        if place.topic == "lane.state":
            for entry in log.committed():
                assert entry.item is not None
                key = (entry.item.key or b"").decode()
                if is_head(key) and entry.item.value:
                    last[key] = entry.item.value
    return {name: head_of(value) for name, value in last.items()}


def _records(cluster: MemoryCluster) -> Iterator[Record]:
    for where, log in cluster.logs.items():
        for entry in log.committed():
            item = entry.item
            assert item is not None
            place = Place(where.topic, where.partition, entry.offset)
            headers = dict(item.headers) if where.topic.startswith("out.") else {}
            yield Record(place, int(entry.at * 1000), item.key, item.value, headers)
