"""What the reconciler knows of a lane between two of its leaves: only what is open."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from broker.audit.told import CountKey, WindowPart, read_leaf

NOTHING: Final = bytes(32)  # the running hash of a flow without a delivery


@dataclass(slots=True)
class Flow:
    """One output partition, as one lane feeds it.

    Args:
        last, root: number and running hash of the last delivery; 32 bytes.
        told: last number that a window told.
    """

    last: int = 0
    root: bytes = NOTHING
    told: int = 0


@dataclass(slots=True)
class Lane:
    """One lane.

    Args:
        place: `<topic>/<partition>` of its input.
        founded: whether it is known from its first leaf on; else its first window is taken as it is.
        name: as its windows have it. number: of its last window. next: input offset at which that ended.
        base: of lower offsets nothing is known: they may have been parked before the log begins.
        highest: input offset decided over last. parked: offsets of events that wait.
        run, receivers: offset of the input whose leaves are being read, and to whom so far.
        since_ms: when the first leaf of the open window was written; None: nothing is open.
        counts, leaves, inputs: since the last window. lowest: of these inputs' offsets.
        moved: a told reset moved the lane back since the last window.
        erasures: ids of `erased` leaves that must follow before the window ends.
        parts: of a window that is not complete yet, read; texts: the same, as they stand.
    """

    place: str
    founded: bool
    name: str = ""
    number: int = 0
    next: int | None = None
    base: int = 0
    highest: int = -1
    parked: set[int] = field(default_factory=set)
    run: int | None = None
    receivers: set[str] = field(default_factory=set)
    since_ms: int | None = None
    counts: dict[CountKey, int] = field(default_factory=dict)
    leaves: int = 0
    inputs: int = 0
    lowest: int | None = None
    moved: bool = False
    flows: dict[str, Flow] = field(default_factory=dict)
    erasures: set[str] = field(default_factory=set)
    parts: list[WindowPart] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def begin(self, at_ms: int) -> None:
        """A leaf of the open window was read."""
        if self.since_ms is None:
            self.since_ms = at_ms

    def end(self, window: WindowPart) -> None:
        """Go on from what a window says, right or wrong: one fault is told once."""
        self.name, self.number, self.next = window.lane, window.number, window.next
        if not self.founded:
            self.base, self.highest = window.next, window.next - 1
        self.founded, self.moved, self.run, self.since_ms, self.lowest = True, False, None, None, None
        self.leaves = self.inputs = 0
        self.counts, self.receivers, self.erasures = {}, set(), set()
        self.forget_parts()

    def forget_parts(self) -> None:
        """What was read of a window does not become one."""
        self.parts, self.texts = [], []

    # ---- between two runs of a service

    def pack(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "place": self.place, "founded": self.founded, "name": self.name, "number": self.number, "next": self.next,
            "base": self.base, "highest": self.highest, "parked": sorted(self.parked), "run": self.run,
            "receivers": sorted(self.receivers), "since_ms": self.since_ms, "leaves": self.leaves,
            "inputs": self.inputs, "lowest": self.lowest, "moved": self.moved,
            "erasures": sorted(self.erasures),
            "counts": [[*key, n] for key, n in self.counts.items()], "texts": self.texts,
            "flows": {name: [flow.last, flow.root.hex(), flow.told] for name, flow in self.flows.items()},
        }  # fmt: skip

    @classmethod
    def unpack(cls, data: dict[str, Any]) -> Lane:
        """The inverse of `pack`."""
        counts = {(decision, party, process): n for decision, party, process, n in data["counts"]}
        flows = {name: Flow(last, bytes.fromhex(root), told) for name, (last, root, told) in data["flows"].items()}
        # A state that was kept by an older version knows of no erasures.
        sets = {name: set(data.get(name, ())) for name in ("parked", "receivers", "erasures")}
        read = [read_leaf(text.encode()) for text in data["texts"]]
        parts = [part for part in read if isinstance(part, WindowPart)]
        return cls(**{**data, **sets, "counts": counts, "flows": flows, "parts": parts})


class Watcher:
    """Hears of what the reconciler reads; for counts of others."""

    def decided(self, lane: Lane, offset: int) -> None:
        """An input record was decided over, for the first time."""

    def delivered(self, lane: Lane, name: str, flow: Flow) -> None:
        """A delivery was read, and the flow of this name is as it is after it."""
