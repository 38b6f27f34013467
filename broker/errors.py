"""Errors, by who must act.

    BrokerError
    ├── ConfigError      operator: a setting, a registry or a schema is wrong
    ├── FieldError
    │   ├── ContractError    a party's data is wrong: quarantine, never a crash
    │   └── AccessDenied     a gate said no: refusal
    ├── TransientError   nothing is wrong with the data: try again later
    └── Fenced           another worker owns this lane now: stop writing

Every error carries a stable `code`, and where it is known the topic, partition and offset of the
record it is about. **None ever carries a value from a record**: an exception's text ends in logs.
"""

from __future__ import annotations


class BrokerError(Exception):
    """Base of all errors this package raises on purpose.

    Args:
        message: what happened, where, and what to do; a sentence without personal data.
        code: stable, dotted, lower case; listed in `docs/reference/outcomes.md` where a party sees it.
        topic, partition, offset: of the record concerned, if there is one.
    """

    default_code = "error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        topic: str | None = None,
        partition: int | None = None,
        offset: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.topic, self.partition, self.offset = topic, partition, offset

    def __str__(self) -> str:
        where = "" if self.topic is None else f" [{self.topic}/{self.partition}@{self.offset}]"
        return f"{super().__str__()}{where}"


class ConfigError(BrokerError):
    """A setting, key, registry entry or schema that an operator must correct."""

    default_code = "config"


class FieldError(BrokerError):
    """Base of the errors about one event.

    Args:
        field: the schema's name of the field concerned, never its value.
        rule: the rule, agreement or connection that decided.
    """

    def __init__(
        self, message: str, *, code: str | None = None, field: str | None = None, rule: str | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.field, self.rule = field, rule


class ContractError(FieldError):
    """A record that breaks the wire format or its schema."""

    default_code = "contract"


class AccessDenied(FieldError):
    """A gate that does not let the record or the request pass."""

    default_code = "denied"


class TransientError(BrokerError):
    """Something outside the record is unavailable for now; the same work may be tried again."""

    default_code = "transient"


class Fenced(BrokerError):
    """Another worker took this lane over."""

    default_code = "fenced"


def told(error: BaseException) -> str:
    """What may be logged of an error: our own say what to do, the text of another may hold anything."""
    return str(error) if isinstance(error, BrokerError) else type(error).__name__
