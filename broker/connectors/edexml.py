"""Reads an EDEXML 2.1 class list: `check` says whether it can be used, `pupils` and `employees` give identities.

Two passes over the file, in flat memory. `check` reads everything and keeps nothing but hashes of keys; the
second pass gives one `Enrolment` at a time, with the ids the identity events need and nothing else: no names,
birth dates, addresses, additions (data minimisation; domain table "BestellenLeveren"). The second pass
checks all over again, since the file may have changed: it raises where `check` would have reported.

**Problems and warnings.** A problem is fatal: nothing of the file may be sent. A warning is about one value
that is left out while the rest goes on. Both say line, element and reason, never a value: a key is an
identifier. What is only a warning:

- an eckid that is no ECK iD (the official example has `https://id.school/…`, in use until 29 January 2018;
  test systems send free text; some administrations send an empty one). The value is dropped and the pupil
  counts as one without ECK iD;
- an uitstroomdatum before the instroomdatum.

**Personal numbers.** `bsn`, `sofinummer`, `onderwijsnummer`, `rijksregisternummer` and `bsn_ondwnr-4` are normal in a
class list: they are counted and never looked at. An id that would leave (a LAS key, a key of a group or
location, an eckid of unknown form) and reads as a PGN, HPGN or stampseudoniem is a problem, unless the school
declared that form for its local ids (`local_id_form`).

**Where we judge otherwise than the XSD, on purpose:**

stricter
    1. `brincode` is required: an event names a Dutch school (the XSD also takes a Flemish number or nothing).
    2. Digits are 0-9 and capitals A-Z where the XSD says `\\p{Nd}` and `\\p{Lu}`.
    3. Keys are compared after Unicode normalisation (NFC), may not be blank, and may not be a PGN.
    4. A document type declaration, other encodings than those listed in the reader, a file over the limits.
    5. No `xsi:` attributes but the schema location on the root and types inside additions.
wider
    6. School years are a pattern; the XSD's list ends with 2024-2025.
    7. The content of `toevoegingen` and of the personal numbers is not checked, because it is not read.
    8. Any two capitals are a country; an empty eckid is an absent one; white space in an empty element is nothing.

Source: EDEXML 2.1 (EduStandaard, 2017), `EDEXML.structuur.xsd` and what it includes. The sector of a school is
not in the standard; the caller knows it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Final, Literal

from broker.connectors.edexml_reader import EdexmlLimits, Refusal
from broker.connectors.edexml_records import Record, records
from broker.connectors.edexml_structure import as_date
from broker.errors import ContractError
from broker.identity.formats import is_eck_id, is_las_key
from broker.identity.pgn import find_pgn

__all__ = ["EdexmlLimits", "Enrolment", "Problem", "Report", "check", "employees", "pupils"]

Kind = Literal["PUPIL", "EMPLOYEE"]

_DEFAULT_LIMITS: Final = EdexmlLimits()
_LEGACY_PREFIX: Final = "https://id.school/"
_BY_PUPIL: Final = "C"  # jaargroep of a combination group: "jaargroep per leerling vastgelegd"


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
        las_key: the administration's key, NFC.
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


def check(
    source: Path | BinaryIO,
    limits: EdexmlLimits = _DEFAULT_LIMITS,
    *,
    local_id_form: re.Pattern[str] | None = None,
) -> Report:
    """Read the whole class list and report on it; whatever the bytes are, the answer is a report.

    Args:
        source: a file, or a seekable stream, read from its start.
        limits: bounds on what the file may ask of us.
        local_id_form: the form the school declared for its local ids; not taken for a PGN.

    Raises:
        ConfigError: the file cannot be opened.
    """
    reading = _Reading(limits, local_id_form)
    for _enrolment in reading.enrolments(source):
        pass
    return reading.report


def pupils(
    source: Path | BinaryIO,
    limits: EdexmlLimits = _DEFAULT_LIMITS,
    *,
    local_id_form: re.Pattern[str] | None = None,
) -> Iterator[Enrolment]:
    """Give the pupils of a class list that `check` found usable, one at a time; arguments as there.

    Raises:
        ContractError: `edexml.problem`: there is a problem after all; says line, element and reason.
        ConfigError: the file cannot be opened.
    """
    return _second_pass(source, "PUPIL", _Reading(limits, local_id_form))


def employees(
    source: Path | BinaryIO,
    limits: EdexmlLimits = _DEFAULT_LIMITS,
    *,
    local_id_form: re.Pattern[str] | None = None,
) -> Iterator[Enrolment]:
    """Give the employees (`leerkracht`) of a class list; as `pupils`."""
    return _second_pass(source, "EMPLOYEE", _Reading(limits, local_id_form))


def _second_pass(source: Path | BinaryIO, kind: Kind, reading: _Reading) -> Iterator[Enrolment]:
    for enrolment in reading.enrolments(source):
        _raise_problem(reading.report)
        if enrolment.kind == kind:
            yield enrolment
    _raise_problem(reading.report)


def _raise_problem(report: Report) -> None:
    if report.problems:
        first = report.problems[0]
        raise ContractError(
            f"The class list cannot be used: line {first.line}, {first.element}: {first.reason}.",
            code="edexml.problem",
            field=first.element,
        )


def _fingerprint(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()


class _Reading:
    """One pass: takes the records in the order of the file, judges them, and fills the report."""

    def __init__(self, limits: EdexmlLimits, local_id_form: re.Pattern[str] | None) -> None:
        self.report = Report()
        self._limits = limits
        self._local_id_form = local_id_form
        self._seen: dict[str, set[bytes]] = {}
        self._year_group_of: dict[bytes, str | None] = {}
        self._count = 0

    def enrolments(self, source: Path | BinaryIO) -> Iterator[Enrolment]:
        """Give every person in the file. The report is complete when this ends."""
        try:
            for record in records(source, self._limits, self._problem):
                self._count += 1
                if self._count > self._limits.records:
                    self._problem(record.line, record.name, f"there are more than {self._limits.records} records")
                    return
                enrolment = self._take(record)
                if enrolment is not None:
                    yield enrolment
        except Refusal as refusal:
            self._problem(refusal.line, refusal.element, refusal.reason)

    def _problem(self, line: int, element: str, reason: str) -> None:
        self._list(self.report.problems, Problem(line, element, reason))

    def _warn(self, line: int, element: str, reason: str) -> None:
        self._list(self.report.warnings, Problem(line, element, reason))

    def _list(self, problems: list[Problem], problem: Problem) -> None:
        if len(problems) < self._limits.problems:
            problems.append(problem)
        elif len(problems) == self._limits.problems:
            problems.append(Problem(problem.line, problem.element, "there is more; not listed from here on"))

    def _take(self, record: Record) -> Enrolment | None:
        self.report.pgn_dropped += record.pgn_count
        match record.name:
            case "leerling":
                return self._pupil(record)
            case "leerkracht":
                return self._employee(record)
            case "school":
                self._school(record)
            case "vestiging":
                self._key(record, "vestiging")
            case "groep" | "samengestelde_groep":
                self._group(record)
        return None

    def _school(self, record: Record) -> None:
        location = record.texts.get("dependancecode")
        self.report.brin = record.texts.get("brincode")
        self.report.location = None if location == "00" else location
        self.report.school_year = record.texts.get("schooljaar")

    def _group(self, record: Record) -> None:
        self.report.groups += 1
        key = self._key(record, record.name)
        other = "samengestelde_groep" if record.name == "groep" else "groep"
        if _fingerprint(key) in self._seen.get(other, ()):
            self._problem(record.line, record.name, "the key is used for another group as well")
        year_group = record.texts.get("jaargroep")
        self._year_group_of[_fingerprint(key)] = None if year_group == _BY_PUPIL else year_group

    def _pupil(self, record: Record) -> Enrolment:
        self.report.pupils += 1
        las_key = self._key(record, "leerling")
        eck_id = self._eck_id(record)
        if eck_id is None:
            self.report.without_eck_id += 1
            self.report.without_eck_id_las_keys.append(las_key)
        else:
            self.report.with_eck_id += 1
        first_day, left_on = (as_date(record.texts.get(name, "")) for name in ("instroomdatum", "uitstroomdatum"))
        if first_day is not None and left_on is not None and left_on < first_day:  # looked at, not carried
            self._warn(record.line, "uitstroomdatum", "is before the instroomdatum")
        groups, location = self._references(record)
        inherited = self._year_group_of.get(_fingerprint(groups[0])) if groups else None
        return Enrolment(
            kind="PUPIL",
            las_key=las_key,
            eck_id=eck_id,
            year_group=record.texts.get("jaargroep") or inherited,
            group_keys=groups,
            left_on=left_on,
            location=location,
            line=record.line,
        )

    def _employee(self, record: Record) -> Enrolment:
        self.report.teachers += 1
        return Enrolment(
            kind="EMPLOYEE",
            las_key=self._key(record, "leerkracht"),
            eck_id=self._eck_id(record),
            year_group=None,
            group_keys=self._references(record)[0],
            left_on=None,
            location=None,
            line=record.line,
        )

    def _key(self, record: Record, space: str) -> str:
        """Check a record's key and that it is new among its kind."""
        key = unicodedata.normalize("NFC", record.key)
        if not key:
            return key  # a missing or empty key was reported with the structure
        if not is_las_key(key):
            self._problem(record.line, record.name, "the key is blank or longer than 256 characters")
        elif find_pgn(key, allowed_form=self._local_id_form) is not None:
            self._problem(record.line, record.name, "the key reads as a personal number; declare the form of local ids")
        if not self._is_new(space, key):
            self._problem(record.line, record.name, "the key is used twice")
        return key

    def _eck_id(self, record: Record) -> str | None:
        eck_id = record.eckid
        if eck_id is None:
            return None
        if not eck_id:
            self._warn(record.line, record.name, "the eckid is empty; dropped")
            return None
        if not self._is_new(f"{record.name} eckid", eck_id):
            self._problem(record.line, record.name, "the eckid is used twice")
        if is_eck_id(eck_id):
            return eck_id
        if eck_id.startswith(_LEGACY_PREFIX):
            self._warn(record.line, record.name, "the eckid has the form of before 2018 (id.school); dropped")
        elif find_pgn(eck_id) is not None:
            self._problem(
                record.line, record.name, "the eckid reads as a personal number, its hash or a stampseudoniem"
            )
        else:
            self._warn(record.line, record.name, "the eckid is not an ECK iD; dropped")
        return None

    def _references(self, record: Record) -> tuple[tuple[str, ...], str | None]:
        """Check that groups and location exist; give the group keys and the location's key."""
        groups: list[str] = []
        location: str | None = None
        for name, raw, line in record.references:
            key = unicodedata.normalize("NFC", raw)
            if _fingerprint(key) not in self._seen.get(name, ()):
                self._problem(line, name, "refers to a key that is not in the file")
            if name == "vestiging":
                location = key
            elif key not in groups:
                groups.append(key)
        return tuple(groups), location

    def _is_new(self, space: str, key: str) -> bool:
        seen = self._seen.setdefault(space, set())
        before = len(seen)
        seen.add(_fingerprint(key))
        return len(seen) > before
