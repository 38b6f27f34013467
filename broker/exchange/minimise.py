"""Step 5, minimise: of body and subject only what this receiver may have (promises P3 and P4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from broker.errors import AccessDenied, ContractError
from broker.exchange.authorise import Target
from broker.exchange.keys import ExchangeKeys
from broker.exchange.open import Opened
from broker.exchange.swap import check_left
from broker.identity.vault import Flags, VaultRecord
from broker.policy import Projection
from broker.schemas import JsonObject, Schema

# Which attribute of the policy decides over a local id of this type.
ID_ATTRIBUTES: Final[Mapping[str, str]] = MappingProxyType({
    "LAS_KEY": "lasKey",
    "LEERLINGNUMMER": "leerlingnummer",
    "NL_EDU_PERSON_PROFILE_ID": "nlEduPersonProfileId",
    "NL_EDU_PERSON_REAL_ID": "nlEduPersonRealId",
    "MEDEWERKERNUMMER": "employeeNumber",
})  # fmt: skip

NOBODY: Final[JsonObject] = {"kind": "NONE", "eck_id": None, "user_ids": [], "previous_user_ids": []}

TRANSFORMS: Final[Mapping[str, Callable[[Any], Any]]] = MappingProxyType({
    "first_letter": lambda text: text[:1] if isinstance(text, str) else None,
})  # fmt: skip


def passing(event: Opened, target: Target, person: VaultRecord | None, day: int) -> Target:
    """The target with what passes in this event, of this person, on this day.

    Raises:
        AccessDenied: `consent.missing`; `gate.policy`, if what the event is about does not pass.
    """
    essential = event.family.kinds[event.envelope["kind"]].essential
    closing = target.route.closing
    if not has_consent(event, target, person):
        if closing is None or closing.dated_before_end:  # when it was withdrawn is not known
            raise AccessDenied("consent is not there", code="consent.missing", field="subject")
        target = target.closing_only(essential)
    if person is not None and check_left(event, person, closing, day):
        target = target.closing_only(essential)
    if target.open_conditions:
        target = _with_conditions(target, conditions_met(event, person))
    if not target.kept.issuperset(essential):
        raise AccessDenied("what it is about does not pass", code="gate.policy")
    return target


@lru_cache(maxsize=4096)
def _with_conditions(target: Target, met: frozenset[str]) -> Target:
    gone = {name for name, conditions in target.open_conditions if not met.issuperset(conditions)}
    return replace(
        target, kept=target.kept - gone, dropped=target.dropped | (target.kept & gone), ids=target.ids - gone
    )


def conditions_met(event: Opened, person: VaultRecord | None) -> frozenset[str]:
    """The policy's conditions that this event and its person meet; what nobody said is not met."""
    digital, body = event.family.digital, event.body
    flags = person.flags if person is not None else Flags()
    holds = {
        "no-eck-id": person is not None and not person.eck_id,
        "digital-line": body[digital] == "DIGITAL" if isinstance(digital, str) else digital,
        "home-delivery": body.get("delivery") == "HOME",
        "no-school-account": flags.school_account is False,
        "parents-informed": flags.parents_informed is True,
        "no-objection": flags.objection is False,
    }
    return frozenset(name for name, met in holds.items() if met)


def has_consent(event: Opened, target: Target, person: VaultRecord | None) -> bool:
    """R26: a free tool needs the parents' consent for a pupil under 16; one whose age nobody told counts as such."""
    if target.agreement is None or person is None or person.kind != "PUPIL" or person.flags.under_16 is False:
        return True
    name = event.family.product_field
    product = event.body[name] if name is not None else None
    products = [p.id for p in target.agreement.products] if product is None else [product]
    given = {product_id for product_id, _ in person.flags.consents}
    return any(target.agreement.consent_for(p) != "under-16" or p in given for p in products)


def minimise_body(event: Opened, target: Target, schema: Schema, projection: Projection) -> JsonObject:
    """The fields of the receiver's output schema; what is not kept is null.

    Raises:
        ContractError: `policy.rejected`, if a field is filled that may never be sent.
    """
    if projection.rejected:
        for field in event.family.schema.fields:
            if field.attribute in projection.rejected and event.body[field.name] is not None:
                raise ContractError("may never be sent", code="policy.rejected", field=field.name)
    body: JsonObject = {}
    for field in schema.fields:
        value = event.body[field.name]
        if field.attribute is not None:
            if field.attribute not in target.kept:
                value = None
            elif (transform := projection.transformed.get(field.attribute)) is not None:
                value = TRANSFORMS[transform](value)
        body[field.name] = value
    return body


def minimise_subject(
    person: VaultRecord | None, target: Target, keys: ExchangeKeys
) -> tuple[JsonObject, frozenset[str]]:
    """Who it is about, in the ids that this receiver may have.

    The ECK iD and local ids as the policy's conditions allow (its own id for the school's SIS, another local id only
    for a pupil without ECK iD, UWLR 2.3); if nothing is left, a pseudonym of the receiver's own.

    Returns:
        The subject, and the attribute names of what is in it.
    """
    if person is None:
        return NOBODY, frozenset()
    may = target.ids
    sent: set[str] = set()
    eck_id = person.eck_id if "eckId" in may else None
    if eck_id is not None:
        sent.add("eckId")
    local = person.local_id(id_type for id_type, attribute in ID_ATTRIBUTES.items() if attribute in may)
    ids = [] if local is None else [local]
    if local is not None:
        sent.add(ID_ATTRIBUTES[local[0]])
    if not sent:
        # Of Ks, not of an id, so that the pseudonym ends with the enrolment's erasure.
        ids = [("RECEIVER_PSEUDONYM", keys.pseudonym(target.receiver, person.subject_key.hex()))]
        sent.add("receiverPseudonym")
    subject = {
        "kind": person.kind,
        "eck_id": eck_id,
        "user_ids": [{"type": id_type, "value": value} for id_type, value in ids],
        "previous_user_ids": [],
    }
    return subject, frozenset(sent)
