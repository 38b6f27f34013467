"""The connections of one school, worked out: which links are on, and which once were (gate 3)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from broker.registry.models import ConnectionSide, School

Pair = tuple[ConnectionSide, ConnectionSide]


@dataclass(slots=True)
class Links:
    """What connections say of one school.

    Attributes:
        on: (sender, receiver, service) -> both sides of each connection that is on.
        once_on: links that are on, or were and are revoked.
        receivers: (sender, service) -> receivers whose link is on.
        parties: those that have a link that is on.
    """

    on: dict[tuple[str, str, str], tuple[Pair, ...]] = field(default_factory=dict)
    once_on: set[tuple[str, str, str]] = field(default_factory=set)
    receivers: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    parties: set[str] = field(default_factory=set)

    def connected(self, link: tuple[str, str, str], product: str | None) -> bool:
        """Whether the link is on for this product; None asks for any."""
        return any(sender.covers(product) and receiver.covers(product) for sender, receiver in self.on.get(link, ()))


NO_LINKS = Links()


def links_of(school: School | None, sides: Iterable[ConnectionSide]) -> Links:
    """Put a school's connection sides together; without the school nothing counts."""
    if school is None:
        return NO_LINKS
    pairs: defaultdict[str, dict[str, ConnectionSide]] = defaultdict(dict)
    for side in sides:
        pairs[side.id][side.side] = side
    found = Links()
    for pair in pairs.values():
        if len(pair) == 2:
            _add(found, school, pair["sender"], pair["receiver"])
    return found


def _add(found: Links, school: School, sender: ConnectionSide, receiver: ConnectionSide) -> None:
    both = (sender, receiver)
    if sender.about() != receiver.about() or not all(s.counts(school) for s in both):
        return
    if not all(side.state in ("accepted", "revoked") for side in both):
        return
    link = (sender.sender, sender.receiver, sender.service)
    found.once_on.add(link)
    if all(side.state == "accepted" for side in both) and _share_a_product(*both):
        found.on[link] = (*found.on.get(link, ()), both)
        way = (sender.sender, sender.service)
        found.receivers[way] = tuple(sorted({*found.receivers.get(way, ()), sender.receiver}))
        found.parties |= {sender.sender, sender.receiver}


def _share_a_product(a: ConnectionSide, b: ConnectionSide) -> bool:
    if isinstance(a.products, str) or isinstance(b.products, str):
        return True
    return not set(a.products).isdisjoint(b.products)
