"""The look ahead itself: all checks, school by school."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from typing import Final

from broker.errors import ConfigError
from broker.registry import School
from broker.season.agreements import agreement_findings, consent_findings, exception_findings, local_id_findings
from broker.season.calendar import SchoolYear
from broker.season.codes import RANK, Finding
from broker.season.entries import Entries
from broker.season.facts import Facts
from broker.season.links import link_findings
from broker.season.look import Look
from broker.season.parties import mandate_findings, party_findings
from broker.season.pupils import destroy_findings, destroy_findings_of, pupil_findings

CHECKS: Final[tuple[Callable[[Look], Iterator[Finding]], ...]] = (
    mandate_findings, agreement_findings, link_findings, party_findings, local_id_findings, exception_findings,
    consent_findings, pupil_findings, destroy_findings,
)  # fmt: skip


def preseason(
    entries: Entries, day: date, year: SchoolYear, facts: Facts | None = None, school: str | None = None
) -> list[Finding]:
    """What would go wrong at the start of a school year and in it, as things stand; most urgent first per school.

    Args:
        day: today. year: when it has begun already, today counts as its first day.
        school: only this one, by its BRIN or a location of it.

    Raises:
        ConfigError: `season.year`, if the year is over; `season.school`, if there is no such school.
    """
    if year.last_day < day:
        raise ConfigError(f"the school year {year} is over; give this one or a later one", code="season.year")
    facts = facts or Facts()
    found: list[Finding] = []
    for one in _schools(entries, school):
        look = Look(entries, one, day, year, facts)
        found += sorted(
            (finding for check in CHECKS for finding in check(look)),
            key=lambda f: (RANK[f.severity], f.code, f.party or "", f.about, f.sector or ""),
        )
    if school is None:
        gone = [r for r in facts.destroy or () if r.school not in entries.registry.schools]
        found += destroy_findings_of(gone, day, year.last_day)
    return found


def _schools(entries: Entries, school: str | None) -> list[School]:
    schools = entries.registry.schools
    if school is None:
        return [schools[name] for name in sorted(schools)]
    one = entries.registry.school(school)
    if one is None:
        raise ConfigError(
            f"the registry has no school {school}; `broker registry list` shows all", code="season.school"
        )
    return [one]
