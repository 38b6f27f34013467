"""All schemas the broker knows: its own records, the families, and the output schemas made of them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

from broker.data import data_path
from broker.errors import ConfigError
from broker.schemas.model import Field, Schema, load, parse
from broker.schemas.shape import Fits, in_calendar
from broker.schemas.texts import Texts, texts_of

OWN: Final = (
    "envelope.v1",
    "subject.v1",
    "status.v1",
    "quarantine.v1",
    "handled.v1",
    "record.v1",
    "vault.v1",
    "lane.v1",
    "window.v1",
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of event within a family.

    Args:
        requires: fields that must be filled in by the sender.
        essential: attributes without which delivering it makes no sense; a receiver whose policy drops
            one of them does not get the event at all (gate 4).
        unused: nullable fields that have no meaning with this kind, and so must be null.
        subject: `required`, `optional` or `none`.
        who: PUPIL or EMPLOYEE, if it can be about nobody else.
        needs_product: an event about no product is refused: an agreement on any product would do for it.
        first: it may be the first that a sender says of an object.
        after: kinds of the same sender after which it may come. Neither first nor after: order is not checked.
        supersedes: kinds of the same sender that it makes superfluous if they came before it: it says all again.
        ends: after it the object is there no more.
        object: what names its object, if the family's object field does not: fields; `subject`: whom it is about.
    """

    name: str
    requires: tuple[str, ...]
    essential: tuple[str, ...]
    unused: tuple[str, ...] = ()
    subject: str = "required"
    who: str | None = None
    needs_product: bool = False
    first: bool = False
    after: frozenset[str] = frozenset()
    supersedes: frozenset[str] = frozenset()
    ends: bool = False
    object: tuple[str, ...] = ()

    @property
    def ordered(self) -> bool:
        """Whether the state of its object is checked."""
        return self.first or bool(self.after)


@dataclass(frozen=True)
class Family:
    """A family of events in one version: its schema and what the schema's own properties say.

    Attributes:
        product_field: field that names the product.
        object_field: field that identifies the business object an event is about.
        revision_field: field that counts the versions of that object.
        remembers: what is held against what comes after it: `all` that is said of an object, or `corrections` only,
            which a first version is not.
        dated_field: field that says when it happened in the world; None: its events do not say.
        digital: whether it is about digital learning material: yes or no for all events, or the field that says so.
        addressees: fields that hold the parties that an event concerns, when its sender names no receiver.
    """

    name: str
    version: int
    schema: Schema
    kinds: Mapping[str, Kind]
    product_field: str | None = None
    object_field: str | None = None
    revision_field: str | None = None
    remembers: str = "all"
    dated_field: str | None = None
    digital: bool | str = False
    addressees: tuple[str, ...] = ()
    _outputs: dict[frozenset[str], Schema] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def uuid_fields(self) -> tuple[str, ...]:
        """Fields whose logical type is uuid; the broker checks their form itself."""
        return tuple(f["name"] for f in self.schema.document["fields"] if _logical_type(f["type"]) == "uuid")

    @cached_property
    def dated_in_ms(self) -> bool:
        """Whether `dated_field` is a time in milliseconds; else it is a day."""
        types = {f["name"]: f["type"] for f in self.schema.document["fields"]}
        return self.dated_field is not None and _logical_type(types[self.dated_field]) == "timestamp-millis"

    @cached_property
    def moments(self) -> tuple[tuple[str, Fits], ...]:
        """Fields that hold a date or a time, with the check that it lies in the calendar (years 1 to 9999)."""
        found = [(f["name"], in_calendar(f["type"], {})) for f in self.schema.document["fields"]]
        return tuple((name, check) for name, check in found if check is not None)

    def object_of(self, kind: str) -> tuple[str, ...]:
        """What names the object of a kind: fields of the body, and `subject`; empty if it has none."""
        return self.kinds[kind].object or ((self.object_field,) if self.object_field is not None else ())

    @cached_property
    def ending(self) -> tuple[str, ...]:
        """Kinds after which the object is there no more."""
        return tuple(kind.name for kind in self.kinds.values() if kind.ends)

    @cached_property
    def texts(self) -> tuple[tuple[Field, Texts], ...]:
        """Fields that hold texts or lists, at whatever depth, with how to find them in a value."""
        known: dict[str, Texts | None] = {}
        found = [texts_of(declared, declared["name"], known) for declared in self.schema.document["fields"]]
        return tuple((f, texts) for f, texts in zip(self.schema.fields, found, strict=True) if texts is not None)

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
        family = Family(
            name,
            int(version),
            schema,
            {kind: _kind(kind, rules, schema) for kind, rules in document["kinds"].items()},
            product_field=document.get("product"),
            object_field=document.get("object"),
            revision_field=document.get("revision"),
            remembers=_one_of(document.get("remembers", "all"), _REMEMBERS),
            dated_field=document.get("dated"),
            digital=document.get("digital", False),
            addressees=tuple(document.get("addressees", ())),
        )
    except (KeyError, ValueError, TypeError, AttributeError) as exc:
        raise ConfigError(f"{where}: a family needs name.vN, family, subject and kinds ({exc})") from exc
    fields = {f.name: f for f in schema.fields}
    for kind in family.kinds.values():
        unknown = [*set(kind.requires) - fields.keys(), *set(kind.essential) - set(family.attributes)]
        unknown += (kind.after | kind.supersedes) - family.kinds.keys()
        unknown += set(kind.object) - fields.keys() - {SUBJECT}
        if unknown:
            raise ConfigError(f"{where}: kind {kind.name} names unknown fields or kinds {sorted(unknown)}")
        if kind.ordered and family.object_field is None:
            raise ConfigError(f"{where}: kind {kind.name} has an order, but the family names no object")
        if (kind.supersedes or kind.ends) and not family.object_of(kind.name):
            raise ConfigError(f"{where}: kind {kind.name} supersedes or ends something, but names no object")
    for declared in fields.values():
        # A dropped field must be absent or null for the receiver: it can not be required.
        if declared.attribute and not declared.nullable:
            raise ConfigError(f"{where}: field {declared.name} has an attribute, so it must be nullable")
    named = (family.product_field, family.object_field, family.revision_field, family.dated_field, *family.addressees)
    named += (family.digital,) if isinstance(family.digital, str) else ()
    if document.get("family") != name or any(f not in fields for f in named if f is not None):
        raise ConfigError(f"{where}: family, or a field that its properties name, does not agree with the file")
    return family


