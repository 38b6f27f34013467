"""The tutorial of a school year, and what is promised of all three."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.tutorials import ROOT, pattern, play, steps


def test_a_stated_output_that_is_not_so_does_not_match() -> None:
    """The pattern lets no other value through, no line too many and none too few."""
    wanted = pattern("a …\n…\nb\n")
    assert wanted.fullmatch("a 1\nb\n")
    assert wanted.fullmatch("a 1\nx\ny\nb\n")
    assert not wanted.fullmatch("a 1\nx\n")
    assert not wanted.fullmatch("c 1\nb\n")
    assert not wanted.fullmatch("a 1\nb\nb2\n")


TUTORIALS = sorted(path.name for path in (ROOT / "docs").glob("tutorial*.md"))


def test_each_tutorial_is_played() -> None:
    """By a test in a file of its own."""
    played = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_tutorial*.py"))
    assert len(TUTORIALS) >= 3
    assert [name for name in TUTORIALS if f'play("{name}", tmp_path)' not in played] == []


@pytest.mark.parametrize("tutorial", TUTORIALS)
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
