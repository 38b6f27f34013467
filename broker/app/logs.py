"""JSON logs that cannot tell about a person.

Two rules, for our own lines and for those of the libraries: only keys of an allow-list pass, and in texts everything
that looks like an ECK iD, a PGN, a hash or a token is replaced. Of an exception only its type and the place in the
code are logged: its text may quote what it stumbled over.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterable, MutableMapping
from copy import copy
from types import TracebackType
from typing import Any, Final

import structlog

ALLOWED: Final = frozenset({
    "address", "age_s", "at", "blocked", "bytes", "code", "end", "error", "event", "evidence", "expected",
    "failures", "first", "flows", "group", "hour", "http_port", "kept", "lane", "lanes", "last", "leaves", "level",
    "log", "logger", "new", "next_offset", "number", "offset", "origin", "parked", "parties", "partition",
    "partitions", "position", "reason", "records", "resumed", "retry_s", "rule", "seconds", "signal", "since",
    "size", "start", "text", "timestamp", "topic", "version", "window", "witness",
})  # fmt: skip
SPARSE_S: Final = 10.0
HIDDEN: Final = "[hidden]"
MOST_CHARS: Final = 1_000
_TELLING: Final = re.compile(
    r"https?://ketenid\.nl/\S*"
    r"|\b[0-9A-Fa-f]{40,}\b"  # hashes and pseudonyms; a version of ours has 32
    r"|(?<![0-9A-Za-z.])[0-9]{8,9}(?![0-9A-Za-z])"  # BSN, onderwijsnummer
    r"|[A-Za-z0-9+/_=-]{43,}"  # base64 of 32 bytes and more
    r"|(?=[a-z0-9+/_-]*[A-Z])(?=[A-Z0-9+/_-]*[a-z])(?=[A-Za-z+/_-]*[0-9])[A-Za-z0-9+/_-]{22,}={0,2}"
)
_VERSION: Final = re.compile(r"sha256:[0-9a-f]{32,64}")
# Line ends and escape sequences of terminals among them; and halves of characters, which no encoding takes.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
# Nobody sees them, but they change how a text reads, or stand between the digits of a number.
_INVISIBLE: Final = re.compile(r"[\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]+")
_PLAIN: Final = re.compile(r"[A-Za-z0-9._:/#@ -]{1,120}")

Event = MutableMapping[str, Any]


def scrub(text: str) -> str:
    """Replace what looks like an identifier of a person, a hash or a token, and what is no plain text of one line.

    A log is read in terminals, by programs and by people in a hurry: nobody may write a second line into it, colour it,
    or fill it.
    """
    # Cut afterwards: the half of an identifier would not be recognised.
    plain = _TELLING.sub(HIDDEN, _CONTROL.sub(" ", _INVISIBLE.sub("", text)))
    return plain if len(plain) <= MOST_CHARS else f"{plain[:MOST_CHARS]}…"


def redact(_logger: Any, _method: str, event: Event) -> Event:
    """Structlog processor: the allow-list, and `scrub` for every text, of which the beginning is enough."""
    for key in [key for key in event if key not in ALLOWED]:
        del event[key]
    for key, value in event.items():
        if value is None or isinstance(value, bool | int | float) or key == "timestamp":
            continue
        known = key == "version" and _VERSION.fullmatch(str(value))  # of the registry: public, and looks like a hash
        event[key] = value if known else scrub(str(value))
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
    handler.addFilter(_Sparse())
    handler.setFormatter(
        _Formatter(
            foreign_pre_chain=[_foreign, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    logging.raiseExceptions = False  # else a line that cannot be formatted is shown with all its arguments
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    # Our own lines come through loggers named after our modules.
    logging.getLogger("broker").setLevel(level.upper())
    logging.getLogger("broker.app.worker").setLevel(logging.WARNING)  # what mode says in our service's name


class _Sparse(logging.Filter):
    """Lets the same line of a library pass once in ten seconds: without Kafka aiokafka writes a hundred a second."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging.Filter."""
        if isinstance(record.msg, dict):  # ours
            return True
        key, now = (record.name, str(record.msg)), time.monotonic()
        if now - self._last.get(key, float("-inf")) < SPARSE_S:
            return False
        self._last[key] = now
        return True


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Makes the lines of libraries harmless before anything puts their arguments into a text."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        if isinstance(record.msg, dict):  # ours
            return super().format(record)
        tame = copy(record)
        tame.msg, tame.args = _text_of(record), None
        return super().format(tame)


def _text_of(record: logging.LogRecord) -> str:
    template = str(record.msg)
    arguments = record.args if isinstance(record.args, tuple) else ()
    try:
        text = template % tuple(_harmless(arguments)) if arguments else template
    except (TypeError, ValueError, KeyError):
        text = template
    return text.partition("\n")[0]


def _foreign(_logger: Any, _method: str, event: Event) -> Event:
    event["text"], event["event"] = event["event"], "library.log"
    event["logger"] = event["_record"].name
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
