"""UWLR pupil data: read as an EDEXML class list is, whatever stands around it; nothing of a pupil is ever said."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker.connectors import edexml, uwlr
from broker.connectors.report import Enrolment
from broker.connectors.xml_reader import Limits
from broker.errors import ContractError
from tests.connectors.messages import NAMESPACE, SOAP, as_uwlr
from tests.connectors.test_edexml import BSN, CLASS_LIST, ECK_ID, OTHER_ECK_ID

EXAMPLES = Path(__file__).parents[2] / "examples"
VERSION_2_3 = ("</dependancecode>", "</dependancecode><xsdversie>2.3</xsdversie>")


def answer(*changes: tuple[str, str], envelope: bool = True) -> io.BytesIO:
    """The class list of the EDEXML tests as a UWLR answer, with texts replaced; each must be there."""
    text = as_uwlr(CLASS_LIST, envelope=envelope)
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return io.BytesIO(text.encode())


def reasons(source: io.BytesIO) -> list[tuple[str, str]]:
    """Element and reason of each problem."""
    return [(problem.element, problem.reason) for problem in uwlr.check(source).problems]


def without_lines(enrolments: Any) -> list[Enrolment]:
    """Enrolments, wherever they stood."""
    return [replace(enrolment, line=0) for enrolment in enrolments]


@pytest.mark.parametrize("envelope", [True, False], ids=["in SOAP", "bare"])
def test_an_answer_gives_what_the_class_list_gives(envelope: bool) -> None:
    """School, groups, pupils, teachers, counts and lines: one reader for both standards."""
    source, same = answer(envelope=envelope), io.BytesIO(CLASS_LIST.encode())
    assert uwlr.check(source) == edexml.check(same)
    assert uwlr.check(source).usable
    assert list(uwlr.pupils(source)) == list(edexml.pupils(same))
    assert list(uwlr.employees(source)) == list(edexml.employees(same))


def test_the_prefix_of_the_namespace_is_of_no_account() -> None:
    """Services write `le:`, `lg:`, `ns2:` or a default namespace."""
    bare = re.sub(r"<(/?)([a-z])", r"<\1q:\2", as_uwlr(CLASS_LIST).split("\n", 1)[1]).replace("xmlns=", "xmlns:q=")
    assert list(uwlr.pupils(io.BytesIO(bare.encode()))) == without_first_line(list(uwlr.pupils(answer())))


def without_first_line(enrolments: list[Enrolment]) -> list[Enrolment]:
    """As they stand in a file without XML declaration."""
    return [replace(enrolment, line=enrolment.line - 1) for enrolment in enrolments]


def test_the_example_is_the_class_list_that_it_is_taken_from() -> None:
    """The same pupils by the same keys and ECK iDs as in the EDEXML example, without what the smalle set leaves out."""
    whole = {e.las_key: e for e in edexml.pupils(EXAMPLES / "edexml" / "po-de-regenboog.xml")}
    pupils = list(uwlr.pupils(EXAMPLES / "uwlr" / "po-de-regenboog.xml"))
    assert [pupil.las_key for pupil in pupils] == ["L0001", "L0002", "L0003", "L0012"]
    for pupil in pupils:
        same = whole[pupil.las_key]
        assert (pupil.eck_id, pupil.year_group, pupil.group_keys) == (same.eck_id, same.year_group, same.group_keys)
        assert (pupil.left_on, pupil.location) == (None, None)


@pytest.mark.parametrize("element", ["sofinummer", "bsn", "onderwijsnummer", "rijksregisternummer", "bsn_ondwnr-4"])
def test_a_personal_number_is_counted_and_goes_nowhere(element: str) -> None:
    """Also the four digits that the LVS-set of 2.2 asks for."""
    source = answer((f"<bsn>{BSN}</bsn>", f"<{element}>{BSN}</{element}>"))
    report = uwlr.check(source)
    assert (report.usable, report.pgn_dropped) == (True, 1)
    assert BSN not in repr(report) + report.to_json() + repr([*uwlr.pupils(source)])


def test_additions_are_dropped_whole() -> None:
    """Also those of a supplier's own type and namespace."""
    blok = f'<toevoegingen><x:blok xmlns:x="urn:x" xsi:type="x:Eigen"><x:bsn>{BSN}</x:bsn></x:blok></toevoegingen>'
    source = answer(("</uitstroomdatum>", "</uitstroomdatum>" + blok))
    assert uwlr.check(source) == uwlr.check(answer())
    assert list(uwlr.pupils(source)) == list(uwlr.pupils(answer()))


