"""The records that a party's software writes and reads, typed. Names and meaning are those of `schemas/avro/`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar, Final, Self
from uuid import uuid4

from broker.errors import ContractError

_EPOCH: Final = date(1970, 1, 1)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """Base of the families' records: to and from Avro's plain values and JSON."""

    FAMILY: ClassVar[str]

    def datum(self) -> dict[str, Any]:
        """As Avro takes it: dates as days, times as milliseconds."""
        return {f.name: _to_plain(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_datum(cls, datum: Mapping[str, Any]) -> Self:
        """From a decoded record or from JSON; what the record does not have keeps its default.

        Raises:
            ContractError: `field.unknown` for a name that the family does not have.
        """
        declared = {f.name: str(f.type) for f in fields(cls)}
        unknown = sorted(set(datum) - declared.keys())
        if unknown:
            raise ContractError(
                f"{cls.FAMILY} has no field {unknown[0]!r}; it has: {', '.join(declared)}",
                code="field.unknown",
                field=unknown[0],
            )
        try:
            return cls(**{name: _from_plain(value, declared[name]) for name, value in datum.items()})
        except (TypeError, ValueError, OverflowError):
            missing = [n for n in declared if n not in datum and n in cls._required()]
            reason = f"misses {', '.join(missing)}" if missing else "has a value of the wrong type"
            raise ContractError(f"the {cls.FAMILY} {reason}", code="field.form") from None

    @classmethod
    def _required(cls) -> frozenset[str]:
        return frozenset(f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING)

    @classmethod
    def received(cls, datum: Mapping[str, Any]) -> Self:
        """From what a newer broker may send: fields that this client does not know yet are left out."""
        known = {f.name for f in fields(cls)}
        return cls.from_datum({name: value for name, value in datum.items() if name in known})


def _uuid() -> str:
    return str(uuid4())


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far somebody is with a unit; `status` is NOT_STARTED, STARTED, COMPLETED or ABANDONED."""

    status: str
    assignable_unit_id: str | None = None
    course_id: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage(Body):
    """`usage.v1`: what happened with a licence. See the schema for each field."""

    FAMILY: ClassVar[str] = "usage"

    usage_id: str = field(default_factory=_uuid)
    revision: int = 1
    entitlement_id: str
    product_id: str
    usage_type: str
    usage_date: date | None = None
    first_used: date | None = None
    last_used: date | None = None
    frequency: int | None = None
    expiration_date: date | None = None
    activation_code: str | None = field(default=None, repr=False)
    year_group: str | None = None
    group_id: str | None = None
    progress: Progress | None = None
    progress_duration: str | None = None
    progress_follow_up: bool | None = None
    progress_note: str | None = field(default=None, repr=False)
    progress_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity(Body):
    """`identity.v1`: an enrolment at a school; the ids are in the subject."""

    FAMILY: ClassVar[str] = "identity"

    enrolled_from: date | None = None
    left_on: date | None = None
    year_group: str | None = None
    group_ids: tuple[str, ...] | None = None
    location: str | None = None


BODIES: Final[Mapping[str, type[Usage] | type[Identity]]] = {"usage": Usage, "identity": Identity}


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
    body: Usage | Identity
    subject: Subject = field(default_factory=Subject)
    event_id: str = field(default_factory=_uuid)
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
            "agreement": self.agreement, "subject": self.subject.datum(), "body": _to_json(self.body),
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


def milliseconds(moment: datetime) -> int:
    """Milliseconds since 1970; a time without zone is taken as UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _to_plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return milliseconds(value)
    if isinstance(value, date):
        return (value - _EPOCH).days
    if isinstance(value, Progress):
        return {f.name: _to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return list(value)
    return value


def _to_json(value: Any) -> Any:
    if isinstance(value, Body | Progress):
        return {f.name: _to_json(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, date):  # datetime is one
        return value.isoformat()
    return list(value) if isinstance(value, tuple) else value


def _from_plain(value: Any, declared: str) -> Any:
    """By the declared type; JSON has texts where Avro has numbers."""
    if value is None:
        return None
    if declared.startswith("date "):
        return date.fromisoformat(value) if isinstance(value, str) else _EPOCH + timedelta(days=value)
    if declared.startswith("datetime "):
        if isinstance(value, str):
            return datetime.fromisoformat(value)
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=value)
    if declared.startswith("Progress "):
        types = {f.name: str(f.type) for f in fields(Progress)}
        return Progress(**{name: _from_plain(v, types.get(name, "")) for name, v in value.items()})
    if declared.startswith("tuple"):
        return tuple(value)
    return value
