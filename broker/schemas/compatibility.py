"""Whether data of one version of a schema can be read with another, and whether a new version is as careful.

The first by Avro's own rules (specification 1.12, "Schema Resolution"), for what is *always* readable: where reading
depends on the value (a union's branch, an enum's symbol) every value counts. The others are rules of ours: a field
that a policy decides over stays one, and a logical type keeps its meaning; neither shows in an Avro fingerprint.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal

import fastavro

from broker.errors import ConfigError
from broker.schemas.model import PERSONAL, JsonObject

PROMOTIONS: Final = {
    "int": ("long", "float", "double"),
    "long": ("float", "double"),
    "float": ("double",),
    "string": ("bytes",),
    "bytes": ("string",),
}
NAMED: Final = ("record", "enum", "fixed")


class Mode(StrEnum):
    """Who must be able to read whose data."""

    BACKWARD = "BACKWARD"  # the new schema reads old data
    FORWARD = "FORWARD"  # the old schema reads new data
    FULL = "FULL"  # both


@dataclass(frozen=True, slots=True)
class Incompatibility:
    """One reason why two schemas do not go together.

    Args:
        path: of the field, from the record down.
        reason: a sentence.
        kind: "reading" for Avro's rules; "classification" or "meaning" for ours.
    """

    path: str
    reason: str
    kind: Literal["reading", "classification", "meaning"] = "reading"


def check(reader: JsonObject, writer: JsonObject) -> list[Incompatibility]:
    """Find what keeps a reader from reading everything that was written with the writer's schema.

    Raises:
        ConfigError: `schema.invalid`, if one of them is not valid Avro.
    """
    resolution = _Resolution(_Types(reader), _Types(writer))
    return list(resolution.compare(resolution.reader.root, resolution.writer.root, _name_of(reader)))


def compatible(new: JsonObject, old: JsonObject, mode: Mode = Mode.FULL) -> list[Incompatibility]:
    """Find what keeps a new version from taking the place of an old one; empty when nothing does.

    Raises:
        ConfigError: `schema.invalid`, if one of them is not valid Avro.
    """
    found = []
    if mode in (Mode.BACKWARD, Mode.FULL):
        found += check(reader=new, writer=old)
    if mode in (Mode.FORWARD, Mode.FULL):
        found += check(reader=old, writer=new)
    ours = _Care(_Types(new), _Types(old))
    return [*dict.fromkeys([*found, *ours.compare(ours.new.root, ours.old.root, _name_of(new))])]


class _Types:
    """A schema with its named types, all by their full names."""

    def __init__(self, document: JsonObject) -> None:
        try:
            self.root: Any = fastavro.parse_schema(copy.deepcopy(document), named_schemas={})
        except Exception as exc:
            raise ConfigError(f"a schema is not valid Avro: {exc}", code="schema.invalid") from exc
        self.named: dict[str, Any] = {}
        self._collect(self.root)

    def _collect(self, node: Any) -> None:
        if isinstance(node, list):
            for branch in node:
                self._collect(branch)
        elif isinstance(node, dict):
            if node["type"] in NAMED:
                self.named[node["name"]] = node
            for below in (*(f["type"] for f in node.get("fields", ())), node.get("items"), node.get("values")):
                self._collect(below)
            if not isinstance(node["type"], str):
                self._collect(node["type"])

    def resolve(self, node: Any) -> Any:
        """A union as a list, a named, array or map type as an object, a primitive as its name."""
        while True:
            if isinstance(node, str) and node in self.named:
                return self.named[node]
            if not isinstance(node, dict) or node["type"] in (*NAMED, "array", "map"):
                return node
            node = node["type"]


class _Resolution:
    def __init__(self, reader: _Types, writer: _Types) -> None:
        self.reader, self.writer = reader, writer
        self._under_way: set[tuple[str, str]] = set()

    def compare(self, reader: Any, writer: Any, path: str) -> Iterator[Incompatibility]:
        reader, writer = self.reader.resolve(reader), self.writer.resolve(writer)
        if isinstance(writer, list):
            for branch in writer:
                yield from self.compare(reader, branch, path)
        elif isinstance(reader, list):
            # The first branch that matches is the one that is used, also where a later one would fit better.
            branch = next((b for b in reader if self._matches(self.reader.resolve(b), writer)), None)
            if branch is None:
                yield Incompatibility(path, f"{_says(writer)} is written, but no branch of the reader takes it")
            else:
                yield from self.compare(branch, writer, path)
        elif not self._matches(reader, writer):
            yield Incompatibility(path, f"{_says(writer)} is written, {_says(reader)} is expected")
        elif isinstance(reader, dict):
            yield from self._inside(reader, writer, path)

    def _matches(self, reader: Any, writer: Any) -> bool:
        """Whether two types match by themselves, without what is inside them; a union matches by a branch."""
        if isinstance(reader, list):
            return any(self._matches(self.reader.resolve(branch), writer) for branch in reader)
        if isinstance(reader, str) or isinstance(writer, str):
            return bool(reader == writer or (isinstance(writer, str) and reader in PROMOTIONS.get(writer, ())))
        if reader["type"] != writer["type"]:
            return False
        if reader["type"] == "fixed" and reader["size"] != writer["size"]:
            return False
        return reader["type"] not in NAMED or _same_name(reader, writer)

    def _inside(self, reader: Any, writer: Any, path: str) -> Iterator[Incompatibility]:
        kind = reader["type"]
        if kind == "array":
            yield from self.compare(reader["items"], writer["items"], f"{path}[]")
        elif kind == "map":
            yield from self.compare(reader["values"], writer["values"], f"{path}{{}}")
        elif kind == "enum" and reader.get("default") is None:
            if gone := [symbol for symbol in writer["symbols"] if symbol not in reader["symbols"]]:
                yield Incompatibility(path, f"the reader lacks {', '.join(gone)} and has no default for them")
        elif kind == "record":
            pair = reader["name"], writer["name"]
            if pair not in self._under_way:  # a type within itself: assume it fits, and look at the rest
                self._under_way.add(pair)
                yield from self._fields(reader, writer, path)
                self._under_way.discard(pair)

    def _fields(self, reader: Any, writer: Any, path: str) -> Iterator[Incompatibility]:
        for field in reader["fields"]:
            where = f"{path}.{field['name']}"
            written = _counterpart(field, writer)
            if written is not None:
                yield from self.compare(field["type"], written["type"], where)
            elif "default" not in field:
                yield Incompatibility(where, "it is not written, and the reader has no default for it")


class _Care:
    """Our own rules, between a new version and the one before it."""

    def __init__(self, new: _Types, old: _Types) -> None:
        self.new, self.old = new, old
        self._seen: set[tuple[str, str]] = set()

    def compare(self, new: Any, old: Any, path: str) -> Iterator[Incompatibility]:
        new, old = self.new.resolve(new), self.old.resolve(old)
        if isinstance(new, list) or isinstance(old, list):
            for one in new if isinstance(new, list) else [new]:
                for other in old if isinstance(old, list) else [old]:
                    yield from self.compare(one, other, path)
        elif isinstance(new, dict) and isinstance(old, dict) and new["type"] == old["type"]:
            if new["type"] in ("array", "map"):
                inner, mark = ("items", "[]") if new["type"] == "array" else ("values", "{}")
                yield from self.compare(new[inner], old[inner], path + mark)
            elif new["type"] == "record" and _same_name(new, old):
                pair = new["name"], old["name"]
                if pair not in self._seen:
                    self._seen.add(pair)
                    yield from self._fields(new, old, path)

    def _fields(self, new: Any, old: Any, path: str) -> Iterator[Incompatibility]:
        for field in new["fields"]:
            before, where = _counterpart(field, old), f"{path}.{field['name']}"
            if before is None:
                continue
            attribute, was = field.get("attribute"), before.get("attribute")
            if was is not None and attribute != was:
                became = "has none" if attribute is None else f"has {attribute}"
                yield Incompatibility(where, f"its attribute was {was}, it {became} now", "classification")
            cls, had = field.get("class"), before.get("class")
            if (had != "business" and cls == "business") or (had in PERSONAL and cls not in PERSONAL):
                yield Incompatibility(where, f"its class was {had}, it is {cls} now", "classification")
            logical, meant = _logical(field["type"]), _logical(before["type"])
            if logical and meant and logical != meant:
                changed = f"it was {_words(meant)}, it is {_words(logical)} now: the same number, another meaning"
                yield Incompatibility(where, changed, "meaning")
            yield from self.compare(field["type"], before["type"], where)


def _counterpart(field: Any, other: Any) -> Any:
    """The field of another record that this one is: by its name, else by one of its aliases."""
    by_name = {f["name"]: f for f in other["fields"]}
    return next((by_name[name] for name in (field["name"], *field.get("aliases", ())) if name in by_name), None)


def _same_name(reader: Any, writer: Any) -> bool:
    """Unqualified names count; an alias is a full name, in the namespace of its type if it names none."""
    namespace = reader["name"].rpartition(".")[0]
    aliases = [a if "." in a or not namespace else f"{namespace}.{a}" for a in reader.get("aliases", ())]
    return _short(reader["name"]) == _short(writer["name"]) or writer["name"] in aliases


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _says(node: Any) -> str:
    if isinstance(node, list):
        return "a union"
    if isinstance(node, str):
        return node
    size = f" of {node['size']} bytes" if node["type"] == "fixed" else ""
    return f"{node['type']} {_short(node['name'])}{size}" if node["type"] in NAMED else str(node["type"])


def _logical(node: Any) -> frozenset[str]:
    branches = node if isinstance(node, list) else [node]
    return frozenset(b["logicalType"] for b in branches if isinstance(b, dict) and "logicalType" in b)


def _name_of(document: JsonObject) -> str:
    return str(document.get("name", "record"))


def _words(names: frozenset[str]) -> str:
    return " and ".join(sorted(names))
