"""The trace of an event, as the client takes it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import pytest

from broker.client.tracing import _opentelemetry, current_traceparent, require_traceparent
from broker.errors import ContractError

GOOD = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def fresh() -> Iterator[None]:
    """Whether OpenTelemetry is there is looked at anew, before and after."""
    _opentelemetry.cache_clear()
    yield
    _opentelemetry.cache_clear()


def span(trace_id: int, span_id: int, flags: int) -> ModuleType:
    """`opentelemetry.trace` as its API has it, with this span current."""
    module = ModuleType("opentelemetry.trace")
    context = SimpleNamespace(trace_id=trace_id, span_id=span_id, trace_flags=flags, is_valid=trace_id != 0)
    module.get_current_span = lambda: SimpleNamespace(get_span_context=lambda: context)  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize(
    "given",
    [
        "",
        "Emma",
        GOOD.upper(),
        GOOD + "\n",
        "01" + GOOD[2:],
        "00-" + "0" * 32 + GOOD[35:],
        GOOD[:36] + "0" * 16 + "-01",
    ],
    ids=["empty", "text", "upper", "newline", "version", "no trace", "no span"],
)
def test_a_given_trace_of_another_form_is_refused_and_not_repeated(given: str) -> None:
    """A program's mistake shows at once; what it took for a trace is not in the message."""
    with pytest.raises(ContractError) as error:
        require_traceparent(given)
    assert error.value.code == "trace.form"
    assert not given.strip() or given.strip() not in str(error.value)


def test_a_given_trace_is_taken_as_it_is() -> None:
    """W3C's own example."""
    assert require_traceparent(GOOD) == GOOD


@pytest.mark.usefixtures("fresh")
def test_the_current_span_of_opentelemetry_is_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """With leading zeroes and its flags; without a span there is no trace."""
    trace, parent = int(GOOD[3:35], 16), int(GOOD[36:52], 16)
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", span(trace, parent, 1))
    assert current_traceparent() == GOOD
    _opentelemetry.cache_clear()
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", span(0, 0, 0))
    assert current_traceparent() is None


@pytest.mark.usefixtures("fresh")
def test_without_opentelemetry_there_is_no_trace_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no dependency."""
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    assert current_traceparent() is None
