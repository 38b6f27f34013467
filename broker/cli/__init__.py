"""The command `broker`. Each file of this folder is one group of commands (`app`), or one command (`run`)."""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import Final

import typer

from broker.cli.output import version
from broker.errors import BrokerError

COMMANDS: Final = ("demo", "send", "receive", "worker", "status")
GROUPS: Final = (
    "kafka",
    "topics",
    "registry",
    "policy",
    "routes",
    "schemas",
    "keys",
    "party",
    "connect",
    "audit",
    "auditlog",
    "quarantine",
    "ldv",
    "preseason",
    "witness",
    "compose",
)


def build(*names: str) -> typer.Typer:
    """The command line with these commands and groups; by default with all.

    Only what is asked for is imported: Kafka's clients, Faust and the cryptography together take a second.
    """
    app = typer.Typer(
        name="broker",
        help="The broker in the Dutch learning-materials chain: pseudonyms, few attributes, an audit of everything.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,  # rich tracebacks show local variables, and those hold pupils' data
        add_completion=False,
    )
    app.callback()(version)
    for name in names or (*COMMANDS, *GROUPS):
        module = import_module(f"broker.cli.{name}")
        if name in COMMANDS:
            app.command(name)(module.run)
        else:
            app.add_typer(module.app, name=name)
    return app


def main() -> None:
    """Entry point: our own errors become one readable line and exit code 1; interrupted is 130."""
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    wanted = (first,) if first in (*COMMANDS, *GROUPS) else ("policy",) if first == "--version" else ()
    # Kafka's clients log each retry; what matters of it comes as one of our errors.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        build(*wanted)()
    except BrokerError as error:
        sys.stderr.write(f"error: {error}\n  code: {error.code}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
