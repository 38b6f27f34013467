"""The output schemas: what a receiver role may get of a family, per process and sector (promise P4).

An attribute that the role may never have is not in its schema at all; a conditional one is nullable there. The set
is finite: it follows from the families, the routes and the policy, is kept in `schemas/avro/outputs/` for people, and
is published on the topic `schemas` before the first record that uses it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from broker.policy import Policy, Route, Routes
from broker.registry import Registry
from broker.schemas.catalogue import Catalogue, Family
from broker.schemas.model import Schema

SECTORS = ("PO", "VO", "MBO")


def role_schema(family: Family, policy: Policy, route: Route, sector: str) -> Schema:
    """The output schema of a family for one process, sector and receiver role."""
    possible = policy.possible(route.process, sector, route.receiver_role, family.attributes)
    return family.output_schema(name for name, when in possible.items() if when != "never")


def output_schemas(catalogue: Catalogue, policy: Policy, routes: Routes) -> Iterator[tuple[str, Schema]]:
    """All output schemas, each with its name: `usage.v1.Gebruik.PO.PORTAL`."""
    for family in catalogue.families.values():
        seen: set[tuple[str, str]] = set()
        for route in routes:
            where = (route.process, route.receiver_role)
            if route.family != family.name or route.receiver_role in ("VAULT", "REGISTRY") or where in seen:
                continue
            seen.add(where)
            for sector in SECTORS:
                name = f"{family.name}.v{family.version}.{route.process}.{sector}.{route.receiver_role}"
                yield name, role_schema(family, policy, route, sector)


def published(catalogue: Catalogue, registry: Registry) -> dict[str, bytes]:
    """What stands on the topic `schemas`: fingerprint in hex -> schema as JSON."""
    schemas = [*catalogue.own.values(), *(f.schema for f in catalogue.families.values())]
    schemas += [schema for _, schema in output_schemas(catalogue, registry.policy, registry.routes)]
    return {s.fingerprint.hex(): json.dumps(s.document, separators=(",", ":")).encode() for s in schemas}


def file_texts(catalogue: Catalogue, policy: Policy, routes: Routes) -> dict[str, str]:
    """The output schemas as files: name -> text.

    A family that says nothing about people looks the same to everybody: its own schema is enough.
    """
    whole = {family.schema.fingerprint for family in catalogue.families.values()}
    return {
        f"{name}.avsc": render(schema)
        for name, schema in output_schemas(catalogue, policy, routes)
        if schema.fingerprint not in whole
    }


def write_files(folder: Path, catalogue: Catalogue, policy: Policy, routes: Routes) -> None:
    """Write the output schemas as files; what is there and not in the set is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = file_texts(catalogue, policy, routes)
    for path in folder.glob("*.avsc"):
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")


def render(schema: Schema) -> str:
    """A schema file's text."""
    return json.dumps(schema.document, indent=2, ensure_ascii=False) + "\n"
