"""What a quarantined record held, opened with a private key, and made fit to be shown.

What is shown is a person's data, but never a number of the state: a text that holds one is shown with its digits
masked, and whoever looks learns where it stands and of which kind it is. Nothing that a terminal would obey passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from joserfc.jwk import ECKey

from broker.crypto import jwe_kid, open_secret, part_key, unseal
from broker.errors import ConfigError, ContractError
from broker.exchange.model import InputRecord
from broker.exchange.quarantine import BODY, CONTENT, SUBJECT, place_of
from broker.exchange.state import unpack_record
from broker.identity.formats import is_uuid
from broker.identity.pgn import find_pgn, screen_bytes
from broker.limits import DEFAULT
from broker.quarantine.entries import Entry
from broker.schemas import Schema, catalogue
from broker.wire import DATA_KEY, REPLAY_OF, decode_envelope

RAW_CHARS: Final = 400  # shown of bytes that could not be read
MASK: Final = "#"
_SEALED: Final = "(sealed; the broker could not open it, or it was too large)"

Private = Callable[[str], Mapping[str, str] | None]


@dataclass(frozen=True, slots=True)
class Opened:
    """A quarantined record in clear.

    Args:
        subject, body: the two parts, encoded; None if the broker could not open them.
    """

    record: InputRecord = field(repr=False)
    subject: bytes | None = field(repr=False)
    body: bytes | None = field(repr=False)


class Line(NamedTuple):
    """One value of an opened record, fit to be shown.

    Args:
        where: such as `body.progress_note`.
        remark: what is wrong with it, if anything.
    """

    where: str
    text: str
    remark: str = ""


def private_key_of(entry: Entry, private: Private) -> tuple[bytes, Mapping[str, str]]:
    """Which of the entry's JWEs one of our private keys opens, and that key.

    Raises:
        ConfigError: `quarantine.key`.
    """
    kids = []
    for token in entry.recipients:
        kids.append(kid := jwe_kid(token))
        if (found := private(kid)) is not None:
            return token, found
    raise ConfigError(
        f"{entry.place} is sealed for {' and '.join(kids)}; none of these private keys is here. If it was destroyed, "
        "nobody can open this any more: have the event sent again.",
        code="quarantine.key",
    )


def open_entry(entry: Entry, private: Private) -> Opened:
    """Open what is sealed in an entry.

    Raises:
        ConfigError: `quarantine.key`.
        ContractError: `seal.*`: the entry was changed after the broker wrote it.
    """
    token, key = private_key_of(entry, private)
    secret = open_secret(token, ECKey.import_key(dict(key)))
    where = place_of(entry.place.topic, entry.place.partition, entry.place.offset)

    def part(name: str, sealed: bytes | None) -> bytes | None:
        return None if sealed is None else unseal(part_key(secret, name), sealed, where, name)

    content = unseal(part_key(secret, CONTENT), entry.content, where, CONTENT)
    return Opened(unpack_record(content), part(SUBJECT, entry.subject), part(BODY, entry.body))


def replay_headers(record: InputRecord) -> list[tuple[str, bytes]]:
    """The headers of a record that is sent again: its own, and a link to this try of it."""
    own = [(name, value) for name, value in record.headers if name != REPLAY_OF]
    return [*own, (REPLAY_OF, str(record.offset).encode())]


def lines(opened: Opened, field_at_fault: str | None) -> list[Line]:
    """Everything in a record, a value a line, with a remark where something is wrong."""
    return [_marked(line, field_at_fault) for line in _lines(opened)]


def _lines(opened: Opened) -> Iterator[Line]:
    record = opened.record
    yield Line("key", f"{len(record.key or b'')} bytes", _holds(screen_bytes(record.key or b"")))
    for number, (name, value) in enumerate(record.headers):
        yield _bytes(f"headers.{number}.name", name.encode())
        yield _bytes(f"headers.{number}.value", value) if name != DATA_KEY else _data_key(number, value)
    try:
        envelope, _ = decode_envelope(record.value)
    except ContractError as error:
        raw = _bytes("value", record.value or b"")
        yield raw._replace(remark=f"{raw.remark}; {error}" if raw.remark else str(error))
        return
    family = catalogue().family_of(envelope["body_schema"])
    for name in ("subject", "body"):
        del envelope[name]
    envelope["body_schema"] = envelope["body_schema"].hex()
    yield from _values("envelope", _dated(catalogue()["envelope.v1"], envelope))
    for name, schema, data in (
        ("subject", catalogue()["subject.v1"], opened.subject),
        ("body", None if family is None else family.schema, opened.body),
    ):
        if data is None:
            yield Line(name, _SEALED)
            continue
        try:
            if schema is None:
                raise ContractError("its schema is not known here")
            datum = schema.decode(data)
        except ContractError as error:
            raw = _bytes(name, data)
            yield raw._replace(remark=f"{raw.remark}; {error}" if raw.remark else str(error))
        else:
            yield from _values(name, _dated(schema, datum))


def _dated(schema: Schema, datum: Mapping[str, Any]) -> dict[str, Any]:
    """With days and times as people read them; a number that is none stays a number."""
    readable = dict(datum)
    for declared in schema.document["fields"]:
        branches = declared["type"] if isinstance(declared["type"], list) else [declared["type"]]
        kinds = {branch.get("logicalType") for branch in branches if isinstance(branch, dict)}
        unit = timedelta(days=1) if "date" in kinds else timedelta(milliseconds=1)
        number = readable.get(declared["name"])
        if kinds & {"date", "timestamp-millis"} and isinstance(number, int):
            with suppress(OverflowError):
                at = datetime(1970, 1, 1, tzinfo=UTC) + number * unit
                readable[declared["name"]] = f"{at:%Y-%m-%d}" if "date" in kinds else f"{at:%Y-%m-%d %H:%M:%S} UTC"
    return readable


def _values(where: str, value: Any) -> Iterator[Line]:
    """All values at whatever depth; what is empty is left out."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _values(f"{where}.{name}", inner)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _values(f"{where}.{number}", inner)
    elif isinstance(value, bytes):
        yield _bytes(where, value)
    elif isinstance(value, bool):
        yield Line(where, "yes" if value else "no")
    elif value is not None:
        text = str(value)
        # An id by which people find an event again; one in a million reads as a number, by chance.
        yield _text(where, text, None if is_uuid(text) else find_pgn(text))


