"""`broker ldv`: the Logboek Dataverwerkingen of the boards."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.output import err, json_line, table
from broker.errors import ConfigError
from broker.kafka.connection import KafkaConnection

app = typer.Typer(no_args_is_help=True, help="Logboek Dataverwerkingen: check the lines, bring them to a board.")

SHOWN = 1_000

AsJson = Annotated[bool, typer.Option("--json", help="One line of JSON for each.")]


@app.callback()
def ldv() -> None:
    """Logboek Dataverwerkingen: check the lines, bring them to a board."""


@app.command()
def export(
    connection: Annotated[Path, typer.Option(envvar="BROKER_CONNECTION", help="That of the user ldv-exporter.")],
    endpoint: Annotated[str, typer.Option(help="Where the lines go: OTLP over HTTP, https://.../v1/traces.")],
    board: Annotated[str | None, typer.Option(help="Id of the board whose lines are exported.")] = None,
    own: Annotated[bool, typer.Option("--own", help="Lines of no board: the broker's own register.")] = False,
    header_file: Annotated[
        Path | None, typer.Option(help="Headers with secrets, one `Name: value` a line; chmod 600.")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(help="Who signed the endpoint's certificate; default: those the system trusts.")
    ] = None,
    insecure_plaintext: Annotated[
        bool, typer.Option("--insecure-plaintext", help="Allow http to another machine: everybody reads along.")
    ] = False,
    idle: Annotated[
        float | None, typer.Option(min=1.0, help="End when nothing came for so many seconds; without it: run on.")
    ] = None,
    http: Annotated[int, typer.Option(min=0, max=65535, help="Port of /healthz, /readyz and /metrics; 0: none.")] = 0,
) -> None:
    """Bring the lines of one board to its Logboek, until SIGTERM. One process for each board.

    Goes on where it ended. A line that the Logboek does not take ends it, with the line's place; none is passed over.
    """
    from broker.app import logs  # with what follows it imports Kafka's clients, which takes a second
    from broker.app.ldv_collector import Endpoint
    from broker.app.ldv_service import ExportJob, serve

    if (board is None) != own:
        raise ConfigError("Say whose lines: --board ID, or --own for those that belong to no board.", code="ldv.board")
    target = Endpoint.of(
        endpoint, header_file=header_file, ca_file=ca_file, insecure_plaintext=insecure_plaintext
    )  # fmt: skip
    logs.configure()
    job = ExportJob(KafkaConnection.from_file(connection), board, target, idle, http_port=http)
    metrics = asyncio.run(serve(job))
    taken = metrics.registry.get_sample_value("broker_ldv_lines_total") or 0
    err.print(f"{taken:.0f} lines exported", markup=False)


@app.command()
def check(
    connection: Annotated[Path, typer.Option(envvar="BROKER_CONNECTION", help="The auditor's connection file.")],
    as_json: AsJson = False,
) -> None:
    """Hold every leaf that is on the audit topic now against Logboek Dataverwerkingen 1.0.0.

    Ends with 1 when one breaks a rule. Shows places and rules, never what a line says.
    """
    broken, kinds, found = asyncio.run(_check(KafkaConnection.from_file(connection)))
    if as_json:
        for place, rule in found:
            json_line({"place": place, "rule": rule})
    elif found:
        table("", ["place", "rule"], found)
    if broken > len(found):
        err.print(f"{broken - len(found)} more are not shown", markup=False)
    others = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()) if kind != "ldv")
    err.print(
        f"{kinds.get('ldv', 0)} lines{f', beside them {others}' if others else ''}; {broken} rules broken", markup=False
    )
    if broken:
        raise typer.Exit(1)


async def _check(connection: KafkaConnection) -> tuple[int, dict[str, int], list[tuple[str, str]]]:
    """How many rules were broken, leaves by kind, and the first of what was broken, with its place."""
    from broker.app.ldv_leaves import all_leaves
    from broker.audit.conformance import Conformance

    broken, found = 0, list[tuple[str, str]]()
    with Conformance() as conformance:
        async for leaf in all_leaves(connection):
            place = f"{leaf.place.topic}/{leaf.place.partition}@{leaf.offset}"
            for rule in conformance.look(place, leaf.value):
                broken += 1
                if len(found) < SHOWN:
                    found.append((place, rule))
        return broken, dict(conformance.kinds), found
