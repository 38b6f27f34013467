"""What a new receiver needs to know of each object: the events that make it what it is now, and no others.

The families' schemas say what is needed (`broker.schemas.catalogue.Kind`): an event that carries the whole object
again supersedes what was said before it; what it does not say again is kept (the block that came after a licence was
changed, the address that was given before an order was changed); an object that ended is not told at all.

    GRANT, CHANGE, BLOCK, REINSTATE, BLOCK   becomes   CHANGE, BLOCK, REINSTATE, BLOCK
    GRANT, BLOCK, REINSTATE, CHANGE          becomes   CHANGE
    GRANT, BLOCK, REVOKE                     becomes   nothing

A block that was lifted stays with what lifted it, as REINSTATE may tell another last day of the licence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import Final, NamedTuple

from broker.client.records import Event
from broker.schemas import catalogue
from broker.schemas.catalogue import SUBJECT, Kind

BRIN_CHARS: Final = 4

Part = tuple[Hashable, Hashable]  # of what names an object: which one it is, at which school; and its value


class _Told(NamedTuple):
    """An event, with the parts that name its object; the first part tells most."""

    event: Event
    kind: Kind
    parts: tuple[Part, ...]
    revision: int | None


def compacted(events: Iterable[Event]) -> list[Event]:
    """The events that make each object what it is now, in the order in which the objects first came.

    Within an object they go by revision, where the family counts them, else as they came. Of two with one kind and
    one revision the later counts. An object is one school's; events of a kind that names no object all stay.
    """
    events = list(events)
    people = _People(events)
    told = [_told(event, people) for event in events]
    came: dict[tuple[Part, ...], int] = {}
    for one in told:
        came.setdefault(one.parts, len(came))
    kept = _Kept()
    for one in sorted(told, key=lambda one: one.revision or 0):
        kept.take(one)
    return [one.event for one in sorted(kept.told.values(), key=lambda one: came[one.parts])]


def _told(event: Event, people: _People) -> _Told:
    family = catalogue().family(event.family)
    school = event.school[:BRIN_CHARS]
    parts = []
    for name in family.object_of(event.kind):
        value = people.who(event) if name == SUBJECT else getattr(event.body, name)
        parts.append(((event.family, school, name), str(value).lower() if name in family.uuid_fields else value))
    counter = family.revision_field
    revision = None if counter is None else getattr(event.body, counter)
    return _Told(event, family.kinds[event.kind], tuple(parts), revision)


class _Kept:
    """What is still needed, found by each part of what names it."""

    def __init__(self) -> None:
        self.told: dict[int, _Told] = {}
        self._by_part: defaultdict[Part, set[int]] = defaultdict(set)
        self._ended: set[tuple[Part, ...]] = set()
        self._number = 0

    def take(self, one: _Told) -> None:
        """Take the next event in; what it makes superfluous goes."""
        for number in list(self._by_part[one.parts[0]]) if one.parts else ():
            if _is_superfluous(self.told[number], one):
                for part in self.told.pop(number).parts:
                    self._by_part[part].remove(number)
        if one.kind.ends:
            self._ended.add(one.parts)
        elif one.parts not in self._ended or one.kind.first or one.kind.supersedes:
            self._number += 1
            self.told[self._number] = one
            for part in one.parts:
                self._by_part[part].add(self._number)


def _is_superfluous(before: _Told, one: _Told) -> bool:
    """Whether an event need not be told, since this one came after it."""
    if not set(one.parts) <= set(before.parts):
        return False
    again = before.kind is one.kind and one.revision is not None and before.revision == one.revision
    return again or one.kind.ends or before.kind.name in one.kind.supersedes


class _People:
    """Who is who: two subjects are one person if they have an id in common, also by way of a third."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._same: dict[Part, Part] = {}
        for event in events:
            ids = _ids(event)
            for other in ids[1:]:
                self._same[self._root(other)] = self._root(ids[0])

    def who(self, event: Event) -> Part | None:
        """One value for all subjects that are this person; None for nobody."""
        ids = _ids(event)
        return self._root(ids[0]) if ids else None

    def _root(self, one: Part) -> Part:
        while (above := self._same.get(one, one)) != one:
            one = above
        return one


def _ids(event: Event) -> list[Part]:
    subject = event.subject
    scope = (event.school[:BRIN_CHARS], event.sector, subject.kind)
    named: list[Part] = [((scope, name), value) for name, value in subject.user_ids]
    return named if subject.eck_id is None else [*named, ((scope, "ECK_ID"), subject.eck_id)]
