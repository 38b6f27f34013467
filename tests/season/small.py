"""A small registry in which nothing stands in the way of a school year; tests change one thing in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import Any, Final

from broker.policy import Policy, Routes
from broker.registry import (
    Agreement,
    Board,
    ConnectionSide,
    Party,
    RegistryDocument,
    School,
    TemporaryException,
    records_of,
)
from broker.season import Entries, Facts, Finding, SchoolYear, preseason
from tests.registry import entries

PORTAL, DELTA, SIS, BRIN = "portaal-plein", "uitgeverij-delta", "sis-noord", "99PA"
TODAY: Final = date(2027, 6, 1)
YEAR: Final = SchoolYear(2027)

Raw = Mapping[str, Any]
_POLICY, _ROUTES = Policy.load(), Routes.load()


def party(name: str, role: str, **changes: Any) -> Raw:
    """A party of the covenant, attested last year."""
    return entries.party(id=name, roles=[role], eck_id_attested_on="2026-05-04") | changes


def agreement(**changes: Any) -> Raw:
    """The portal's, for Gebruik, until the end of the school year."""
    return entries.agreement(valid_until="2028-07-31") | changes


def link(name: str = "c1", **changes: Any) -> list[Raw]:
    """Both sides of a link for usage from the publisher to the portal, accepted."""
    return [entries.side("sender", id=name, **changes), entries.side("receiver", id=name, **changes)]


def small(
    *,
    school: Raw | None = None,
    portal: Raw | None = None,
    agreements: Iterable[Raw] | None = None,
    sides: Iterable[Raw] | None = None,
    exceptions: Iterable[Raw] = (),
) -> Entries:
    """The registry with these instead of its own."""
    document = RegistryDocument(
        parties=(
            Party.model_validate(party(PORTAL, "PORTAL") | (portal or {})),
            Party.model_validate(party(SIS, "SIS")),
            Party.model_validate(party(DELTA, "PUBLISHER")),
        ),
        boards=(Board.model_validate(entries.board()),),
        schools=(School.model_validate(entries.school(**(school or {}))),),
        agreements=tuple(Agreement.model_validate(a) for a in ([agreement()] if agreements is None else agreements)),
        connections=tuple(ConnectionSide.model_validate(s) for s in (link() if sides is None else sides)),
        exceptions=tuple(TemporaryException.model_validate(e) for e in exceptions),
    )
    return Entries.of(records_of(document, _POLICY, _ROUTES))


def look(found: Entries, facts: Facts | None = None, day: date = TODAY, year: SchoolYear = YEAR) -> list[Finding]:
    """The look ahead on a day in June."""
    return preseason(found, day, year, facts)


def codes(found: Iterable[Finding]) -> list[str]:
    """What was found, by code."""
    return [finding.code for finding in found]


def one(found: Iterable[Finding], code: str) -> Finding:
    """The only finding of a code."""
    (only,) = [finding for finding in found if finding.code == code]
    return only


Make = Callable[[], tuple[Entries, Facts | None]]
