"""What the bytes of a schema can do to a reader: items without width, types without a bottom, ints that are too wide.

Works on a schema as fastavro parsed it: with full names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from broker.errors import ConfigError

INT_MAX: Final = 2**31 - 1
_LEAST_BYTES: Final = {"null": 0, "float": 4, "double": 8}
# What a date has in days and a time in milliseconds since 1970, from the year 1 to the end of the year 9999.
_CALENDAR: Final = {"date": (-719_162, 2_932_896), "timestamp-millis": (-62_135_596_800_000, 253_402_300_799_999)}
_PRIMITIVES: Final = ("boolean", "int", "long", "string", "bytes", *_LEAST_BYTES)

Fits = Callable[[Any], bool]


def least_bytes(node: Any, where: str, known: dict[str, int], within: tuple[str, ...] = ()) -> int:
    """The fewest bytes that a value takes; refuses what lets a few bytes keep or bring a worker down.

    Items of no width: a few bytes could claim 2^60 of them and keep a worker busy for ever. A type within itself:
    fastavro's compiled reader has no bound on its depth, and 10,000 levels end the process (segmentation fault,
    fastavro 1.13.1).

    Args:
        where: for messages.
        known: named types so far; filled.
        within: names of the records around it.

    Raises:
        ConfigError: `schema.unsafe`.
    """
    if isinstance(node, list):
        for branch in node:
            least_bytes(branch, where, known, within)
        return 1  # the branch's number
    if isinstance(node, str):
        if node in _PRIMITIVES:
            return _LEAST_BYTES.get(node, 1)
        if node in within:
            raise ConfigError(f"{where}: type {node} holds itself, without a bound", code="schema.unsafe")
        return known[node]
    kind = node["type"]
    if kind == "record":
        name, inside = node["name"], (*within, node["name"])
        known[name] = sum(least_bytes(f["type"], f"{where}.{f['name']}", known, inside) for f in node["fields"])
        return known[name]
    if kind in ("enum", "fixed"):
        known[node["name"]] = node.get("size", 1)
        return known[node["name"]]
    if kind in ("array", "map"):
        if least_bytes(node["items" if kind == "array" else "values"], where, known, within) < 1:
            raise ConfigError(f"{where}: {kind} items must take at least one byte", code="schema.unsafe")
        return 1
    return least_bytes(kind, where, known, within)


def narrow_fields(record: Any, known: dict[str, Fits | None]) -> tuple[tuple[str, Fits], ...]:
    """The fields of a record in which an int may stand, each with the check that it has 32 bits.

    fastavro writes and reads an int of any width up to 64 bits; readers in other languages break on it
    (Avro specification 1.12, "Primitive Types").

    Args:
        known: named types so far; filled.
    """
    found = [(f["name"], _narrow(f["type"], known)) for f in record["fields"]]
    return tuple((name, fits) for name, fits in found if fits is not None)


def _narrow(node: Any, known: dict[str, Fits | None]) -> Fits | None:
    if isinstance(node, list):
        branches = [fits for branch in node if (fits := _narrow(branch, known)) is not None]
        if not branches or "long" in node:
            return None
        return branches[0] if len(branches) == 1 else lambda value: all(fits(value) for fits in branches)
    if isinstance(node, str):
        return _is_int if node == "int" else known.get(node)
    kind = node["type"]
    if kind == "record":
        known[node["name"]] = checked = _record(narrow_fields(node, known))
        return checked
    if kind in ("array", "map"):
        return _items(_narrow(node["items" if kind == "array" else "values"], known))
    return None if kind in ("enum", "fixed") else _narrow(kind, known)


def _is_int(value: Any) -> bool:
    return not isinstance(value, int) or -INT_MAX - 1 <= value <= INT_MAX


def _record(fields: tuple[tuple[str, Fits], ...]) -> Fits | None:
    if not fields:
        return None
    return lambda value: not isinstance(value, dict) or all(fits(value.get(name)) for name, fits in fields)


def _items(item: Fits | None) -> Fits | None:
    if item is None:
        return None

    def check(value: Any) -> bool:
        if isinstance(value, dict):
            value = value.values()
        return not hasattr(value, "__iter__") or all(item(each) for each in value)

    return check


def in_calendar(node: Any, known: dict[str, Fits | None]) -> Fits | None:
    """The check that all dates and times of a type lie in the years 1 to 9999; None if there are none in it.

    What lies outside is an overflow in most readers' calendars: one such event would stop every receiver.

    Args:
        node: a type as written, with its logical types.
        known: named types so far; filled.
    """
    if isinstance(node, list):
        branches = [check for branch in node if (check := in_calendar(branch, known)) is not None]
        return (lambda value: all(check(value) for check in branches)) if branches else None
    if isinstance(node, str):
        return known.get(node.rpartition(".")[2])
    if (bounds := _CALENDAR.get(node.get("logicalType", ""))) is not None:
        low, high = bounds
        return lambda value: not isinstance(value, int) or low <= value <= high
    kind = node["type"]
    if kind == "record":
        fields = [(f["name"], in_calendar(f["type"], known)) for f in node["fields"]]
        checked = _record(tuple((name, fits) for name, fits in fields if fits is not None))
        known[node["name"].rpartition(".")[2]] = checked
        return checked
    if kind in ("array", "map"):
        return _items(in_calendar(node["items" if kind == "array" else "values"], known))
    return None if isinstance(kind, str) else in_calendar(kind, known)
