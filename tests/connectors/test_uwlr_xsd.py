"""Our verdict on UWLR pupil data beside that of the standard's own XSDs, where those are (see test_edexml_xsd)."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from lxml import etree

from broker.connectors import edexml, uwlr
from tests.connectors.messages import as_uwlr
from tests.connectors.test_edexml_xsd import AGREED, DELIBERATE, SAMPLE, STANDARD, Change, swap

REPOSITORY = Path(__file__).parents[2]
UWLR = STANDARD.parent / "uwlr-2.2" / "Schemas"
ENVELOPES = [
    REPOSITORY / "examples/uwlr/po-de-regenboog.xml",
    *sorted(Path(__file__).parent.glob("samples/*.uwlr.xml")),
]
PROFILES = {
    "smalle set": "Profiel_smalle_set/Profiel_Smalle_set_UWLR_Leerlinggegevens_v2p2.xsd",
    "LVS-set": "Profiel_LVS_set/Profiel_LVS_set_UWLR_Leerlinggegevens_v2p2.xsd",
}
ACCEPTED_BY_RULES_THAT_FIND_NOTHING = {
    "vestiging twice", "vestiging unknown", "groep key twice", "groep key also of a combined group", "pupil key twice",
    "pupil eckid twice", "groep unknown", "groep that is a combined one", "samengestelde_groep that is a plain one",
    "employee key twice", "employee eckid twice", "employee group unknown", "employee combined group unknown",
}  # fmt: skip

pytestmark = pytest.mark.skipif(
    not UWLR.is_dir(), reason="the published UWLR 2.2 schemas are not here; set ECK_STANDARDS"
)

Accepts = Callable[[bytes], bool]


def verdict(schema: str) -> Accepts:
    """An XSD as a function from a message to whether it validates."""
    validator = etree.XMLSchema(etree.parse(UWLR / schema))

    def validates(data: bytes) -> bool:
        try:
            return bool(validator.validate(etree.parse(io.BytesIO(data))))
        except etree.XMLSyntaxError:
            return False

    return validates


@pytest.fixture(scope="module")
def accepts() -> Accepts:
    """The XSD of pupil data."""
    return verdict("UWLR_Leerlinggegevens_v2p2.xsd")


@pytest.fixture(scope="module")
def sample() -> str:
    """The official EDEXML example."""
    return SAMPLE.read_text(encoding="utf-8")


_remarks = re.compile(r'<toevoegingen>\s*<blok xsi:type="OpmerkingGegevensType">.*?</toevoegingen>', re.DOTALL)


def message(text: str) -> bytes:
    """A class list as an answer, without what UWLR 2.2 has no place for: a role, and EDEXML's own kind of addition."""
    return as_uwlr(_remarks.sub("", text).replace("<rol>TAL<", "<rol>LRK<")).encode()


def answer_in(data: bytes) -> bytes:
    """The answer, without what stands around it, in a school year that the XSD's list still has."""
    tree = etree.parse(io.BytesIO(data))
    (found,) = tree.iter("{*}leerlinggegevens_antwoord")
    return etree.tostring(found).replace(b"2026-2027", b"2024-2025")


def test_the_official_example_gives_what_it_gives_as_edexml(sample: str, accepts: Accepts) -> None:
    """Valid, usable, and the same enrolments."""
    data = message(sample)
    assert accepts(data)
    assert uwlr.check(io.BytesIO(data)).problems == []
    for read, same in ((uwlr.pupils, edexml.pupils), (uwlr.employees, edexml.employees)):
        assert [replace(e, line=0) for e in read(io.BytesIO(data))] == [replace(e, line=0) for e in same(SAMPLE)]


