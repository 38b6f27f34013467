"""The typed records about learning material: order, licence, usage, result. Field by field as in `schemas/avro/`.

Texts that are one of a list (`material`, `reason_code` ...) are the symbols of the schema's enum; decimals are texts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import ClassVar
from uuid import uuid4

from broker.client.records_body import Body


def new_id() -> str:
    """A random UUID."""
    return str(uuid4())


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeAddress:
    """Where a parcel goes; passes only to the shop, and only with delivery HOME. Its repr shows nothing."""

    street: str = field(repr=False)
    house_number: str = field(repr=False)
    house_number_addition: str | None = field(default=None, repr=False)
    postal_code: str = field(repr=False)
    city: str = field(repr=False)
    country_code: str = field(default="NL", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order(Body):
    """`order.v1`: one order line, or the answer to one.

    `order_id` is chosen by who sends ORDER or LINE; whoever answers repeats it. `material` is DIGITAL, PAPER or OTHER.
    """

    FAMILY: ClassVar[str] = "order"

    order_id: str
    revision: int = 1
    product_id: str | None = None
    material: str
    quantity: int | None = None
    purchase_order_id: str | None = None
    purchase_order_line_id: str | None = None
    sales_order_id: str | None = None
    sales_order_line_id: str | None = None
    contract_id: str | None = None
    entitlement_id: str | None = None
    in_answer_to: str | None = None
    reason_code: str | None = None
    price: str | None = None
    expected_on: date | None = None
    shipped_on: date | None = None
    delivery: str | None = None
    delivery_location: str | None = None
    location: str | None = None
    start_date: date | None = None
    end_date: date | None = None
    given_name: str | None = field(default=None, repr=False)
    family_name_prefix: str | None = field(default=None, repr=False)
    family_name: str | None = field(default=None, repr=False)
    home_address: HomeAddress | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence(Body):
    """`licence.v1`: a right to use a digital product.

    `entitlement_id` is chosen by who grants it; answers repeat it.
    """

    FAMILY: ClassVar[str] = "licence"

    entitlement_id: str
    revision: int = 1
    product_id: str
    bundled_product_id: str | None = None
    order_id: str | None = None
    contract_id: str | None = None
    entitlement_type: str
    in_answer_to: str | None = None
    status: str | None = None
    effective_at: datetime | None = None
    start_date: date | None = None
    activation_until: date | None = None
    expiration_date: date | None = None
    min_expiration_date: date | None = None
    end_date: date | None = None
    reason_code: str | None = None
    quantity: int | None = None
    group_ids: tuple[str, ...] | None = None
    school_subject_ids: tuple[str, ...] | None = None
    activation_code: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far somebody is with a unit; `status` is NOT_STARTED, STARTED, COMPLETED or ABANDONED."""

    status: str
    assignable_unit_id: str | None = None
    course_id: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage(Body):
    """`usage.v1`: what happened with a licence. See the schema for each field."""

    FAMILY: ClassVar[str] = "usage"

    usage_id: str = field(default_factory=new_id)
    revision: int = 1
    entitlement_id: str
    product_id: str
    usage_type: str
    usage_date: date | None = None
    first_used: date | None = None
    last_used: date | None = None
    frequency: int | None = None
    expiration_date: date | None = None
    activation_code: str | None = field(default=None, repr=False)
    year_group: str | None = None
    group_id: str | None = None
    progress: Progress | None = None
    progress_duration: str | None = None
    progress_follow_up: bool | None = field(default=None, repr=False)
    progress_note: str | None = field(default=None, repr=False)
    progress_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What came of one part of a test; `value` is read by its `result_type`, else by that of the whole."""

    part_code: str
    result_type: str | None = None
    value: str | None = field(default=None, repr=False)
    raw_score: int | None = field(default=None, repr=False)
    max_raw_score: int | None = None
    items_correct: int | None = field(default=None, repr=False)
    items_wrong: int | None = field(default=None, repr=False)
    items_read: int | None = field(default=None, repr=False)
    time_seconds: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceLevel:
    """The level reached in READING, LANGUAGE or ARITHMETIC, such as 1F or 1S."""

    domain: str
    level: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssessmentResult(Body):
    """`result.v1`: what came of a test; a correction is the whole again, with the same id and a higher revision."""

    FAMILY: ClassVar[str] = "result"

    result_id: str
    revision: int = 1
    product_id: str
    assessment_id: str | None = None
    assessment_version: str | None = None
    part_code: str | None = None
    reason_code: str | None = None
    receipt: str | None = None
    in_answer_to: str | None = None
    assessment_date: date | None = None
    result_type: str | None = None
    value: str | None = field(default=None, repr=False)
    raw_score: int | None = field(default=None, repr=False)
    max_raw_score: int | None = None
    items_correct: int | None = field(default=None, repr=False)
    items_wrong: int | None = field(default=None, repr=False)
    items_read: int | None = field(default=None, repr=False)
    time_seconds: str | None = field(default=None, repr=False)
    scale: str | None = None
    comparison_group: str | None = None
    interval_low: str | None = field(default=None, repr=False)
    interval_high: str | None = field(default=None, repr=False)
    school_grade: str | None = field(default=None, repr=False)
    weight: str | None = None
    attempt: int | None = None
    attendance: str | None = field(default=None, repr=False)
    final: bool | None = None
    parts: tuple[Part, ...] | None = field(default=None, repr=False)
    reference_levels: tuple[ReferenceLevel, ...] | None = field(default=None, repr=False)
    advice: tuple[str, ...] | None = field(default=None, repr=False)
    norm_term: str | None = None
    norm_from: int | None = None
    norm_to: int | None = None
    school_subject_id: str | None = None
    year_group: str | None = None
    teacher_eck_id: str | None = field(default=None, repr=False)
    employee_number: str | None = field(default=None, repr=False)
    comment: str | None = field(default=None, repr=False)
    irregularities: str | None = field(default=None, repr=False)
    info_url: str | None = field(default=None, repr=False)
