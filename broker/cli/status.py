"""`broker status`: what an installation looks like from Kafka alone, and what of it needs a person."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from broker.cli.output import out
from broker.kafka.connection import KafkaConnection
from broker.settings import WorkerSettings
from broker.status import Finding, Seen, Watch, findings

NEEDS_SOMEBODY: Final = 1
MOST_ROWS: Final = 12
COLOURS: Final = {"critical": "bold red", "warning": "yellow"}

Section = tuple[str, Sequence[str], list[Sequence[str]]]


def run(
    connection: Annotated[
        Path, typer.Option(envvar="BROKER_CONNECTION", help="Connection file of the operator, or of the auditor.")
    ],
    watch: Annotated[bool, typer.Option("--watch", help="Live, until interrupted.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON for each look.")] = False,
    every: Annotated[float, typer.Option(min=1.0, help="Seconds between two looks, with --watch.")] = 5.0,
    group: Annotated[str, typer.Option(help="Consumer group of the workers.")] = WorkerSettings.model_fields[
        "group"
    ].default,
) -> None:
    """Show how the installation is doing, what is not well first, in the words of the alerts.

    From Kafka alone: it asks no worker. What this login may not see is named; an auditor sees logs and incidents.
    Ends with 1 if something needs a person, else with 0.
    """
    found = asyncio.run(_look(KafkaConnection.from_file(connection), group, watch=watch, as_json=as_json, every=every))
    if found:
        raise typer.Exit(NEEDS_SOMEBODY)


async def _look(connection: KafkaConnection, group: str, *, watch: bool, as_json: bool, every: float) -> list[Finding]:
    live = Live(console=out, screen=True, auto_refresh=False) if watch and not as_json and out.is_terminal else None
    async with Watch(connection, group) as eyes:
        if live is not None:
            live.start()
        try:
            while True:
                seen = await eyes.look()
                found = findings(seen)
                if as_json:
                    _json(seen, found)
                elif live is not None:
                    live.update(_drawn(seen, found, connection), refresh=True)
                else:
                    _plain(seen, found, connection)
                if not watch:
                    return found
                await asyncio.sleep(every)
        finally:
            if live is not None:
                live.stop()


def _json(seen: Seen, found: Sequence[Finding]) -> None:
    told = [{"alert": f.alert, "severity": f.severity, "sentence": f.sentence, "detail": f.detail} for f in found]
    sys.stdout.write(json.dumps({"well": not found, "findings": told, **seen.json()}, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _drawn(seen: Seen, found: Sequence[Finding], connection: KafkaConnection) -> Group:
    parts: list[Any] = [Text(_headline(seen, found, connection), style="bold red" if found else "bold green")]
    for finding in found:
        line = Text(f"{finding.severity:<9}", style=COLOURS[finding.severity])
        parts.append(line.append(f"{finding.alert}: {finding.sentence} {finding.detail}", style="default"))
    for title, columns, rows in _sections(seen):
        table = Table(box=None, pad_edge=False, show_header=any(columns))
        for number, column in enumerate(columns):
            table.add_column(column, overflow="fold", justify="left" if number == 0 else "right")
        for row in rows:
            table.add_row(*map(Text, row))
        parts += [Text(""), Text(title, style="bold"), table]
    if seen.hidden:
        parts += [Text(""), Text(_hidden(seen), style="dim")]
    return Group(*parts)


def _plain(seen: Seen, found: Sequence[Finding], connection: KafkaConnection) -> None:
    if out.is_terminal:
        out.print(_drawn(seen, found, connection))
        return
    lines = [_headline(seen, found, connection)]
    lines += [f"{f.severity}\t{f.alert}\t{f.sentence} {f.detail}" for f in found]
    for title, columns, rows in _sections(seen):
        lines += [title, *(["\t".join(columns)] if any(columns) else []), *("\t".join(row) for row in rows)]
    if seen.hidden:
        lines.append(_hidden(seen))
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _headline(seen: Seen, found: Sequence[Finding], connection: KafkaConnection) -> str:
    said = f"{len(found)} need a person: see docs/runbooks" if found else "All is well, as far as this login sees."
    return f"{datetime.fromtimestamp(seen.at, UTC):%Y-%m-%d %H:%M:%S} UTC  {connection.bootstrap}  {said}"


def _hidden(seen: Seen) -> str:
    names = {"flows": "lag", "group": "workers", "quarantined": "quarantine", "told": "incidents"}
    return "Not shown to this login: " + ", ".join(names.get(name, name) for name in seen.hidden) + "."


def _sections(seen: Seen) -> Iterator[Section]:
    cluster = seen.cluster
    if cluster is not None:
        rows: list[Sequence[str]] = [
            ("brokers", f"{cluster.brokers} of {cluster.expected}"),
            ("partitions without leader", str(len(cluster.leaderless))),
            ("partitions with a copy behind", str(cluster.behind)),
        ]
        yield "Kafka", ("", ""), rows
        if cluster.group is not None:
            lanes = [(worker, str(count)) for worker, count in cluster.group.lanes.items()]
            yield f"Workers ({cluster.group.state.lower()})", ("worker", "lanes"), _few(lanes)
        if cluster.flows is not None:
            yield "Parties", ("party", "lanes", "lag", "of it 15 min", "parked", "set aside 24 h"), _parties(seen)
    if seen.logs is not None:
        logs = [
            (name, str(log.leaves), "none" if log.age_s is None else _age(log.age_s)) for name, log in seen.logs.items()
        ]
        yield "Logs", ("log", "leaves", "last checkpoint"), _few(logs)
    if seen.registry is not None:
        known = seen.registry
        yield (
            "Registry",
            ("", ""),
            [
                ("version", known.version or "can not be read"),
                ("parties, schools, agreements", f"{known.parties}, {known.schools}, {known.agreements}"),
                ("suspended", ", ".join(known.suspended) or "nobody"),
            ],
        )


def _parties(seen: Seen) -> list[Sequence[str]]:
    """Those with most to do first; of who has nothing, how many they are."""
    flows = {} if seen.cluster is None or seen.cluster.flows is None else seen.cluster.flows
    parked, aside = seen.parked, seen.quarantined

    def of(party: str) -> tuple[int, int, int]:
        return flows[party].lag, (parked or {}).get(party, 0), sum((aside or {}).get(party, {}).values())

    rows: list[Sequence[str]] = []
    idle = [party for party in flows if not any(of(party))]
    for party in sorted(flows, key=lambda party: (*(-count for count in of(party)), party)):
        if party in idle:
            continue
        lag, waiting, quarantined = of(party)
        shown = ("-" if parked is None else str(waiting), "-" if aside is None else str(quarantined))
        rows.append((party, str(flows[party].partitions), str(lag), str(flows[party].overdue), *shown))
    return _few(rows) + ([(f"{len(idle)} with nothing", "", "", "", "", "")] if idle else [])


def _few(rows: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    rest = len(rows) - MOST_ROWS
    return list(rows) if rest <= 0 else [*rows[:MOST_ROWS], (f"and {rest} more", *[""] * (len(rows[0]) - 1))]


def _age(seconds: float) -> str:
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"