@pytest.mark.parametrize(
    ("old", "new", "element", "reason"),
    [
        ('key="L0002"', 'key="L0001"', "leerling", "the key is used twice"),
        ('key="L0002"', f'key="L0002" eckid="{ECK_ID}"', "leerling", "the eckid is used twice"),
        ("</leerkracht>", f'</leerkracht><leerkracht key="M2" eckid="{OTHER_ECK_ID}"><roepnaam>D</roepnaam></leerkracht>',
         "leerkracht", "the eckid is used twice"),
        ("</leerkracht>", '</leerkracht><leerkracht key="M1"><roepnaam>D</roepnaam></leerkracht>', "leerkracht",
         "the key is used twice"),
        ('groep key="G78"', 'groep key="G6"', "groep", "the key is used twice"),
        ('de_groep key="S1"', 'de_groep key="G6"', "samengestelde_groep", "the key is used for another group as well"),
        ('<groep key="G78"/>', '<groep key="nergens"/>', "groep", "refers to a key that is not in the file"),
        ('<samengestelde_groep key="S1"/></s', '<samengestelde_groep key="G6"/></s', "samengestelde_groep",
         "refers to a key that is not in the file"),
        ('<vestiging key="VH"/>', '<vestiging key="XX"/>', "vestiging", "refers to a key that is not in the file"),
        ('key="L0002"', f'key="{BSN}"', "leerling", "the key reads as a personal number; declare the form of local ids"),
    ],
)  # fmt: skip
def test_what_the_schemas_own_rules_do_not_find_is_found(old: str, new: str, element: str, reason: str) -> None:
    """The published rules look for elements without a namespace; every duplicate and loose end passes them."""
    assert (element, reason) in reasons(answer((old, new)))


def test_a_teacher_can_not_be_the_leader_of_a_test() -> None:
    """TAL is a role in EDEXML 2.1 alone."""
    tal = ("<rol>LRK</rol>", "<rol>TAL</rol>")
    assert reasons(answer(tal)) == [("rol", "is not one of the codes of the standard")]
    assert edexml.check(io.BytesIO(CLASS_LIST.replace(*tal).encode())).usable


@pytest.mark.parametrize(
    ("element", "usable"), [("geenwijzigingen", True), ("geengegevens", False)], ids=["nothing changed", "no data"]
)
def test_an_answer_without_data_says_why(element: str, usable: bool) -> None:
    """That nothing changed is no fault, and nothing is sent; that there is no data is one."""
    text = f'<leerlinggegevens_antwoord xmlns="{NAMESPACE}"><{element}/></leerlinggegevens_antwoord>'
    report = uwlr.check(io.BytesIO(text.encode()))
    assert report.usable is usable
    assert [w.element for w in (report.warnings if usable else report.problems)] == [element]
    assert (report.pupils, report.teachers, report.school_year) == (0, 0, None)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "<s:Fault><faultcode>s:Server</faultcode><faultstring>182071649</faultstring></s:Fault>",
            "holds a SOAP fault",
        ),
        (f'<structuur_antwoord xmlns="{NAMESPACE}"/>', "ask for the whole with HaalLeerlinggegevens"),
        (f'<leerlingen_antwoord xmlns="{NAMESPACE}"/>', "ask for the whole with HaalLeerlinggegevens"),
        ("", "leerlinggegevens_antwoord or"),
        ("<EDEX/>", "is in a namespace that is not the standard's"),
        (f'<leerresultaten_verzoek xmlns="{NAMESPACE}"/>', "is not known in soap:Body"),
    ],
)
def test_another_message_is_a_problem_that_says_what_it_is(body: str, said: str) -> None:
    """A fault's text is not repeated; an answer in stages is not taken for a class list."""
    text = f'<s:Envelope xmlns:s="{SOAP}"><s:Header/><s:Body>{body}</s:Body></s:Envelope>'
    problems = uwlr.check(io.BytesIO(text.encode())).problems
    assert any(said in problem.reason for problem in problems), problems
    assert "182071649" not in str(problems)


def test_a_file_of_the_other_standard_is_sent_to_the_other_command() -> None:
    """Whoever mixes them up is told."""
    (problem,) = uwlr.check(io.BytesIO(CLASS_LIST.encode())).problems
    assert "broker connect edexml" in problem.reason
    (problem,) = edexml.check(answer()).problems
    assert "broker connect uwlr" in problem.reason


