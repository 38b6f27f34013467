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


def varint(number: int) -> bytes:
    """Avro's form of a long that is not negative, such as a length.

    Source: Apache Avro specification 1.12, "Binary Encoding": zig-zag, seven bits a byte, lowest first.
    """
    return _SHORT[number] if number < len(_SHORT) else _unsigned(number << 1)


def zigzag(number: int) -> bytes:
    """Avro's form of an int or long: of at most 64 bits, which is for the caller to check."""
    return _SHORT[number] if 0 <= number < len(_SHORT) else _unsigned(number << 1 ^ number >> 63)


def _unsigned(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_SHORT: Final = tuple(_unsigned(number << 1) for number in range(1024))
