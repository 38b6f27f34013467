"""The structure of EDEXML 2.1 and of UWLR 2.2 pupil data as data: which element may stand where, with what text.

Written from the standards: EDEXML's `EDEXML.structuur.xsd` and `EDEXML.elementen.xsd` (2016-12-07) with
`EDEXML.types.variabel.xsd` (2017-02-17), and UWLR's `UWLR_Leerlinggegevens_v2p2.xsd` (2017-05-15) with the EDEXML
files that come with it. UWLR's elements are those of EDEXML, in a namespace, within an answer and mostly within a
SOAP envelope; its teachers can not have the role TAL. Its two profiles (smalle set, LVS-set) leave elements out or
require them, and add none, so what reads the whole reads them too. Where we judge otherwise than the XSDs, on purpose,
is listed in `broker.connectors.edexml` and `broker.connectors.uwlr`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Literal

from broker.connectors.shapes import (
    Position,
    Shape,
    chars,
    check_date,
    check_datetime,
    check_gender,
    choice,
    codes,
    form,
    many,
    one,
    opt,
    shape,
    some,
)
from broker.identity.formats import is_brin, is_school_year

__all__ = ["EDEXML", "UWLR", "Standard", "StandardName"]

StandardName = Literal["edexml", "uwlr"]


@dataclass(frozen=True, slots=True)
class Standard:
    """A standard for class lists, as its reader needs it.

    Attributes:
        name: how commands and configurations call it.
        namespaces: `{namespace}` as the parser writes it -> what stands before the element's name in `roots`.
        roots: the elements a file may begin with.
        wrong_root: what to say of a file that begins with another one.
        keyless_from: the version from which a pupil with an ECK iD needs no LAS key; None: never.
    """

    name: StandardName
    namespaces: Mapping[str, str]
    roots: Mapping[str, Shape]
    wrong_root: str
    keyless_from: tuple[int, int] | None = None

    def element(self, tag: str) -> str | None:
        """The name of an element as `roots` and the shapes have it; None if its namespace is not of this standard."""
        space, brace, name = tag.rpartition("}")
        prefix = self.namespaces.get(space + brace)
        return None if prefix is None else prefix + name


_ANY_TEXT = Shape(text=lambda _text: None)
_TEXT32, _TEXT64, _TEXT128, _TEXT256 = chars(32), chars(64), chars(128), chars(256)
_DATE, _CARRIED_DATE = Shape(text=check_date), Shape(text=check_date, carry=True)
_DATETIME = Shape(text=check_datetime)
_TWO_DIGITS = Shape(text=lambda t: None if re.fullmatch("[0-9]{2}", t) else "is not two digits", carry=True)
_YEAR_GROUPS: Final = ("B", "D", *"012345678", "11", "12", "13", "14", "15", "16", "S", "V", "C", "N", "H")
_YEAR_GROUP = codes(*_YEAR_GROUPS, carry=True)
_COUNTRY = form(r"\?|[A-Z]{2}", "a country code")
_ROLES: Final = (
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
    "VAK",
)
_ROLE_OF_EDEXML: Final = "TAL"  # the leader of a test; not in UWLR 2.2
_PGN = Shape(pgn=True)
_ADDITIONS = Shape(opaque=True)
_REFERENCE = shape(key=True)


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
    opt("achternaam", chars(200)),
    opt("voorvoegsel", chars(10)),
    opt("voornamen", chars(200)),
    opt("voorletters-1", chars(6)),
    opt("roepnaam", _TEXT64),
)

_SCHOOL = shape(
    one("schooljaar", Shape(text=lambda t: None if is_school_year(t) else "is not a school year", carry=True)),
    opt("peildatum", _DATE),
    choice(
        brincode=Shape(text=lambda t: None if is_brin(t) else "is not a BRIN", carry=True),
        instellingsnummer=form(r"[0-9]{2,6}", "two to six digits"),
    ),
    opt("dependancecode", _TWO_DIGITS),
    opt("schoolkey", _TEXT256),
    opt("aanmaakdatum", _DATETIME),
    opt("auteur", _TEXT128),
    opt("xsdversie", replace(_TEXT32, carry=True)),
    opt("commentaar", _ANY_TEXT),
    opt("toevoegingen", _ADDITIONS),
    rule=_check_school,
    record=True,
)
_LOCATION = shape(
    one("naam", _TEXT64),
    opt("omschrijving", _TEXT256),
    opt("mutatiedatum", _DATETIME),
    key=True,
    record=True,
)
_GROUP = shape(
    one("naam", _TEXT64),
    one("jaargroep", _YEAR_GROUP),
    opt("omschrijving", _TEXT256),
    opt("toevoegingen", _ADDITIONS),
    opt("mutatiedatum", _DATETIME),
    key=True,
    record=True,
)
_COMBINED_GROUP = shape(
    one("naam", _TEXT64),
    opt("omschrijving", _TEXT256),
    opt("toevoegingen", _ADDITIONS),
    opt("mutatiedatum", _DATETIME),
    key=True,
    record=True,
)
_PUPIL = shape(
    *_NAMES,
    opt("geboortedatum", _DATE),
    opt("geslacht", Shape(text=check_gender)),
    opt("start_ondw_jgr3", _DATE),
    opt("jaargroep", _YEAR_GROUP),
    opt("groep", _REFERENCE),
    opt("samengestelde_groepen", shape(some(samengestelde_groep=_REFERENCE))),
    opt("vestiging", _REFERENCE),
    opt("gebruikersnaam", _TEXT64),
    opt("emailadres", _TEXT256),
    opt("fotourl", _TEXT256),
    opt("etniciteit", codes("9", "0", "1")),
    opt("land", _COUNTRY),
    opt("land_vader", _COUNTRY),
    opt("land_moeder", _COUNTRY),
    choice(
        **{
            "sofinummer": _PGN,
            "bsn": _PGN,
            "onderwijsnummer": _PGN,
            "bsn_ondwnr-4": _PGN,
            "rijksregisternummer": _PGN,
        }
    ),
    opt("gewicht_nieuw", codes("?", "0", "0,3", "1,2")),
    opt("gewicht", codes("?", "0.00", "0.25", "0.40", "0.70", "0.90")),
    choice(
        postcodenl=form(r"[0-9]{4}[A-Z]{2}", "a postcode (9999XX)"),
        postnummerbe=form(r"[0-9]{4}", "a postal number of four digits"),
        postcodeoverig=_TEXT32,
    ),
    opt("instroomdatum", _CARRIED_DATE),
    opt("uitstroomdatum", _CARRIED_DATE),
    opt("toevoegingen", _ADDITIONS),
    opt("mutatiedatum", _DATETIME),
    rule=_check_names,
    key=True,
    eckid=True,
    record=True,
)


def _employee(*roles: str) -> Shape:
    rol = many(rol=codes(*roles), rolomschrijving=_TEXT64)
    group = shape(rol, key=True)
    return shape(
        *_NAMES,
        opt("gebruikersnaam", _TEXT64),
        opt("emailadres", _TEXT256),
        rol,
        opt("groepen", shape(some(groep=group, samengestelde_groep=group))),
        opt("toevoegingen", _ADDITIONS),
        opt("mutatiedatum", _DATETIME),
        rule=_check_names,
        key=True,
        eckid=True,
        record=True,
    )


def _class_list(pupil: Shape, employee: Shape) -> Shape:
    return shape(
        one("school", _SCHOOL),
        opt("vestigingen", shape(some(vestiging=_LOCATION))),
        opt("groepen", shape(some(groep=_GROUP, samengestelde_groep=_COMBINED_GROUP))),
        one("leerlingen", shape(some(leerling=pupil))),
        opt("leerkrachten", shape(some(leerkracht=employee))),
        schema_location=True,
    )


EDEXML: Final = Standard(
    name="edexml",
    namespaces=MappingProxyType({"": ""}),
    roots=MappingProxyType({"EDEX": _class_list(_PUPIL, _employee(*_ROLES, _ROLE_OF_EDEXML))}),
    wrong_root="is not EDEX, the root of a class list; an answer of a UWLR service goes to `broker connect uwlr`",
)

# --- UWLR ------------------------------------------------------------------------------------------------------

_STAGED: Final = ("structuur_antwoord", "leerlingen_antwoord", "leerkrachten_antwoord")
_FAULT: Final = "soap:Fault"


def _check_body(present: Collection[str]) -> str | None:
    if _FAULT in present:
        return "holds a SOAP fault and no pupil data; the administration's log says why"
    if any(name in present for name in _STAGED):
        return "holds a part of the data (an answer in stages); ask for the whole with HaalLeerlinggegevens"
    return None


_NO_DATA = Shape(record=True)
_ANSWER = shape(
    Position(
        {
            "leerlinggegevens": _class_list(replace(_PUPIL, keyless=True), _employee(*_ROLES)),
            "geenwijzigingen": _NO_DATA,
            "geengegevens": _NO_DATA,
        },
        required=True,
    ),
    schema_location=True,
)
_BODY = shape(
    Position(
        {"leerlinggegevens_antwoord": _ANSWER, **dict.fromkeys((_FAULT, *_STAGED), Shape(opaque=True))}, required=True
    ),
    rule=_check_body,
    any_attributes=True,
)
_ENVELOPE = shape(opt("soap:Header", Shape(opaque=True)), one("soap:Body", _BODY), any_attributes=True)

UWLR: Final = Standard(
    name="uwlr",
    namespaces=MappingProxyType(
        {
            "{http://www.edustandaard.nl/leerresultaten/2/leerlinggegevens}": "",
            "{http://schemas.xmlsoap.org/soap/envelope/}": "soap:",
        }
    ),
    roots=MappingProxyType({"leerlinggegevens_antwoord": _ANSWER, "soap:Envelope": _ENVELOPE}),
    wrong_root=(
        "is not leerlinggegevens_antwoord of UWLR 2, nor a SOAP 1.1 envelope; ask for it with HaalLeerlinggegevens; "
        "an EDEXML file goes to `broker connect edexml`"
    ),
    keyless_from=(2, 3),
)
