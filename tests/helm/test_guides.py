"""The guides: the commands in them exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.helm.commands import parsed

HOWTO = Path(__file__).parents[2] / "docs" / "howto"
WAYS = (
    r"broker|docker compose run --rm (?:-T )?cli|docker compose exec \S+ python -m broker|"
    r"kubectl .* exec \S+ --container \S+ -- python -m broker"
)
GUIDES = ("kubernetes.md", "compose.md", "local-kafka.md", "quarantine.md", "rotate-keys.md", "witness.md")


def commands(guide: str) -> list[str]:
    """The arguments of all commands of the broker in a guide's code blocks, also those that run in a container."""
    text = (HOWTO / guide).read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line.partition(" #")[0].partition(" > ")[0].partition(" < ")[0] for b in blocks for line in b.splitlines()]
    found = [re.fullmatch(rf"(?:{WAYS}) (.+)", line.strip()) for line in lines]
    return [match[1] for match in found if match]


@pytest.mark.parametrize("command", [command for guide in GUIDES for command in commands(guide)])
def test_a_command_of_the_guides_is_understood(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its words and options are those of the command line; it is parsed, not run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "operator.jwks").touch()
    name, _ = parsed(shlex.split(command), {"BROKER_CONNECTION": "operator.json"})
    assert name
    assert command.startswith(name)


def test_the_guides_have_commands() -> None:
    """What the test above goes through is not empty."""
    assert [len(commands(guide)) for guide in GUIDES] == [17, 6, 11, 9, 8, 2]
