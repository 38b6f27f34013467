"""The named configurations: what each says of itself, and what it makes of a file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from broker.connectors import edexml, uwlr
from broker.connectors.class_list import ClassListReader
from broker.connectors.products import Product, products
from broker.connectors.report import Problem, Report
from broker.connectors.structure import StandardName
from broker.data import data_path
from broker.errors import ConfigError, ContractError

SAMPLES = Path(__file__).parent / "samples"
SHIPPED = data_path("connectors") / "products.yaml"
READERS: dict[str, ClassListReader] = {"edexml": edexml.READER, "uwlr": uwlr.READER}
# Of the samples: (pupils, with ECK iD, teachers, groups, personal numbers), and of each pupil key, year and groups.
TOLD: dict[str, tuple[tuple[int, ...], list[tuple[str, str | None, tuple[str, ...]]]]] = {
    "parnassys.edexml": ((2, 2, 1, 3, 1), [("2019014", "5", ("501",)), ("2018007", "6", ("602",))]),
    "parnassys.uwlr": ((2, 1, 1, 2, 0), [("2019014", "5", ("501", "s7")), ("2019015", "5", ("501",))]),
    "esis.edexml": ((2, 1, 1, 1, 1), [("{5f2c}-1", "7", ("G78",)), ("{5f2c}-2", "8", ("G78",))]),
    "esis.uwlr": ((1, 1, 1, 2, 1), [("{5f2c}-1", "7", ("G78", "I3"))]),
    "eduscope.edexml": ((1, 1, 1, 1, 0), [("P-100", "3", ("G3",))]),
    "eduscope.uwlr": ((1, 1, 1, 1, 0), [("", "3", ("G3",))]),
    "school-oas.edexml": ((1, 0, 1, 1, 0), [("P-100", "3", ("G3",))]),
    "school-oas.uwlr": ((1, 1, 1, 1, 0), [("P-100", "3", ("G3",))]),
}


def sample(name: str, *changes: tuple[str, str]) -> tuple[ClassListReader, Product, io.BytesIO]:
    """A sample file, changed, with the reader and the configuration for it."""
    product, standard = name.split(".")
    text = (SAMPLES / f"{name}.xml").read_text("utf-8")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return READERS[standard], products()[product], io.BytesIO(text.encode())


def read(name: str, *changes: tuple[str, str], **own: Any) -> Report:
    """The report on it; with `own`, the configuration is changed."""
    reader, product, source = sample(name, *changes)
    return reader.check(source, product=product.model_copy(update=own))


def test_the_four_products_of_the_requirement_have_a_configuration_with_evidence() -> None:
    """R7: each is there, for both standards, and says where its knowledge comes from, or that there is none."""
    found = products()
    assert list(found) == ["parnassys", "esis", "eduscope", "school-oas"]
    for product in found.values():
        assert set(product.reads) == set(get_args(StandardName))
        assert product.evidence
        assert "No public sample found" in product.dialect
        assert product.local_ids.known


def test_nothing_is_tolerated_and_no_form_declared_that_nobody_showed() -> None:
    """Until a sample is public: whoever adds one here has evidence, and changes this test with it."""
    assert all(product.tolerates == frozenset() and product.local_id_form is None for product in products().values())


def test_school_oas_says_that_it_ended() -> None:
    """Whoever reads such a file is told; it is read all the same (below)."""
    notices = {name: product.notice for name, product in products().items() if product.notice}
    assert list(notices) == ["school-oas"]
    assert "end of 2021" in notices["school-oas"]


@pytest.mark.parametrize("name", TOLD)
def test_a_sample_of_each_product_is_read(name: str) -> None:
    """Invented, in the dialect as far as it is known: no problem, no warning, and who is in which group."""
    reader, product, source = sample(name)
    report = reader.check(source, product=product)
    assert (report.problems, report.warnings) == ([], [])
    counts = (report.pupils, report.with_eck_id, report.teachers, report.groups, report.pgn_dropped)
    told = [(p.las_key, p.year_group, p.group_keys) for p in reader.pupils(source, product=product)]
    assert (counts, told) == TOLD[name]
    assert sum(1 for _ in reader.employees(source, product=product)) == report.teachers


def test_every_product_has_a_sample_in_every_standard_it_reads() -> None:
    """A new configuration comes with one."""
    wanted = {f"{name}.{standard}" for name, product in products().items() for standard in product.reads}
    assert wanted == set(TOLD) == {path.name.removesuffix(".xml") for path in SAMPLES.iterdir()}


ORDER = (
    "<brincode>99PA</brincode>\n\t\t<dependancecode>00</dependancecode>",
    "<dependancecode>00</dependancecode><brincode>99PA</brincode>",
)
NO_PREFIX = ("<voorvoegsel>van</voorvoegsel>", "<voorvoegsel></voorvoegsel>")


@pytest.mark.parametrize(
    ("change", "deviation", "element"),
    [(ORDER, "element-order", "brincode"), (NO_PREFIX, "empty-elements", "voorvoegsel")],
)
def test_a_deviation_names_the_configuration_the_element_and_what_to_do(
    change: tuple[str, str], deviation: str, element: str
) -> None:
    """And a configuration that tolerates it goes on, with a warning."""
    (problem,) = read("parnassys.edexml", change).problems
    assert problem.element == element
    for part in ("parnassys", deviation, "ask Topicus to mend the export", "--products"):
        assert part in problem.reason
    report = read("parnassys.edexml", change, tolerates=frozenset({deviation}))
    assert report.problems == []
    ((warned, reason),) = [(w.element, w.reason) for w in report.warnings]
    assert warned == element
    assert reason.endswith("; tolerated by the product configuration parnassys")
    assert (report.brin, report.pupils) == ("99PA", 2)


def test_another_breach_names_the_configuration_and_whom_to_ask() -> None:
    """It follows the standard there."""
    (problem,) = read("esis.edexml", ("<geslacht>2", "<geslacht>7")).problems
    assert problem.element == "geslacht"
    assert problem.reason == (
        "is not one of the codes of the standard; the product configuration esis follows the standard here: correct the "
        "export or ask Rovict"
    )


def test_the_second_pass_says_it_as_well() -> None:
    """The error that ends a delivery names the configuration."""
    reader, product, source = sample("esis.edexml", ("<geslacht>2", "<geslacht>7"))
    with pytest.raises(ContractError, match="the product configuration esis") as raised:
        list(reader.pupils(source, product=product))
    assert (raised.value.code, raised.value.field) == ("edexml.problem", "geslacht")


@pytest.mark.parametrize(
    ("name", "version", "usable"),
    [
        ("school-oas.uwlr", "2.3", False),
        ("esis.uwlr", "2.3", True),
        ("esis.uwlr", "2.1", False),
        ("esis.uwlr", "UWLR 2.2.1", True),
        ("esis.uwlr", "twee", True),
        ("parnassys.edexml", "2.0", True),
        ("parnassys.edexml", "1.03", False),
    ],
)
def test_a_version_that_a_configuration_does_not_read_is_a_problem(name: str, version: str, usable: bool) -> None:
    """School OAS had ended before 2.3 can have been in it; what says no version is judged by what it holds."""
    written = "2.1" if name.endswith("edexml") else "2.2"
    change = (f"<xsdversie>{written}", f"<xsdversie>{version}")
    report = read(name, change)
    assert report.usable is usable
    if not usable:
        (problem,) = report.problems
        assert problem.element == "xsdversie"
        assert f"the product configuration {name.split('.')[0]} reads" in problem.reason
        assert "leave --product out" in problem.reason
        reader, _, source = sample(name, change)
        assert reader.check(source).usable


def _text(name: str) -> str:
    return (SAMPLES / f"{name}.xml").read_text("utf-8")


def test_the_order_of_whole_lists_is_never_tolerated() -> None:
    """A pupil's group must be known before the pupil."""
    teachers = _text("esis.edexml")
    at, end = teachers.index("<leerkrachten>"), teachers.index("</leerkrachten>") + len("</leerkrachten>")
    moved = teachers[:at] + teachers[end:]
    moved = moved.replace("\t<groepen>", f"\t{teachers[at:end]}\n\t<groepen>", 1)
    product = products()["esis"].model_copy(update={"tolerates": frozenset({"element-order", "empty-elements"})})
    assert not edexml.check(io.BytesIO(moved.encode()), product=product).usable


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("<brincode>99PA", "<brincode>"), "brincode is missing"),
        (("<schooljaar>2026-2027", "<schooljaar>"), "schooljaar is missing"),
        (("<naam>Groep 5<", "<naam><"), "naam is missing"),
        (("<brincode>99PA</brincode>", "<brincode>99PA</brincode><schooljaar>2026-2027</schooljaar>"),
         "may not stand beside another of its kind in school"),
    ],
)  # fmt: skip
def test_tolerance_makes_nothing_of_what_is_needed(change: tuple[str, str], reason: str) -> None:
    """An empty element counts as absent: where it is required it is missing. Twice is twice in any order."""
    report = read("parnassys.edexml", change, tolerates=frozenset({"element-order", "empty-elements"}))
    assert [problem.reason.split(";")[0] for problem in report.problems] == [reason]


