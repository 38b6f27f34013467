"""`broker registry`: what differs, make it so, look."""

from __future__ import annotations

import asyncio
import getpass
import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from aiokafka.errors import KafkaError

from broker.cli.output import err, json_line, out, table
from broker.errors import ConfigError
from broker.kafka.connection import KafkaConnection
from broker.kafka.diagnosis import explain
from broker.kafka.publish import publish_schemas
from broker.policy import Policy, Routes
from broker.registry import Change, Registry, diff, load_document, records_of, store
from broker.schemas import catalogue
from broker.schemas.outputs import published

app = typer.Typer(no_args_is_help=True, help="Parties, schools, agreements, connections and the policy.")

DRIFT = 2

Folder = Annotated[Path, typer.Argument(help="Folder of *.yaml files: the registry as it should be.", file_okay=False)]
Connection = Annotated[Path, typer.Option(envvar="BROKER_CONNECTION", help="The operator's connection file.")]
PolicyFile = Annotated[Path | None, typer.Option("--policy", help="Policy; by default the one of the package.")]
RoutesFile = Annotated[Path | None, typer.Option("--routes", help="Routes; by default those of the package.")]
AsJson = Annotated[bool, typer.Option("--json", help="One line of JSON for each.")]


@app.callback()
def registry() -> None:
    """Parties, schools, agreements, connections and the policy."""


@app.command()
def plan(
    folder: Folder,
    connection: Connection,
    policy: PolicyFile = None,
    routes: RoutesFile = None,
    as_json: AsJson = False,
) -> None:
    """Show what `apply` would change; exit code 2 when there is a difference. Nothing is written."""
    current = asyncio.run(store.read_records(KafkaConnection.from_file(connection)))
    changes = diff(current, store.keep_keys(_desired(folder, policy, routes), current))
    _show(changes, as_json=as_json)
    if changes:
        raise typer.Exit(DRIFT)


@app.command()
def apply(
    folder: Folder,
    connection: Connection,
    reason: Annotated[str, typer.Option(help="Why; stands in the audit for ever.")],
    operator: Annotated[str | None, typer.Option(help="Who; by default the user of this machine.")] = None,
    policy: PolicyFile = None,
    routes: RoutesFile = None,
    as_json: AsJson = False,
) -> None:
    """Make the registry equal to the folder: one transaction, with each change in the audit.

    A party that has no keys in the folder keeps those that it has.
    """
    desired = _desired(folder, policy, routes)
    kafka = KafkaConnection.from_file(connection)
    # Output schemas follow from the policy: they must be there before the first record that is written with them.
    try:
        asyncio.run(publish_schemas(kafka, published(catalogue(), Registry.from_records(desired))))
    except KafkaError as error:
        raise explain(error, kafka) from error
    _show(asyncio.run(store.apply(kafka, desired, operator or getpass.getuser(), reason)), as_json=as_json)


@app.command()
def get(
    key: Annotated[str, typer.Argument(help="Such as party/portaal-plein, or connection/ID/sender.")],
    connection: Connection,
) -> None:
    """Print one record as JSON."""
    value = asyncio.run(store.read_records(KafkaConnection.from_file(connection))).get(key)
    if value is None:
        raise ConfigError(
            f"The registry has no record {key}; `broker registry list` shows all keys.", code="registry.key"
        )
    sys.stdout.write(json.dumps(json.loads(value), indent=2, ensure_ascii=False) + "\n")


@app.command("list")
def list_records(
    connection: Connection,
    kind: Annotated[str | None, typer.Option(help="Only this kind, such as agreement.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print the keys of all records, and what they are called."""
    records = asyncio.run(store.read_records(KafkaConnection.from_file(connection)))
    rows = []
    for key in sorted(records):
        if kind in (None, key.partition("/")[0]):
            content = json.loads(records[key])
            rows.append((key, content.get("name") or content.get("state") or content.get("version") or ""))
    if as_json:
        for key, called in rows:
            json_line({"key": key, "is": called})
    else:
        table("", ["key", "is"], rows)


def _desired(folder: Path, policy: Path | None, routes: Path | None) -> dict[str, bytes]:
    rules, ways = Policy.load(policy), Routes.load(routes)
    return records_of(load_document(folder, rules, ways), rules, ways)


def _show(changes: list[Change], *, as_json: bool) -> None:
    if as_json:
        for change in changes:
            json_line({"key": change.key, "action": change.action, "fields": list(change.fields)})
        return
    if not changes:
        out.print("no difference")
        return
    table("", ["action", "key", "fields"], [(c.action, c.key, ", ".join(c.fields)) for c in changes])
    err.print(f"{len(changes)} differences")
