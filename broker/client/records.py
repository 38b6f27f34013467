"""The records that a party's software writes and reads, typed. Names and meaning are those of `schemas/avro/`.

Here are the event and its subject; the bodies are in `records_material` and `records_school`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Any, Final, Self

from broker.client.records_body import Body, milliseconds
from broker.client.records_material import (
    AssessmentResult,
    HomeAddress,
    Licence,
    Order,
    Part,
    Progress,
    ReferenceLevel,
    Usage,
    new_id,
)
from broker.client.records_school import Connection, Consent, ContactFlags, Control, Identity, Roster
from broker.errors import ContractError

__all__ = [
    "BODIES",
    "AssessmentResult",
    "Body",
    "Connection",
    "Consent",
    "ContactFlags",
    "Control",
    "Event",
    "HomeAddress",
    "Identity",
    "Licence",
    "Order",
    "Part",
    "Progress",
    "ReferenceLevel",
    "Roster",
    "Subject",
    "Usage",
    "employee",
    "milliseconds",
    "pupil",
    "school_year_of",
]


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom an event is about. Its repr shows no identifiers.

    Args:
        kind: PUPIL, EMPLOYEE or NONE.
        eck_id: the ECK iD, if known.
        user_ids: (type, value) of local ids: LAS_KEY, LEERLINGNUMMER, NL_EDU_PERSON_PROFILE_ID,
            NL_EDU_PERSON_REAL_ID, MEDEWERKERNUMMER.
        previous_user_ids: for identity MERGE and REPLACE.
    """

    kind: str = "NONE"
    eck_id: str | None = field(default=None, repr=False)
    user_ids: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    previous_user_ids: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def datum(self) -> dict[str, Any]:
        """As Avro takes it."""
        return {
            "kind": self.kind,
            "eck_id": self.eck_id,
            "user_ids": [{"type": t, "value": v} for t, v in self.user_ids],
            "previous_user_ids": [{"type": t, "value": v} for t, v in self.previous_user_ids],
        }

    @classmethod
    def from_datum(cls, datum: Mapping[str, Any]) -> Self:
        """From what Avro gives, or from JSON."""
        return cls(
            datum.get("kind", "NONE"),
            datum.get("eck_id"),
            tuple((i["type"], i["value"]) for i in datum.get("user_ids", ())),
            tuple((i["type"], i["value"]) for i in datum.get("previous_user_ids", ())),
        )


def pupil(*, eck_id: str | None = None, **local_ids: str) -> Subject:
    """A pupil by ECK iD or local ids: `pupil(las_key="L0012")`."""
    return Subject("PUPIL", eck_id, tuple((name.upper(), value) for name, value in local_ids.items()))


def employee(*, eck_id: str | None = None, **local_ids: str) -> Subject:
    """An employee: `employee(medewerkernummer="E7")`."""
    return Subject("EMPLOYEE", eck_id, tuple((name.upper(), value) for name, value in local_ids.items()))


BODIES: Final[Mapping[str, type[Body]]] = MappingProxyType({
    body.FAMILY: body for body in (Order, Licence, Usage, AssessmentResult, Identity, Roster, Connection, Control)
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event, as a party sends or receives it.

    Args:
        kind: within the family, such as ACTIVATION.
        school: BRIN or BRIN6.
        sector: PO, VO or MBO.
        school_year: such as 2026-2027; by default the one of `created`.
        created: when it happened; by default now.
        receiver: one party, or None for every connected one.
        agreement: the agreement that a delivery rests on (set by the broker).
    """

    kind: str
    school: str
    sector: str
    body: Body
    subject: Subject = field(default_factory=Subject)
    event_id: str = field(default_factory=new_id)
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    school_year: str = ""
    sender: str | None = None
    receiver: str | None = None
    correlation: str | None = None
    agreement: str | None = None

    @property
    def family(self) -> str:
        """The body's family."""
        return self.body.FAMILY

    def json(self) -> dict[str, Any]:
        """As `broker send` reads it and `broker receive --json` writes it; stable."""
        out: dict[str, Any] = {
            "event_id": self.event_id, "family": self.family, "kind": self.kind, "school": self.school,
            "sector": self.sector, "school_year": self.school_year, "created": self.created.isoformat(),
            "sender": self.sender, "receiver": self.receiver, "correlation": self.correlation,
            "agreement": self.agreement, "subject": self.subject.datum(), "body": self.body.json(),
        }  # fmt: skip
        return out

    @classmethod
    def from_json(cls, document: Mapping[str, Any], family: str) -> Self:
        """Read one line of `broker send`.

        Raises:
            ContractError: `field.unknown` or `field.form`, naming the field.
        """
        known = {f.name for f in fields(cls)} | {"family"}
        if unknown := sorted(set(document) - known):
            raise ContractError(f"an event has no field {unknown[0]!r}", code="field.unknown", field=unknown[0])
        values = {name: value for name, value in document.items() if name != "family" and value is not None}
        try:
            values["body"] = BODIES[family].from_datum(document.get("body") or {})
            values["subject"] = Subject.from_datum(document.get("subject") or {})
            if "created" in values:
                values["created"] = datetime.fromisoformat(values["created"])
            return cls(**values)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
            raise ContractError(
                "the line is not an event: it needs kind, school, sector, and a body", code="field.form"
            ) from None


def school_year_of(day: date) -> str:
    """The school year of a day; it begins on 1 August."""
    first = day.year if day.month >= 8 else day.year - 1
    return f"{first}-{first + 1}"
