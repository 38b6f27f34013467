"""The reconciler: does an audit partition add up? It reads leaves in their order and finds what was left out.

That a leaf was left out shows nowhere in the tree of leaves. It shows here, by rules that hold for every history that
the exchange can write (`broker.exchange.windows`, `journal`, `pipeline`):

    R1  a window counts as many input records as have leaves in it, in rising order; only an event that was parked is
        spoken of again later; where a window ended, the next begins, but for what the control log tells
    R2  one decision for each input and receiver: its span follows from both, and no span comes twice
    R3  the numbers of a flow follow each other, and its running hash is that of the leaves
    R4  a receiver that counted has counted the same     R5  a sender too (`broker.audit.count`)
    R6  windows are numbered without a hole, are whole, and say what the leaves before them say
    R7  an ERASE that was carried out has its `erased` leaf behind it, and there is no other one
    R0  every leaf can be read

No window counts `erased` leaves: each belongs to a decision that is counted, by an id that follows from its input.
It says nothing of the order of leaves that no rule orders: those of one input for several receivers, and those of
different lanes. It does not prove that a sender sent everything: only the sender's own count does (R5).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from broker.audit.lanes import Flow, Lane, Watcher
from broker.audit.told import (
    CountKey,
    Erased,
    InputGap,
    LeafError,
    Other,
    Range,
    Told,
    WindowPart,
    read_leaf,
    running_hash,
)

LATENESS_MS: Final = 180_000  # a minute, the lane's next batch, and the log; then somebody should look


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not add up.

    Args:
        rule: R0 to R7. lane: `<topic>/<partition>` of its input, "" if it could not be told.
        window: number of the window concerned, or of the one that is open; 0 if none. sentence: never a value.
    """

    rule: str
    lane: str
    window: int
    sentence: str

    def __str__(self) -> str:
        return f"{self.rule}, lane {self.lane or 'unknown'}, window {self.window}: {self.sentence}"


@dataclass(frozen=True, slots=True)
class OpenLane:
    """A lane that wrote leaves since its last window; `since_ms`: the first of them, milliseconds since 1970."""

    lane: str
    window: int
    leaves: int
    since_ms: int


