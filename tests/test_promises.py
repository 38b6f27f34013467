"""The ledger of promises: all ten are there, and every test that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEDGER = (ROOT / "docs" / "promises.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", LEDGER)))


def test_each_promise_has_a_section_with_at_least_one_test() -> None:
    """P1 to P10, none without a test."""
    sections = re.split(r"^## (P\d+)\.", LEDGER, flags=re.MULTILINE)[1:]
    assert sections[::2] == [f"P{n}" for n in range(1, 11)]
    assert all("::test_" in text for text in sections[1::2])


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_each_named_test_exists(file: str, name: str) -> None:
    """A test that was renamed or removed is missed here."""
    assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text("utf-8"), re.MULTILINE)
