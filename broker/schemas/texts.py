"""Where texts stand in a field, at every depth, and which of them must be codes.

Worked out once per schema, from the types as they are written: enums and numbers are not looked at again in each event,
and each text is known by the class of the innermost field that holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from broker.errors import ContractError

# (value, the most items that a list may have) -> each text, and whether it must be a code.
Texts = Callable[[Any, int], Iterator[tuple[str, bool]]]


def texts_of(declared: Any, name: str, known: dict[str, Texts | None]) -> Texts | None:
    """The texts of a field of a record; None if no value of its type has any, nor a list.

    A business field says nothing of a person and passes with what surrounds it: its texts are codes. The generator
    raises ContractError `list.too_long`, with this name.

    Args:
        declared: the field, with its type and class.
        name: of the outermost field, for that error.
        known: named types so far; filled.
    """
    return _texts(declared["type"], declared["class"] == "business", name, known)


def _texts(node: Any, code: bool, name: str, known: dict[str, Texts | None]) -> Texts | None:
    if isinstance(node, list):
        branches = [texts for branch in node if (texts := _texts(branch, code, name, known)) is not None]
        return branches[0] if len(branches) == 1 else _any_of(branches)
    if isinstance(node, str):
        return _string(code) if node == "string" else known.get(node.rpartition(".")[2])
    kind = node["type"]
    if kind == "record":
        fields = [(f["name"], texts_of(f, name, known)) for f in node["fields"]]
        known[node["name"].rpartition(".")[2]] = record = _record([(n, t) for n, t in fields if t is not None])
        return record
    if kind == "array":
        return _list(_texts(node["items"], code, name, known), name)
    if kind == "map":
        return _map(_texts(node["values"], code, name, known), code, name)
    return None if kind in ("enum", "fixed") else _texts(kind, code, name, known)


def _string(code: bool) -> Texts:
    def texts(value: Any, _most: int) -> Iterator[tuple[str, bool]]:
        if isinstance(value, str):
            yield value, code

    return texts


def _any_of(branches: list[Texts]) -> Texts | None:
    """Of a union: each branch takes what is of its type."""
    if not branches:
        return None

    def texts(value: Any, most: int) -> Iterator[tuple[str, bool]]:
        for branch in branches:
            yield from branch(value, most)

    return texts


def _record(fields: list[tuple[str, Texts]]) -> Texts | None:
    if not fields:
        return None

    def texts(value: Any, most: int) -> Iterator[tuple[str, bool]]:
        if isinstance(value, dict):
            for name, inner in fields:
                yield from inner(value.get(name), most)

    return texts


def _list(item: Texts | None, name: str) -> Texts:
    def texts(value: Any, most: int) -> Iterator[tuple[str, bool]]:
        if isinstance(value, list):
            if len(value) > most:
                raise ContractError("a list is too long", code="list.too_long", field=name)
            if item is not None:
                for one in value:
                    yield from item(one, most)

    return texts


def _map(item: Texts | None, code: bool, name: str) -> Texts:
    """Its keys are texts too: a sender's own, and not names that a schema gave."""

    def texts(value: Any, most: int) -> Iterator[tuple[str, bool]]:
        if isinstance(value, dict):
            if len(value) > most:
                raise ContractError("a map is too long", code="list.too_long", field=name)
            for key, one in value.items():
                yield key, code
                if item is not None:
                    yield from item(one, most)

    return texts
