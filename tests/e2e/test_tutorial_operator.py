"""The operator's day; a file of its own, so that it can run beside the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.tutorials import play


@pytest.mark.kafka
@pytest.mark.timeout(1500)  # on a machine that does much else; by itself it takes minutes
def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    """Every command, and the result that is stated."""
    play("tutorial-operator.md", tmp_path)