def test_an_empty_list_is_tolerated_where_the_list_may_be_absent() -> None:
    """Combined groups of a pupil who is in none; but a class list without pupils is none."""
    tolerant = {"tolerates": frozenset({"empty-elements"})}
    none = ('<groep key="501"/>', '<groep key="501"/><samengestelde_groepen/>')
    (problem,) = read("parnassys.edexml", none).problems
    assert problem.element == "samengestelde_groepen"
    assert read("parnassys.edexml", none, **tolerant).usable
    text = _text("parnassys.edexml")
    pupils = text[text.index("<leerlingen>") + len("<leerlingen>") : text.index("</leerlingen>")]
    reasons = [p.reason.split(";")[0] for p in read("parnassys.edexml", (pupils, ""), **tolerant).problems]
    assert reasons == ["leerlingen is missing"]


def test_a_declared_form_of_local_ids_is_not_taken_for_a_personal_number() -> None:
    """What a configuration declares goes for the file, unless the school declares its own."""
    number = ('"2019014"', '"182071649"')
    assert [p.reason for p in read("parnassys.edexml", number).problems] == [
        "the key reads as a personal number; declare the form of local ids"
    ]
    ids = products()["parnassys"].local_ids.model_copy(update={"form": "[0-9]{9}"})
    assert read("parnassys.edexml", number, local_ids=ids).usable


