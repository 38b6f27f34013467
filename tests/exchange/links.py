"""A link that is switched on and off: what is said of it, and how the registry has it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from broker.audit.leaf import canonical
from broker.client import Connection, Event
from broker.exchange import Decision
from broker.exchange.model import AUDIT_CONTROL, REGISTRY, Step
from broker.registry import ConnectionSide
from tests.exchange.world import DELTA, NOW, PORTAL, SIS, World


def link_id(name: str) -> str:
    """The id of a new link, from a name that can be read."""
    return str(uuid5(NAMESPACE_OID, name))


LINK = link_id("nieuw")
OTHER_BOOK, ZUID, WEST = "9789493113862", "sis-zuid", "uitgeverij-west"
BOTH = ("sender", "receiver")


def said(kind: str, side: str = "SENDER", *, school: str = "99PA", created: datetime = NOW, **changes: Any) -> Event:
    """A connection event about usage from Delta to the portal."""
    link: dict[str, Any] = {
        "connection_id": LINK, "side": side, "sender": DELTA, "receiver": PORTAL, "service": "usage",
        "process": "GEBRUIK",
    } | changes  # fmt: skip
    sector = "VO" if school.startswith("99VA") else "PO"
    return Event(kind=kind, school=school, sector=sector, created=created, body=Connection(**link))


def put(world: World, state: str | None, which: tuple[str, ...] = BOTH, **changes: Any) -> None:
    """Let sides of the link be in this state already."""
    for side in which if state is not None else ():
        document = {
            "id": LINK, "side": side, "school": "99PA", "sender": DELTA, "receiver": PORTAL, "service": "usage",
            "process": "Gebruik", "state": state, "accepted_by": SIS, "mandate": SIS, "at": "2026-07-01T10:00:00Z",
        } | changes  # fmt: skip
        world.registry = world.registry.with_changes({f"connection/{LINK}/{side}": canonical(document)})


def sides(world: World, link: str = LINK) -> dict[str, ConnectionSide | None]:
    """Both sides as the registry has them."""
    return {side: world.registry.connection_side(link, side) for side in BOTH}


def states(world: World, link: str = LINK) -> list[str | None]:
    """The states of both sides."""
    return [side.state if side else None for side in sides(world, link).values()]


def first(decisions: list[Decision]) -> str:
    """What the registry answered."""
    return decisions[0].code


def nothing_came_of(step: Step, code: str) -> None:
    """Refused as a whole: nothing for the registry, the control log or the other party."""
    assert [d.code for d in step.decisions] == [code]
    assert not [o for o in step.outgoing if o.topic in (REGISTRY, AUDIT_CONTROL) or o.topic.startswith("out.")]
