"""One Avro schema whose every field is classified, and what it can encode and decode.

A field has a `class` and, where a policy decides over it, an `attribute`. A schema with a field that
has none of the known classes does not load (promise P3): an attribute that nobody classified can not
leak, because nothing can be written with it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from broker.errors import ConfigError, ContractError
from broker.schemas.shape import Fits, least_bytes, narrow_fields
from broker.schemas.writer import Writer, writer

JsonObject = dict[str, Any]

CLASSES: Final = {
    "business": "says nothing about a person; always passes",
    "pseudonym": "an identifier that only the chain can resolve, such as the ECK iD",
    "identifying": "points to a person",
    "quasi": "points to a person together with other data",
    "linked": "says something about the person whom the subject names",
    "sensitive": "may reveal health, behaviour or need of support",
    "secret": "gives access",
    "free-text": "may hold anything",
    "sealed": "ciphertext for one recipient",
}
# Classes that are about a person: such a field needs an attribute, so that a policy decides over it.
PERSONAL: Final = frozenset({"pseudonym", "identifying", "quasi", "linked", "sensitive", "secret", "free-text"})
# What a family's schema says besides (`broker.schemas.catalogue.Family`).
FAMILY_PROPERTIES: Final = (
    "kinds", "family", "subject", "product", "object", "revision", "remembers", "dated", "digital", "addressees",
)  # fmt: skip
SCREENED: Final = frozenset({"identifying", "free-text", "quasi", "secret"})


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a record.

    Args:
        name: as in the schema.
        cls: one of `CLASSES`.
        attribute: the policy's name for it; None for business fields, which always pass.
        nullable: whether null is one of its types.
    """

    name: str
    cls: str
    attribute: str | None
    nullable: bool


@dataclass(frozen=True, slots=True)
class Schema:
    """A parsed, classified record schema.

    Attributes:
        document: the schema as written, with its documentation and logical types.
        parsed: for fastavro; logical types removed, since the broker handles the plain values.
        fingerprint: 8 bytes, CRC-64-AVRO little endian (Avro specification 1.12, "Schema Fingerprints").
    """

    name: str
    document: JsonObject
    parsed: Any = field(repr=False)
    fingerprint: bytes
    fields: tuple[Field, ...]
    _narrow: tuple[tuple[str, Fits], ...] = field(default=(), repr=False, compare=False)
    _writer: Writer | None = field(default=None, repr=False, compare=False)

    def encode(self, datum: Mapping[str, Any]) -> bytes:
        """Encode one record without framing.

        Raises:
            ContractError: `schema.encode`, if a value does not fit; names the schema, no value.
        """
        if self._writer is not None and (written := self._writer(datum)) is not None:
            return written
        out = io.BytesIO()
        # The error is made after the handler: fastavro's own, with the value in its text, must not stay its context.
        if not self._write(out, datum) or self._too_wide(datum) is not None:
            raise ContractError(
                f"a record does not fit schema {self.name}", code="schema.encode", field=self._misfit(datum)
            )
        return out.getvalue()

    def decode(self, data: bytes) -> JsonObject:
        """Decode one record and insist that nothing follows it.

        Raises:
            ContractError: `schema.utf8`, `schema.truncated`, `schema.trailing`, or `field.form` for an int that
                needs more than 32 bits: fastavro reads and writes those, other readers break on them.
        """
        source = io.BytesIO(data)
        datum: Any = None
        problem = f"the bytes are not a whole {self.name}", "schema.truncated"
        try:
            datum = fastavro.schemaless_reader(source, self.parsed, None)
        except UnicodeDecodeError:
            problem = f"a string in a {self.name} is not UTF-8", "schema.utf8"
        except Exception:  # noqa: BLE001, S110 - truncated or hostile bytes raise anything, MemoryError included
            pass
        if datum is None:
            raise ContractError(problem[0], code=problem[1])
        if source.tell() != len(data):
            raise ContractError(f"bytes follow the {self.name}", code="schema.trailing")
        if (wide := self._too_wide(datum)) is not None:
            raise ContractError(f"an int of a {self.name} has more than 32 bits", code="field.form", field=wide)
        record: JsonObject = datum
        return record

    def _write(self, out: io.BytesIO, datum: Mapping[str, Any]) -> bool:
        try:
            fastavro.schemaless_writer(out, self.parsed, datum, strict_allow_default=True)
        except Exception:  # noqa: BLE001 - fastavro raises many kinds, some with the value in the text
            return False
        return True

    def _too_wide(self, datum: Mapping[str, Any]) -> str | None:
        """The first field that holds an int of more than 32 bits."""
        for name, fits in self._narrow:
            value = datum.get(name)
            if value is not None and not fits(value):
                return name
        return None

    def _misfit(self, datum: Mapping[str, Any]) -> str | None:
        """Find the first field whose value does not fit, for a message that helps."""
        if not isinstance(datum, Mapping):
            return None
        named: JsonObject = {}
        for number, declared in enumerate(self.document["fields"]):
            name, probed = declared["name"], {k: declared[k] for k in ("name", "type", "default") if k in declared}
            probe = {"type": "record", "name": f"Probe{number}", "fields": [probed]}
            if "namespace" in self.document:
                probe["namespace"] = self.document["namespace"]
            try:
                # Types that an earlier field defined may be named again by a later one.
                parsed = fastavro.parse_schema(_plain(probe), named_schemas=named)
                subset = {name: datum[name]} if name in datum else {}
                fastavro.schemaless_writer(io.BytesIO(), parsed, subset, strict_allow_default=True)
            except Exception:  # noqa: BLE001 - see above
                return str(name)
        return self._too_wide(datum)  # None: a name that the schema does not have, and so does not get into a message


