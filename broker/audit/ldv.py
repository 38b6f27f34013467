"""The line of Logboek Dataverwerkingen 1.0.0 (Logius, 9 April 2026) in a leaf: read it, hold it against the standard.

The line is the member `ldv` of a leaf; our evidence `x` stands beside it and is no part of it. Each MUST of the
standard's interface is a rule of its own here, with its text; a line that keeps all of them is read, and no other.
What a rule says of a line never quotes it: who reads the sentence need not be allowed to read the line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from broker.audit.leaf import canonical
from broker.errors import ContractError

ACTIVITY: Final = "dpl.core.processing_activity_id"
SUBJECT: Final = "dpl.core.data_subject_id"
SUBJECT_TYPE: Final = "dpl.core.data_subject_id_type"
PROCESSOR: Final = "dpl.core.foreign_operation.processor"
MESSAGE, TYPE, STACKTRACE = "exception.message", "exception.type", "exception.stacktrace"
ATTRIBUTES: Final = frozenset({ACTIVITY, SUBJECT, SUBJECT_TYPE, PROCESSOR, MESSAGE, TYPE, STACKTRACE})
REQUIRED: Final = frozenset({"trace_id", "span_id", "status", "name", "start_time", "end_time", "attributes"})
FIELDS: Final = REQUIRED | {"parent_span_id", "resource"}
#: A time in nanoseconds has to fit into 64 bits (OTLP), which it does until 2554.
MAX_MS: Final = (2**64 - 1) // 1_000_000

#: Leaves that are no line: they are about the log, not about a processing.
OTHERS: Final[Mapping[str, str]] = {
    "control": "a change of the registry or of keys, an incident, or a request to destroy",
    "window": "what a lane did in a minute, counted",
    "count": "a count that a party signed",
    "epoch": "the beginning of a new log, which names the last head of the old one",
    "key": "a change of the log's own key",
    "erased": "that a person's key was destroyed, without saying whose",
}

Pairs = tuple[tuple[str, str], ...]
_Object = Mapping[str, Any]
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{21}[AQgw]")  # 16 bytes of base64url: the last digit has two bits
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s]+")  # RFC 3986, section 3: a scheme, and something in it
_OF_USERS: Final = ("user.", "enduser.")  # OpenTelemetry's names for who was logged in


class Status(StrEnum):
    """How the action ended: `Unset` without a fault of its own, also when it refused; `Error` with one."""

    UNSET = "Unset"
    OK = "Ok"
    ERROR = "Error"


@dataclass(frozen=True, slots=True)
class LdvLine:
    """A line as the standard has it, section "Interface".

    Args:
        trace_id: 16 bytes. span_id, parent_span_id: 8 bytes.
        start_ms, end_ms: milliseconds since 1970.
        attributes, resource: name and value, by name.
    """

    trace_id: bytes
    span_id: bytes
    status: Status
    name: str
    start_ms: int
    end_ms: int
    attributes: Pairs
    parent_span_id: bytes | None = None
    resource: Pairs = ()

    def attribute(self, name: str) -> str | None:
        """The value of an attribute."""
        return dict(self.attributes).get(name)


@dataclass(frozen=True, slots=True)
class Entry:
    """A leaf, as far as the Logboek is concerned.

    Args:
        kind: `ldv`, or one of `OTHERS`.
        line: of a leaf that has one.
        school: BRIN of the school that it is about, as our evidence beside the line says.
    """

    kind: str
    line: LdvLine | None = None
    school: str | None = None


class Rule(NamedTuple):
    """One MUST. `text` is what is told of a line that breaks it; `kept` holds a line against it."""

    name: str
    text: str
    kept: Callable[[_Object], bool]


def entry_of(leaf: bytes) -> Entry:
    """Read a leaf of any kind.

    Raises:
        ContractError: `ldv.leaf`, it is no leaf of ours; `ldv.line`, its line breaks a rule. Without any value.
    """
    document = _document(leaf)
    kind = _kind(document)
    if kind != "ldv":
        return Entry(kind)
    line = document["ldv"]
    broken = _broken(line)
    if broken:
        raise ContractError(
            f"The line does not conform to Logboek Dataverwerkingen 1.0.0: {' '.join(broken)}", code="ldv.line"
        )
    school = document["x"].get("school")
    return Entry(kind, _line(line), school if isinstance(school, str) else None)


def line_of(leaf: bytes) -> LdvLine:
    """Read the line of a leaf that has one.

    Raises:
        ContractError: `ldv.other`, the leaf is of a kind without a line, which is named; else as `entry_of`.
    """
    entry = entry_of(leaf)
    if entry.line is None:
        raise ContractError(
            f"This leaf is no line of the Logboek: it says {OTHERS[entry.kind]} ({entry.kind}).", code="ldv.other"
        )
    return entry.line


def violations(leaf: bytes) -> list[str]:
    """What of the standard a leaf breaks, a sentence for each rule; a leaf of a kind without a line breaks nothing."""
    try:
        document = _document(leaf)
        return _broken(document["ldv"]) if _kind(document) == "ldv" else []
    except ContractError as error:
        return [str(error)]


# ---- the leaf around the line


def _document(leaf: bytes) -> _Object:
    """The JSON of a leaf; canonical, so that no name comes twice and every reader sees the same."""
    document: _Object = {}
    try:
        document = json.loads(leaf, parse_constant=_no_constant, parse_float=_no_constant)
        good = isinstance(document, dict) and canonical(document) == leaf
    except (ValueError, RecursionError):
        good = False
    if not good:
        raise ContractError("The leaf is not canonical JSON (RFC 8785) with an object in it.", code="ldv.leaf")
    return document


def _no_constant(_: str) -> Any:
    raise ValueError


def _kind(document: _Object) -> str:
    members = set(document) - {"v"}
    kinds = members - {"x"}
    kind = next(iter(kinds)) if len(kinds) == 1 else ""
    expected = {"ldv", "x"} if kind == "ldv" else {kind}
    version = document.get("v")
    if type(version) is not int or version != 1 or members != expected or (kind != "ldv" and kind not in OTHERS):
        raise ContractError(
            f"The leaf is neither a line with its evidence (ldv, x) nor one of {', '.join(OTHERS)}, of version 1.",
            code="ldv.leaf",
        )
    if not all(isinstance(document[name], dict) for name in members):
        raise ContractError("A member of the leaf is not an object.", code="ldv.leaf")
    return kind


def _line(line: _Object) -> LdvLine:
    parent = line.get("parent_span_id")
    return LdvLine(
        trace_id=bytes.fromhex(line["trace_id"]),
        span_id=bytes.fromhex(line["span_id"]),
        status=Status(line["status"]),
        name=line["name"],
        start_ms=line["start_time"],
        end_ms=line["end_time"],
        attributes=tuple(sorted(line["attributes"].items())),
        parent_span_id=None if parent is None else bytes.fromhex(parent),
        resource=tuple(sorted(line.get("resource", {}).get("attributes", {}).items())),
    )


# ---- the rules


def _broken(line: _Object) -> list[str]:
    return [rule.text for rule in RULES if not rule.kept(line)]


def _id(value: Any, size: int) -> bool:
    """Lower-case hex of so many bytes, not all zero (W3C Trace Context, section 3.2.2)."""
    return (
        isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{2 * size}}}", value) is not None and value.strip("0") != ""
    )


def _time(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_MS


def _in_order(line: _Object) -> bool:
    start: Any = line.get("start_time")
    end: Any = line.get("end_time")
    return not (_time(start) and _time(end)) or bool(start <= end)


def _attributes(line: _Object) -> _Object:
    """Those of a line; none where they are no object, of which a rule of its own speaks."""
    found = line.get("attributes")
    return found if isinstance(found, dict) else {}


def _resource(line: _Object) -> bool:
    if "resource" not in line:
        return True
    found = line["resource"]
    inner = found.get("attributes") if isinstance(found, dict) and set(found) == {"attributes"} else None
    return isinstance(inner, dict) and all(isinstance(value, str) for value in inner.values())


def _no_user(line: _Object) -> bool:
    found = line.get("resource")
    inner = found.get("attributes") if isinstance(found, dict) else None
    names = [*_attributes(line), *(inner if isinstance(inner, dict) else ())]
    return not any(name.startswith(_OF_USERS) for name in names)


def _known(line: _Object) -> bool:
    return all(name in ATTRIBUTES or name.startswith(_OF_USERS) for name in _attributes(line))


def _texts(line: _Object) -> bool:
    """Those that no other rule is about."""
    return all(isinstance(v, str) and v for k, v in _attributes(line).items() if k in (SUBJECT_TYPE, MESSAGE, TYPE))


def _activity(line: _Object) -> bool:
    value = _attributes(line).get(ACTIVITY)
    return isinstance(value, str) and _URI.fullmatch(value) is not None


def _one_subject(line: _Object) -> bool:
    return isinstance(_attributes(line).get(SUBJECT, ""), str)


def _encrypted(line: _Object) -> bool:
    value = _attributes(line).get(SUBJECT)
    return not isinstance(value, str) or _TOKEN.fullmatch(value) is not None


def _typed(line: _Object) -> bool:
    return (SUBJECT in _attributes(line)) == (SUBJECT_TYPE in _attributes(line))


def _processor(line: _Object) -> bool:
    value = _attributes(line).get(PROCESSOR)
    if value is None:
        return PROCESSOR not in _attributes(line)
    try:
        address = urlsplit(value)
    except (ValueError, TypeError, AttributeError):
        return False
    return isinstance(value, str) and address.scheme in ("http", "https") and bool(address.hostname)


def _fault(line: _Object) -> bool:
    given = {MESSAGE, TYPE} & set(_attributes(line))
    return given == ({MESSAGE, TYPE} if line.get("status") == Status.ERROR else set())


RULES: Final[tuple[Rule, ...]] = (
    Rule("fields", "A line has the fields of the standard's table, all that are required and no others; operation_id "
         "and status_code are names of older versions.",
         lambda line: REQUIRED <= set(line) <= FIELDS),
    Rule("trace", "trace_id is 16 bytes, the same in all applications of one processing: 32 digits of lower-case hex, "
         "not all zero.", lambda line: "trace_id" not in line or _id(line["trace_id"], 16)),
    Rule("span", "span_id is 8 bytes, one for each action: 16 digits of lower-case hex, not all zero.",
         lambda line: "span_id" not in line or _id(line["span_id"], 8)),
    Rule("parent", "parent_span_id, where there is one, is the 8 bytes of the calling action, so never those of the "
         "line itself.",
         lambda line: "parent_span_id" not in line
         or (_id(line["parent_span_id"], 8) and line["parent_span_id"] != line.get("span_id"))),
    Rule("status", "status is Unset, Ok or Error.",
         lambda line: "status" not in line or line["status"] in tuple(Status)),
    Rule("name", "name is a text for people, and not empty.",
         lambda line: "name" not in line or (isinstance(line["name"], str) and line["name"].strip() != "")),
    Rule("start", "start_time is a whole number of milliseconds since 1970, of 64 bits without a sign.",
         lambda line: "start_time" not in line or _time(line["start_time"])),
    Rule("end", "end_time is a whole number of milliseconds since 1970, of 64 bits without a sign.",
         lambda line: "end_time" not in line or _time(line["end_time"])),
    Rule("order", "An action does not end before it begins: end_time is not before start_time.", _in_order),
    Rule("resource", "resource, where there is one, is an object with nothing but attributes, which are texts.",
         _resource),
    Rule("users", "A line never says which user did something: no user.* or enduser.* anywhere.", _no_user),
    Rule("attributes", "attributes is an object.",
         lambda line: "attributes" not in line or isinstance(line["attributes"], dict)),
    Rule("namespace", "attributes are dpl.core.* of the standard, or exception.*: what an extension adds may be used "
         "once that extension is established.", _known),
    Rule("texts", "data_subject_id_type and what is said of an exception are texts, and not empty.", _texts),
    Rule("activity", "dpl.core.processing_activity_id names an entry of the controller's register by its URI.",
         lambda line: not isinstance(line.get("attributes"), dict) or _activity(line)),
    Rule("subjects", "A line is about one person or about none: data_subject_id is one text. Several persons are "
         "several actions, each with a line of its own.", _one_subject),
    Rule("subject", "dpl.core.data_subject_id is a unique, encrypted code: a token of 16 bytes, as base64url.",
         _encrypted),
    Rule("typed", "dpl.core.data_subject_id and dpl.core.data_subject_id_type come together or not at all.", _typed),
    Rule("processor", "dpl.core.foreign_operation.processor is the URL of the other application.", _processor),
    Rule("fault", "exception.message and exception.type are there when status is Error, and only then.", _fault),
    Rule("stacktrace", "exception.stacktrace is not written: it may quote a person's data.",
         lambda line: STACKTRACE not in _attributes(line)),
)  # fmt: skip
