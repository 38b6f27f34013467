"""Walks a class list against the structure of its standard and gives it record by record."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from broker.connectors.shapes import Shape
from broker.connectors.structure import Standard
from broker.connectors.xml_reader import Limits, Refusal, XmlElement, elements
from broker.identity.formats import LAS_KEY_MAX_CHARS

__all__ = ["EMPTY", "ORDER", "Note", "Record", "records"]

ORDER: Final = "element-order"
"""Deviation: the elements of one record stand in another order than the standard's."""

EMPTY: Final = "empty-elements"
"""Deviation: an element without a text, or a list without members, where the standard wants one or no element."""

Note = Callable[[int, str, str, str | None], None]
"""Takes line, element and reason of a breach of the structure, and the deviation it is, if it is one of those above."""

_XSI: Final = "{http://www.w3.org/2001/XMLSchema-instance}"
_SCHEMA_LOCATION: Final = frozenset({f"{_XSI}noNamespaceSchemaLocation", f"{_XSI}schemaLocation"})
_DROPPED: Final = Shape(opaque=True)
# A name without digits, so that no number can hide in one; else only "?" is said.
_speakable = re.compile(r"[A-Za-z][A-Za-z_-]{0,39}").fullmatch


@dataclass(slots=True, repr=False)
class Record:
    """A school, location, group, pupil or employee: what is carried of it.

    Attributes:
        name: of the element.
        line: where it starts.
        key: its key attribute; empty when that is missing.
        eckid: as it stands in the file; None when absent.
        texts: of the children the structure marks `carry`; valid ones only.
        references: name, key and line of groups and locations it refers to.
        pgn_count: personal numbers it held.
    """

    name: str
    line: int
    key: str = ""
    eckid: str | None = None
    texts: dict[str, str] = field(default_factory=dict)
    references: list[tuple[str, str, int]] = field(default_factory=list)
    pgn_count: int = 0

    def __repr__(self) -> str:
        return f"<Record {self.name} line {self.line}>"


@dataclass(slots=True)
class _Frame:
    name: str
    line: int
    shape: Shape
    record: Record | None
    position: int = -1
    filled: set[int] = field(default_factory=set)
    present: set[str] = field(default_factory=set)
    spoiled: bool = False


def records(
    source: Path | BinaryIO, standard: Standard, limits: Limits, note: Note, tolerated: Collection[str] = ()
) -> Iterator[Record]:
    """Give the records in the order of the file, and tell `note` of every breach of the structure.

    Args:
        source: a file, or a seekable stream, read from its start.
        standard: what the file is to be.
        limits: bounds on what it may ask of us.
        note: is told of what `tolerated` holds as well, but then it is read as if it were right.
        tolerated: deviations that do not spoil a record.

    Raises:
        Refusal: the file cannot be read on.
        ConfigError: the file cannot be opened.
    """
    walk = _Walk(standard, limits, note, tolerated)
    for event, element, line in elements(source, limits):
        if event == "start":
            walk.start(element, line)
        else:
            done = walk.end(element)
            if done is not None:
                yield done


