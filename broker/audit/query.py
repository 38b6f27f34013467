"""What an auditor, a school or a party asks of the logs: found in the store, read in the log, proven against its root.

The store is only the way to a leaf. What is shown is the leaf itself, with what is known of it: that it is in the
signed tree, or why that could not be shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from broker.audit.coordinates import Coordinates, coordinates
from broker.audit.log.directory import LogDirectory
from broker.audit.log.merkle import ProofError
from broker.audit.log.note import NoteError, Verifier
from broker.audit.log.tiles import TileError
from broker.audit.receipt import Receipt, is_erasure, verify
from broker.audit.signed import SignedLog, folders
from broker.audit.store import Row, Store, Wanted
from broker.audit.story import story
from broker.audit.told import ERASE, Erased, LeafError, Told, read_leaf
from broker.errors import ConfigError

SCAN: Final = 1_024  # leaves that are read at a time; a transaction rarely has more


@dataclass(frozen=True, slots=True)
class Found:
    """A leaf that was asked for.

    Args:
        origin: of its log. index: its place there.
        leaf: what it says; what the store says where the leaf can not be read.
        entry: the leaf as it stands in the log; None if it can not be read.
        size: of the signed tree that it was proven to stand in; None if it was not.
        problem: why it was not proven; None if it was.
        path: from the leaf to the signed root, 32 bytes each; empty also where it was not proven or not asked for.
    """

    origin: str
    index: int
    leaf: Coordinates
    entry: bytes | None
    size: int | None
    problem: str | None
    path: tuple[bytes, ...] = ()

    @property
    def status(self) -> str:
        """For people."""
        return f"proven at size {self.size}" if self.problem is None else f"signed, not proven: {self.problem}"


class Query:
    """Questions to a store and the logs it was made from.

    Args:
        root: folder of all logs. verifiers: keys of logs that are known here.
        paths: give each row its own path to the root, for who verifies it elsewhere. Rows that lie close together are
            proven much faster without.
    """

    def __init__(self, store: Store, root: Path, verifiers: Iterable[Verifier], *, paths: bool = False) -> None:
        self._store, self._paths = store, paths
        self._logs: dict[str, SignedLog] = {}
        self._problems: list[str] = []
        known = tuple(verifiers)
        for folder in folders(root):
            try:
                log = SignedLog.open(LogDirectory(folder), known)
            except NoteError as error:
                self._problems.append(f"{folder.name}: {error}")
                continue
            if log is not None:
                self._logs[log.checkpoint.origin] = log

    @property
    def logs(self) -> Mapping[str, SignedLog]:
        """The logs that are here, by origin."""
        return self._logs

    def find(self, wanted: Wanted, keep: Callable[[Sequence[Row]], Iterable[Row]] = iter) -> list[Found]:
        """Leaves in the order of time, each with its proof.

        A leaf that the store names is given in any case: that it can not be proven is a finding, not an error.

        Args:
            keep: those of the rows that are worth a proof.
        """
        return [self._proven(row) for row in keep(self._store.find(wanted))]

    def explain(self, event: str) -> list[str]:
        """The story of one event, a sentence for each thing that happened; never a value.

        Args:
            event: id of the event.

        Raises:
            ConfigError: `audit.event`, if no leaf speaks of it.
        """
        return story(self._all_of(event))

    def receipt(self, event: str, receiver: str, salt: bytes, value: bytes | None = None) -> bytes:
        """What the receiver of an event keeps as evidence: the file `.tlog-proof`.

        Args:
            salt: 32 bytes, from the header `audit-salt` of the record that was delivered; or, for who holds the
                subject key, `Commitments(subject_key, ids).salt("out")`.
            value: of that record; if given, the receipt is checked against it.

        Raises:
            ConfigError: `audit.event`, if nothing was delivered; `audit.unproven`, if the leaf is not proven.
            ReceiptError: if the salt is no salt, or the leaf does not speak of the value.
        """
        wanted = [
            found
            for found in self._all_of(event)
            if (found.leaf.receiver, found.leaf.decision) == (receiver, "delivered")
        ]
        if not wanted:
            raise ConfigError(
                "No leaf says that this event was delivered to this receiver. `broker audit explain` tells what became "
                "of it.",
                code="audit.event",
            )
        found = wanted[-1]
        if found.entry is None or found.problem is not None:
            raise ConfigError(f"There is no receipt for this leaf: {found.status}.", code="audit.unproven")
        log = self._logs[found.origin]
        receipt = Receipt(found.entry, salt, found.index, tuple(log.prove(found.index, found.entry)), log.note)
        data = receipt.render()
        if value is not None:
            verify(receipt, log.verifiers, value)
        return data

    def erasure(self, event: str) -> bytes:
        """What a school keeps as evidence that a person was erased: the file `.tlog-proof`; it names nobody.

        Args:
            event: id of the ERASE.

        Raises:
            ConfigError: `audit.event`, if no leaf says that it erased somebody; `audit.unproven`, if that is
                not proven.
        """
        wanted = [
            found for found in self._all_of(event) if (found.leaf.family, found.leaf.kind, found.leaf.decision) == ERASE
        ]
        if not wanted:
            raise ConfigError(
                "No leaf says that this event erased somebody. `broker audit explain` tells what became of it.",
                code="audit.event",
            )
        return self._erasure(wanted[-1])

    def _erasure(self, found: Found) -> bytes:
        """The receipt of the `erased` leaf that stands behind the leaf of an ERASE."""
        if found.entry is None or found.problem is not None:
            raise ConfigError(f"There is no receipt for this erasure: {found.status}.", code="audit.unproven")
        log, decided = self._logs[found.origin], _read(found.entry)
        size = log.checkpoint.size
        for first in range(found.index + 1, size, SCAN):
            for index, entry in enumerate(log.reader.entries(first, min(first + SCAN, size)), first):
                erased = _read(entry) if is_erasure(entry) else None
                if isinstance(decided, Told) and isinstance(erased, Erased) and erased.id == decided.erased:
                    return Receipt(entry, None, index, tuple(log.prove(index, entry)), log.note).render()
        raise ConfigError(
            "The leaf of the erasure is not in the log that was signed. If the event is of this minute, try again; "
            "else something is missing, which `broker audit reconcile` finds (R7).",
            code="audit.unproven",
        )

    def _all_of(self, event: str) -> Sequence[Found]:
        found = self.find(Wanted(event=event))
        if not found:
            raise ConfigError(
                "No leaf in the store speaks of this event. Run `broker audit index` for what was signed since; an "
                "event is known by its id, a uuid.",
                code="audit.event",
            )
        return found

    def _proven(self, row: Row) -> Found:
        found = Found(row.origin, row.index, row.leaf, None, None, None)
        log = self._logs.get(row.origin)
        if log is None:
            return replace(found, problem="; ".join(["its log is not here", *self._problems]))
        size = log.checkpoint.size
        if row.index >= size:
            return replace(found, problem=f"the log shows {size} leaves only: leaves were taken back")
        try:
            entry = log.entry(row.index)
        except TileError as error:
            return replace(found, problem=str(error))
        said = coordinates(entry)
        if said is None:
            return replace(found, problem="what stands at its place is not the leaf of a decision")
        found = replace(found, entry=entry, leaf=said)
        try:
            path = tuple(log.prove(row.index, entry)) if self._paths else ()
            if not self._paths:
                log.check(row.index, entry)
        except (TileError, ProofError) as error:
            return replace(found, problem=str(error))
        if said != row.leaf:
            return replace(found, problem="the leaf is in the signed tree, but the store says something else of it")
        return replace(found, size=size, path=path)


def _read(entry: bytes) -> object:
    """What a leaf tells; None if it is of no known form, which the reconciler finds."""
    try:
        return read_leaf(entry)
    except LeafError:
        return None
