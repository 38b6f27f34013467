"""Business objects: what a sender said of a licence, an order or a result so far, and what it may say next.

A lane sees one sender only, so the order is checked per object and sender. What the receivers answer stands in other
lanes: whether an answer fits is for the two parties, who tell each other with `control` STATUS. The memory is bounded;
an object that is not in it (any more) is delivered with the code `ok.unchecked`, so that its sender knows.

Of a family that says `"remembers": "corrections"` the first version of an object is not remembered: of a million
usages a day hardly one is ever corrected, and they would push all licences out of the memory. A first version is only
looked up; a correction or a retraction is remembered, and what comes after it is checked as anything else. What that
leaves open: the first correction can not be held against what it corrects (`ok.unchecked`), and a first version that
is sent twice under two event ids is delivered twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple
from zlib import crc32

from broker.errors import AccessDenied
from broker.exchange.open import Opened
from broker.exchange.ring import Filled, Ring
from broker.limits import Limits

ID_BYTES = 16
ENTRY_BYTES = ID_BYTES + 4 + 4
FIRST_REVISION = 1


class Said(NamedTuple):
    """The last thing that was said of an object: checksum of the kind's name, and the revision (0: none)."""

    kind: int
    revision: int


@dataclass(slots=True)
class ObjectMemory:
    """The objects that a lane knows. A ring on Kafka, a dictionary in memory."""

    ring: Ring
    known: dict[bytes, tuple[Said, int]] = field(default_factory=dict)

    @classmethod
    def sized(cls, limits: Limits) -> ObjectMemory:
        """An empty one."""
        return cls(Ring(ENTRY_BYTES, limits.object_slots, limits.object_slot_entries))

    def load(self, slots: Mapping[int, bytes], slot: int) -> None:
        """Take what stands on Kafka."""
        for number, data in slots.items():
            self.ring.load(number, data)
        self.ring.slot = slot
        for number, entry in self.ring.in_order():
            self._know(entry, number)

    def last(self, object_id: bytes) -> Said | None:
        """What was last said of an object."""
        found = self.known.get(object_id)
        return None if found is None else found[0]

    def filled(self, said: Mapping[bytes, Said]) -> Filled:
        """The slots that change."""
        return self.ring.filled([_pack(object_id, what) for object_id, what in said.items()])

    def adopt(self, said: Mapping[bytes, Said]) -> None:
        """Move on, after the commit."""
        filled = self.filled(said)
        for slot in filled:
            for entry in self.ring.content.get(slot, ()):
                self._forget(entry[:ID_BYTES], slot)
        self.ring.adopt(filled)
        for slot, entries in filled.items():
            for entry in entries:
                self._know(entry, slot)

    def _know(self, entry: bytes, slot: int) -> None:
        object_id = entry[:ID_BYTES]
        kind, revision = entry[ID_BYTES : ID_BYTES + 4], entry[ID_BYTES + 4 :]
        self.known[object_id] = Said(int.from_bytes(kind), int.from_bytes(revision)), slot

    def _forget(self, object_id: bytes, slot: int) -> None:
        found = self.known.get(object_id)
        if found is not None and found[1] == slot:  # else a later slot speaks of it
            del self.known[object_id]


def object_id(event: Opened) -> bytes | None:
    """Which object an event is about, if its kind has an order; within the school and family."""
    name = event.family.object_field
    kind = event.family.kinds[event.envelope["kind"]]
    if name is None or not kind.ordered:
        return None
    what = f"{event.school.id}\x00{event.family.name}\x00{str(event.body[name]).lower()}"
    return blake2b(what.encode(), digest_size=ID_BYTES).digest()


def check_order(event: Opened, last: Said | None) -> tuple[Said | None, bool]:
    """Hold an event against what its sender said of the object before.

    Returns:
        What is to be remembered (None: nothing), and whether the order could be checked.

    Raises:
        AccessDenied: `object.transition` or `object.stale`.
    """
    family, kind = event.family, event.family.kinds[event.envelope["kind"]]
    revision = event.body[family.revision_field] if family.revision_field else 0
    corrects = family.remembers == "corrections"
    if last is None and corrects and kind.first and revision <= FIRST_REVISION:
        return None, True
    said = Said(kind_code(kind.name), min(max(revision, 0), 2**32 - 1))
    if last is None:
        return said, kind.first and not corrects
    if said == last and event.envelope["receiver"] is not None:
        return said, True  # the same once more, for one receiver: the initial seed of a new connection
    if last.kind not in kind_codes(kind.after):
        raise AccessDenied("not after what was said before", code="object.transition", field="kind")
    if family.revision_field is not None and said.revision <= last.revision:
        raise AccessDenied("not newer than what is known", code="object.stale", field=family.revision_field)
    return said, True


def told_before(event: Opened, last: Said) -> bool:
    """Whether an event says nothing newer than the last word on an object that is still there.

    Such an event is for a new receiver: how an object came to be as it is takes several events, if the last one does
    not carry the whole of it. None of them ends it, and under the last revision stands what was last said.
    """
    family, kind = event.family, event.envelope["kind"]
    if family.revision_field is None or last.kind in kind_codes(family.ending) or kind in family.ending:
        return False
    revision = event.body[family.revision_field]
    return bool(revision < last.revision or (revision == last.revision and kind_code(kind) == last.kind))


def kind_code(kind: str) -> int:
    """Four bytes for a kind's name."""
    return crc32(kind.encode())


def kind_codes(kinds: Iterable[str]) -> frozenset[int]:
    """As `kind_code`, for several."""
    return frozenset(kind_code(kind) for kind in kinds)


def _pack(object_id: bytes, said: Said) -> bytes:
    return object_id + said.kind.to_bytes(4) + said.revision.to_bytes(4)
