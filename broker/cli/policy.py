"""`broker policy`: what may pass, to whom and why."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.output import json_line, table
from broker.policy import Policy, explain
from broker.policy import table as rules_table
from broker.policy.words import Process, ProductType, ReceiverRole, Sector

app = typer.Typer(no_args_is_help=True, help="What may pass, to whom and why.")

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
