"""Avro single-object encoding: `C3 01`, 8 bytes of fingerprint, the body.

Source: Apache Avro specification 1.12, "Single-object encoding".
"""

from __future__ import annotations

from typing import Final

from broker.errors import ContractError

MARKER: Final = b"\xc3\x01"
HEADER_BYTES: Final = 10


def frame(fingerprint: bytes, body: bytes) -> bytes:
    """Put the header before an encoded record."""
    return MARKER + fingerprint + body


def unframe(value: bytes | None) -> tuple[bytes, bytes]:
    """Split a value into fingerprint and body.

    Raises:
        ContractError: `frame.empty` for a null or empty value, `frame.marker` if it is something else.
    """
    if not value:
        raise ContractError("the record has no value", code="frame.empty")
    if len(value) < HEADER_BYTES or not value.startswith(MARKER):
        raise ContractError("the value is not an Avro single object", code="frame.marker")
    return value[2:HEADER_BYTES], value[HEADER_BYTES:]
