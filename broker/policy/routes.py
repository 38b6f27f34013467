"""The route table: which kind of event may go from which role to which, in which process (gate 1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from broker.data import data_path
from broker.policy.document import Written, canonical, problems_of, read_json, read_yaml, refuse
from broker.policy.words import Destination, Process, Role

Text = Annotated[str, Field(min_length=1, max_length=2_000)]
FamilyName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{1,31}$")]
Kinds = Annotated[tuple[Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{1,31}$")], ...], Field(min_length=1)]
ConnectionNeed = Literal["required", "agreement-only", "none"]
SubjectRule = Literal["required", "optional", "none"]


class Closing(Written):
    """The term in which what closes something still passes after a withdrawal or a departure.

    Args:
        days: after the end of the agreement or connection, or after the person left.
        dated_before_end: only what happened in the world on or before that end (a test that was taken in time), by the
            date in its body; when the event was made says nothing.
    """

    days: Annotated[int, Field(ge=1, le=400, strict=True)]
    dated_before_end: bool = False


class Route(Written):
    """One way for events.

    Args:
        kinds: of the family that go this way.
        connection: `required`: the school has switched this link on, at both sides; `agreement-only`: the receiver's
            agreement is enough (domain, section 1); `none`: towards the broker itself.
        subject: whether an event that goes this way must, may or must not be about somebody.
        closing: its term, if these kinds close something; None: they stop with what is withdrawn. Only towards a party.
        evidence: where it is written that this route exists.
    """

    family: FamilyName
    kinds: Kinds
    sender_role: Role
    receiver_role: Destination
    process: Process
    connection: ConnectionNeed
    subject: SubjectRule = "optional"
    closing: Closing | None = None
    evidence: Text

    @model_validator(mode="after")
    def _only_the_broker_needs_no_agreement(self) -> Self:
        _check_connection(self.connection, (self.receiver_role,), self.closing)
        return self


def _check_connection(connection: str, receivers: Iterable[str], closing: Closing | None) -> None:
    if any((connection == "none") != (receiver in ("VAULT", "REGISTRY")) for receiver in receivers):
        raise ValueError("connection `none` is for the receivers VAULT and REGISTRY, and for no other")
    if connection == "none" and closing is not None:
        raise ValueError("a closing term is for what goes to a party; what goes to the broker itself needs none")


def _one_or_more(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class _Row(Written):
    """Routes as people write them: one row for several senders, receivers or processes that are alike.

    Of several processes the first stands first in the table, and so is tried first.
    """

    family: FamilyName
    kinds: Kinds
    sender_role: Annotated[tuple[Role, ...], BeforeValidator(_one_or_more), Field(min_length=1)]
    receiver_role: Annotated[tuple[Destination, ...], BeforeValidator(_one_or_more), Field(min_length=1)]
    process: Annotated[tuple[Process, ...], BeforeValidator(_one_or_more), Field(min_length=1)]
    connection: ConnectionNeed
    subject: SubjectRule = "optional"
    closing: Closing | None = None
    evidence: Text

    @model_validator(mode="after")
    def _only_the_broker_needs_no_agreement(self) -> Self:
        _check_connection(self.connection, self.receiver_role, self.closing)
        return self

    def routes(self) -> Iterator[Route]:
        """One route for each sender, receiver and process."""
        for process, sender, receiver in product(self.process, self.sender_role, self.receiver_role):
            yield Route(
                family=self.family, kinds=self.kinds, sender_role=sender, receiver_role=receiver, process=process,
                connection=self.connection, subject=self.subject, closing=self.closing, evidence=self.evidence,
            )  # fmt: skip


class _Document(Written):
    routes: tuple[_Row, ...]


class Routes:
    """All routes, with fast answers. Immutable; two objects are never equal.

    Several routes may take one kind to one role, each in another process; they are tried in the table's order.
    """

    def __init__(self, routes: Iterable[Route], written: Any = None) -> None:
        """Args: `written`: the document that they were read from, to be recorded as it was; else one row for each."""
        self._routes = tuple(routes)
        self._written = written or [_dump(route) for route in self._routes]
        self._found: dict[tuple[str, str, tuple[str, ...]], tuple[Route, ...]] = {}
        seen: set[tuple[str, ...]] = set()
        twice = []
        for route in self._routes:
            for kind in route.kinds:
                key = (route.family, kind, route.sender_role, route.receiver_role, route.process)
                if key in seen:
                    way = f"{route.sender_role} to {route.receiver_role} in {route.process}"
                    twice.append(f"{route.family} {kind}: {way} is there twice")
                seen.add(key)
        if twice:
            raise refuse("routes", twice, "routes.invalid")

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Read a YAML file; by default the one that comes with the package.

        Raises:
            ConfigError: `routes.invalid`, listing all problems.
        """
        path = path or data_path("policies") / "routes.yaml"
        return cls._parse(read_yaml(path), str(path))

    @classmethod
    def from_record(cls, value: bytes) -> Self:
        """Read the registry record `routes/current`.

        Raises:
            ConfigError: `routes.invalid`.
        """
        return cls._parse(read_json(value, "routes/current"), "routes/current")

    @classmethod
    def _parse(cls, document: Any, where: str) -> Self:
        try:
            rows = _Document.model_validate(document).routes
            return cls((route for row in rows for route in row.routes()), [_dump(row) for row in rows])
        except ValidationError as error:
            raise refuse(where, problems_of(error), "routes.invalid") from None

    def record(self) -> bytes:
        """The canonical JSON that stands in the registry."""
        return canonical({"routes": self._written})

    def find(self, family: str, kind: str, sender_roles: Iterable[str]) -> tuple[Route, ...]:
        """The routes for an event of a sender with these roles, in the order of the table."""
        key = (family, kind, tuple(sender_roles))
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= 10_000:  # family and kind come from events: bounded, whatever they hold
                self._found.clear()
            found = self._found[key] = tuple(
                r for r in self._routes if r.family == family and kind in r.kinds and r.sender_role in key[2]
            )
        return found

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def __len__(self) -> int:
        return len(self._routes)


def _dump(row: Written) -> dict[str, Any]:
    """As people write it: one of several that are alike is not a list."""
    document = row.model_dump(mode="json", exclude_defaults=True)
    for name in ("sender_role", "receiver_role", "process"):
        if isinstance(document[name], list) and len(document[name]) == 1:
            (document[name],) = document[name]
    return document
