"""The threat model: every arrow is gone through by all six letters, and each row rests on something that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "threat-model.md").read_text("utf-8")
ARROWS = re.split(r"^## \((\d+)\) .*$", TEXT.split("## Who should know")[0], flags=re.MULTILINE)[1:]
ROWS = [
    [cell.strip() for cell in line.strip().strip("|").split("|")]
    for section in ARROWS[1::2]
    for line in section.splitlines()
    if re.match(r"\| \d", line)
]
TEST_ID = re.compile(r"`tests/[\w/]+\.py::test_\w+`")


def test_the_arrows_of_the_picture_are_the_sections() -> None:
    """Numbered from 1, each once in the picture."""
    picture = TEXT.split("```")[1]
    assert ARROWS[::2] == [str(n) for n in range(1, len(ARROWS) // 2 + 1)]
    assert sorted(re.findall(r"\((\d+)\)", picture), key=int) == ARROWS[::2]


def test_every_arrow_is_gone_through_by_all_six_letters() -> None:
    """A letter that nobody thought about is missed; a row has an id of its own, under its arrow."""
    ids = [row[0] for row in ROWS]
    assert len(ids) == len(set(ids))
    assert [name for name in ids if not re.fullmatch(r"\d+[STRIDE](-\d)?", name)] == []
    for number, section in zip(ARROWS[::2], ARROWS[1::2], strict=True):
        found = re.findall(r"^\| (\d+)([STRIDE])(?:-\d)? \|", section, re.MULTILINE)
        assert {arrow for arrow, _ in found} == {number}
        assert {letter for _, letter in found} == set("STRIDE"), number


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_row_says_what_it_rests_on(row: list[str]) -> None:
    """At least one test, or that it is accepted, or open; and whoever reads it is told why."""
    assert len(row) == 5
    assert all(row)
    _, _, _, measure, shown = row
    tests = TEST_ID.findall(shown)
    if shown in ("accepted", "open"):
        assert re.search(rf"\b{shown}\b", measure)
        assert len(measure.split()) >= 10
    else:
        assert tests
        assert ", ".join(tests) == shown


def test_each_module_that_is_named_exists() -> None:
    """A counter-measure that moved is followed."""
    named = set(re.findall(r"`((?:broker|scripts|docs)/[\w./-]+)`", TEXT))
    assert len(named) > 30
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_everything_that_is_accepted_has_somebody_who_should_know() -> None:
    """The last table names exactly the rows with an acceptance."""
    accepted = {row[0] for row in ROWS if "**accepted**" in row[3]}
    table = TEXT.split("## Who should know")[1]
    assert set(re.findall(r"\d+[STRIDE](?:-\d)?", table)) == accepted
