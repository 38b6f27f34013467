"""Connection events: a party switches a school's link on or off, and the registry is told in the same transaction.

Only the SIS that the school's board gave its mandate speaks for the school: it accepts, for either side. A party of
the link may offer, decline or revoke its own side. One record per side (design, section 4); what the registry holds
is the state, so every transition is checked here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

from broker.audit.leaf import control_leaf
from broker.days import date_of, day_of
from broker.errors import AccessDenied
from broker.exchange.open import Opened
from broker.identity.formats import is_uuid
from broker.policy.words import PROCESSES, Process
from broker.registry import ConnectionSide, Registry, School
from broker.registry.connections import About
from broker.registry.fields import ALL
from broker.registry.models import key_of
from broker.registry.registry import record_of

LINKS: Final = "connection"  # the family
Side = str
FindSide = Callable[[str, Side], ConnectionSide | None]

# kind -> (the state that a side comes into, the states it may come from; None: there is no record yet)
TRANSITIONS: Final[dict[str, tuple[str, frozenset[str | None]]]] = {
    "OFFER": ("offered", frozenset({None, "declined", "revoked"})),
    "ACCEPT": ("accepted", frozenset({None, "offered", "declined", "revoked"})),
    "DECLINE": ("declined", frozenset({None, "offered"})),
    # Not from `offered`: a link that was never on would else seem to have been; an offer is taken back by DECLINE.
    "REVOKE": ("revoked", frozenset({"accepted"})),
}
_SIDES: Final = {"SENDER": ("sender",), "RECEIVER": ("receiver",), "BOTH": ("sender", "receiver")}
_PROCESSES: Final[dict[str, Process]] = {
    "".join("_" + c if c.isupper() else c.upper() for c in name).lstrip("_").upper(): name for name in PROCESSES
}


def switched(event: Opened, registry: Registry, find: FindSide, now_ms: int) -> list[ConnectionSide]:
    """The sides of a connection that this event changes, as they are after it.

    What is said of both sides is said of whichever it can be said of, and leaves the other as it is; it is refused if
    it can be said of neither. So the school that says it has what it wants, whatever the sides said before:

    * REVOKE switches off what is accepted; neither side is accepted after it.
    * DECLINE says no to what is offered or was never spoken of. What is accepted stays: that is switched off by REVOKE.
    * OFFER offers what is neither offered nor accepted.
    * ACCEPT accepts what is not accepted; the link is on after it, for all products that it names. So it is refused if
      a side that is accepted already is for fewer.

    Args:
        find: a side as it is now, with what this batch wrote.
        now_ms: milliseconds since 1970: when it comes into its state; a sender's clock decides nothing.

    Raises:
        AccessDenied: `link.*` or `object.transition`.
    """
    body, kind, sender = event.body, event.envelope["kind"], event.envelope["sender"]
    sides = _SIDES[body["side"]]
    for_school = event.school.mandated(sender, date_of(day_of(now_ms)))
    own = {"sender": body["sender"], "receiver": body["receiver"]}
    if not for_school and (kind == "ACCEPT" or any(own[side] != sender for side in sides)):
        raise AccessDenied("not the sender's side", code="link.not_yours", field="side")
    _check_link(event, registry)
    known = {side: find(body["connection_id"], side) for side in own}
    _check_id(body["connection_id"], _about(event), known.values())
    changing = [side for side in sides if _may_follow(kind, known[side], event.school)]
    if not changing:
        raise _not_from(known[sides[0]], "kind")
    if kind == "ACCEPT":
        for side in (known[side] for side in sides if side not in changing):
            if side is not None and not _covers_all(side, body["products"]):
                raise _not_from(side, "products")
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    return [_side(event, side, sender if for_school else None, known[side], now) for side in changing]


def process_of(event: Opened) -> Process:
    """The process that a connection is for."""
    return _PROCESSES[event.body["process"]]


def _check_link(event: Opened, registry: Registry) -> None:
    body, process = event.body, process_of(event)
    sender, receiver = registry.party(body["sender"]), registry.party(body["receiver"])
    if sender is None or receiver is None or sender is receiver:
        raise AccessDenied("no such parties", code="link.parties", field="receiver" if sender else "sender")
    if not any(
        route.family == body["service"]
        and route.process == process
        and route.sender_role in sender.roles
        and route.receiver_role in receiver.roles
        for route in registry.routes
    ):
        raise AccessDenied("no route", code="link.route", field="service")
    location = body["location"]
    if location is not None and location not in event.school.locations:
        raise AccessDenied("not a location of this school", code="school.not_yours", field="location")


def _check_id(connection: str, about: About, known: Iterable[ConnectionSide | None]) -> None:
    """An id stands for one link; one that an event brings up is a UUID.

    It stands in the audit for ever, and a text of somebody's choice could hold a name. What an operator called a link
    in the registry's files is what it is called.
    """
    sides = [side for side in known if side is not None]
    if any(side.about() != about for side in sides):
        raise AccessDenied("another link has this id", code="link.conflict", field="connection_id")
    if not sides and not (is_uuid(connection) and connection == connection.lower()):
        raise AccessDenied("a new link needs a uuid", code="link.form", field="connection_id")


def _may_follow(kind: str, before: ConnectionSide | None, school: School) -> bool:
    """Whether this may be said of a side as it is."""
    # After a change of SIS what the old one accepted counts no more: the new one may accept it again.
    renewed = kind == "ACCEPT" and before is not None and not before.counts(school)
    return renewed or (before.state if before else None) in TRANSITIONS[kind][1]


def _not_from(before: ConnectionSide | None, field: str) -> AccessDenied:
    state = before.state if before else None
    return AccessDenied("not from this state", code="object.transition", field=field, rule=state)


def _covers_all(side: ConnectionSide, products: list[str] | None) -> bool:
    return side.products == ALL or (products is not None and set(products) <= set(side.products))


def _about(event: Opened) -> About:
    """The link that an event is about."""
    body = event.body
    return About(
        event.school.id, body["sender"], body["receiver"], body["service"], process_of(event), body["location"]
    )


def _side(
    event: Opened, name: str, mandate: str | None, before: ConnectionSide | None, now: datetime
) -> ConnectionSide:
    state = TRANSITIONS[event.envelope["kind"]][0]
    products = event.body["products"]
    document = {
        **_about(event)._asdict(),
        "id": event.body["connection_id"],
        "side": name,
        "products": ALL if products is None else tuple(products),
        "state": state,
        "accepted_by": mandate,
        "mandate": mandate,
        "at": now,
    }
    if before is not None and state == "revoked":  # what was accepted: for which products, and by whom
        document |= {
            "products": before.products, "accepted_by": before.accepted_by, "mandate": before.mandate,
            "accepted_at": min(before.at, now),  # by another worker's clock it may be later
        }  # fmt: skip
    elif before is not None:
        document["ended"] = before.ending()
    try:
        return ConnectionSide.model_validate(document)
    except ValueError:
        raise AccessDenied("not ids of products", code="link.form", field="products") from None


def change_leaf(
    key: str, before: ConnectionSide | None, after: ConnectionSide, event_id: str, sender: str, at: int
) -> bytes:
    """The whole change for the control log, as the operator's changes stand there."""
    return control_leaf(
        "registry",
        {
            "action": "add" if before is None else "change",
            "after": json.loads(record_of(after)),
            "at": at,
            "before": None if before is None else json.loads(record_of(before)),
            "event": event_id,
            "key": key,
            "operator": sender,
            "reason": "connection event",
        },
    )


class SwitchBoard:
    """Connection sides that one batch writes, and the registry as it is with them.

    A SIS that accepts a connection and sends over it in the next event finds it on; the registry is built anew only
    once an event asks for it, so that a thousand acceptances in a row cost one building.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._pending: dict[str, ConnectionSide] = {}
        self._written: dict[tuple[str, str], ConnectionSide] = {}

    @property
    def registry(self) -> Registry:
        """The registry with everything that was written so far."""
        if self._pending:
            self._registry = self._registry.with_changes({k: record_of(side) for k, side in self._pending.items()})
            self._pending = {}
        return self._registry

    def find(self, connection: str, side: Side) -> ConnectionSide | None:
        """A side as it is now."""
        written = self._written.get((connection, side))
        return written if written is not None else self._registry.connection_side(connection, side)

    def write(self, side: ConnectionSide) -> tuple[bytes, bytes]:
        """Remember a side; gives the record's key and value."""
        self._written[side.id, side.side] = side
        key = key_of(side)
        self._pending[key] = side
        return key.encode(), record_of(side)
