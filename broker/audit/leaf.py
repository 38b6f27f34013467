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
from hashlib import sha256
from typing import Any, Final

from broker.crypto import keyed_hash

TOKEN_TYPE: Final = "https://eck-broker.nl/begrippen/subject-token/v1"
SERVICE: Final = {"attributes": {"service.name": "eck-broker", "service.version": "1"}}

_encode: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
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


@dataclass(frozen=True, slots=True)
class Commitments:
    """Token and salts of one person in one event, made from the person's subject key.

    The holder of the value and its salt can show that a leaf speaks of exactly these bytes; nobody else can guess.
    """

    subject_key: bytes
    ids: Ids

    def token(self) -> str:
        """The person, in this event only."""
        return b64url(keyed_hash(self.subject_key, "audit/sid/v1", self.ids.trace, self.ids.span)[:16])

    def salt(self, side: str) -> bytes:
        """32 bytes; `side` is "in" or "out"."""
        return keyed_hash(self.subject_key, "audit/salt/v1", side, self.ids.trace, self.ids.span)

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
    attributes: dict[str, str] = {"dpl.core.processing_activity_id": activity}
    if token is not None:
        attributes["dpl.core.data_subject_id"] = token
        attributes["dpl.core.data_subject_id_type"] = TOKEN_TYPE
    if processor is not None:
        attributes["dpl.core.foreign_operation.processor"] = processor
    line: dict[str, Any] = {
        "attributes": attributes,
        "end_time": end_ms,
        "name": name,
        "resource": SERVICE,
        "span_id": ids.span.hex(),
        "start_time": start_ms,
        "status": "Unset",
        "trace_id": ids.trace.hex(),
    }
    if ids.parent is not None:
        line["parent_span_id"] = ids.parent.hex()
    return canonical({"ldv": line, "v": 1, "x": evidence})


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
