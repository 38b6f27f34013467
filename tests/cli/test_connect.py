"""Tests of `broker connect`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from broker.cli import build
from broker.cli.connect import ClassListFile, identity_events
from broker.connectors import uwlr
from broker.data import data_path
from broker.errors import ConfigError

PO = data_path("examples") / "edexml" / "po-de-regenboog.xml"
SAMPLE = Path(__file__).parents[2].parent / "shared" / "standards" / "edexml-2.1" / "example-2.1.xml"


PRODUCTS = data_path("connectors") / "products.yaml"
UWLR = data_path("examples") / "uwlr" / "po-de-regenboog.xml"
OF_SCHOOL = ("--party", "sis-noord", "--school", "99PA", "--dry-run")


def run(*arguments: str, command: str = "edexml") -> Result:
    """Run the command."""
    return CliRunner().invoke(build("connect"), ["connect", command, *arguments])


def test_a_dry_run_prints_exactly_the_agreed_json(tmp_path: Path) -> None:
    """The keys are those that suppliers' scripts read; nothing is sent, so no profile is needed."""
    done = run(str(PO), "--party", "sis-noord", "--school", "99PA", "--dry-run", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {
        "pupils": 28, "teachers": 2, "groups": 2, "with_eck_id": 26, "without_eck_id": 2, "pgn_dropped": 3, "problems": [],
    }  # fmt: skip


def test_pupils_without_eck_id_are_listed_by_las_key() -> None:
    """The school must do something about them, so it must know who they are."""
    done = run(str(PO), "--party", "sis-noord", "--school", "99PA", "--dry-run")
    assert "L0012, L0025" in done.stdout


@pytest.mark.skipif(not SAMPLE.exists(), reason="the published standards are not beside this checkout")
def test_the_published_sample_goes_through() -> None:
    """Three pupils, three teachers, one number of the state dropped."""
    done = run(str(SAMPLE), "--party", "p", "--school", "99ZZ", "--dry-run", "--json")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert (facts["pupils"], facts["teachers"], facts["problems"]) == (3, 3, [])
    assert facts["pgn_dropped"] >= 1
    assert "133456785" not in done.output


def test_an_invalid_file_is_told_by_line_and_element_and_nothing_is_sent(tmp_path: Path) -> None:
    """Exit code 1; no profile was even looked for."""
    bad = tmp_path / "bad.xml"
    bad.write_text(PO.read_text("utf-8").replace('key="L0002"', 'key="L0001"', 1), "utf-8")
    done = run(str(bad), "--party", "nobody", "--school", "99PA", "--json")
    assert done.exit_code == 1
    (problem,) = json.loads(done.stdout)["problems"]
    assert set(problem) == {"line", "element", "reason"}
    assert "L0001" not in problem["reason"]


def test_a_file_of_another_school_is_not_sent() -> None:
    """A slip of the keyboard must not enrol pupils at another school."""
    done = run(str(PO), "--party", "sis-noord", "--school", "99VA", "--dry-run")
    assert isinstance(done.exception, ConfigError)
    assert done.exception.code == "connect.school"


def test_identity_events_hold_ids_and_nothing_else_of_a_person() -> None:
    """No names, birth dates or numbers of the state are in any event."""
    events = list(identity_events(PO, "99PA", "PO", "2026-2027"))
    assert len(events) == 30
    filled = {name for e in events for name, value in e.json()["body"].items() if value is not None}
    assert filled <= {"left_on", "year_group", "group_ids", "location"}


def test_uwlr_pupil_data_is_reported_as_a_class_list_is() -> None:
    """The same keys, the same exit code."""
    done = run(str(UWLR), *OF_SCHOOL, "--json", command="uwlr")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {
        "pupils": 4, "teachers": 1, "groups": 2, "with_eck_id": 3, "without_eck_id": 1, "pgn_dropped": 0, "problems": [],
    }  # fmt: skip


def test_each_standard_has_its_own_command() -> None:
    """A file that goes to the wrong one is not sent, and its sender is told where it goes."""
    for file, command, other in ((UWLR, "edexml", "uwlr"), (PO, "uwlr", "edexml")):
        done = run(str(file), *OF_SCHOOL, command=command)
        assert done.exit_code == 1
        assert f"`broker connect {other}`" in done.stdout


def test_events_of_both_standards_are_the_same() -> None:
    """Of the pupils that are in both examples; the UWLR example leaves out dates and location."""
    of_edexml = {e.subject.user_ids: e for e in identity_events(PO, "99PA", "PO", "2026-2027")}
    of_uwlr = list(ClassListFile(uwlr.READER, UWLR).events("99PA", "PO", "2026-2027"))
    assert len(of_uwlr) == 5
    for event in of_uwlr:
        same = of_edexml[event.subject.user_ids]
        assert (event.kind, event.school, event.sector, event.subject) == (
            same.kind,
            same.school,
            same.sector,
            same.subject,
        )
        for name in ("year_group", "group_ids"):
            assert event.json()["body"][name] == same.json()["body"][name]


def test_a_pupil_whom_the_file_names_by_eck_id_alone_is_enrolled_by_it(tmp_path: Path) -> None:
    """UWLR 2.3: no empty local id is made up."""
    file = tmp_path / "answer.xml"
    text = (
        UWLR.read_text("utf-8").replace("xsdversie>2.2", "xsdversie>2.3").replace('leerling key="L0001" ', "leerling ")
    )
    file.write_text(text, "utf-8")
    first = next(ClassListFile(uwlr.READER, file).events("99PA", "PO", "2026-2027"))
    assert (first.subject.user_ids, first.subject.eck_id is not None) == ((), True)


def test_a_product_may_be_named() -> None:
    """And what its configuration wants to be known is said beside the report."""
    done = run(str(PO), *OF_SCHOOL, "--json", "--product", "esis")
    assert done.exit_code == 0, done.output
    done = run(str(PO), *OF_SCHOOL, "--json", "--product", "school-oas")
    assert done.exit_code == 0
    assert "phased out at the end of 2021" in done.stderr
    assert json.loads(done.stdout)["pupils"] == 28


def test_an_unknown_product_is_refused_with_the_list() -> None:
    """Before the file is looked at; a file with configurations alone names none."""
    done = run(str(PO), *OF_SCHOOL, "--product", "magister")
    assert isinstance(done.exception, ConfigError)
    assert done.exception.code == "connect.product"
    assert "parnassys, esis, eduscope, school-oas" in str(done.exception)
    done = run(str(PO), *OF_SCHOOL, "--products", str(PRODUCTS))
    assert isinstance(done.exception, ConfigError)
    assert done.exception.code == "connect.product"


def test_a_file_that_a_configuration_does_not_allow_is_not_sent(tmp_path: Path) -> None:
    """The problem and the last line name the configuration; a configuration of your own can tolerate it."""
    bad = tmp_path / "bad.xml"
    bad.write_text(PO.read_text("utf-8").replace("<voorvoegsel>de</voorvoegsel>", "<voorvoegsel/>", 1), "utf-8")
    done = run(str(bad), *OF_SCHOOL, "--product", "eduscope")
    assert done.exit_code == 1
    assert "voorvoegsel: is empty; the product configuration eduscope does not tolerate empty-elements" in done.stdout
    assert "read with the product configuration eduscope" in done.stderr
    own = tmp_path / "own.yaml"
    own.write_text(PRODUCTS.read_text("utf-8").replace("tolerates: []", "tolerates: [empty-elements]"), "utf-8")
    done = run(str(bad), *OF_SCHOOL, "--product", "eduscope", "--products", str(own))
    assert done.exit_code == 0, done.output
    assert "warning: line" in done.stdout


def test_products_are_listed_with_their_evidence() -> None:
    """What each reads and tolerates, and where that comes from; for scripts as JSON."""
    done = run(command="products")
    assert done.exit_code == 0, done.output
    for part in ("parnassys\tParnasSys (Topicus)\tedexml 2.0, 2.1; uwlr 2.2, 2.3\tnot declared\tnothing",
                 "eduscope: No public sample found; reads by the standards alone.", "[https://www.parnassys.nl/"):  # fmt: skip
        assert part in done.stdout
    lines = [json.loads(line) for line in run("--json", command="products").stdout.splitlines()]
    assert [line["id"] for line in lines] == ["parnassys", "esis", "eduscope", "school-oas"]
    assert all(line["evidence"] for line in lines)