def test_a_product_is_asked_for_a_standard_it_does_not_write() -> None:
    """The operator's mistake, before the file is looked at."""
    reader, product, source = sample("esis.uwlr")
    with pytest.raises(ConfigError, match="the product configuration esis has no uwlr, only edexml") as raised:
        reader.check(source, product=product.model_copy(update={"reads": {"edexml": ("2.1",)}}))
    assert raised.value.code == "connect.product"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tolerates": ["anything"]}, "products[0].tolerates"),
        ({"reads": {}}, "products[0].reads"),
        ({"reads": {"csv": ["1.0"]}}, "products[0].reads"),
        ({"reads": {"edexml": [2.1]}}, "must be a string (write numbers in quotes)"),
        ({"evidence": []}, "products[0].evidence"),
        ({"local_ids": {"form": "[", "known": "x"}}, "is no regular expression"),
        ({"colour": "blue"}, "is not a known field"),
        ({"id": "esis"}, "two products have one id"),
    ],
)
def test_a_configuration_of_your_own_is_checked(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    """All that is wrong with it, by field."""
    document = yaml.safe_load(SHIPPED.read_text("utf-8"))
    document["products"][0] |= change
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(document), "utf-8")
    with pytest.raises(ConfigError) as raised:
        products(path)
    assert raised.value.code == "products.invalid"
    assert said in str(raised.value)


def test_no_warning_of_tolerance_holds_a_value() -> None:
    """Deviations are told by line, element and reason."""
    report = read("parnassys.edexml", ORDER, NO_PREFIX, tolerates=frozenset({"element-order", "empty-elements"}))
    assert [type(w) for w in report.warnings] == [Problem, Problem]
    assert not any(value in repr(report) for value in ("2019014", "ketenid", "Verzonnen", "182071649"))
