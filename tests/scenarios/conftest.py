"""The chain of a scenario, and tags such as @R10, which are no markers of pytest's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.scenarios.world import Chain


@pytest.fixture
def chain() -> Chain:
    """The example registry with all its parties; nobody is enrolled."""
    return Chain.begin()


def pytest_bdd_apply_tag(tag: str, function: Any) -> bool:
    """Tags name requirements for `test_requirements`, and select no tests."""
    return True


def pytest_bdd_after_step(request: pytest.FixtureRequest, step: Any) -> None:
    """What is given came before the story: nobody reads it in it."""
    if step.type == "given":
        request.getfixturevalue("chain").forget()
