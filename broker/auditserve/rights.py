"""Who may ask what, about which leaves, and with whose school key. What is not in the table is not allowed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from broker.errors import AccessDenied
from broker.registry import Registry
from broker.registry.models import School


class Role(StrEnum):
    """What an organisation of the registry is."""

    BOARD = "board"
    PARTY = "party"


class Question(StrEnum):
    """What can be asked; the last part of its path."""

    FIND = "find"
    EXPLAIN = "explain"
    RECEIPT = "receipt"
    PEOPLE = "people"
    LINES = "processing-activities"  # in the words of the standard's extension


class Scope(StrEnum):
    """Which leaves an answer may have."""

    ITS_SCHOOLS = "of schools that are the board's now"
    ITS_LINES = "whose line of the Logboek is the board's"
    ITS_OWN = "with the party as sender or receiver"


class Keys(StrEnum):
    """Whose school key an answer may be made with."""

    NONE = "nobody's"
    ITS_SCHOOL = "that of the school asked about, which is the board's"


class Right(NamedTuple):
    """What a role may have of a question."""

    scope: Scope
    keys: Keys = Keys.NONE


RIGHTS: Final[Mapping[tuple[Role, Question], Right]] = MappingProxyType({
    (Role.BOARD, Question.FIND): Right(Scope.ITS_SCHOOLS),
    (Role.BOARD, Question.EXPLAIN): Right(Scope.ITS_SCHOOLS),
    (Role.BOARD, Question.RECEIPT): Right(Scope.ITS_SCHOOLS),
    (Role.BOARD, Question.PEOPLE): Right(Scope.ITS_SCHOOLS, Keys.ITS_SCHOOL),
    (Role.BOARD, Question.LINES): Right(Scope.ITS_LINES, Keys.ITS_SCHOOL),
    (Role.PARTY, Question.FIND): Right(Scope.ITS_OWN),
    (Role.PARTY, Question.EXPLAIN): Right(Scope.ITS_OWN),
    (Role.PARTY, Question.RECEIPT): Right(Scope.ITS_OWN),
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asker:
    """An organisation that asks; its id in the registry."""

    id: str
    role: Role


def asker(registry: Registry, name: str) -> Asker:
    """Who has this id.

    Raises:
        AccessDenied: `audit.who`, if nobody has it, or a party that is suspended, or a board and a party both: then it
            is not known which is meant.
    """
    roles = [role for role, ids in ((Role.BOARD, registry.boards), (Role.PARTY, registry.parties)) if name in ids]
    if len(roles) != 1 or registry.suspended(name):
        raise AccessDenied("Your certificate names nobody who may ask here.", code="audit.who")
    return Asker(name, roles[0])


def right(role: Role, question: Question) -> Right:
    """What a role may have of a question.

    Raises:
        AccessDenied: `audit.denied`.
    """
    found = RIGHTS.get((role, question))
    if found is None:
        raise AccessDenied(f"A {role} may not ask this.", code="audit.denied")
    return found


def schools_of(registry: Registry, board: str) -> dict[str, tuple[str, ...]]:
    """The schools that are a board's now.

    Returns:
        Under the id of each the names that leaves may have for it: its BRIN, its locations, and those it had before.
    """
    claims = Counter(brin for school in registry.schools.values() for brin in school.formerly)
    schools = (school for school in registry.schools.values() if school.board == board)
    return {school.id: tuple(_names(registry, school, claims)) for school in schools}


def named(registry: Registry, name: str) -> School | None:
    """The school that has this name: as `schools_of` has them, by whichever board; None if nobody has."""
    found = registry.school(name)
    if found is not None:
        return found
    had = (school for school in registry.schools.values() if name in school.formerly or name[:4] in school.formerly)
    return next(had, None)


def _names(registry: Registry, school: School, claims: Mapping[str, int]) -> Iterator[str]:
    yield school.id
    # The registry's checks allow no BRIN that is another school's, or claimed twice; a view of it may be half a change.
    yield from (name for name in school.locations if name not in registry.schools)
    for brin in school.formerly:
        if claims[brin] == 1 and registry.school(brin) is None:
            yield brin
            if len(brin) == 4:
                then = (brin + location[4:] for location in school.locations)
                yield from (name for name in then if name not in claims and name not in registry.schools)
