"""`broker quarantine`: look at what was set aside, open it, replay it, drop it."""

from __future__ import annotations

import asyncio
import getpass
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from broker.cli.output import err, json_line, out, table
from broker.cli.send import PROFILES_HELP
from broker.client import Profile
from broker.errors import ConfigError
from broker.kafka.connection import KafkaConnection
from broker.keys.open import open_keys
from broker.quarantine import topic
from broker.quarantine.content import Opened, lines, open_entry
from broker.quarantine.entries import STATES, Entry, Place, Quarantine, moment

app = typer.Typer(no_args_is_help=True, help="What was set aside: look, open, replay, drop.")

AGAIN = 2  # exit code of a replay that was not delivered
GOOD = frozenset({"DELIVERED", "PARKED", "DUPLICATE"})

Connection = Annotated[Path | None, typer.Option(envvar="BROKER_CONNECTION", help="The operator's connection file.")]
AsParty = Annotated[
    str | None, typer.Option("--as", metavar="PARTY", help="Look as this party, with its profile, at its own records.")
]
Profiles = Annotated[Path, typer.Option(envvar="BROKER_PROFILES", help=PROFILES_HELP)]
PlaceText = Annotated[str, typer.Argument(metavar="PLACE", help="PARTY/PARTITION/OFFSET, as `list` shows it.")]
Operator = Annotated[str | None, typer.Option(help="Who; by default the user of this machine.")]
AsJson = Annotated[bool, typer.Option("--json", help="One line of JSON for each.")]

DEFAULT_PROFILES = Path("profiles")


@app.callback()
def quarantine() -> None:
    """What was set aside: look, open, replay, drop."""


@app.command("list")
def list_entries(
    connection: Connection = None,
    as_party: AsParty = None,
    profiles: Profiles = DEFAULT_PROFILES,
    party: Annotated[str | None, typer.Option(help="Only of this party (operator).")] = None,
    school: Annotated[str | None, typer.Option(help="Only of this school.")] = None,
    code: Annotated[str | None, typer.Option(help="Only this code, or all that begin so: pgn.")] = None,
    event: Annotated[str | None, typer.Option(help="Only of this event id.")] = None,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"], help="Only from this time on (UTC).")
    ] = None,
    state: Annotated[str | None, typer.Option(help="Only open, replayed or dropped.")] = None,
    as_json: AsJson = False,
) -> None:
    """What is in quarantine, and what became of it. Opens nothing."""
    if state not in (None, *STATES):
        raise ConfigError(f"a state is one of {', '.join(STATES)}", code="quarantine.state")
    found = _read(connection, as_party, profiles, party)
    begin = None if since is None else since.replace(tzinfo=UTC)
    entries = [
        entry
        for entry in sorted(found.entries, key=lambda e: (e.decided, e.place))
        if party in (None, entry.place.party)
        and school in (None, entry.school)
        and (code is None or entry.code == code or entry.code.startswith(f"{code.rstrip('.')}."))
        and event in (None, entry.event_id)
        and (begin is None or entry.time >= begin)
        and state in (None, found.state(entry.place))
    ]
    if as_json:
        for entry in entries:
            json_line(facts(entry, found))
    else:
        columns = ["place", "time", "code", "field", "rule", "school", "state"]
        table("", columns, [_row(entry, found.state(entry.place)) for entry in entries])
    if found.unknown:
        err.print(f"{found.unknown} records are of another version of the broker and are not shown")


@app.command()
def show(
    place: PlaceText,
    connection: Connection = None,
    as_party: AsParty = None,
    profiles: Profiles = DEFAULT_PROFILES,
    open_it: Annotated[bool, typer.Option("--open", help="Also show what it held: a pupil's data.")] = False,
    reason: Annotated[
        str | None, typer.Option(help="Why it is opened; stands in the audit for ever. Needed for the operator.")
    ] = None,
    operator: Operator = None,
    keys: Annotated[
        Path, typer.Option(envvar="BROKER_OPERATOR_KEYS", help="Folder with the operator's private key.")
    ] = Path("operator-keys"),
    as_json: AsJson = False,
) -> None:
    """Show the facts of one; with --open also what it held.

    An opening by the operator is written on the control log before anything is shown: who, which record, why.
    """
    where = Place.parse(place)
    found = _read(connection, as_party, profiles, where.party)
    entries = found.at(where)
    if not open_it:
        for entry in entries:
            _show_facts(entry, found, as_json)
        return
    entry = entries[0]
    if as_party is not None:
        opened = open_entry(entry, Profile.load(profiles / as_party).keys.private_key)
    else:
        if reason is None:
            raise ConfigError(
                "Say why it is opened with --reason; it stands in the audit with your name.", code="quarantine.why"
            )
        who = operator or getpass.getuser()
        opened = asyncio.run(topic.opened(_cluster(connection), entry, open_keys(keys), who, reason))
        err.print("this opening stands on the control log", markup=False)
    err.print("what follows is a person's data: use it for this fault only, and keep no copy", markup=False)
    _show_content(entry, found, opened, as_json)