def test_an_element_in_another_namespace_is_a_problem() -> None:
    """Its name says nothing, wherever it stands; so it is not read as what it looks like."""
    source = answer(('<groep key="G78"/>', '<groep xmlns="urn:x" key="G78"/>'))
    assert reasons(source) == [("groep", "is in a namespace that is not the standard's")]
    other = as_uwlr(CLASS_LIST).replace("leerresultaten/2/", "leerresultaten/1/")
    assert not uwlr.check(io.BytesIO(other.encode())).usable


def test_the_header_and_what_stands_beside_the_answer_are_not_read() -> None:
    """A header may hold keys of the service."""
    header = f"<s:Header><autorisatie xmlns='urn:a'><klantcode>{BSN}</klantcode></autorisatie></s:Header><s:Body u='1'>"
    assert uwlr.check(answer(("<s:Body>", header))) == uwlr.check(answer())


def keyless(version: str, *more: tuple[str, str]) -> io.BytesIO:
    """The first pupil is named by ECK iD alone, in an answer of this version."""
    return answer((VERSION_2_3[0], VERSION_2_3[1].replace("2.3", version)), ('leerling key="L0001"', "leerling"), *more)


@pytest.mark.parametrize("version", ["2.3", "2.3.1", "UWLR 2.3", "3.0"])
def test_from_2_3_on_the_eck_id_is_enough(version: str) -> None:
    """The pupil goes on without local id; a key beside it is carried as before."""
    source = keyless(version)
    assert uwlr.check(source).problems == []
    assert [(p.las_key, p.eck_id) for p in uwlr.pupils(source)] == [("", ECK_ID), ("L0002", None)]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (lambda: keyless("2.2"), "an eckid alone is enough from xsdversie 2.3 on"),
        (lambda: answer(('leerling key="L0001"', "leerling")), "an eckid alone is enough from xsdversie 2.3 on"),
        (lambda: keyless("2.3", (ECK_ID, "eckid_L1")), "and so is a valid eckid in its place"),
        (lambda: answer(VERSION_2_3, ('leerling key="L0002"', "leerling")), "and so is a valid eckid in its place"),
    ],
    ids=["2.2", "no version", "an eckid that is none", "no eckid"],
)
def test_who_has_neither_key_nor_eck_id_is_a_problem(source: Callable[[], io.BytesIO], why: str) -> None:
    """Nobody could be told apart by it."""
    (problem,) = uwlr.check(source()).problems
    assert problem.element == "leerling"
    assert problem.reason == f"the key is missing or empty{',' if why.startswith('and') else ';'} {why}"


def test_a_teacher_needs_a_key_in_2_3_as_well() -> None:
    """The rule is about pupils."""
    assert reasons(answer(VERSION_2_3, ('leerkracht key="M1"', "leerkracht"))) == [
        ("leerkracht", "the key is missing or empty")
    ]


def test_in_edexml_a_pupil_without_key_is_a_problem_in_every_version() -> None:
    """The rule is UWLR's."""
    text = CLASS_LIST.replace('leerling key="L0001"', "leerling").replace(*VERSION_2_3)
    assert [p.reason for p in edexml.check(io.BytesIO(text.encode())).problems] == ["the key is missing or empty"]


def test_the_second_pass_raises_with_a_code_of_its_own() -> None:
    """Which standard it was is in the code."""
    with pytest.raises(ContractError) as raised:
        list(uwlr.pupils(answer(('key="L0002"', 'key="L0001"'))))
    assert (raised.value.code, raised.value.field) == ("uwlr.problem", "leerling")


def test_a_document_type_is_refused_and_limits_hold() -> None:
    """The XML is read by the hardened reader of EDEXML files, with the same bounds."""
    entity = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>\n<s:Envelope'
    ((_, reason),) = reasons(answer(("<s:Envelope", entity)))
    assert reason == "a document type declaration (<!DOCTYPE) is not accepted"
    (problem,) = uwlr.check(answer(), Limits(records=2)).problems
    assert problem.reason == "there are more than 2 records"


def test_a_message_cut_off_is_a_problem() -> None:
    """At every length but the whole."""
    data = answer().getvalue().rstrip()
    for length in range(0, len(data), 13):
        assert not uwlr.check(io.BytesIO(data[:length])).usable
