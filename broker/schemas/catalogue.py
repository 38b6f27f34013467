"""All schemas the broker knows: its own records, the families, and the output schemas made of them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Final

from broker.data import data_path
from broker.errors import ConfigError
from broker.schemas.model import Schema, load, parse
from broker.schemas.shape import Fits, in_calendar

OWN: Final = ("envelope.v1", "subject.v1", "status.v1", "quarantine.v1", "record.v1", "vault.v1", "lane.v1")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of event within a family.

    Args:
        requires: fields that must be filled in by the sender.
        essential: attributes without which delivering it makes no sense; a receiver whose policy drops
            one of them does not get the event at all (gate 4).
    """

    name: str
    requires: tuple[str, ...]
    essential: tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """A family of events in one version: its schema and what the schema's own properties say."""

    name: str
    version: int
    schema: Schema
    kinds: Mapping[str, Kind]
    subject: str
    product_field: str | None
    _outputs: dict[frozenset[str], Schema] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def uuid_fields(self) -> tuple[str, ...]:
        """Fields whose logical type is uuid; the broker checks their form itself."""
        return tuple(f["name"] for f in self.schema.document["fields"] if _logical_type(f["type"]) == "uuid")

    @cached_property
    def moments(self) -> tuple[tuple[str, Fits], ...]:
        """Fields that hold a date or a time, with the check that it lies in the calendar (years 1 to 9999)."""
        found = [(f["name"], in_calendar(f["type"], {})) for f in self.schema.document["fields"]]
        return tuple((name, check) for name, check in found if check is not None)

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """Attribute names of the body, each once, in the schema's order."""
        return tuple(dict.fromkeys(f.attribute for f in self.schema.fields if f.attribute))

    def output_schema(self, attributes: Iterable[str]) -> Schema:
        """The schema of what a receiver may get: the fields of these attributes, and the business fields.

        Its record keeps its full name, so that a reader who resolves by the family's own schema can read
        it (Avro specification 1.12, "Schema Resolution": names must match); every personal field is
        nullable there and takes its default.
        """
        kept = frozenset(attributes)
        if (known := self._outputs.get(kept)) is not None:
            return known
        document = copy.deepcopy(self.schema.document)
        document["fields"] = [f for f in document["fields"] if f.get("attribute") is None or f["attribute"] in kept]
        return self._outputs.setdefault(kept, parse(document))


class Catalogue:
    """The loaded schemas, by name and by fingerprint.

    Args:
        folder: of `*.avsc` files; by default the ones that come with the package.
    """

    def __init__(self, folder: Path | None = None) -> None:
        folder = folder or data_path("schemas") / "avro"
        self.own: dict[str, Schema] = {}
        self.families: dict[tuple[str, int], Family] = {}
        self.by_fingerprint: dict[bytes, Schema] = {}
        self._family_of: dict[bytes, Family] = {}
        for path in sorted(folder.glob("*.avsc")):
            schema = load(path.read_text("utf-8"))
            self._add(schema, path.name)
            if path.stem in OWN:
                self.own[path.stem] = schema
            else:
                family = _family(schema, path.name)
                self.families[family.name, family.version] = family
                self._family_of[schema.fingerprint] = family
        missing = set(OWN) - self.own.keys()
        if missing:
            raise ConfigError(f"schemas missing in {folder}: {', '.join(sorted(missing))}", code="schema.missing")

    def _add(self, schema: Schema, where: str) -> None:
        # The fingerprint does not see classes, attributes or logical types (Avro specification 1.12, "Parsing Canonical
        # Form"): two versions that differ in nothing else would be one on the wire, and the last file would win.
        if self.by_fingerprint.setdefault(schema.fingerprint, schema) is not schema:
            raise ConfigError(f"{where}: another schema has the same fingerprint", code="schema.invalid")

    def family(self, name: str, version: int | None = None) -> Family:
        """Find a family; without a version the newest.

        Raises:
            ConfigError: `family.unknown`.
        """
        versions = [v for n, v in self.families if n == name]
        found = self.families.get((name, version or max(versions, default=0)))
        if found is None:
            known = ", ".join(sorted({n for n, _ in self.families}))
            raise ConfigError(f"there is no family {name!r}; known are: {known}", code="family.unknown")
        return found

    def family_of(self, fingerprint: bytes) -> Family | None:
        """The family whose input schema this is."""
        return self._family_of.get(fingerprint)

    def __getitem__(self, own: str) -> Schema:
        return self.own[own]


def _family(schema: Schema, where: str) -> Family:
    document = schema.document
    try:
        name, version = Path(where).stem.rsplit(".v", 1)
        kinds = {
            kind: Kind(kind, tuple(rules["requires"]), tuple(rules["essential"]))
            for kind, rules in document["kinds"].items()
        }
        family = Family(name, int(version), schema, kinds, document["subject"], document.get("product"))
    except (KeyError, ValueError, TypeError, AttributeError) as exc:
        raise ConfigError(f"{where}: a family needs name.vN, family, subject and kinds ({exc})") from exc
    fields = {f.name: f for f in schema.fields}
    for kind in kinds.values():
        unknown = [*set(kind.requires) - fields.keys(), *set(kind.essential) - set(family.attributes)]
        if unknown:
            raise ConfigError(f"{where}: kind {kind.name} names unknown fields {sorted(unknown)}")
    for declared in fields.values():
        # A dropped field must be absent or null for the receiver: it can not be required.
        if declared.attribute and not declared.nullable:
            raise ConfigError(f"{where}: field {declared.name} has an attribute, so it must be nullable")
    if document.get("family") != name or (family.product_field and family.product_field not in fields):
        raise ConfigError(f"{where}: family or product does not agree with the file")
    return family


def _logical_type(declared: object) -> str | None:
    branches = declared if isinstance(declared, list) else [declared]
    return next((b["logicalType"] for b in branches if isinstance(b, dict) and "logicalType" in b), None)


@cache
def catalogue() -> Catalogue:
    """The package's own catalogue, loaded once."""
    return Catalogue()
