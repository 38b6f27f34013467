"""Step 1, open: size, framing, schema, decoding, sealed parts."""

from __future__ import annotations

from dataclasses import dataclass, field

from broker.crypto import DataKeyOpener
from broker.days import day_of
from broker.errors import ContractError
from broker.exchange.model import InputRecord
from broker.limits import Limits
from broker.registry import School
from broker.schemas import Family, JsonObject, catalogue
from broker.wire import DATA_KEY, RECORD_KEY_BYTES, TRACEPARENT, decode_envelope, open_parts


@dataclass(slots=True)
class Opened:
    """An event whose bytes were understood. Nothing in it has been believed yet.

    Attributes:
        envelope: without the two sealed parts.
        school: that the envelope names, itself or one of its locations; known to be one that the sender serves.
        traceparent: the header, if there is one.
    """

    record: InputRecord
    envelope: JsonObject
    family: Family
    school: School
    subject: JsonObject = field(repr=False)
    body: JsonObject = field(repr=False)
    traceparent: bytes | None = None

    @property
    def location(self) -> str | None:
        """The location (BRIN6) that the envelope names, if it does not name the school as a whole."""
        named: str = self.envelope["school"]
        return None if named == self.school.id else named

    @property
    def about_somebody(self) -> bool:
        """Whether it has a subject."""
        return bool(self.subject["kind"] != "NONE")

    def happened_by(self, day: int) -> bool:
        """Whether it happened in the world on this day (since 1970, in the Netherlands) or before it, as its body says.

        What its body does not date did not: `created` is the clock of its sender, and says when it was told.
        """
        name = self.family.dated_field
        at = self.body[name] if name is not None else None
        if at is None:
            return False
        return (day_of(at) if self.family.dated_in_ms else int(at)) <= day


def open_envelope(record: InputRecord, limits: Limits) -> tuple[JsonObject, bytes]:
    """Check the sizes and decode the envelope.

    Returns:
        The envelope, and the associated data of its sealed parts.

    Raises:
        ContractError: with a code of `outcomes`.
    """
    if record.value is not None and len(record.value) > limits.record_bytes:
        raise ContractError("the record is too large", code="record.too_large")
    if sum(len(name) + len(value) for name, value in record.headers) > limits.header_bytes:
        raise ContractError("the headers are too large", code="headers.too_large")
    return decode_envelope(record.value)


def open_event(
    record: InputRecord,
    envelope: JsonObject,
    associated: bytes,
    school: School,
    opener: DataKeyOpener,
    limits: Limits,
) -> Opened:
    """Open the sealed parts and decode them.

    Raises:
        ContractError: with a code of `outcomes`.
    """
    if record.key is None or len(record.key) != RECORD_KEY_BYTES:
        raise ContractError("the record key is not a keyed hash", code="key.form", field="key")
    headers = dict(record.headers)
    token = headers.get(DATA_KEY)
    if token is None:
        raise ContractError("there is no data key", code="seal.missing", field=DATA_KEY)
    family = catalogue().family_of(envelope["body_schema"])
    if family is None or family.name != envelope["family"]:
        raise ContractError("the body's schema is not known", code="schema.unknown", field="body_schema")
    if len(envelope["subject"]) > limits.subject_bytes:
        raise ContractError("the subject is too large", code="record.too_large", field="subject")
    subject, body = open_parts(envelope, associated, opener.open(token))
    return Opened(
        record,
        envelope,
        family,
        school,
        catalogue()["subject.v1"].decode(subject),
        family.schema.decode(body),
        headers.get(TRACEPARENT),
    )
