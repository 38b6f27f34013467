"""The typed records about a school: identity, roster, connection, control. Field by field as in `schemas/avro/`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import ClassVar

from broker.client.records_body import Body
from broker.client.records_material import new_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactFlags:
    """What decides whether an address may be used (R24, R25); None leaves as it was what the school said before."""

    school_account: bool | None = None
    parents_informed: bool | None = None
    objection: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """A parent's consent for one product (R26), by the school's own reference to it."""

    product_id: str
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity(Body):
    """`identity.v1`: an enrolment at a school; the ids are in the subject. Goes to the broker's vault only."""

    FAMILY: ClassVar[str] = "identity"

    left_on: date | None = None
    year_group: str | None = None
    group_ids: tuple[str, ...] | None = None
    location: str | None = None
    contact_flags: ContactFlags | None = None
    under_16: bool | None = None
    consents: tuple[Consent, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster(Body):
    """`roster.v1`: who is in which group, and who teaches it. Each event is the whole again."""

    FAMILY: ClassVar[str] = "roster"

    product_id: str | None = None
    group_id: str | None = None
    group_ids: tuple[str, ...] | None = None
    group_name: str | None = field(default=None, repr=False)
    school_subject_id: str | None = None
    level: str | None = None
    study_code: str | None = None
    year_group: str | None = None
    location: str | None = None
    given_name: str | None = field(default=None, repr=False)
    family_name_prefix: str | None = field(default=None, repr=False)
    family_name: str | None = field(default=None, repr=False)
    initials: str | None = field(default=None, repr=False)
    birth_date: date | None = field(default=None, repr=False)
    gender: str | None = None
    start_year_3: date | None = None
    school_email: str | None = field(default=None, repr=False)
    school_username: str | None = field(default=None, repr=False)
    private_email: str | None = field(default=None, repr=False)
    parent_email: str | None = field(default=None, repr=False)
    teacher_name: str | None = field(default=None, repr=False)
    teacher_email: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection(Body):
    """`connection.v1`: a school's link, switched on or off for one side of it or both.

    `side` is SENDER, RECEIVER or BOTH; `process` BESTELLEN_LEVEREN, TOEGANG, GEBRUIK or TERUGKOPPELEN; `products` None
    means all. A new link gets a new `connection_id`, which must be a UUID: keep it, since whatever is said of the link
    later repeats it.
    """

    FAMILY: ClassVar[str] = "connection"

    connection_id: str = field(default_factory=new_id)
    side: str
    sender: str
    receiver: str
    service: str
    process: str
    products: tuple[str, ...] | None = None
    location: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Control(Body):
    """`control.v1`: what parties ask of each other about data; whoever answers a request repeats its `control_id`."""

    FAMILY: ClassVar[str] = "control"

    control_id: str = field(default_factory=new_id)
    reason_code: str | None = None
    agreement_id: str | None = None
    connection_id: str | None = None
    service: str | None = None
    other_party: str | None = None
    products: tuple[str, ...] | None = None
    about_event: str | None = None
    about_object: str | None = None
    code: str | None = None
    from_date: date | None = None
    until_date: date | None = None
    deadline: date | None = None
    return_data: bool | None = None
    count: int | None = None
