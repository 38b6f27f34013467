"""What the broker itself tells a party to do, once: seed a new receiver, destroy what an ended agreement covered.

A duty follows from the registry alone. The lane of partition 0 of `in.<party>` owns the duties of that party: it
compares what the registry says with what it told before (lane state), so that each is told exactly once, in the same
kind of transaction as everything else, also when both sides of a link were accepted in two lanes at one moment.

    seed/<connection>              marker: since when the link is on; a link that is switched on anew is seeded anew
    agreement/<id>/<version>/<school>   `active`, then `asked/<day>` once it ended

Links between the same parties for one service, location and products, in several processes, that came on together are
one request. A link that comes on later is one more: what its process carries (the block of a licence) was refused
until then. One that goes off while another stays on asks nothing.

What was asked and what the party confirmed stand on `audit.control`, side by side, with what a school asks itself.

The broker keeps no bodies (R28), so it can not seed by itself: the sender sends its current objects to the named
receiver, and SEED_DONE at the end (docs/adr/0007).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, NamedTuple

from broker.crypto import derived_uuid
from broker.days import EPOCH, date_of
from broker.exchange.open import Opened
from broker.exchange.state import LaneState, lane_input
from broker.registry import Agreement, ConnectionSide, Party, Registry, School, Suspension

FAMILY: Final = "control"
SEED: Final = "seed/"
ACTIVE, ASKED = "active", "asked"
DESTROY_DAYS: Final = 30
MOST_AT_ONCE: Final = 500


class Duty(NamedTuple):
    """Something to tell a party.

    Args:
        name, marker: what the lane remembers, and what its id is made of.
        kind: of the control event. school, sector: of its envelope.
        body: fields of the control event that are filled in.
        agreement: that it rests on, if it is about one.
        location: that it is about, if not about all of the school.
        others: what else is told by it: names with their markers.
    """

    name: str
    marker: str
    kind: str
    school: str
    sector: str
    body: dict[str, Any]
    agreement: Agreement | None = None
    location: str | None = None
    others: tuple[tuple[str, str], ...] = ()

    @property
    def event_id(self) -> str:
        """Of the control event; the same duty has the same id."""
        return _event_id(self.name, self.marker)

    @property
    def remember(self) -> dict[str, str]:
        """What the lane remembers once it is told."""
        return {self.name: self.marker, **dict(self.others)}


@dataclass(slots=True)
class Duties:
    """What changes: duties to tell, and memory that needs no telling (None: forget).

    Attributes:
        complete: there is no more than this; a first look at a large registry is spread over many transactions.
    """

    tell: list[Duty] = field(default_factory=list)
    remember: dict[str, str | None] = field(default_factory=dict)
    complete: bool = True

    def cut(self) -> Duties:
        """At most what one transaction should take; first what needs no telling, for that is sure to become less."""
        if len(self.tell) + len(self.remember) > MOST_AT_ONCE:
            self.complete = False
            self.remember = dict(list(self.remember.items())[:MOST_AT_ONCE])
            self.tell = self.tell[: MOST_AT_ONCE - len(self.remember)]
        return self


def control_topic(party: str) -> str:
    """Where a party is told."""
    return f"out.{party}.{FAMILY}"


def duties_of(lane: str) -> str | None:
    """The party whose duties a lane owns: `<group>.in.<party>.0`; None for another lane."""
    topic, partition = lane_input(lane)
    return topic.removeprefix("in.") if partition == 0 else None


class Moment(NamedTuple):
    """All that the duties of a party follow from, and whether it can be told of them.

    Args:
        party: its entry, with its keys.
        suspensions: who is shut out: the party itself, or whom it would seed.
        untold: there are duties that it could not be told of, since its topic did not exist.
    """

    links: Mapping[str, str]
    agreements: tuple[Agreement, ...]
    schools: Mapping[str, School]
    party: Party | None
    suspensions: Mapping[str, Suspension]
    day: int
    untold: bool = False


def moment(registry: Registry, party: str, day: int) -> Moment:
    """As it is now."""
    links, agreements = registry.links_from(party), registry.agreements_of(party)
    return Moment(links, agreements, registry.schools, registry.party(party), registry.suspensions, day)


def same_moment(one: Moment, other: Moment | None) -> bool:
    """Whether nothing changed that duties follow from: asked for every batch, so by identity, not by content."""
    return (
        other is not None
        and one.links is other.links
        and one.agreements is other.agreements
        and one.schools is other.schools
        and one.party is other.party
        and one.suspensions is other.suspensions
        and one.day == other.day
    )


def due(state: LaneState, registry: Registry, party: str, day: int) -> Duties:
    """Compare what the registry says with what was told."""
    found = Duties()
    _seeds(found, state, registry, party, date_of(day))
    _destructions(found, state, registry, party, date_of(day))
    return found.cut()


class _Entitlement(NamedTuple):
    """What a seed is for. Links in several processes may be for one; another location or product is another."""

    school: str
    location: str | None
    receiver: str
    service: str
    products: tuple[str, ...] | None


def _entitlement(sender: ConnectionSide, receiver: ConnectionSide) -> _Entitlement:
    named = [set(side.products) for side in (sender, receiver) if not isinstance(side.products, str)]
    products = tuple(sorted(set.intersection(*named))) if named else None
    return _Entitlement(sender.school, sender.location, sender.receiver, sender.service, products)


def answers_seed(event: Opened, registry: Registry, today: date) -> bool:
    """Whether an event answers a SEED_REQUEST: it names its receiver, and correlates with the request of a link that
    is on between the two.

    Any lane of the sender can tell, since the id of a request follows from the registry.
    """
    envelope = event.envelope
    receiver, correlation = envelope["receiver"], envelope["correlation"]
    if receiver is None or correlation is None or event.school.mandate_over(today) is not None:
        return False
    links = registry.links_between(event.school.id, envelope["sender"], receiver, event.family.name)
    return any(_event_id(f"{SEED}{connection}", marker) == correlation.lower() for connection, marker in links)


def _event_id(name: str, marker: str) -> str:
    return derived_uuid("duty/v1", name, marker)


def _seeds(found: Duties, state: LaneState, registry: Registry, party: str, today: date) -> None:
    links = registry.links_from(party)
    fresh: dict[_Entitlement, list[tuple[str, str]]] = {}
    for connection, marker in links.items():
        if state.duties.get(f"{SEED}{connection}") == marker or (sides := registry.link(connection)) is None:
            continue
        fresh.setdefault(_entitlement(*sides), []).append((connection, marker))
    for asked, together in fresh.items():
        school = registry.school(asked.school)
        if school is None or school.mandate_over(today) is not None:
            continue  # nothing passes over it now; should the mandate be prolonged, the duty is still there
        if registry.suspended(asked.receiver):
            continue  # it would get nothing of what is sent; the duty is there once that is over
        # One of the links that came on last is named: the request's id holds until that one is switched again.
        connection, marker = max(together, key=lambda link: (link[1], link[0]))
        body = {
            "reason_code": "CONNECTION_ACCEPTED", "connection_id": connection, "service": asked.service,
            "other_party": asked.receiver, "products": None if asked.products is None else list(asked.products),
        }  # fmt: skip
        others = tuple((f"{SEED}{name}", since) for name, since in together if name != connection)
        found.tell.append(
            Duty(
                f"{SEED}{connection}", marker, "SEED_REQUEST", school.id, school.sectors[0], body,
                location=asked.location, others=others,
            )
        )  # fmt: skip
    for name in state.duties:
        if name.startswith(SEED) and name.removeprefix(SEED) not in links:
            found.remember[name] = None


def _destructions(found: Duties, state: LaneState, registry: Registry, party: str, today: date) -> None:
    # A controller of its own decides itself how long it keeps what it got (domain, section 10.13).
    agreements = [a for a in registry.agreements_of(party) if a.position == "processor"]
    active = {name: a for a in agreements if a.valid_from <= today <= a.valid_until for name in _names(a, registry)}
    for name in active:
        if state.duties.get(name) != ACTIVE:
            found.remember[name] = ACTIVE
    known = {name: a for a in agreements for name in _names(a, registry)}
    for name, marker in state.duties.items():
        if not name.startswith("agreement/") or name in active:
            continue
        if marker.startswith(ASKED):
            if name not in known:
                found.remember[name] = None
        else:
            place = name.rpartition("/")[2]
            school = registry.school(place)
            if school is None:
                continue  # gone for now; should it come back, or under another BRIN, the duty is still there
            running = [a for n, a in active.items() if n.rpartition("/")[2] in (place, school.id)]
            if _in_the_place_of(known.get(name), running):
                found.remember[name] = None
                continue
            body = {
                "reason_code": "AGREEMENT_ENDED",
                "agreement_id": name.split("/")[1],
                "deadline": (today - EPOCH).days + DESTROY_DAYS,
            }
            # With the day: an agreement that is put back can end again, and that is another request.
            asked = f"{ASKED}/{today.isoformat()}"
            found.tell.append(Duty(name, asked, "DESTROY_REQUEST", school.id, school.sectors[0], body, known.get(name)))


def _in_the_place_of(ended: Agreement | None, running: list[Agreement]) -> bool:
    """Whether what an agreement was about goes on under others; of one that the registry does not know any more this
    can not be told, and any other counts."""
    if ended is None:
        return bool(running)
    return all(
        any(a.valid_until > ended.valid_until and _is_about(a, p.id, q.process) for a in running)
        for p in ended.products
        for q in ended.processes
    )


def _is_about(agreement: Agreement, product: str, process: str) -> bool:
    return any(p.id == product for p in agreement.products) and any(q.process == process for q in agreement.processes)


def _names(agreement: Agreement, registry: Registry) -> Iterator[str]:
    schools = (
        agreement.schools
        if isinstance(agreement.schools, tuple)
        else tuple(s.id for s in registry.schools.values() if s.board == agreement.board)
    )
    for school in schools:
        yield f"agreement/{agreement.id}/{agreement.version}/{school}"
