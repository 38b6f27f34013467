"""The trace that an event belongs to (W3C Trace Context): given, or that of OpenTelemetry where a program uses it."""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from typing import Any, Final

from broker.errors import ContractError

_FORM: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def require_traceparent(given: str) -> str:
    """The same, if it has its form.

    Raises:
        ContractError: `trace.form`. The text is not repeated: what was taken for a trace may be anything.
    """
    if not _FORM.fullmatch(given):
        raise ContractError(
            "a traceparent is 00-<32 hex>-<16 hex>-<2 hex> in lower case, neither part all zeroes", code="trace.form"
        )
    return given


def current_traceparent() -> str | None:
    """That of OpenTelemetry's current span; None where `opentelemetry-api` is not installed, or no span is current."""
    tracing = _opentelemetry()
    if tracing is None:
        return None
    span = tracing.get_current_span().get_span_context()
    if not span.is_valid:
        return None
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{int(span.trace_flags):02x}"


@cache
def _opentelemetry() -> Any:
    """No dependency of ours: a program that traces has it."""
    try:
        return import_module("opentelemetry.trace")
    except ImportError:
        return None
