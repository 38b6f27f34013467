"""Fills the store: leaves from the signed logs, and persons from `audit.index`.

Only what is signed is taken in. The entries that are read must lead to the signed root, and the tree that was read
before must be the beginning of this one: the store then knows of every leaf, or says that it does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from broker.audit.coordinates import Coordinates, coordinates
from broker.audit.index import forgets, open_entry, span_of
from broker.audit.log.directory import HistoryDiffers
from broker.audit.log.merkle import Frontier, ProofError, leaf_hash
from broker.audit.signed import SignedLog
from broker.audit.store import Store
from broker.errors import ConfigError

BATCH: Final = 8_192


class SchoolCiphers(Protocol):
    """The keys of schools; `VaultCipher` is one."""

    def school_ciphers(self, school: str) -> Sequence[AESGCM]:
        """Under which the entries of a school may be sealed."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """What was taken in of a log.

    Args:
        origin: which. size: leaves that are in the store or were passed over, since they are of no decision.
        decisions: that are new. others: leaves of windows, epochs and the like.
    """

    origin: str
    size: int
    decisions: int
    others: int


def index_log(store: Store, log: SignedLog, batch: int = BATCH) -> Indexed:
    """Take in what was signed since the last time, in one transaction.

    Args:
        batch: leaves in memory at a time.

    Raises:
        HistoryDiffers: if what was taken in before is not the beginning of this log.
        ProofError: if the entries do not lead to the signed root. TileError: if a file is missing or damaged.
    """
    checkpoint, reader = log.checkpoint, log.reader
    origin, size = checkpoint.origin, checkpoint.size
    decisions = others = 0
    with store.transaction():
        start, root = store.position(origin)
        if start > size:
            raise HistoryDiffers(f"{origin} shows {size} leaves, but {start} were read before: leaves were taken back")
        frontier = Frontier.restore(start, reader.hash_at)
        if root is not None and frontier.root() != root:
            raise HistoryDiffers(
                f"the first {start} leaves of {origin} are not those that were read before: its history was changed, "
                "or a tile of the copy is damaged"
            )
        for first in range(start, size, batch):
            found: list[tuple[int, Coordinates]] = []
            for index, entry in enumerate(reader.entries(first, min(first + batch, size)), first):
                frontier.append(leaf_hash(entry))
                leaf = coordinates(entry)
                if leaf is None:
                    others += 1
                else:
                    found.append((index, leaf))
            decisions += len(found)
            store.add(origin, found, frontier.size, frontier.root())
        if frontier.root() != checkpoint.root:
            raise ProofError(
                f"the entries of {origin} from {start} to {size} do not lead to the root that was signed: one of its "
                "files is damaged. `broker audit verify log` says which; restore it from a copy"
            )
    return Indexed(origin, size, decisions, others)


def index_people(store: Store, entries: Iterable[bytes], schools: SchoolCiphers) -> int:
    """Take in entries of `audit.index`; call it within a transaction, with those that are new.

    An entry says by its span which leaf it is of, and that leaf says which school's key opens it. If the leaf is not
    signed yet the entry waits, and is tried again at the next call. One by which a person is forgotten waits for
    `forget_people`.

    Returns:
        How many entries found their leaf.

    Raises:
        ConfigError: `audit.index_key`, if an entry does not open.
    """
    matched = 0
    for entry in entries:
        store.wait(span_of(entry), entry)
    for entry in store.arrived():
        if forgets(entry):
            continue
        tag, places = _open(store, schools, entry)
        for origin, index in places:
            store.tag(tag, origin, index)
        store.settle(span_of(entry), entry)
        matched += 1
    return matched


def forget_people(store: Store, schools: SchoolCiphers) -> int:
    """Erase the persons whose entries say so and whose ERASE is signed; call it behind `index_people`.

    An entry waits until the file has been written anew without the person: killed on the way, it is done again.

    Returns:
        How many rows led to them.

    Raises:
        ConfigError: `audit.index_key`, if an entry does not open. TransientError: `audit.store_busy`, see
            `Store.forget`; the next call goes on.
    """
    entries = [entry for entry in store.arrived() if forgets(entry)]
    if not entries:
        return 0
    gone = store.forget(*{_open(store, schools, entry)[0] for entry in entries})
    with store.transaction():
        for entry in entries:
            store.settle(span_of(entry), entry)
    return gone


def _open(store: Store, schools: SchoolCiphers, entry: bytes) -> tuple[bytes, list[tuple[str, int]]]:
    """The tag in an entry whose leaf has arrived, and the leaf: with its span, the newest that the entry opens for.

    It is two where a log was begun anew and has the leaf again. Where an input topic was made anew its offsets come
    once more, and with them the spans, in leaves of other events: those are not meant.
    """
    tag, found, failed = b"", list[tuple[str, int, int]](), None
    for origin, index, school, time in store.places(span_of(entry)):
        for cipher in schools.school_ciphers(school or ""):
            try:
                tag = open_entry(cipher, entry).tag
                found.append((origin, index, time))
                break
            except ConfigError as error:
                failed = error
    if not found and failed is not None:
        raise failed
    return tag, [(origin, index) for origin, index, time in found if time == found[0][2]]
