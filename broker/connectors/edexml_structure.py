"""The structure of EDEXML 2.1 as data: which element may stand where, and what form its text has.

Written from the standard (`EDEXML.structuur.xsd`, `EDEXML.elementen.xsd`, versions 2016-12-07, and
`EDEXML.types.variabel.xsd`, 2017-02-17). Where we judge otherwise than the XSD, on purpose, is listed in
`broker.connectors.edexml`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType
from typing import Final

from broker.identity.formats import is_brin, is_school_year

__all__ = ["KEY_MAX_CHARS", "ROOT", "Shape", "as_date"]

KEY_MAX_CHARS: Final = 256
"""`EDEXKeyType`: every key, and the eckid attribute."""

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


@dataclass(frozen=True, slots=True)
class _Position:
    shapes: dict[str, Shape]
    required: bool = False
    many: bool = False


def _one(name: str, shape: Shape) -> _Position:
    return _Position({name: shape}, required=True)


def _opt(name: str, shape: Shape) -> _Position:
    return _Position({name: shape})


def _choice(**shapes: Shape) -> _Position:
    return _Position(shapes)


def _many(**shapes: Shape) -> _Position:
    return _Position(shapes, many=True)


def _some(**shapes: Shape) -> _Position:
    return _Position(shapes, many=True, required=True)


def _shape(
    *sequence: _Position, rule: Rule | None = None, key: bool = False, eckid: bool = False, record: bool = False
) -> Shape:
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
    )


# --- texts -----------------------------------------------------------------------------------------------------


def _chars(longest: int, shortest: int = 1) -> Shape:
    def check(text: str) -> str | None:
        if len(text) < shortest:
            return "is empty"
        return None if len(text) <= longest else f"is longer than {longest} characters"

    return Shape(text=check)


def _codes(*codes: str, carry: bool = False) -> Shape:
    allowed = frozenset(codes)
    return Shape(text=lambda text: None if text in allowed else "is not one of the codes of the standard", carry=carry)


def _form(pattern: str, words: str) -> Shape:
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


def _check_date(text: str) -> str | None:
    return None if as_date(text) is not None else "is not a date (YYYY-MM-DD)"


def _check_datetime(text: str) -> str | None:
    return None if _day(_datetime(text.strip(_XML_SPACE))) is not None else "is not a date with time"


def _check_gender(text: str) -> str | None:
    # An xs:integer: white space around it is not part of it.
    return None if text.strip(_XML_SPACE) in {"0", "1", "2", "9"} else "is not one of the codes of the standard"


_ANY_TEXT = Shape(text=lambda _text: None)
_TEXT32, _TEXT64, _TEXT128, _TEXT256 = _chars(32), _chars(64), _chars(128), _chars(256)
_DATE, _CARRIED_DATE = Shape(text=_check_date), Shape(text=_check_date, carry=True)
_DATETIME = Shape(text=_check_datetime)
_TWO_DIGITS = Shape(text=lambda t: None if re.fullmatch("[0-9]{2}", t) else "is not two digits", carry=True)
_YEAR_GROUPS: Final = ("B", "D", *"012345678", "11", "12", "13", "14", "15", "16", "S", "V", "C", "N", "H")
_YEAR_GROUP = _codes(*_YEAR_GROUPS, carry=True)
_COUNTRY = _form(r"\?|[A-Z]{2}", "a country code")
_ROLE = _codes(
    *(
        "ADJ",
        "ADM",
        "CON",
        "DIR",
        "ICT",
        "IB",
        "KLA",
        "LRK",
        "LOS",
        "LOC",
        "OWA",
        "OUD",
        "RT",
        "SMW",
        "STA",
        "TAL",
        "VAK",
    )
)
_PGN = Shape(pgn=True)
_ADDITIONS = Shape(opaque=True)
_REFERENCE = _shape(key=True)


# --- records ---------------------------------------------------------------------------------------------------


def _check_names(present: Collection[str]) -> str | None:
    if "achternaam" in present:
        return None
    if "roepnaam" not in present:
        return "achternaam or roepnaam is missing"
    given = {"voorvoegsel", "voornamen", "voorletters-1"}.intersection(present)
    return "achternaam is missing beside its other parts" if given else None


def _check_school(present: Collection[str]) -> str | None:
    return None if "brincode" in present else "brincode is missing"


_NAMES = (
    _opt("achternaam", _chars(200)),
    _opt("voorvoegsel", _chars(10)),
    _opt("voornamen", _chars(200)),
    _opt("voorletters-1", _chars(6)),
    _opt("roepnaam", _TEXT64),
)
_ROLES = _many(rol=_ROLE, rolomschrijving=_TEXT64)

_SCHOOL = _shape(
    _one("schooljaar", Shape(text=lambda t: None if is_school_year(t) else "is not a school year", carry=True)),
    _opt("peildatum", _DATE),
    _choice(
        brincode=Shape(text=lambda t: None if is_brin(t) else "is not a BRIN", carry=True),
        instellingsnummer=_form(r"[0-9]{2,6}", "two to six digits"),
    ),
    _opt("dependancecode", _TWO_DIGITS),
    _opt("schoolkey", _TEXT256),
    _opt("aanmaakdatum", _DATETIME),
    _opt("auteur", _TEXT128),
    _opt("xsdversie", _TEXT32),
    _opt("commentaar", _ANY_TEXT),
    _opt("toevoegingen", _ADDITIONS),
    rule=_check_school,
    record=True,
)
_LOCATION = _shape(
    _one("naam", _TEXT64),
    _opt("omschrijving", _TEXT256),
    _opt("mutatiedatum", _DATETIME),
    key=True,
    record=True,
)
_GROUP = _shape(
    _one("naam", _TEXT64),
    _one("jaargroep", _YEAR_GROUP),
    _opt("omschrijving", _TEXT256),
    _opt("toevoegingen", _ADDITIONS),
    _opt("mutatiedatum", _DATETIME),
    key=True,
    record=True,
)
_COMBINED_GROUP = _shape(
    _one("naam", _TEXT64),
    _opt("omschrijving", _TEXT256),
    _opt("toevoegingen", _ADDITIONS),
    _opt("mutatiedatum", _DATETIME),
    key=True,
    record=True,
)
_PUPIL = _shape(
    *_NAMES,
    _opt("geboortedatum", _DATE),
    _opt("geslacht", Shape(text=_check_gender)),
    _opt("start_ondw_jgr3", _DATE),
    _opt("jaargroep", _YEAR_GROUP),
    _opt("groep", _REFERENCE),
    _opt("samengestelde_groepen", _shape(_some(samengestelde_groep=_REFERENCE))),
    _opt("vestiging", _REFERENCE),
    _opt("gebruikersnaam", _TEXT64),
    _opt("emailadres", _TEXT256),
    _opt("fotourl", _TEXT256),
    _opt("etniciteit", _codes("9", "0", "1")),
    _opt("land", _COUNTRY),
    _opt("land_vader", _COUNTRY),
    _opt("land_moeder", _COUNTRY),
    _choice(
        **{
            "sofinummer": _PGN,
            "bsn": _PGN,
            "onderwijsnummer": _PGN,
            "bsn_ondwnr-4": _PGN,
            "rijksregisternummer": _PGN,
        }
    ),
    _opt("gewicht_nieuw", _codes("?", "0", "0,3", "1,2")),
    _opt("gewicht", _codes("?", "0.00", "0.25", "0.40", "0.70", "0.90")),
    _choice(
        postcodenl=_form(r"[0-9]{4}[A-Z]{2}", "a postcode (9999XX)"),
        postnummerbe=_form(r"[0-9]{4}", "a postal number of four digits"),
        postcodeoverig=_TEXT32,
    ),
    _opt("instroomdatum", _CARRIED_DATE),
    _opt("uitstroomdatum", _CARRIED_DATE),
    _opt("toevoegingen", _ADDITIONS),
    _opt("mutatiedatum", _DATETIME),
    rule=_check_names,
    key=True,
    eckid=True,
    record=True,
)
_GROUP_OF_EMPLOYEE = _shape(_ROLES, key=True)
_EMPLOYEE = _shape(
    *_NAMES,
    _opt("gebruikersnaam", _TEXT64),
    _opt("emailadres", _TEXT256),
    _ROLES,
    _opt("groepen", _shape(_some(groep=_GROUP_OF_EMPLOYEE, samengestelde_groep=_GROUP_OF_EMPLOYEE))),
    _opt("toevoegingen", _ADDITIONS),
    _opt("mutatiedatum", _DATETIME),
    rule=_check_names,
    key=True,
    eckid=True,
    record=True,
)

ROOT: Final = _shape(
    _one("school", _SCHOOL),
    _opt("vestigingen", _shape(_some(vestiging=_LOCATION))),
    _opt("groepen", _shape(_some(groep=_GROUP, samengestelde_groep=_COMBINED_GROUP))),
    _one("leerlingen", _shape(_some(leerling=_PUPIL))),
    _opt("leerkrachten", _shape(_some(leerkracht=_EMPLOYEE))),
)
"""The shape of the `EDEX` element."""
