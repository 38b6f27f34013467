"""`broker preseason`: what would go wrong at the start of a school year."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from broker.cli.output import err, json_line, table
from broker.client.published import missing_topic
from broker.engine import KafkaClients
from broker.engine.topics import TopicCounts
from broker.errors import ConfigError
from broker.exchange.keys import vault_cipher
from broker.exchange.model import AUDIT_CONTROL, VAULT
from broker.kafka.connection import KafkaConnection
from broker.kafka.diagnosis import explain
from broker.kafka.reading import looking
from broker.keys.open import open_keys
from broker.registry import load_document, records_of, store
from broker.season import Census, Entries, Facts, Finding, SchoolYear, Severity, preseason, unconfirmed

app = typer.Typer(no_args_is_help=True, help="Look ahead: what would go wrong at the start of a school year.")

BLOCKED = 2

Year = Annotated[str | None, typer.Option("--school-year", help="Such as 2026-2027; by default the next one.")]
School = Annotated[str | None, typer.Option(help="Only this school (BRIN, or a location of it).")]
Connection = Annotated[
    Path | None, typer.Option(envvar="BROKER_CONNECTION", help="Connection file of the worker or the operator.")
]
Folder = Annotated[
    Path | None, typer.Option(help="A folder of the registry instead, without Kafka.", exists=True, file_okay=False)
]
Keys = Annotated[
    Path | None,
    typer.Option(
        help="The broker's keys: pupils are counted too. For the worker's connection.", exists=True, file_okay=False
    ),
]
Day = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d"], help="As if it were this day; by default today (UTC).")
]
AsJson = Annotated[bool, typer.Option("--json", help="One line of JSON for each finding.")]


@app.callback()
def group() -> None:
    """Look ahead: what would go wrong at the start of a school year."""


@app.command()
def check(
    school_year: Year = None,
    school: School = None,
    connection: Connection = None,
    folder: Folder = None,
    keys: Keys = None,
    day: Day = None,
    as_json: AsJson = False,
) -> None:
    """List, per school, what blocks the school year, what ends in it, and what is good to know.

    Ends with 2 if something blocks, else with 0. Pupils are counted per school and sector, never named.
    """
    today = day.date() if day is not None else datetime.now(UTC).date()
    year = SchoolYear.parse(school_year) if school_year is not None else SchoolYear.of(today).next
    if folder is not None:
        if keys is not None:
            raise ConfigError("a folder has no pupils to count: leave --keys or --folder out", code="season.source")
        entries, facts = Entries.of(records_of(load_document(folder))), Facts()
    elif connection is not None:
        cluster = KafkaConnection.from_file(connection)
        entries = Entries.of(asyncio.run(store.read_records(cluster)))
        try:
            facts = asyncio.run(_facts(cluster, keys, max(today, year.first_day)))
        except KafkaError as error:
            raise explain(error, cluster) from error
    else:
        raise ConfigError("say where the registry is: --connection, or --folder", code="season.source")
    found = preseason(entries, today, year, facts, school)
    if as_json:
        for finding in found:
            json_line(_document(finding))
    else:
        _show(entries, found)
    number = 1 if school is not None else len(entries.registry.schools)
    summary = _summary(found, number, year, facts)
    if as_json:
        err.print(summary, markup=False)
    else:
        sys.stdout.write(f"{summary}\n")
    if any(finding.severity is Severity.BLOCKS for finding in found):
        raise typer.Exit(BLOCKED)


def _document(finding: Finding) -> dict[str, object]:
    known = {
        "school": finding.school,
        "severity": finding.severity.value,
        "code": finding.code,
        "sector": finding.sector,
        "party": finding.party,
        "about": list(finding.about),
        "count": finding.count,
        "on": None if finding.on is None else finding.on.isoformat(),
        "says": finding.says,
        "todo": finding.meaning.todo,
    }
    return {name: value for name, value in known.items() if value is not None}


def _show(entries: Entries, found: Sequence[Finding]) -> None:
    for school, findings in groupby(found, lambda finding: finding.school):
        known = entries.registry.school(school)
        title = f"{school} {known.name}" if known is not None else f"{school} (not in the registry any more)"
        rows = [(f.severity.value, f.code, f.says, f.meaning.todo) for f in findings]
        table(title, ["severity", "code", "what is so", "what to do"], rows)


def _summary(found: Sequence[Finding], schools: int, year: SchoolYear, facts: Facts) -> str:
    counts = Counter(finding.severity for finding in found)
    text = f"{year}, {schools} schools: " + ", ".join(f"{counts[s]} {s.value}" for s in Severity)
    unseen = ", ".join(facts.not_looked_at())
    return f"{text}; not looked at: {unseen}" if unseen else text


async def _facts(cluster: KafkaConnection, keys: Path | None, start: date) -> Facts:
    """What this connection may see besides the registry.

    Args:
        keys: of the broker, to count pupils with. start: who left before this day has left.

    Raises:
        ConfigError: `topic.missing`, if a topic does not exist or may not be read; `keys.*`, `vault.key`.
    """
    topics = TopicCounts(KafkaClients(cluster))
    try:
        await topics.refresh()
    finally:
        await topics.close()
    leaves = [json.loads(value) async for _, value in _records(cluster, topics, AUDIT_CONTROL) if value is not None]
    pupils = None
    if keys is not None:
        census = Census(vault_cipher(open_keys(keys)))
        async for key, value in _records(cluster, topics, VAULT):
            census.put(key, value)
        pupils = census.counts(start)
    # Who may not see the topics of parties must not report them missing.
    seen = topics.names() if topics.matching(r"in\.") else None
    return Facts(True, seen, pupils, unconfirmed(leaves))


async def _records(
    cluster: KafkaConnection, topics: TopicCounts, topic: str
) -> AsyncIterator[tuple[bytes, bytes | None]]:
    """Key and value of the committed records of a topic, up to its present end; in order within each partition."""
    partitions = [TopicPartition(topic, number) for number in range(topics.partitions(topic))]
    if not partitions:
        raise missing_topic(topic, cluster.username)
    consumer = looking(cluster)
    await consumer.start()
    try:
        consumer.assign(partitions)
        for partition, start in (await consumer.beginning_offsets(partitions)).items():
            consumer.seek(partition, start)
        left = dict(await consumer.end_offsets(partitions))
        while left := {p: end for p, end in left.items() if await consumer.position(p) < end}:
            for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                if partition in left:
                    for record in records:
                        yield record.key or b"", record.value
    except TopicAuthorizationFailedError as error:  # the operator sees every topic, and reads few
        raise missing_topic(topic, cluster.username) from error
    finally:
        await consumer.stop()