@app.command()
def replay(
    place: PlaceText,
    profiles: Profiles = DEFAULT_PROFILES,
    wait: Annotated[float, typer.Option(help="Wait so many seconds for what is decided.")] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Send a quarantined record again, as its sender, with the sender's profile. Once.

    The same bytes go the same way through all checks; the audit links the replay to the first try. Exit code 2: it was
    not delivered this time either.
    """
    where = Place.parse(place)
    done = asyncio.run(topic.replay(Profile.load(profiles / where.party), where, wait))
    if as_json:
        json_line({"place": str(where), "replay": str(done.place), "results": list(done.results)})
    else:
        out.print(f"{where} is replayed as {done.place}", markup=False)
        for result in done.results:
            about = f" ({result['field']})" if result["field"] else ""
            whom = result["receiver"] or "-"
            out.print(f"{result['outcome']} {whom} {result['code']}{about}: {result['sentence']}", markup=False)
    if not done.results:
        err.print(f"nothing was decided yet; look later with `broker receive {where.party} status`", markup=False)
    elif any(result["outcome"] not in GOOD for result in done.results):
        raise typer.Exit(AGAIN)


@app.command()
def drop(
    place: PlaceText,
    reason: Annotated[str, typer.Option(help="Why; stands in the audit for ever.")],
    connection: Connection = None,
    operator: Operator = None,
) -> None:
    """Mark one as dealt with, as the operator: nobody need look at it any more.

    What is sealed stays until its term ends, 29 to 30 days after it came.
    """
    where = Place.parse(place)
    asyncio.run(topic.drop(_cluster(connection), where, operator or getpass.getuser(), reason))
    out.print(f"{where} is dropped", markup=False)


def facts(entry: Entry, found: Quarantine) -> dict[str, Any]:
    """What may be said of an entry to whoever may read the topic."""
    handled = found.handled.get(entry.place)
    return {
        "place": str(entry.place), "topic": entry.place.topic, "partition": entry.place.partition,
        "offset": entry.place.offset, "time": entry.time.isoformat(timespec="seconds"),
        "event": entry.event_id, "code": entry.code, "field": entry.field, "rule": entry.rule, "school": entry.school,
        "receiver": entry.receiver, "whole": entry.whole, "state": found.state(entry.place),
        "handled": None if handled is None else {
            "at": moment(handled.at).isoformat(timespec="seconds"), "by": handled.by, "reason": handled.reason,
            "replay": None if handled.replay is None else str(entry.place._replace(offset=handled.replay)),
        },
    }  # fmt: skip


def _row(entry: Entry, state: str) -> tuple[str, ...]:
    return (
        str(entry.place), f"{entry.time:%Y-%m-%d %H:%M}", entry.code, entry.field or "-", entry.rule or "-",
        entry.school or "-", state,
    )  # fmt: skip


def _show_facts(entry: Entry, found: Quarantine, as_json: bool) -> None:
    document = facts(entry, found)
    if as_json:
        json_line(document)
        return
    handled = document.pop("handled") or {}
    rows = [*document.items(), *((f"handled {name}", value) for name, value in handled.items())]
    table("", ["fact", "is"], [(name, value) for name, value in rows if value is not None])


def _show_content(entry: Entry, found: Quarantine, opened: Opened, as_json: bool) -> None:
    shown = lines(opened, entry.field)
    if as_json:
        # ASCII: what a sender wrote must not be obeyed by a terminal.
        document = {**facts(entry, found), "content": [line._asdict() for line in shown]}
        sys.stdout.write(json.dumps(document) + "\n")
        return
    _show_facts(entry, found, as_json)
    table("", ["where", "value", "remark"], shown)


def _read(connection: Path | None, as_party: str | None, profiles: Path, party: str | None) -> Quarantine:
    """As the operator, or as one party."""
    if as_party is None:
        return asyncio.run(topic.read(_cluster(connection), party))
    if party not in (None, as_party):
        raise ConfigError(f"{as_party} sees its own records only, not those of {party}.", code="quarantine.sender")
    return asyncio.run(topic.read(Profile.load(profiles / as_party).connection, as_party))


def _cluster(connection: Path | None) -> KafkaConnection:
    if connection is None:
        raise ConfigError(
            "Say who you are: --connection FILE (or BROKER_CONNECTION) as the operator, or --as PARTY with --profiles.",
            code="quarantine.who",
        )
    return KafkaConnection.from_file(connection)
