"""What the demo shows: per party what it got, what was dropped and why, what was refused, where to look next."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.panel import Panel
from rich.syntax import Syntax

from broker.cli.output import out, table
from broker.cli.receive import as_document
from broker.data import data_path
from broker.demo import story
from broker.demo.day import RECEIVERS, Day
from broker.exchange.outcomes import meaning
from broker.policy import CONDITIONS, DEFAULT_DENY, NOT_IN_AGREEMENT
from broker.registry import Registry


def build(day: Day, registry: Registry) -> dict[str, Any]:
    """The facts, as `build/demo/report.json` holds them."""
    return {
        "class_lists": day.class_lists,
        "sent": dict(day.sent),
        "parties": {party: _party(day, party, registry) for party in RECEIVERS},
        "same_event": _same_event(day),
        "not_delivered": _not_delivered(day),
        "outcomes": {
            party: dict(Counter(r.code for s in statuses for r in s.results))
            for party, statuses in day.statuses.items()
        },
        "audit": {
            "leaves": len(day.leaves),
            "by_decision": dict(Counter(leaf["x"]["decision"] for leaf in day.leaves)),
            "incidents": [c["control"] for c in day.control if c.get("control", {}).get("kind") == "incident"],
        },
    }


def _party(day: Day, party: str, registry: Registry) -> dict[str, Any]:
    received = day.received[party]
    with_progress = [r for r in received if r.event.kind == "USE"] or received
    kinds = Counter(r.event.kind for r in received)
    return {
        "roles": [str(role) for role in registry.parties[party].roles],
        "received": dict(kinds),
        "sample": as_document(with_progress[0]) if with_progress else None,
        "dropped": _dropped(day, party, registry),
    }


def _dropped(day: Day, party: str, registry: Registry) -> list[dict[str, Any]]:
    """Attribute names that this party did not get, how often that was so, and why."""
    counts: Counter[str] = Counter()
    where: dict[str, dict[str, Any]] = {}
    for leaf in day.leaves:
        x = leaf["x"]
        if x["decision"] == "delivered" and x.get("receiver") == party:
            counts.update(x["dropped"])
            where.update(dict.fromkeys(x["dropped"], x))
    return [
        {"attribute": name, "events": count, "why": _why(name, where[name], party, registry)}
        for name, count in sorted(counts.items())
    ]


def _why(attribute: str, x: dict[str, Any], party: str, registry: Registry) -> str:
    """The policy's reason, in a few words; `broker policy explain` says it in sentences."""
    agreement = registry.agreement(x["school"], party, story.BOOK, x["process"], datetime.now(UTC).date())
    sector = registry.schools[x["school"]].sectors[0]
    projection = registry.policy.projection(
        x["process"],
        sector,
        registry.parties[party].roles[0],
        "ordinary",
        [attribute],
        agreement.attributes if agreement else (),
    )
    reason = dict(projection.dropped).get(attribute)
    if reason == NOT_IN_AGREEMENT:
        return "the agreement does not name it"
    if reason == DEFAULT_DENY:
        return "no rule allows it"
    if reason is not None:
        return f"never for this receiver in this process (rule {reason})"
    conditions = [CONDITIONS[name] for name in projection.conditions.get(attribute, ())]
    return f"only if {' and '.join(conditions)}; or there was none" if conditions else "there was none"


def _same_event(day: Day) -> dict[str, Any]:
    """One event at two receivers: the attributes that each of them got."""
    by_event: dict[str, dict[str, list[str]]] = {}
    for leaf in day.leaves:
        x = leaf["x"]
        if x["decision"] == "delivered" and x.get("receiver") in RECEIVERS:
            by_event.setdefault(x["event"], {})[x["receiver"]] = x["kept"]
    best = max(by_event.items(), key=lambda item: len({tuple(kept) for kept in item[1].values()}), default=("", {}))
    return {"event": best[0], "kept": best[1]}


