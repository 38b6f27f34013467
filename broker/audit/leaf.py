"""The audit leaf: one canonical JSON object for each decision and receiver.

It holds a strict line of Logboek Dataverwerkingen 1.0.0 (`ldv`) and, beside it, our evidence (`x`): what was decided,
on which rule and versions, which attributes were kept and dropped by *name*, and commitments to the bytes that
came in and went out. It holds no value of any attribute. The person in it is a token, a keyed PRF output that
differs for every leaf: without the subject key two leaves can not be linked.

Canonical: RFC 8785 within the domain used here (ASCII keys, no floats), so that the bytes can be re-made.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from json.encoder import encode_basestring
from typing import Any, Final

from broker.crypto import KeyedHash, length_prefixed

TOKEN_TYPE: Final = "https://eck-broker.nl/begrippen/subject-token/v1"
SERVICE: Final = {"attributes": {"service.name": "eck-broker", "service.version": "1"}}

_encode: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
_TOKEN: Final = length_prefixed("audit/sid/v1")
_SALT: Final = {side: length_prefixed("audit/salt/v1", side) for side in ("in", "out")}
_TRACE_BYTES, _SPAN_BYTES = (16).to_bytes(4, "big"), (8).to_bytes(4, "big")
_VALUE: Final = length_prefixed("audit/value/v1")
_LOOKUP: Final = length_prefixed("audit/lookup/v1")
_TRACEPARENT: Final = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_NUMBER: Final = re.compile(rb"0*[0-9]{1,10}0*")  # by chance: never


def canonical(value: Mapping[str, Any]) -> bytes:
    """RFC 8785 for our domain: keys ASCII, values string, integer below 2^53, list, object or bool."""
    return _encode(value).encode()


def b64url(data: bytes) -> str:
    """Base64url without padding (RFC 4648 section 5)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class Ids:
    """Trace and span of one decision; the same input gives the same ids, so a duplicate shows.

    Args:
        trace: 16 bytes, from the sender's `traceparent` if it has one.
        span: 8 bytes.
        parent: 8 bytes, the sender's span, if there is one.
    """

    trace: bytes
    span: bytes
    parent: bytes | None = None

    @classmethod
    def of(cls, topic: str, partition: int, offset: int, receiver: str | None, traceparent: bytes | None) -> Ids:
        """Derive the ids of a decision (audit design, section 4)."""
        where = f"{topic}\x00{partition}\x00{offset}".encode()
        span = _not_zero(sha256(b"audit/span/v1" + where + b"\x00" + (receiver or "").encode()).digest()[:8])
        given = _traceparent(traceparent)
        if given is not None:
            return cls(given[0], span, given[1])
        return cls(_not_zero(sha256(b"audit/trace/v1" + where).digest()[:16]), span)


class Commitments:
    """Token and salts of one person in one event, made from the person's subject key.

    The holder of the value and its salt can show that a leaf speaks of exactly these bytes; nobody else can guess.
    """

    __slots__ = ("_decision", "_hash", "_salts", "ids")

    def __init__(self, subject_key: bytes, ids: Ids) -> None:
        self.ids = ids
        self._hash = KeyedHash(subject_key)
        self._decision = _TRACE_BYTES + ids.trace + _SPAN_BYTES + ids.span  # as `length_prefixed`, at a third
        self._salts: dict[str, bytes] = {}

    def token(self) -> str:
        """The person, in this leaf only."""
        return b64url(self._hash.digest(_TOKEN + self._decision)[:16])

    def salt(self, side: str) -> bytes:
        """32 bytes; `side` is "in" or "out"."""
        salt = self._salts.get(side)
        if salt is None:
            salt = self._salts[side] = self._hash.digest(_SALT[side] + self._decision)
        return salt

    def value(self, side: str, data: bytes) -> str:
        """The commitment to bytes that came in or went out."""
        return commitment(self.salt(side), data)


def commitment(salt: bytes, data: bytes) -> str:
    """What a receiver checks: the salt came with the record, in its header `audit-salt`."""
    # As `keyed_hash(salt, "audit/value/v1", data)`, in half its time.
    return b64url(KeyedHash(salt).digest(_VALUE + len(data).to_bytes(4, "big") + data))


def lookup_tag(subject_key: bytes) -> bytes:
    """What the erasable index finds a person's leaves by; never in a leaf."""
    return KeyedHash(subject_key).digest(_LOOKUP)[:16]