def _data_key(number: int, token: bytes) -> Line:
    try:
        kid = jwe_kid(token)
    except ContractError as error:
        return _bytes(f"headers.{number}.value", token)._replace(remark=str(error))
    return _text(f"headers.{number}.value", f"sealed for {kid}", find_pgn(kid))


def _bytes(where: str, data: bytes) -> Line:
    """Bytes that may be anything, as text. All of it is screened and masked before any of it is cut off."""
    pgn = screen_bytes(data)
    line = _text(where, data.decode(errors="replace"), pgn)._replace(remark=_holds(pgn))
    return line if len(line.text) <= RAW_CHARS else line._replace(text=f"{line.text[:RAW_CHARS]} ({len(data)} bytes)")


def _text(where: str, text: str, pgn: str | None) -> Line:
    remark = _holds(pgn)
    if not remark and len(text) > DEFAULT.text_chars:
        remark = f"{len(text)} characters"
    if pgn is not None:
        text = _masked(text, pgn)
    shown = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)
    if not remark and shown != text:
        remark = "holds control characters"
    return Line(where, shown, remark)


def _masked(text: str, pgn: str) -> str:
    """Without its digits; of a hash or a pseudonym, which letters are part of, also without its letters."""
    letters_too = pgn not in ("bsn", "onderwijsnummer")
    masked = "".join(MASK if c.isnumeric() or (letters_too and c.isalnum()) else c for c in text)
    return MASK * len(text) if find_pgn(masked) else masked


def _holds(pgn: str | None) -> str:
    return "" if pgn is None else f"holds what looks like a number of the state ({pgn}); masked"


def _marked(line: Line, field_at_fault: str | None) -> Line:
    if field_at_fault is None or line.remark or field_at_fault not in line.where.split("."):
        return line
    return line._replace(remark="this field")
