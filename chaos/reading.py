"""From the records of all topics to the plain history that the checker judges.

Schemas and layout are the published ones (`docs/wire-format.md`); nothing here asks how the broker came to write it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from broker.audit.leaf import is_decision
from broker.errors import ContractError
from broker.schemas import catalogue, unframe
from broker.wire import FLOW, FLOW_SEQ, decode_envelope
from chaos.history import Decision, History, Input, Lane, OneOfEach, Output, Place, Quarantined, Status

Sent = Mapping[str, str | None]  # event -> pupil


class Record(NamedTuple):
    """What a reader with read_committed finds.

    Args:
        headers: of records to receivers; of others they are not looked at.
    """

    place: Place
    at_ms: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]


class Reading:
    """Takes the records of a run, in the order of each partition, and makes a history of them.

    Args:
        sent: whom each event is about, as the run numbers them.
    """

    def __init__(self, sent: Sent) -> None:
        self.history = History()
        self._sent, self._heads, self._waiting = sent, dict[str, bytes](), set[str]()
        self._one = OneOfEach()

    def read(self, records: Iterable[Record]) -> None:
        """Take records."""
        for record in records:
            self._take(record)

    def _take(self, record: Record) -> None:
        topic, history = record.place.topic, self.history
        kind = topic.partition(".")[0]
        if not record.value and kind in ("out", "audit", "status", "quarantine"):
            history.strange.append(record.place)
        elif kind == "in":
            event = self._one(event_of(record.value))
            history.inputs.append(Input(self._one(record.place), event, self._sent.get(event or "")))
        elif kind == "out":
            history.outputs.append(self._output(record))
        elif topic == "audit.events":
            if is_decision(record.value or b""):
                history.decisions.append(self._decision(record))
        elif kind == "status":
            history.statuses.append(self._status(record))
        elif kind == "quarantine":
            self._keep(record)
        elif topic == "lane.state":
            key = (record.key or b"").decode()
            if is_head(key) and record.value:
                self._heads[key] = record.value
        elif topic == "parked":
            change = self._waiting.discard if record.value is None else self._waiting.add
            change((record.key or b"").decode())

    def _keep(self, record: Record) -> None:
        if unframe(record.value)[0] != catalogue()["quarantine.v1"].fingerprint:
            return  # what became of one
        datum = _datum("quarantine.v1", record)
        self.history.quarantined.append(Quarantined(self._source(datum), self._one(datum["event_id"])))

    def finish(self, ends: Mapping[str, int]) -> History:
        """The history; all was read.

        Args:
            ends: of each input partition, by `topic/partition`.
        """
        history = self.history
        told = {(d.flow, d.seq, d.event): d.source for d in history.decisions if d.flow is not None}
        history.outputs = [
            output._replace(
                source=told.get((f"{output.place.topic}/{output.place.partition}", output.seq, output.event))
            )
            for output in history.outputs
        ]
        for name, value in self._heads.items():
            head = head_of(value)
            parked = sum(key.rpartition("#")[0] == name for key in self._waiting)
            history.lanes[lane_place(name)] = Lane(head["next_offset"], head["flows"], parked)
        history.ends = dict(ends)
        return history

    def _output(self, record: Record) -> Output:
        envelope, _ = decode_envelope(record.value or b"")
        one, headers = self._one, record.headers
        event = one(str(envelope["event_id"]))
        return Output(
            one(record.place), event, one(str(envelope["sender"])), one(record.place.topic.split(".")[1]),
            one(str(envelope["family"])), one(str(envelope["kind"])), one(lane_place(headers[FLOW].decode())),
            int(headers[FLOW_SEQ]), self._sent.get(event), None, record.at_ms, one(str(envelope["school"])),
        )  # fmt: skip

    def _decision(self, record: Record) -> Decision:
        said, one = json.loads(record.value or b"")["x"], self._one
        at = said.get("in")
        source = None if at is None else one(Place(one(at["topic"]), at["partition"], at["offset"]))
        return Decision(
            source, one(said["event"]), one(said["decision"]), one(said.get("receiver")), one(said["code"]),
            one(said.get("flow")), said.get("seq"),
        )  # fmt: skip

    def _status(self, record: Record) -> Status:
        datum, one = _datum("status.v1", record), self._one
        results = tuple(one((r["outcome"].lower(), r["receiver"], r["code"])) for r in datum["results"])
        return Status(self._source(datum), one(datum["event_id"]), results)

    def _source(self, datum: Mapping[str, Any]) -> Place:
        return self._one(Place(self._one(datum["topic"]), datum["partition"], datum["offset"]))


def event_of(value: bytes | None) -> str | None:
    """The id of the event that a record holds; None if it holds none."""
    try:
        return str(decode_envelope(value)[0]["event_id"])
    except ContractError:
        return None


def is_head(key: str) -> bool:
    """Whether a key of `lane.state` is that of where a lane stands."""
    return "#" not in key and key != "settle"


def head_of(value: bytes) -> dict[str, Any]:
    """What a lane says of where it stands."""
    return dict(catalogue()["lane.v1"].decode(value))


def lane_place(lane: str) -> str:
    """`topic/partition` of the input of a lane, whose name is `<group>.<topic>.<partition>`."""
    topic, _, partition = lane.partition(".")[2].rpartition(".")
    return f"{topic}/{partition}"


def _datum(schema: str, record: Record) -> dict[str, Any]:
    return dict(catalogue()[schema].decode(unframe(record.value)[1]))
