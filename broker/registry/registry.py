"""The registry as one immutable object: what the gates ask, answered from dictionaries.

A change makes another object. `Registry.from_records` takes what stands on the topic `registry`; it is strict about
the form of each record and lenient about what records say of each other, because a follower may see half of a
change for a moment: what does not fit together then simply grants nothing. `broker.registry.files.check` is the
strict one, and stands before every change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Final, Self, TypeVar

from pydantic import ValidationError

from broker.errors import ConfigError
from broker.keys.versions import FIRST, number_of
from broker.policy import Policy, Routes
from broker.policy.document import canonical, problems_of, refuse
from broker.registry.connections import ConnectionSide
from broker.registry.coverage import AgreementIndex, ExceptionIndex
from broker.registry.links import CLOSING_DAYS, LinkIndex, Pair
from broker.registry.models import (
    ALL_OF_BOARD,
    KINDS,
    Agreement,
    Board,
    Entry,
    KeyInUse,
    Party,
    School,
    Suspension,
    TemporaryException,
    key_of,
)
from broker.registry.shards import Shards
from broker.registry.suspension import KIND as SUSPENSION
from broker.registry.version import VersionTree

POLICY_KEY: Final = "policy/current"
ROUTES_KEY: Final = "routes/current"
REMEMBERED: Final = 100_000

Content = Entry | Policy | Routes
_N = TypeVar("_N", Party, Board, School, Suspension, KeyInUse)
_E = TypeVar("_E", Party, Board, School, Suspension, Agreement, TemporaryException, ConnectionSide, KeyInUse)


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


def unreadable_suspension(key: str) -> bytes | None:
    """What counts in the place of a record that can not be read: who is suspended stays so, all else grants nothing."""
    kind, _, party = key.partition("/")
    if kind != SUSPENSION:
        return None
    try:
        return record_of(Suspension(id=party, since=datetime(1970, 1, 1, tzinfo=UTC), reason="unreadable", by="broker"))
    except ValidationError:
        return None


class Registry:
    """Everything the exchange asks about parties and schools.

    Compared by identity: a changed registry is another object, so caches may hang on it. It shares with the one
    before all that did not change, so that a withdrawal counts within milliseconds, also in a country.

    Where a question has `school` and `location`, `school` is the id of the registered school and `location` a BRIN6
    in it, if the event names one. Where it has `school` alone, either will do.

    Attributes:
        version: of all records together; any change changes it, equal records have equal versions.
        policy, routes: the current ones; before there are any, nothing passes.
        parties, boards, schools: by id.
        suspensions: by the id of the party that is shut out; the same object until one begins or is lifted.
        keys_in_use: the broker's own keys that were replaced, by name; the same object until one of them changes.
    """

    def __init__(self) -> None:
        """An empty registry: it grants nothing."""
        self.policy, self.routes = Policy(()), Routes(())
        self.parties: Mapping[str, Party] = {}
        self.boards: Mapping[str, Board] = {}
        self.schools: Mapping[str, School] = {}
        self.suspensions: Mapping[str, Suspension] = {}
        self.keys_in_use: Mapping[str, KeyInUse] = {}
        self._contents: Shards[Content] = Shards()
        self._tree = VersionTree()
        self._agreements, self._exceptions, self._links = AgreementIndex(), ExceptionIndex(), LinkIndex()
        # Questions come from events: what is remembered of them is bounded.
        self._agreements_found: dict[tuple[str, str, str | None, str, date, str | None], Agreement | None] = {}
        self._served: dict[tuple[str, str, date | None], bool] = {}

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
        new = type(self)()
        after = {key: None if value is None else parse_record(key, value) for key, value in changes.items()}
        before = {key: self._contents.get(key) for key in after}
        differing = [key for key in after if after[key] != before[key]]
        new._contents = self._contents.with_changes({key: after[key] for key in differing})
        new._tree = self._tree.with_changes(changes)
        policy, routes = new._contents.get(POLICY_KEY), new._contents.get(ROUTES_KEY)
        new.policy = policy if isinstance(policy, Policy) else new.policy
        new.routes = routes if isinstance(routes, Routes) else new.routes
        gone, come = [before[key] for key in differing], [after[key] for key in differing]
        new.parties = _changed(self.parties, _only(Party, gone), _only(Party, come))
        new.boards = _changed(self.boards, _only(Board, gone), _only(Board, come))
        new.schools = _changed(self.schools, _only(School, gone), _only(School, come))
        new.suspensions = _changed(self.suspensions, _only(Suspension, gone), _only(Suspension, come))
        new.keys_in_use = _changed(self.keys_in_use, _only(KeyInUse, gone), _only(KeyInUse, come))
        new._agreements = self._agreements.with_changes(_only(Agreement, gone), _only(Agreement, come))
        new._exceptions = self._exceptions.with_changes(
            _only(TemporaryException, gone), _only(TemporaryException, come)
        )
        new._links = self._links.with_changes(
            _only(ConnectionSide, gone),
            _only(ConnectionSide, come),
            {school.id for school in (*_only(School, gone), *_only(School, come))},
            new.schools,
        )
        return new

    # ---- the broker's own keys

    def secret_in_use(self, name: str) -> int:
        """Number of the version that is written with; the first until `broker keys rotate` put another in its place."""
        found = self.keys_in_use.get(name)
        number = None if found is None else number_of(name, found.version)
        return FIRST if number is None else number

    # ---- who is who

    def party(self, party: str) -> Party | None:
        """Find a party."""
        return self.parties.get(party)

    def suspended(self, party: str) -> bool:
        """Whether a party is shut out: nothing of it is taken, and nothing goes to it."""
        return party in self.suspensions

    def school(self, school: str) -> School | None:
        """Find a school by its BRIN or BRIN6 exactly as registered, or by one of its locations (BRIN6)."""
        found = self.schools.get(school)
        if found is None:
            whole = self.schools.get(school[:4])
            found = whole if whole is not None and school in whole.locations else None
        return found

    def board_of(self, school: str) -> Board | None:
        """The board of a school."""
        found = self.school(school)
        return None if found is None else self.boards.get(found.board)

    def serves(self, party: str, school: str, on: date | None = None) -> bool:
        """Whether a party has to do with a school, or with a location of it.

        It has to do with it as its mandated SIS, by an agreement that is or was valid, or by a link that is or was on
        (no link is once the mandate of the school's SIS is over). What ended does so for another `CLOSING_DAYS`,
        because what closes its affairs still comes.

        Args:
            on: the day; without it mandate and agreements count whatever their dates, and links that are on.
        """
        question = (party, school, on)
        answer = self._served.get(question)
        if answer is None:
            if len(self._served) >= REMEMBERED:
                self._served.clear()
            answer = self._served[question] = self._serves(party, school, on)
        return answer

    def _serves(self, party: str, school: str, on: date | None) -> bool:
        found = self.school(school)
        if found is None:
            return False
        if party == found.sis and (on is None or found.mandated(party, on)):
            return True
        location = None if school == found.id else school
        names = {found.id, *found.locations} if location is None else {found.id, location}
        over = None if on is None else found.mandate_over(on)
        linked = on is None or over is None or (on - over).days <= CLOSING_DAYS
        return (linked and self._links.of(found.id).concern(party, location, on)) or any(
            (agreement.schools == ALL_OF_BOARD or not names.isdisjoint(agreement.schools))
            and (on is None or (agreement.valid_from <= on and (on - agreement.valid_until).days <= CLOSING_DAYS))
            for agreement in self._agreements.between(found.board, party)
        )

    # ---- gate 2: agreements

    def agreement(
        self, school: str, receiver: str, product: str | None, process: str, on: date, location: str | None = None
    ) -> Agreement | None:
        """The agreement that a delivery may rest on: the newest of those that cover all this on this day."""
        question = (school, receiver, product, process, on, location)
        try:
            return self._agreements_found[question]
        except KeyError:
            pass
        candidates = self._candidates(school, receiver)
        answer = next((a for a in candidates if a.covers(school, product, process, on, location)), None)
        if len(self._agreements_found) >= REMEMBERED:
            self._agreements_found.clear()
        self._agreements_found[question] = answer
        return answer

    def ended_agreement(
        self,
        school: str,
        receiver: str,
        product: str | None,
        process: str,
        on: date,
        days: int,
        location: str | None = None,
    ) -> Agreement | None:
        """The newest agreement that is about all this and ended before this day, but not more than `days` before."""
        for agreement in self._candidates(school, receiver):
            since = (on - agreement.valid_until).days
            if 0 < since <= days and agreement.is_for(school, product, process, location):
                return agreement
        return None

    def agreements_of(self, party: str) -> tuple[Agreement, ...]:
        """All agreements with a party, by id, whatever their dates; the same object until one of them changes."""
        return self._agreements.of(party)

    def exceptions(self, school: str, receiver: str, process: str, on: date) -> tuple[TemporaryException, ...]:
        """The exceptions that last on this day, for the school or for all of its board."""
        found = self.school(school)
        return () if found is None else self._exceptions.find(found.id, found.board, receiver, process, on)

    def known_product(self, product: str) -> bool:
        """Whether any agreement names the product."""
        return self._agreements.names_product(product)

    def _candidates(self, school: str, receiver: str) -> tuple[Agreement, ...]:
        found = self.schools.get(school)
        return () if found is None else self._agreements.between(found.board, receiver)

    # ---- gate 3: connections

    def connected(
        self,
        school: str,
        sender: str,
        receiver: str,
        service: str,
        process: str,
        product: str | None,
        location: str | None = None,
    ) -> bool:
        """Whether the school's link is on: accepted on both sides, each by who may, for this product.

        That the mandate under which it was accepted still lasts is asked of the school (`School.mandate_over`).

        Args:
            product: None asks whether it is on for any product.
            location: of the event; a link for one location is on for events that name exactly that.
        """
        return self._links.of(school).connected((sender, receiver, service, process), product, location)

    def revoked_on(
        self,
        school: str,
        sender: str,
        receiver: str,
        service: str,
        process: str,
        product: str | None,
        location: str | None = None,
    ) -> date | None:
        """The day on which the school's link, once on, was revoked; None if one is on, or none ever was.

        Of two sides that were revoked the earlier counts, of several such links the one that was on longest.
        """
        return self._links.of(school).revoked_on((sender, receiver, service, process), product, location)

    def links_from(self, party: str) -> Mapping[str, str]:
        """Connection id -> marker, of all links that are on with this party as sender.

        The marker changes when the link is switched on anew. It is the same object until something of it changes.
        """
        return self._links.of_sender(party)

    def links_between(self, school: str, sender: str, receiver: str, service: str) -> Iterator[tuple[str, str]]:
        """As `links_from`, of those at one school to one receiver for one service."""
        return self._links.of(school).between(sender, receiver, service)

    def link(self, connection: str) -> Pair | None:
        """Sender's and receiver's side of a connection, whatever they say; None if one of them is missing."""
        sender, receiver = self.connection_side(connection, "sender"), self.connection_side(connection, "receiver")
        return None if sender is None or receiver is None else (sender, receiver)

    def connection_side(self, connection: str, side: str) -> ConnectionSide | None:
        """One side of a connection, `sender` or `receiver`."""
        found = self._contents.get(f"connection/{connection}/{side}")
        return found if isinstance(found, ConnectionSide) else None


def _only(model: type[_E], contents: list[Content | None]) -> list[_E]:
    return [entry for entry in contents if isinstance(entry, model)]


def _changed(old: Mapping[str, _N], gone: list[_N], come: list[_N]) -> Mapping[str, _N]:
    """Entries of one kind by id, after a change; the same object where nothing of the kind changed."""
    if not gone and not come:
        return old
    ended = {entry.id for entry in gone}
    kept = {name: entry for name, entry in old.items() if name not in ended}
    return MappingProxyType({**kept, **{entry.id: entry for entry in come}})


def receivable_families(registry: Registry, party: str) -> set[str]:
    """Families that a party can ever receive, by its roles and the route table."""
    found = registry.party(party)
    roles = () if found is None else found.roles
    return {route.family for route in registry.routes if route.receiver_role in roles}
