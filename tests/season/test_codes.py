"""The table of codes: what the command says is what the documentation says."""

from __future__ import annotations

import re
from pathlib import Path

from broker.season import CODES, Severity, reference

GUIDE = Path(__file__).parents[2] / "docs" / "howto" / "preseason.md"


def test_the_guide_has_the_table_of_the_code() -> None:
    """Word for word; after a change of the codes copy `broker.season.reference()` there."""
    assert reference() in GUIDE.read_text("utf-8")


def test_the_guide_names_no_code_that_is_not_there() -> None:
    """Else somebody would search for it."""
    rows = re.findall(r"^\| `([a-z-]+\.[a-z-]+)` \|", GUIDE.read_text("utf-8"), re.MULTILINE)
    assert rows == list(CODES)


def test_a_code_has_a_form_and_a_meaning() -> None:
    """What it is about, a dot, and what is so; with something to do, and no bar that would break the table."""
    for code, meaning in CODES.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*\.[a-z]+(-[a-z]+)*", code)
        assert meaning.means
        assert meaning.todo
        assert "|" not in meaning.means + meaning.todo
    assert {meaning.severity for meaning in CODES.values()} == set(Severity)
