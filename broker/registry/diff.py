"""What would change: from the registry as it is to the registry as it should be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from broker.errors import ConfigError
from broker.policy import Routes


@dataclass(frozen=True, slots=True)
class Change:
    """A difference in one record.

    Args:
        fields: names of the fields that differ; for the policy and the routes the rules or routes concerned.
    """

    key: str
    action: Literal["add", "change", "remove"]
    fields: tuple[str, ...] = ()


def diff(current: Mapping[str, bytes | None], desired: Mapping[str, bytes]) -> list[Change]:
    """All changes, in the order of their keys; what is not desired is removed."""
    changes = []
    for key in sorted(current.keys() | desired.keys()):
        before, after = current.get(key), desired.get(key)
        if before == after:
            continue
        if after is None:
            changes.append(Change(key, "remove"))
        elif before is None:
            changes.append(Change(key, "add"))
        else:
            changes.append(Change(key, "change", _fields(key, before, after)))
    return changes


def _fields(key: str, before: bytes, after: bytes) -> tuple[str, ...]:
    old, new = _parts(key, before), _parts(key, after)
    return tuple(sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name)))


def _parts(key: str, value: bytes) -> dict[str, Any]:
    """The named parts of a record; a record that can not be read has none, so all fields of the other differ."""
    try:
        document = json.loads(value)
    except ValueError:
        return {}
    if not isinstance(document, dict):
        return {}
    if key == "policy/current":
        rows = document.get("attributes", [])
        return {
            f"{name}/{rule['id']}": {**rule, "class": row["class"], "label": row["label"]}
            for row in rows
            for name in row["attributes"]
            for rule in row["rules"]
        }
    if key == "routes/current":
        try:
            routes = Routes.from_record(value)  # a row may stand for several routes
        except ConfigError:
            return {}
        return {
            f"{r.family} {r.sender_role}->{r.receiver_role} {r.process} {'+'.join(r.kinds)}": r.model_dump(mode="json")
            for r in routes
        }
    return document
