"""Answers as JSON, and back: each row with what proves it.

{"rows": [{"log": origin, "index": 7, "entry": the leaf, "path": [base64, ...]},
          {"log": origin, "index": 8, "problem": why it is not proven, "said": what the store says of it}],
 "logs": {origin: {"checkpoint": the signed note, "indexed": how many leaves the store knows of}},
 "next": {"time": ..., "log": ..., "index": ...} or null: what to ask with as `before` for older rows}
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from broker.audit.coordinates import Coordinates, coordinates, is_time, shown
from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.merkle import ProofError, leaf_hash
from broker.audit.log.note import NoteError, Verifier, decode_base64, split_note
from broker.audit.log.proof import Proof
from broker.audit.query import Found
from broker.errors import ContractError

_TEXTS: Final = tuple(one.name for one in fields(Coordinates) if one.name not in ("time", "span", "trace"))
_NEEDED: Final = ("sender", "decision", "code", "event")


def answer_of(
    found: Iterable[Found], logs: Mapping[str, tuple[bytes, int]], oldest: Found | None = None
) -> dict[str, Any]:
    """The answer to a question.

    Args:
        logs: of each its checkpoint note, and how many of its leaves are in the store.
        oldest: row of this page, if there may be older ones.
    """
    page = None if oldest is None else {"time": oldest.leaf.time, "log": oldest.origin, "index": oldest.index}
    return {
        "rows": [_row(one) for one in found],
        "logs": {name: {"checkpoint": note.decode(), "indexed": indexed} for name, (note, indexed) in logs.items()},
        "next": page,
    }


def _row(found: Found) -> dict[str, Any]:
    row: dict[str, Any] = {"log": found.origin, "index": found.index}
    if found.entry is not None and found.problem is None:
        return row | {"entry": found.entry.decode(), "path": [b64encode(node).decode() for node in found.path]}
    leaf = found.leaf
    said = {name: text for name in _TEXTS if (text := getattr(leaf, name)) is not None}
    said |= {} if leaf.trace is None else {"trace": leaf.trace.hex()}
    return row | {"problem": found.problem, "said": {**said, "time": leaf.time, "span": leaf.span.hex()}}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, each row as far as it proved itself.

    Args:
        found: rows. notes: checkpoints of the logs, by origin.
        searched: of each log how many of its leaves the service looked at, and how many are signed. next: for `before`.
    """

    found: Sequence[Found]
    notes: Mapping[str, bytes]
    searched: Mapping[str, tuple[int, int]]
    next: Mapping[str, Any] | None

    @classmethod
    def read(cls, content: Any, verifiers: Iterable[Verifier]) -> Answer:
        """Read an answer, and believe nothing of a row but what its proof shows.

        Args:
            verifiers: keys of logs that are known here.

        Raises:
            ContractError: `audit.answer`, if it is no answer at all.
        """
        known = tuple(verifiers)
        try:
            notes = {shown(str(name)): str(log["checkpoint"]).encode() for name, log in content["logs"].items()}
            indexed = {shown(str(name)): int(log["indexed"]) for name, log in content["logs"].items()}
            sizes = {name: Checkpoint.parse(split_note(note)[0]).size for name, note in notes.items()}
            page = content["next"]
            if page is not None:
                page = {"time": int(page["time"]), "log": str(page["log"]), "index": int(page["index"])}
            found = [_read_row(row, notes, known) for row in content["rows"]]
        except (KeyError, TypeError, ValueError, AttributeError, NoteError):
            raise ContractError("The answer is not one of this service.", code="audit.answer") from None
        return cls(found, notes, {name: (indexed[name], size) for name, size in sizes.items()}, page)


def _read_row(row: Mapping[str, Any], notes: Mapping[str, bytes], known: tuple[Verifier, ...]) -> Found:
    """A row, proven or not."""
    origin, index = shown(str(row["log"])), int(row["index"])
    if "entry" not in row:
        why = f"the service says: {shown(str(row['problem']))}"
        return Found(origin, index, _said(row["said"]), None, None, why)
    entry = str(row["entry"]).encode()
    leaf = coordinates(entry)
    if leaf is None:
        raise ValueError
    found = Found(origin, index, leaf, entry, None, None)
    note = notes.get(origin)
    if note is None:
        return replace(found, problem="the service sent no checkpoint of its log")
    try:
        path = tuple(decode_base64(str(node), "a hash of the path") for node in row["path"])
        checkpoint, _ = Proof(None, index, path, note).verify(leaf_hash(entry), known)
    except (NoteError, ProofError) as error:
        return replace(found, problem=shown(str(error)))
    if checkpoint.origin != origin:
        return replace(found, problem="the checkpoint is of another log")
    return replace(found, size=checkpoint.size, path=path)


def _said(content: Mapping[str, Any]) -> Coordinates:
    """What the service says of a leaf that it could not show."""
    texts = {name: shown(str(content[name])) for name in _TEXTS if name in content}
    span = bytes.fromhex(content["span"])
    trace = bytes.fromhex(content["trace"]) if "trace" in content else None
    if not is_time(content["time"]) or not texts.keys() >= set(_NEEDED):
        raise ValueError
    return Coordinates(time=content["time"], span=span, trace=trace, **texts)
