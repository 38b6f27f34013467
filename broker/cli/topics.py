"""`broker topics`: topics, rights and quotas as code."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated

import typer
from aiokafka.errors import KafkaError

from broker import registry as registries
from broker.app.cluster import Wanted, wanted_of
from broker.app.suspension import apply_to_cluster, suspended_parties
from broker.cli.output import err, json_line, table
from broker.errors import BrokerError, ConfigError, told
from broker.kafka.access import desired_acls
from broker.kafka.admin import Admin
from broker.kafka.changes import Change
from broker.kafka.connection import KafkaConnection
from broker.kafka.quotas import desired_quotas
from broker.kafka.topics import desired_topics, load_specs

app = typer.Typer(
    no_args_is_help=True, help="Compare and set up topics, rights and quotas, from topics/*.yaml and the registry."
)

Registry = Annotated[
    Path | None,
    typer.Option(help="Take the parties from this folder. Without it and --registry-topic: only what no party has."),
]
Live = Annotated[
    bool, typer.Option("--registry-topic", help="Take the parties from the topic `registry`: those that count now.")
]
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
    registry_topic: Live = False,
    connection: Connection = None,
    topics: Specs = None,
    replicas: Replicas = None,
    as_json: AsJson = False,
) -> None:
    """Show what differs. Ends with 0 when nothing does, with 2 when something does."""
    admin = _admin(connection)
    wanted_for, with_parties = _wanted(admin, registry, registry_topic, topics, replicas)
    wanted = wanted_for(suspended_parties(admin) if with_parties else frozenset())
    changes = admin.plan(wanted.topics, wanted.acls, wanted.quotas)
    _show(changes, "To change", as_json)
    if changes:
        raise typer.Exit(2)
    err.print("nothing to change")


@app.command()
def apply(
    registry: Registry = None,
    registry_topic: Live = False,
    connection: Connection = None,
    topics: Specs = None,
    replicas: Replicas = None,
    as_json: AsJson = False,
) -> None:
    """Create topics, change their settings, set rights and quotas. Never deletes or shrinks a topic.

    Ends with 2 when something is left that only a person can decide.
    """
    admin = _admin(connection)
    wanted_for, with_parties = _wanted(admin, registry, registry_topic, topics, replicas)
    if with_parties:
        wanted, done = apply_to_cluster(admin, wanted_for)
    else:
        wanted = wanted_for(frozenset())
        done = admin.apply(wanted.topics, wanted.acls, wanted.quotas)
    left = admin.plan(wanted.topics, wanted.acls, wanted.quotas)
    _show(done, "Changed", as_json)
    if not done:
        err.print("nothing to change")
    if left:
        _show(left, "Left, for a person to decide", as_json)
        raise typer.Exit(2)


@app.command()
def strimzi(
    cluster: Annotated[str, typer.Option(help="Name of the Kafka resource that the users belong to.")],
    registry: Registry = None,
    registry_topic: Live = False,
    connection: Connection = None,
    nobody_suspended: Annotated[
        bool, typer.Option("--nobody-suspended", help="Do not ask Kafka who is suspended: I know that nobody is.")
    ] = False,
) -> None:
    """Print the users as KafkaUser documents of Strimzi, with rights and quotas; of parties only with a registry.

    Who is suspended is left out, since Strimzi gives whom it has a document of a login and rights: for that Kafka is
    asked. Of services alone, and with --nobody-suspended, nobody has to be asked and no connection is needed.
    """
    import yaml

    from broker.kafka.strimzi import kafka_users

    if nobody_suspended and registry_topic:
        raise ConfigError(
            "--registry-topic says who is suspended too, so --nobody-suspended can not stand beside it. Leave it out.",
            code="topics.registry",
        )
    parties, without = _parties(registry, registry_topic, lambda: _connection(connection)), frozenset[str]()
    if parties is not None and not nobody_suspended:
        without = suspended_parties(_admin(connection))
    wanted = None if parties is None else wanted_of(parties, suspended=without)
    acls = desired_acls(()) if wanted is None else wanted.acls
    quotas = desired_quotas({}) if wanted is None else wanted.quotas
    users = kafka_users(acls or (), quotas or (), cluster)
    for party in sorted(without):
        err.print(f"left out: {party} is suspended. Is there a KafkaUser of it, delete that.", markup=False)
    sys.stdout.write(yaml.safe_dump_all(users, explicit_start=True, sort_keys=False))


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
    cluster = _connection(connection)
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


def _admin(connection: Path | None) -> Admin:
    return Admin(_connection(connection))


def _connection(file: Path | None) -> KafkaConnection:
    return KafkaConnection.from_file(file) if file else KafkaConnection.from_env()


def _wanted(
    admin: Admin, folder: Path | None, live: bool, topics: Path | None, replicas: int | None
) -> tuple[Callable[[frozenset[str]], Wanted], bool]:
    """Topics, rights and quotas, by who is suspended; and whether there are parties among them.

    Without a registry there are no rights and no quotas: those of all parties would seem too many.
    """
    registry = _parties(folder, live, lambda: admin.connection)
    if replicas is None and admin.brokers() == 1:
        err.print("one broker: every topic with one replica")
        replicas = 1
    specs = load_specs(topics)
    if registry is None:
        plain = Wanted(desired_topics(specs, {}, replicas=replicas), None, None)
        return lambda _: plain, False
    # Who is suspended has no rights, whatever the folder says.
    return lambda suspended: wanted_of(registry, specs, suspended=suspended, replicas=replicas), True


def _parties(folder: Path | None, live: bool, connection: Callable[[], KafkaConnection]) -> registries.Registry | None:
    """The registry whose parties count, if any was named."""
    from broker.registry.store import read_records

    if folder is not None and live:
        raise ConfigError(
            "--registry and --registry-topic are two answers to one question: which parties there are. Give one.",
            code="topics.registry",
        )
    if not live:
        return registries.load(folder) if folder else None
    registry = registries.Registry.from_records(asyncio.run(read_records(connection())))
    if not registry.parties:
        raise ConfigError(
            "There is no party on the topic registry, so all would lose their rights. "
            "Run `broker registry apply` first, or give a folder with --registry.",
            code="topics.registry",
        )
    return registry


def _show(changes: Iterable[Change], title: str, as_json: bool) -> None:
    changes = list(changes)
    if as_json:
        for change in changes:
            json_line({"change": change.kind, "target": change.target, "detail": change.detail})
    elif changes:
        table(title, ["change", "target", "detail"], [(c.kind.replace("_", " "), c.target, c.detail) for c in changes])
