"""Commands of the broker as its own command line reads them, without running them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any
from unittest.mock import patch

import typer.main

from broker.cli import build


def parsed(words: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[str, dict[str, Any]]:
    """What a command line comes to.

    Args:
        words: behind `broker`. environment: what counts beside them; that of this process does not.

    Returns:
        The names of groups and command, and the values of all options.

    Raises:
        click.UsageError: a word or option is not known, a value is wrong, or one is missing.
    """
    left, names = list(words), list[str]()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")}
    with patch.dict(os.environ, {**clean, **(environment or {})}, clear=True):
        command = typer.main.get_command(build())
        context = command.make_context("broker", left.copy())
        while hasattr(command, "commands"):
            names.append(left.pop(0))
            command = command.commands[names[-1]]
            context = command.make_context(names[-1], left.copy(), parent=context)
    return " ".join(names), context.params
