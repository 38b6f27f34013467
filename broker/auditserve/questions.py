"""What can be asked, read from the body of a request. What is wrong is told by a member's name, never by a value."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from broker.audit.ldv import ACTIVITY, PROCESSOR, SUBJECT, SUBJECT_TYPE
from broker.audit.leaf import TOKEN_TYPE
from broker.audit.store import Place, Wanted
from broker.auditserve.people import ID_TYPES, IdKind
from broker.auditserve.rights import Question
from broker.errors import ContractError
from broker.exchange.model import Outcome
from broker.exchange.outcomes import CODES
from broker.identity.formats import is_uuid
from broker.policy.words import Process, Sector
from broker.registry.fields import PartyId, SchoolId

MOST_ROWS: Final = 1_000
MOST_LOOKED_AT: Final = 10_000  # rows of others' lines among them
MOST_BODY_BYTES: Final = 16 << 10
DAY_MS: Final = 86_400_000
DEFAULT_DAYS: Final = 31
MOST_DAYS: Final = 400  # a school year, and what closes it
_DECISIONS: Final = frozenset(outcome.value.lower() for outcome in Outcome)


def _uuid(text: str) -> str:
    if not is_uuid(text):
        raise ValueError
    return text.lower()


def _decision(text: str) -> str:
    if text not in _DECISIONS:
        raise ValueError
    return text


def _code(text: str) -> str:
    if text not in CODES:
        raise ValueError
    return text


def _id_type(text: str) -> str:
    if text not in ID_TYPES:
        raise ValueError
    return text


def _trace(text: str) -> str:
    digits = text.replace("-", "") if is_uuid(text) else text
    if len(bytes.fromhex(digits)) != 16 or len(digits) != 32 or not digits.strip("0"):
        raise ValueError
    return digits.lower()


def _subject_type(text: str) -> str:
    if text != TOKEN_TYPE and IdKind.of(text) is None:
        raise ValueError
    return text


# Milliseconds since 1970, of the years 2020 to 9999. They stand in the audit, and no number of a pupil looks like that.
EARLIEST_MS: Final = 1_577_836_800_000
Moment = Annotated[int, Field(ge=EARLIEST_MS, lt=253_402_300_800_000)]
AnyMoment = Annotated[int, Field(ge=0, lt=253_402_300_800_000), AfterValidator(lambda ms: max(ms, EARLIEST_MS))]
EventId = Annotated[str, AfterValidator(_uuid)]
Uri = Annotated[str, Field(min_length=1, max_length=2_000)]
Origin = Annotated[str, Field(min_length=1, max_length=200)]


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Before(_Written):
    """Where the next page of older rows ends: the member `next` of the page before it."""

    time: Moment
    log: Origin
    index: Annotated[int, Field(ge=0, lt=1 << 53)]


class Find(_Written):
    """Leaves by what they say.

    Args:
        school: BRIN. party: as sender or receiver. since, until: milliseconds since 1970, the second not included;
            without `since` the last 31 days before `until`, without `until` up to now.
        before: for the next page. most: rows.
    """

    school: SchoolId | None = None
    party: PartyId | None = None
    process: Process | None = None
    event: EventId | None = None
    decision: Annotated[str, AfterValidator(_decision)] | None = None
    code: Annotated[str, AfterValidator(_code)] | None = None
    since: Moment | None = None
    until: Moment | None = None
    before: Before | None = None
    most: Annotated[int, Field(ge=1, le=MOST_ROWS)] = MOST_ROWS


class Explain(_Written):
    """All that was decided over one event."""

    event: EventId


class Receipt(_Written):
    """The leaf that says that an event was delivered to somebody."""

    event: EventId
    receiver: PartyId


class People(_Written):
    """All leaves about one pupil. Its repr does not show who.

    Args:
        school: at which the pupil is or was enrolled. sector: of the enrolment. type: of the id. value: the id.
    """

    school: SchoolId
    sector: Sector
    type: Annotated[str, AfterValidator(_id_type)]
    value: Annotated[str, Field(min_length=1, max_length=256, repr=False)]
    before: Before | None = None
    most: Annotated[int, Field(ge=1, le=MOST_ROWS)] = MOST_ROWS


class Lines(_Written):
    """Lines of the Logboek that are all this, with the names of its extension *lezen*. Its repr does not show who.

    Args:
        trace: 32 digits of hex; a uuid is read too. activity: URI of an entry of the board's register.
        subject, subject_type: a pupil's id at a school, with the URI of its `IdKind`; or the token of one line.
        processor: URL of the receiver. start_ms, end_ms: the line's action began and ended within these, both included.
    """

    trace: Annotated[str, AfterValidator(_trace)] | None = Field(None, alias="traceId")
    activity: Uri | None = Field(None, alias=ACTIVITY, repr=False)
    subject: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(None, alias=SUBJECT, repr=False)
    subject_type: Annotated[str, AfterValidator(_subject_type)] | None = Field(None, alias=SUBJECT_TYPE, repr=False)
    processor: Uri | None = Field(None, alias=PROCESSOR, repr=False)
    start_ms: AnyMoment | None = Field(None, alias="startTime")
    end_ms: AnyMoment | None = Field(None, alias="endTime")

    @property
    def person(self) -> tuple[IdKind, str] | None:
        """Whom it asks for by an id of a school."""
        kind = None if self.subject_type is None else IdKind.of(self.subject_type)
        return None if kind is None or self.subject is None else (kind, self.subject)


Asked = Find | Explain | Receipt | People | Lines
FORMS: Final[Mapping[Question, type[Asked]]] = MappingProxyType({
    Question.FIND: Find, Question.EXPLAIN: Explain, Question.RECEIPT: Receipt, Question.PEOPLE: People,
    Question.LINES: Lines,
})  # fmt: skip


def parse(question: Question, body: bytes) -> Asked:
    """Read the body of a request.

    Raises:
        ContractError: `audit.question`, naming the members that are wrong.
    """
    form = FORMS[question]
    try:
        return form.model_validate_json(body)
    except ValidationError as error:
        # A member that is not known may be anything, a pupil's id too: it is not named.
        problems = error.errors(include_input=False, include_url=False)
        named = {str(problem["loc"][0]) for problem in problems if problem["loc"]}
    known = sorted(named & {field.alias or name for name, field in form.model_fields.items()})
    raise ContractError(
        f"The question is not as it must be: {', '.join(known) or 'not one JSON object of known members'}.",
        code="audit.question",
    )


def span_of(asked: Find, now_ms: int) -> tuple[int, int]:
    """From when to when a question is asked; the second not included.

    Raises:
        ContractError: `audit.span`, if that is longer than `MOST_DAYS`, or ends before it begins.
    """
    until = now_ms + DAY_MS if asked.until is None else asked.until  # a lane's clock may be ahead of ours
    since = max(EARLIEST_MS, min(until, now_ms) - DEFAULT_DAYS * DAY_MS) if asked.since is None else asked.since
    if not since < until <= since + MOST_DAYS * DAY_MS:
        raise ContractError(f"Ask for at most {MOST_DAYS} days, the first before the last.", code="audit.span")
    return since, until


def place_of(before: Before | None) -> Place | None:
    """As the store has it."""
    return None if before is None else Place(before.time, before.log, before.index)


def wanted_of(asked: Asked, now_ms: int) -> Wanted:
    """What to look for in the store, before it is narrowed to what the asker may see.

    Raises:
        ContractError: `audit.span`; `audit.question`, if there is too little to look for.
    """
    if isinstance(asked, Find):
        since, until = span_of(asked, now_ms) if asked.event is None else (asked.since, asked.until)
        return Wanted(
            None, asked.party, asked.process, asked.event, asked.decision, asked.code, since, until, most=asked.most,
            before=place_of(asked.before),
        )  # fmt: skip
    if isinstance(asked, People):
        return Wanted(most=asked.most, before=place_of(asked.before))
    if isinstance(asked, Lines):
        return _lines_of(asked)
    return Wanted(event=asked.event, most=MOST_ROWS)


def _lines_of(asked: Lines) -> Wanted:
    if (asked.subject is None) != (asked.subject_type is None):
        raise ContractError(f"{SUBJECT} and {SUBJECT_TYPE} go together.", code="audit.question")
    if asked.trace is None and asked.activity is None and asked.person is None:
        raise ContractError(
            f"Give at least one of traceId, {ACTIVITY} and {SUBJECT}. A token is of one line "
            "only and leads to no other: it narrows what a trace or an activity finds.",
            code="audit.question",
        )
    if asked.start_ms is not None and asked.end_ms is not None and asked.end_ms < asked.start_ms:
        raise ContractError("endTime is before startTime.", code="audit.span")
    return Wanted(
        activity=asked.activity, trace=None if asked.trace is None else bytes.fromhex(asked.trace),
        since_ms=asked.start_ms, until_ms=None if asked.end_ms is None else asked.end_ms + 1, most=MOST_LOOKED_AT + 1,
    )  # fmt: skip
