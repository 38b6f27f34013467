"""A writer made for one schema: Python source with the fields written out, twice as fast as walking the schema.

It takes only what is exactly right (a dict with exactly the fields, values of exactly the types, ints in range) and
gives None for everything else, misfits included: fastavro then decides, as it does for all schemas that hold what is
not known here. What it does write is byte for byte what fastavro writes; a property test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from broker.schemas.framing import zigzag

Writer = Callable[[Any], "bytes | None"]

_INT_BITS: Final = {"int": 31, "long": 63}


class _Unknown(Exception):
    """The schema holds a type that is left to fastavro."""


def writer(record: Any) -> Writer | None:
    """Make the writer of a record schema as fastavro parsed it; None if it holds maps, floats or wider unions."""
    source = _Source()
    try:
        source.record(record, "datum", 2)
    except _Unknown:
        return None
    lines = ["def write(datum):", "    out = []", "    add = out.append", "    try:"]
    lines += [*source.lines, "    except (KeyError, UnicodeError):", "        return None", '    return b"".join(out)']
    space: dict[str, Any] = {"zigzag": zigzag, "symbols": source.symbols}
    exec("\n".join(lines), space)  # noqa: S102 - our own text; names of fields stand in it as quoted strings
    made: Writer = space["write"]
    return made


class _Source:
    """The lines so far. `value` is always a local name."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.symbols: list[dict[str, bytes]] = []
        self._named: dict[str, Any] = {}
        self._locals = 0

    def record(self, node: Any, value: str, depth: int) -> None:
        self._unless(f"{value}.__class__ is dict and len({value}) == {len(node['fields'])}", depth)
        for field in node["fields"]:
            inner = self._local()
            self._add(f"{inner} = {value}[{field['name']!r}]", depth)
            self._value(field["type"], inner, depth)
        self._named[node["name"]] = node

    def _value(self, node: Any, value: str, depth: int) -> None:
        if isinstance(node, list):
            self._union(node, value, depth)
            return
        kind = node if isinstance(node, str) else node["type"]
        if isinstance(node, str) and node in self._named:
            node, kind = self._named[node], self._named[node]["type"]
        if kind in _INT_BITS:
            bound = 1 << _INT_BITS[kind]
            self._unless(f"{value}.__class__ is int and {-bound} <= {value} < {bound}", depth)
            self._add(f"add(zigzag({value}))", depth)
        elif kind == "string":
            self._unless(f"{value}.__class__ is str", depth)
            self._add(f"{value} = {value}.encode()", depth)
            self._add(f"add(zigzag(len({value})))", depth)
            self._add(f"add({value})", depth)
        elif kind == "bytes":
            self._unless(f"{value}.__class__ is bytes", depth)
            self._add(f"add(zigzag(len({value})))", depth)
            self._add(f"add({value})", depth)
        elif kind == "boolean":
            self._unless(f"{value}.__class__ is bool", depth)
            self._add(f"add(b'\\1' if {value} else b'\\0')", depth)
        else:
            self._made(kind, node, value, depth)

    def _made(self, kind: str, node: Any, value: str, depth: int) -> None:
        """A type that the schema itself makes."""
        if kind == "enum":
            self._named[node["name"]] = node
            self.symbols.append({symbol: zigzag(number) for number, symbol in enumerate(node["symbols"])})
            self._unless(f"{value}.__class__ is str", depth)
            self._add(f"add(symbols[{len(self.symbols) - 1}][{value}])", depth)
        elif kind == "fixed":
            self._named[node["name"]] = node
            self._unless(f"{value}.__class__ is bytes and len({value}) == {node['size']}", depth)
            self._add(f"add({value})", depth)
        elif kind == "array":
            item = self._local()
            self._unless(f"{value}.__class__ is list", depth)
            self._add(f"if {value}:", depth)
            self._add(f"add(zigzag(len({value})))", depth + 1)
            self._add(f"for {item} in {value}:", depth + 1)
            self._value(node["items"], item, depth + 2)
            self._add("add(b'\\0')", depth)
        elif kind == "record":
            self.record(node, value, depth)
        else:
            raise _Unknown

    def _union(self, node: list[Any], value: str, depth: int) -> None:
        if len(node) != 2 or "null" not in node:
            raise _Unknown
        null = node.index("null")
        self._add(f"if {value} is None:", depth)
        self._add(f"add({zigzag(null)!r})", depth + 1)
        self._add("else:", depth)
        self._add(f"add({zigzag(1 - null)!r})", depth + 1)
        self._value(node[1 - null], value, depth + 1)

    def _local(self) -> str:
        self._locals += 1
        return f"v{self._locals}"

    def _unless(self, condition: str, depth: int) -> None:
        self._add(f"if not ({condition}): return None", depth)

    def _add(self, line: str, depth: int) -> None:
        self.lines.append("    " * depth + line)
