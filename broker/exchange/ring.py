"""A ring of slots: the newest entries of a lane, of which a transaction rewrites only the slot that it fills.

Each slot is one record of the compacted topic `lane.state`. When the ring is full, the oldest slot is written over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Filled = dict[int, list[bytes]]


@dataclass(slots=True)
class Ring:
    """Entries of a fixed size.

    Args:
        entry_bytes: size of one entry.
        slots: how many slots there are. slot_entries: how many entries fill one.
        slot: the one that is being filled.
    """

    entry_bytes: int
    slots: int
    slot_entries: int
    slot: int = 0
    content: Filled = field(default_factory=dict)

    def load(self, slot: int, data: bytes) -> list[bytes]:
        """Take a slot as it stands on Kafka; gives its entries."""
        size = self.entry_bytes
        self.content[slot] = [data[i : i + size] for i in range(0, len(data), size)]
        return self.content[slot]

    def filled(self, new: Sequence[bytes]) -> Filled:
        """The slots as they are once `new` is added, those that change only; the last is the one being filled."""
        if not new:
            return {}
        slot, entries = self.slot, [*self.content.get(self.slot, ()), *new]
        filled: Filled = {}
        while True:
            filled.pop(slot, None)  # one addition may go round the whole ring: the last slot stays the last
            filled[slot] = entries[: self.slot_entries]
            entries = entries[self.slot_entries :]
            if not entries:
                return filled
            slot = (slot + 1) % self.slots

    def next_slot(self, filled: Filled) -> int:
        """The slot that is being filled after this."""
        return next(reversed(filled), self.slot)

    def adopt(self, filled: Filled) -> None:
        """Move on."""
        self.content.update(filled)
        self.slot = self.next_slot(filled)

    def in_order(self) -> Iterable[tuple[int, bytes]]:
        """All entries with their slots, the oldest first."""
        for step in range(1, self.slots + 1):
            slot = (self.slot + step) % self.slots
            for entry in self.content.get(slot, ()):
                yield slot, entry
