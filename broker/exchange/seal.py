"""Step 6, seal: one output record for one receiver."""

from __future__ import annotations

from broker.errors import AccessDenied
from broker.exchange.authorise import Target
from broker.exchange.keys import ExchangeKeys
from broker.exchange.open import Opened
from broker.identity.vault import VaultRecord
from broker.registry import Party
from broker.schemas import JsonObject, Schema, catalogue
from broker.wire import encode_event


def output_topic(target: Target, family: str) -> str:
    """Where a receiver reads a family."""
    return f"out.{target.receiver}.{family}"


def output_key(event: Opened, person: VaultRecord | None, target: Target, keys: ExchangeKeys) -> bytes:
    """The record's key: the person for this receiver, else the business object; unlinkable between receivers."""
    if person is not None:
        return keys.record_key(target.receiver, person.subject_key.hex())
    name = event.family.object_field
    object_id = event.body[name] if name is not None else None
    return keys.record_key(target.receiver, event.school.id, object_id or event.envelope["event_id"])


def seal_for(
    event: Opened, target: Target, schema: Schema, subject: JsonObject, body: JsonObject, keys: ExchangeKeys
) -> tuple[bytes, bytes, str]:
    """Encode and seal.

    Returns:
        The record's value, the data-key header that opens it, and the id of the recipient key.

    Raises:
        AccessDenied: `receiver.key`.
    """
    if target.party is None:
        raise AccessDenied("the receiver has no key", code="receiver.key")
    envelope = {**event.envelope, "agreement": target.agreement.id if target.agreement else None}
    return seal_to(target.party, envelope, schema, subject, body, keys)


def seal_to(
    party: Party, envelope: JsonObject, schema: Schema, subject: JsonObject, body: JsonObject, keys: ExchangeKeys
) -> tuple[bytes, bytes, str]:
    """As `seal_for`, with an envelope that lacks only schema and receiver."""
    if not party.keys:
        raise AccessDenied("the receiver has no key", code="receiver.key")
    recipient = party.keys[0]
    data_key = keys.maker(recipient.kid, recipient.jwk).current()
    envelope = {**envelope, "body_schema": schema.fingerprint, "receiver": party.id}
    value = encode_event(envelope, catalogue()["subject.v1"].encode(subject), schema.encode(body), data_key)
    return value, data_key.header, recipient.kid
