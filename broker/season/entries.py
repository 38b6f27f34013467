"""The registry in the way a look ahead needs it: by school, with all that was said of links, also of those not on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Self

from broker.registry import Agreement, ConnectionSide, Registry, School, TemporaryException
from broker.registry.registry import parse_record

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Gap:
    """The first day, in a span of days, on which no agreement covers something.

    Attributes:
        before: the newest agreement that ended before that day, if there was one.
        resumes: the day on which the next one begins, if there is one.
    """

    day: date
    before: Agreement | None
    resumes: date | None


@dataclass(frozen=True, slots=True)
class Entries:
    """A registry, and its entries by what they are about.

    Attributes:
        agreements: by board. links: by school, then by connection: its sides, one or two.
        exceptions: all, by id.
    """

    registry: Registry
    agreements: Mapping[str, tuple[Agreement, ...]]
    links: Mapping[str, Mapping[str, Mapping[str, ConnectionSide]]]
    exceptions: tuple[TemporaryException, ...]

    @classmethod
    def of(cls, records: Mapping[str, bytes]) -> Self:
        """Read all records of a registry.

        Raises:
            ConfigError: as `Registry.from_records`.
        """
        agreements: defaultdict[str, list[Agreement]] = defaultdict(list)
        links: defaultdict[str, defaultdict[str, dict[str, ConnectionSide]]] = defaultdict(lambda: defaultdict(dict))
        exceptions = []
        for key in sorted(records):
            if key.partition("/")[0] not in ("agreement", "connection", "exception"):
                continue
            entry = parse_record(key, records[key])
            if isinstance(entry, Agreement):
                agreements[entry.board].append(entry)
            elif isinstance(entry, ConnectionSide):
                links[entry.school][entry.id][entry.side] = entry
            elif isinstance(entry, TemporaryException):
                exceptions.append(entry)
        by_board = {board: tuple(found) for board, found in agreements.items()}
        return cls(Registry.from_records(records), by_board, links, tuple(exceptions))

    def on(self, school: School) -> Iterator[tuple[ConnectionSide, ConnectionSide]]:
        """Both sides of each link of a school that is on."""
        for name, sides in self.links.get(school.id, {}).items():
            if self.is_on(name, sides):
                yield sides["sender"], sides["receiver"]

    def is_on(self, connection: str, sides: Mapping[str, ConnectionSide]) -> bool:
        """Whether a link is on."""
        return len(sides) == 2 and connection in self.registry.links_from(sides["sender"].sender)

    def agreements_for(self, school: School) -> Iterator[tuple[Agreement, tuple[str | None, ...]]]:
        """The agreements that are about a school, with where in it: locations, or None for all of it."""
        for agreement in self.agreements.get(school.board, ()):
            if not isinstance(agreement.schools, tuple) or school.id in agreement.schools:
                yield agreement, (None,)
            elif places := tuple(place for place in school.locations if place in agreement.schools):
                yield agreement, places

    def gap(
        self,
        school: School,
        receiver: str,
        process: str,
        product: str | None,
        location: str | None,
        start: date,
        end: date,
    ) -> Gap | None:
        """The first day from `start` to `end` that no agreement covers; None if all are covered.

        Args:
            product, location: as `Registry.agreement`.
        """
        day = start
        while (found := self.registry.agreement(school.id, receiver, product, process, day, location)) is not None:
            day = found.valid_until + DAY
            if day > end:
                return None
        about = [
            agreement
            for agreement in self.registry.agreements_of(receiver)
            if agreement.board == school.board and agreement.is_for(school.id, product, process, location)
        ]
        ended = [agreement for agreement in about if agreement.valid_until < day]
        begins = [agreement.valid_from for agreement in about if agreement.valid_from > day]
        return Gap(day, max(ended, key=lambda a: a.valid_until, default=None), min(begins, default=None))
