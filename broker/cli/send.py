"""`broker send`: events from JSON lines."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.output import err, json_line, out
from broker.client import CountBook, Event, Producer, Profile, Sent
from broker.errors import ContractError

PROFILES_HELP = "Folder with the parties' profiles; a profile is a folder in it."
COUNT_HELP = "Count, sign and tell the auditors, for the logs of this name: broker.example/audit."


def run(
    party: Annotated[str, typer.Argument(help="Party id: the name of its profile folder.")],
    family: Annotated[str, typer.Argument(help="Family of the events, such as usage.")],
    file: Annotated[Path, typer.Argument(help="File of JSON lines, one event each; - reads standard input.")],
    profiles: Annotated[Path, typer.Option(envvar="BROKER_PROFILES", help=PROFILES_HELP)] = Path("profiles"),
    count: Annotated[str | None, typer.Option(help=COUNT_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON per event sent.")] = False,
) -> None:
    """Send events. All lines are read and checked first: with an error in one, nothing is sent."""
    events = list(read_events(file, family))
    profile = Profile.load(profiles / party)
    sent = asyncio.run(send_all(profile, events, book_of(profile, count, "sent")))
    for where in sent:
        if as_json:
            json_line(where._asdict())
    if not as_json:
        out.print(f"{len(sent)} {family} events sent to {sent[0].topic if sent else f'in.{party}'}")
    err.print(f"outcomes: broker receive {party} status --profiles {profiles}")


def read_events(file: Path, family: str) -> Iterator[Event]:
    """Parse JSON lines; empty lines are skipped.

    Fields that only the broker fills in (`sender`, `agreement`) may be there, so that what was received can be sent on.

    Raises:
        ContractError: with the line's number, and the field.
    """
    stream = sys.stdin if str(file) == "-" else file.open(encoding="utf-8")
    with stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                yield Event.from_json(json.loads(line), family)
            except ContractError as error:
                message = f"line {number} of {file}: {error}"
                raise ContractError(message, code=error.code, field=error.field) from None
            except ValueError:
                raise ContractError(f"line {number} of {file} is not JSON", code="field.form") from None


def book_of(profile: Profile, origin: str | None, what: str) -> CountBook | None:
    """Where a command counts what it sends or receives, if it does."""
    return None if origin is None else CountBook(profile, origin, file=f"counts-{what}.json", tell=_warn)


def _warn(sentence: str) -> None:
    err.print(f"warning: {sentence}", markup=False)


async def send_all(profile: Profile, events: list[Event], counting: CountBook | None = None) -> list[Sent]:
    """Send many events and wait for all."""
    async with Producer(profile, counting=counting) as producer:
        return await producer.send_many(events)
