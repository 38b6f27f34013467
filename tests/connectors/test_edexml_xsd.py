"""Our verdict on a class list beside that of the standard's own XSD.

The XSD is not ours to ship; it is used when the folder with the standards is there: `ECK_STANDARDS`, or
`../shared/standards` beside the repository.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

from broker.connectors import edexml
from broker.connectors.edexml import check, employees, pupils

REPOSITORY = Path(__file__).parents[2]
STANDARD = Path(os.environ.get("ECK_STANDARDS", REPOSITORY.parent / "shared" / "standards")) / "edexml-2.1"
SAMPLE = STANDARD / "example-2.1.xml"

pytestmark = pytest.mark.skipif(
    not STANDARD.is_dir(), reason="the published EDEXML 2.1 schema is not here; set ECK_STANDARDS to its folder"
)


@pytest.fixture(scope="module")
def accepts() -> Callable[[bytes], bool]:
    """The XSD as a function from a file to whether it validates."""
    schema = etree.XMLSchema(etree.parse(STANDARD / "EDEXML.structuur.xsd"))

    def validates(data: bytes) -> bool:
        try:
            return bool(schema.validate(etree.parse(io.BytesIO(data))))
        except etree.XMLSyntaxError:
            return False

    return validates


@pytest.fixture(scope="module")
def sample() -> str:
    return SAMPLE.read_text(encoding="utf-8")


Change = Callable[[str], str]


def swap(old: str, new: str) -> Change:
    def change(text: str) -> str:
        assert old in text, old
        return text.replace(old, new, 1)

    return change


def without(pattern: str) -> Change:
    def change(text: str) -> str:
        changed, count = re.subn(pattern, "", text, count=1, flags=re.DOTALL)
        assert count == 1, pattern
        return changed

    return change


PUPIL = '<leerling key="00002">'
AGREED: dict[str, Change] = {
    "nothing changed": lambda text: text,
    "school missing": without("<school>.*?</school>"),
    "schooljaar missing": without("<schooljaar>.*?</schooljaar>"),
    "schooljaar twice": swap("<schooljaar>", "<schooljaar>2014-2015</schooljaar><schooljaar>"),
    "schooljaar not consecutive": swap("2014-2015", "2014-2016"),
    "schooljaar in another form": swap("2014-2015", "2014/2015"),
    "peildatum missing": without("<peildatum>.*?</peildatum>"),
    "peildatum no date": swap("2014-10-01<", "1-10-2014<"),
    "peildatum with time zone": swap("2014-10-01<", "2014-10-01+02:00<"),
    "brincode of a letter too many": swap("99ZZ", "99ZZZ"),
    "brincode in lower case": swap("99ZZ", "99zz"),
    "brincode after dependancecode": swap(
        "<brincode>99ZZ</brincode>\n\t\t<dependancecode>00</dependancecode>",
        "<dependancecode>00</dependancecode><brincode>99ZZ</brincode>",
    ),
    "brincode and instellingsnummer": swap("</brincode>", "</brincode><instellingsnummer>1234</instellingsnummer>"),
    "dependancecode of three digits": swap("<dependancecode>00", "<dependancecode>000"),
    "schoolkey empty": swap("<schoolkey>41323", "<schoolkey>"),
    "aanmaakdatum without time": swap("2014-11-25T14:33:33", "2014-11-25"),
    "aanmaakdatum at 24:00": swap("2014-11-25T14:33:33", "2014-11-25T24:00:00"),
    "aanmaakdatum at 25:00": swap("2014-11-25T14:33:33", "2014-11-25T25:00:00"),
    "aanmaakdatum with fraction and zone": swap("2014-11-25T14:33:33", "2014-11-25T14:33:33.123Z"),
    "auteur of 128": swap("Geert Evers", "x" * 128),
    "auteur of 129": swap("Geert Evers", "x" * 129),
    "commentaar empty": without("Voorbeeld bij EDEXML schema versie 2.1"),
    "text between elements": swap("<leerlingen>", "<leerlingen>tekst"),
    "text after an element": swap("</leerling>", "</leerling>tekst"),
    "text in a pupil": swap("<jaargroep>4</jaargroep>", "<jaargroep>4</jaargroep>tekst"),
    "text in the root": swap("<vestigingen>", "tekst<vestigingen>"),
    "vestigingen empty": without(r"<vestiging key=.*</vestiging>(?=\s*</vestigingen>)"),
    "vestigingen after groepen": lambda text: without("<vestigingen>.*?</vestigingen>")(text).replace(
        "</groepen>\n\t<leerlingen>",
        '</groepen><vestigingen><vestiging key="VH"><naam>x</naam></vestiging>'
        '<vestiging key="VB"><naam>x</naam></vestiging></vestigingen><leerlingen>',
    ),
    "vestiging without key": swap('<vestiging key="VH">\n\t\t\t<naam', "<vestiging><naam"),
    "vestiging twice": swap('vestiging key="VB"', 'vestiging key="VH"'),
    "vestiging unknown": swap('<vestiging key="VB"/>', '<vestiging key="XX"/>'),
    "vestiging name of 65": swap("Vestiging Huissen", "x" * 65),
    "groep without naam": without("<naam>Muizen</naam>"),
    "groep without jaargroep": without("<jaargroep>0</jaargroep>"),
    "groep with unknown jaargroep": swap("<jaargroep>0<", "<jaargroep>9<"),
    "groep with jaargroep and space": swap("<jaargroep>0<", "<jaargroep>0 <"),
    "groep of secondary education": swap("<jaargroep>0<", "<jaargroep>16<"),
    "groep key twice": swap('groep key="002"', 'groep key="001"'),
    "groep key also of a combined group": swap('samengestelde_groep key="sg3"', 'samengestelde_groep key="001"'),
    "groep key empty": swap('groep key="GRP4B">', 'groep key="">'),
    "samengestelde_groep with jaargroep": swap(
        "<naam>Samgroep 3</naam>", "<naam>Samgroep 3</naam><jaargroep>1</jaargroep>"
    ),
    "leerlingen missing": without("<leerlingen>.*</leerlingen>"),
    "leerlingen empty": without(r"<leerling .*</leerling>(?=\s*</leerlingen>)"),
    "leerkrachten missing": without("<leerkrachten>.*</leerkrachten>"),
    "leerkrachten empty": without(r"<leerkracht .*</leerkracht>(?=\s*</leerkrachten>)"),
    "pupil without key": swap(PUPIL, "<leerling>"),
    "pupil with empty key": swap(PUPIL, '<leerling key="">'),
    "pupil with key of 256": swap(PUPIL, f'<leerling key="{"x" * 256}">'),
    "pupil with key of 257": swap(PUPIL, f'<leerling key="{"x" * 257}">'),
    "pupil key twice": swap(PUPIL, '<leerling key="00001">'),
    "pupil with unknown attribute": swap(PUPIL, '<leerling key="00002" naam="x">'),
    "pupil with eckid of 256": swap(PUPIL, f'<leerling key="00002" eckid="{"x" * 256}">'),
    "pupil with eckid of 257": swap(PUPIL, f'<leerling key="00002" eckid="{"x" * 257}">'),
    "pupil eckid twice": lambda text: text.replace(PUPIL, '<leerling key="00002" eckid="e">').replace(
        'key="12345"', 'key="12345" eckid="e"'
    ),
    "one eckid for a pupil and an employee": swap(PUPIL, '<leerling key="00002" eckid="https://id.school/abcde">'),
    "pupil with the key of an employee": swap(PUPIL, '<leerling key="LK1">'),
    "pupil without names": without("<achternaam>Hof.*?<roepnaam>Gradje</roepnaam>"),
    "pupil with roepnaam only": without("<achternaam>ie.*?</voorletters-1>"),
    "pupil with roepnaam and voorvoegsel": without("<achternaam>Hof</achternaam>"),
    "pupil with achternaam only": without("<voornamen>Isma.*?IH</voorletters-1>"),
    "achternaam of 200": swap("Assati", "x" * 200),
    "achternaam of 201": swap("Assati", "x" * 201),
    "achternaam empty": swap("Assati", ""),
    "voorvoegsel of 11": swap("van 't", "x" * 11),
    "voorletters of 7": swap("<voorletters-1>G<", "<voorletters-1>GHIJKLM<"),
    "names in another order": swap(
        "<roepnaam>Wimpie</roepnaam>\n\t\t\t<geboortedatum>2006-06-21</geboortedatum>",
        "<geboortedatum>2006-06-21</geboortedatum><roepnaam>Wimpie</roepnaam>",
    ),
    "geboortedatum impossible": swap("2006-06-21", "2006-06-31"),
    "geslacht unknown": swap("<geslacht>1", "<geslacht>3"),
    "geslacht with space": swap("<geslacht>1", "<geslacht> 1 "),
    "jaargroep twice": swap("<jaargroep>H</jaargroep>", "<jaargroep>H</jaargroep><jaargroep>H</jaargroep>"),
    "jaargroep of the pupil unknown": swap("<jaargroep>H<", "<jaargroep>X<"),
    "jaargroep empty": swap("<jaargroep>H<", "<jaargroep><"),
    "jaargroep after groep": swap(
        '<jaargroep>4</jaargroep>\n\t\t\t<groep key="GRP4B"/>', '<groep key="GRP4B"/><jaargroep>4</jaargroep>'
    ),
    "groep twice": swap('<groep key="GRP4B"/>', '<groep key="GRP4B"/><groep key="GRP4A"/>'),
    "groep unknown": swap('<groep key="GRP4B"/>', '<groep key="nergens"/>'),
    "groep without key in pupil": swap('<groep key="GRP4B"/>', "<groep/>"),
    "groep that is a combined one": swap('<groep key="GRP4B"/>', '<groep key="sg1"/>'),
    "samengestelde_groep that is a plain one": swap('groep key="sg2"/>\n\t\t\t</s', 'groep key="001"/></s'),
    "samengestelde_groepen empty": without(r'<samengestelde_groep key="sg1"/>\s*<samengestelde_groep key="sg2"/>'),
    "fotourl": swap("<land>MA", "<fotourl>x</fotourl><land>MA"),
    "emailadres of 257": swap("<land>MA", f"<emailadres>{'x' * 257}</emailadres><land>MA"),
    "gebruikersnaam of 65": swap("<land>MA", f"<gebruikersnaam>{'x' * 65}</gebruikersnaam><land>MA"),
    "etniciteit unknown": swap("<land>MA", "<etniciteit>5</etniciteit><land>MA"),
    "land of three letters": swap("<land>MA", "<land>MAR"),
    "land unknown (?)": swap("<land>MA", "<land>?"),
    "bsn and onderwijsnummer": swap("</bsn>", "</bsn><onderwijsnummer>100310303</onderwijsnummer>"),
    "bsn twice": swap("</bsn>", "</bsn><bsn>182071649</bsn>"),
    "onderwijsnummer instead of bsn": lambda text: text.replace("bsn>", "onderwijsnummer>"),
    "gewicht_nieuw with a point": swap("0,3", "0.3"),
    "gewicht with a comma": swap("</gewicht_nieuw>", "</gewicht_nieuw><gewicht>0,25</gewicht>"),
    "gewicht": swap("</gewicht_nieuw>", "</gewicht_nieuw><gewicht>0.25</gewicht>"),
    "postcode with a space": swap("6971VB", "6971 VB"),
    "two postcodes": swap("</postcodenl>", "</postcodenl><postnummerbe>1000</postnummerbe>"),
    "uitstroomdatum before instroomdatum in order": swap(
        "<instroomdatum>2010-08-19</instroomdatum>\n\t\t\t<uitstroomdatum>2014-07-18</uitstroomdatum>",
        "<uitstroomdatum>2014-07-18</uitstroomdatum><instroomdatum>2010-08-19</instroomdatum>",
    ),
    "uitstroomdatum earlier": swap("2014-07-18", "2009-07-18"),
    "mutatiedatum no time": swap("2014-09-07T08:47:34", "2014-09-07"),
    "unknown element in pupil": swap("<land>MA", "<schoenmaat>35</schoenmaat><land>MA"),
    "unknown element in root": swap("<leerlingen>", "<lokalen/><leerlingen>"),
    "unknown element in a leaf": swap("<naam>Muizen</naam>", "<naam><b>Muizen</b></naam>"),
    "element in another namespace": swap("<land>MA</land>", '<land xmlns="urn:x">MA</land>'),
    "attribute on a leaf": swap("<land>MA", '<land soort="x">MA'),
    "attribute on a container": swap("<leerlingen>", '<leerlingen aantal="3">'),
    "another root": lambda text: text.replace("<EDEX ", "<EDEXML ").replace("</EDEX>", "</EDEXML>"),
    "rol unknown": swap("<rol>TAL<", "<rol>BAAS<"),
    "rol and rolomschrijving mixed": swap("<rol>TAL<", "<rol>IB</rol><rolomschrijving>x</rolomschrijving><rol>TAL<"),
    "rolomschrijving of 65": swap("Manusje van alles", "x" * 65),
    "rol of an employee in a group unknown": swap("<rol>STA<", "<rol>QQQ<"),
    "employee without key": swap('<leerkracht key="LK3">', "<leerkracht>"),
    "employee key twice": swap('<leerkracht key="LK3">', '<leerkracht key="LK1">'),
    "employee eckid twice": swap('<leerkracht key="LK3">', '<leerkracht key="LK3" eckid="https://id.school/abcde">'),
    "employee group unknown": swap('<groep key="002"/>', '<groep key="nergens"/>'),
    "employee combined group unknown": swap('<samengestelde_groep key="sg3"/>', '<samengestelde_groep key="nergens"/>'),
    "employee groups empty": without(r'(?<=<groepen>)\s*<groep key="GRP4A"/>\s*(?=</groepen>)'),
    "employee rol after groepen": lambda text: without("<rol>TAL</rol>")(
        swap("</groepen>\n\t\t</leerkracht>", "</groepen><rol>IB</rol></leerkracht>")(text)
    ),
    "not closed": without("</leerlingen>"),
    "cut off": lambda text: text[:-20],
}  # fmt: skip

# Name, change, whether the XSD accepts, and the number of the difference in the module's docstring.
DELIBERATE: list[tuple[str, Change, bool, int]] = [
    ("no brincode", without("<brincode>.*?</dependancecode>"), True, 1),
    ("a Flemish school", lambda text: swap("brincode>99ZZ</brincode", "instellingsnummer>1234</instellingsnummer")(
        without("<dependancecode>00</dependancecode>")(text)), True, 1),
    ("brincode in Arabic-Indic digits", swap("99ZZ", "٩٩ZZ"), True, 2),
    ("brincode in Greek capitals", swap("99ZZ", "99ΩΩ"), True, 2),
    ("postcode in Arabic-Indic digits", swap("6971VB", "٦٩٧١VB"), True, 2),
    ("keys that are one after normalisation",
     lambda t: t.replace('key="00002"', 'key="Zo\u00eb"').replace('key="12345"', 'key="Zoe\u0308"'), True, 3),
    ("a blank key", swap(PUPIL, '<leerling key="  ">'), True, 3),
    ("a LAS key that is a BSN", swap(PUPIL, '<leerling key="182071649">'), True, 3),
    ("a document type", swap("<EDEX ", "<!DOCTYPE EDEX>\n<EDEX "), True, 4),
    ("xsi:type on a pupil", swap(PUPIL, '<leerling key="00002" xsi:type="LeerlingType">'), True, 5),
    ("a school year after the list", swap("2014-2015", "2026-2027"), False, 6),
    ("a school year before the list", swap("2014-2015", "1989-1990"), False, 6),
    ("additions of a type of a supplier", swap('xsi:type="OpmerkingGegevensType"', 'xsi:type="Eigen"'), False, 7),
    ("additions without content", without(r"(?<=<toevoegingen>)\s*<blok.*?(?=</toevoegingen>)"), False, 7),
    ("bsn of eight digits", swap("<bsn>133456785", "<bsn>33456785"), False, 7),
    ("bsn_ondwnr-4 of five digits", swap("<bsn_ondwnr-4>2731", "<bsn_ondwnr-4>12731"), False, 7),
    ("a country that is not listed", swap("<land>MA", "<land>XQ"), False, 8),
    ("an empty eckid", swap(PUPIL, '<leerling key="00002" eckid="">'), False, 8),
    ("white space in an empty element", swap('<groep key="GRP4B"/>', '<groep key="GRP4B"> </groep>'), False, 8),
]  # fmt: skip


def test_the_official_example_goes_through() -> None:
    """No problem; two personal numbers dropped, and three eckids of the form of before 2018 with a warning."""
    report = check(SAMPLE)
    assert report.problems == []
    assert [(w.line, w.element) for w in report.warnings] == [
        (77, "leerling"),
        (136, "leerkracht"),
        (146, "leerkracht"),
    ]
    assert (report.brin, report.location, report.school_year) == ("99ZZ", None, "2014-2015")
    assert (report.pupils, report.teachers, report.groups) == (3, 3, 8)
    assert (report.with_eck_id, report.without_eck_id, report.pgn_dropped) == (0, 3, 2)
    assert [(p.las_key, p.year_group, p.group_keys, p.location) for p in pupils(SAMPLE)] == [
        ("00001", "4", ("GRP4B", "sg1", "sg2"), "VH"),
        ("00002", "4", (), "VB"),
        ("12345", "H", (), None),
    ]
    assert [e.group_keys for e in employees(SAMPLE)] == [("GRP4A",), ("002", "sg1", "001", "sg2", "sg3"), ("GRP4A",)]


@pytest.mark.parametrize("name", AGREED)
def test_we_agree_with_the_xsd(name: str, sample: str, accepts: Callable[[bytes], bool]) -> None:
    """Missing, repeated, misplaced and unknown elements, lengths, codes, keys and references: one verdict."""
    data = AGREED[name](sample).encode()
    report = check(io.BytesIO(data))
    assert report.usable == accepts(data), report.problems


@pytest.mark.parametrize(("name", "change", "xsd", "number"), DELIBERATE, ids=[row[0] for row in DELIBERATE])
def test_we_differ_from_the_xsd_where_we_say_so(
    name: str, change: Change, xsd: bool, number: int, sample: str, accepts: Callable[[bytes], bool]
) -> None:
    """Each row is one of the differences listed in the module's docstring, in its direction."""
    data = change(sample).encode()
    assert data != sample.encode()
    assert accepts(data) is xsd
    assert check(io.BytesIO(data)).usable is not xsd


def test_every_listed_difference_is_tried() -> None:
    """The docstring's numbers and the rows above are the same set."""
    listed = {int(number) for number in re.findall(r"^ {4}(\d)\. ", edexml.__doc__ or "", flags=re.MULTILINE)}
    assert listed == {number for *_, number in DELIBERATE}


@pytest.mark.parametrize(
    "name", ["po-de-regenboog.xml", "po-de-regenboog-vso.xml", "vo-het-kompas.xml", "mbo-de-werf.xml"]
)
def test_the_examples_validate_but_for_their_school_year(name: str, accepts: Callable[[bytes], bool]) -> None:
    """With a year that is on the XSD's list they are valid EDEXML 2.1."""
    data = (REPOSITORY / "examples" / "edexml" / name).read_bytes()
    assert not accepts(data)
    assert accepts(data.replace(b"2026-2027", b"2024-2025"))


def test_both_verdicts_are_seen(sample: str, accepts: Callable[[bytes], bool]) -> None:
    """The comparison says something: among the agreed changes are accepted and refused ones."""
    verdicts = [accepts(change(sample).encode()) for change in AGREED.values()]
    assert verdicts.count(True) >= 15
    assert verdicts.count(False) >= 60
