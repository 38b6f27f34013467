"""`broker connect`: bring what a school's administration exports into the exchange."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.output import err, json_line, out, table
from broker.cli.send import PROFILES_HELP, send_all
from broker.client import Event, Identity, Profile, Subject
from broker.connectors import edexml, uwlr
from broker.connectors.class_list import ClassListReader
from broker.connectors.products import Product, products
from broker.connectors.report import Report
from broker.errors import ConfigError
from broker.identity.formats import is_school_id

app = typer.Typer(no_args_is_help=True, help="Bring a school's class list in.")

Edexml = Annotated[Path, typer.Argument(help="EDEXML 2.1 class list.", exists=True, dir_okay=False)]
Uwlr = Annotated[
    Path,
    typer.Argument(
        help="UWLR 2.2 answer to HaalLeerlinggegevens, with or without its SOAP envelope.", exists=True, dir_okay=False
    ),
]
Party = Annotated[str, typer.Option(help="The SIS that sends: the name of its profile folder.")]
School = Annotated[str, typer.Option(help="BRIN or BRIN6 of the school.")]
Sector = Annotated[str, typer.Option(help="PO, VO or MBO; the file does not tell.")]
Profiles = Annotated[Path, typer.Option(envvar="BROKER_PROFILES", help=PROFILES_HELP)]
LocalIdForm = Annotated[
    str | None, typer.Option(help="Form of the school's own ids, as a regex, when nine digits are no PGN there.")
]
ProductId = Annotated[
    str | None,
    typer.Option(
        "--product",
        help="The administration that wrote the file, such as parnassys, esis, eduscope or school-oas: see "
        "`broker connect products`. Without it: the standard and nothing else.",
    ),
]
ProductsFile = Annotated[
    Path | None, typer.Option("--products", help="A file with product configurations of your own.", exists=True)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check and count only; nothing is sent.")]
AsJson = Annotated[bool, typer.Option("--json", help="The report as one JSON object.")]
PROFILES = Path("profiles")


@app.callback()
def connect() -> None:
    """Bring a school's class list in."""


