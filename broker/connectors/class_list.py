"""Reads a class list: `check` says whether it can be used, `pupils` and `employees` give identities.

Two passes over the file, in flat memory. `check` reads everything and keeps nothing but hashes of keys; the
second pass gives one `Enrolment` at a time, with the ids the identity events need and nothing else: no names,
birth dates, addresses, additions (data minimisation; domain table "BestellenLeveren"). The second pass
checks all over again, since the file may have changed: it raises where `check` would have reported.

**Problems and warnings.** A problem is fatal: nothing of the file may be sent. A warning is about one value
that is left out, or one deviation that is tolerated, while the rest goes on. Both say line, element and reason,
never a value: a key is an identifier. What is only a warning:

- an eckid that is no ECK iD (the official example has `https://id.school/…`, in use until 29 January 2018;
  test systems send free text; some administrations send an empty one). The value is dropped and the pupil
  counts as one without ECK iD;
- an uitstroomdatum before the instroomdatum;
- an answer that says that nothing changed: there is nothing to send;
- a deviation from the standard that the product's configuration tolerates.

**Personal numbers.** `bsn`, `sofinummer`, `onderwijsnummer`, `rijksregisternummer` and `bsn_ondwnr-4` are normal in a
class list: they are counted and never looked at. An id that would leave (a LAS key, a key of a group or
location, an eckid of unknown form) and reads as a PGN, HPGN or stampseudoniem is a problem, unless the school
declared that form for its local ids (`local_id_form`).

**Keys.** That keys and eckids are used once and that references have an aim is checked here, for every standard
alike: the rules of UWLR 2.2's own schema look for elements without a namespace and find none.

The sector of a school is in neither standard; the caller knows it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Final

from broker.connectors.products import Product
from broker.connectors.records import Record, records
from broker.connectors.report import Enrolment, Kind, Problem, Report
from broker.connectors.shapes import as_date
from broker.connectors.structure import Standard
from broker.connectors.xml_reader import Limits, Refusal
from broker.errors import ConfigError, ContractError
from broker.identity.formats import is_eck_id, is_las_key
from broker.identity.pgn import find_pgn

__all__ = ["ClassListReader"]

_DEFAULT_LIMITS: Final = Limits()
_LEGACY_PREFIX: Final = "https://id.school/"
_BY_PUPIL: Final = "C"  # jaargroep of a combination group: "jaargroep per leerling vastgelegd"
_version = re.compile(r"[^0-9]*([0-9]{1,3})\.([0-9]{1,3})(?![0-9])").match


@dataclass(frozen=True, slots=True)
class ClassListReader:
    """Reads files of one standard."""

    standard: Standard

    def check(
        self,
        source: Path | BinaryIO,
        limits: Limits = _DEFAULT_LIMITS,
        *,
        local_id_form: re.Pattern[str] | None = None,
        product: Product | None = None,
    ) -> Report:
        """Read the whole class list and report on it; whatever the bytes are, the answer is a report.

        Args:
            source: a file, or a seekable stream, read from its start.
            limits: bounds on what the file may ask of us.
            local_id_form: the form the school declared for its local ids; not taken for a PGN. Without it,
                that of the product.
            product: the configuration of the administration that wrote it; None: the standard and nothing else.

        Raises:
            ConfigError: the file cannot be opened, or the product does not write this standard (`connect.product`).
        """
        reading = _Reading(self.standard, limits, local_id_form, product)
        for _enrolment in reading.enrolments(source):
            pass
        return reading.report

    def pupils(
        self,
        source: Path | BinaryIO,
        limits: Limits = _DEFAULT_LIMITS,
        *,
        local_id_form: re.Pattern[str] | None = None,
        product: Product | None = None,
    ) -> Iterator[Enrolment]:
        """Give the pupils of a class list that `check` found usable, one at a time; arguments as there.

        Raises:
            ContractError: `<standard>.problem`: there is a problem after all; says line, element and reason.
            ConfigError: as `check`.
        """
        return _second_pass(source, "PUPIL", _Reading(self.standard, limits, local_id_form, product))

    def employees(
        self,
        source: Path | BinaryIO,
        limits: Limits = _DEFAULT_LIMITS,
        *,
        local_id_form: re.Pattern[str] | None = None,
        product: Product | None = None,
    ) -> Iterator[Enrolment]:
        """Give the employees (`leerkracht`) of a class list; as `pupils`."""
        return _second_pass(source, "EMPLOYEE", _Reading(self.standard, limits, local_id_form, product))


def _second_pass(source: Path | BinaryIO, kind: Kind, reading: _Reading) -> Iterator[Enrolment]:
    for enrolment in reading.enrolments(source):
        _raise_problem(reading)
        if enrolment.kind == kind:
            yield enrolment
    _raise_problem(reading)


def _raise_problem(reading: _Reading) -> None:
    if reading.report.problems:
        first = reading.report.problems[0]
        raise ContractError(
            f"The class list cannot be used: line {first.line}, {first.element}: {first.reason}.",
            code=f"{reading.standard.name}.problem",
            field=first.element,
        )


def _fingerprint(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()


class _Reading:
    """One pass: takes the records in the order of the file, judges them, and fills the report."""

    def __init__(
        self, standard: Standard, limits: Limits, local_id_form: re.Pattern[str] | None, product: Product | None
    ) -> None:
        if product is not None and standard.name not in product.reads:
            raise ConfigError(
                f"the product configuration {product.id} has no {standard.name}, only {', '.join(product.reads)}",
                code="connect.product",
            )
        self.report = Report()
        self.standard = standard
        self._limits = limits
        self._product = product
        self._local_id_form = local_id_form or (product.local_id_form if product is not None else None)
        self._seen: dict[str, set[bytes]] = {}
        self._year_group_of: dict[bytes, str | None] = {}
        self._count = 0

    def enrolments(self, source: Path | BinaryIO) -> Iterator[Enrolment]:
        """Give every person in the file. The report is complete when this ends."""
        try:
            tolerated = self._product.tolerates if self._product is not None else ()
            for record in records(source, self.standard, self._limits, self._breach, tolerated):
                self._count += 1
                if self._count > self._limits.records:
                    self._problem(record.line, record.name, f"there are more than {self._limits.records} records")
                    return
                enrolment = self._take(record)
                if enrolment is not None:
                    yield enrolment
        except Refusal as refusal:
            self._problem(refusal.line, refusal.element, refusal.reason)

    def _breach(self, line: int, element: str, reason: str, deviation: str | None) -> None:
        """Take a breach of the standard's structure: tolerated, or a problem that says what can be done."""
        if self._product is None:
            self._problem(line, element, reason)
        elif deviation in self._product.tolerates:
            self._warn(line, element, f"{reason}; tolerated by the product configuration {self._product.id}")
        else:
            self._problem(line, element, f"{reason}; {self._product.refusal(deviation)}")

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
            case "geenwijzigingen":
                self._warn(
                    record.line, record.name, "nothing changed since the day that was asked for; nothing to send"
                )
            case "geengegevens":
                self._problem(
                    record.line,
                    record.name,
                    "the administration has no data for the school and year that were asked for",
                )
        return None

    def _school(self, record: Record) -> None:
        location = record.texts.get("dependancecode")
        self.report.brin = record.texts.get("brincode")
        self.report.location = None if location == "00" else location
        self.report.school_year = record.texts.get("schooljaar")
        version = _version(record.texts.get("xsdversie", ""))
        if version is None:
            return
        self.report.version = int(version[1]), int(version[2])
        product = self._product
        if product is not None and "{}.{}".format(*self.report.version) not in product.reads[self.standard.name]:
            known = ", ".join(product.reads[self.standard.name])
            self._problem(
                record.line,
                "xsdversie",
                f"the product configuration {product.id} reads {self.standard.name} {known} and the file says another "
                "version; leave --product out to read it by the standard alone",
            )

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
        if not las_key:
            self._keyless(record, eck_id)
        if eck_id is None:
            self.report.without_eck_id += 1
            self.report.without_eck_id_las_keys += [las_key] if las_key else []
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

    def _keyless(self, record: Record, eck_id: str | None) -> None:
        """A pupil without LAS key: allowed from UWLR 2.3 on, where the ECK iD is the pupil's key."""
        since, version = self.standard.keyless_from, self.report.version
        if since is None:
            return  # was reported with the structure
        if version is None or version < since:
            self._problem(
                record.line,
                record.name,
                f"the key is missing or empty; an eckid alone is enough from xsdversie {since[0]}.{since[1]} on",
            )
        elif eck_id is None:
            self._problem(record.line, record.name, "the key is missing or empty, and so is a valid eckid in its place")

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
            return key  # a missing or empty key is reported with the structure, or where it may be missing
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
