"""The route table: which kind of event may go from which role to which, in which process (gate 1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from broker.data import data_path
from broker.policy.document import Written, canonical, problems_of, read_json, read_yaml, refuse
from broker.policy.words import Process, ReceiverRole, Role

Text = Annotated[str, Field(min_length=1, max_length=2_000)]


class Route(Written):
    """One way for events.

    Args:
        kinds: of the family that go this way.
        connection: `required`: the school has switched this link on, at both sides; `agreement-only`: the receiver's
            agreement is enough (domain, section 1); `none`: towards the broker itself.
        closing: still passes for a stated term after a withdrawal or departure.
        evidence: where it is written that this route exists.
    """

    family: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{1,31}$")]
    kinds: Annotated[tuple[Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{1,31}$")], ...], Field(min_length=1)]
    sender_role: Role
    receiver_role: ReceiverRole
    process: Process
    connection: Literal["required", "agreement-only", "none"]
    closing: bool = False
    evidence: Text

    @model_validator(mode="after")
    def _only_the_broker_needs_no_agreement(self) -> Self:
        if (self.connection == "none") != (self.receiver_role == "VAULT"):
            raise ValueError("connection `none` is for the receiver VAULT, and for no other")
        return self


class _Document(Written):
    routes: tuple[Route, ...]


class Routes:
    """All routes, with fast answers. Immutable; two objects are never equal."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = tuple(routes)
        self._found: dict[tuple[str, str, tuple[str, ...]], tuple[Route, ...]] = {}
        seen: set[tuple[str, ...]] = set()
        twice = []
        for route in self._routes:
            for kind in route.kinds:
                key = (route.family, kind, route.sender_role, route.receiver_role)
                if key in seen:
                    twice.append(f"{route.family} {kind}: {route.sender_role} to {route.receiver_role} is there twice")
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
            return cls(_Document.model_validate(document).routes)
        except ValidationError as error:
            raise refuse(where, problems_of(error), "routes.invalid") from None

    def record(self) -> bytes:
        """The canonical JSON that stands in the registry."""
        return canonical({"routes": [route.model_dump(mode="json") for route in self._routes]})

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
