"""Tests of `broker.audit.otlp`: the golden request, round trips, and what a collector answers."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit import otlp
from broker.audit.ldv import MAX_MS, LdvLine, Status, line_of
from broker.audit.otlp import Answer, answer_of, request_of
from broker.errors import ConfigError, ContractError
from tests.audit.lines import DELIVERED, PERSONAL, RECEIVED, written

service: Any = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

STATUSES = {0: Status.UNSET, 1: Status.OK, 2: Status.ERROR}


def lines_in(request: bytes) -> list[LdvLine]:
    """What a collector reads: the mapping the other way round, written apart from ours."""
    message = service.ExportTraceServiceRequest.FromString(request)
    return [
        LdvLine(
            trace_id=span.trace_id, span_id=span.span_id, parent_span_id=span.parent_span_id or None,
            status=STATUSES[span.status.code], name=span.name,
            start_ms=span.start_time_unix_nano // 10**6, end_ms=span.end_time_unix_nano // 10**6,
            attributes=tuple((a.key, a.value.string_value) for a in span.attributes),
            resource=tuple((a.key, a.value.string_value) for a in group.resource.attributes),
        )
        for group in message.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]  # fmt: skip


def test_the_golden_request() -> None:
    """The two lines of the audit design as one request: 883 bytes with the hash of section 1.3."""
    request = request_of([line_of(RECEIVED), line_of(DELIVERED)])
    assert len(request) == 883
    assert sha256(request).hexdigest() == "00c4d1932b5018a09935bb09de823f8bd15edf8fcf6a6c0e031d361ee2f1182c"


def test_a_line_stands_in_the_request_as_the_mapping_says() -> None:
    """Raw ids, nanoseconds, kind INTERNAL, scope ldv 1.0.0, one group for one resource."""
    message = service.ExportTraceServiceRequest.FromString(request_of([line_of(RECEIVED), line_of(DELIVERED)]))
    (group,) = message.resource_spans
    (scope,) = group.scope_spans
    assert (scope.scope.name, scope.scope.version) == ("ldv", "1.0.0")
    span = scope.spans[1]
    assert span.trace_id.hex() == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert span.start_time_unix_nano == 1795305600001 * 10**6
    assert span.kind == 1
    assert [a.key for a in span.attributes] == sorted(json.loads(DELIVERED)["ldv"]["attributes"])
    assert all(a.value.HasField("string_value") for a in span.attributes)


IDS = {size: st.binary(min_size=size, max_size=size).filter(any) for size in (8, 16)}
PAIRS = st.dictionaries(st.text("abc.", min_size=1, max_size=9), st.text(st.characters(exclude_categories=["Cs"]))).map(
    lambda found: tuple(sorted(found.items()))
)
LINES = st.builds(
    LdvLine, trace_id=IDS[16], span_id=IDS[8], parent_span_id=st.none() | IDS[8], status=st.sampled_from(Status),
    name=st.text(st.characters(exclude_categories=["Cs"])), start_ms=st.integers(0, MAX_MS), end_ms=st.integers(0, MAX_MS),
    attributes=PAIRS, resource=PAIRS,
)  # fmt: skip


@given(st.lists(LINES, max_size=5))
def test_what_is_written_can_be_read_back(lines: list[LdvLine]) -> None:
    """Every field of every line, in order within one resource; the same lines are the same bytes."""
    request = request_of(lines)
    first = {line.resource: number for number, line in reversed(list(enumerate(lines)))}
    assert lines_in(request) == sorted(lines, key=lambda line: first[line.resource])
    assert request_of(iter(lines)) == request


def test_what_the_exchange_writes_can_be_read_back_and_holds_no_value_of_a_person() -> None:
    """Leaves of every outcome."""
    lines = [line_of(leaf) for leaf in written()]
    request = request_of(lines)
    assert lines_in(request) == lines
    assert [value for value in PERSONAL if value.encode() in request] == []
    assert b"data_subject_id" in request


def test_nothing_but_the_line_is_exported() -> None:
    """Our evidence stays here: schools, versions, commitments, names of attributes."""
    request = request_of([line_of(DELIVERED)])
    evidence = json.loads(DELIVERED)["x"]
    texts = [value for value in evidence.values() if isinstance(value, str)] + evidence["kept"] + evidence["dropped"]
    assert [text for text in texts if text.encode() in request] == []


# ---- answers


def test_an_answer_says_how_many_lines_were_not_taken() -> None:
    """An empty message is the usual answer; a warning is seen, its text is not kept."""
    assert answer_of(b"") == Answer(0, warned=False)
    given = service.ExportTraceServiceResponse()
    given.partial_success.rejected_spans = 3
    assert answer_of(given.SerializeToString()) == Answer(3, warned=False)
    given.partial_success.rejected_spans = 0
    given.partial_success.error_message = "slow down"
    assert answer_of(given.SerializeToString()) == Answer(0, warned=True)


def test_what_is_no_answer_is_told_without_a_word_of_it() -> None:
    """Such as a page of a proxy."""
    with pytest.raises(ContractError) as caught:
        answer_of(b"<html>Emma</html>")
    assert caught.value.code == "otlp.answer"
    assert "Emma" not in str(caught.value)


# ---- the package


def test_without_the_package_it_is_told_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is needed, and not before."""
    monkeypatch.setitem(sys.modules, "opentelemetry.proto.collector.trace.v1", None)
    otlp._messages.cache_clear()
    try:
        with pytest.raises(ConfigError, match=r"pip install 'eck-broker\[ldv\]'") as caught:
            request_of([])
    finally:
        otlp._messages.cache_clear()
    assert caught.value.code == "ldv.extra"


def test_importing_our_module_loads_no_protobuf() -> None:
    """Who exports nothing needs no package."""
    code = (
        "import sys, broker.audit.otlp; print([m for m in sys.modules if m.startswith(('google.', 'opentelemetry'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
