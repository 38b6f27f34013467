"""The ledger of promises: all ten are there, every test that it or another ledger names exists, and no test names
another promise.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEDGER = (ROOT / "docs" / "promises.md").read_text("utf-8")
PROMISES = frozenset(re.findall(r"^## (P\d+)\.", LEDGER, re.MULTILINE))
TESTS = sorted(path for folder in ("tests", "chaos") for path in (ROOT / folder).rglob("*.py"))
OTHERS = "".join((ROOT / "docs" / name).read_text("utf-8") for name in ("threat-model.md", "rosa.md"))
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", LEDGER + OTHERS)))


def test_each_promise_has_a_section_with_at_least_one_test() -> None:
    """P1 to P10, none without a test."""
    sections = re.split(r"^## (P\d+)\.", LEDGER, flags=re.MULTILINE)[1:]
    assert sections[::2] == [f"P{n}" for n in range(1, 11)]
    assert all("::test_" in text for text in sections[1::2])


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_each_named_test_exists(file: str, name: str) -> None:
    """A test that was renamed or removed is missed here."""
    assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text("utf-8"), re.MULTILINE)


def promises_named(text: str) -> set[str]:
    """What a text calls a promise: P and a number, not a part of another word, as `P256` or `CRIT_P1` are."""
    return set(re.findall(r"(?<![\w-])P\d{1,2}(?![\w-])", text))


def test_no_test_names_a_promise_that_there_is_not() -> None:
    """Somebody who reads P11 in a test would look for it in vain."""
    found = {path.relative_to(ROOT): promises_named(path.read_text("utf-8")) - PROMISES for path in TESTS}
    found.pop(Path(__file__).relative_to(ROOT))  # says what is not one
    assert {str(path): names for path, names in found.items() if names} == {}


def test_what_names_a_promise_is_found_and_what_only_looks_like_it_is_not() -> None:
    """Else the check above would pass whatever tests say."""
    assert promises_named("keeps P2 (P7), P11") == {"P2", "P7", "P11"}
    assert promises_named("key P256, PT5S, level-P1, P1-x") == set()
