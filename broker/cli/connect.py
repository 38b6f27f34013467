"""`broker connect`: bring what a school's administration exports into the exchange."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.output import err, out, table
from broker.cli.send import PROFILES_HELP, send_all
from broker.client import Event, Identity, Profile, Subject
from broker.connectors import edexml
from broker.errors import ConfigError
from broker.identity.formats import is_school_id

app = typer.Typer(no_args_is_help=True, help="Bring a school's class list in.")


@app.callback()
def connect() -> None:
    """Bring a school's class list in."""


@app.command("edexml")
def edexml_file(
    file: Annotated[Path, typer.Argument(help="EDEXML 2.1 class list.", exists=True, dir_okay=False)],
    party: Annotated[str, typer.Option(help="The SIS that sends: the name of its profile folder.")],
    school: Annotated[str, typer.Option(help="BRIN or BRIN6 of the school.")],
    sector: Annotated[str, typer.Option(help="PO, VO or MBO; the file does not tell.")] = "PO",
    profiles: Annotated[Path, typer.Option(envvar="BROKER_PROFILES", help=PROFILES_HELP)] = Path("profiles"),
    local_id_form: Annotated[
        str | None, typer.Option(help="Form of the school's own ids, as a regex, when nine digits are no PGN there.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and count only; nothing is sent.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON object.")] = False,
) -> None:
    """Turn a class list into identity events. A PGN in the file never leaves this process and is not logged."""
    form = _form(local_id_form)
    report = edexml.check(file, local_id_form=form)
    problems = report.problems
    if not is_school_id(school):
        raise ConfigError("--school is not a BRIN such as 99ZZ, nor a BRIN6 such as 99ZZ00", code="connect.school")
    if not problems and report.brin is not None and not school.startswith(report.brin):
        raise ConfigError(f"the file is of another school than {school}; nothing was sent", code="connect.school")
    if as_json:
        sys.stdout.write(report.to_json() + "\n")
    else:
        _show(report)
    if problems:
        err.print(f"{len(problems)} problems; nothing was sent")
        raise typer.Exit(1)
    if dry_run:
        return
    events = list(identity_events(file, school, sector, report.school_year or "", form))
    sent = asyncio.run(send_all(Profile.load(profiles / party), events))
    err.print(f"{len(sent)} identity events sent to in.{party}")


def identity_events(
    file: Path, school: str, sector: str, school_year: str, local_id_form: re.Pattern[str] | None = None
) -> Iterator[Event]:
    """One ENROL for each pupil and employee of a checked class list."""
    everybody = chain(
        edexml.pupils(file, local_id_form=local_id_form), edexml.employees(file, local_id_form=local_id_form)
    )
    for enrolment in everybody:
        local = "LAS_KEY" if enrolment.kind == "PUPIL" else "MEDEWERKERNUMMER"
        yield Event(
            kind="ENROL", school=school, sector=sector, school_year=school_year,
            subject=Subject(enrolment.kind, enrolment.eck_id, ((local, enrolment.las_key),)),
            body=Identity(
                left_on=enrolment.left_on, year_group=enrolment.year_group, group_ids=enrolment.group_keys or None,
                location=enrolment.location,
            ),
        )  # fmt: skip


def _form(text: str | None) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text)
    except re.error:
        raise ConfigError("--local-id-form is no regular expression", code="connect.form") from None


def _show(report: edexml.Report) -> None:
    counts = json.loads(report.to_json())
    problems = counts.pop("problems")
    table("Class list", ["what", "number"], counts.items())
    if report.without_eck_id_las_keys:
        out.print(f"without ECK iD (LAS keys): {', '.join(report.without_eck_id_las_keys)}")
    for kind, rows in (("problem", problems), ("warning", list(report.warnings))):
        for row in rows:
            line, element, reason = row.values() if isinstance(row, dict) else (row.line, row.element, row.reason)
            out.print(f"{kind}: line {line}, {element}: {reason}")
