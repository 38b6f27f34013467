"""Who agreed to what: agreements of a board with a receiver, and the exceptions to them that end by themselves."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from broker.policy.document import Written
from broker.policy.words import LawfulBasis, Process, ProductType
from broker.registry.fields import (
    ALL_OF_BOARD,
    Country,
    EntryId,
    PartyId,
    ProductId,
    Reason,
    SchoolId,
    Text,
    WebAddress,
    named_twice,
)

# The European Economic Area: ISO 3166-1 codes of the EU's members, and Iceland, Liechtenstein, Norway.
EEA: Final = frozenset(
    "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IS IT LI LT LU LV MT NL NO PL PT RO SE SI SK".split()  # noqa: SIM905
)

# What pupils were called by before the ECK iD: allowed for a while, per agreement, with an end (R13).
LOCAL_IDS: Final = frozenset({"lasKey", "leerlingnummer", "nlEduPersonProfileId"})

MAX_EXCEPTION_DAYS: Final = 366

Position = Literal["processor", "controller"]
Consent = Literal["not-needed", "under-16"]


class Product(Written):
    """What a receiver offers under an agreement.

    Args:
        type: `legal-test` and `norm-test` have attribute sets of their own.
        does: what the product does, in a sentence (R16).
        consent: `under-16`: a parent's consent is needed for a pupil below 16, as for free tools (R26); bought material
            needs none.
    """

    id: ProductId
    type: ProductType
    does: Text
    consent: Consent = "not-needed"


class ProcessPurpose(Written):
    """A process that an agreement covers, and what for (R15)."""

    process: Process
    purpose: Text
    basis: LawfulBasis


class Agreement(Written):
    """An agreement of a board with a receiver: all that R16 asks.

    An id has one version at a time. A version that begins later gets an id of its own, else there would be no valid one
    until then.

    Args:
        position: of the receiver. `processor`: a processor agreement (verwerkersovereenkomst). `controller`: in its own
            right, where parents or adult students buy: basis and notice take the place of such an agreement (domain,
            section 10.13).
        notice: where a controller tells people what it does with their data.
        model: version of the model agreement of the privacy covenant.
        schools: which of the board's, or locations of these (BRIN6), or `all of board`.
        attributes: the conditional attributes that it names; others of effect C do not pass.
        local_ids_until: last day on which those of `LOCAL_IDS` that it names still pass (R13).
        access: who has access. retention: how long, in a sentence.
        storage_country: ISO 3166-1; outside the EEA a basis is needed (R22).
        valid_from, valid_until: first and last day.
    """

    id: EntryId
    version: Annotated[str, Field(pattern=r"^[0-9]{1,6}(\.[0-9]{1,6}){0,3}$")]
    position: Position = "processor"
    notice: Annotated[WebAddress | None, Field(validate_default=True)] = None
    model: Annotated[Literal["3.0", "4.0"] | None, Field(validate_default=True)] = None
    board: EntryId
    schools: Annotated[tuple[SchoolId, ...], Field(min_length=1)] | Literal["all of board"]
    party: PartyId
    products: Annotated[tuple[Product, ...], Field(min_length=1)]
    processes: Annotated[tuple[ProcessPurpose, ...], Field(min_length=1)]
    attributes: tuple[str, ...]
    local_ids_until: date | None = None
    access: Text
    storage_country: Country
    outside_eea_basis: Text | None = None
    retention: Text
    privacy_contact: Text
    incident_contact: Text
    security_measures: Text
    incident_arrangements: Annotated[Text | None, Field(validate_default=True)] = None
    subprocessors: Annotated[tuple[Text, ...] | None, Field(validate_default=True)] = None
    valid_from: date
    valid_until: date

    @field_validator("model", "incident_arrangements", "subprocessors")
    @classmethod
    def _of_a_processor(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and info.data.get("position") == "processor":
            raise ValueError("is missing")
        return value

    @field_validator("notice")
    @classmethod
    def _of_a_controller(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and info.data.get("position") == "controller":
            raise ValueError("is missing")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.storage_country not in EEA and self.outside_eea_basis is None:
            raise ValueError(f"outside_eea_basis: is missing, and {self.storage_country} lies outside the EEA (R22)")
        if self.valid_until < self.valid_from:
            raise ValueError("valid_until: lies before valid_from")
        local = sorted(LOCAL_IDS.intersection(self.attributes))
        if local and self.local_ids_until is None:
            raise ValueError(f"local_ids_until: is missing, and attributes names {', '.join(local)} (R13)")
        if self.local_ids_until is not None and self.local_ids_until > self.valid_until:
            raise ValueError("local_ids_until: lies after valid_until")
        named_twice(
            products=(p.id for p in self.products),
            processes=(p.process for p in self.processes),
            attributes=self.attributes,
            schools=self.schools if isinstance(self.schools, tuple) else (),
        )
        return self

    def product_type(self, product: str | None) -> ProductType:
        """The type of one of its products; `ordinary`, the strictest, for none."""
        return next((p.type for p in self.products if p.id == product), "ordinary")

    def consent_for(self, product: str | None) -> Consent:
        """Whether a pupil below 16 needs a parent's consent for a product; the stricter word for one it does not name.

        Args:
            product: None: about no product, such as a pupil's groups. Those may go for any product that needs none, so
                consent is needed only where all products need it.
        """
        if product is None:
            return "under-16" if all(p.consent == "under-16" for p in self.products) else "not-needed"
        return next((p.consent for p in self.products if p.id == product), "under-16")

    def named(self, on: date) -> tuple[str, ...]:
        """The conditional attributes that it names on this day: local ids only as long as they are allowed (R13)."""
        if self.local_ids_until is None or on <= self.local_ids_until:
            return self.attributes
        return tuple(name for name in self.attributes if name not in LOCAL_IDS)

    def is_for(self, school: str, product: str | None, process: str, location: str | None = None) -> bool:
        """Whether it is about this school of its board, product and process, on whatever day.

        Args:
            product: None: any.
            location: where in the school; an agreement that names locations covers only those.
        """
        return (
            (
                self.schools == ALL_OF_BOARD
                or school in self.schools
                or (location is not None and location in self.schools)
            )
            and any(p.process == process for p in self.processes)
            and (product is None or any(p.id == product for p in self.products))
        )

    def covers(self, school: str, product: str | None, process: str, on: date, location: str | None = None) -> bool:
        """Whether it is about all this, and valid on this day."""
        return self.valid_from <= on <= self.valid_until and self.is_for(school, product, process, location)


class TemporaryException(Written):
    """A restriction that is lifted for a while, with the parents informed (R21). It ends by itself.

    While it lasts, the attributes that it names pass as if the receiver's agreement named them. It opens no gate and
    lifts no D or R: without an agreement nothing is delivered (R27).

    Args:
        school: one of the registered ones, or `all of board`, and then `board` says which.
        reason: why. approved_by: who of the school or board approved it; a function rather than a name.
        parents_informed_on: not later than it starts.
        start, end: first and last day.
    """

    id: EntryId
    school: SchoolId | Literal["all of board"]
    board: EntryId | None = None
    receiver: PartyId
    process: Process
    attributes: Annotated[tuple[str, ...], Field(min_length=1)]
    reason: Reason
    approved_by: Reason
    parents_informed_on: date
    start: date
    end: date

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.school == ALL_OF_BOARD) != (self.board is not None):
            raise ValueError(f"board: belongs to `school: {ALL_OF_BOARD}`, and must be there then")
        if self.end < self.start:
            raise ValueError("end: lies before start")
        if self.end - self.start >= timedelta(days=MAX_EXCEPTION_DAYS):
            raise ValueError(f"end: makes it longer than {MAX_EXCEPTION_DAYS} days; what stays belongs in an agreement")
        if self.parents_informed_on > self.start:
            raise ValueError("parents_informed_on: lies after start (R21)")
        named_twice(attributes=self.attributes)
        return self

    def lasts(self, on: date) -> bool:
        """Whether it holds on this day."""
        return self.start <= on <= self.end
