"""Reads an untrusted XML file as a stream of bounded, entity-free elements.

What protects us, in the order a byte meets it:

1. Size: no more than `Limits.file_bytes` are read.
2. Encoding: decoded here, strictly, from a short list; libxml2 gets UTF-8 and guesses nothing.
3. A document type or entity declaration anywhere is refused before the parser sees it (so no billion laughs,
   no external entity). Anywhere includes comments and CDATA: a class list has no use for the words.
4. libxml2 with its own bounds (`huge_tree` off), no network, no DTD loading, no entity resolution. XInclude
   is not processed, and refused.
5. Depth and text length; every element is emptied once read, so memory does not grow with the file.

Source for the danger list: OWASP XML External Entity Prevention Cheat Sheet; lxml FAQ, "How do I use lxml
safely as a web-service endpoint?".
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal, Protocol, cast

from lxml import etree

from broker.errors import ConfigError

__all__ = ["Event", "Limits", "Refusal", "XmlElement", "elements"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one class list may ask of us.

    Attributes:
        file_bytes: of the file as it is stored.
        depth: of nested elements; EDEXML 2.1 needs 7, UWLR in its envelope 10, supplier additions some more.
        text_chars: of one element's text; the standard leaves only comments and additions unbounded.
        records: pupils, employees, groups and locations together.
        references: groups one pupil or employee is in.
        problems: problems listed, and warnings listed; the count of the rest is not kept.
    """

    file_bytes: int = 256 * 1024 * 1024
    depth: int = 32
    text_chars: int = 65_536
    records: int = 200_000
    references: int = 1_000
    problems: int = 500


class Refusal(Exception):
    """The file cannot be read further. Holds a line, an element of the standard and a reason, never a value."""

    def __init__(self, line: int, reason: str, element: str = "file") -> None:
        super().__init__(reason)
        self.line, self.element, self.reason = line, element, reason


class XmlElement(Protocol):
    """What we use of an lxml element (the published stubs miss some of it)."""

    tag: str
    text: str | None
    tail: str | None
    sourceline: int | None

    @property
    def attrib(self) -> Mapping[str, str]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> XmlElement: ...
    def get(self, key: str, /) -> str | None: ...
    def getparent(self) -> XmlElement | None: ...
    def getprevious(self) -> XmlElement | None: ...
    def remove(self, child: XmlElement, /) -> None: ...
    def clear(self, keep_tail: bool = False) -> None: ...


Event = tuple[Literal["start", "end"], XmlElement, int]
"""What happened, to which element, and the element's line."""

_CHUNK_BYTES: Final = 64 * 1024
_BOMS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_ENCODINGS: Final = frozenset({"utf-8", "ascii", "iso8859-1", "iso8859-15", "cp1252"})
_declared_encoding = re.compile(rb"""<\?xml\s[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._:-]{1,40})["']""").match
_forbidden = re.compile(r"<!(DOCTYPE|ENTITY)").search
_OVERLAP_CHARS: Final = len("<!DOCTYPE") - 1
_XINCLUDE: Final = "{http://www.w3.org/2001/XInclude}"


