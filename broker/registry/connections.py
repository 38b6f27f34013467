"""What is switched on: a school's link between two parties, as each of its sides says it."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import AwareDatetime, Field, model_validator

from broker.days import date_at
from broker.policy.document import Written
from broker.policy.words import Process
from broker.registry.fields import ALL, EntryId, LocationId, PartyId, ProductId, SchoolId, is_location_of
from broker.registry.parties import School

Side = Literal["sender", "receiver"]
State = Literal["offered", "accepted", "declined", "revoked"]
Service = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{1,31}$")]
Products = Annotated[tuple[ProductId, ...], Field(min_length=1)] | Literal["all"]


class About(NamedTuple):
    """What both sides of a connection must agree on."""

    school: str
    sender: str
    receiver: str
    service: str
    process: str
    location: str | None


class Ended(Written):
    """How a side stood when it was revoked, if more was said of it since.

    Who offers a link anew does not undo that it was on: what closes its affairs still passes for its term.

    Args:
        at: when it was revoked.
        accepted_at, accepted_by, mandate, products: as long as it was accepted.
    """

    at: AwareDatetime
    accepted_at: AwareDatetime | None = None
    accepted_by: PartyId
    mandate: PartyId
    products: Products = "all"


class ConnectionSide(Written):
    """What one side says about a school's link between two parties for one service, in one process.

    A link is on when both sides are there, agree, are `accepted`, and each acceptance *counts*. It counts when

    1. `accepted_by` is that side's own party, or the school's SIS in its place;
    2. `mandate` is the SIS that the school's board has given its mandate: it gave the school's word for this side;
    3. `at` is not before the mandate's first day.

    So a change of SIS switches every link of a school off until the new one has confirmed it.

    Args:
        service: name of the family.
        location: the link is for this location of the school (BRIN6) only; without it, for all of the school.
        at: when it came into this state.
        accepted_at: of a side that is revoked: when it had been accepted; None: before all that is known of the other.
        ended: of a side that was revoked, and was then offered anew, declined or accepted: what was before.
    """

    id: EntryId
    side: Side
    school: SchoolId
    location: LocationId | None = None
    sender: PartyId
    receiver: PartyId
    service: Service
    process: Process
    products: Products = "all"
    state: State
    accepted_by: PartyId | None = None
    mandate: PartyId | None = None
    at: AwareDatetime
    accepted_at: AwareDatetime | None = None
    ended: Ended | None = None

    @model_validator(mode="after")
    def _accounted_for(self) -> Self:
        if self.sender == self.receiver:
            raise ValueError("receiver: is the sender itself")
        if self.location is not None and not is_location_of(self.location, self.school):
            raise ValueError(f"location: {self.location} is no location of {self.school}")
        if self.state in ("accepted", "revoked"):
            for name in ("accepted_by", "mandate"):
                if getattr(self, name) is None:
                    raise ValueError(f"{name}: is missing, and the state is {self.state}")
        if self.ended is not None and self.state == "revoked":
            raise ValueError("ended: a side that is revoked says itself how it ended")
        if self.accepted_at is not None and (self.state != "revoked" or self.accepted_at > self.at):
            raise ValueError(f"accepted_at: is of a revoked side, before it was revoked; the state is {self.state}")
        return self

    @property
    def party(self) -> str:
        """Whose side it is."""
        return self.sender if self.side == "sender" else self.receiver

    @property
    def day(self) -> date:
        """The day in the Netherlands on which it came into its state."""
        return date_at(self.at)

    def about(self) -> About:
        """What both sides must agree on."""
        return About(self.school, self.sender, self.receiver, self.service, self.process, self.location)

    def ending(self) -> Ended | None:
        """How it stood when it was revoked the last time; None if it never was."""
        if self.state != "revoked" or self.accepted_by is None or self.mandate is None:
            return self.ended
        return Ended(
            at=self.at, accepted_at=self.accepted_at, accepted_by=self.accepted_by, mandate=self.mandate,
            products=self.products,
        )  # fmt: skip

    def acceptances(self) -> tuple[ConnectionSide, ...]:
        """As it is, if it is accepted or revoked; then as it was when it was revoked before that."""
        now = (self,) if self.state in ("accepted", "revoked") else ()
        if self.ended is None:
            return now
        return *now, self.model_copy(update={"state": "revoked", "ended": None, **dict(self.ended)})

    @property
    def begun(self) -> datetime | None:
        """When it was accepted; None: not known, of a side that is revoked."""
        return self.at if self.state == "accepted" else self.accepted_at

    def counts(self, school: School) -> bool:
        """Whether who accepted it could do so for this school; the state is not looked at."""
        return (
            self.accepted_by in (self.party, school.sis)
            and self.mandate == school.sis
            and self.day >= school.mandated_from
        )

    def covers(self, product: str | None, location: str | None = None) -> bool:
        """Whether it covers a product at a location.

        Args:
            product: None asks for any.
            location: of the event; None: it names none, and a side for one location does not cover it.
        """
        return (product is None or self.products == ALL or product in self.products) and (
            self.location is None or self.location == location
        )
