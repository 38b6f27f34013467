"""The tutorial of a school year, and what is promised of all three."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.tutorials import pattern, play, steps


def test_a_stated_output_that_is_not_so_does_not_match() -> None:
    """The pattern lets no other value through, no line too many and none too few."""
    wanted = pattern("a …\n…\nb\n")
    assert wanted.fullmatch("a 1\nb\n")
    assert wanted.fullmatch("a 1\nx\ny\nb\n")
    assert not wanted.fullmatch("a 1\nx\n")
    assert not wanted.fullmatch("c 1\nb\n")
    assert not wanted.fullmatch("a 1\nb\nb2\n")


@pytest.mark.parametrize("tutorial", ["tutorial.md", "tutorial-auditor.md", "tutorial-operator.md"])
def test_every_step_states_its_result(tutorial: str) -> None:
    """But for settings, files that are made, and stopping at the end."""
    silent = [step.command for step in steps(tutorial) if not step.shown]
    assert all(command.startswith(("export ", "printf ", "cp ", "broker demo --stop")) for command in silent), silent
    assert len(steps(tutorial)) > 20


@pytest.mark.kafka
@pytest.mark.timeout(1500)  # on a machine that does much else; by itself it takes minutes
def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    """Every command, and the result that is stated."""
    play("tutorial.md", tmp_path)
