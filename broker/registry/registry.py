"""The registry as one immutable object: what the gates ask, answered from dictionaries.

A change makes another object. `Registry.from_records` takes what stands on the topic `registry`; it is strict about
the form of each record and lenient about what records say of each other, because a follower may see half of a
change for a moment: what does not fit together then simply grants nothing. `broker.registry.files.check` is the
strict one, and stands before every change.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date
from hashlib import sha256
from types import MappingProxyType
from typing import Final, Self, TypeVar

from pydantic import ValidationError

from broker.errors import ConfigError
from broker.policy import Policy, Routes
from broker.policy.document import canonical, problems_of, read_json, refuse
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
)  # fmt: skip

POLICY_KEY: Final = "policy/current"
ROUTES_KEY: Final = "routes/current"
AGREEMENT_CACHE: Final = 100_000

Content = Entry | Policy | Routes
_E = TypeVar("_E", bound=Entry)


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
        entry = model.model_validate(read_json(value, key))
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

    Compared by identity: a changed registry is another object, so caches may hang on it.

    Attributes:
        version: of all records together; any change changes it, equal records have equal versions.
        policy, routes: the current ones; before there are any, nothing passes.
        parties, boards, schools: by id.
    """

    def __init__(self, contents: Mapping[str, Content], digests: Mapping[str, bytes]) -> None:
        self._contents, self._digests = dict(contents), dict(digests)
        together = sha256()
        for key in sorted(self._digests):
            together.update(sha256(key.encode()).digest() + self._digests[key])
        self.version = f"sha256:{together.hexdigest()[:32]}"
        policy, routes = self._contents.get(POLICY_KEY), self._contents.get(ROUTES_KEY)
        self.policy = policy if isinstance(policy, Policy) else Policy(())
        self.routes = routes if isinstance(routes, Routes) else Routes(())
        self.parties = self._by_id(Party)
        self.boards = self._by_id(Board)
        self.schools = self._by_id(School)
        self._index_agreements()
        self._index_connections()
        self._agreements_found: dict[tuple[str, str, str | None, str, date], Agreement | None] = {}

    @classmethod
    def from_records(cls, records: Mapping[str, bytes | None]) -> Self:
        """Build from records by key; None is a tombstone.

        Raises:
            ConfigError: `registry.record`, `policy.invalid` or `routes.invalid`.
        """
        return cls({}, {}).with_changes(records)

    def with_changes(self, changes: Mapping[str, bytes | None]) -> Self:
        """The registry after some records changed; only those are read anew.

        Raises:
            ConfigError: as `from_records`.
        """
        contents, digests = dict(self._contents), dict(self._digests)
        for key, value in changes.items():
            if value is None:
                contents.pop(key, None)
                digests.pop(key, None)
                continue
            contents[key] = parse_record(key, value)
            digests[key] = sha256(value).digest()
        return type(self)(contents, digests)

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
        return (school, party) in self._linked or any(
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
        sides = self._on.get((school, sender, receiver, service), ())
        return any(a.covers(product) and b.covers(product) for a, b in sides)

    def connection_exists(self, school: str, sender: str, receiver: str, service: str) -> bool:
        """Whether the link is on or was: closing kinds still pass for a while after it was revoked."""
        return (school, sender, receiver, service) in self._once_on

    def connected_receivers(self, school: str, sender: str, service: str) -> tuple[str, ...]:
        """Receivers whose link with this sender is on, for some product."""
        return self._receivers.get((school, sender, service), ())

    # ---- building

    def _by_id(self, model: type[_E]) -> Mapping[str, _E]:
        return MappingProxyType({e.id: e for e in self._contents.values() if isinstance(e, model)})

    def _index_agreements(self) -> None:
        agreements: defaultdict[tuple[str, str], list[Agreement]] = defaultdict(list)
        products: set[str] = set()
        for entry in self._contents.values():
            if isinstance(entry, Agreement):
                agreements[entry.board, entry.party].append(entry)
                products.update(product.id for product in entry.products)
        for found in agreements.values():
            found.sort(key=_newest, reverse=True)
        self._agreements = {key: tuple(found) for key, found in agreements.items()}
        self._products = frozenset(products)

    def _index_connections(self) -> None:
        pairs: defaultdict[str, dict[str, ConnectionSide]] = defaultdict(dict)
        for entry in self._contents.values():
            if isinstance(entry, ConnectionSide):
                pairs[entry.id][entry.side] = entry
        self._on: dict[tuple[str, str, str, str], list[tuple[ConnectionSide, ConnectionSide]]] = {}
        self._once_on: set[tuple[str, str, str, str]] = set()
        self._linked: set[tuple[str, str]] = set()
        receivers: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)
        for pair in pairs.values():
            if len(pair) != 2 or not self._both_count(pair["sender"], pair["receiver"]):
                continue
            about = pair["sender"].about()
            self._once_on.add(about)
            if all(side.state == "accepted" for side in pair.values()) and _share_a_product(*pair.values()):
                self._on.setdefault(about, []).append((pair["sender"], pair["receiver"]))
                school, sender, receiver, service = about
                self._linked |= {(school, sender), (school, receiver)}
                receivers[school, sender, service].add(receiver)
        self._receivers = {key: tuple(sorted(found)) for key, found in receivers.items()}

    def _both_count(self, sender: ConnectionSide, receiver: ConnectionSide) -> bool:
        school = self.schools.get(sender.school)
        return (
            school is not None
            and sender.about() == receiver.about()
            and all(s.state in ("accepted", "revoked") and s.counts(school) for s in (sender, receiver))
        )


def receivable_families(registry: Registry, party: str) -> set[str]:
    """Families that a party can ever receive, by its roles and the route table."""
    found = registry.party(party)
    roles = () if found is None else found.roles
    return {route.family for route in registry.routes if route.receiver_role in roles}


def _schools(agreement: Agreement) -> Iterable[str]:
    return agreement.schools if isinstance(agreement.schools, tuple) else ()


def _newest(agreement: Agreement) -> tuple[date, tuple[int, ...], str]:
    return agreement.valid_from, tuple(int(part) for part in agreement.version.split(".")), agreement.id


def _share_a_product(a: ConnectionSide, b: ConnectionSide) -> bool:
    if isinstance(a.products, str) or isinstance(b.products, str):
        return True
    return not set(a.products).isdisjoint(b.products)
