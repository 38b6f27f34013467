"""The facts of the demo: per event who got what by which id, what was held back or refused, and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from broker.cli.receive import as_document
from broker.client import Event, Received
from broker.demo.chain import Told
from broker.demo.telling import Chapter
from broker.demo.year import Lived
from broker.exchange.outcomes import meaning
from broker.policy import CONDITIONS, DEFAULT_DENY, NOT_IN_AGREEMENT
from broker.registry import Registry
from broker.schemas import catalogue

SAME_EVENT_FAMILY: Final = "usage"
NOBODY: Final = "(no person)"
Leaves = dict[tuple[str, str], dict[str, Any]]


def build(lived: Lived, registry: Registry) -> dict[str, Any]:
    """The facts, as `report.json` holds them."""
    leaves = {
        (leaf["x"]["event"], leaf["x"]["receiver"]): leaf["x"]
        for leaf in lived.leaves
        if leaf["x"]["decision"] == "delivered" and "receiver" in leaf["x"]
    }
    facts = _Facts(lived, registry, leaves)
    return {
        "school_year": lived.year.school_year,
        "day": lived.year.today.isoformat(),
        "class_lists": lived.year.class_lists,
        "chapters": [facts.chapter(chapter) for chapter in lived.year.chapters],
        "sent": lived.sent,
        "parties": {party: facts.party(party) for party in sorted({p for p, _ in lived.received})},
        "same_event": facts.same_event(),
        "not_delivered": list(facts.not_delivered()),
        "outcomes": {
            party: dict(Counter(r.code for s in statuses for r in s.results))
            for party, statuses in lived.statuses.items()
        },
        "audit": {
            "leaves": len(lived.leaves),
            "by_decision": dict(Counter(leaf["x"]["decision"] for leaf in lived.leaves)),
            "duties": sum(leaf["x"]["code"] == "ok.duty" for leaf in lived.leaves),
            "incidents": [c["control"] for c in lived.control if c.get("control", {}).get("kind") == "incident"],
            "logs": lived.logs,
            "registry_changes": sum(c.get("control", {}).get("kind") == "registry" for c in lived.control),
        },
    }


def write(report: dict[str, Any], file: Path) -> None:
    """Write the facts as JSON."""
    file.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", "utf-8")


class _Facts:
    """Puts together what was sent, what arrived and what the audit says of it."""

    def __init__(self, lived: Lived, registry: Registry, leaves: Leaves) -> None:
        self._lived, self._registry, self._leaves = lived, registry, leaves

    def chapter(self, chapter: Chapter) -> dict[str, Any]:
        """A chapter, with its events in full."""
        counts = chapter.counts
        return {
            "season": chapter.season,
            "title": chapter.title,
            "said": chapter.said,
            "focus": list(chapter.focus),
            "counts": None if counts is None else {"columns": counts.columns, "rows": counts.rows},
            "events": [self._event(told) for told in chapter.shown],
            "ending": chapter.ending,
        }  # fmt: skip

    def _event(self, told: Told) -> dict[str, Any]:
        event = told.event
        return {
            "what": told.what, "sender": told.sender, "family": event.family, "kind": event.kind,
            "school": event.school, "sector": event.sector, "event": event.event_id, "filled": filled_in(event),
            "results": [
                {"receiver": r.receiver, "outcome": r.outcome, "code": r.code, "field": r.field, "sentence": r.sentence}
                for r in told.results
            ],
            "arrived": {name: self._arrival(event, name, received) for name, received in told.arrived.items()},
        }  # fmt: skip

    def _arrival(self, sent: Event, receiver: str, received: Received) -> dict[str, Any]:
        got, x = filled_in(received.event), self._leaves[received.event.event_id, receiver]
        held_back = [name for name in filled_in(sent) if name not in got]
        return {
            "known_as": known_as(received.event),
            "got": got,
            "shortened": _shortened(sent, received.event),
            "held_back": {name: self._why(name, receiver, x, sent) for name in held_back},
            "process": x["process"],
            "agreement": x.get("agreement"),
        }

    def _why(self, attribute: str, receiver: str, x: dict[str, Any], sent: Event) -> dict[str, str]:
        """The policy's reason, in a few words; `broker policy explain` says it in sentences."""
        agreement = self._lived.year.agreements[x["agreement"]]
        product = getattr(sent.body, "product_id", None)
        projection = self._registry.policy.projection(
            x["process"], sent.sector, self._registry.parties[receiver].roles[0], agreement.product_type(product),
            [attribute], agreement.attributes,
        )  # fmt: skip
        reason = dict(projection.dropped).get(attribute)
        if reason == NOT_IN_AGREEMENT:
            return {"because": "agreement", "why": "its agreement does not name it"}
        if reason is not None:
            rule = "no rule allows it" if reason == DEFAULT_DENY else f"rule {reason}"
            return {"because": "policy", "why": f"never for this receiver in this process ({rule})"}
        conditions = [CONDITIONS[name] for name in projection.conditions.get(attribute, ())]
        if conditions:
            return {"because": "condition", "why": f"only if {' and '.join(conditions)}"}
        return {"because": "closing", "why": "this only closes something, so it holds nothing else"}

    def party(self, party: str) -> dict[str, Any]:
        """What a party received in all, with one record as it sees it."""
        by_family = {family: found for (name, family), found in self._lived.received.items() if name == party and found}
        events = [received for found in by_family.values() for received in found]
        sample = max(events, key=lambda r: len(filled_in(r.event)), default=None)
        return {
            "roles": [str(role) for role in self._registry.parties[party].roles],
            "received": dict(Counter(f"{r.event.family} {r.event.kind}" for r in events)),
            "sample": as_document(sample) if sample else None,
            "dropped": self._dropped(party),
        }

    def _dropped(self, party: str) -> dict[str, int]:
        """Attribute names that this party did not get, and in how many events; filled in or not."""
        counts: Counter[str] = Counter()
        for (_, receiver), x in self._leaves.items():
            if receiver == party:
                counts.update(x["dropped"])
        return dict(sorted(counts.items()))

    def same_event(self) -> dict[str, Any]:
        """One event at several receivers: the attributes that each of them may get."""
        by_event: dict[str, dict[str, list[str]]] = {}
        for (event, receiver), x in self._leaves.items():
            if x["family"] == SAME_EVENT_FAMILY:
                by_event.setdefault(event, {})[receiver] = x["kept"]
        best = max(by_event.items(), key=lambda item: len({tuple(k) for k in item[1].values()}), default=("", {}))
        return {"event": best[0], "kept": best[1]}

    def not_delivered(self) -> Iterator[dict[str, Any]]:
        """Every outcome that is no delivery, with what the event was."""
        what = {told.event.event_id: told.what for told in self._lived.told} | self._lived.year.mistakes
        for sender, statuses in self._lived.statuses.items():
            for status in statuses:
                for result in status.results:
                    if result.outcome != "DELIVERED":
                        yield {
                            "sender": sender, "what": what.get(status.event_id, "?"), "outcome": result.outcome,
                            "receiver": result.receiver, "code": result.code, "field": result.field,
                            "sentence": meaning(result.code).sentence,
                        }  # fmt: skip


