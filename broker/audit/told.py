"""What a leaf of `audit.events` says for counting: whose it is, of which input, to whom, under which number.

Leaves come from a log that may have been tampered with, so nothing about their form is taken for granted.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from broker.audit.leaf import b64url, canonical
from broker.errors import ContractError

MOST_CHARS: Final = 1_000  # of a name
BELOW: Final = 1 << 53  # of a number in canonical JSON
WAITS: Final = "parked"
ERASE: Final = ("identity", "ERASE", "delivered")  # family, kind and decision
_HEX: Final = {size: re.compile(f"[0-9a-f]{{{2 * size}}}") for size in (8, 16)}
_OTHERS: Final = ("control", "count", "digest", "epoch", "key")

CountKey = tuple[str, str, str]  # decision, receiver ("": for all), process ("": not told)


class LeafError(ContractError):
    """A leaf that is of no known form."""

    default_code = "audit.leaf"


@dataclass(frozen=True, slots=True)
class Told:
    """A decision.

    Args:
        place: `<topic>/<partition>` of the input that its lane reads.
        offset: of the input record; None for a duty, which has none.
        receiver, process: "" if not told.
        trace, span: 16 and 8 bytes. expected_span: what the span of such a decision must be.
        flow, seq: of an output record: its topic and partition, and its number; None if none was written.
        at_ms: when it was decided, milliseconds since 1970.
        erased: id of the `erased` leaf that must follow: an ERASE was carried out.
    """

    place: str
    offset: int | None
    decision: str
    receiver: str
    process: str
    trace: bytes
    span: bytes
    expected_span: bytes
    flow: str | None
    seq: int | None
    at_ms: int
    erased: str | None = None

    @property
    def waits(self) -> bool:
        """Whether nothing is decided yet but that the event waits."""
        return self.decision == WAITS


@dataclass(frozen=True, slots=True)
class Range:
    """What a window says of a flow: its numbers, both inclusive, and the running hash after the last; 32 bytes."""

    first: int
    last: int
    root: bytes


@dataclass(frozen=True, slots=True)
class WindowPart:
    """A window leaf, or one of its parts (see `broker.exchange.windows`).

    Args:
        place: `<topic>/<partition>` of the lane's input.
        counts: leaves by decision, receiver and process. flows: by topic and partition.
        first, next: input offsets; the second is exclusive. inputs: records that were decided over.
    """

    place: str
    lane: str
    number: int
    part: int
    parts: int
    first: int
    next: int
    inputs: int
    leaves: int
    from_ms: int
    to_ms: int
    counts: dict[CountKey, int]
    flows: dict[str, Range]

    def common(self) -> tuple[Any, ...]:
        """What all parts of a window must say alike."""
        return (
            self.lane, self.number, self.parts, self.first, self.next, self.inputs, self.leaves, self.from_ms,
            self.to_ms,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Erased:
    """That a person's keys were destroyed: by which event, and its own id."""

    id: str
    event: str


@dataclass(frozen=True, slots=True)
class Other:
    """A leaf of another kind, such as `epoch`."""

    kind: str


@dataclass(frozen=True, slots=True)
class InputGap:
    """What the control log tells of input that was removed or read again (see `broker.exchange.gap`).

    Args:
        kind: `input-lost` or `input-reset`. first, last: offsets, both inclusive.
        position: where the lane stood. next: where it went on.
    """

    place: str
    kind: str
    first: int
    last: int
    position: int
    next: int


def read_leaf(data: bytes) -> Told | WindowPart | Erased | Other:
    """Read one leaf.

    Raises:
        LeafError: if it is of no known form. The sentence repeats nothing of it.
    """
    leaf = _parse(data)
    try:
        if leaf.keys() == {"ldv", "x", "v"}:
            return _told(leaf["ldv"], leaf["x"])
        if leaf.keys() == {"window", "v"}:
            return _window(leaf["window"])
        if leaf.keys() == {"erased", "v"}:
            return _erased(leaf["erased"])
        (kind,) = leaf.keys() - {"v"}
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise LeafError(f"it lacks something, or has it in another form ({type(error).__name__})") from None
    if kind not in _OTHERS:
        raise LeafError("it is of an unknown kind")
    return Other(kind)


def read_gap(data: bytes) -> InputGap | None:
    """Read a leaf of the control log; None if it tells of something else.

    Raises:
        LeafError: as `read_leaf`.
    """
    leaf = _parse(data)
    told = leaf.get("control")
    if not isinstance(told, dict) or told.get("kind") not in ("input-lost", "input-reset"):
        return None
    try:
        numbers = [_number(told[name]) for name in ("first", "last", "position", "next_offset")]
        return InputGap(_place(told), told["kind"], *numbers)
    except (LookupError, TypeError, ValueError):
        raise LeafError("it tells of lost input in another form") from None


