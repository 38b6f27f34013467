"""Avro schemas for tests: builders, random types, neighbours of a type, and data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Json = dict[str, Any]
NOTHING: Any = object()


def record(*fields: Json, name: str = "R", **more: Any) -> Json:
    """A record schema."""
    return {"type": "record", "name": name, "fields": list(fields), **more}


def field(name: str, kind: Any, default: Any = NOTHING, **more: Any) -> Json:
    """A field of a record schema."""
    return {"name": name, "type": kind, **({} if default is NOTHING else {"default": default}), **more}


def enum(*symbols: str, name: str = "E", **more: Any) -> Json:
    """An enum schema."""
    return {"type": "enum", "name": name, "symbols": list(symbols), **more}


def fixed(size: int, name: str = "F", **more: Any) -> Json:
    """A schema of bytes of one size."""
    return {"type": "fixed", "name": name, "size": size, **more}


def array(items: Any) -> Json:
    """An array schema."""
    return {"type": "array", "items": items}


def of_map(values: Any) -> Json:
    """A map schema."""
    return {"type": "map", "values": values}


# ---- random pairs: a writer, and a reader made of it by small changes, or another one altogether

PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
NAMES = ("a", "b", "c", "d")


def kinds(depth: int) -> st.SearchStrategy[Any]:
    """Types, without names that occur twice: those are numbered afterwards."""
    leaf = st.one_of(
        st.sampled_from(PRIMITIVES),
        st.builds(
            lambda symbols, default: enum(*symbols, **({"default": symbols[0]} if default else {})),
            st.lists(st.sampled_from("ABCD"), min_size=1, max_size=4, unique=True),
            st.booleans(),
        ),
        st.builds(fixed, st.integers(1, 3)),
    )
    if depth == 0:
        return leaf
    below = kinds(depth - 1)
    return st.one_of(leaf, st.builds(array, below), st.builds(of_map, below), records(depth - 1), unions(depth - 1))


def unions(depth: int) -> st.SearchStrategy[Any]:
    """Unions of different kinds of types (Avro allows one array, one map, and no union in a union)."""

    def sort_of(node: Any) -> str:
        return node if isinstance(node, str) else "union" if isinstance(node, list) else node["type"]

    return st.lists(kinds(depth).filter(lambda n: not isinstance(n, list)), min_size=1, max_size=3, unique_by=sort_of)


def records(depth: int) -> st.SearchStrategy[Json]:
    """Records with up to three fields, some with a default of null."""

    def fields(names: list[str], types: list[Any], nullable: list[bool]) -> list[Json]:
        made = []
        for name, kind, null in zip(names, types, nullable, strict=False):
            if null:
                rest = [b for b in (kind if isinstance(kind, list) else [kind]) if b != "null"]
                made.append(field(name, ["null", *rest], None))
            else:
                made.append(field(name, kind))
        return made

    names = st.lists(st.sampled_from(NAMES), max_size=3, unique=True)
    types = st.lists(kinds(depth), min_size=3, max_size=3)
    return st.builds(fields, names, types, st.lists(st.booleans(), min_size=3, max_size=3)).map(lambda f: record(*f))


def numbered(node: Any, counts: dict[str, int] | None = None) -> Any:
    """Give every named type a name of its own, so that the schema is valid: R1, R2, E1 ..."""
    counts = {} if counts is None else counts
    if isinstance(node, list):
        return [numbered(branch, counts) for branch in node]
    if not isinstance(node, dict):
        return node
    node = dict(node)
    if node["type"] in ("record", "enum", "fixed"):
        counts[node["name"]] = counts.get(node["name"], 0) + 1
        node["name"] += str(counts[node["name"]])
    for below in ("items", "values"):
        if below in node:
            node[below] = numbered(node[below], counts)
    if "fields" in node:
        node["fields"] = [{**f, "type": numbered(f["type"], counts)} for f in node["fields"]]
    return node


def changed(draw: Callable[..., Any], node: Any) -> Any:
    """A neighbour of a type: promoted, nullable, with a field more or less, renamed with or without alias."""
    if isinstance(node, list):
        branches = [changed(draw, branch) for branch in node]
        flat = [b for branch in branches for b in (branch if isinstance(branch, list) else [branch])]
        return list({(b if isinstance(b, str) else b["type"] + b.get("name", "")): b for b in flat}.values())
    step = draw(st.integers(0, 9))
    if step == 0 and node != "null":
        return ["null", node]
    if isinstance(node, str):
        wider = {"int": "long", "long": "double", "float": "double", "string": "bytes", "bytes": "string"}
        return wider.get(node, node) if step < 4 else draw(st.sampled_from(PRIMITIVES)) if step == 4 else node
    node = dict(node)
    if node["type"] in ("record", "enum", "fixed") and step in (1, 2):
        node["name"], old = node["name"] + "x", node["name"]
        if step == 1:
            node["aliases"] = [old]
    if node["type"] == "enum" and step in (3, 4):
        node["symbols"] = node["symbols"][:-1] or node["symbols"]
    for below in ("items", "values"):
        if below in node:
            node[below] = changed(draw, node[below])
    if "fields" in node:
        node["fields"] = changed_fields(draw, node["fields"], step)
    return node


def changed_fields(draw: Callable[..., Any], before: list[Json], step: int) -> list[Json]:
    """The fields of a neighbour: in another order, some changed or gone, all renamed with an alias, or one more."""
    fields = [{**f, "type": changed(draw, f["type"])} for f in before if draw(st.integers(0, 5))]
    for f in fields:
        if f.get("default", NOTHING) is None and not (isinstance(f["type"], list) and f["type"][0] == "null"):
            del f["default"]
        if step == 5:
            f["aliases"], f["name"] = [f["name"]], f["name"] + "x"
    if step in (6, 7):
        fields.append(field("e", "int", 3) if step == 6 else field("e", "int"))
    return list(draw(st.permutations(fields)))


def data(node: Any) -> st.SearchStrategy[Any]:
    """Data of a type. Bytes are text in UTF-8: see DEVIATIONS."""
    if isinstance(node, list):
        return st.one_of([data(branch) for branch in node])
    kind = node if isinstance(node, str) else node["type"]
    plain: dict[str, Callable[[], st.SearchStrategy[Any]]] = {
        "null": st.none,
        "boolean": st.booleans,
        "int": lambda: st.integers(-(2**31), 2**31 - 1),
        "long": lambda: st.integers(-(2**63), 2**63 - 1),
        "float": lambda: st.floats(width=32),
        "double": st.floats,
        "string": lambda: st.text(max_size=5),
        "bytes": lambda: st.text(max_size=5).map(str.encode),
    }
    if kind in plain:
        return plain[kind]()
    if kind == "enum":
        return st.sampled_from(node["symbols"])
    if kind == "fixed":
        return st.binary(min_size=node["size"], max_size=node["size"])
    if kind == "array":
        return st.lists(data(node["items"]), max_size=3)
    if kind == "map":
        return st.dictionaries(st.text(max_size=3), data(node["values"]), max_size=3)
    return st.fixed_dictionaries({f["name"]: data(f["type"]) for f in node["fields"]})