@app.command("edexml")
def edexml_file(
    file: Edexml,
    party: Party,
    school: School,
    sector: Sector = "PO",
    profiles: Profiles = PROFILES,
    local_id_form: LocalIdForm = None,
    product: ProductId = None,
    own: ProductsFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Turn a class list into identity events. A PGN in the file never leaves this process and is not logged."""
    source = ClassListFile(edexml.READER, file, _form(local_id_form), _product(product, own))
    _bring(source, party, school, sector, profiles, dry_run=dry_run, as_json=as_json)


@app.command("uwlr")
def uwlr_file(
    file: Uwlr,
    party: Party,
    school: School,
    sector: Sector = "PO",
    profiles: Profiles = PROFILES,
    local_id_form: LocalIdForm = None,
    product: ProductId = None,
    own: ProductsFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Turn pupil data that came over UWLR into identity events; as `edexml`."""
    source = ClassListFile(uwlr.READER, file, _form(local_id_form), _product(product, own))
    _bring(source, party, school, sector, profiles, dry_run=dry_run, as_json=as_json)


@app.command("products")
def list_products(
    own: ProductsFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per product.")] = False,
) -> None:
    """List the administrations that have a configuration, what it reads and tolerates, and on what evidence."""
    found = products(own).values()
    if as_json:
        for one in found:
            json_line(one.model_dump(mode="json"))
        return
    rows = [
        (
            one.id,
            f"{one.name} ({one.maker})",
            "; ".join(f"{standard} {', '.join(versions)}" for standard, versions in one.reads.items()),
            one.local_ids.form or "not declared",
            ", ".join(sorted(one.tolerates)) or "nothing",
        )
        for one in found
    ]
    table("Product configurations", ["id", "product", "reads", "form of local ids", "tolerates"], rows)
    for one in found:
        said = [f"{one.id}: {one.dialect}", f"  local ids: {one.local_ids.known}"]
        said += [f"  notice: {one.notice}"] if one.notice else []
        said += [f"  {evidence.says} [{evidence.source}]" for evidence in one.evidence]
        out.print("\n".join(said), markup=False)


@dataclass(frozen=True, slots=True)
class ClassListFile:
    """A file, and how it is to be read."""

    reader: ClassListReader
    path: Path
    local_id_form: re.Pattern[str] | None = None
    product: Product | None = None

    def check(self) -> Report:
        """What it holds and whether it can be used."""
        return self.reader.check(self.path, local_id_form=self.local_id_form, product=self.product)

    def events(self, school: str, sector: str, school_year: str) -> Iterator[Event]:
        """One ENROL for each pupil and employee of a checked class list."""
        pupils = self.reader.pupils(self.path, local_id_form=self.local_id_form, product=self.product)
        employees = self.reader.employees(self.path, local_id_form=self.local_id_form, product=self.product)
        for enrolment in chain(pupils, employees):
            local = "LAS_KEY" if enrolment.kind == "PUPIL" else "MEDEWERKERNUMMER"
            ids = ((local, enrolment.las_key),) if enrolment.las_key else ()
            yield Event(
                kind="ENROL", school=school, sector=sector, school_year=school_year,
                subject=Subject(enrolment.kind, enrolment.eck_id, ids),
                body=Identity(
                    left_on=enrolment.left_on, year_group=enrolment.year_group,
                    group_ids=enrolment.group_keys or None, location=enrolment.location,
                ),
            )  # fmt: skip


def identity_events(file: Path, school: str, sector: str, school_year: str) -> Iterator[Event]:
    """One ENROL for each pupil and employee of a checked EDEXML class list."""
    return ClassListFile(edexml.READER, file).events(school, sector, school_year)


def _bring(
    source: ClassListFile, party: str, school: str, sector: str, profiles: Path, *, dry_run: bool, as_json: bool
) -> None:
    if not is_school_id(school):
        raise ConfigError("--school is not a BRIN such as 99ZZ, nor a BRIN6 such as 99ZZ00", code="connect.school")
    product = source.product
    if product is not None and product.notice is not None:
        err.print(f"{product.id}: {product.notice}", markup=False)
    report = source.check()
    problems = report.problems
    if not problems and report.brin is not None and not school.startswith(report.brin):
        raise ConfigError(f"the file is of another school than {school}; nothing was sent", code="connect.school")
    if as_json:
        sys.stdout.write(report.to_json() + "\n")
    else:
        _show(report)
    if problems:
        by = f" (read with the product configuration {product.id})" if product is not None else ""
        err.print(f"{len(problems)} problems; nothing was sent{by}")
        raise typer.Exit(1)
    if dry_run:
        return
    events = list(source.events(school, sector, report.school_year or ""))
    sent = asyncio.run(send_all(Profile.load(profiles / party), events))
    err.print(f"{len(sent)} identity events sent to in.{party}")


def _form(text: str | None) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text)
    except re.error:
        raise ConfigError("--local-id-form is no regular expression", code="connect.form") from None


def _product(name: str | None, own: Path | None) -> Product | None:
    if name is None:
        if own is not None:
            raise ConfigError("--products needs --product: which of them wrote the file", code="connect.product")
        return None
    known = products(own)
    if name not in known:
        raise ConfigError(
            f"there is no product configuration of that name; there are {', '.join(known)}", code="connect.product"
        )
    return known[name]


def _show(report: Report) -> None:
    counts = json.loads(report.to_json())
    problems = counts.pop("problems")
    table("Class list", ["what", "number"], counts.items())
    if report.without_eck_id_las_keys:
        out.print(f"without ECK iD (LAS keys): {', '.join(report.without_eck_id_las_keys)}", markup=False)
    for kind, rows in (("problem", problems), ("warning", list(report.warnings))):
        for row in rows:
            line, element, reason = row.values() if isinstance(row, dict) else (row.line, row.element, row.reason)
            out.print(f"{kind}: line {line}, {element}: {reason}", markup=False)
