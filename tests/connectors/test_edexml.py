"""EDEXML class lists: what is carried, what is dropped, what is a problem, and what is only a warning."""

from __future__ import annotations

import io
import json
import re
from datetime import date
from pathlib import Path

import pytest

from broker.connectors import edexml
from broker.connectors.edexml import Limits, Problem, check, employees, pupils
from broker.errors import ConfigError, ContractError

EXAMPLES = Path(__file__).parents[2] / "examples" / "edexml"
# Published test values (Nummervoorziening reference implementation, SEM Ecosysteem).
ECK_ID = (
    "https://ketenid.nl/pilot/5889fc51565c5488833c42cb2b724c67107bb250be8ed99c881c89632adc37b05d"
    "d197ee95af1c75be47cb7f9a593ad9ddb2e1f25d2e52c90dbb8dcae4515763"
)
OTHER_ECK_ID = (
    "https://ketenid.nl/201703/1a5c9c7203901866532c2d72ce056e1d29cacc70836fe2bc3a517f3f9a53eed3"
    "d77ef370ad6dcf80b3f34ced1c547c7d2e679e8e47002355f938213b3656b206"
)
STAMPSEUDONIEM = (
    "https://ketenid.nl/sppilot/d0f58d6544562db32383d9fbd7e7d1c6857f9eb8fdaf43db9ac4fac8f3c6897c"
    "c6149985fe4a7b91b9be09a11c65b6bfd4d900357b0c96336b5521aaee261cf7"
)
BSN = "182071649"

CLASS_LIST = f"""<?xml version="1.0" encoding="UTF-8"?>
<EDEX>
  <school>
    <schooljaar>2026-2027</schooljaar>
    <brincode>99PA</brincode>
    <dependancecode>03</dependancecode>
  </school>
  <vestigingen>
    <vestiging key="VH"><naam>Hoofdgebouw</naam></vestiging>
  </vestigingen>
  <groepen>
    <groep key="G6"><naam>Groep 6</naam><jaargroep>6</jaargroep></groep>
    <groep key="G78"><naam>Groep 7/8</naam><jaargroep>C</jaargroep></groep>
    <samengestelde_groep key="S1"><naam>Plus</naam></samengestelde_groep>
  </groepen>
  <leerlingen>
    <leerling key="L0001" eckid="{ECK_ID}">
      <achternaam>Verzonnen</achternaam><roepnaam>Anna</roepnaam>
      <geboortedatum>2016-02-03</geboortedatum>
      <groep key="G6"/>
      <samengestelde_groepen><samengestelde_groep key="S1"/></samengestelde_groepen>
      <vestiging key="VH"/>
      <bsn>{BSN}</bsn>
      <instroomdatum>2021-08-01</instroomdatum>
      <uitstroomdatum>2027-07-31</uitstroomdatum>
    </leerling>
    <leerling key="L0002">
      <roepnaam>Bas</roepnaam>
      <groep key="G78"/>
    </leerling>
  </leerlingen>
  <leerkrachten>
    <leerkracht key="M1" eckid="{OTHER_ECK_ID}">
      <achternaam>Bedacht</achternaam>
      <rol>LRK</rol>
      <groepen><groep key="G6"><rol>LRK</rol></groep><samengestelde_groep key="S1"/></groepen>
    </leerkracht>
  </leerkrachten>
</EDEX>
"""


def changed(*changes: tuple[str, str]) -> io.BytesIO:
    """The class list with texts replaced; each must be there."""
    text = CLASS_LIST
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return io.BytesIO(text.encode())


def reasons(source: io.BytesIO) -> list[tuple[str, str]]:
    return [(problem.element, problem.reason) for problem in check(source).problems]


def test_a_report_counts_what_is_in_the_file() -> None:
    """School, persons, groups, ECK iDs of pupils, and personal numbers that were dropped."""
    report = check(changed())
    assert report.usable
    assert (report.brin, report.location, report.school_year) == ("99PA", "03", "2026-2027")
    assert (report.pupils, report.teachers, report.groups) == (2, 1, 3)
    assert (report.with_eck_id, report.without_eck_id, report.pgn_dropped) == (1, 1, 1)
    assert report.without_eck_id_las_keys == ["L0002"]
    assert report.problems == []
    assert report.warnings == []


