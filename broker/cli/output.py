"""How commands talk: results to stdout, everything else to stderr; colours and tables where there is a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker import __version__

WHOLE_CHARS: Final = 40

# No markup, no emoji: a text of somebody else must not colour, hide or link anything on the terminal of who reads it.
_AS_IT_IS: Final[dict[str, Any]] = {"highlight": False, "markup": False, "emoji": False}
out = Console(soft_wrap=not sys.stdout.isatty(), **_AS_IT_IS)
err = Console(stderr=True, soft_wrap=True, **_AS_IT_IS)


def _print_version(asked: bool) -> None:
    if asked:
        out.print(__version__)
        raise typer.Exit


def version(
    show: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """The broker's command line."""


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table on a terminal; elsewhere tab-separated lines with a title, easy for grep and screen readers."""
    rows = [[str(cell) for cell in row] for row in rows]
    if out.is_terminal:
        if title:
            out.print(f"\n{title}", style="bold", markup=False)
        drawn = Table()
        for name, cells in zip(columns, zip(*rows, strict=True) if rows else ((),) * len(columns), strict=True):
            # Nothing is cut off; what names a row stays in one piece if it is short, to be copied.
            longest = max(map(len, cells), default=0)
            whole = name == columns[0] and longest <= WHOLE_CHARS
            drawn.add_column(name, overflow="fold", no_wrap=whole, min_width=longest if whole else None)
        for row in rows:
            drawn.add_row(*map(Text, row))
        out.print(drawn)
        return
    sys.stdout.write(f"{title}\n" if title else "")
    for row in [list(columns), *rows]:
        sys.stdout.write("\t".join(row) + "\n")


def json_line(value: Any) -> None:
    """One line of JSON on stdout, at once."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()
