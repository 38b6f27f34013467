"""What a message says when its scenario does not: as little as its kind needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from broker.days import day_of
from broker.schemas import catalogue
from tests.scenarios.words import PRODUCTS, field, value

ENTITLEMENT: Final = "0b9f4c7e-6f0a-4f4e-9c55-0d6b3f3c2a11"
_REASONS: Final = {
    ("order", "CANCEL"): "NO_LONGER_NEEDED",
    ("order", "CREDIT"): "ORDERED_BY_MISTAKE",
    ("order", "LINE_CANCEL"): "ORDERED_BY_MISTAKE",
    ("order", "DECLINED"): "OUT_OF_STOCK",
    ("order", "BACKORDER"): "OUT_OF_STOCK",
    ("order", "RETURNED"): "WRONG_PRODUCT",
    ("order", "SHIPPED"): "COMPLETE",
    ("order", "CREDITED"): "COMPLETE",
    ("order", "CONFIRMED"): "ACCEPTED",
    ("licence", "BLOCK"): "ON_HOLD",
    ("licence", "REVOKE"): "CANCELLED",
    ("result", "CORRECTION"): "ENTRY_ERROR",
    ("result", "RETRACT"): "OTHER_PERSON",
    ("control", "DESTROY_REQUEST"): "GIVEN_BY_MISTAKE",
}


@dataclass(frozen=True)
class Body:
    """A body of any family, as the client's records are: its family's name, and its values for Avro."""

    FAMILY: str
    values: dict[str, Any]

    def datum(self) -> dict[str, Any]:
        """As Avro takes it."""
        return self.values

    def __getattr__(self, name: str) -> Any:
        """A field, as the client's records have them."""
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(name) from None


def body(family_name: str, kind: str, now_ms: int, object_id: str, said: dict[str, str]) -> Body:
    """A body with what a table says, and the rest of what its kind needs.

    Args:
        said: words of fields -> words of values.
        object_id: of what it is about; where a family has none, it is not used.
    """
    family = catalogue().family(family_name)
    rules = family.kinds[kind]
    values: dict[str, Any] = dict.fromkeys(f.name for f in family.schema.fields)
    defaults = _defaults(family_name, kind, now_ms)
    wanted = {f.name for f in family.schema.fields if not f.nullable} | set(rules.requires)
    if family.product_field is not None and rules.needs_product:
        wanted.add(family.product_field)
    if kind in ("RESULT", "CORRECTION"):
        wanted |= {"value", "result_type"}
    values |= {name: defaults[name] for name in wanted if name in defaults}
    if family.object_field is not None and family.name != "connection":
        values[family.object_field] = object_id
    for words, text in said.items():
        name = field(words)
        values[name] = value(text, family, name)
    return Body(family_name, values)


def _defaults(family: str, kind: str, now_ms: int) -> dict[str, Any]:
    today = day_of(now_ms)
    return {
        "product_id": PRODUCTS["the arithmetic book"],
        "revision": 1,
        "reason_code": _REASONS.get((family, kind), "OTHER"),
        # order
        "material": "DIGITAL",
        "quantity": 1,
        "delivery": "HOME",
        "home_address": value("Dorpsstraat 12, 1234 AB Ons Dorp", catalogue().family("order"), "home_address"),
        # licence
        "entitlement_type": "SCHOOL_INDIVIDUAL",
        "start_date": today,
        "effective_at": now_ms,
        "status": "PROVISIONED",
        # usage
        "entitlement_id": ENTITLEMENT,
        "usage_type": "WEEKLY_USAGE",
        "usage_date": today,
        "progress": {"status": "STARTED", "assignable_unit_id": None, "course_id": None, "at": None},
        # result
        "assessment_id": "REK-M7",
        "assessment_date": today,
        "result_type": "GRADE_1_10",
        "value": "7.5",
        "receipt": "BOOKED",
        # roster
        "group_id": "g7a",
        "group_ids": ["g7a"],
        # identity
        "left_on": today,
        # control
        "deadline": today + 30,
        "count": 1,
        "connection_id": "po-usage-delta-portaal",
    }


def number(seed: int) -> str:
    """A uuid that is the same in every run."""
    return str(UUID(int=0x5CE0_0000_4000_8000_0000_0000_0000_0000 + seed, version=4))