class Form:
    """What many leaves have in common, written once; `fill` puts in what each has of its own.

    Args:
        name: of the action, for people.
        processor: URL of the receiver, when data went to one.
        evidence: becomes `x`; a member that each leaf has of its own is a `Hole`.
        person: whether the leaf has a token. parent: whether it has a parent span.
    """

    __slots__ = ("_holes", "_texts")

    def __init__(
        self, name: str, processor: str | None, evidence: Mapping[str, Any], *, person: bool, parent: bool
    ) -> None:
        quote = encode_basestring
        # `canonical` written out: the names of each object in their order.
        subject = f'"dpl.core.data_subject_id":{Hole("token").mark},{_SUBJECT_TYPE}' if person else ""
        to = f'"dpl.core.foreign_operation.processor":{quote(processor)},' if processor is not None else ""
        text = (
            f'{{"ldv":{{"attributes":{{{subject}{to}"dpl.core.processing_activity_id":{Hole("activity").mark}}},'
            f'"end_time":{Hole("end_time").mark},"name":{quote(name)},'
            f"{_PARENT if parent else ''}"
            f'"resource":{_SERVICE},"span_id":{Hole("span_id").mark},"start_time":{Hole("start_time").mark},'
            f'"status":"Unset","trace_id":{Hole("trace_id").mark}}},"v":1,"x":{_object(evidence)}}}'
        )
        self._texts = text.split(_MARK)  # text, name of a hole, text, name of a hole, ...
        self._holes = self._texts[1::2]

    def fill(
        self,
        ids: Ids,
        activity: str,
        token: str | None,
        start_ms: int,
        end_ms: int,
        members: Mapping[str, str | int],
    ) -> bytes:
        """One leaf.

        Args:
            activity: URI of the controller's processing activity.
            token: of the person, or None when the event is about nobody that is known.
            members: what goes into the holes of the evidence, by their names.
        """
        quote = encode_basestring
        texts = {
            "activity": quote(activity),
            "end_time": repr(end_ms),
            "span_id": f'"{ids.span.hex()}"',
            "start_time": repr(start_ms),
            "trace_id": f'"{ids.trace.hex()}"',
        }
        if token is not None:
            texts["token"] = quote(token)
        if ids.parent is not None:
            texts["parent_span_id"] = f'"{ids.parent.hex()}"'
        for name, value in members.items():
            texts[name] = repr(value) if value.__class__ is int else quote(value)  # type: ignore[arg-type]
        filled = self._texts.copy()
        filled[1::2] = [texts[name] for name in self._holes]
        return "".join(filled).encode()


def leaf(
    *,
    ids: Ids,
    name: str,
    activity: str,
    processor: str | None,
    token: str | None,
    start_ms: int,
    end_ms: int,
    evidence: Mapping[str, Any],
) -> bytes:
    """Write one leaf alone; see `Form`, which is for many."""
    form = Form(name, processor, evidence, person=token is not None, parent=ids.parent is not None)
    return form.fill(ids, activity, token, start_ms, end_ms, {})


@dataclass(frozen=True, slots=True)
class Hole:
    """Where a leaf has something of its own. The name is ours, never from outside."""

    name: str

    @property
    def mark(self) -> str:
        """As it stands in a form; JSON has no control characters, so no text of a leaf can be taken for one."""
        return f"{_MARK}{self.name}{_MARK}"


def _object(members: Mapping[str, Any]) -> str:
    """As `canonical`; a list may come as a tuple."""
    return "{" + ",".join([f"{encode_basestring(name)}:{_value(members[name])}" for name in sorted(members)]) + "}"


def _value(value: Any) -> str:
    if isinstance(value, Hole):
        return value.mark
    return _object(value) if isinstance(value, dict) else _encode(value)


_MARK: Final = "\0"
_PARENT: Final = f'"parent_span_id":{Hole("parent_span_id").mark},'
_SUBJECT_TYPE: Final = f'"dpl.core.data_subject_id_type":{encode_basestring(TOKEN_TYPE)},'
_SERVICE: Final = _encode(SERVICE)


def is_decision(leaf: bytes) -> bool:
    """Whether a leaf of `audit.events` is of a decision, and not a window or another kind."""
    return leaf.startswith(b'{"ldv":')  # canonical: the first name


def erased_leaf(event: str, school: str, place: tuple[str, int, int], now_ms: int) -> bytes:
    """A leaf that says that a person's keys were destroyed, and not whose.

    Args:
        event: id of the ERASE. school: BRIN.
        place: topic, partition and offset of the ERASE: its id follows from them, so that a second try has the same.
    """
    topic, partition, offset = place
    where = f"{topic}\x00{partition}\x00{offset}".encode()
    number = b64url(sha256(b"audit/erased/v1" + where).digest()[:16])
    return canonical({"erased": {"event": event, "id": number, "school": school, "time": now_ms}, "v": 1})


def control_leaf(kind: str, content: Mapping[str, Any]) -> bytes:
    """A leaf of `audit.control`: registry changes, incidents, keys."""
    return canonical({"control": {"kind": kind, **content}, "v": 1})


def _not_zero(value: bytes) -> bytes:
    return value if any(value) else b"\x01" + value[1:]


def _traceparent(header: bytes | None) -> tuple[bytes, bytes] | None:
    """W3C Trace Context, section 3.2: `00-<32 hex>-<16 hex>-<2 hex>`, lower case; anything else is as if absent."""
    found = None if header is None else _TRACEPARENT.fullmatch(header)
    # A trace id goes to every receiver: a number of a person, filled up with zeroes, is none. Nor are zeroes alone.
    if found is None or _NUMBER.fullmatch(found[1]) or _NUMBER.fullmatch(found[2]):
        return None
    return bytes.fromhex(found[1].decode()), bytes.fromhex(found[2].decode())