def filled_in(event: Event) -> list[str]:
    """Attributes of the policy that an event's body holds a value for, in the order of the schema."""
    found = []
    for field in catalogue().family(event.family).schema.fields:
        value = getattr(event.body, field.name)
        if field.attribute is not None and value is not None and field.attribute not in found:
            found.append(field.attribute)
    return found


def known_as(event: Event) -> str:
    """By which id a receiver knows whom the event is about."""
    subject = event.subject
    if subject.kind == "NONE":
        return NOBODY
    types = [kind for kind, _ in subject.user_ids]
    if "RECEIVER_PSEUDONYM" in types:
        return "pseudonym"
    own = [_ID_NAMES.get(kind, kind) for kind in types]
    return " + ".join((["ECK iD"] if subject.eck_id else []) + own)


_ID_NAMES: Final = {"LAS_KEY": "school's key", "MEDEWERKERNUMMER": "staff number"}


def _shortened(sent: Event, arrived: Event) -> list[str]:
    """Attributes that arrived in another form than they were sent."""
    return [
        field.attribute
        for field in catalogue().family(sent.family).schema.fields
        if field.attribute is not None
        and getattr(arrived.body, field.name) is not None
        and getattr(arrived.body, field.name) != getattr(sent.body, field.name)
    ]


__all__ = ["build", "filled_in", "known_as", "write"]
