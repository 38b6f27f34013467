"""`broker receive`: events, or outcomes, as JSON lines."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from broker.cli.output import err, json_line, out
from broker.cli.send import COUNT_HELP, PROFILES_HELP, book_of
from broker.client import Consumer, CountBook, Profile, Received, Status, StatusConsumer
from broker.client.receipts import Evidence
from broker.errors import ConfigError


def run(
    party: Annotated[str, typer.Argument(help="Party id: the name of its profile folder.")],
    family: Annotated[str, typer.Argument(help="Family to receive, such as usage; or status, for outcomes.")],
    profiles: Annotated[Path, typer.Option(envvar="BROKER_PROFILES", help=PROFILES_HELP)] = Path("profiles"),
    group: Annotated[str, typer.Option(help="Name of the reading group; each has its own position.")] = "cli",
    most: Annotated[int, typer.Option("--max", help="End after so many; 0: no limit.")] = 0,
    idle: Annotated[float, typer.Option(help="End when nothing came for so many seconds; 0: wait for ever.")] = 0,
    count: Annotated[str | None, typer.Option(help=COUNT_HELP)] = None,
    evidence: Annotated[
        Path | None,
        typer.Option(
            help="Folder in which record and salt of each event are kept, to have receipts made; personal data."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines with everything; stable.")] = False,
) -> None:
    """Receive. What was shown counts as read for this group."""
    profile = Profile.load(profiles / party)
    if family == "status" and count is not None:
        raise ConfigError("Outcomes are not counted: leave --count out, or receive a family.", code="count.status")
    if family == "status" and evidence is not None:
        raise ConfigError("There are no receipts of outcomes: leave --evidence out.", code="receive.evidence")
    book = book_of(profile, count, family)
    number = asyncio.run(_receive(profile, family, group, most, idle, as_json, book, evidence))
    err.print(f"{number} received")


async def _receive(
    profile: Profile, family: str, group: str, most: int, idle: float, as_json: bool, counting: CountBook | None,
    evidence: Path | None,
) -> int:  # fmt: skip
    count = 0
    if family == "status":
        async with StatusConsumer(profile, group=f"status.{group}") as statuses:
            async for status in statuses.statuses(idle or None):
                count += 1
                _show_status(status, as_json)
                if count == most:
                    statuses.done()
                    break
        return count
    async with Consumer(profile, family, group=group, counting=counting) as consumer:
        async for received in consumer.events(idle or None):
            count += 1
            if evidence is not None:
                Evidence.of(received).keep(evidence)
            _show(received, as_json)
            if count == most:
                consumer.done()
                break
        for gap in consumer.gaps:
            err.print(f"warning: {gap.flow} went from {gap.expected - 1} to {gap.got}; tell the operator")
    return count


def as_document(received: Received) -> dict[str, Any]:
    """What `--json` prints of an event."""
    return received.event.json() | {
        "policy": received.policy, "flow": received.flow, "seq": received.seq,
        "topic": received.topic, "partition": received.partition, "offset": received.offset,
    }  # fmt: skip


def _show(received: Received, as_json: bool) -> None:
    if as_json:
        json_line(as_document(received))
        return
    event = received.event
    filled = {name: value for name, value in event.json()["body"].items() if value is not None}
    out.print(f"{event.created:%Y-%m-%d %H:%M} {event.family} {event.kind} {event.school}: {filled}")


def _show_status(status: Status, as_json: bool) -> None:
    if as_json:
        json_line(asdict(status) | {"decided": status.decided.isoformat()})
        return
    for result in status.results:
        about = f" ({result.field})" if result.field else ""
        whom = result.receiver or "-"
        out.print(f"{status.event_id} {result.outcome} {whom} {result.code}{about}: {result.sentence}")
