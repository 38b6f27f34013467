"""`broker compose`: the steps of docker-compose.yml, which nobody needs to type."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.output import err

app = typer.Typer(no_args_is_help=True, help="The steps of docker-compose.yml, which runs them by itself.")

Folder = Annotated[Path, typer.Option(help="That the volumes are mounted in.")]
Port = Annotated[int, typer.Option(min=1024, max=65000, help="First port of the three brokers; they take nine.")]


@app.command()
def hold() -> None:
    """Do nothing until SIGTERM: its container holds the network namespace that the others are in."""
    signal.pause()


@app.command()
def prepare(
    home: Folder,
    port: Port,
    kafka_libs: Annotated[str, typer.Option(help="Class path of Kafka's archives.")],
) -> None:
    """Write the brokers' certificates and configuration, and the first passwords. Keeps what is there."""
    from broker.app.compose import Home
    from broker.app.compose import prepare as make

    make(Home(home, port), kafka_libs)
    err.print("prepared: three brokers")


@app.command()
def setup(
    home: Folder,
    port: Port,
    registry: Annotated[Path, typer.Option(help="Folder of the registry.", file_okay=False)],
) -> None:
    """Make logins, keys, topics, rights and the registry on the three brokers. Keeps what is there."""
    from broker.app.compose import Home
    from broker.app.compose import setup as make

    err.print(f"set up: {make(Home(home, port), registry)} parties")


@app.command()
def door(
    listen: Annotated[str, typer.Option(help="Where connections come: host:port or unix:/path.")],
    to: Annotated[str, typer.Option(help="Where they are passed on to.")],
) -> None:
    """Pass connections from one place on to another, until SIGTERM."""
    import asyncio

    from broker.app.door import Place, stand

    asyncio.run(stand(Place.parse(listen), Place.parse(to)))