@pytest.mark.parametrize("name", AGREED)
def test_we_agree_with_the_xsd_but_for_its_rules_that_find_nothing(name: str, sample: str, accepts: Accepts) -> None:
    """The changes of the EDEXML comparison: one verdict, and we alone find duplicates and references without an aim."""
    data = message(AGREED[name](sample))
    report = uwlr.check(io.BytesIO(data))
    if name in ACCEPTED_BY_RULES_THAT_FIND_NOTHING:
        assert accepts(data)
        assert not report.usable
    else:
        assert report.usable == accepts(data), report.problems


@pytest.mark.parametrize(("name", "change", "xsd", "number"), DELIBERATE, ids=[row[0] for row in DELIBERATE])
def test_we_differ_from_the_xsd_as_for_edexml(
    name: str, change: Change, xsd: bool, number: int, sample: str, accepts: Accepts
) -> None:
    """Each difference that `broker.connectors.edexml` lists holds here too."""
    data = message(change(sample))
    assert accepts(data) is xsd
    assert uwlr.check(io.BytesIO(data)).usable is not xsd


def test_the_two_differences_of_uwlr_are_listed_and_true(sample: str, accepts: Accepts) -> None:
    """Keys are checked (9, above); from 2.3 on a pupil needs none (10)."""
    assert set(re.findall(r"^ {4}(\d+)\. ", uwlr.__doc__ or "", flags=re.MULTILINE)) == {"9", "10"}
    eck_id = "https://ketenid.nl/pilot/" + "a" * 128
    text = swap('<leerling key="00002">', f'<leerling eckid="{eck_id}">')(sample)
    data = message(swap("<xsdversie>2.1<", "<xsdversie>2.3<")(text))
    assert not accepts(data)
    assert uwlr.check(io.BytesIO(data)).usable


def test_a_teacher_with_the_role_tal_is_refused_by_both(sample: str, accepts: Accepts) -> None:
    """It is in EDEXML's list only."""
    data = as_uwlr(sample).encode()
    assert "<rol>TAL<" in sample
    assert not accepts(data)
    assert not uwlr.check(io.BytesIO(data)).usable


@pytest.mark.parametrize("path", ENVELOPES, ids=lambda path: path.name)
def test_our_messages_are_valid_but_for_their_school_year(path: Path, accepts: Accepts) -> None:
    """The example and the invented answers of each product; the one of 2.3 has a pupil without key."""
    assert accepts(answer_in(path.read_bytes())) is (path.name != "eduscope.uwlr.xml")


PUPIL_OF = {
    "smalle set": "<jaargroep>6</jaargroep>",
    "LVS-set": "<geboortedatum>2016-02-03</geboortedatum><geslacht>0</geslacht><jaargroep>6</jaargroep>",
}


@pytest.mark.parametrize("profile", PROFILES)
def test_both_profiles_are_read(profile: str) -> None:
    """What validates against a profile's own XSD is read whole; the LVS-set's four digits are counted and dropped."""
    number = "<bsn_ondwnr-4>1649</bsn_ondwnr-4>" if profile == "LVS-set" else ""
    text = (
        "<EDEX><school><schooljaar>2024-2025</schooljaar><peildatum>2024-08-17</peildatum><brincode>99PA</brincode>"
        "<aanmaakdatum>2024-08-17T08:30:00</aanmaakdatum><xsdversie>2.2</xsdversie></school>"
        '<groepen><groep key="G6"><naam>Groep 6</naam><jaargroep>6</jaargroep></groep></groepen>'
        '<leerlingen><leerling key="L1"><achternaam>Verzonnen</achternaam><roepnaam>Anna</roepnaam>'
        f'{PUPIL_OF[profile]}<groep key="G6"/>{number}</leerling></leerlingen></EDEX>'
    )
    data = as_uwlr(text).encode()
    assert verdict(PROFILES[profile])(data)
    report = uwlr.check(io.BytesIO(data))
    assert (report.problems, report.pupils, report.pgn_dropped) == ([], 1, 1 if number else 0)
    assert [(p.las_key, p.year_group, p.group_keys) for p in uwlr.pupils(io.BytesIO(data))] == [("L1", "6", ("G6",))]
