"""Each requirement that a scenario can show has one, named by a tag such as @R10, so that none gets lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_bdd.feature import get_feature

FOLDER = Path(__file__).parent
# Rows of the requirements table. Those that are not here are shown elsewhere: what runs, and is kept, outside a decision.
REQUIRED = (
    "R1", "R2", "R3", "R4", "R5", "R6", "R6b", "R7", "R10", "R11", "R12", "R13", "R15", "R16", "R17", "R19", "R20",
    "R21", "R23", "R24", "R25", "R26", "R27", "R29",
)  # fmt: skip
KNOWN = frozenset({*REQUIRED, "R28"})


def tagged() -> dict[str, set[str]]:
    """Feature file -> the tags of its scenarios and of itself."""
    found: dict[str, set[str]] = {}
    for path in sorted(FOLDER.glob("*.feature")):
        feature = get_feature(str(FOLDER), path.name)
        found[path.name] = set(feature.tags).union(*(scenario.tags for scenario in feature.scenarios.values()))
    return found


@pytest.mark.parametrize("requirement", REQUIRED)
def test_each_requirement_has_a_scenario(requirement: str) -> None:
    """At least one scenario names it."""
    assert any(requirement in tags for tags in tagged().values())


def test_no_scenario_names_what_is_no_requirement() -> None:
    """A tag that is misspelt would show nothing."""
    assert {tag for tags in tagged().values() for tag in tags} <= KNOWN


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.feature")), ids=lambda path: path.stem)
def test_each_feature_says_what_happens_and_which_rule_it_shows(path: Path) -> None:
    """Two or three sentences that name a requirement, and every requirement that they name is shown."""
    feature = get_feature(str(FOLDER), path.name)
    sentences = [part for part in feature.description.replace("\n", " ").split(". ") if part.strip()]
    assert 2 <= len(sentences) <= 4
    named = {word.strip("(),.") for word in feature.description.split()} & KNOWN
    assert named
    assert named <= tagged()[path.name]