def test_a_pupil_is_carried_with_ids_and_nothing_else() -> None:
    """LAS key, ECK iD, year group, groups, last day and location; the fields are all there are."""
    first, second = pupils(changed())
    assert first == edexml.Enrolment(
        kind="PUPIL",
        las_key="L0001",
        eck_id=ECK_ID,
        year_group="6",
        group_keys=("G6", "S1"),
        left_on=date(2027, 7, 31),
        location="VH",
        line=17,
    )
    assert (second.las_key, second.eck_id, second.year_group, second.group_keys) == ("L0002", None, None, ("G78",))


def test_an_employee_is_carried_with_ids_and_nothing_else() -> None:
    """Kind, key, ECK iD and groups."""
    (employee,) = employees(changed())
    assert (employee.kind, employee.las_key, employee.eck_id) == ("EMPLOYEE", "M1", OTHER_ECK_ID)
    assert employee.group_keys == ("G6", "S1")
    assert (employee.year_group, employee.left_on, employee.location) == (None,) * 3


def test_the_pupils_own_year_group_outweighs_that_of_the_group() -> None:
    """In a combination group ("C") the year group is recorded per pupil."""
    source = changed(('<groep key="G78"/>', '<jaargroep>8</jaargroep><groep key="G78"/>'))
    assert [pupil.year_group for pupil in pupils(source)] == ["6", "8"]


def test_no_identifier_shows_in_a_repr() -> None:
    """An enrolment says kind and line; a report says counts. Both end in logs."""
    texts = [repr(e) for e in [*pupils(changed()), *employees(changed())]] + [repr(check(changed()))]
    for text in texts:
        assert "L000" not in text
        assert "M1" not in text
        assert "ketenid" not in text
        assert "G6" not in text


def test_the_json_report_has_exactly_the_announced_fields() -> None:
    """Counts and problems, no identifier, no key of a pupil."""
    report = json.loads(check(changed(("<schooljaar>2026-2027", "<schooljaar>2026-2028"))).to_json())
    assert report == {
        "pupils": 2,
        "teachers": 1,
        "groups": 3,
        "with_eck_id": 1,
        "without_eck_id": 1,
        "pgn_dropped": 1,
        "problems": [{"line": 4, "element": "schooljaar", "reason": "is not a school year"}],
    }


@pytest.mark.parametrize("element", ["sofinummer", "bsn", "onderwijsnummer", "rijksregisternummer", "bsn_ondwnr-4"])
def test_a_personal_number_is_counted_and_goes_nowhere(element: str) -> None:
    """In each of the five elements; the file stays usable."""
    source = changed((f"<bsn>{BSN}</bsn>", f"<{element}>{BSN}</{element}>"))
    report = check(source)
    assert report.usable
    assert report.pgn_dropped == 1
    assert BSN not in repr(report) + report.to_json() + repr([*pupils(source)])


@pytest.mark.parametrize("number", [BSN, "182.071.649", "١٨٢٠٧١٦٤٩", "leerling-100310303", STAMPSEUDONIEM])
@pytest.mark.parametrize("key", ["L0002", "G6", "VH", "M1", "S1"])
def test_a_key_that_reads_as_a_personal_number_is_a_problem(key: str, number: str) -> None:
    """A LAS key, group or location key would leave, so it may be none; the number itself is not said."""
    source = io.BytesIO(CLASS_LIST.replace(f'"{key}"', f'"{number}"').encode())
    report = check(source)
    assert [p.reason for p in report.problems] == ["the key reads as a personal number; declare the form of local ids"]
    with pytest.raises(ContractError) as raised:
        list(pupils(source))
    for text in (repr(report), report.to_json(), str(raised.value), repr(raised.value)):
        assert number not in text


def test_a_declared_form_of_local_ids_is_not_taken_for_a_personal_number() -> None:
    """A school whose LAS keys have nine digits says so."""
    source = changed(("L0002", BSN))
    form = re.compile(r"[0-9]{9}|[A-Z0-9]{2,5}")
    assert check(source, local_id_form=form).usable
    assert [pupil.las_key for pupil in pupils(source, local_id_form=form)] == ["L0001", BSN]


