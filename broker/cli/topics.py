"""`broker topics`: topics and rights as code."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import typer
from aiokafka.errors import KafkaError

from broker.app.suspension import suspended_parties
from broker.cli.output import err, json_line, table
from broker.errors import BrokerError, told
from broker.kafka.access import AclSpec, desired_acls
from broker.kafka.admin import Admin, Change
from broker.kafka.connection import KafkaConnection
from broker.kafka.topics import PartyTopics, TopicSpec, desired_topics, load_specs

app = typer.Typer(
    no_args_is_help=True, help="Compare and set up topics and rights, from topics/*.yaml and the registry."
)

Registry = Annotated[Path | None, typer.Option(help="Folder of the registry; without it: only what no party has.")]
Connection = Annotated[
    Path | None,
    typer.Option(envvar="BROKER_CONNECTION", help="The operator's connection file; default: BROKER_KAFKA_* settings."),
]
Specs = Annotated[Path | None, typer.Option("--topics", help="Folder of topic files; default: those of the broker.")]
Replicas = Annotated[
    int | None, typer.Option(min=1, max=5, help="Instead of what the files say; 1 on a cluster of one broker.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one line of JSON per change.")]


@app.command()
def plan(
    registry: Registry = None,
    connection: Connection = None,
    topics: Specs = None,
    replicas: Replicas = None,
    as_json: AsJson = False,
) -> None:
    """Show what differs. Ends with 0 when nothing does, with 2 when something does."""
    admin = _admin(connection)
    wanted, acls = _wanted(admin, registry, topics, replicas)
    changes = admin.plan(wanted, acls)
    _show(changes, "To change", as_json)
    if changes:
        raise typer.Exit(2)
    err.print("nothing to change")


@app.command()
def apply(
    registry: Registry = None,
    connection: Connection = None,
    topics: Specs = None,
    replicas: Replicas = None,
    as_json: AsJson = False,
) -> None:
    """Create topics, change their settings, set rights. Never deletes or shrinks a topic.

    Ends with 2 when something is left that only a person can decide.
    """
    admin = _admin(connection)
    wanted, acls = _wanted(admin, registry, topics, replicas)
    done = admin.apply(wanted, acls)
    left = admin.plan(wanted, acls)
    _show(done, "Changed", as_json)
    if not done:
        err.print("nothing to change")
    if left:
        _show(left, "Left, for a person to decide", as_json)
        raise typer.Exit(2)


@app.command()
def trim(
    connection: Connection = None,
    group: Annotated[str, typer.Option(envvar="BROKER_GROUP", help="That of the workers.")] = "exchange",
    keep_hours: Annotated[
        float, typer.Option(min=0.0, max=22.0, help="Keep what came in since, decided or not.")
    ] = 12.0,
    every: Annotated[float | None, typer.Option(min=1.0, max=60.0, help="Minutes; without it: once.")] = None,
    as_json: AsJson = False,
) -> None:
    """Remove input that was decided over, and nothing else. Done at least each hour, it is gone within 24 hours.

    Uses the connection of the user `remover`, the only one with the right to it. With --every a failure is told and
    tried again at the next turn.
    """
    cluster = KafkaConnection.from_file(connection) if connection else KafkaConnection.from_env()
    while True:
        try:
            removed = _trim(cluster, group, keep_hours)
        except (BrokerError, KafkaError, TimeoutError) as error:
            if every is None:
                raise
            err.print(f"nothing was removed this time, it is tried again in {every:g} minutes: {told(error)}")
        else:
            _show_removed(removed, as_json)
        if every is None:
            return
        time.sleep(60 * every)


def _trim(connection: KafkaConnection, group: str, keep_hours: float) -> Mapping[tuple[str, int], int]:
    from broker.app.removal import plan_removal
    from broker.engine import KafkaClients

    plan = asyncio.run(plan_removal(KafkaClients(connection), group, 3600 * keep_hours))
    before = {(place.topic, place.partition): offset for place, offset in sorted(plan.before.items())}
    if before:
        Admin(connection).delete_records(before)
    for place in sorted(plan.odd):
        err.print(f"{place.topic}/{place.partition} ends before its lane's position: left alone")
    return before


def _show_removed(removed: Mapping[tuple[str, int], int], as_json: bool) -> None:
    if as_json:
        for (topic, partition), before in removed.items():
            json_line({"topic": topic, "partition": partition, "before": before})
    elif removed:
        rows = [(topic, str(partition), str(before)) for (topic, partition), before in removed.items()]
        table("Removed", ["topic", "partition", "before offset"], rows)
    else:
        err.print("nothing to remove")


def parties_of(registry_dir: Path) -> dict[str, PartyTopics]:
    """The parties of a registry folder, with the families each may receive."""
    from broker.registry import load, receivable_families

    registry = load(registry_dir)
    return {party: PartyTopics(frozenset(receivable_families(registry, party))) for party in registry.parties}


def _admin(connection: Path | None) -> Admin:
    return Admin(KafkaConnection.from_file(connection) if connection else KafkaConnection.from_env())


def _wanted(
    admin: Admin, registry: Path | None, topics: Path | None, replicas: int | None
) -> tuple[tuple[TopicSpec, ...], frozenset[AclSpec] | None]:
    """Topics and rights; no rights without a registry: those of all parties would seem too many."""
    parties = parties_of(registry) if registry else {}
    if replicas is None and admin.brokers() == 1:
        err.print("one broker: every topic with one replica")
        replicas = 1
    wanted = desired_topics(load_specs(topics), parties, replicas=replicas)
    if registry is None:
        return wanted, None
    # Who is suspended keeps its topics and has no rights, whatever the folder says.
    return wanted, desired_acls(parties.keys() - suspended_parties(admin))


def _show(changes: Iterable[Change], title: str, as_json: bool) -> None:
    changes = list(changes)
    if as_json:
        for change in changes:
            json_line({"change": change.kind, "target": change.target, "detail": change.detail})
    elif changes:
        table(title, ["change", "target", "detail"], [(c.kind.replace("_", " "), c.target, c.detail) for c in changes])
