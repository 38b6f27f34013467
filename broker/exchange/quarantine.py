"""What is set aside for people: the quarantine record, what became of it, and the replay that names it.

A replay is the sender's own record once more, in the same partition, with the header `replay-of`: the offset of the
first try. Only the sender may write there, so nobody else can replay; and the lane that decided the first try decides
the second, so it knows what waits (`docs/adr/0011`).
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Final

from broker.crypto import SECRET_BYTES, DataKeyOpener, part_key, seal, seal_secret
from broker.errors import AccessDenied, ContractError
from broker.exchange.check import is_earlier_offset
from broker.exchange.decide import Account
from broker.exchange.keys import ExchangeKeys
from broker.exchange.model import Decision, InputRecord
from broker.exchange.state import pack_record
from broker.limits import Limits
from broker.registry import Registry
from broker.schemas import catalogue, frame
from broker.wire import DATA_KEY, REPLAY_OF, decode_envelope, open_parts

# Names of the keys under a quarantine record's data secret: content and identifiers apart, as on the wire.
CONTENT: Final = "quarantine"
SUBJECT: Final = "quarantine-subject"
BODY: Final = "quarantine-body"


def place_of(topic: str, partition: int, offset: int) -> bytes:
    """Associated data of what is sealed: where the input record stood."""
    return f"{topic}/{partition}/{offset}".encode()


def quarantine_record(
    account: Account, decision: Decision, registry: Registry, keys: ExchangeKeys, now_ms: int, limits: Limits
) -> bytes:
    """The whole input, sealed for its sender and for the operator: `quarantine.v1`, framed.

    Subject and body came sealed for the broker's key alone, which nobody looks with and which is destroyed after a
    while. So they go along opened, if they could be, each sealed anew.
    """
    record, schema = account.record, catalogue()["quarantine.v1"]
    secret = os.urandom(SECRET_BYTES)
    recipients = [seal_secret(secret, keys.operator.jwk, keys.operator.kid)]
    party = registry.party(record.party)
    if party is not None and party.keys:
        recipients.append(seal_secret(secret, party.keys[0].jwk, party.keys[0].kid))
    where = place_of(record.topic, record.partition, record.offset)
    kept = _storable(record, limits)
    parts = _parts(record, keys.opener, limits)
    subject, body = parts if parts is not None else (None, None)
    datum = {
        "event_id": account.event_id,
        "code": decision.code,
        "field": decision.field,
        "rule": decision.rule,
        "school": account.school,
        "receiver": decision.receiver,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "decided": now_ms,
        "recipients": [r.decode() for r in recipients],
        "whole": kept == record,
        "content": seal(part_key(secret, CONTENT), pack_record(kept), where),
        "subject": None if subject is None else seal(part_key(secret, SUBJECT), subject, where),
        "body": None if body is None else seal(part_key(secret, BODY), body, where),
    }
    return frame(schema.fingerprint, schema.encode(datum))


def _storable(record: InputRecord, limits: Limits) -> InputRecord:
    """The record, or its beginning where the whole would not fit a record of Kafka: sealed bytes do not compress.

    A record that can not be written would stop its lane for ever.
    """
    headers = record.headers
    if sum(len(name) + len(value) for name, value in headers) > limits.header_bytes:
        headers = ()
    key, value = record.key, record.value
    if value is not None and len(value) > limits.record_bytes:
        value = value[: limits.quarantined_bytes]
    return replace(record, key=key and key[: limits.header_bytes], value=value, headers=headers)


def _parts(record: InputRecord, opener: DataKeyOpener, limits: Limits) -> tuple[bytes, bytes] | None:
    """Subject and body in clear; None if they can not be opened, or are more than there is room for."""
    tokens = [value for name, value in record.headers if name == DATA_KEY]
    if len(tokens) != 1 or record.value is None or len(record.value) > limits.record_bytes:
        return None
    try:
        envelope, associated = decode_envelope(record.value)
        subject, body = open_parts(envelope, associated, opener.open(tokens[0]))
    except ContractError:
        return None
    size = len(subject) + len(body)
    if size > limits.quarantined_bytes or len(record.value) + size > limits.record_bytes:
        return None
    return subject, body


# ---- replays


def replay_of(record: InputRecord) -> int | None:
    """The offset of the first try, if this is a replay: of a record before it in the same partition.

    Raises:
        ContractError: `headers.repeated`.
        AccessDenied: `replay.form`.
    """
    found = [value for name, value in record.headers if name == REPLAY_OF]
    if not found:
        return None
    if len(found) > 1:
        raise ContractError("a header is there twice", code="headers.repeated", field="headers")
    if not is_earlier_offset(record, found[0]):
        raise AccessDenied("not an offset before this one", code="replay.form", field=REPLAY_OF)
    return int(found[0])


def replayed_record(account: Account, first: int, now_ms: int) -> bytes:
    """That a quarantined record was replayed: `handled.v1`, framed, for who looks at the quarantine."""
    record, schema = account.record, catalogue()["handled.v1"]
    datum = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": first,
        "state": "REPLAYED",
        "at": now_ms,
        "by": record.party,
        "reason": None,
        "replay": record.offset,
    }
    return frame(schema.fingerprint, schema.encode(datum))
