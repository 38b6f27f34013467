"""`broker worker`: one process of the exchange."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from broker.settings import WorkerSettings


def run(
    connection: Annotated[
        Path | None, typer.Option(help="Connection file; without it BROKER_CONNECTION or BROKER_KAFKA_... count.")
    ] = None,
    keys: Annotated[Path | None, typer.Option(help="Folder with the broker's keys.")] = None,
    state: Annotated[Path | None, typer.Option(help="Folder of this worker alone, for its copy of the vault.")] = None,
    group: Annotated[str | None, typer.Option(help="The same for all workers of one exchange.")] = None,
    http: Annotated[int | None, typer.Option(help="Port of /healthz, /readyz and /metrics; 0: none.")] = None,
) -> None:
    """Run the exchange until it is stopped (SIGTERM). Start more of these for more throughput."""
    from broker.app.worker import run_worker  # imports Faust, which takes a second

    given: dict[str, Any] = {
        "connection": connection, "keys": keys, "state": state, "group": group, "http_port": http,
    }  # fmt: skip
    settings = WorkerSettings(**{name: value for name, value in given.items() if value is not None})
    raise typer.Exit(run_worker(settings))