@pytest.mark.parametrize(
    ("eckid", "reason"),
    [
        ("https://id.school/abcde", "the eckid has the form of before 2018 (id.school); dropped"),
        ("eckid_L20", "the eckid is not an ECK iD; dropped"),
        ("", "the eckid is empty; dropped"),
        (ECK_ID.upper(), "the eckid is not an ECK iD; dropped"),
    ],
)
def test_an_eckid_that_is_none_is_dropped_with_a_warning(eckid: str, reason: str) -> None:
    """The pupil goes on as one without ECK iD; the official example must go through."""
    source = changed((ECK_ID, eckid))
    report = check(source)
    assert report.usable
    assert report.warnings == [Problem(17, "leerling", reason)]
    assert (report.with_eck_id, report.without_eck_id) == (0, 2)
    assert report.without_eck_id_las_keys == ["L0001", "L0002"]
    assert [pupil.eck_id for pupil in pupils(source)] == [None, None]


@pytest.mark.parametrize(
    "eckid", [BSN, STAMPSEUDONIEM, "9735dfd2235eaeb5f0300886bcc99c82ffc1d6420c4e0bde8de7218def2135fa"]
)
def test_an_eckid_that_is_a_personal_number_is_a_problem(eckid: str) -> None:
    """Someone exports the wrong column: nothing is sent, and the value is not said."""
    report = check(changed((ECK_ID, eckid)))
    assert [p.reason for p in report.problems] == ["the eckid reads as a personal number, its hash or a stampseudoniem"]
    assert eckid not in repr(report) + report.to_json()


@pytest.mark.parametrize(
    ("old", "new", "element", "reason"),
    [
        ('key="L0002"', 'key="L0001"', "leerling", "the key is used twice"),
        ('key="L0002"', f'key="L0002" eckid="{ECK_ID}"', "leerling", "the eckid is used twice"),
        ('groep key="G78"', 'groep key="G6"', "groep", "the key is used twice"),
        ('de_groep key="S1"', 'de_groep key="G6"', "samengestelde_groep", "the key is used for another group as well"),
        ('<groep key="G78"/>', '<groep key="S1"/>', "groep", "refers to a key that is not in the file"),
        ('<groep key="G6"/>', '<groep key="nergens"/>', "groep", "refers to a key that is not in the file"),
        ('<vestiging key="VH"/>', '<vestiging key="XX"/>', "vestiging", "refers to a key that is not in the file"),
        ('key="L0002"', 'key="   "', "leerling", "the key is blank or longer than 256 characters"),
        ('key="L0002"', "", "leerling", "the key is missing or empty"),
        ('key="L0002"', f'key="{"x" * 257}"', "leerling", "the key is longer than 256 characters"),
        ("<brincode>99PA", "<brincode>٩٩PA", "brincode", "is not a BRIN"),
        ("<brincode>99PA</brincode>\n    <dependancecode>03</dependancecode>", "", "school", "brincode is missing"),
        ("<roepnaam>Bas</roepnaam>", "", "leerling", "achternaam or roepnaam is missing"),
        ("<instroomdatum>2021-08-01", "<instroomdatum>2021-02-30", "instroomdatum", "is not a date (YYYY-MM-DD)"),
        ("<jaargroep>6<", "<jaargroep>9<", "jaargroep", "is not one of the codes of the standard"),
    ],
)  # fmt: skip
def test_a_problem_names_line_element_and_reason(old: str, new: str, element: str, reason: str) -> None:
    """Each check has its own words, and they hold no value from the file."""
    assert (element, reason) in reasons(changed((old, new)))


def test_keys_are_compared_after_unicode_normalisation() -> None:
    """é in one and in two code points is one key: a reference is found, a duplicate too."""
    one, two = "Zo\u00eb", "Zoe\u0308"
    source = changed(('groep key="G78"', f'groep key="{one}"'), ('<groep key="G78"/>', f'<groep key="{two}"/>'))
    assert [pupil.group_keys[0] for pupil in pupils(source)] == ["G6", one]
    assert ("leerling", "the key is used twice") in reasons(changed(("L0001", one), ("L0002", two)))


def test_a_leaving_date_before_the_entry_date_is_a_warning() -> None:
    """Both dates are carried; the school should look."""
    report = check(changed(("<uitstroomdatum>2027", "<uitstroomdatum>2020")))
    assert report.usable
    assert report.warnings == [Problem(17, "uitstroomdatum", "is before the instroomdatum")]


def test_additions_are_dropped_whole() -> None:
    """Whatever a supplier put in `toevoegingen`, also elements of that supplier's own type, nothing is carried."""
    xsi = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="Eigen"'
    blok = f'<toevoegingen><blok {xsi}><bsn>{BSN}</bsn><groep key="weg"/></blok></toevoegingen>'
    source = changed(("</uitstroomdatum>", "</uitstroomdatum>" + blok))
    assert check(source) == check(changed())
    assert list(pupils(source)) == list(pupils(changed()))


