"""`broker audit`: read the audit topics."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from broker.audit import verify as verifier
from broker.audit.leaf import is_decision
from broker.cli import audit_ask, audit_find, audit_serve
from broker.cli.output import json_line, table
from broker.cli.reconcile import reconcile
from broker.exchange.model import AUDIT_CONTROL, AUDIT_EVENTS
from broker.kafka.closing import ClosingConsumer
from broker.kafka.connection import KafkaConnection
from broker.registry.history import entry_at

app = typer.Typer(no_args_is_help=True, help="Read the audit topics, and ask the signed logs.")

Connection = Annotated[Path, typer.Option(envvar="BROKER_CONNECTION", help="The auditor's connection file.")]
Idle = Annotated[float, typer.Option(help="End when nothing came for so many seconds.")]
AsJson = Annotated[bool, typer.Option("--json", help="The leaves as they stand, one a line.")]


@app.callback()
def audit() -> None:
    """Read the audit topics, and ask the signed logs."""


audit_find.add_to(app)
app.command()(audit_serve.serve)
app.add_typer(audit_ask.app, name="ask")


@app.command("list")
def list_leaves(
    connection: Connection,
    school: Annotated[str | None, typer.Option(help="Only of this school.")] = None,
    party: Annotated[str | None, typer.Option(help="Only with this party as sender or receiver.")] = None,
    decision: Annotated[str | None, typer.Option(help="Only this decision, such as refused.")] = None,
    event: Annotated[str | None, typer.Option(help="Only of this event id.")] = None,
    idle: Idle = 2.0,
    as_json: AsJson = False,
) -> None:
    """The decisions: who sent what kind of event to whom, what was decided and on what rule. Never a value."""
    wanted = {"school": school, "decision": decision, "event": event}

    def matches(leaf: dict[str, Any]) -> bool:
        x = leaf["x"]
        return all(v is None or x.get(n) == v for n, v in wanted.items()) and party in (
            None, x.get("sender"), x.get("receiver"),
        )  # fmt: skip

    leaves = [leaf for leaf in asyncio.run(read_decisions(connection, idle)) if matches(leaf)]
    if as_json:
        for leaf in leaves:
            json_line(leaf)
        return
    table("", ["time", "school", "sender", "receiver", "event", "decision", "code"], [_row(leaf) for leaf in leaves])


@app.command()
def control(connection: Connection, idle: Idle = 2.0, as_json: AsJson = False) -> None:
    """The control log: registry changes, incidents, keys; with who and why, where a person did it. What parties counted
    stands there too: with --json."""
    leaves = asyncio.run(read_topic(connection, AUDIT_CONTROL, idle))
    if as_json:
        for leaf in leaves:
            json_line(leaf)
        return
    rows = [
        (_time(c["at"]), c["kind"], _first(c, "key", "sender", "by", "party"),
         _first(c, "action", "code", "connection_id", "agreement_id", "question"), _first(c, "operator"),
         _first(c, "reason"))
        for c in (leaf.get("control") or _key_change(leaf) for leaf in leaves)
        if c
    ]  # fmt: skip
    table("", ["time", "kind", "about", "what", "by", "why"], rows)


@app.command()
def entry(
    version: Annotated[str, typer.Argument(help="As a leaf has it in x.registry: sha256:…")],
    key: Annotated[str, typer.Argument(help="Kind and id, such as board/bestuur-horizon.")],
    connection: Connection,
    idle: Idle = 2.0,
) -> None:
    """What an entry of the registry said when a leaf was written: the change that made it so, as JSON."""
    json_line(entry_at(asyncio.run(read_topic(connection, AUDIT_CONTROL, idle)), version, key))


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def verify(context: typer.Context) -> None:
    """Verify a log, its windows, a receipt or the consistency of two checkpoints, without Kafka; as
    `broker/audit/verify.py`."""
    raise typer.Exit(verifier.main(context.args, "broker audit verify"))


app.command()(reconcile)


def _key_change(leaf: dict[str, Any]) -> dict[str, Any]:
    """A change of the logs' signing key, told as the others are; empty for any other leaf."""
    told = leaf.get("key")
    return {} if told is None else told | {"kind": "key", "key": told["base"], "action": "announced"}


def _first(entry: dict[str, Any], *names: str) -> str:
    """The first of these that an entry has: each kind of entry has names of its own."""
    return next((str(entry[name]) for name in names if entry.get(name)), "")


async def read_decisions(connection: Path, idle_seconds: float) -> list[dict[str, Any]]:
    """The leaves of decisions among the audit events, parsed."""
    found = _values(KafkaConnection.from_file(connection), AUDIT_EVENTS, idle_seconds)
    return [json.loads(value) async for value in found if is_decision(value)]


async def read_topic(connection: Path, topic: str, idle_seconds: float) -> list[dict[str, Any]]:
    """All records of an audit topic, parsed, partition by partition in order; committed ones only."""
    return [json.loads(value) async for value in _values(KafkaConnection.from_file(connection), topic, idle_seconds)]


async def _values(connection: KafkaConnection, topic: str, idle_seconds: float) -> AsyncIterator[bytes]:
    consumer = ClosingConsumer(
        topic, **connection.aiokafka(), group_id=f"auditor.cli-{secrets.token_hex(6)}",
        isolation_level="read_committed", enable_auto_commit=False, auto_offset_reset="earliest",
    )  # fmt: skip
    await consumer.start()
    try:
        last = time.monotonic()
        while time.monotonic() - last < idle_seconds:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    yield record.value
                last = time.monotonic()
    finally:
        await consumer.stop()


def _row(leaf: dict[str, Any]) -> tuple[str, ...]:
    x = leaf["x"]
    what = f"{x.get('family', '?')} {x.get('kind', '')}".strip()
    return (
        _time(leaf["ldv"]["end_time"]), x.get("school", "-"), x["sender"], x.get("receiver", "-"), what,
        x["decision"], x["code"],
    )  # fmt: skip


def _time(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S}"
