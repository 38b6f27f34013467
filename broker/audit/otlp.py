"""Lines of the Logboek as OTLP, the transport that the standard recommends: protobuf of OpenTelemetry, and no SDK.

An SDK would sample, and drop what does not fit into its queue; the standard forbids both. So only the messages are
used (package opentelemetry-proto, extra `ldv`), and the request's bytes are sent as they are made here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from broker.audit.ldv import LdvLine, Pairs, Status
from broker.errors import ConfigError, ContractError

CONTENT_TYPE: Final = "application/x-protobuf"
SCOPE: Final = ("ldv", "1.0.0")
NS_PER_MS: Final = 1_000_000
CODES: Final[Mapping[Status, int]] = {Status.UNSET: 0, Status.OK: 1, Status.ERROR: 2}
_INTERNAL: Final = 1  # SpanKind: the Logboek has no word for kinds


@dataclass(frozen=True, slots=True)
class Answer:
    """What a collector says of a request that it took.

    Args:
        rejected: how many lines it did not take after all.
        warned: whether it says something more. What it says is not kept: it could quote a line.
    """

    rejected: int
    warned: bool


def request_of(lines: Iterable[LdvLine]) -> bytes:
    """Write an `ExportTraceServiceRequest`: a `ResourceSpans` for each resource, spans in the order of the lines.

    The same lines give the same bytes (protobuf's deterministic form, with one version of the package).

    Raises:
        ConfigError: `ldv.extra`, the package is not installed.
    """
    service = _messages()
    request = service.ExportTraceServiceRequest()
    groups: dict[Pairs, Any] = {}
    for line in lines:
        spans = groups.get(line.resource)
        if spans is None:
            resource_spans = request.resource_spans.add()
            _put(resource_spans.resource.attributes, line.resource)
            scope = resource_spans.scope_spans.add()
            scope.scope.name, scope.scope.version = SCOPE
            spans = groups[line.resource] = scope.spans
        span = spans.add(
            trace_id=line.trace_id,
            span_id=line.span_id,
            parent_span_id=line.parent_span_id or b"",
            name=line.name,
            kind=_INTERNAL,
            start_time_unix_nano=line.start_ms * NS_PER_MS,
            end_time_unix_nano=line.end_ms * NS_PER_MS,
        )
        span.status.code = CODES[line.status]
        _put(span.attributes, line.attributes)
    return bytes(request.SerializeToString(deterministic=True))


def answer_of(body: bytes) -> Answer:
    """Read an `ExportTraceServiceResponse`.

    Raises:
        ContractError: `otlp.answer`, it is something else. ConfigError: `ldv.extra`.
    """
    service = _messages()
    answer = service.ExportTraceServiceResponse()
    try:
        answer.ParseFromString(body)
    except _decode_error() as error:
        raise ContractError("The answer is not an ExportTraceServiceResponse.", code="otlp.answer") from error
    partial = answer.partial_success
    return Answer(int(partial.rejected_spans), bool(partial.error_message))


def require_messages() -> None:
    """See that OTLP can be written, before anything is read.

    Raises:
        ConfigError: `ldv.extra`.
    """
    _messages()


def _put(target: Any, pairs: Pairs) -> None:
    for name, value in sorted(pairs):
        attribute = target.add()
        attribute.key, attribute.value.string_value = name, value


@cache
def _messages() -> Any:
    """The generated module, imported when it is needed: who exports nothing needs no protobuf."""
    try:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
    except ImportError:
        raise ConfigError(
            "To export lines of the Logboek the package opentelemetry-proto is needed, and it is not installed. "
            "Install it with: pip install 'eck-broker[ldv]'",
            code="ldv.extra",
        ) from None
    return trace_service_pb2


def _decode_error() -> type[Exception]:
    from google.protobuf.message import DecodeError

    error: type[Exception] = DecodeError
    return error
