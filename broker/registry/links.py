"""The connections of schools, worked out: which links are on, and which were and are revoked (gate 3)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date
from itertools import product
from types import MappingProxyType
from typing import Final

from broker.registry.connections import ConnectionSide
from broker.registry.parties import School

Pair = tuple[ConnectionSide, ConnectionSide]
Way = tuple[str, str, str, str]  # sender, receiver, service, process

# A party still has to do with a school for so long after its agreement ended or its link was revoked: what closes its
# affairs there (credits, destroy confirmations) still comes.
CLOSING_DAYS: Final = 400

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(slots=True)
class Links:
    """What connections say of one school.

    Attributes:
        on: both sides of each connection that is on.
        revoked: of each that was on and is revoked, with the day of it; its sides as they were then.
        markers: sender -> connection id -> marker, of those that are on; see `LinkIndex.of_sender`.
        parties: those that have or had a link: where (None: all of the school), and the day it was revoked.
    """

    on: dict[Way, tuple[Pair, ...]] = field(default_factory=dict)
    revoked: dict[Way, tuple[tuple[Pair, date], ...]] = field(default_factory=dict)
    markers: dict[str, dict[str, str]] = field(default_factory=dict)
    parties: dict[str, set[tuple[str | None, date | None]]] = field(default_factory=dict)

    def connected(self, way: Way, product: str | None, location: str | None) -> bool:
        """Whether a link is on for this product at this location."""
        return any(_cover(pair, product, location) for pair in self.on.get(way, ()))

    def revoked_on(self, way: Way, product: str | None, location: str | None) -> date | None:
        """The day from which no link is on any more that was; None if one is, or none was."""
        if self.connected(way, product, location):
            return None
        days = (day for pair, day in self.revoked.get(way, ()) if _cover(pair, product, location))
        return max(days, default=None)

    def between(self, sender: str, receiver: str, service: str) -> Iterator[tuple[str, str]]:
        """Connection id and marker of each link that is on for a service, in any process."""
        for way, pairs in self.on.items():
            if way[:3] == (sender, receiver, service):
                yield from ((pair[0].id, _marker(pair)) for pair in pairs)

    def concern(self, party: str, location: str | None, on: date | None) -> bool:
        """Whether a party has a link that is on, or had one less than `CLOSING_DAYS` before this day.

        Args:
            location: None: anywhere in the school.
            on: None: only what is on counts.
        """
        return any(
            (where is None or location is None or where == location)
            and (day is None or (on is not None and (on - day).days < CLOSING_DAYS))
            for where, day in self.parties.get(party, ())
        )


NO_LINKS: Final = Links()


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
            both = product(pair["sender"].acceptances(), pair["receiver"].acceptances())
            when_on = next((sides for sides in both if _was_on(school, sides)), None)
            if when_on is not None:
                _add(found, when_on)
    return found


def _was_on(school: School, pair: Pair) -> bool:
    """Whether a link was on by these acceptances: both count, and neither was revoked before the other was given."""
    if pair[0].about() != pair[1].about() or not _share_a_product(*pair):
        return False
    if not all(side.counts(school) for side in pair):
        return False
    end = min((side.at for side in pair if side.state == "revoked"), default=None)
    return end is None or all(side.begun is None or side.begun <= end for side in pair)


def _add(found: Links, pair: Pair) -> None:
    about = pair[0].about()
    way = (about.sender, about.receiver, about.service, about.process)
    day = min((side.day for side in pair if side.state == "revoked"), default=None)
    if day is None:
        found.on[way] = (*found.on.get(way, ()), pair)
        found.markers.setdefault(about.sender, {})[pair[0].id] = _marker(pair)
    else:
        found.revoked[way] = (*found.revoked.get(way, ()), (pair, day))
    for party in (about.sender, about.receiver):
        found.parties.setdefault(party, set()).add((about.location, day))


def _marker(pair: Pair) -> str:
    return max(side.at for side in pair).astimezone(UTC).isoformat()


def _share_a_product(a: ConnectionSide, b: ConnectionSide) -> bool:
    if isinstance(a.products, str) or isinstance(b.products, str):
        return True
    return not set(a.products).isdisjoint(b.products)


def _cover(pair: Pair, product: str | None, location: str | None) -> bool:
    return all(side.covers(product, location) for side in pair)


class LinkIndex:
    """The links of all schools. Never changed: a change makes another one, at the cost of the schools concerned."""

    def __init__(
        self,
        sides: Mapping[str, Mapping[str, ConnectionSide]] = MappingProxyType({}),
        links: Mapping[str, Links] = MappingProxyType({}),
        senders: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    ) -> None:
        self._sides, self._links, self._senders = sides, links, senders

    def of(self, school: str) -> Links:
        """The links of one school."""
        return self._links.get(school, NO_LINKS)

    def of_sender(self, party: str) -> Mapping[str, str]:
        """Connection id -> marker of all links that are on with this sender.

        The marker is the time of the later side, so it changes when a link is switched on anew. It is the same object
        until something of it changes.
        """
        return self._senders.get(party, NOTHING)

    def with_changes(
        self,
        gone: Iterable[ConnectionSide],
        come: Iterable[ConnectionSide],
        changed: Iterable[str],
        schools: Mapping[str, School],
    ) -> LinkIndex:
        """The index after sides and schools changed.

        Args:
            changed: ids of schools that changed. schools: all, as they are now.
        """
        gone, come = list(gone), list(come)
        concerned = {side.school for side in (*gone, *come)} | set(changed)
        if not concerned:
            return self
        sides = {school: dict(self._sides.get(school, {})) for school in concerned}
        for side in gone:
            sides[side.school].pop(f"{side.id}/{side.side}", None)
        for side in come:
            sides[side.school][f"{side.id}/{side.side}"] = side
        links = {school: links_of(schools.get(school), sides[school].values()) for school in concerned}
        return LinkIndex({**self._sides, **sides}, {**self._links, **links}, self._new_senders(links))

    def _new_senders(self, links: Mapping[str, Links]) -> Mapping[str, Mapping[str, str]]:
        off: defaultdict[str, set[str]] = defaultdict(set)
        on: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for school, after in links.items():
            before = self.of(school).markers
            for sender in before.keys() | after.markers.keys():
                was, now = before.get(sender, {}), after.markers.get(sender, {})
                if was != now:
                    off[sender] |= was.keys() - now.keys()
                    on[sender].update(now)
        if not on:
            return self._senders
        senders = dict(self._senders)
        for sender, switched_on in on.items():
            kept = {name: marker for name, marker in self.of_sender(sender).items() if name not in off[sender]}
            senders[sender] = MappingProxyType({**kept, **switched_on})
        return senders
