"""Recognisable values for every field of every schema, and how they would look if one got out.

Made from the schemas themselves, so that a new family, kind or field is covered by itself. A field whose form is
checked gets a marker of that form; a field that the registry must know (`known`) gets what the caller says.
"""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from hashlib import blake2b, md5, sha1, sha256
from itertools import count
from typing import Any, Final
from uuid import uuid4

from broker.schemas import PERSONAL, Family, catalogue
from broker.schemas.framing import varint

WORD: Final = "CANARYBIRDSONG"
HEX: Final = "ca9a41b1d5a0"
BSN: Final = "111222333"  # a well-known test number
NUMBER: Final = 1_987_654_321
DAY: Final = date(2031, 8, 19)
MOMENT: Final = datetime(2031, 8, 19, 11, 22, 33, 444_000, UTC)
MOMENT_MS: Final = int(MOMENT.timestamp()) * 1000 + 444
_UUID: Final = "ca9a41b1-d5a0-41b1-8d5a-"
_EPOCH: Final = date(1970, 1, 1)
_numbers = count(1)


def text(*path: str) -> str:
    """A marker that says where it was put."""
    return ".".join((WORD, *path)).replace("_", "-")


def eck_id(number: int) -> str:
    """A marker that is an ECK iD."""
    return f"https://ketenid.nl/pilot/{HEX * 10}{number:08x}"


def uuid() -> str:
    """A marker that is a uuid, another one each time."""
    return f"{_UUID}{next(_numbers):012x}"


def body(family: Family, kind: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """A body in which every field is filled that the kind may use.

    Args:
        known: values of fields that must be known to the registry, or say which rule holds.
    """
    unused = family.kinds[kind].unused
    named: dict[str, Any] = {}
    made: dict[str, Any] = {}
    for field in family.schema.document["fields"]:
        name = field["name"]
        value = _value(field["type"], (family.name, name), is_personal(field), named)
        made[name] = None if name in unused else known.get(name, value)
    if "control_id" in made:  # stands on the control log, beside the request that it answers
        made["control_id"] = str(uuid4())
    return made


def is_personal(field: Mapping[str, Any]) -> bool:
    """Whether a policy decides over a field of a schema."""
    return field["class"] in PERSONAL or "attribute" in field


def _value(node: Any, path: tuple[str, ...], personal: bool, named: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return _value(next(branch for branch in node if branch != "null"), path, personal, named)
    if isinstance(node, str) and node in named:
        return named[node]
    logical = node.get("logicalType") if isinstance(node, dict) else None
    if logical is not None:
        return {"uuid": uuid(), "date": (DAY - _EPOCH).days, "timestamp-millis": MOMENT_MS}[logical]
    kind = node if isinstance(node, str) else node["type"]
    if kind == "enum":
        named[node["name"]] = max(node["symbols"], key=len) if personal else node["symbols"][0]
        return named[node["name"]]
    if kind == "array":
        return [_value(node["items"], path, personal, named)]
    if kind == "record":
        return {f["name"]: _value(f["type"], (*path, f["name"]), personal, named) for f in node["fields"]}
    if kind == "string":
        return eck_id(0) if path[-1].endswith("eck_id") else text(*path)
    return {"boolean": True, "int": NUMBER if personal else 1, "long": NUMBER}[kind]


def needles(identifiers: Iterable[str]) -> frozenset[bytes]:
    """How the markers would look in clear: as text, hex, UTF-16, base64, Avro's numbers, and plain hashes of ids.

    Args:
        identifiers: values whose hash alone would tell who it is: a hash without a key can be looked up.
    """
    found: set[bytes] = set()
    for marker in (WORD, HEX * 2, _UUID, BSN):
        found |= _forms(marker)
    found |= {bytes.fromhex(HEX), bytes.fromhex(_UUID.replace("-", ""))}
    found |= {str(NUMBER).encode(), varint(NUMBER), str(MOMENT_MS).encode(), varint(MOMENT_MS), b"2031-08-19T11:22:33"}
    found |= {form.encode() for form in ("2031-08-19", "20310819", "19-08-2031")}
    for value in identifiers:
        for digest in (f(value.encode()).digest() for f in (sha256, sha1, md5, blake2b, _short)):
            found |= {digest, digest.hex().encode(), b64encode(digest)[:20], urlsafe_b64encode(digest)[:20]}
    return frozenset(form for form in found if len(form) >= 5)


def _short(data: bytes) -> Any:
    return blake2b(data, digest_size=16)


def words() -> frozenset[bytes]:
    """The symbols of enums that say something of a person, those that are no common word."""
    found: set[str] = set()
    for family in catalogue().families.values():
        for field in family.schema.document["fields"]:
            if is_personal(field):
                _collect(field["type"], found)
    return frozenset(word.encode() for word in found if len(word) >= 10)


def _collect(node: Any, found: set[str]) -> None:
    if isinstance(node, list):
        for branch in node:
            _collect(branch, found)
    elif isinstance(node, dict):
        found |= {max(node["symbols"], key=len)} if node["type"] == "enum" else set()
        for below in (*node.get("fields", ()), {"type": node.get("items", "null")}):
            _collect(below["type"], found)


def _forms(marker: str) -> set[bytes]:
    """A marker as it might be written."""
    raw = marker.encode()
    forms = {raw, raw.lower(), raw.upper(), raw.hex().encode(), marker.encode("utf-16-le"), marker.encode("utf-16-be")}
    for shift in range(3):  # base64 of it at each alignment, without the ends that depend on the neighbours
        padded = b"\x00" * shift + raw
        for encode in (b64encode, urlsafe_b64encode):
            forms.add(encode(padded)[4 if shift else 0 : -4])
    return {form for form in forms if len(form) >= 6}


def hits(data: bytes, forms: Iterable[bytes]) -> set[bytes]:
    """Which of the forms are in some bytes."""
    return {form for form in forms if form in data}
