"""What entries must say of each other: the checks that stand before every change of the registry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from broker.policy import PRODUCT_TYPES, SECTORS, Policy, Routes
from broker.registry.models import (
    ALL_OF_BOARD,
    Agreement,
    Board,
    ConnectionSide,
    Entry,
    Party,
    School,
    Succession,
    TemporaryException,
    key_of,
)


def problems_between(
    entries: Iterable[Entry], policy: Policy, routes: Routes, where: Mapping[str, str] | None = None
) -> list[str]:
    """Hold entries against each other, the policy and the routes.

    Args:
        where: place in a file, by key, of entries that somebody wrote down. Of these more is asked than of what stands
            in the registry: a connection side there may have lost its effect, as when a school changes its SIS or a
            route ends. It grants nothing then, and is no reason to refuse another change.
    """
    written = where is not None
    places = where or {}
    checks = _Checks(entries, policy, routes)
    return [f"{places.get(key_of(entry), key_of(entry))} {problem}" for entry, problem in checks.run(written)]


class _Checks:
    """Each check yields `field: what is wrong`."""

    def __init__(self, entries: Iterable[Entry], policy: Policy, routes: Routes) -> None:
        self.entries = list(entries)
        self.parties = {e.id: e for e in self.entries if isinstance(e, Party)}
        self.boards = {e.id for e in self.entries if isinstance(e, Board)}
        self.schools = {e.id: e for e in self.entries if isinstance(e, School)}
        self.schools_of_locations = {place: school for school in self.schools.values() for place in school.locations}
        self.former = Counter(brin for school in self.schools.values() for brin in school.formerly)
        self.sides = {(e.id, e.side): e for e in self.entries if isinstance(e, ConnectionSide)}
        self.policy, self.routes = policy, routes

    def run(self, written: bool) -> Iterator[tuple[Entry, str]]:
        for entry in self.entries:
            found: Iterator[str] = iter(())
            if isinstance(entry, School):
                found = self.school(entry)
            elif isinstance(entry, Agreement):
                found = self.agreement(entry)
            elif isinstance(entry, TemporaryException):
                found = self.exception(entry)
            elif isinstance(entry, ConnectionSide):
                found = self.connection(entry)
            elif isinstance(entry, Succession):
                found = self.succession(entry)
            yield from ((entry, problem) for problem in found)
            if written and isinstance(entry, ConnectionSide):
                yield from ((entry, problem) for problem in self.effect(entry))

    def school(self, school: School) -> Iterator[str]:
        if school.board not in self.boards:
            yield f"board: there is no board {school.board}"
        sis = self.parties.get(school.sis)
        if sis is None:
            yield f"sis: there is no party {school.sis}"
        elif "SIS" not in sis.roles:
            yield f"sis: {school.sis} does not have the role SIS"
        for location in school.locations:
            if location in self.schools:
                yield f"locations: {location} is a school of its own"
        # Its pupils would be found under another school's number (P8).
        for brin in school.formerly:
            if brin in self.schools:
                yield f"formerly: {brin} is a school of its own"
            elif self.former[brin] > 1:
                yield f"formerly: {brin} is claimed by {self.former[brin]} schools"

    def agreement(self, agreement: Agreement) -> Iterator[str]:
        if agreement.board not in self.boards:
            yield f"board: there is no board {agreement.board}"
        if agreement.party not in self.parties:
            yield f"party: there is no party {agreement.party}"
        for name in agreement.schools if isinstance(agreement.schools, tuple) else ():
            school = self.schools.get(name) or self.schools_of_locations.get(name)
            if school is None:
                yield f"schools: there is no school {name}"
            elif school.board != agreement.board:
                yield f"schools: {name} is not a school of board {agreement.board}"
        for attribute in agreement.attributes:
            if attribute not in self.policy.attributes:
                yield f"attributes: the policy knows no attribute {attribute}"
            elif not self.policy.can_pass(attribute):
                yield f"attributes: {attribute} never passes, so no agreement may promise it"

    def exception(self, exception: TemporaryException) -> Iterator[str]:
        if exception.school == ALL_OF_BOARD:
            schools = [school for school in self.schools.values() if school.board == exception.board]
            if exception.board not in self.boards:
                yield f"board: there is no board {exception.board}"
        else:
            schools = [self.schools[exception.school]] if exception.school in self.schools else []
            if not schools:
                yield f"school: there is no school {exception.school}"
        receiver = self.parties.get(exception.receiver)
        if receiver is None:
            yield f"receiver: there is no party {exception.receiver}"
            return
        sectors = {sector for school in schools for sector in school.sectors} or set(SECTORS)
        for attribute in exception.attributes:
            if attribute not in self.policy.attributes:
                yield f"attributes: the policy knows no attribute {attribute}"
            elif not self._conditional(exception.process, sectors, receiver, attribute):
                yield (
                    f"attributes: no agreement lets {attribute} pass to {receiver.id} in {exception.process},"
                    " and an exception lifts nothing else (R27)"
                )

    def _conditional(self, process: str, sectors: Iterable[str], receiver: Party, attribute: str) -> bool:
        cells = (
            self.policy.cell(process, sector, role, attribute, product_type)
            for sector in sectors
            for role in receiver.roles
            for product_type in PRODUCT_TYPES
        )
        return any(cell is not None and cell.effect in ("C", "T") for cell in cells)

    def connection(self, side: ConnectionSide) -> Iterator[str]:
        school = self.schools.get(side.school)
        if school is None:
            yield f"school: there is no school {side.school}"
        elif side.location is not None and side.location not in school.locations:
            yield f"location: {side.school} has no location {side.location}"
        for name, party in (("sender", side.sender), ("receiver", side.receiver)):
            if party not in self.parties:
                yield f"{name}: there is no party {party}"
        other = self.sides.get((side.id, "receiver" if side.side == "sender" else "sender"))
        if other is not None and other.about() != side.about():
            yield f"{side.side}: its two sides are about different links"

    def effect(self, side: ConnectionSide) -> Iterator[str]:
        sender, receiver = self.parties.get(side.sender), self.parties.get(side.receiver)
        if (
            sender
            and receiver
            and not any(
                route.family == side.service
                and route.process == side.process
                and route.sender_role in sender.roles
                and route.receiver_role in receiver.roles
                for route in self.routes
            )
        ):
            yield f"service: no route takes {side.service} from {side.sender} to {side.receiver} in {side.process}"
        school = self.schools.get(side.school)
        if school and side.state == "accepted" and not side.counts(school):
            yield (
                f"{side.side}: this acceptance does not count: accepted_by must be {side.party} or {school.sis},"
                f" mandate {school.sis}, and at not before {school.mandated_from}"
            )

    def succession(self, succession: Succession) -> Iterator[str]:
        if succession.predecessor in (self.boards if succession.what == "board" else self.schools):
            yield (
                f"predecessor: the {succession.what} {succession.predecessor} is there, though {succession.successor}"
                f" took its place on {succession.first_day}; bring the files up to date"
                " (`broker registry succeed` makes a succession)"
            )
