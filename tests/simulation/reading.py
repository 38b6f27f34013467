"""From the logs of the cluster in memory to the plain history that the checker judges."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from broker.schemas import catalogue, unframe
from broker.wire import FLOW, FLOW_SEQ, decode_envelope
from chaos.history import Decision, History, Input, Lane, Output, Place, Quarantined, Status, Withdrawal
from tests.simulation.cluster import Entry, Item, MemoryCluster

Sent = Mapping[str, str | None]  # event -> pupil


def history_of(cluster: MemoryCluster, sent: Sent, withdrawals: list[Withdrawal]) -> History:
    """Everything that a read_committed reader would find."""
    found, outputs = History(withdrawals=withdrawals), []
    for place, entry, item in _records(cluster):
        if not item.value and place.topic.startswith(("out.", "audit.", "status.", "quarantine.")):
            found.strange.append(place)
        elif place.topic.startswith("in."):
            event = _event_of(item)
            found.inputs.append(Input(place, event, sent.get(event or "")))
        elif place.topic.startswith("out."):
            outputs.append((place, entry, item))
        elif place.topic == "audit.events":
            found.decisions.append(_decision(item))
        elif place.topic.startswith("status."):
            found.statuses.append(_status(item))
        elif place.topic.startswith("quarantine."):
            if unframe(item.value)[0] != catalogue()["quarantine.v1"].fingerprint:
                continue  # what became of one
            datum = _datum("quarantine.v1", item)
            found.quarantined.append(Quarantined(_source(datum), datum["event_id"]))
    told = {(d.flow, d.seq, d.event): d.source for d in found.decisions}
    found.outputs = [_output(*output, sent, told) for output in outputs]
    for name, head in lane_heads(cluster).items():
        lane = name.removeprefix("exchange.")
        found.lanes[_slashed(lane)] = Lane(head["next_offset"], head["flows"], _parked(cluster, name))
    found.ends = {
        f"{place.topic}/{place.partition}": log.end
        for place, log in cluster.logs.items()
        if place.topic.startswith("in.")
    }
    return found


def lane_heads(cluster: MemoryCluster) -> dict[str, dict[str, Any]]:
    """What each lane last said of where it stands."""
    last: dict[str, bytes] = {}
    for place, log in cluster.logs.items():
        if place.topic == "lane.state":
            for entry in log.committed():
                assert entry.item is not None
                key = (entry.item.key or b"").decode()
                if "#" not in key and key != "settle" and entry.item.value:
                    last[key] = entry.item.value
    return {name: dict(catalogue()["lane.v1"].decode(value)) for name, value in last.items()}


def _records(cluster: MemoryCluster) -> Iterator[tuple[Place, Entry, Item]]:
    for where, log in cluster.logs.items():
        for entry in log.committed():
            assert entry.item is not None
            yield Place(where.topic, where.partition, entry.offset), entry, entry.item


def _event_of(item: Item) -> str | None:
    if item.value is None or len(item.value) < 20:
        return None
    return str(decode_envelope(item.value)[0]["event_id"])


def _output(place: Place, entry: Entry, item: Item, sent: Sent, told: Mapping[Any, Place | None]) -> Output:
    envelope, _ = decode_envelope(item.value or b"")
    headers = dict(item.headers)
    event, seq = str(envelope["event_id"]), int(headers[FLOW_SEQ])
    lane = headers[FLOW].decode().removeprefix("exchange.")
    return Output(
        place, event, str(envelope["sender"]), place.topic.split(".")[1], str(envelope["family"]),
        str(envelope["kind"]), _slashed(lane), seq, sent.get(event),
        told.get((f"{place.topic}/{place.partition}", seq, event)), int(entry.at * 1000),
    )  # fmt: skip


def _decision(item: Item) -> Decision:
    said = json.loads(item.value or b"")["x"]
    at = said.get("in")
    source = None if at is None else Place(at["topic"], at["partition"], at["offset"])
    return Decision(
        source, said["event"], said["decision"], said.get("receiver"), said["code"], said.get("flow"), said.get("seq")
    )


def _status(item: Item) -> Status:
    datum = _datum("status.v1", item)
    results = tuple((r["outcome"].lower(), r["receiver"], r["code"]) for r in datum["results"])
    return Status(_source(datum), datum["event_id"], results)


def _datum(schema: str, item: Item) -> dict[str, Any]:
    return dict(catalogue()[schema].decode(unframe(item.value)[1]))


def _source(datum: Mapping[str, Any]) -> Place:
    return Place(datum["topic"], datum["partition"], datum["offset"])


def _parked(cluster: MemoryCluster, lane: str) -> int:
    last: dict[bytes | None, bytes | None] = {}
    for place, log in cluster.logs.items():
        if place.topic == "parked":
            for entry in log.committed():
                assert entry.item is not None
                last[entry.item.key] = entry.item.value
    return sum(value is not None and (key or b"").decode().rpartition("#")[0] == lane for key, value in last.items())


def _slashed(lane: str) -> str:
    topic, _, partition = lane.rpartition(".")
    return f"{topic}/{partition}"
