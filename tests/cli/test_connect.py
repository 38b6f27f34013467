"""Tests of `broker connect edexml`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from broker.cli import build
from broker.cli.connect import identity_events
from broker.data import data_path
from broker.errors import ConfigError

PO = data_path("examples") / "edexml" / "po-de-regenboog.xml"
SAMPLE = Path(__file__).parents[2].parent / "shared" / "standards" / "edexml-2.1" / "example-2.1.xml"


def run(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(build("connect"), ["connect", "edexml", *arguments])


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
