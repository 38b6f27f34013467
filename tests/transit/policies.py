"""The policies that the how-to shows, so that they are tried as they stand there, and an environment with one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.transit.engine import Capabilities, FakeTransit, Key

KEY = "eck-broker"

HOW_TO = Path(__file__).parents[2] / "docs" / "howto" / "keys-in-vault.md"


def policy(role: str) -> Capabilities:
    """The policy of a role: the block of HCL that begins with `# ROLE`.

    Raises:
        LookupError: the how-to has none.
    """
    blocks = re.findall(r"```hcl\n# (\w+)\n(.*?)```", HOW_TO.read_text("utf-8"), re.S)
    found = dict(blocks)[role]
    rules = re.findall(r'path "([^"]+)" \{\s*capabilities = \[([^\]]*)\]\s*\}', found)
    return {path: frozenset(re.findall(r'"(\w+)"', names)) for path, names in rules}


def as_role(engine: FakeTransit, role: str, folder: Path, patch: pytest.MonkeyPatch, **token: Any) -> Path:
    """Sets the environment for a token with a role's policy; gives the file with the token, in `folder`."""
    engine.keys.setdefault(KEY, Key())
    file = folder / f"{role}.token"
    file.touch(0o600)
    file.write_text(engine.token(policy(role), **token) + "\n")
    patch.setenv("BROKER_TRANSIT_ADDRESS", engine.address)
    patch.setenv("BROKER_TRANSIT_KEY", KEY)
    patch.setenv("BROKER_TRANSIT_CA_FILE", str(engine.ca_file))
    patch.setenv("BROKER_TRANSIT_TOKEN_FILE", str(file))
    return file
