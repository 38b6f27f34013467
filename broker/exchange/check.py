"""Step 2, check: is the envelope true, and does the content have its form? Screens for PGNs everywhere."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Final

from broker.days import MS_PER_DAY, date_of, day_of
from broker.errors import AccessDenied, ContractError
from broker.exchange.calendar import school_years
from broker.exchange.model import InputRecord
from broker.exchange.open import Opened
from broker.identity.formats import is_eck_id, is_product_id, is_school_id, is_uuid
from broker.identity.pgn import find_pgn, screen_bytes
from broker.limits import Limits
from broker.registry import Registry, School
from broker.schemas import Field, JsonObject, Kind
from broker.wire import DATA_KEY, REPLAY_OF, TRACEPARENT

# Tab, line feed and carriage return are text; the other C0 and C1 controls are not.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+-]{0,99}")
_ENTRY_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_NINE: Final = re.compile(r"(?<![0-9])[0-9]{9}(?![0-9])")
_RANDOM: Final = {
    DATA_KEY: re.compile(rb"[A-Za-z0-9_-]{32,}(?:\.[A-Za-z0-9_-]{8,}){4}"),
    TRACEPARENT: re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"),
}
_OFFSET: Final = re.compile(rb"0|[1-9][0-9]{0,17}")
_ENVELOPE_TEXT: Final = (
    "event_id",
    "family",
    "kind",
    "school",
    "school_year",
    "sender",
    "receiver",
    "correlation",
    "agreement",
)
# What may hold a PGN: not what must be a uuid, nor the sender, which must be the topic's party.
_ENVELOPE_SCREENED: Final = ("family", "kind", "school", "school_year", "receiver", "agreement")


def check_outside(record: InputRecord) -> None:
    """Screen what is in clear on Kafka: the key and the headers.

    Raises:
        ContractError: `pgn.*`.
    """
    if record.key is not None and (kind := screen_bytes(record.key)):
        raise ContractError("the key holds a PGN", code=f"pgn.{kind}", field="key")
    for name, value in record.headers:
        # A JWE and a trace context are random digits and letters of a fixed form: a run of nine digits is chance.
        # An offset is a number of Kafka's, which the record's own offset bounds.
        if is_random(name, value) or (name == REPLAY_OF and is_earlier_offset(record, value)):
            continue
        if kind := screen_bytes(name.encode(errors="replace")) or screen_bytes(value):
            raise ContractError("a header holds a PGN", code=f"pgn.{kind}", field="headers")
    # Of two headers of one name a reader may take either: what was looked at must be what is used.
    names = [name for name, _ in record.headers if name in _RANDOM or name == REPLAY_OF]
    if len(names) != len(set(names)):
        raise ContractError("a header is there twice", code="headers.repeated", field="headers")


def is_random(name: str, value: bytes) -> bool:
    """Tell whether a header that is used has the form that its name asks."""
    form = _RANDOM.get(name)
    return form is not None and form.fullmatch(value) is not None


def is_earlier_offset(record: InputRecord, value: bytes) -> bool:
    """Tell whether a header's value is an offset, in decimal, of a record that stands before this one."""
    return _OFFSET.fullmatch(value) is not None and int(value) < record.offset


def check_envelope(
    record: InputRecord, envelope: JsonObject, registry: Registry, limits: Limits, now_ms: int
) -> School:
    """Hold the envelope against the registry and the clock.

    Returns:
        The school, which is one that the sender serves.

    Raises:
        ContractError: the form is wrong, or the sender is forged.
        AccessDenied: the sender may not speak for this school, or not at this time.
    """
    _check_envelope_texts(envelope, limits)
    if envelope["sender"] != record.party:
        raise ContractError("the sender is not the topic's party", code="sender.forged", field="sender")
    if registry.party(record.party) is None:
        raise AccessDenied("the sender is not registered", code="party.unknown")
    if registry.suspended(record.party):
        raise AccessDenied("the sender is suspended", code="party.suspended")
    # One answer for "unknown", "of another school" and "a location that this party does not serve" (promise P8).
    school = registry.school(envelope["school"]) if is_school_id(envelope["school"]) else None
    if school is None or not registry.serves(record.party, envelope["school"], date_of(day_of(now_ms))):
        raise AccessDenied("not a school of this party", code="school.not_yours")
    if envelope["sector"] not in school.sectors:
        raise AccessDenied("the school has no such sector", code="school.sector")
    if envelope["school_year"] not in school_years(day_of(now_ms)):
        raise AccessDenied("the school year is out of range", code="school_year.form")
    created = envelope["created"]
    if not now_ms - limits.event_age_days * MS_PER_DAY <= created <= now_ms + limits.clock_skew_ms:
        raise AccessDenied("the event's time is out of range", code="created.out_of_range")
    return school


