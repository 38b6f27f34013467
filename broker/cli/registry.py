"""`broker registry`: what differs, make it so, look."""

from __future__ import annotations

import asyncio
import getpass
import json
import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from aiokafka.errors import KafkaError

from broker.cli.output import err, json_line, out, table
from broker.errors import ConfigError
from broker.kafka.connection import KafkaConnection
from broker.kafka.diagnosis import explain
from broker.kafka.publish import publish_schemas
from broker.policy import Policy, Routes
from broker.registry import Change, Registry, check, diff, load_document, load_succession, records_of, store
from broker.registry.keep import Unnamed, keep, kept_connections
from broker.registry.succession import changes as changes_of
from broker.schemas import catalogue
from broker.schemas.outputs import published

app = typer.Typer(no_args_is_help=True, help="Parties, schools, agreements, connections and the policy.")

DRIFT = 2

Folder = Annotated[Path, typer.Argument(help="Folder of *.yaml files: the registry as it should be.", file_okay=False)]
Connection = Annotated[Path, typer.Option(envvar="BROKER_CONNECTION", help="The operator's connection file.")]
PolicyFile = Annotated[Path | None, typer.Option("--policy", help="Policy; by default the one of the package.")]
RoutesFile = Annotated[Path | None, typer.Option("--routes", help="Routes; by default those of the package.")]
Reason = Annotated[str, typer.Option(help="Why; stands in the audit for ever.")]
Operator = Annotated[str | None, typer.Option(help="Who; by default the user of this machine.")]
Prune = Annotated[
    bool,
    typer.Option(
        "--prune-connections",
        help="Also remove connections that the folder does not name; they may have been made by events of a school's "
        "own system.",
    ),
]
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
    prune_connections: Prune = False,
    as_json: AsJson = False,
) -> None:
    """Show what `apply` would change; exit code 2 when there is a difference. Nothing is written."""
    current = asyncio.run(store.read_records(KafkaConnection.from_file(connection)))
    desired = _desired(folder, policy, routes)
    becomes = keep(desired, current, "remove" if prune_connections else "keep")
    check(becomes)
    changes = diff(current, becomes)
    _show(changes, as_json=as_json)
    _show_kept(desired, becomes)
    if changes:
        raise typer.Exit(DRIFT)


@app.command()
def apply(
    folder: Folder,
    connection: Connection,
    reason: Reason,
    operator: Operator = None,
    policy: PolicyFile = None,
    routes: RoutesFile = None,
    prune_connections: Prune = False,
    as_json: AsJson = False,
) -> None:
    """Make the registry equal to the folder: one transaction, with each change in the audit.

    A party that has no keys in the folder keeps those that it has.

    Connections are switched by events of the schools' own systems too. So those that the folder does not name are kept,
    unless --prune-connections is given, and a side that came into its state later than the folder says is kept in any
    case: to undo it, give it a later time in the folder. What belongs to a school or a party that the folder does not
    have any more goes with it.
    """
    desired = _desired(folder, policy, routes)
    kafka = KafkaConnection.from_file(connection)
    # Output schemas follow from the policy: they must be there before the first record that is written with them.
    try:
        asyncio.run(publish_schemas(kafka, published(catalogue(), Registry.from_records(desired))))
    except KafkaError as error:
        raise explain(error, kafka) from error
    unnamed: Unnamed = "remove" if prune_connections else "keep"
    _show(
        asyncio.run(store.apply(kafka, desired, _user(operator), reason, unnamed_connections=unnamed)), as_json=as_json
    )
    _show_kept(desired, asyncio.run(store.read_records(kafka)))


@app.command()
def succeed(
    file: Annotated[Path, typer.Argument(help="YAML file with `successions:` and one of them.", dir_okay=False)],
    connection: Connection,
    reason: Reason,
    operator: Operator = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change; nothing is written.")] = False,
    as_json: AsJson = False,
) -> None:
    """A board merges into another, or a school's BRIN changes: carry over or end what was the predecessor's.

    One transaction, with each change and the succession itself in the audit. The files of the folder are not changed:
    bring them up to date before the next `apply`, with the succession under `successions:`.
    """
    succession = load_succession(file)
    kafka = KafkaConnection.from_file(connection)
    current = asyncio.run(store.read_records(kafka))
    becomes = store.changed(current, changes_of(current, succession))
    check(becomes)
    _show(diff(current, becomes), as_json=as_json)
    if dry_run:
        return
    if succession.first_day > (today := _today()):
        raise ConfigError(
            f"The succession begins on {succession.first_day}, and it is {today}: it would hold at once. Run this "
            "again on that day; --dry-run shows until then what it will do.",
            code="registry.succession",
        )
    made = asyncio.run(store.succeed(kafka, succession, _user(operator), reason))
    err.print(f"made: {len(made)} changes. Bring the folder up to date before the next `broker registry apply`.")


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
            rows.append((key, _called(content)))
    if as_json:
        for key, called in rows:
            json_line({"key": key, "is": called})
    else:
        table("", ["key", "is"], rows)


def _desired(folder: Path, policy: Path | None, routes: Path | None) -> dict[str, bytes]:
    rules, ways = Policy.load(policy), Routes.load(routes)
    return records_of(load_document(folder, rules, ways), rules, ways)


def _called(content: Mapping[str, Any]) -> str:
    """What a record is called, or what else tells it from others of its kind."""
    if "predecessor" in content:
        return f"{content['predecessor']} -> {content['successor']}"
    if "since" in content:
        return f"suspended since {content['since']}: {content['reason']}"
    if "start" in content:
        return f"{content['start']} to {content['end']}"
    return str(content.get("name") or content.get("state") or content.get("version") or "")


def _user(operator: str | None) -> str:
    return operator or getpass.getuser()


def _today() -> date:
    return datetime.now(UTC).date()


def _show_kept(desired: Mapping[str, bytes], becomes: Mapping[str, bytes]) -> None:
    """Say how many connection sides stand otherwise than the folder has them."""
    kept = kept_connections(desired, becomes)
    if kept.unnamed:
        err.print(
            f"kept: {len(kept.unnamed)} connection sides that the folder does not name (--prune-connections removes "
            "them)"
        )
    if kept.newer:
        err.print(f"kept: {len(kept.newer)} connection sides that are newer than in the folder")


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