@contextmanager
def _opened(source: Path | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(source, Path):
        try:
            file = source.open("rb")
        except OSError as problem:
            raise ConfigError(f"The class list cannot be opened: {problem.strerror}.", code="class_list.open") from None
        with file:
            yield file
    else:
        source.seek(0)
        yield source


def elements(source: Path | BinaryIO, limits: Limits) -> Iterator[Event]:
    """Give each element at its start and at its end, with its line.

    At the end an element's attributes and text are complete and its children already emptied; once the
    caller asks for the next event they are gone.

    Raises:
        Refusal: the file is not well-formed, too large, in an encoding we do not take, or dangerous.
        ConfigError: the file cannot be opened.
    """
    with _opened(source) as file:
        parser = etree.XMLPullParser(
            events=("start", "end"),
            encoding="utf-8",
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            dtd_validation=False,
            attribute_defaults=False,
            huge_tree=False,
            recover=False,
            remove_comments=True,
            remove_pis=True,
            collect_ids=False,
        )
        for chunk in _text(file, limits.file_bytes):
            _feed(parser, chunk)
            yield from _events(parser, limits)
        _feed(parser, None)
        yield from _events(parser, limits)


def _feed(parser: etree.XMLPullParser, chunk: str | None) -> None:
    try:
        if chunk is None:
            parser.close()
        else:
            parser.feed(chunk.encode())
    except etree.XMLSyntaxError as problem:
        refusal = _not_well_formed(problem)
    else:
        return
    # Outside the `except`, so that libxml2's message, which may quote the file, is not the context of ours.
    raise refusal


def _not_well_formed(problem: etree.XMLSyntaxError) -> Refusal:
    entry = getattr(problem.error_log, "last_error", None)
    if entry is None:
        return Refusal(problem.lineno or 1, "not well-formed XML")
    # The error that ends the parse can be a later one without a line; the log has the first cause.
    return Refusal(entry.line or problem.lineno or 1, f"not well-formed XML ({entry.type_name})")


def _events(parser: etree.XMLPullParser, limits: Limits) -> Iterator[Event]:
    for event, element in cast("Iterator[tuple[str, XmlElement]]", parser.read_events()):
        line = element.sourceline or 1
        parent = element.getparent()
        if event == "start":
            if element.tag.startswith(_XINCLUDE):
                raise Refusal(line, "XInclude is not accepted")
            if _deeper(parent, limits.depth):
                raise Refusal(line, f"elements are nested more than {limits.depth} deep")
            yield "start", element, line
            continue
        if element.text is not None and len(element.text) > limits.text_chars:
            raise Refusal(line, f"a text is longer than {limits.text_chars} characters")
        yield "end", element, line
        element.clear(keep_tail=True)
        previous = element.getprevious()
        if previous is not None and parent is not None:
            parent.remove(previous)


def _deeper(parent: XmlElement | None, depth: int) -> bool:
    """Tell whether an element under this parent is nested deeper than allowed."""
    while parent is not None and depth > 0:
        parent, depth = parent.getparent(), depth - 1
    return depth == 0


def _text(file: BinaryIO, max_bytes: int) -> Iterator[str]:
    """Decode the file strictly and refuse document types and entities.

    A byte-order mark outweighs the declaration (XML 1.0 section 4.3.3 calls a conflict an error; exports
    that were opened and saved in an editor have it, and the mark is what the editor wrote).
    """
    data = file.read(_CHUNK_BYTES)
    encoding, skip = _encoding(data)
    decoder = codecs.getincrementaldecoder(encoding)(errors="strict")
    data, size, lines, tail = data[skip:], skip, 0, ""
    while True:
        size += len(data)
        if size > max_bytes:
            raise Refusal(lines + 1, f"the file is larger than {max_bytes} bytes")
        text = _decode(decoder, encoding, data, lines + 1)
        window = tail + text
        forbidden = _forbidden(window)
        if forbidden is not None:
            line = lines + 1 - tail.count("\n") + window.count("\n", 0, forbidden.start())
            what = "document type" if forbidden[1] == "DOCTYPE" else "entity"
            raise Refusal(line, f"a {what} declaration ({forbidden[0]}) is not accepted")
        lines += text.count("\n")
        if text:
            yield text
        if not data:
            return
        tail = window[-_OVERLAP_CHARS:]
        data = file.read(_CHUNK_BYTES)


def _decode(decoder: codecs.IncrementalDecoder, encoding: str, data: bytes, line: int) -> str:
    """Decode the next bytes; a `UnicodeDecodeError` holds the bytes themselves, so it ends here."""
    try:
        return decoder.decode(data, final=not data)
    except UnicodeDecodeError as problem:
        line += problem.object.count(b"\n", 0, problem.start)
    raise Refusal(line, f"bytes that are not valid in the encoding of the file, {encoding}")


def _encoding(start: bytes) -> tuple[str, int]:
    """Give the encoding and the length of the byte-order mark."""
    for mark, name in _BOMS:
        if start.startswith(mark):
            return name, len(mark)
    declared = _declared_encoding(start[:512])
    if declared is None:
        return "utf-8", 0
    try:
        name = codecs.lookup(declared[1].decode("ascii")).name
    except LookupError:
        name = ""
    if name not in _ENCODINGS:
        accepted = "UTF-8, UTF-16 with byte-order mark, ISO-8859-1, ISO-8859-15, windows-1252"
        raise Refusal(1, f"the declared encoding is not accepted; accepted are {accepted}")
    return name, 0
