"""What `broker quarantine` says before it connects to anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from broker.cli import build
from broker.errors import ConfigError

PLACE = "delta/0/1"


def run(*arguments: str) -> Result:
    """Run the command, with no connection or profile in the environment."""
    nothing = dict.fromkeys(("BROKER_CONNECTION", "BROKER_PROFILES", "BROKER_OPERATOR_KEYS"))
    return CliRunner().invoke(build("quarantine"), ["quarantine", *arguments], env=nothing)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("list",), "quarantine.who"),
        (("list", "--state", "gone"), "quarantine.state"),
        (("list", "--as", "delta", "--party", "plein"), "quarantine.sender"),
        (("list", "--as", "delta"), "profile.missing"),
        (("show", PLACE), "quarantine.who"),
        (("show", "in.delta/0/1", "--as", "delta"), "quarantine.place"),
        (("show", PLACE, "--as", "plein"), "quarantine.sender"),
        (("replay", PLACE), "profile.missing"),
        (("replay", "182071649"), "quarantine.place"),
        (("drop", PLACE, "--reason", "x"), "quarantine.who"),
    ],
)
def test_what_can_not_be_done_is_told_at_once(
    arguments: tuple[str, ...], code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a code, and what to do; what was given as a place is not repeated."""
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert isinstance(done.exception, ConfigError)
    assert done.exception.code == code
    assert "182071649" not in str(done.exception)


def test_a_drop_without_a_reason_is_no_command() -> None:
    """It stands in the audit for ever."""
    done = run("drop", PLACE)
    assert done.exit_code == 2
    assert "--reason" in done.stderr