SUBJECT: Final = "subject"  # among what names an object: whom the event is about
_REMEMBERS: Final = ("all", "corrections")
_SUBJECTS: Final = ("required", "optional", "none")
_WHO: Final = (None, "PUPIL", "EMPLOYEE")


def _kind(name: str, rules: Mapping[str, Any], schema: Schema) -> Kind:
    """Read the rules of one kind.

    Raises:
        KeyError, ValueError: a property is missing, or is not one that is known.
    """
    document, known = (
        schema.document,
        {
            "requires", "essential", "allows", "subject", "who", "product", "first", "after", "supersedes", "ends",
            "object",
        },
    )  # fmt: skip
    if unknown := rules.keys() - known:
        raise ValueError(f"kind {name} has unknown properties {sorted(unknown)}")
    subject = rules.get("subject", document["subject"])
    product = rules.get("product", "required")
    if subject not in _SUBJECTS or product not in ("required", "optional") or rules.get("who") not in _WHO:
        raise ValueError(f"kind {name}: subject, who or product has no known value")
    filled = None if "allows" not in rules else {*rules["requires"], *rules["allows"]}
    if filled is not None and (strange := filled - {f.name for f in schema.fields}):
        raise ValueError(f"kind {name} allows unknown fields {sorted(strange)}")
    return Kind(
        name,
        tuple(rules["requires"]),
        tuple(rules["essential"]),
        unused=() if filled is None else tuple(f.name for f in schema.fields if f.nullable and f.name not in filled),
        subject=subject,
        who=rules.get("who"),
        needs_product=document.get("product") is not None and product == "required",
        first=rules.get("first", False),
        after=frozenset(rules.get("after", ())),
        supersedes=frozenset(rules.get("supersedes", ())),
        ends=rules.get("ends", False),
        object=tuple(rules.get("object", ())),
    )


def _one_of(value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"{value!r} is none of {', '.join(known)}")
    return value


def _logical_type(declared: object) -> str | None:
    branches = declared if isinstance(declared, list) else [declared]
    return next((b["logicalType"] for b in branches if isinstance(b, dict) and "logicalType" in b), None)


@cache
def catalogue() -> Catalogue:
    """The package's own catalogue, loaded once."""
    return Catalogue()
