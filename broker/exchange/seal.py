"""Step 6, seal: one output record for one receiver."""

from __future__ import annotations

from broker.errors import AccessDenied
from broker.exchange.authorise import Target
from broker.exchange.keys import ExchangeKeys
from broker.exchange.open import Opened
from broker.identity.vault import VaultRecord
from broker.schemas import JsonObject, Schema, catalogue
from broker.wire import encode_event


def output_topic(target: Target, family: str) -> str:
    """Where a receiver reads a family."""
    return f"out.{target.receiver}.{family}"


def output_key(event: Opened, person: VaultRecord | None, target: Target, keys: ExchangeKeys) -> bytes:
    """The record's key: the person for this receiver, else the business object; unlinkable between receivers."""
    envelope = event.envelope
    if person is not None:
        return keys.record_key(target.receiver, envelope["school"], person.subject_key.hex())
    object_id = event.body[event.family.uuid_fields[0]] if event.family.uuid_fields else None
    return keys.record_key(target.receiver, envelope["school"], object_id or envelope["event_id"])


def seal_for(
    event: Opened, target: Target, schema: Schema, subject: JsonObject, body: JsonObject, keys: ExchangeKeys
) -> tuple[bytes, bytes, str]:
    """Encode and seal.

    Returns:
        The record's value, the data-key header that opens it, and the id of the recipient key.

    Raises:
        AccessDenied: `receiver.key`.
    """
    if target.party is None or not target.party.keys:
        raise AccessDenied("the receiver has no key", code="receiver.key")
    recipient = target.party.keys[0]
    data_key = keys.maker(recipient.kid, recipient.jwk).current()
    envelope = {
        **event.envelope,
        "body_schema": schema.fingerprint,
        "receiver": target.receiver,
        "agreement": target.agreement.id if target.agreement else None,
    }
    value = encode_event(envelope, catalogue()["subject.v1"].encode(subject), schema.encode(body), data_key)
    return value, data_key.header, recipient.kid
