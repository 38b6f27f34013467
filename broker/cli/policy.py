"""`broker policy`: what may pass, to whom and why."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from broker.cli.output import err, json_line, table
from broker.policy import Policy, Routes, explain
from broker.policy import table as rules_table
from broker.policy.check import problems
from broker.policy.difference import Passing, passing, wording
from broker.policy.words import Process, ProductType, ReceiverRole, Sector
from broker.schemas import catalogue

app = typer.Typer(no_args_is_help=True, help="What may pass, to whom and why.")

DIFFERENT: Final = 2  # as `broker registry plan` and `broker topics plan` end when there is a difference
Given = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)]
Checked = Annotated[
    Path | None,
    typer.Argument(exists=True, dir_okay=False, readable=True, help="Policy; by default the one of the package."),
]
RoutesFile = Annotated[Path | None, typer.Option("--routes", help="Routes; by default those of the package.")]
PolicyFile = Annotated[Path | None, typer.Option("--policy", help="Policy; by default the one of the package.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


@app.callback()
def policy() -> None:
    """What may pass, to whom and why."""


@app.command("explain")
def explain_attribute(
    process: Annotated[Process, typer.Option(help="In which process.")],
    sector: Annotated[Sector, typer.Option(help="In which sector.")],
    receiver_role: Annotated[ReceiverRole, typer.Option(help="To whom.")],
    attribute: Annotated[str, typer.Option(help="The attribute, as policy and schemas call it.")],
    product_type: Annotated[ProductType, typer.Option(help="For what kind of product.")] = "ordinary",
    agreement_names: Annotated[str, typer.Option(help="Attributes that the agreement names, by commas.")] = "",
    policy_file: PolicyFile = None,
    as_json: AsJson = False,
) -> None:
    """Tell in sentences what happens to an attribute, on what basis, and who says so."""
    named = [name.strip() for name in agreement_names.split(",") if name.strip()]
    sentences = explain(Policy.load(policy_file), process, sector, receiver_role, attribute, product_type, named)
    if as_json:
        json_line(list(sentences))
    else:
        sys.stdout.write("\n".join(sentences) + "\n")


@app.command("table")
def whole_table(policy_file: PolicyFile = None, as_json: AsJson = False) -> None:
    """Print all rules, for PO/VO/MBO: A allowed, T transformed, C if the agreement names it, D never, R refused."""
    columns = ["attribute", "receivers", "products", "effects", "rule"]
    rows = list(rules_table(Policy.load(policy_file)))
    if as_json:
        for row in rows:
            json_line(dict(zip(columns, row, strict=True)))
    else:
        table("", columns, rows)


@app.command()
def check(file: Checked = None, routes: RoutesFile = None, as_json: AsJson = False) -> None:
    """Hold a policy against schemas and routes: what nobody decided over, what can never apply. Ends with 1 if so."""
    known = catalogue()
    families = [known.family(name) for name in sorted({name for name, _ in known.families})]
    policy = Policy.load(file)
    found = problems(policy, Routes.load(routes), families)
    for problem in found:
        if as_json:
            json_line({"problem": problem})
        else:
            sys.stdout.write(f"{problem}\n")
    if found:
        raise typer.Exit(1)
    err.print(f"fits ({len(policy.attributes)} attributes, {len(families)} families)")


@app.command()
def diff(old: Given, new: Given, as_json: AsJson = False) -> None:
    """Show what a new policy changes: what passes to whom, and what its rules say. Ends with 2 when they differ."""
    before, after = Policy.load(old), Policy.load(new)
    if before.version == after.version:
        err.print("the same")
        return
    cells, words = passing(before, after), wording(before, after)
    if as_json:
        for cell in cells:
            json_line({"change": "passing", **asdict(cell), "sentence": cell.sentence()})
        for word in words:
            json_line({"change": "wording", **asdict(word), "sentence": word.sentence()})
    elif not cells and not words:
        err.print("the same rules, written in another way or order")
    else:
        columns = ["attribute", "process", "sectors", "receivers", "products", "was", "becomes"]
        _table_if("What passes", columns, [_cell_row(change) for change in cells])
        told = [(w.what, w.field, w.before or "", w.after or "") for w in words]
        _table_if("What rules say", ["what", "field", "was", "becomes"], told)
    raise typer.Exit(DIFFERENT)


def _cell_row(change: Passing) -> tuple[str, ...]:
    return (
        change.attribute, change.process, "/".join(change.sectors), " ".join(change.receiver_roles),
        " ".join(change.product_types), change.before, change.after,
    )  # fmt: skip


def _table_if(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if rows:
        table(title, columns, rows)
