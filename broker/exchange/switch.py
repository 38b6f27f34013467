"""Connection events: a party switches a school's link on or off, and the registry is told in the same transaction.

Only the SIS that the school's board gave its mandate speaks for the school: it accepts, for either side. A party of
the link may offer, decline or revoke its own side. One record per side (design, section 4); what the registry holds
is the state, so every transition is checked here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from broker.audit.leaf import control_leaf
from broker.errors import AccessDenied
from broker.exchange.calendar import date_of, day_of
from broker.exchange.open import Opened
from broker.policy.words import PROCESSES, Process
from broker.registry import ConnectionSide, Registry
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
    """The sides of a connection as they are after this event.

    Args:
        find: a side as it is now, with what this batch wrote.
        now_ms: milliseconds since 1970: when it comes into its state; a sender's clock decides nothing.

    Raises:
        AccessDenied: `link.*` or `object.transition`.
    """
    body, kind, sender = event.body, event.envelope["kind"], event.envelope["sender"]
    sides = _SIDES[body["side"]]
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    for_school = event.school.mandated(sender, date_of(day_of(now_ms)))
    own = {"sender": body["sender"], "receiver": body["receiver"]}
    if not for_school and (kind == "ACCEPT" or any(own[side] != sender for side in sides)):
        raise AccessDenied("not the sender's side", code="link.not_yours", field="side")
    _check_link(event, registry)
    state, allowed = TRANSITIONS[kind]
    made = []
    for name in sides:
        before = find(body["connection_id"], name)
        new = _side(event, name, state, sender if for_school else None, before, now)
        if before is not None and before.about() != new.about():
            raise AccessDenied("another link has this id", code="link.conflict", field="connection_id")
        # After a change of SIS what the old one accepted counts no more: the new one may accept it again.
        renewed = kind == "ACCEPT" and before is not None and not before.counts(event.school)
        if not renewed and (before.state if before else None) not in allowed:
            raise AccessDenied(
                "not from this state", code="object.transition", field="kind", rule=before.state if before else None
            )
        made.append(new)
    other = {"sender": "receiver", "receiver": "sender"}
    across = find(body["connection_id"], other[sides[0]])
    if across is not None and across.about() != made[0].about():
        raise AccessDenied("its sides are about different links", code="link.conflict", field="connection_id")
    return made


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


def _side(
    event: Opened, name: str, state: str, mandate: str | None, before: ConnectionSide | None, now: datetime
) -> ConnectionSide:
    body = event.body
    # What is revoked was accepted: by whom stays.
    accepted_by, given = (before.accepted_by, before.mandate) if before and state == "revoked" else (mandate, mandate)
    products = body["products"]
    if before is not None and state == "revoked":
        products = None if isinstance(before.products, str) else before.products  # what is revoked is what was on
    document = {
        "id": body["connection_id"],
        "side": name,
        "school": event.school.id,
        "location": body["location"],
        "sender": body["sender"],
        "receiver": body["receiver"],
        "service": body["service"],
        "process": process_of(event),
        "products": "all" if products is None else tuple(products),
        "state": state,
        "accepted_by": accepted_by,
        "mandate": given,
        "at": now,
    }
    try:
        return ConnectionSide.model_validate(document)
    except ValueError:
        raise AccessDenied("not a connection", code="link.form", field="connection_id") from None


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
