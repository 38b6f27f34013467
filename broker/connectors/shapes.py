"""The words in which a standard's structure is written down: what an element may hold, what form its text has."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType
from typing import Final

__all__ = [
    "Position", "Shape", "as_date", "chars", "check_date", "check_datetime", "check_gender", "choice", "codes", "form",
    "many", "one", "opt", "shape", "some",
]  # fmt: skip

Check = Callable[[str], str | None]
"""Takes the text of an element and gives what is wrong with it, or None. Never quotes the text."""

Rule = Callable[[Collection[str]], str | None]
"""Takes the names of the children that were present and gives what is wrong, or None."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What one element may hold.

    Attributes:
        children: name -> (position in the sequence, shape). Names with one position exclude each other.
        many: positions that may be filled more than once.
        required: position -> the name to report when it stays empty.
        text: check of the text; None for an element that holds elements only.
        rule: what a sequence of positions cannot say.
        key, eckid: the attributes it has; a key is required.
        record: a pupil, employee, group, location or the school: the unit that is read as one.
        carry: of a leaf: its text is taken along in the record.
        pgn: of a leaf: it holds a personal number; it is counted and never looked at.
        opaque: whatever it holds is dropped unseen.
        keyless: its key may be absent; whether this one's may is for the reader to judge.
        schema_location, any_attributes: the attributes it has beside its own.
    """

    children: MappingProxyType[str, tuple[int, Shape]] = field(default_factory=lambda: MappingProxyType({}))
    many: frozenset[int] = frozenset()
    required: MappingProxyType[int, str] = field(default_factory=lambda: MappingProxyType({}))
    text: Check | None = None
    rule: Rule | None = None
    key: bool = False
    eckid: bool = False
    record: bool = False
    carry: bool = False
    pgn: bool = False
    opaque: bool = False
    keyless: bool = False
    schema_location: bool = False
    any_attributes: bool = False


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a sequence of elements: which may stand there, whether one must, and whether more may."""

    shapes: dict[str, Shape]
    required: bool = False
    many: bool = False


def one(name: str, shape: Shape) -> Position:
    """Exactly one."""
    return Position({name: shape}, required=True)


def opt(name: str, shape: Shape) -> Position:
    """One or none."""
    return Position({name: shape})


def choice(**shapes: Shape) -> Position:
    """One of these, or none."""
    return Position(shapes)


def many(**shapes: Shape) -> Position:
    """Any number of these."""
    return Position(shapes, many=True)


def some(**shapes: Shape) -> Position:
    """At least one of these."""
    return Position(shapes, many=True, required=True)


def shape(
    *sequence: Position,
    rule: Rule | None = None,
    key: bool = False,
    eckid: bool = False,
    record: bool = False,
    keyless: bool = False,
    schema_location: bool = False,
    any_attributes: bool = False,
) -> Shape:
    """An element that holds elements, in this order."""
    children = {name: (at, shape) for at, position in enumerate(sequence) for name, shape in position.shapes.items()}
    return Shape(
        children=MappingProxyType(children),
        many=frozenset(at for at, position in enumerate(sequence) if position.many),
        required=MappingProxyType(
            {at: " or ".join(position.shapes) for at, position in enumerate(sequence) if position.required}
        ),
        rule=rule,
        key=key,
        eckid=eckid,
        record=record,
        keyless=keyless,
        schema_location=schema_location,
        any_attributes=any_attributes,
    )


# --- texts -----------------------------------------------------------------------------------------------------


def chars(longest: int, shortest: int = 1) -> Shape:
    """A text of so many characters."""

    def check(text: str) -> str | None:
        if len(text) < shortest:
            return "is empty"
        return None if len(text) <= longest else f"is longer than {longest} characters"

    return Shape(text=check)


def codes(*codes: str, carry: bool = False) -> Shape:
    """One of these texts, to the letter."""
    allowed = frozenset(codes)
    return Shape(text=lambda text: None if text in allowed else "is not one of the codes of the standard", carry=carry)


def form(pattern: str, words: str) -> Shape:
    """A text that is, as a whole, of a form."""
    match = re.compile(pattern).fullmatch
    return Shape(text=lambda text: None if match(text) else f"is not {words}")


_zone = r"(?:Z|[+-](?:0[0-9]|1[0-3]):[0-5][0-9]|[+-]14:00)?"
_date = re.compile(rf"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}){_zone}").fullmatch
_datetime = re.compile(
    rf"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})T(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?|24:00:00(?:\.0+)?){_zone}"
).fullmatch
_XML_SPACE: Final = " \t\r\n"


def as_date(text: str) -> date | None:
    """Give the day of an `xs:date`, its time zone left aside; None if it is none."""
    return _day(_date(text.strip(_XML_SPACE)))


def _day(match: re.Match[str] | None) -> date | None:
    try:
        return date.fromisoformat(match[1]) if match is not None else None
    except ValueError:
        return None


def check_date(text: str) -> str | None:
    """Whether a text is an `xs:date`."""
    return None if as_date(text) is not None else "is not a date (YYYY-MM-DD)"


def check_datetime(text: str) -> str | None:
    """Whether a text is an `xs:dateTime`."""
    return None if _day(_datetime(text.strip(_XML_SPACE))) is not None else "is not a date with time"


def check_gender(text: str) -> str | None:
    """Whether a text is a code of `EDEXGeslachtType`."""
    # An xs:integer: white space around it is not part of it.
    return None if text.strip(_XML_SPACE) in {"0", "1", "2", "9"} else "is not one of the codes of the standard"
