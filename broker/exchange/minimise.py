"""Step 5, minimise: of body and subject only what this receiver may have (promises P3 and P4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from broker.errors import ContractError
from broker.exchange.authorise import Target
from broker.exchange.keys import ExchangeKeys
from broker.exchange.open import Opened
from broker.identity.vault import VaultRecord
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

TRANSFORMS: Final[Mapping[str, Callable[[Any], Any]]] = MappingProxyType({
    "first_letter": lambda text: text[:1] if isinstance(text, str) else None,
})  # fmt: skip


def minimise_body(
    event: Opened, target: Target, schema: Schema, projection: Projection, person: VaultRecord | None
) -> tuple[JsonObject, frozenset[str]]:
    """The fields of the receiver's output schema; a conditional one is null unless its conditions hold.

    Returns:
        The body, and the attribute names that may be in it (not: that are filled in).

    Raises:
        ContractError: `policy.rejected`, if a field is filled that may never be sent.
    """
    if projection.rejected:
        for field in event.family.schema.fields:
            if field.attribute in projection.rejected and event.body[field.name] is not None:
                raise ContractError("may never be sent", code="policy.rejected", field=field.name)
    allowed = _for_person(target.kept, target, person)
    body: JsonObject = {}
    for field in schema.fields:
        value = event.body[field.name]
        if field.attribute is not None:
            if field.attribute not in allowed:
                value = None
            elif (transform := projection.transformed.get(field.attribute)) is not None:
                value = TRANSFORMS[transform](value)
        body[field.name] = value
    return body, allowed


def _for_person(attributes: frozenset[str], target: Target, person: VaultRecord | None) -> frozenset[str]:
    """Without those that pass only for a person who has no ECK iD, if he has one."""
    return attributes - target.only_without_eck_id if person is not None and person.eck_id else attributes


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
        return {"kind": "NONE", "eck_id": None, "user_ids": [], "previous_user_ids": []}, frozenset()
    may = _for_person(target.ids, target, person)
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
        ids = [("RECEIVER_PSEUDONYM", keys.pseudonym(target.receiver, person.school, person.subject_key.hex()))]
        sent.add("receiverPseudonym")
    subject = {
        "kind": person.kind,
        "eck_id": eck_id,
        "user_ids": [{"type": id_type, "value": value} for id_type, value in ids],
        "previous_user_ids": [],
    }
    return subject, frozenset(sent)
