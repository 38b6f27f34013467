"""The registry as one immutable object: what the gates ask, answered from dictionaries.

A change makes another object. `Registry.from_records` takes what stands on the topic `registry`; it is strict about
the form of each record and lenient about what records say of each other, because a follower may see half of a
change for a moment: what does not fit together then simply grants nothing. `broker.registry.files.check` is the
strict one, and stands before every change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from types import MappingProxyType
from typing import Final, Self, TypeVar

from pydantic import ValidationError

from broker.errors import ConfigError
from broker.policy import Policy, Routes
from broker.policy.document import canonical, problems_of, refuse
from broker.registry.links import NO_LINKS, Links, links_of
from broker.registry.models import (
    ALL_OF_BOARD,
    KINDS,
    Agreement,
    Board,
    ConnectionSide,
    Entry,
    Party,
    School,
    key_of,
)
from broker.registry.version import VersionTree

POLICY_KEY: Final = "policy/current"
ROUTES_KEY: Final = "routes/current"
AGREEMENT_CACHE: Final = 100_000

Content = Entry | Policy | Routes
Parsed = Mapping[str, Content | None]
_N = TypeVar("_N", Party, Board, School)


def parse_record(key: str, value: bytes) -> Content:
    """Read one record.

    Raises:
        ConfigError: `registry.record`, naming key and field.
    """
    if key == POLICY_KEY:
        return Policy.from_record(value)
    if key == ROUTES_KEY:
        return Routes.from_record(value)
    model = KINDS.get(key.partition("/")[0])
    if model is None:
        raise ConfigError(f"the registry's key {key!r} is of no kind that is known here", code="registry.record")
    try:
        entry = model.model_validate_json(value)
    except ValidationError as error:
        raise refuse(key, problems_of(error), "registry.record") from None
    if key_of(entry) != key:
        raise ConfigError(f"under the key {key} stands another entry: {key_of(entry)}", code="registry.record")
    return entry


def record_of(entry: Entry) -> bytes:
    """The canonical JSON of an entry."""
    return canonical(entry.model_dump(mode="json", exclude_none=True))


class Registry:
    """Everything the exchange asks about parties and schools.

    Compared by identity: a changed registry is another object, so caches may hang on it. It shares with the one
    before all that did not change, so that a withdrawal counts within milliseconds, also in a country.

    Attributes:
        version: of all records together; any change changes it, equal records have equal versions.
        policy, routes: the current ones; before there are any, nothing passes.
        parties, boards, schools: by id.
    """

    def __init__(self) -> None:
        """An empty registry: it grants nothing."""
        self.policy, self.routes = Policy(()), Routes(())
        self.parties: Mapping[str, Party] = {}
        self.boards: Mapping[str, Board] = {}
        self.schools: Mapping[str, School] = {}
        self._contents: dict[str, Content] = {}
        self._tree = VersionTree()
        self._agreements: dict[tuple[str, str], tuple[Agreement, ...]] = {}
        self._products: frozenset[str] = frozenset()
        self._sides: dict[str, dict[str, ConnectionSide]] = {}
        self._links: dict[str, Links] = {}
        self._agreements_found: dict[tuple[str, str, str | None, str, date], Agreement | None] = {}

    @property
    def version(self) -> str:
        """`sha256:<hex>` over all records."""
        return self._tree.version

    @classmethod
    def from_records(cls, records: Mapping[str, bytes | None]) -> Self:
        """Build from records by key; None is a tombstone.

        Raises:
            ConfigError: `registry.record`, `policy.invalid` or `routes.invalid`.
        """
        return cls().with_changes(records)

    def with_changes(self, changes: Mapping[str, bytes | None]) -> Self:
        """The registry after some records changed; only what these touch is worked out anew.

        Raises:
            ConfigError: as `from_records`.
        """
        parsed = {key: None if value is None else parse_record(key, value) for key, value in changes.items()}
        before = {key: self._contents.get(key) for key in parsed}
        new = type(self)()
        new._contents = {key: c for key, c in {**self._contents, **parsed}.items() if c is not None}
        new._tree = self._tree.with_changes(changes)
        policy, routes = new._contents.get(POLICY_KEY), new._contents.get(ROUTES_KEY)
        new.policy = policy if isinstance(policy, Policy) else new.policy
        new.routes = routes if isinstance(routes, Routes) else new.routes
        new.parties = _changed(self.parties, Party, before, parsed)
        new.boards = _changed(self.boards, Board, before, parsed)
        new.schools = _changed(self.schools, School, before, parsed)
        touched = [c for c in (*before.values(), *parsed.values()) if c is not None]
        new._index_agreements(self, touched, parsed)
        new._index_connections(self, touched, parsed)
        return new

    # ---- who is who

    def party(self, party: str) -> Party | None:
        """Find a party."""
        return self.parties.get(party)

    def school(self, school: str) -> School | None:
        """Find a school by BRIN or BRIN6, exactly as registered."""
        return self.schools.get(school)

    def board_of(self, school: str) -> Board | None:
        """The board of a school."""
        found = self.schools.get(school)
        return None if found is None else self.boards.get(found.board)

    def serves(self, party: str, school: str, on: date | None = None) -> bool:
        """Whether a party has to do with a school: its mandated SIS, an agreement for it, or a link that is on.

        Args:
            on: for the mandate's first day; without it the mandate counts whatever its date.
        """
        found = self.schools.get(school)
        if found is None:
            return False
        if found.sis == party:
            return on is None or found.mandated_from <= on
        return party in self._links.get(school, NO_LINKS).parties or any(
            school in _schools(agreement) or agreement.schools == ALL_OF_BOARD
            for agreement in self._agreements.get((found.board, party), ())
        )

    # ---- gate 2: agreements

    def agreement(self, school: str, receiver: str, product: str | None, process: str, on: date) -> Agreement | None:
        """The agreement that a delivery may rest on: the newest of those that cover all this on this day."""
        question = (school, receiver, product, process, on)
        try:
            return self._agreements_found[question]
        except KeyError:
            pass
        found = self.schools.get(school)
        candidates = () if found is None else self._agreements.get((found.board, receiver), ())
        answer = next((a for a in candidates if a.covers(school, product, process, on)), None)
        if len(self._agreements_found) >= AGREEMENT_CACHE:  # product ids come from events: bounded
            self._agreements_found.clear()
        self._agreements_found[question] = answer
        return answer

    def products(self, school: str, receiver: str, process: str) -> frozenset[str]:
        """Products of a receiver that agreements cover for a school and process, whatever their dates."""
        found = self.schools.get(school)
        if found is None:
            return frozenset()
        return frozenset(
            product.id
            for agreement in self._agreements.get((found.board, receiver), ())
            if agreement.covers(school, None, process, agreement.valid_from)
            for product in agreement.products
        )

    def known_product(self, product: str) -> bool:
        """Whether any agreement names the product."""
        return product in self._products

    # ---- gate 3: connections

    def connected(self, school: str, sender: str, receiver: str, service: str, product: str | None) -> bool:
        """Whether the school's link is on: accepted on both sides, each by who may, for this product.

        Args:
            product: None asks whether it is on for any product.
        """
        return self._links.get(school, NO_LINKS).connected((sender, receiver, service), product)

    def connection_exists(self, school: str, sender: str, receiver: str, service: str) -> bool:
        """Whether the link is on or was: closing kinds still pass for a while after it was revoked."""
        return (sender, receiver, service) in self._links.get(school, NO_LINKS).once_on

    def connected_receivers(self, school: str, sender: str, service: str) -> tuple[str, ...]:
        """Receivers whose link with this sender is on, for some product."""
        return self._links.get(school, NO_LINKS).receivers.get((sender, service), ())

    # ---- building

    def _index_agreements(self, old: Registry, touched: Iterable[Content], parsed: Parsed) -> None:
        concerned = {(a.board, a.party) for a in touched if isinstance(a, Agreement)}
        if not concerned:
            self._agreements, self._products = old._agreements, old._products
            return
        replaced = {key.partition("/")[2] for key in parsed if key.startswith("agreement/")}
        found = {where: [a for a in old._agreements.get(where, ()) if a.id not in replaced] for where in concerned}
        for entry in parsed.values():
            if isinstance(entry, Agreement):
                found[entry.board, entry.party].append(entry)
        sorted_ones = {where: tuple(sorted(ones, key=_newest, reverse=True)) for where, ones in found.items()}
        self._agreements = {where: ones for where, ones in {**old._agreements, **sorted_ones}.items() if ones}
        self._products = frozenset(p.id for ones in self._agreements.values() for a in ones for p in a.products)

    def _index_connections(self, old: Registry, touched: Iterable[Content], parsed: Parsed) -> None:
        concerned = {c.school for c in touched if isinstance(c, ConnectionSide)}
        concerned |= {c.id for c in touched if isinstance(c, School)}
        self._sides = {**old._sides, **{school: dict(old._sides.get(school, {})) for school in concerned}}
        for key in parsed:
            before = old._contents.get(key)
            if isinstance(before, ConnectionSide):
                self._sides[before.school].pop(key, None)
        for key, entry in parsed.items():
            if isinstance(entry, ConnectionSide):
                self._sides[entry.school][key] = entry
        anew = {school: links_of(self.schools.get(school), self._sides[school].values()) for school in concerned}
        self._links = {**old._links, **anew}


def _changed(
    old: Mapping[str, _N], model: type[_N], before: Mapping[str, object], parsed: Mapping[str, object]
) -> Mapping[str, _N]:
    """Entries of one kind by id, after a change; the same object where nothing of the kind changed."""
    gone = {entry.id for entry in before.values() if isinstance(entry, model)}
    come = {entry.id: entry for entry in parsed.values() if isinstance(entry, model)}
    if not gone and not come:
        return old
    return MappingProxyType({**{name: entry for name, entry in old.items() if name not in gone}, **come})


def receivable_families(registry: Registry, party: str) -> set[str]:
    """Families that a party can ever receive, by its roles and the route table."""
    found = registry.party(party)
    roles = () if found is None else found.roles
    return {route.family for route in registry.routes if route.receiver_role in roles}


def _schools(agreement: Agreement) -> Iterable[str]:
    return agreement.schools if isinstance(agreement.schools, tuple) else ()


def _newest(agreement: Agreement) -> tuple[date, tuple[int, ...], str]:
    return agreement.valid_from, tuple(int(part) for part in agreement.version.split(".")), agreement.id
