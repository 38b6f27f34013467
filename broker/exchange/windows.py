"""Windows: what a lane wrote in about a minute, counted by itself, as a leaf of its own.

That a single leaf was left out shows nowhere in the tree of leaves; that a window does not add up does. Each lane
counts what it writes, in its own transactions, so that numbers and leaves agree by construction:

- every input record that it decided over, and every leaf, by decision, receiver and process;
- for each flow (this lane into one partition of an output topic) the sequence numbers, and a running hash over trace
  and span of all deliveries since the flow began, in their order. Its receiver can work out the same from the headers
  of what it read, and sign it.

Windows are numbered without a gap. One is closed by the first transaction after a minute, or by the clock when nothing
more comes; a lane without work writes none. Its leaf comes behind the leaves that it counts, in the same partition.
A list that is too long for one leaf goes on in the next part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from broker.audit.leaf import b64url, canonical
from broker.schemas import catalogue

WINDOW_MS: Final = 60_000
ENTRIES_PER_PART: Final = 200  # of about 120 bytes: a leaf stays far below the 64 KiB that a log entry may have
NOTHING: Final = bytes(32)  # the running hash of a flow without a delivery

#: Decision, receiver ("": for all), process ("": not told).
CountKey = tuple[str, str, str]


@dataclass(slots=True)
class Window:
    """What was counted since the last window leaf.

    Args:
        number: of this window in its lane, from 1.
        began_ms: when its first leaf was written; None while nothing happened.
        first_offset: where the lane stood on its input when the window before ended; None: nobody counted yet.
        inputs: input records that were decided over. leaves: audit leaves, each of one decision.
        counts: leaves by decision, receiver and process. flows: first and last sequence number.
    """

    number: int = 1
    began_ms: int | None = None
    first_offset: int | None = None
    inputs: int = 0
    leaves: int = 0
    counts: dict[CountKey, int] = field(default_factory=dict)
    flows: dict[str, tuple[int, int]] = field(default_factory=dict)

    def at(self, offset: int) -> Window:
        """A copy for a batch that may not commit, of a lane that stands there."""
        first = offset if self.first_offset is None else self.first_offset
        return Window(self.number, self.began_ms, first, self.inputs, self.leaves, dict(self.counts), dict(self.flows))

    def count(self, decision: str, receiver: str | None, process: str | None, now_ms: int) -> None:
        """A leaf was written."""
        self._begin(now_ms)
        key = (decision, receiver or "", process or "")
        self.counts[key] = self.counts.get(key, 0) + 1
        self.leaves += 1

    def delivered(self, flow: str, seq: int, now_ms: int) -> None:
        """An output was written under this sequence number."""
        self._begin(now_ms)
        first, _ = self.flows.get(flow, (seq, seq))
        self.flows[flow] = (first, seq)

    def is_due(self, now_ms: int) -> bool:
        """Whether it lasted long enough; a clock that was set back ends it too."""
        return self.began_ms is not None and not 0 <= now_ms - self.began_ms < WINDOW_MS

    def after(self, next_offset: int) -> Window:
        """The one that follows."""
        return Window(self.number + 1, first_offset=next_offset)

    def _begin(self, now_ms: int) -> None:
        if self.began_ms is None:
            self.began_ms = now_ms

    # ---- as it stands in `lane.state`

    def pack(self) -> bytes:
        """As `window.v1`."""
        return catalogue()["window.v1"].encode(
            {
                "number": self.number,
                "began_ms": self.began_ms,
                "first_offset": self.first_offset,
                "inputs": self.inputs,
                "leaves": self.leaves,
                "counts": [_count(*key, n) for key, n in self.counts.items()],
                "flows": [_range(flow, *ends) for flow, ends in self.flows.items()],
            }
        )

    @classmethod
    def unpack(cls, data: bytes) -> Window:
        """The inverse of `pack`."""
        datum = catalogue()["window.v1"].decode(data)
        datum["counts"] = {(c["decision"], c["party"], c["process"]): c["n"] for c in datum["counts"]}
        datum["flows"] = {f["flow"]: (f["first"], f["last"]) for f in datum["flows"]}
        return cls(**datum)


def next_root(root: bytes, trace: bytes, span: bytes) -> bytes:
    """The running hash of a flow after one more delivery: SHA-256(root ‖ trace ‖ span), 32 + 16 + 8 bytes."""
    return sha256(root + trace + span).digest()


def window_leaves(
    window: Window, lane: str, place: tuple[str, int], next_offset: int, roots: Mapping[str, bytes], now_ms: int
) -> Iterator[bytes]:
    """The leaf of a window, in as many parts as it takes.

    Args:
        place: input topic and partition of the lane. next_offset: where it stands on it now.
        roots: running hash of each flow of the window.
    """
    counts = [_count(*key, n) for key, n in sorted(window.counts.items())]
    flows = [
        {**_range(flow, *ends), "root": b64url(roots[flow])} for flow, ends in sorted(window.flows.items())
    ]  # fmt: skip
    entries = [*(("counts", entry) for entry in counts), *(("flows", entry) for entry in flows)]
    parts = max(1, -(-len(entries) // ENTRIES_PER_PART))
    topic, partition = place
    for part in range(parts):
        lists: dict[str, list[dict[str, Any]]] = {"counts": [], "flows": []}
        for name, entry in entries[part * ENTRIES_PER_PART : (part + 1) * ENTRIES_PER_PART]:
            lists[name].append(entry)
        yield canonical(
            {
                "v": 1,
                "window": {
                    **lists,
                    "from": window.began_ms,
                    "input": {
                        "count": window.inputs,
                        "first": window.first_offset,
                        "next": next_offset,
                        "partition": partition,
                        "topic": topic,
                    },
                    "lane": lane,
                    "leaves": window.leaves,
                    "no": window.number,
                    "part": part + 1,
                    "parts": parts,
                    "to": now_ms,
                },
            }
        )


def _count(decision: str, party: str, process: str, n: int) -> dict[str, Any]:
    return {"decision": decision, "n": n, "party": party, "process": process}


def _range(flow: str, first: int, last: int) -> dict[str, Any]:
    return {"first": first, "flow": flow, "last": last}
