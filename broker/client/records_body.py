"""What all typed records share: to and from Avro's plain values and JSON, by the types of their fields.

Avro's plain values are dates as days and times as milliseconds since 1970 (UTC); JSON has ISO 8601 texts in their
place. Enums and decimals are texts in both. Records may hold records, and lists of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from types import MappingProxyType, NoneType
from typing import Any, ClassVar, Final, Self, get_args, get_origin, get_type_hints

from broker.errors import ContractError

_EPOCH: Final = date(1970, 1, 1)
_EPOCH_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)
_Read = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """Base of the families' records. Their repr shows nothing that identifies, gives access or may hold anything."""

    FAMILY: ClassVar[str]

    def datum(self) -> dict[str, Any]:
        """As Avro takes it: dates as days, times as milliseconds."""
        return {f.name: _to_plain(getattr(self, f.name)) for f in fields(self)}

    def json(self) -> dict[str, Any]:
        """As JSON takes it: dates and times as ISO 8601 texts."""
        return {f.name: _to_json(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_datum(cls, datum: Mapping[str, Any]) -> Self:
        """From a decoded record or from JSON; what the record does not have keeps its default.

        Raises:
            ContractError: `field.unknown` for a name that the family or a record in it does not have; `field.form`.
        """
        try:
            _refuse_unknown(cls, datum, cls.FAMILY)
            return cls(**_read(cls, datum))
        except (TypeError, ValueError, OverflowError, AttributeError):
            given = datum if isinstance(datum, Mapping) else {}
            missing = [f.name for f in fields(cls) if f.name not in given and _is_required(f)]
            reason = f"misses {', '.join(missing)}" if missing else "has a value of the wrong type"
            raise ContractError(f"the {cls.FAMILY} {reason}", code="field.form") from None

    @classmethod
    def received(cls, datum: Mapping[str, Any]) -> Self:
        """From what a newer broker may send: fields that this client does not know yet are left out, at any depth."""
        return cls.from_datum(_known(cls, datum))


def milliseconds(moment: datetime) -> int:
    """Milliseconds since 1970; a time without zone is taken as UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH_TIME) // timedelta(milliseconds=1)


def _is_record(value: Any) -> bool:
    return is_dataclass(value)


def _is_required(declared: Any) -> bool:
    return declared.default is MISSING and declared.default_factory is MISSING


def _to_plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return milliseconds(value)
    if isinstance(value, date):
        return (value - _EPOCH).days
    if isinstance(value, tuple):
        return [_to_plain(item) for item in value]
    if _is_record(value):
        return {f.name: _to_plain(getattr(value, f.name)) for f in fields(value)}
    return value


def _to_json(value: Any) -> Any:
    if isinstance(value, date):  # datetime is one
        return value.isoformat()
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    if _is_record(value):
        return {f.name: _to_json(getattr(value, f.name)) for f in fields(value)}
    return value


def _date(value: Any) -> date:
    return date.fromisoformat(value) if isinstance(value, str) else _EPOCH + timedelta(days=value)


def _datetime(value: Any) -> datetime:
    if isinstance(value, str):
        return datetime.fromisoformat(value)
    return _EPOCH_TIME + timedelta(milliseconds=value)


def _read(record: type, datum: Mapping[str, Any]) -> dict[str, Any]:
    readers = _readers(record)
    return {
        name: value if value is None or name not in readers else readers[name](value) for name, value in datum.items()
    }


@cache
def _readers(record: type) -> Mapping[str, _Read]:
    """Fields of a record whose plain value is not what the record holds, each with the way to make it."""
    hints = get_type_hints(record)
    found = {f.name: _reader(hints[f.name], f"the record {f.name}") for f in fields(record)}
    return MappingProxyType({name: read for name, read in found.items() if read is not None})


def _reader(hint: Any, where: str) -> _Read | None:
    inner, is_list = _inside(hint)
    read: _Read | None = {date: _date, datetime: _datetime}.get(inner)
    if _is_record(inner):

        def read(value: Any) -> Any:
            _refuse_unknown(inner, value, where)
            return inner(**_read(inner, value))

    if not is_list:
        return read

    def read_list(items: Any) -> Any:
        if not isinstance(items, list | tuple):  # a text is a list of letters too
            raise TypeError("not a list")
        return tuple(items) if read is None else tuple(read(item) for item in items)

    return read_list


def _inside(hint: Any) -> tuple[Any, bool]:
    """What a type holds when it is not None, and whether it is a tuple of those."""
    present = [option for option in get_args(hint) if option is not NoneType]
    if get_origin(hint) is not tuple and present:
        (hint,) = present
    is_list = get_origin(hint) is tuple
    return (get_args(hint)[0] if is_list else hint), is_list


@cache
def _records_in(record: type) -> Mapping[str, tuple[type, bool]]:
    """Fields that hold records, with the record's type and whether it is a list of them."""
    hints = get_type_hints(record)
    found = {f.name: _inside(hints[f.name]) for f in fields(record)}
    return MappingProxyType({name: pair for name, pair in found.items() if _is_record(pair[0])})


def _refuse_unknown(record: Any, datum: Any, where: str) -> None:
    if not isinstance(datum, Mapping):  # else its letters would be taken for names, and told
        raise TypeError("not a record")
    names = [f.name for f in fields(record)]
    unknown = sorted(set(datum) - set(names))
    if unknown:
        raise ContractError(
            f"{where} has no field {unknown[0]!r}; it has: {', '.join(names)}", code="field.unknown", field=unknown[0]
        )


def _known(record: Any, datum: Mapping[str, Any]) -> dict[str, Any]:
    known = {f.name for f in fields(record)}
    found = {name: value for name, value in datum.items() if name in known}
    for name, (inner, is_list) in _records_in(record).items():
        value = found.get(name)
        if value is not None:
            found[name] = [_known(inner, item) for item in value] if is_list else _known(inner, value)
    return found
