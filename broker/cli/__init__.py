"""The command `broker`. Each file of this folder is one group of commands, or one command."""

from __future__ import annotations

import sys

import typer

from broker.cli import (
    audit,
    connect,
    demo,
    kafka,
    keys,
    party,
    policy,
    receive,
    registry,
    schemas,
    send,
    topics,
    worker,
)
from broker.cli.output import version
from broker.errors import BrokerError

app = typer.Typer(
    name="broker",
    help="The broker in the Dutch learning-materials chain: pseudonyms, minimal attributes, an audit of everything.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # rich tracebacks show local variables, and those hold pupils' data
    add_completion=False,
)
app.callback()(version)
for command in (demo, send, receive, worker):
    app.command(name=command.__name__.rpartition(".")[2])(command.run)
for group in (kafka, topics, registry, policy, schemas, keys, party, connect, audit):
    app.add_typer(group.app, name=group.__name__.rpartition(".")[2])


def main() -> None:
    """Entry point: our own errors become one readable line and exit code 1; interrupted is 130."""
    try:
        app()
    except BrokerError as error:
        sys.stderr.write(f"error: {error}\n  code: {error.code}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
