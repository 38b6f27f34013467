"""JSON logs that cannot tell about a person.

Two rules, for our own lines and for those of the libraries: only keys of an allow-list pass, and in texts everything
that looks like an ECK iD, a PGN, a hash or a token is replaced. Of an exception only its type and the place in the
code are logged: its text may quote what it stumbled over.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, MutableMapping
from types import TracebackType
from typing import Any, Final

import structlog

ALLOWED: Final = frozenset({
    "age_s", "at", "bytes", "code", "end", "error", "event", "expected", "failures", "first", "group", "http_port",
    "lane", "lanes", "last", "level", "logger", "next_offset", "offset", "parked", "partition", "partitions", "reason",
    "records", "resumed", "retry_s", "seconds", "signal", "start", "text", "timestamp", "topic", "version",
})  # fmt: skip
HIDDEN: Final = "[hidden]"
_TELLING: Final = re.compile(
    r"https?://ketenid\.nl/\S*"
    r"|\b[0-9A-Fa-f]{40,}\b"  # hashes and pseudonyms; a version of ours has 32
    r"|(?<![0-9A-Za-z.])[0-9]{8,9}(?![0-9A-Za-z])"  # BSN, onderwijsnummer
    r"|[A-Za-z0-9+/_=-]{43,}"  # base64 of 32 bytes and more
    r"|(?=[a-z0-9+/_-]*[A-Z])(?=[A-Z0-9+/_-]*[a-z])(?=[A-Za-z+/_-]*[0-9])[A-Za-z0-9+/_-]{22,}={0,2}"
)
_PLAIN: Final = re.compile(r"[A-Za-z0-9._:/#@ -]{1,120}")

Event = MutableMapping[str, Any]


def scrub(text: str) -> str:
    """Replace what looks like an identifier of a person, a hash or a token."""
    return _TELLING.sub(HIDDEN, text)


def redact(_logger: Any, _method: str, event: Event) -> Event:
    """Structlog processor: the allow-list, and `scrub` for every text."""
    for key in [key for key in event if key not in ALLOWED]:
        del event[key]
    for key, value in event.items():
        if value is not None and not isinstance(value, bool | int | float):
            event[key] = value if key == "timestamp" else scrub(str(value))
    return event


def without_traceback(_logger: Any, _method: str, event: Event) -> Event:
    """Structlog processor: of an exception its type and the place, nothing it says."""
    info = event.pop("exc_info", None)
    error = sys.exc_info()[1] if info is True else info[1] if isinstance(info, tuple) else info
    event.pop("stack_info", None)
    if isinstance(error, BaseException):
        event.setdefault("error", type(error).__name__)
        event.setdefault("at", _place(error.__traceback__))
    return event


def configure(level: str = "info", stream: Any = None) -> None:
    """Send everything to stderr, one JSON object a line, in this form."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        without_traceback,
    ]
    final: list[Any] = [redact, structlog.processors.JSONRenderer(sort_keys=True)]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_foreign, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    # Our own lines come through loggers named after our modules.
    logging.getLogger("broker").setLevel(level.upper())
    logging.getLogger("broker.app.worker").setLevel(logging.WARNING)  # what mode says in our service's name


def _foreign(_logger: Any, _method: str, event: Event) -> Event:
    """A line of a library: its template, filled only with what is plainly harmless."""
    record: logging.LogRecord = event["_record"]
    event["logger"] = record.name
    event["event"] = "library.log"
    template = str(record.msg)
    arguments = record.args if isinstance(record.args, tuple) else ()
    try:
        text = template % tuple(_harmless(arguments)) if arguments else template
    except (TypeError, ValueError, KeyError):
        text = template
    event["text"] = text.partition("\n")[0]
    return event


def _harmless(arguments: Iterable[Any]) -> Iterable[Any]:
    for value in arguments:
        if isinstance(value, int | float):
            yield value
        elif isinstance(value, BaseException):
            yield type(value).__name__
        elif isinstance(value, str) and _PLAIN.fullmatch(value):
            yield value
        else:
            yield f"<{type(value).__name__}>"


def _place(trace: TracebackType | None) -> str | None:
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return None if trace is None else f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