class _Walk:
    def __init__(self, standard: Standard, limits: Limits, note: Note, tolerated: Collection[str]) -> None:
        self._standard = standard
        self._limits = limits
        self._tell = note
        self._tolerated = frozenset(tolerated)
        self._stack: list[_Frame] = []

    def start(self, element: XmlElement, line: int) -> None:
        """Find what this element is, given where it stands, and read its attributes."""
        tag = self._standard.element(element.tag)
        if not self._stack:
            frame = self._root(tag, element.tag, line)
        elif self._stack[-1].shape.opaque:
            frame = _Frame("", line, _DROPPED, None)
        elif tag is None:
            self._stack[-1].spoiled = True
            self._note(line, _name(element.tag), "is in a namespace that is not the standard's")
            frame = _Frame("", line, _DROPPED, None)
        else:
            frame = self._child(self._stack[-1], tag, line)
        self._stack.append(frame)
        if not frame.shape.opaque:
            self._attributes(frame, element)
        elif tag == "toevoegingen" and element.attrib:
            self._note(line, tag, "has an attribute the standard does not know here")

    def _note(self, line: int, element: str, reason: str, deviation: str | None = None) -> None:
        self._tell(line, element, reason, deviation)

    def _root(self, tag: str | None, written: str, line: int) -> _Frame:
        shape = self._standard.roots.get(tag or "")
        if tag is not None and shape is not None:
            return _Frame(tag, line, shape, None)
        self._note(line, _name(written), self._standard.wrong_root)
        return _Frame("", line, _DROPPED, None)

    def _child(self, parent: _Frame, tag: str, line: int) -> _Frame:
        known = parent.shape.children.get(tag)
        if known is None:
            self._note(line, _name(tag), f"is not known in {parent.name}")
            parent.spoiled = True
            return _Frame("", line, _DROPPED, None)
        position, shape = known
        if position in parent.filled and position not in parent.shape.many:
            self._note(line, tag, f"may not stand beside another of its kind in {parent.name}")
        elif position < parent.position:
            # Only within a record: whole lists in another order would refer to what is not known yet.
            deviation = ORDER if parent.shape.record else None
            self._note(line, tag, f"is out of order in {parent.name}", deviation)
        parent.filled.add(position)
        parent.position = max(parent.position, position)
        parent.present.add(tag)
        return _Frame(tag, line, shape, Record(tag, line) if shape.record else parent.record)

    def _attributes(self, frame: _Frame, element: XmlElement) -> None:
        for name, value in element.attrib.items():
            if name == "key" and frame.shape.key:
                if len(value) > LAS_KEY_MAX_CHARS:
                    self._note(frame.line, frame.name, f"the key is longer than {LAS_KEY_MAX_CHARS} characters")
            elif name == "eckid" and frame.shape.eckid:
                if len(value) > LAS_KEY_MAX_CHARS:
                    self._note(frame.line, frame.name, f"the eckid is longer than {LAS_KEY_MAX_CHARS} characters")
            elif not (frame.shape.any_attributes or (frame.shape.schema_location and name in _SCHEMA_LOCATION)):
                self._note(frame.line, frame.name, "has an attribute the standard does not know here")
        if frame.shape.key:
            self._key(frame, element.get("key") or "")
        if frame.shape.eckid and frame.record is not None:
            eckid = element.get("eckid")
            frame.record.eckid = None if eckid is None or len(eckid) > LAS_KEY_MAX_CHARS else eckid

    def _key(self, frame: _Frame, key: str) -> None:
        if not key and not frame.shape.keyless:
            self._note(frame.line, frame.name, "the key is missing or empty")
        if frame.record is None or len(key) > LAS_KEY_MAX_CHARS:
            return
        if frame.shape.record:
            frame.record.key = key
        elif key:
            frame.record.references.append((frame.name, key, frame.line))
            if len(frame.record.references) > self._limits.references:
                raise Refusal(frame.line, f"refers to more than {self._limits.references} groups", frame.record.name)

    def end(self, element: XmlElement) -> Record | None:
        """Check what is only known at the end of an element; give the record that is complete now."""
        frame = self._stack.pop()
        shape = frame.shape
        if self._stack and not self._stack[-1].shape.opaque:
            previous = element.getprevious()
            if previous is not None and _says_something(previous.tail):
                self._text_between(self._stack[-1])
        if shape.opaque:
            return None
        if shape.pgn:
            if frame.record is not None and _says_something(element.text):
                frame.record.pgn_count += 1
        elif shape.text is not None:
            self._leaf(frame, shape.text, element.text or "")
        else:
            self._container(frame, element)
        return frame.record if shape.record else None

    def _leaf(self, frame: _Frame, text_check: Callable[[str], str | None], text: str) -> None:
        reason = text_check(text)
        if reason is not None and not _says_something(text):
            self._note(frame.line, frame.name, reason, EMPTY)
            if EMPTY in self._tolerated:
                self._stack[-1].present.discard(frame.name)  # as if it were not there; a required one is missing then
        elif reason is not None:
            self._note(frame.line, frame.name, reason)
        elif frame.shape.carry and frame.record is not None:
            frame.record.texts[frame.name] = text

    def _container(self, frame: _Frame, element: XmlElement) -> None:
        if _says_something(element.text) or (len(element) and _says_something(element[-1].tail)):
            self._text_between(frame)
        # As an administration writes a list with nothing in it. A record is more than a list.
        empty = EMPTY if not frame.present and not frame.shape.record and self._stack else None
        filled = {frame.shape.children[name][0] for name in frame.present}
        for position, name in frame.shape.required.items():
            if position not in filled and not frame.spoiled:
                self._note(frame.line, frame.name, f"{name} is missing", empty)
                if empty in self._tolerated:
                    self._stack[-1].present.discard(frame.name)
        reason = frame.shape.rule(frame.present) if frame.shape.rule is not None else None
        if reason is not None:
            self._note(frame.line, frame.name, reason)

    def _text_between(self, frame: _Frame) -> None:
        if not frame.spoiled:
            self._note(frame.line, frame.name, "has text between its elements")
            frame.spoiled = True


def _says_something(text: str | None) -> bool:
    return text is not None and not text.isspace() and text != ""


def _name(tag: str) -> str:
    name = tag.rpartition("}")[2]
    return name if _speakable(name) is not None else "?"
