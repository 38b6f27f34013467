"""Who is who: parties, boards and schools, and what comes after them when boards merge or BRINs change."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Final, Literal, Self

from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import Field, field_validator, model_validator

from broker.audit.log.note import ED25519, NoteError, Verifier
from broker.identity.formats import is_oin, is_school_id
from broker.policy.document import Written
from broker.policy.words import Role, Sector
from broker.registry.fields import (
    EntryId,
    LocationId,
    PartyId,
    Reason,
    SchoolId,
    Text,
    WebAddress,
    is_location_of,
    named_twice,
)

# The broker's own users, recipients and topics: a party of that name would have their rights or their keys.
RESERVED: Final = frozenset({
    "admin", "audit-service", "auditor", "broker", "count-keeper", "exchange", "exchange-control", "index",
    "key-rotator", "ldv-exporter", "log-builder", "operator", "remover", "vault",
})  # fmt: skip

# One record (1 MiB at most) in a minute and a half, and what no broker can do.
MIN_BYTES_PER_S: Final = 10_000
MAX_BYTES_PER_S: Final = 1_000_000_000

# What no pupil number looks like. A declared form that fits one of these would switch the PGN screen off.
_NO_LOCAL_ID: Final = ("", "een leerling", "0" * 64, "https://ketenid.nl/sppilot/" + "0" * 128)


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


class PartyQuota(Written):
    """How much a party may write and read, instead of what its roles and schools give (`broker.kafka.quotas`).

    Args:
        in_bytes_per_s: to write to the broker. out_bytes_per_s: to read from it. Per Kafka broker; None: as without.
    """

    in_bytes_per_s: Annotated[int | None, Field(ge=MIN_BYTES_PER_S, le=MAX_BYTES_PER_S)] = None
    out_bytes_per_s: Annotated[int | None, Field(ge=MIN_BYTES_PER_S, le=MAX_BYTES_PER_S)] = None


class Party(Written):
    """A system that sends or receives; not a person, not a school.

    Args:
        covenant: how it stands to the privacy covenant.
        eck_id_attested_on: date of its security attestation. Without it, or without covenant, no ECK iD goes there.
        keys: public recipient keys, the current one first, earlier ones while rotation lasts.
        count_keys: verifier keys of its signed counts (`broker.audit.count`), each named as the party; several while
            rotation lasts. None: it does not count.
        processor_url: names it in the audit as receiver (LDV `foreign_operation.processor`).
        quota: how much it may write and read; None: by its roles and schools.
    """

    id: PartyId
    name: Text
    roles: Annotated[tuple[Role, ...], Field(min_length=1)]
    oin: str | None = None
    covenant: Literal["deelnemer", "medestander", "geen"]
    eck_id_attested_on: date | None = None
    keys: tuple[PublicKey, ...] = ()
    count_keys: Annotated[tuple[str, ...], Field(min_length=1, max_length=8)] | None = None
    processor_url: WebAddress
    quota: PartyQuota | None = None

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

    @model_validator(mode="after")
    def _count_keys_of_its_own(self) -> Self:
        for number, text in enumerate(self.count_keys or ()):
            try:
                key = Verifier.parse(text)
            except NoteError as error:
                raise ValueError(f"count_keys[{number}]: {error}; `broker party count-key` prints one") from None
            if key.kind != ED25519:
                raise ValueError(f"count_keys[{number}]: is the key of a witness; `broker party count-key` prints one")
            if key.name != self.id:
                raise ValueError(f"count_keys[{number}]: must be named {self.id}, as the party")
        named_twice(count_keys=self.count_keys or ())
        return self

    def count_verifiers(self) -> list[Verifier]:
        """Who may sign its counts."""
        return [Verifier.parse(text) for text in self.count_keys or ()]

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
    """A school, or one location of it (BRIN6) that stands on its own.

    Args:
        sis: the party whose system holds the pupils and that has the board's mandate to speak for the school.
        mandated_from, mandated_until: first and last day of that mandate; without a last day it goes on. What the SIS
            accepted for the school counts no longer than the mandate.
        local_id_form: regular expression of the school's local ids: such an id is not taken for a PGN.
        locations: its BRIN6 that events, agreements and connections may name.
        formerly: BRINs that it had before: its pupils are looked up under these too.
    """

    id: SchoolId
    name: Text
    board: EntryId
    sectors: Annotated[tuple[Sector, ...], Field(min_length=1)]
    sis: PartyId
    mandated_from: date
    mandated_until: date | None = None
    local_id_form: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    locations: tuple[LocationId, ...] = ()
    formerly: tuple[SchoolId, ...] = ()

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

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.mandated_until is not None and self.mandated_until < self.mandated_from:
            raise ValueError("mandated_until: lies before mandated_from")
        for location in self.locations:
            if not is_location_of(location, self.id):
                raise ValueError(f"locations: {location} is no location of {self.id}")
        if self.id in self.formerly:
            raise ValueError(f"formerly: {self.id} is what it is called now")
        named_twice(locations=self.locations, formerly=self.formerly, sectors=self.sectors)
        return self

    def mandated(self, party: str, on: date) -> bool:
        """Whether this party is the school's SIS, and has the board's mandate on this day."""
        return party == self.sis and self.mandated_from <= on and self.mandate_over(on) is None

    def mandate_over(self, on: date) -> date | None:
        """The mandate's last day, if it has passed on this day.

        From then on no link of the school is on: each was accepted under that mandate, and nobody is left who could
        switch one off for the school.
        """
        return self.mandated_until if self.mandated_until is not None and self.mandated_until < on else None


class Succession(Written):
    """A board that merged into another, or a school whose BRIN changed: what goes over, and what ends.

    It is the record of a change that was made (`broker registry succeed`): the predecessor is gone.

    Args:
        first_day: of the successor. (Not `on`: in YAML that word is a boolean.)
        agreements, connections: of the predecessor; `end`: the day before is their last.
        identities: of a school: whether its pupils stay known under the new BRIN. A board's schools keep theirs.
    """

    id: EntryId
    what: Literal["board", "school"]
    predecessor: EntryId
    successor: EntryId
    first_day: date
    agreements: Literal["carry", "end"]
    connections: Literal["carry", "end"]
    identities: Literal["carry", "end"]
    reason: Reason

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.predecessor == self.successor:
            raise ValueError("successor: is the predecessor itself")
        if self.what == "school":
            for name in ("predecessor", "successor"):
                if not is_school_id(getattr(self, name)):
                    raise ValueError(f"{name}: must be a BRIN such as 99PA, or a BRIN6 such as 99PA00")
        elif self.identities == "end":
            raise ValueError("identities: are the schools' own, and a board's schools stay; carry them")
        return self