def parse(document: JsonObject) -> Schema:
    """Check the classification of every field and prepare the schema.

    Raises:
        ConfigError: `schema.unclassified`, `schema.unsafe` or `schema.invalid`, naming the field.
    """
    if not isinstance(document, dict) or document.get("type") != "record" or "fields" not in document:
        raise ConfigError("a schema must be a record with fields", code="schema.invalid")
    name = f"{document.get('namespace', '')}.{document.get('name', '')}".strip(".")
    try:
        parsed: Any = fastavro.parse_schema(_plain(document))
        digest = bytes.fromhex(fingerprint(to_parsing_canonical_form(document), "CRC-64-AVRO"))
    except Exception as exc:
        raise ConfigError(f"schema {name or '?'} is not valid Avro: {exc}", code="schema.invalid") from exc
    least_bytes(parsed, name, {})  # first: refuses types within themselves, which would keep the next busy for ever
    fields = tuple(_check_fields(document, name, None, {}))
    return Schema(name, document, parsed, digest, fields, narrow_fields(parsed, {}), writer(parsed))


_Records = dict[str, list[JsonObject]]


def _check_fields(record: JsonObject, path: str, inherited: str | None, known: _Records) -> Iterator[Field]:
    """Check every field below a record.

    Args:
        inherited: attribute of the field that holds the record.
        known: records so far, by their short names. One that is named again is checked again: its fields may lean on
            the attribute of the field that defined it.
    """
    for declared in record["fields"]:
        where = f"{path}.{declared.get('name')}"
        cls, attribute = declared.get("class"), declared.get("attribute", inherited)
        if not isinstance(cls, str) or cls not in CLASSES:
            raise ConfigError(
                f"field {where} has no class; give it one of: {', '.join(CLASSES)}", code="schema.unclassified"
            )
        if cls in PERSONAL and not (isinstance(attribute, str) and attribute):
            raise ConfigError(
                f"field {where} is about a person ({cls}) but names no attribute, so no policy decides over it",
                code="schema.unclassified",
            )
        branches = declared["type"] if isinstance(declared["type"], list) else [declared["type"]]
        for branch in branches:
            _check_type(branch, where, attribute, known)
        yield Field(declared["name"], cls, declared.get("attribute"), "null" in branches)


def _check_inside(record: JsonObject, where: str, attribute: str | None, known: _Records) -> None:
    """A record in a field passes or is dropped whole: what is inside must not hide under another's name, or none."""
    for declared in record["fields"]:
        if declared.get("attribute", attribute) != attribute:
            raise ConfigError(
                f"field {where}.{declared.get('name')} names the attribute {declared['attribute']}, but lies inside"
                f" {attribute or 'a field that always passes'}; give it a field apart",
                code="schema.unclassified",
            )
    list(_check_fields(record, where, attribute, known))


def _check_type(branch: Any, where: str, attribute: str | None, known: _Records) -> None:
    if isinstance(branch, str):
        for record in known.get(branch.rpartition(".")[2], ()):
            _check_inside(record, where, attribute, known)
        return
    if isinstance(branch, list):
        for inner in branch:
            _check_type(inner, where, attribute, known)
        return
    kind = branch["type"]
    if kind == "record":
        if not branch["fields"]:
            raise ConfigError(f"{where}: an empty record takes no bytes", code="schema.unsafe")
        _check_inside(branch, where, attribute, known)
        known.setdefault(branch["name"].rpartition(".")[2], []).append(branch)
    elif kind in ("array", "map"):
        _check_type(branch["items" if kind == "array" else "values"], where, attribute, known)
    elif kind not in ("enum", "fixed"):
        _check_type(kind, where, attribute, known)


def _plain(node: Any) -> Any:
    """Without logical types and our own properties: plain values are faster and need no conversion."""
    if isinstance(node, dict):
        dropped = ("logicalType", "class", "attribute", "doc", *FAMILY_PROPERTIES)
        return {key: _plain(value) for key, value in node.items() if key not in dropped}
    if isinstance(node, list):
        return [_plain(item) for item in node]
    return node


def load(text: str) -> Schema:
    """Parse a schema file's text.

    Raises:
        ConfigError: as `parse`.
    """
    try:
        document = json.loads(text)
    except ValueError as exc:
        raise ConfigError(f"a schema is not JSON: {exc}", code="schema.invalid") from exc
    return parse(document)
