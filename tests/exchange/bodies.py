"""Bodies that are right, of any family and kind, made from the schemas themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

from broker.schemas import Family, Kind, catalogue
from tests.exchange.world import BOOK, DELTA, NOW_MS, PORTAL, TEACHER

TODAY: Final = NOW_MS // 86_400_000
# What a field's type does not tell: products, and a link that the route table knows.
_VALUES: Final[dict[str, Any]] = {
    "product_id": BOOK, "bundled_product_id": BOOK, "products": [BOOK], "material": "DIGITAL", "delivery": "HOME",
    "sender": DELTA, "receiver": PORTAL, "service": "usage", "process": "GEBRUIK", "other_party": PORTAL,
    "location": None, "left_on": TODAY, "teacher_eck_id": TEACHER, "employee_number": "E1",
}  # fmt: skip


def families() -> list[Family]:
    """All families, each in its newest version."""
    return [catalogue().family(name) for name in sorted({name for name, _ in catalogue().families})]


def kinds() -> Iterator[tuple[Family, Kind]]:
    """All kinds of all families."""
    for family in families():
        for kind in family.kinds.values():
            yield family, kind


def body(family: str, kind: str, *, full: bool = False, **changes: Any) -> dict[str, Any]:
    """A body with what its kind requires.

    Args:
        full: with all else that it may hold as well.
        changes: fields that are to have another value.
    """
    found = catalogue().family(family)
    rules, named = found.kinds[kind], dict[str, Any]()
    made: dict[str, Any] = {}
    for field in found.schema.document["fields"]:
        name, types = field["name"], field["type"]
        value = _VALUES[name] if name in _VALUES else _value(types, named)
        if isinstance(types, list) and "null" in types:
            needed = name in rules.requires or (name == found.product_field and rules.needs_product)
            if not needed and (not full or name in rules.unused):
                value = None
        made[name] = value
    if found.object_field is not None:
        made[found.object_field] = str(uuid4())
    return made | changes


def _value(node: Any, named: dict[str, Any]) -> Any:
    """A value of a type; of a union one that is not null."""
    if isinstance(node, list):
        return next(value for value in (_value(branch, named) for branch in node) if value is not None)
    if isinstance(node, str):
        if node in named:
            return named[node]
        return {"null": None, "boolean": True, "int": 1, "long": 1, "string": "A1"}[node]
    kind = node["type"]
    if node.get("logicalType") == "uuid":
        return str(uuid4())
    if node.get("logicalType") in ("date", "timestamp-millis"):
        return TODAY if node["logicalType"] == "date" else NOW_MS
    if kind == "enum":
        named[node["name"]] = node["symbols"][0]
        return node["symbols"][0]
    if kind == "array":
        return [_value(node["items"], named)]
    if kind == "record":
        return {field["name"]: _value(field["type"], named) for field in node["fields"]}
    return _value(kind, named)
