"""What the demo prints: the chapters, a few lines each; then the year in figures, and how to go on by hand."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from rich.text import Text

from broker.cli.output import out
from broker.data import data_path
from broker.demo import story
from broker.demo.report import NOBODY

OURSELVES: Final = {"vault": "the vault", "registry": "the registry"}
WIDTH: Final = 118
WHO, KNOWN = 18, 24
BECAUSE: Final = {"policy": "by policy", "agreement": "not in its agreement", "closing": "only closes something"}
LEGEND: Final = (
    "→ who received it, by which id it knows the person, and which attributes about the person came along (order",
    "numbers, products and the like are not listed). not: what was filled in and held back, and why. ✗ not passed on.",
)


def show(report: dict[str, Any], file: Path) -> None:
    """Print the facts for people."""
    _line(f"\nA school year in the learning-materials chain, {report['school_year']}", "bold")
    _line("All of it happened just now, on a real Kafka. People, schools and parties are invented.")
    for sentence in LEGEND:
        _line(sentence, "dim")
    for number, chapter in enumerate(report["chapters"], 1):
        _chapter(number, chapter)
    _figures(report)
    _line(f"\nAll facts: {file}")


def _chapter(number: int, chapter: dict[str, Any]) -> None:
    _line(f"\n{number}. {chapter['season']}: {chapter['title']}", "bold")
    _sentences(chapter["said"])
    told: set[str] = set()
    for event in chapter["events"]:
        _event(event, chapter["focus"], told)
    if chapter["counts"] is not None:
        _grid(chapter["counts"]["columns"], chapter["counts"]["rows"])
    _sentences(chapter["ending"])


def _sentences(sentences: Sequence[str]) -> None:
    for line in textwrap.wrap(" ".join(sentences), WIDTH - 2):
        _line(f"  {line}", "italic")


def _event(event: dict[str, Any], focus: Sequence[str], told: set[str]) -> None:
    """An event, who received it, and what was not passed on."""
    _line(f"  {event['what']}  [{event['sender']}: {event['family']} {event['kind']}]", "cyan")
    for line, style in (*_arrivals(event, focus), *_refusals(event, told)):
        indent = " " * (6 + WHO + KNOWN)
        for part in textwrap.wrap(line, WIDTH, initial_indent="    ", subsequent_indent=indent):
            _line(part, style)


def _arrivals(event: dict[str, Any], focus: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Who received it. What several see alike is written once."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for receiver, arrival in event["arrived"].items():
        if not focus or receiver in focus:
            got = ", ".join(_marked(name, arrival) for name in arrival["got"]) or "no attributes"
            alike.setdefault((arrival["known_as"], got, _held_back(arrival)), []).append(receiver)
    for (known_as, got, held_back), (first, *others) in alike.items():
        yield f"→ {first:<{WHO}}{known_as:<{KNOWN}}{got if known_as != NOBODY else ''}", ""
        if held_back:
            yield f"{' ' * (WHO + KNOWN + 2)}not: {held_back}", "yellow"
        if others:
            yield f"→ {', '.join(others)}: the same", ""
    for result in event["results"]:
        if result["outcome"] == "DELIVERED" and result["receiver"] in OURSELVES:
            yield f"→ {OURSELVES[result['receiver']]}", ""


def _held_back(arrival: dict[str, Any]) -> str:
    reasons: dict[str, list[str]] = {}
    for name, reason in arrival["held_back"].items():
        reasons.setdefault(BECAUSE.get(reason["because"], reason["why"]), []).append(name)
    return "; ".join(f"{', '.join(names)} ({why})" for why, names in reasons.items())


def _marked(name: str, arrival: dict[str, Any]) -> str:
    return f"{name} (first letter)" if name in arrival["shortened"] else name


def _refusals(event: dict[str, Any], told: set[str]) -> Iterator[tuple[str, str]]:
    """What did not pass, receivers together; what a code means is said once in a chapter."""
    found = {r["code"]: r for r in event["results"] if r["outcome"] != "DELIVERED"}
    for code, result in found.items():
        sentence = "" if code in told else f": {result['sentence']}"
        told.add(code)
        yield f"✗ {result['outcome'].lower()}, {code}{sentence}", "red"


def _figures(report: dict[str, Any]) -> None:
    _line("\nThe year in figures", "bold")
    rows = []
    for party, facts in report["parties"].items():
        families: dict[str, int] = {}
        for kind, count in facts["received"].items():
            family = kind.partition(" ")[0]
            families[family] = families.get(family, 0) + count
        got = ", ".join(f"{count} {family}" for family, count in families.items())
        rows.append((party, " ".join(facts["roles"]), report["sent"].get(party, 0), got))
    _grid(("party", "role", "sent", "received"), rows)
    audit = report["audit"]
    decided = ", ".join(f"{n} {decision}" for decision, n in audit["by_decision"].items())
    incidents = ", ".join(i["code"] for i in audit["incidents"]) or "none"
    leaves = sum(log["leaves"] for log in audit["logs"])
    _sentences([
        f"In the audit, written in the same transactions: {decided}.",
        f"{audit['duties']} of the deliveries were requests of the broker itself (seeds). Incidents: {incidents}.",
        f"All {leaves} leaves are in {len(audit['logs'])} signed logs, and the offline verifier finds them whole:",
    ])  # fmt: skip
    for log in audit["logs"]:
        _line(f"    {log['log']}: {log['says']}", "dim")


def _grid(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Columns side by side; numbers to the right."""
    cells = [[str(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[n]) for row in cells) for n in range(len(columns))]
    numeric = [all(isinstance(row[n], int) for row in rows) for n in range(len(columns))]
    for row in cells:
        shown = [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, numeric, strict=True)
        ]
        _line("    " + "  ".join(shown).rstrip(), "dim" if row is cells[0] else "")


def _line(text: str, style: str = "") -> None:
    if out.is_terminal:
        out.print(Text(text, style), soft_wrap=True)
    else:
        sys.stdout.write(f"{text}\n")


def next_steps(home: Path) -> None:
    """How to go on by hand, when everything is left running."""
    profiles, examples = home / "profiles", data_path("examples")
    _line(
        "\nEverything is still running. By hand (docs/tutorial.md and docs/tutorial-auditor.md go on from here):",
        "bold",
    )
    for line in (
        f"export BROKER_PROFILES={profiles} BROKER_CONNECTION={home / 'connections' / 'auditor.json'}",
        f"broker receive {story.PORTAL} usage --max 3",
        f"broker receive {story.PUBLISHER} status --json --idle 3",
        f"broker send {story.PUBLISHER} usage {examples / 'usage.jsonl'}",
        "broker audit list --decision refused",
        f"broker audit verify log {home / 'auditlog'}",
        "broker policy explain --process Gebruik --sector PO --receiver-role PORTAL --attribute usageDates",
        f"broker demo --stop --home {home}",
    ):
        _line(f"  {line}")