def read_count(data: bytes) -> bytes | None:
    """The signed note in a `count` leaf; None if it is of another kind. Verifies nothing of the note.

    Raises:
        LeafError: as `read_leaf`.
    """
    leaf = _parse(data)
    if "count" not in leaf:
        return None
    count = leaf["count"]
    if leaf.keys() != {"count", "v"} or not isinstance(count, dict) or count.keys() != {"note"}:
        raise LeafError("it tells of a count in another form")
    if not isinstance(count["note"], str):
        raise LeafError("it tells of a count in another form")
    return count["note"].encode(errors="replace")


def running_hash(root: bytes, trace: bytes, span: bytes) -> bytes:
    """Of a flow, after one more delivery: SHA-256(root ‖ trace ‖ span)."""
    return sha256(root + trace + span).digest()


def _parse(data: bytes) -> dict[str, Any]:
    try:
        leaf = json.loads(data, parse_float=_refuse, parse_constant=_refuse)
        if isinstance(leaf, dict) and repr(leaf.get("v")) == "1" and canonical(leaf) == data:
            return leaf
    except (ValueError, RecursionError):
        pass
    raise LeafError("it is not canonical JSON with v = 1")


def _refuse(text: str) -> Any:
    raise ValueError(text)


def _told(ldv: dict[str, Any], x: dict[str, Any]) -> Told:
    decision, receiver = _text(x["decision"]), _text(x.get("receiver", ""))
    source, flow, erased = x.get("in"), x.get("flow"), None
    if (flow is None) != ("seq" not in x):
        raise ValueError
    if source is not None:
        offset, place = _number(source["offset"]), _place(source)
        where = f"{source['topic']}\x00{source['partition']}\x00{offset}"
        to = f"\x00waits{receiver}" if decision == WAITS else receiver
        if (x.get("family"), x.get("kind"), decision) == ERASE:
            erased = erasure_id(where)
    else:  # a duty: told to a party by the lane of its partition 0
        offset, place, to = None, f"in.{receiver}/0", receiver
        where = f"duty/{_text(x['event'])}\x000\x000"
    return Told(
        place,
        offset,
        decision,
        receiver,
        _text(x.get("process", "")),
        _id(ldv["trace_id"], 16),
        _id(ldv["span_id"], 8),
        _span(f"{where}\x00{to}"),
        None if flow is None else _text(flow),
        None if flow is None else _number(x["seq"]),
        _number(ldv["end_time"]),
        erased,
    )


def erasure_id(where: str) -> str:
    """Of the `erased` leaf of an ERASE, from topic, partition and offset of its input; see `_span`."""
    return b64url(sha256(b"audit/erased/v1" + where.encode()).digest()[:16])


def _erased(erased: dict[str, Any]) -> Erased:
    if erased.keys() != {"event", "id", "school", "time"} or len(unb64url(_text(erased["id"]))) != 16:
        raise ValueError
    _text(erased["school"]), _number(erased["time"])
    return Erased(erased["id"], _text(erased["event"]))


def _span(of: str) -> bytes:
    """As `Ids.of` makes it, written again: what checks must not lean on what it checks."""
    span = sha256(b"audit/span/v1" + of.encode()).digest()[:8]
    return span if any(span) else b"\x01" + span[1:]


def _window(window: dict[str, Any]) -> WindowPart:
    source = window["input"]
    counts = {(_text(c["decision"]), _text(c["party"]), _text(c["process"])): _number(c["n"]) for c in window["counts"]}
    flows = {
        _text(f["flow"]): Range(_number(f["first"]), _number(f["last"]), _hash(f["root"])) for f in window["flows"]
    }  # fmt: skip
    if len(counts) < len(window["counts"]) or len(flows) < len(window["flows"]):
        raise ValueError
    place, lane = _place(source), _text(window["lane"])
    if not lane.endswith("." + place.replace("/", ".")):
        raise ValueError
    return WindowPart(
        place,
        lane,
        _number(window["no"]),
        _number(window["part"]),
        _number(window["parts"]),
        _number(source["first"]),
        _number(source["next"]),
        _number(source["count"]),
        _number(window["leaves"]),
        _number(window["from"]),
        _number(window["to"]),
        counts,
        flows,
    )


def _place(source: dict[str, Any]) -> str:
    topic = _text(source["topic"])
    if not topic or "/" in topic:
        raise ValueError
    return f"{topic}/{_number(source['partition'])}"


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MOST_CHARS:
        raise TypeError
    return value


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < BELOW:
        raise TypeError
    return value


def _id(value: Any, size: int) -> bytes:
    if not _HEX[size].fullmatch(value):
        raise ValueError
    return bytes.fromhex(value)


def unb64url(text: str) -> bytes:
    """The inverse of `b64url`, of its one spelling only.

    Raises:
        ValueError: it is of another one.
    """
    data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if b64url(data) != text:
        raise ValueError
    return data


def _hash(value: Any) -> bytes:
    data = unb64url(_text(value))
    if len(data) != 32:
        raise ValueError
    return data