def _not_delivered(day: Day) -> list[dict[str, Any]]:
    rows = []
    for sender, statuses in day.statuses.items():
        for status in statuses:
            for result in status.results:
                if result.outcome in ("DELIVERED",):
                    continue
                rows.append(
                    {
                        "sender": sender,
                        "what": day.mistakes.get(status.event_id, "an event cut off on its way"),
                        "outcome": result.outcome,
                        "receiver": result.receiver,
                        "code": result.code,
                        "field": result.field,
                        "sentence": meaning(result.code).sentence,
                    }
                )
    return rows


def write(report: dict[str, Any], file: Path) -> None:
    """Write the facts as JSON."""
    file.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", "utf-8")


def show(report: dict[str, Any], file: Path) -> None:
    """Print the facts for people."""
    lists = [
        (school, f["pupils"], f["teachers"], f["with_eck_id"], f["without_eck_id"], f["pgn_dropped"])
        for school, f in report["class_lists"].items()
    ]
    table(
        "Class lists brought in by the SIS (a PGN in the file never leaves the connector)",
        ["school", "pupils", "teachers", "with ECK iD", "without", "PGNs dropped"],
        lists,
    )
    for party, facts in report["parties"].items():
        _show_party(party, facts)
    same = report["same_event"]
    table(
        f"One event, {len(same['kept'])} receivers: {same['event']}",
        ["receiver", "attributes it got"],
        [(party, ", ".join(kept)) for party, kept in same["kept"].items()],
    )
    table(
        "Not delivered, and why (each sender reads this on its status topic)",
        ["sender", "what", "outcome", "receiver", "code", "sentence"],
        _grouped(report["not_delivered"]),
    )
    audit = report["audit"]
    table("The audit, written in the same transactions", ["decision", "leaves"], audit["by_decision"].items())
    out.print(f"incidents on audit.control: {', '.join(i['code'] for i in audit['incidents']) or 'none'}")
    out.print(f"\nAll facts: {file}")


def _grouped(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """One row for each event that was not delivered, its receivers together."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for r in rows:
        key = (r["sender"], r["what"], r["outcome"].lower(), r["code"], r["sentence"])
        groups.setdefault(key, []).append(r["receiver"] or "-")
    return [(k[0], k[1], k[2], ", ".join(receivers), k[3], k[4]) for k, receivers in groups.items()]


def _show_party(party: str, facts: dict[str, Any]) -> None:
    received = ", ".join(f"{count} {kind}" for kind, count in facts["received"].items()) or "nothing"
    title = f"{party} ({', '.join(facts['roles'])}) received {received}"
    sample = facts["sample"]
    text = json.dumps(_brief(sample), indent=1, ensure_ascii=False) if sample else "nothing"
    if out.is_terminal:
        body = Syntax(text, "json", word_wrap=True, background_color="default")
        out.print(Panel(body, title=title, title_align="left"))
    else:
        out.print(f"\n{title}\n{text}")
    table(
        f"Dropped for {party}", ["attribute", "events", "why"],
        [(d["attribute"], d["events"], d["why"]) for d in facts["dropped"]],
    )  # fmt: skip


def _brief(sample: dict[str, Any]) -> dict[str, Any]:
    """The sample as shown: what is filled in, ECK iDs shortened (they are long and belong on no screen)."""
    subject = {name: value for name, value in sample["subject"].items() if value}
    if "eck_id" in subject:
        subject["eck_id"] = f"{subject['eck_id'][:34]}…"
    body = {name: value for name, value in sample["body"].items() if value is not None}
    return {"kind": sample["kind"], "school": sample["school"], "subject": subject, "body": body}


def next_steps(home: Path) -> None:
    """How to go on by hand, when everything is left running."""
    profiles = home / "profiles"
    out.print("\nEverything is still running. By hand:")
    for line in (
        f"export BROKER_PROFILES={profiles}",
        f"broker receive {story.PORTAL} usage --max 3",
        f"broker receive {story.PUBLISHER} status --json --idle 3",
        f"broker send {story.PUBLISHER} usage {data_path('examples') / 'usage.jsonl'}",
        f"broker audit list --connection {home / 'connections' / 'auditor.json'}",
        "broker policy explain --process Gebruik --sector PO --receiver-role PORTAL --attribute usageDates",
        f"broker demo --stop --home {home}",
    ):
        out.print(f"  {line}")
