"""What can be asked, read from the body of a request. What is wrong is told by a member's name, never by a value."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from broker.audit.store import Place, Wanted
from broker.auditserve.people import ID_TYPES
from broker.auditserve.rights import Question
from broker.errors import ContractError
from broker.exchange.model import Outcome
from broker.exchange.outcomes import CODES
from broker.identity.formats import is_uuid
from broker.policy.words import Process, Sector
from broker.registry.fields import PartyId, SchoolId

MOST_ROWS: Final = 1_000
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


# Milliseconds since 1970, of the years 2020 to 9999. They stand in the audit, and no number of a pupil looks like that.
EARLIEST_MS: Final = 1_577_836_800_000
Moment = Annotated[int, Field(ge=EARLIEST_MS, lt=253_402_300_800_000)]
EventId = Annotated[str, AfterValidator(_uuid)]
Origin = Annotated[str, Field(min_length=1, max_length=200)]


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Before(_Written):
    """Where the next page of older rows ends: the member `next` of the page before it."""

    time: Moment
    log: Origin
    index: Annotated[int, Field(ge=0)]


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


Asked = Find | Explain | Receipt | People
FORMS: Final[Mapping[Question, type[Find] | type[Explain] | type[Receipt] | type[People]]] = MappingProxyType(
    {Question.FIND: Find, Question.EXPLAIN: Explain, Question.RECEIPT: Receipt, Question.PEOPLE: People}
)


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
    known = sorted(named & form.model_fields.keys())
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
    """What to look for in the store, before it is narrowed to what the asker may see."""
    if isinstance(asked, Find):
        since, until = span_of(asked, now_ms) if asked.event is None else (asked.since, asked.until)
        return Wanted(
            None, asked.party, asked.process, asked.event, asked.decision, asked.code, since, until, most=asked.most,
            before=place_of(asked.before),
        )  # fmt: skip
    if isinstance(asked, People):
        return Wanted(most=asked.most, before=place_of(asked.before))
    return Wanted(event=asked.event, most=MOST_ROWS)
