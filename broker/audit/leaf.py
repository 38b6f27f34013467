"""The audit leaf: one canonical JSON object for each decision and receiver.

It holds a strict line of Logboek Dataverwerkingen 1.0.0 (`ldv`) and, beside it, our evidence (`x`): what was decided,
on which rule and versions, which attributes were kept and dropped by *name*, and commitments to the bytes that
came in and went out. It holds no value of any attribute. The person in it is a token, a keyed PRF output that
differs for every event: without the subject key two leaves can not be linked.

Canonical: RFC 8785 within the domain used here (ASCII keys, no floats), so that the bytes can be re-made.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from json.encoder import encode_basestring
from typing import Any, Final

from broker.crypto import KeyedHash, keyed_hash, length_prefixed

TOKEN_TYPE: Final = "https://eck-broker.nl/begrippen/subject-token/v1"
SERVICE: Final = {"attributes": {"service.name": "eck-broker", "service.version": "1"}}

_encode: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
_TOKEN: Final = length_prefixed("audit/sid/v1")
_SALT: Final = {side: length_prefixed("audit/salt/v1", side) for side in ("in", "out")}
_TRACEPARENT: Final = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


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
        self._decision = length_prefixed(ids.trace, ids.span)
        self._salts: dict[str, bytes] = {}

    def token(self) -> str:
        """The person, in this event only."""
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
    return b64url(keyed_hash(salt, "audit/value/v1", data))


def lookup_tag(subject_key: bytes) -> bytes:
    """What the erasable index finds a person's leaves by; never in a leaf."""
    return keyed_hash(subject_key, "audit/lookup/v1")[:16]


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
    """Write one leaf.

    Args:
        name: of the action, for people.
        activity: URI of the controller's processing activity.
        processor: URL of the receiver, when data went to one.
        token: of the person, or None when the event is about nobody that is known.
        evidence: becomes `x`.
    """
    quote = encode_basestring
    # `canonical` written out, since this is done for every decision: the names of each object in their order.
    subject = f'"dpl.core.data_subject_id":{quote(token)},{_SUBJECT_TYPE}' if token is not None else ""
    to = f'"dpl.core.foreign_operation.processor":{quote(processor)},' if processor is not None else ""
    parent = f'"parent_span_id":"{ids.parent.hex()}",' if ids.parent is not None else ""
    return (
        f'{{"ldv":{{"attributes":{{{subject}{to}"dpl.core.processing_activity_id":{quote(activity)}}},'
        f'"end_time":{end_ms},"name":{quote(name)},{parent}"resource":{_SERVICE},"span_id":"{ids.span.hex()}",'
        f'"start_time":{start_ms},"status":"Unset","trace_id":"{ids.trace.hex()}"}},"v":1,"x":{_object(evidence)}}}'
    ).encode()


def _object(members: Mapping[str, Any]) -> str:
    """As `canonical`; a list of names may come as a tuple, and is then remembered."""
    return "{" + ",".join([f"{_name(name)}:{_value(members[name])}" for name in sorted(members)]) + "}"


def _value(value: Any) -> str:
    kind = value.__class__
    if kind is str:
        return encode_basestring(value)
    if kind is int:
        return repr(value)
    if kind is tuple:
        return _list(value)
    return _object(value) if kind is dict else _encode(value)


_name: Final = lru_cache(maxsize=256)(encode_basestring)
_list: Final = lru_cache(maxsize=4096)(_encode)
_SUBJECT_TYPE: Final = f'"dpl.core.data_subject_id_type":{encode_basestring(TOKEN_TYPE)},'
_SERVICE: Final = _encode(SERVICE)


def is_decision(leaf: bytes) -> bool:
    """Whether a leaf of `audit.events` is of a decision, and not a window or another kind."""
    return leaf.startswith(b'{"ldv":')  # canonical: the first name


def control_leaf(kind: str, content: Mapping[str, Any]) -> bytes:
    """A leaf of `audit.control`: registry changes, incidents, keys, erasures."""
    return canonical({"control": {"kind": kind, **content}, "v": 1})


def _not_zero(value: bytes) -> bytes:
    return value if any(value) else b"\x01" + value[1:]


def _traceparent(header: bytes | None) -> tuple[bytes, bytes] | None:
    """W3C Trace Context, section 3.2: `00-<32 hex>-<16 hex>-<2 hex>`, lower case; anything else is as if absent."""
    found = None if header is None else _TRACEPARENT.fullmatch(header)
    if found is None:
        return None
    trace, span = bytes.fromhex(found[1].decode()), bytes.fromhex(found[2].decode())
    return (trace, span) if any(trace) and any(span) else None
