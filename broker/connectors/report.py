"""What comes out of a class list, whatever its standard: enrolments, and a report on the file. Never a value."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

__all__ = ["Enrolment", "Kind", "Problem", "Report"]

Kind = Literal["PUPIL", "EMPLOYEE"]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, where. The reason never quotes a value from the file.

    Beyond line 65535 the parser's line can be one too high.
    """

    line: int
    element: str
    reason: str


@dataclass(slots=True)
class Report:
    """What a class list holds and whether it can be used.

    Attributes:
        brin: of the school; None if the file did not give a valid one.
        location: the two digits that make it a BRIN6 (`dependancecode`); None when absent or 00.
        school_year: `YYYY-YYYY`; None if the file did not give a valid one.
        version: of the standard, as the file says (`xsdversie`): major and minor; None if it does not say.
        pupils, teachers, groups: counted; groups with the combined ones.
        with_eck_id, without_eck_id: pupils.
        pgn_dropped: personal numbers that were in the file and go nowhere.
        problems: fatal; empty for a file that can be used.
        warnings: values left out.
        without_eck_id_las_keys: of pupils, for the school's own list; identifiers, so not in `repr` or `to_json`.
    """

    brin: str | None = None
    location: str | None = None
    school_year: str | None = None
    version: tuple[int, int] | None = None
    pupils: int = 0
    teachers: int = 0
    groups: int = 0
    with_eck_id: int = 0
    without_eck_id: int = 0
    pgn_dropped: int = 0
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    without_eck_id_las_keys: list[str] = field(default_factory=list, repr=False)

    @property
    def usable(self) -> bool:
        """Whether there is no problem, so that identities may be sent."""
        return not self.problems

    def to_json(self) -> str:
        """Give the report as JSON for people and scripts: counts and problems, no identifier."""
        return json.dumps(
            {
                "pupils": self.pupils,
                "teachers": self.teachers,
                "groups": self.groups,
                "with_eck_id": self.with_eck_id,
                "without_eck_id": self.without_eck_id,
                "pgn_dropped": self.pgn_dropped,
                "problems": [{"line": p.line, "element": p.element, "reason": p.reason} for p in self.problems],
            },
            ensure_ascii=False,
        )


@dataclass(frozen=True, slots=True, repr=False)
class Enrolment:
    """One person at one school: what an identity event needs, and no more.

    Attributes:
        kind: PUPIL or EMPLOYEE.
        las_key: the administration's key, NFC; empty for a pupil whom the file names by ECK iD alone (UWLR 2.3).
        eck_id: a valid ECK iD, or None.
        year_group: `jaargroep` of the pupil, else of the pupil's group; None for employees, and where a
            combination group leaves it open.
        group_keys: groups and combined groups, in the order of the file.
        left_on: `uitstroomdatum`.
        location: key of the `vestiging`.
        line: where the element starts in the file.
    """

    kind: Kind
    las_key: str
    eck_id: str | None
    year_group: str | None
    group_keys: tuple[str, ...]
    left_on: date | None
    location: str | None
    line: int

    def __repr__(self) -> str:
        """Say what and where, not who."""
        return f"<Enrolment {self.kind} line {self.line}, {'with' if self.eck_id else 'without'} ECK iD>"
