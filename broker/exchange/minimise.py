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
    "first_letter": lambda text: None if text is None else text[:1],
})  # fmt: skip


def minimise_body(event: Opened, target: Target, schema: Schema, projection: Projection) -> JsonObject:
    """The fields of the receiver's output schema; a conditional one is null unless its condition holds.

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

    The ECK iD, if policy and covenant allow; its own local id for the school's own SIS; another local id only for a
    pupil without ECK iD, under an agreement that names it (UWLR 2.3); else a pseudonym of the receiver's own.

    Returns:
        The subject, and the attribute names of what is in it.
    """
    if person is None:
        return {"kind": "NONE", "eck_id": None, "user_ids": [], "previous_user_ids": []}, frozenset()
    sent: set[str] = set()
    eck_id = person.eck_id if "eckId" in target.ids else None
    if eck_id is not None:
        sent.add("eckId")
    ids: list[tuple[str, str]] = []
    if target.own_sis or person.eck_id is None:
        allowed = [id_type for id_type, attribute in ID_ATTRIBUTES.items() if attribute in target.ids]
        local = person.local_id(allowed)
        if local is not None:
            ids = [local]
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
