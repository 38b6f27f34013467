"""Parties, boards, schools, agreements and connections, as an operator writes them down.

Each is a record of the topic `registry`. What is incomplete is refused with the name of the missing field (R16).
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Final, Literal, Self

from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import AfterValidator, AwareDatetime, Field, field_validator, model_validator

from broker.identity.formats import is_oin, is_product_id, is_school_id
from broker.policy.document import Written
from broker.policy.words import LawfulBasis, Process, ProductType, Role, Sector

# The European Economic Area: ISO 3166-1 codes of the EU's members, and Iceland, Liechtenstein, Norway.
EEA: Final = frozenset(
    "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IS IT LI LT LU LV MT NL NO PL PT RO SE SI SK".split()  # noqa: SIM905
)
ALL_OF_BOARD: Final = "all of board"
ALL: Final = "all"

# The broker's own users, recipients and topics: a party of that name would have their rights or their keys.
RESERVED: Final = frozenset({"admin", "auditor", "broker", "exchange", "log-builder", "operator", "vault"})

# What no pupil number looks like. A declared form that fits one of these would switch the PGN screen off.
_NO_LOCAL_ID: Final = ("", "een leerling", "0" * 64, "https://ketenid.nl/sppilot/" + "0" * 128)


def _school_id(text: str) -> str:
    if not is_school_id(text):
        raise ValueError("must be a BRIN such as 99PA, or a BRIN6 such as 99PA00")
    return text


def _product_id(text: str) -> str:
    if not is_product_id(text):
        raise ValueError("must be a GTIN-13 or ISBN-13 with the right check digit, or a uuid")
    return text


def _web_address(text: str) -> str:
    if not re.fullmatch(r"https://[a-z0-9.-]+(:[0-9]+)?(/[!-~]*)?", text):
        raise ValueError("must be an https:// address")
    return text


PartyId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{1,38}[a-z0-9]$")]
EntryId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
SchoolId = Annotated[str, AfterValidator(_school_id)]
ProductId = Annotated[str, AfterValidator(_product_id)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
Text = Annotated[str, Field(min_length=1, max_length=2_000)]
Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]


class PublicKey(Written):
    """A party's recipient key: the public half only.

    Args:
        kid: stands in records, so it must say nothing.
        jwk: RFC 7517 members `kty` EC, `crv` P-256, `x` and `y`; nothing else.
    """

    kid: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")]
    jwk: Mapping[str, str]

    @field_validator("jwk", mode="before")
    @classmethod
    def _public(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "d" in value:
            raise ValueError("holds a private key (member d): whoever wrote it here must replace it; give x and y only")
        return value

    @field_validator("jwk")
    @classmethod
    def _on_curve(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        if value.keys() != {"kty", "crv", "x", "y"} or value["kty"] != "EC" or value["crv"] != "P-256":
            raise ValueError("must have exactly kty EC, crv P-256, x and y")
        try:
            x, y = (_coordinate(value[name]) for name in ("x", "y"))
            ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        except ValueError:
            raise ValueError("x and y are not a point of P-256") from None
        return value


def _coordinate(text: str) -> int:
    raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if len(raw) != 32:
        raise ValueError
    return int.from_bytes(raw)


class Party(Written):
    """A system that sends or receives; not a person, not a school.

    Args:
        covenant: how it stands to the privacy covenant.
        eck_id_attested_on: date of its security attestation. Without it, or without covenant, no ECK iD goes there.
        keys: public recipient keys, the current one first, earlier ones while rotation lasts.
        processor_url: names it in the audit as receiver (LDV `foreign_operation.processor`).
    """

    id: PartyId
    name: Text
    roles: Annotated[tuple[Role, ...], Field(min_length=1)]
    oin: str | None = None
    covenant: Literal["deelnemer", "medestander", "geen"]
    eck_id_attested_on: date | None = None
    keys: tuple[PublicKey, ...] = ()
    processor_url: WebAddress

    @field_validator("id")
    @classmethod
    def _not_ours(cls, value: str) -> str:
        if value in RESERVED:
            raise ValueError("is a word of the broker's own")
        return value

    @field_validator("oin")
    @classmethod
    def _oin_form(cls, value: str | None) -> str | None:
        if value is not None and not is_oin(value):
            raise ValueError("must be an OIN of 20 positions")
        return value

    @field_validator("roles")
    @classmethod
    def _roles_once(cls, value: tuple[Role, ...]) -> tuple[Role, ...]:
        if len(set(value)) != len(value):
            raise ValueError("names a role twice")
        return value

    @field_validator("keys")
    @classmethod
    def _kids_once(cls, value: tuple[PublicKey, ...]) -> tuple[PublicKey, ...]:
        if len({key.kid for key in value}) != len(value):
            raise ValueError("two keys have one kid")
        return value

    @property
    def may_hold_eck_id(self) -> bool:
        """In the covenant, and attested (domain, section 10.13)."""
        return self.covenant != "geen" and self.eck_id_attested_on is not None


class Board(Written):
    """A school board: the controller.

    Args:
        processing_register: address of its register; `/<process>` behind it names the processing activity (LDV).
    """

    id: EntryId
    name: Text
    processing_register: WebAddress


class School(Written):
    """A school, or one location of it (BRIN6).

    Args:
        sis: the party whose system holds the pupils and that has the board's mandate to speak for the school.
        mandated_from: first day of that mandate.
        local_id_form: regular expression of the school's local ids: such an id is not taken for a PGN.
    """

    id: SchoolId
    name: Text
    board: EntryId
    sectors: Annotated[tuple[Sector, ...], Field(min_length=1)]
    sis: PartyId
    mandated_from: date
    local_id_form: Annotated[str, Field(min_length=1, max_length=200)] | None = None

    @field_validator("local_id_form")
    @classmethod
    def _narrow(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            form = re.compile(value)
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error.msg}") from None
        if any(form.fullmatch(text) for text in _NO_LOCAL_ID):
            raise ValueError("is so wide that it fits anything: the screen for PGNs would not see them any more")
        return value


class Product(Written):
    """What a receiver offers under an agreement.

    Args:
        type: `legal-test` and `norm-test` have attribute sets of their own.
        does: what the product does, in a sentence (R16).
    """

    id: ProductId
    type: ProductType
    does: Text


class ProcessPurpose(Written):
    """A process that an agreement covers, and what for (R15)."""

    process: Process
    purpose: Text
    basis: LawfulBasis


class Agreement(Written):
    """A processor agreement (verwerkersovereenkomst) of a board with a receiver: all that R16 asks.

    An id has one version at a time. A version that begins later gets an id of its own, else there would be no valid one
    until then.

    Args:
        model: version of the model agreement of the privacy covenant.
        schools: which of the board's, or `all of board`.
        attributes: the conditional attributes that it names; others of effect C do not pass.
        access: who has access. retention: how long, in a sentence.
        storage_country: ISO 3166-1; outside the EEA a basis is needed (R22).
        valid_from, valid_until: first and last day.
    """

    id: EntryId
    version: Annotated[str, Field(pattern=r"^[0-9]{1,6}(\.[0-9]{1,6}){0,3}$")]
    model: Literal["3.0", "4.0"]
    board: EntryId
    schools: Annotated[tuple[SchoolId, ...], Field(min_length=1)] | Literal["all of board"]
    party: PartyId
    products: Annotated[tuple[Product, ...], Field(min_length=1)]
    processes: Annotated[tuple[ProcessPurpose, ...], Field(min_length=1)]
    attributes: tuple[str, ...]
    access: Text
    storage_country: Country
    outside_eea_basis: Text | None = None
    retention: Text
    privacy_contact: Text
    incident_contact: Text
    security_measures: Text
    incident_arrangements: Text
    subprocessors: tuple[Text, ...]
    valid_from: date
    valid_until: date

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.storage_country not in EEA and self.outside_eea_basis is None:
            raise ValueError(f"outside_eea_basis: is missing, and {self.storage_country} lies outside the EEA (R22)")
        if self.valid_until < self.valid_from:
            raise ValueError("valid_until: lies before valid_from")
        for name, ids in (
            ("products", [p.id for p in self.products]),
            ("processes", [p.process for p in self.processes]),
            ("attributes", list(self.attributes)),
            ("schools", list(self.schools) if isinstance(self.schools, tuple) else []),
        ):
            if len(set(ids)) != len(ids):
                raise ValueError(f"{name}: names something twice")
        return self

    def product_type(self, product: str | None) -> ProductType:
        """The type of one of its products; `ordinary`, the strictest, for none."""
        return next((p.type for p in self.products if p.id == product), "ordinary")

    def covers(self, school: str, product: str | None, process: str, on: date) -> bool:
        """Whether it covers this school of its board, product and process on this day."""
        return (
            self.valid_from <= on <= self.valid_until
            and (self.schools == ALL_OF_BOARD or school in self.schools)
            and any(p.process == process for p in self.processes)
            and (product is None or any(p.id == product for p in self.products))
        )


class ConnectionSide(Written):
    """What one side says about a school's link between two parties for one service.

    A link is on when both sides are there, agree, are `accepted`, and each acceptance *counts*. It counts when

    1. `accepted_by` is that side's own party, or the school's SIS in its place;
    2. `mandate` is the SIS that the school's board has given its mandate: it gave the school's word for this side;
    3. `at` is not before the mandate's first day.

    So a change of SIS switches every link of a school off until the new one has confirmed it.

    Args:
        service: name of the family.
        at: when it came into this state.
    """

    id: EntryId
    side: Literal["sender", "receiver"]
    school: SchoolId
    sender: PartyId
    receiver: PartyId
    service: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{1,31}$")]
    products: Annotated[tuple[ProductId, ...], Field(min_length=1)] | Literal["all"] = "all"
    state: Literal["offered", "accepted", "declined", "revoked"]
    accepted_by: PartyId | None = None
    mandate: PartyId | None = None
    at: AwareDatetime

    @model_validator(mode="after")
    def _accounted_for(self) -> Self:
        if self.sender == self.receiver:
            raise ValueError("receiver: is the sender itself")
        if self.state in ("accepted", "revoked"):
            for name in ("accepted_by", "mandate"):
                if getattr(self, name) is None:
                    raise ValueError(f"{name}: is missing, and the state is {self.state}")
        return self

    @property
    def party(self) -> str:
        """Whose side it is."""
        return self.sender if self.side == "sender" else self.receiver

    def about(self) -> tuple[str, str, str, str]:
        """What both sides must agree on: school, sender, receiver, service."""
        return self.school, self.sender, self.receiver, self.service

    def counts(self, school: School) -> bool:
        """Whether who accepted it could do so for this school; the state is not looked at."""
        return (
            self.accepted_by in (self.party, school.sis)
            and self.mandate == school.sis
            and self.at.date() >= school.mandated_from
        )

    def covers(self, product: str | None) -> bool:
        """Whether it covers a product; None asks for any."""
        return product is None or self.products == ALL or product in self.products


class RegistryDocument(Written):
    """All entries of a folder of YAML files."""

    parties: tuple[Party, ...] = ()
    boards: tuple[Board, ...] = ()
    schools: tuple[School, ...] = ()
    agreements: tuple[Agreement, ...] = ()
    connections: tuple[ConnectionSide, ...] = ()


Entry = Party | Board | School | Agreement | ConnectionSide
KINDS: Final[Mapping[str, type[Entry]]] = {
    "party": Party,
    "board": Board,
    "school": School,
    "agreement": Agreement,
    "connection": ConnectionSide,
}


def key_of(entry: Entry) -> str:
    """The entry's key on the topic `registry`."""
    if isinstance(entry, ConnectionSide):
        return f"connection/{entry.id}/{entry.side}"
    kind = next(name for name, model in KINDS.items() if isinstance(entry, model))
    return f"{kind}/{entry.id}"
