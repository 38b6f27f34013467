"""`broker schemas`: which schemas there are, what is in them, and whether a new version may take an old one's place."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from broker.cli.output import err, json_line, table
from broker.data import data_path
from broker.errors import ConfigError
from broker.schemas import Schema, catalogue
from broker.schemas.compatibility import Mode, compatible
from broker.schemas.model import load

app = typer.Typer(no_args_is_help=True, help="Show schemas, and check that versions go together.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Outputs = Annotated[bool, typer.Option("--outputs", help="Also what each receiver role gets.")]
SchemaFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)]


@app.command("list")
def show_all(outputs: Outputs = False, as_json: AsJson = False) -> None:
    """List the schemas: the broker's own, the families, and with --outputs those of each receiver role."""
    rows = [
        {"name": name, "kind": kind, "fingerprint": schema.fingerprint.hex(), "fields": len(schema.fields)}
        for name, (kind, schema) in _all(outputs=outputs).items()
    ]
    if as_json:
        for row in rows:
            json_line(row)
    else:
        table("Schemas", ["name", "kind", "fingerprint", "fields"], [list(row.values()) for row in rows])


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="As `broker schemas list` shows it, such as usage.v1.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the schema file itself.")] = False,
) -> None:
    """Show the fields of a schema, each with its class and the attribute that a policy decides over."""
    known = _all(outputs=True)
    if name not in known:
        raise ConfigError(f"there is no schema {name!r}; see `broker schemas list --outputs`", code="schema.missing")
    schema = known[name][1]
    if as_json:
        sys.stdout.write(json.dumps(schema.document, indent=2, ensure_ascii=False) + "\n")
        return
    types = {field["name"]: field["type"] for field in schema.document["fields"]}
    rows = [(f.name, _type(types[f.name]), f.cls, f.attribute or "") for f in schema.fields]
    table(f"{name}  {schema.name}  {schema.fingerprint.hex()}", ["field", "type", "class", "attribute"], rows)


@app.command()
def check(
    old: SchemaFile,
    new: SchemaFile,
    mode: Annotated[Mode, typer.Option(case_sensitive=False, help="Who must read whose data.")] = Mode.FULL,
    as_json: AsJson = False,
) -> None:
    """Check that a new version may take the place of an old one. Ends with 1, and says why, when it may not."""
    older, newer = (_file(path) for path in (old, new))
    problems = compatible(newer.document, older.document, mode)
    if as_json:
        for problem in problems:
            json_line({"path": problem.path, "kind": problem.kind, "reason": problem.reason})
    elif problems:
        table("Not compatible", ["field", "kind", "reason"], [(p.path, p.kind, p.reason) for p in problems])
    if problems:
        raise typer.Exit(1)
    err.print(f"compatible ({mode.value})")


def _file(path: Path) -> Schema:
    try:
        return load(path.read_text("utf-8"))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}", code=error.code) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8", code="schema.invalid") from None


def _all(*, outputs: bool) -> dict[str, tuple[str, Schema]]:
    known = catalogue()
    found = {name: ("own", schema) for name, schema in known.own.items()}
    found |= {f"{f.name}.v{f.version}": ("family", f.schema) for f in known.families.values()}
    if outputs:
        files = sorted((data_path("schemas") / "avro" / "outputs").glob("*.avsc"))
        found |= {path.stem: ("output", load(path.read_text("utf-8"))) for path in files}
    return found


def _type(node: Any) -> str:
    """A type in one short word or two."""
    if isinstance(node, list):
        return " or ".join(_type(branch) for branch in node)
    if isinstance(node, str):
        return node
    if node["type"] in ("array", "map"):
        return f"{node['type']} of {_type(node['items' if node['type'] == 'array' else 'values'])}"
    named = node.get("logicalType") or node.get("name")
    return f"{_type(node['type'])} {named}" if named else _type(node["type"])
