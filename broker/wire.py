"""An event on the wire: an envelope in clear that ends in two sealed parts (`docs/wire-format.md`).

Parties and the exchange use the same functions: what one writes, the other reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from broker.crypto import DataKey, seal, unseal
from broker.errors import ContractError
from broker.schemas import JsonObject, catalogue, frame, unframe
from broker.schemas.framing import varint

# Headers, all of them. Names are ASCII; values are bytes as documented.
DATA_KEY: Final = "data-key"
KEY_ID: Final = "key-id"
TRACEPARENT: Final = "traceparent"
POLICY: Final = "policy"
FLOW: Final = "flow"
FLOW_SEQ: Final = "flow-seq"
AUDIT_SALT: Final = "audit-salt"
REPLAY_OF: Final = "replay-of"

RECORD_KEY_BYTES: Final = 32


def encode_event(envelope: Mapping[str, Any], subject: bytes, body: bytes, key: DataKey) -> bytes:
    """Seal both parts and put them behind the envelope.

    Args:
        envelope: all fields but `subject` and `body`.
        subject, body: encoded records, in clear.
        key: of the recipient.

    Raises:
        ContractError: `schema.encode`.
    """
    schema = catalogue()["envelope.v1"]
    # Two empty parts take one byte each; what stands before them is authenticated with both.
    associated = frame(schema.fingerprint, schema.encode({**envelope, "subject": b"", "body": b""})[:-2])
    sealed_subject = seal(key.subject, subject, associated + b"subject")
    sealed_body = seal(key.body, body, associated + b"body")
    return b"".join((associated, varint(len(sealed_subject)), sealed_subject, varint(len(sealed_body)), sealed_body))


def decode_envelope(value: bytes | None) -> tuple[JsonObject, bytes]:
    """Read the envelope, which has `subject` and `body` still sealed in it.

    Returns:
        The envelope, and its bytes before the sealed parts: their associated data.

    Raises:
        ContractError: `frame.*` or `schema.*`.
    """
    fingerprint, encoded = unframe(value)
    schema = catalogue()["envelope.v1"]
    if fingerprint != schema.fingerprint:
        raise ContractError("the value is not an envelope that is known here", code="schema.unknown")
    envelope = schema.decode(encoded)
    subject, body = len(envelope["subject"]), len(envelope["body"])
    tail = len(varint(subject)) + subject + len(varint(body)) + body
    return envelope, (value or b"")[:-tail]


def open_parts(envelope: JsonObject, associated: bytes, key: DataKey) -> tuple[bytes, bytes]:
    """Open subject and body, and take them out of the envelope.

    Raises:
        ContractError: `seal.broken`.
    """
    subject = unseal(key.subject, envelope.pop("subject"), associated + b"subject", "subject")
    return subject, unseal(key.body, envelope.pop("body"), associated + b"body", "body")
