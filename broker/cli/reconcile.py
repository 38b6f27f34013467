"""`broker audit reconcile`: do the logs add up? Offline, over folders."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from broker.audit.count import Confirmations, read_counts
from broker.audit.reconcile import LATENESS_MS, Finding, Reconciler
from broker.audit.told import InputGap, LeafError, read_gap
from broker.auditlog.folders import PARTY_KEYS, StoredLog, count_leaf, counts_in, logs_in, party_keys
from broker.cli.output import err, json_line, table

LAST_MS = 253_402_300_799_000  # the end of the year 9999: a leaf can say anything


def reconcile(
    logs: Annotated[Path, typer.Option(help="Folder of all logs, that of the control log too.")],
    counts: Annotated[
        Path | None, typer.Option(help="Folder of signed counts, *.count, besides those in the control log.")
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(help=f"The parties' verifier keys, one a line; default: {PARTY_KEYS} in --counts; or no counts."),
    ] = None,
    lateness: Annotated[
        int, typer.Option(min=0, help="A window may be told so many seconds late, as of the newest leaf.")
    ] = LATENESS_MS // 1000,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON for each.")] = False,
) -> None:
    """Hold all leaves against windows, numbers and counts: was one left out, added or moved? Ends with 1 if so.

    Takes the leaves as they stand: `broker audit verify log` says whether they are the signed ones.
    """
    found = logs_in(logs)
    trusted = keys if counts is None else keys or counts / PARTY_KEYS
    known = None if trusted is None else party_keys(trusted)
    gaps, notes, findings = _control(found, known or {})
    confirmations: Confirmations | None = None
    if known is not None:
        notes += [] if counts is None else counts_in(counts)
        good, wrong = read_counts(notes, known, found[0].base)
        findings += wrong
        confirmations = Confirmations(known)
        for count in good:
            confirmations.add(count)
    read: list[tuple[StoredLog, Reconciler]] = []
    for log in (log for log in found if not log.is_control):
        reconciler = Reconciler(gaps=list(gaps))
        if confirmations is not None:
            reconciler.watcher = confirmations
        for leaf in log.entries(0, log.size):
            findings += reconciler.feed(leaf)
        read.append((log, reconciler))
    newest = max((reconciler.newest_ms for _, reconciler in read), default=0)
    for _, reconciler in read:
        findings += reconciler.late(newest, lateness * 1000)
    if confirmations is not None:
        findings += [*confirmations.findings(), *confirmations.missing()]
    _tell(read, findings, confirmations, newest, as_json=as_json)
    if findings:
        raise typer.Exit(1)


def _control(
    logs: list[StoredLog], parties: Container[str]
) -> tuple[list[InputGap], list[tuple[str, bytes]], list[Finding]]:
    """What the control log tells of lost input, and the counts of these parties in it."""
    gaps, notes, findings = list[InputGap](), list[tuple[str, bytes]](), list[Finding]()
    for log in (log for log in logs if log.is_control):
        for index, leaf in enumerate(log.entries(0, log.size)):
            try:
                gap, note = read_gap(leaf), count_leaf(index, leaf, parties)
            except LeafError as error:
                findings.append(Finding("R0", "", 0, f"leaf {index} of the control log can not be read: {error}."))
                continue
            gaps += [] if gap is None else [gap]
            notes += [] if note is None else [note]
    return gaps, notes, findings


def _tell(
    read: list[tuple[StoredLog, Reconciler]],
    findings: list[Finding],
    confirmations: Confirmations | None,
    newest: int,
    *,
    as_json: bool,
) -> None:
    opened = [lane for _, reconciler in read for lane in reconciler.open_lanes()]
    unconfirmed = [] if confirmations is None else confirmations.unconfirmed()
    if as_json:
        for kind, entries in (("finding", findings), ("open", opened), ("unconfirmed", unconfirmed)):
            for entry in entries:
                json_line({"is": kind, **asdict(entry)})
    else:
        if findings:
            table(
                "Findings",
                ["rule", "lane", "window", "what"],
                [(f.rule, f.lane, f.window, f.sentence) for f in findings],
            )
        if opened:
            rows = [(o.lane, o.window, o.leaves, (newest - o.since_ms) // 1000) for o in opened]
            table("Open windows", ["lane", "window", "leaves", "seconds"], rows)
        if unconfirmed:
            flows = [(u.flow, u.confirmed, u.last) for u in unconfirmed]
            table("Not counted by its party", ["flow", "counted to", "last"], flows)
    leaves, windows = (
        (sum(n) for n in zip(*((r.position, r.windows) for _, r in read), strict=True)) if read else (0, 0)
    )
    lanes = sum(len(reconciler.lanes) for _, reconciler in read)
    asked = "counts were not asked for" if confirmations is None else f"{len(unconfirmed)} flows not counted to the end"
    until = datetime.fromtimestamp(min(newest, LAST_MS) / 1000, UTC)
    err.print(
        f"{'DOES NOT ADD UP' if findings else 'ADDS UP'}: {len(findings)} findings in {leaves} leaves, "
        f"{windows} windows and {lanes} lanes of {len(read)} logs, up to {until:%Y-%m-%d %H:%M:%S} UTC; "
        f"{len(opened)} windows open; {asked}.",
        markup=False,
    )  # fmt: skip
