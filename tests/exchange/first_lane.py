"""A world whose lanes have duties, and what the broker tells a party by itself."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from broker.audit.leaf import canonical
from broker.client import Control, Event
from tests.exchange.world import NOW, Delivered, World, make_world

DAY_MS = 86_400_000
LINK, AGREEMENT = "po-usage-delta-portaal", "agreement/vwo-po-portaal"
HELP = "hulp-extern"  # has an agreement for one location, as a controller


def first_lane() -> World:
    """A world of lanes that own duties."""
    world = make_world()
    world.partition = 0
    return world


def told(world: World, party: str) -> list[Delivered]:
    """What the broker told a party since the last time it was asked."""
    world.outgoing.clear()
    while world.run(party).more:
        pass
    return [d for d in world.delivered(party, "control") if d.envelope["sender"] == "broker"]


def event_of(request: Delivered) -> Event:
    """A control event as a party's client gives it."""
    names = ("kind", "school", "sector", "sender", "receiver", "event_id")
    return Event(body=Control.from_datum(request.body), **{name: request.envelope[name] for name in names})


def kinds(requests: list[Delivered]) -> list[str]:
    """Their kinds."""
    return [request.envelope["kind"] for request in requests]


def settled(*parties: str) -> World:
    """All that was there before is told."""
    world = first_lane()
    for party in parties:
        told(world, party)
    return world


def links_of(world: World, party: str) -> set[str]:
    """Connections that are on with this sender, by the records themselves."""
    entries = [json.loads(v) for k, v in world.records.items() if k.startswith("connection/")]
    return {entry["id"] for entry in entries if entry["sender"] == party}


def over(world: World, days: int = 1, agreement: str = AGREEMENT) -> None:
    """Let an agreement have ended so many days ago."""
    last = (NOW.date() - timedelta(days=days)).isoformat()
    world.edit(agreement, valid_until=last, local_ids_until=None, attributes=[])


def add(world: World, **fields: Any) -> None:
    """One agreement more, made of the portal's."""
    document = json.loads(world.records[AGREEMENT]) | {"id": "nieuw"} | fields
    world.registry = world.registry.with_changes({"agreement/nieuw": canonical(document)})