@dataclass(slots=True)
class Reconciler:
    """Reads the leaves of one audit partition, all of them and in order.

    Args:
        gaps: what the control log tells of lost input, of any lane.
        lanes: by the place of their input. position: leaves read.
        founded: whether lanes that are met first are at their beginning; not so behind an `epoch` leaf.
        newest_ms: the latest moment that a leaf named. windows: complete ones that were read.
    """

    gaps: list[InputGap] = field(default_factory=list)
    lanes: dict[str, Lane] = field(default_factory=dict)
    position: int = 0
    founded: bool = True
    newest_ms: int = 0
    windows: int = 0
    watcher: Watcher = field(default_factory=Watcher, compare=False)

    def feed(self, leaf: bytes) -> Iterator[Finding]:
        """Read the next leaf; yields what it shows. To be read to its end."""
        self.position += 1
        try:
            told = read_leaf(leaf)
        except LeafError as error:
            yield Finding("R0", "", 0, f"leaf {self.position - 1} can not be read: {error}.")
            return
        if isinstance(told, Other):
            if told.kind == "epoch":
                self.founded = False
            return
        if isinstance(told, Erased):
            yield from self._erased(told)
            return
        lane = self.lanes.get(told.place)
        if lane is None:
            lane = self.lanes[told.place] = Lane(told.place, self.founded)
        if isinstance(told, Told):
            number, found = lane.number + 1, self._decision(lane, told)
        else:
            lane.texts.append(leaf.decode())
            number, found = told.number, self._part(lane, told)
        for rule, sentence in found:
            yield Finding(rule, lane.place, number, sentence)

    def _erased(self, told: Erased) -> Iterator[Finding]:
        lane = next((lane for lane in self.lanes.values() if told.id in lane.erasures), None)
        if lane is not None:
            lane.erasures.remove(told.id)
        elif self.founded or self.windows:  # else its ERASE may be the last leaf of the log before
            yield Finding("R7", "", 0, f"leaf {self.position - 1} tells of an erasure that no ERASE before it asked.")

    # ---- a decision

    def _decision(self, lane: Lane, told: Told) -> Iterator[tuple[str, str]]:
        self.newest_ms = max(self.newest_ms, told.at_ms)
        if lane.parts:
            yield "R6", f"leaf {self.position - 1} stands between the parts of a window."
            lane.forget_parts()
        if told.erased is not None:
            lane.erasures.add(told.erased)
        lane.begin(told.at_ms)
        lane.leaves += 1
        key = (told.decision, told.receiver, told.process)
        lane.counts[key] = lane.counts.get(key, 0) + 1
        if told.span != told.expected_span:
            yield "R2", f"leaf {self.position - 1} has a span that does not follow from its input and receiver."
        if told.offset is not None:
            yield from self._input(lane, told.offset, told)
        if told.flow is not None and told.seq is not None:
            yield from self._number(lane, told.flow, told.seq, told)

    def _input(self, lane: Lane, offset: int, told: Told) -> Iterator[tuple[str, str]]:
        """All leaves of one input stand together: it is decided over at once."""
        if offset != lane.run:
            lane.run, lane.receivers = offset, set()
            yield from self._begin_input(lane, offset)
        if told.receiver in lane.receivers:
            yield "R2", f"leaf {self.position - 1} decides over offset {offset} again for the same receiver."
        lane.receivers.add(told.receiver)
        if told.waits:
            lane.parked.add(offset)
            lane.run = None  # what becomes of it is another decision, even in the next leaf

    def _begin_input(self, lane: Lane, offset: int) -> Iterator[tuple[str, str]]:
        if offset in lane.parked:
            lane.parked.discard(offset)
            return
        if offset <= lane.highest:
            reset = next((g for g in self._gaps(lane, "input-reset") if g.next <= offset <= g.last), None)
            if reset is not None:
                self.gaps.remove(reset)
                lane.moved, lane.highest, lane.parked = True, offset - 1, set()
            else:
                if lane.founded and offset >= lane.base:
                    yield "R1", f"leaf {self.position - 1} decides over offset {offset}, which was decided over before."
                return
        lane.inputs += 1
        lane.highest = offset
        lane.lowest = offset if lane.lowest is None else lane.lowest
        self.watcher.decided(lane, offset)

    def _gaps(self, lane: Lane, kind: str) -> Iterator[InputGap]:
        return (gap for gap in self.gaps if gap.place == lane.place and gap.kind == kind)

    def _number(self, lane: Lane, name: str, seq: int, told: Told) -> Iterator[tuple[str, str]]:
        flow = lane.flows.get(name)
        if flow is None:
            flow = lane.flows[name] = Flow() if lane.founded else Flow(seq - 1, told=seq - 1)
        if seq != flow.last + 1:
            yield "R3", f"leaf {self.position - 1} has number {seq} in a flow whose last one was {flow.last}."
        flow.root = running_hash(flow.root, told.trace, told.span)
        flow.last = seq
        self.watcher.delivered(lane, name, flow)

    # ---- a window

    def _part(self, lane: Lane, part: WindowPart) -> Iterator[tuple[str, str]]:
        self.newest_ms = max(self.newest_ms, part.to_ms)
        lane.begin(part.to_ms)
        if lane.parts and lane.parts[0].common() != part.common():
            yield "R6", f"window {lane.parts[0].number} has not all of its {lane.parts[0].parts} parts."
            lane.parts, lane.texts = [], lane.texts[-1:]
        if part.part != len(lane.parts) + 1 or part.part > part.parts:
            yield "R6", f"part {part.part} of {part.parts} of a window stands where part {len(lane.parts) + 1} should."
        lane.parts.append(part)
        if part.part >= part.parts:
            yield from self._window(lane, part)

    def _window(self, lane: Lane, window: WindowPart) -> Iterator[tuple[str, str]]:
        self.windows += 1
        if lane.erasures:
            yield "R7", f"{len(lane.erasures)} persons were erased, and no leaf tells it."
        counts, flows = dict[CountKey, int](), dict[str, Range]()
        for part in lane.parts:
            if part.counts.keys() & counts.keys() or part.flows.keys() & flows.keys():
                yield "R6", "a window says one thing in two of its parts."
            counts |= part.counts
            flows |= part.flows
        if lane.founded:
            yield from self._sums(lane, window)
            if counts != lane.counts or sum(counts.values()) != window.leaves:
                yield "R6", "its counts by decision, receiver and process are not those of the leaves."
            yield from self._range(lane, window)
            yield from self._flows(lane, flows)
        for name in flows.keys() | lane.flows.keys():
            flow = lane.flows.setdefault(name, Flow())
            if (said := flows.get(name)) is not None:
                flow.last, flow.root = said.last, said.root
            flow.told = flow.last
        lane.end(window)

    def _flows(self, lane: Lane, said: dict[str, Range]) -> Iterator[tuple[str, str]]:
        for name in sorted(said.keys() | {name for name, flow in lane.flows.items() if flow.last != flow.told}):
            flow, its = lane.flows.get(name, Flow()), said.get(name)
            if its is None or (its.first, its.last) != (flow.told + 1, flow.last) or its.first > its.last:
                yield (
                    "R3",
                    f"it does not tell of a flow that its leaves have the numbers {flow.told + 1} to {flow.last}.",
                )
            elif its.root != flow.root:
                yield "R3", f"the running hash of a flow up to number {its.last} is not that of the leaves."

    def _sums(self, lane: Lane, window: WindowPart) -> Iterator[tuple[str, str]]:
        if lane.name not in ("", window.lane):
            yield "R6", "the window is of another lane with the same input."
        if window.number != lane.number + 1:
            yield "R6", f"window {window.number} stands where window {lane.number + 1} should."
        if window.leaves != lane.leaves:
            yield "R6", f"the window counts {window.leaves} leaves, and {lane.leaves} are there."

    def _range(self, lane: Lane, window: WindowPart) -> Iterator[tuple[str, str]]:
        if window.inputs != lane.inputs:
            yield "R1", f"the window counts {window.inputs} input records, and {lane.inputs} have leaves."
        if self._moved(lane, window):
            return
        if window.inputs > window.next - window.first:
            yield "R1", "the window counts more input records than there are offsets in it."
        if lane.lowest is not None and not window.first <= lane.lowest <= lane.highest < window.next:
            yield "R1", f"its leaves name input offsets outside of {window.first} to {window.next - 1}."
        if lane.next is None or window.first == lane.next:
            return
        lost = any(g.first <= lane.next and g.last >= window.first - 1 for g in self._gaps(lane, "input-lost"))
        if window.first < lane.next or not lost:
            yield "R1", f"its input begins at offset {window.first}, and the window before ended at {lane.next}."

    def _moved(self, lane: Lane, window: WindowPart) -> bool:
        """Whether the control log tells that the lane went back to read its input again."""
        if not lane.moved and window.next <= lane.highest:  # there was nothing to read again
            reset = next((g for g in self._gaps(lane, "input-reset") if g.next <= window.next), None)
            if reset is not None:
                self.gaps.remove(reset)
                lane.moved, lane.highest = True, window.next - 1
        return lane.moved

    # ---- the end

    def open_lanes(self) -> list[OpenLane]:
        """Lanes whose last window is not told yet, the oldest first."""
        found = [
            OpenLane(lane.place, lane.number + 1, lane.leaves, lane.since_ms)
            for lane in self.lanes.values()
            if lane.since_ms is not None
        ]
        return sorted(found, key=lambda lane: lane.since_ms)

    def late(self, now_ms: int, lateness_ms: int = LATENESS_MS) -> Iterator[Finding]:
        """Lanes that should have told their window by now."""
        for lane in self.open_lanes():
            if (age := now_ms - lane.since_ms) > lateness_ms:
                sentence = f"{lane.leaves} leaves are in no window, the oldest for {age // 1000} s."
                yield Finding("R6", lane.lane, lane.window, sentence)

    # ---- between two runs of a service

    def pack(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "founded": self.founded, "position": self.position, "newest_ms": self.newest_ms, "windows": self.windows,
            "lanes": [lane.pack() for lane in self.lanes.values()],
            "gaps": [[g.place, g.kind, g.first, g.last, g.position, g.next] for g in self.gaps],
        }  # fmt: skip

    @classmethod
    def unpack(cls, data: dict[str, Any]) -> Reconciler:
        """The inverse of `pack`."""
        lanes = {lane["place"]: Lane.unpack(lane) for lane in data["lanes"]}
        return cls(**{**data, "lanes": lanes, "gaps": [InputGap(*gap) for gap in data["gaps"]]})


def read_all(leaves: Iterable[bytes], reconciler: Reconciler) -> Iterator[Finding]:
    """Feed all leaves."""
    for leaf in leaves:
        yield from reconciler.feed(leaf)
