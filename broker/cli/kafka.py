"""`broker kafka`: a real Apache Kafka on this machine, without Java or containers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import platformdirs
import typer

from broker.cli.output import err, json_line, out
from broker.errors import ConfigError
from broker.kafka.embedded import EmbeddedKafka
from broker.kafka.home import Status
from broker.kafka.warming import warm as record_start

app = typer.Typer(no_args_is_help=True, help="Run a real Apache Kafka on this machine, for trying out and for tests.")

DEFAULT_HOME = platformdirs.user_data_path("eck-broker") / "kafka"

Home = Annotated[Path, typer.Option(envvar="BROKER_KAFKA_HOME", help="Folder with its data, keys and ports.")]
Offline = Annotated[bool, typer.Option("--offline", help="Do not fetch anything.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]


@app.command()
def start(
    home: Home = DEFAULT_HOME,
    brokers: Annotated[int | None, typer.Option(help="1, or 3 to try out the loss of one.")] = None,
    port: Annotated[int | None, typer.Option(min=1024, max=65000, help="First port; default: free ones.")] = None,
    kafka_version: Annotated[
        str | None,
        typer.Option(
            envvar="BROKER_KAFKA_VERSION",
            help="Another version of Kafka; default: what the home ran last, else the one all is tested with.",
        ),
    ] = None,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Start it, or what is gone of it, in the background. The first time it is fetched (45 MB)."""
    kafka = EmbeddedKafka(home, brokers=brokers, base_port=port, offline=offline, version=kafka_version)
    running = kafka.status().state == "running"
    kafka.start(detached=True)
    err.print("Kafka is already running" if running else "Kafka is running")
    _show(kafka.status(), as_json)


@app.command()
def warm(
    kafka_version: Annotated[
        str | None, typer.Option(envvar="BROKER_KAFKA_VERSION", help="Of which version of Kafka.")
    ] = None,
    offline: Offline = False,
) -> None:
    """Make later starts on this machine take two thirds of the time: record one, once (75 MB beside the archives)."""
    file = record_start(version=kafka_version, offline=offline)
    err.print(f"Kafka starts faster with {file}", markup=False)


@app.command()
def stop(home: Home = DEFAULT_HOME) -> None:
    """Stop it. Its data stays in the home folder."""
    kafka = EmbeddedKafka(home)
    if kafka.status().state == "stopped":
        err.print("Kafka is not running")
        return
    kafka.stop()
    err.print("Kafka is stopped")


@app.command()
def status(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Tell whether it runs, and where. Ends with 3 when it does not run, as `systemctl status` does."""
    found = EmbeddedKafka(home).status()
    _show(found, as_json)
    if found.state != "running":
        raise typer.Exit(3)


@app.command()
def logs(
    home: Home = DEFAULT_HOME,
    node: Annotated[int, typer.Option(min=1, help="Which broker.")] = 1,
) -> None:
    """Print the end of a broker's log."""
    kafka = EmbeddedKafka(home)
    if node > kafka.status().brokers:
        raise ConfigError(f"There is no broker {node} in {home}.", code="kafka.node")
    out.print(kafka.tail(node), markup=False)


def _show(found: Status, as_json: bool) -> None:
    connection = str(found.connection_file) if found.connection_file else None
    if as_json:
        json_line(
            {
                "state": found.state,
                "home": str(found.home),
                "version": found.version,
                "bootstrap": found.bootstrap,
                "ports": list(found.ports),
                "pids": {str(node): pid for node, pid in found.pids.items()},
                "connection": connection,
            }
        )
        return
    out.print(f"state       {found.state} ({len(found.pids)} of {found.brokers} brokers)", markup=False)
    out.print(f"version     Apache Kafka {found.version}", markup=False)
    out.print(f"home        {found.home}", markup=False)
    if found.bootstrap:
        out.print(f"bootstrap   {found.bootstrap} (TLS, SCRAM-SHA-512)", markup=False)
    if found.pids:
        out.print(
            f"processes   {', '.join(f'{pid} (broker {node})' for node, pid in found.pids.items())}", markup=False
        )
    if connection:
        out.print(f"connection  {connection} (the super user's: keep it)", markup=False)