def _check_envelope_texts(envelope: JsonObject, limits: Limits) -> None:
    for name in _ENVELOPE_TEXT:
        text = envelope[name]
        if text is not None and (len(text) > limits.envelope_chars or _CONTROL.search(text)):
            raise ContractError("an envelope field has no proper form", code="envelope.form", field=name)
    for name in _ENVELOPE_SCREENED:
        if envelope[name] is not None and (kind := find_pgn(envelope[name])):
            raise ContractError("the envelope holds a PGN", code=f"pgn.{kind}", field=name)
    for name in ("event_id", "correlation"):
        if envelope[name] is not None and not is_uuid(envelope[name]):
            raise ContractError("not a uuid", code="envelope.form", field=name)
    # Only a hint, but in clear for as long as the event waits: an id of the registry, and no room for a name.
    if envelope["agreement"] is not None and not _ENTRY_ID.fullmatch(envelope["agreement"]):
        raise ContractError("not an agreement's id", code="envelope.form", field="agreement")


def check_content(event: Opened, school: School, limits: Limits) -> None:
    """Check the two parts: kind, required fields, form of texts and ids, and no PGN.

    Raises:
        ContractError: quarantine; see `outcomes`.
        AccessDenied: refusal; see `outcomes`.
    """
    _check_subject_texts(event.subject, _compiled(school.local_id_form), limits)
    for field, texts in event.family.texts:
        value = event.body[field.name]
        if value is not None:
            _check_texts(field, texts(value, limits.list_items), limits)
    kind = event.family.kinds.get(event.envelope["kind"])
    if kind is None:
        raise AccessDenied("no such kind", code="kind.unknown")
    _check_fields(event, kind)
    _check_subject(event, kind)


def _check_fields(event: Opened, kind: Kind) -> None:
    family, body = event.family, event.body
    for name in kind.requires:
        if body[name] is None:
            raise _refused("field.missing", name)
    for name in kind.unused:
        if body[name] is not None:
            raise _refused("field.unused", name)
    product = family.product_field
    if product is not None and body[product] is None and kind.needs_product:  # an agreement on any would do
        raise _refused("field.missing", product)
    if product is not None and body[product] is not None and not is_product_id(body[product]):
        raise _refused("field.form", product)
    for name in family.uuid_fields:
        if body[name] is not None and not is_uuid(body[name]):
            raise _refused("field.form", name)
    for name, in_calendar in family.moments:
        if not in_calendar(body[name]):
            raise _refused("field.form", name)


def _check_texts(field: Field, texts: Iterable[tuple[str, bool]], limits: Limits) -> None:
    for text, code in texts:
        if len(text) > limits.text_chars:
            raise ContractError("a text is too long", code="text.too_long", field=field.name)
        if _CONTROL.search(text):
            raise ContractError("a text holds a control character", code="text.control_character", field=field.name)
        if field.cls == "pseudonym" and not is_eck_id(text):
            raise _refused("identifier.form", field.name)
        if is_uuid(text):
            continue
        if kind := find_pgn(text):
            raise ContractError("a field holds a PGN", code=f"pgn.{kind}", field=field.name)
        # What says nothing of a person, at the top or inside a record, is a code and not a place for sentences. Nine
        # digits are refused whatever they are, so that a sender's numbers do not pass or fail by chance.
        if code and (not _CODE.fullmatch(text) or _NINE.search(text)):
            raise _refused("code.form", field.name)


def _check_subject_texts(subject: JsonObject, form: re.Pattern[str] | None, limits: Limits) -> None:
    for name in ("user_ids", "previous_user_ids"):
        if len(subject[name]) > limits.user_ids:
            raise ContractError("too many ids", code="list.too_long", field=name)
        for user_id in subject[name]:
            text = user_id["value"]
            if len(text) > limits.text_chars:
                raise ContractError("a text is too long", code="text.too_long", field=name)
            if _CONTROL.search(text):
                raise ContractError("a control character", code="text.control_character", field=name)
            if kind := find_pgn(text, allowed_form=form):
                raise ContractError("an id is a PGN", code=f"pgn.{kind}", field=name)
    eck_id = subject["eck_id"]
    if eck_id is not None and not is_eck_id(eck_id):
        if kind := find_pgn(eck_id[: limits.text_chars]):
            raise ContractError("an id is a PGN", code=f"pgn.{kind}", field="eck_id")
        raise _refused("identifier.form", "eck_id")


def _check_subject(event: Opened, rules: Kind) -> None:
    subject = event.subject
    ids = [*subject["user_ids"], *subject["previous_user_ids"]]
    has_id = subject["eck_id"] is not None or bool(subject["user_ids"])
    nobody = subject["kind"] == "NONE"
    if nobody == has_id or (nobody and rules.subject == "required"):
        raise _refused("subject.missing", "subject")
    if not nobody and rules.subject == "none":
        raise _refused("subject.not_allowed", "subject")
    if not nobody and rules.who is not None and subject["kind"] != rules.who:
        raise _refused("subject.kind", "subject")
    for user_id in ids:
        # RECEIVER_PSEUDONYM is the broker's own to give.
        if not user_id["value"].strip() or len(user_id["value"]) > 256 or user_id["type"] == "RECEIVER_PSEUDONYM":
            raise _refused("identifier.form", "user_ids")


def _refused(code: str, field: str) -> AccessDenied:
    return AccessDenied("a field is not as it must be", code=code, field=field)


@cache
def _compiled(form: str | None) -> re.Pattern[str] | None:
    return None if form is None else re.compile(form)
