"""`broker routes`: which kind of event may go from whom to whom."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broker.cli.output import json_line, table
from broker.errors import ConfigError
from broker.policy import Route, Routes

app = typer.Typer(no_args_is_help=True, help="Which kind of event may go from whom to whom.")

RoutesFile = Annotated[Path | None, typer.Option("--routes", help="Routes; by default those of the package.")]
Family = Annotated[str | None, typer.Option("--family", help="Only this family.")]
AsJson = Annotated[bool, typer.Option("--json", help="One line of JSON for each route.")]
COLUMNS = ("family", "kinds", "from", "to", "process", "connection", "subject", "closing", "evidence")


@app.callback()
def routes() -> None:
    """Which kind of event may go from whom to whom."""


@app.command()
def show(family: Family = None, routes_file: RoutesFile = None, as_json: AsJson = False) -> None:
    """Print the route table, in its order; of several processes the first whose gates are open is taken."""
    all_routes = Routes.load(routes_file)
    found = [route for route in all_routes if family in (None, route.family)]
    if not found:
        known = ", ".join(dict.fromkeys(route.family for route in all_routes))
        raise ConfigError(f"no route takes {family!r}; known are: {known}", code="family.unknown")
    if as_json:
        for route in found:
            json_line(route.model_dump(mode="json"))
    else:
        table("", COLUMNS, [_row(route) for route in found])


def _row(route: Route) -> tuple[str, ...]:
    return (
        route.family, " ".join(route.kinds), route.sender_role, route.receiver_role, route.process, route.connection,
        route.subject, _term(route), route.evidence,
    )  # fmt: skip


def _term(route: Route) -> str:
    if route.closing is None:
        return "-"
    return f"{route.closing.days} d" + (", dated before the end" if route.closing.dated_before_end else "")
