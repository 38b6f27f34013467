"""What a leaf is found by: who, when, about what kind of event, and what was decided. No person, no value."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from broker.audit.ldv import ACTIVITY
from broker.audit.leaf import is_decision

_YEAR_10000_MS: Final = 253_402_300_800_000


@dataclass(frozen=True, slots=True)
class Coordinates:
    """The members of a decision's leaf that the store keeps. What a leaf does not say is None.

    Args:
        time: when it was decided, milliseconds since 1970.
        school: BRIN. sender, receiver: ids of parties. process, family, kind: of the event.
        decision: such as delivered. code: from `broker.exchange.outcomes`. event: the sender's id of the event.
        span: of the leaf, 8 bytes; equal to that of its entry on `audit.index`.
        activity: URI of the processing activity. trace: 16 bytes. Both of the line (LDV).
    """

    time: int
    sender: str
    decision: str
    code: str
    event: str
    span: bytes
    school: str | None = None
    receiver: str | None = None
    process: str | None = None
    family: str | None = None
    kind: str | None = None
    activity: str | None = None
    trace: bytes | None = None


def coordinates(entry: bytes) -> Coordinates | None:
    """Read them from an entry of a log; None if it is not the leaf of a decision."""
    content = parsed(entry)
    if content is None:
        return None
    line, x = content["ldv"], content["x"]
    try:
        time, span = line["end_time"], bytes.fromhex(line["span_id"])
        said = {name: _text(x[name]) for name in ("sender", "decision", "code", "event")}
        may = {name: _text(x[name]) for name in ("school", "receiver", "process", "family", "kind") if name in x}
        attributes = line.get("attributes")
        if isinstance(attributes, dict) and ACTIVITY in attributes:
            may["activity"] = _text(attributes[ACTIVITY])
        trace = bytes.fromhex(line["trace_id"]) if "trace_id" in line else None
    except (KeyError, TypeError, ValueError):
        return None
    if not is_time(time) or len(span) != 8:
        return None
    return Coordinates(time=time, span=span, trace=trace, **said, **may)


def parsed(entry: bytes) -> dict[str, Any] | None:
    """The leaf of a decision as an object with the objects `ldv` and `x`; None if it is none."""
    if not is_decision(entry):
        return None
    try:
        content = json.loads(entry)
    except (ValueError, RecursionError):
        return None
    if isinstance(content, dict) and all(isinstance(content.get(name), dict) for name in ("ldv", "x")):
        return content
    return None


def is_time(value: Any) -> bool:
    """Whether it is milliseconds since 1970, before the year 10000: later ones have no date."""
    return value.__class__ is int and 0 <= value < _YEAR_10000_MS


def shown(text: str) -> str:
    """Text that is safe to show: a log may be anybody's, and a terminal obeys control characters."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return shown(value)