@pytest.mark.parametrize("element", ["b182071649", "x" * 41, "Zoë"])
def test_an_unknown_element_is_only_named_if_nothing_can_hide_in_its_name(element: str) -> None:
    """A name with digits, or a long one, is said as "?"."""
    report = check(changed(("<roepnaam>Bas</roepnaam>", f"<roepnaam>Bas</roepnaam><{element}/>")))
    assert report.problems == [Problem(28, "?", "is not known in leerling")]
    assert reasons(changed(("<roepnaam>Bas</roepnaam>", "<roepnaam>Bas</roepnaam><schoenmaat/>"))) == [
        ("schoenmaat", "is not known in leerling")
    ]


def test_the_second_pass_raises_where_the_check_would_report() -> None:
    """The file may have changed in between; the error says line, element and reason, with a stable code."""
    source = changed(('key="L0002"', 'key="L0001"'))
    with pytest.raises(ContractError) as raised:
        list(pupils(source))
    assert str(raised.value) == "The class list cannot be used: line 27, leerling: the key is used twice."
    assert (raised.value.code, raised.value.field) == ("edexml.problem", "leerling")
    with pytest.raises(ContractError):
        list(employees(source))


def test_a_problem_at_the_end_of_the_file_stops_the_second_pass_as_well() -> None:
    """Also when all pupils were fine."""
    with pytest.raises(ContractError):
        list(pupils(changed(("</EDEX>", "<meer/></EDEX>"))))


def test_problems_are_listed_up_to_a_limit() -> None:
    """A file with a problem on every line does not fill the memory, and one more entry says that there is more."""
    source = changed(("<leerkrachten>", "<x/>" * 100 + "<leerkrachten>"))
    report = check(source, Limits(problems=10))
    assert len(report.problems) == 11
    assert report.problems[-1].reason == "there is more; not listed from here on"


def test_a_file_that_cannot_be_opened_is_the_operators_to_solve(tmp_path: Path) -> None:
    """A missing file and a folder are no problem of the class list."""
    for path in (tmp_path / "geen.xml", tmp_path):
        with pytest.raises(ConfigError):
            check(path)


def test_the_primary_school_of_the_examples_goes_through() -> None:
    """28 pupils in a group and a combination group, 26 with an ECK iD, three personal numbers dropped."""
    report = check(EXAMPLES / "po-de-regenboog.xml")
    assert (report.problems, report.warnings) == ([], [])
    assert (report.brin, report.location, report.school_year) == ("99PA", None, "2026-2027")
    assert (report.pupils, report.teachers, report.groups) == (28, 2, 2)
    assert (report.with_eck_id, report.without_eck_id, report.pgn_dropped) == (26, 2, 3)
    assert report.without_eck_id_las_keys == ["L0012", "L0025"]
    assert {pupil.year_group for pupil in pupils(EXAMPLES / "po-de-regenboog.xml")} == {"6", "7", "8"}


def test_the_secondary_school_of_the_examples_goes_through() -> None:
    """24 pupils, all with an ECK iD, in year groups 11 and 13, some in a combined group."""
    report = check(EXAMPLES / "vo-het-kompas.xml")
    assert (report.problems, report.warnings) == ([], [])
    assert (report.brin, report.school_year) == ("99VA", "2026-2027")
    assert (report.pupils, report.teachers, report.groups) == (24, 3, 3)
    assert (report.with_eck_id, report.without_eck_id, report.pgn_dropped) == (24, 0, 0)
    enrolments = list(pupils(EXAMPLES / "vo-het-kompas.xml"))
    assert {pupil.year_group for pupil in enrolments} == {"11", "13"}
    assert sum("DU3" in pupil.group_keys for pupil in enrolments) == 6


def test_no_eck_id_of_the_examples_is_in_both_schools() -> None:
    """Pseudonyms are per sector, so a pupil of one cannot be one of the other."""
    files = sorted(EXAMPLES.glob("*.xml"))
    ids = [e.eck_id for file in files for e in [*pupils(file), *employees(file)] if e.eck_id]
    assert len(files) == 4
    assert len(ids) == len(set(ids)) > 26 + 24 + 2 + 3
