"""Counts by the parties themselves, signed: what a receiver read and a sender sent, to be held against the leaves.

A count is a signed note (c2sp.org/signed-note, Ed25519) under the party's own key, whose name is the party's id:

    <origin>/count/v1
    <party>
    <flow>
    <first> <last>
    <root>

`origin` is that of the logs of the installation. A receiver's flow is `<lane>/<topic>/<partition>`: the header `flow`
of what it reads, and where it read it; its numbers are the headers `flow-seq`. A sender's flow is `<topic>/<partition>`
of its input; its numbers are the offsets that Kafka gave. `root` is base64 of a running hash since the flow began, over
trace and span of each record (the header `traceparent`), for a sender over each offset as 8 bytes, big endian:
h' = SHA-256(h ‖ ...), from 32 zero bytes. So two counts of one number agree or differ in all that was before.
"""

from __future__ import annotations

import re
from base64 import b64encode
from bisect import insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from broker.audit.lanes import NOTHING, Flow, Lane, Watcher
from broker.audit.log.checkpoint import parse_decimal
from broker.audit.log.note import ED25519, NoteError, Signer, Verifier, check_text, decode_base64, open_note, render
from broker.audit.reconcile import Finding
from broker.audit.told import running_hash
from broker.errors import ContractError

HEARD: Final = 32  # counts of a flow that are known again when they come a second time, from another place
KEPT: Final = 4_096  # running hashes of a flow after the last number that was confirmed, for counts that come later
_VERSION: Final = "count/v1"
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_RECEIVED: Final = re.compile(r"[^/\s]*\.in\.[^/\s]+\.[0-9]+/(out\.([^/.\s]+)\.[^/\s]+/[0-9]+)")
_SENT: Final = re.compile(r"in\.([^/\s]+)/[0-9]+")


class CountError(ContractError):
    """A count that is not of its form, or not its party's."""

    default_code = "audit.count"


@dataclass(frozen=True, slots=True)
class Count:
    """What a party says.

    Args:
        origin: of the logs that it counted beside. party: who counted. flow: see the module.
        first, last: numbers, both inclusive; the next count of the flow begins behind. root: 32 bytes, after `last`.
    """

    origin: str
    party: str
    flow: str
    first: int
    last: int
    root: bytes

    def __post_init__(self) -> None:
        found = _RECEIVED.fullmatch(self.flow) or _SENT.fullmatch(self.flow)
        if found is None or found[found.re.groups] != self.party:
            raise CountError("a count is of a flow that is not its party's own to count")
        if not 0 <= self.first <= self.last < 1 << 53 or len(self.root) != 32:
            raise CountError("a count needs two numbers in their order and a hash of 32 bytes")
        if not self.origin or "\n" in self.origin:
            raise CountError("the origin of a count is not one line with something on it")
        check_text(self.text())

    @property
    def sent(self) -> bool:
        """Whether it is a sender's."""
        return self.flow.startswith("in.")

    @property
    def lane(self) -> str:
        """`<topic>/<partition>` of the input of the lane concerned."""
        if self.sent:
            return self.flow
        topic, _, partition = self.flow.partition("/")[0].partition(".in.")[2].rpartition(".")
        return f"in.{topic}/{partition}"

    @property
    def output(self) -> str:
        """The flow as leaves name it."""
        return self.flow if self.sent else self.flow.partition("/")[2]

    def text(self) -> str:
        """To sign."""
        root = b64encode(self.root).decode()
        return f"{self.origin}/{_VERSION}\n{self.party}\n{self.flow}\n{self.first} {self.last}\n{root}\n"

    def sign(self, signer: Signer) -> bytes:
        """As a signed note.

        Raises:
            CountError: if the key is not named as the party.
        """
        if signer.name != self.party:
            raise CountError("the key that is to sign a count is not named as the party that counted")
        text = self.text()
        return render(text, [signer.sign(text)])

    @classmethod
    def parse(cls, text: str) -> Count:
        """Read the text of a count. Verifies nothing.

        Raises:
            CountError, NoteError: for any other spelling.
        """
        lines = text.split("\n")
        numbers = lines[3].split(" ") if len(lines) == 6 else []
        if len(numbers) != 2 or lines[5] or not lines[0].endswith(f"/{_VERSION}"):
            raise CountError("a count is not five lines: origin and version, party, flow, two numbers, a hash")
        first, last = (parse_decimal(number, "a number of a count") for number in numbers)
        origin = lines[0].removesuffix(f"/{_VERSION}")
        return cls(origin, lines[1], lines[2], first, last, decode_base64(lines[4], "the hash of a count"))

    @classmethod
    def open(cls, note: bytes, keys: Mapping[str, Iterable[Verifier]], origin: str) -> Count:
        """Read a count and verify that its party signed it.

        Args:
            keys: verifier keys by party. origin: that it must be of.

        Raises:
            CountError: if it is another's, of other logs, or of a party whose key is not known.
            NoteError: if it is no signed note, or the signature is wrong.
        """
        known = [key for party, those in keys.items() for key in those if key.kind == ED25519 and key.name == party]
        opened = open_note(note, known)
        count = cls.parse(opened.text)
        if count.party not in {signature.name for signature in opened.verified}:
            raise CountError("a count is not signed by the party that it names")
        if count.origin != origin:
            raise CountError("a count is of the logs of another installation")
        return count


@dataclass(slots=True)
class _Counter:
    """What was counted. To be kept between runs: four plain values.

    Args:
        flow: see the module. last, root: of what was counted. told: last number that a count was given of.
    """

    flow: str
    last: int = 0
    root: bytes = NOTHING
    told: int = 0

    def count(self, origin: str, party: str) -> Count | None:
        """All since the last count, to be signed; None if nothing is new."""
        if self.last == self.told:
            return None
        count = Count(origin, party, self.flow, self.told + 1, self.last, self.root)
        self.told = self.last
        return count


@dataclass(slots=True)
class FlowCounter(_Counter):
    """Counts what a receiver read of one flow: sequence numbers, from 1."""

    def read(self, seq: int, traceparent: str) -> None:
        """A record of the flow was read, in its order. One that was read before is passed over.

        Raises:
            CountError: a number is missing: `count.gap`. Ask the broker for it; do not go on counting.
        """
        if seq <= self.last:
            return
        if seq != self.last + 1:
            raise CountError(
                f"number {self.last + 1} of a flow did not come, number {seq} did: a record was lost on its way",
                code="count.gap",
            )
        found = _TRACEPARENT.fullmatch(traceparent)
        if found is None:
            raise CountError("a record has no traceparent of the broker's form, so it can not be counted")
        self.last, self.root = seq, running_hash(self.root, bytes.fromhex(found[1]), bytes.fromhex(found[2]))


@dataclass(slots=True)
class InputCounter(_Counter):
    """Counts what a sender sent to one partition of its input: the offsets that Kafka acknowledged, in their order."""

    last: int = -1
    told: int = -1

    def sent(self, offset: int) -> None:
        """A record was acknowledged. Offsets rise, but may leave some out."""
        if offset > self.last:
            self.last, self.root = offset, input_hash(self.root, offset)


def input_hash(root: bytes, offset: int) -> bytes:
    """The running hash of an input, after one more offset."""
    return sha256(root + offset.to_bytes(8, "big")).digest()


def _last(count: Count) -> int:
    return count.last


@dataclass(slots=True)
class _Counted:
    """One flow: ours after its newest number, and what its party said.

    Args:
        kept: running hash after each number that is not confirmed; forgotten: the newest that was given up, so that
            a count that comes later than `KEPT` numbers is compared by the offline command only.
        confirmed: the last number that is.
        waiting: counts of numbers that we have not come to, in the order of their last number.
        said: the last number that the party counted.
        heard: what it said last, to know it again.
    """

    lane: str
    last: int
    root: bytes
    confirmed: int
    said: int
    forgotten: int = -1
    kept: dict[int, bytes] = field(default_factory=dict)
    waiting: list[Count] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """A flow that its party has not counted to its end. No finding: a party need not count."""

    flow: str
    confirmed: int
    last: int


class Confirmations(Watcher):
    """Holds what parties counted against the leaves, while the reconciler reads them.

    Args:
        parties: who counts at all: only their flows are followed.
    """

    def __init__(self, parties: Iterable[str]) -> None:
        self._parties = frozenset(parties)
        self._flows: dict[str, _Counted] = {}
        self._found: list[Finding] = []
        self._windows: dict[str, int] = {}

    def decided(self, lane: Lane, offset: int) -> None:
        """See Watcher."""
        self._windows[lane.place] = lane.number + 1
        # Of a lane that is older than its log, the offsets before are not known, and so not their hash.
        if lane.founded and not lane.base and lane.place.partition("/")[0].removeprefix("in.") in self._parties:
            its = self._flow(lane.place, lane.place, -1)
            its.last, its.root = offset, input_hash(its.root, offset)
            self._grown(its)

    def delivered(self, lane: Lane, name: str, flow: Flow) -> None:
        """See Watcher."""
        self._windows[lane.place] = lane.number + 1
        topic = name.split(".")
        if lane.founded and len(topic) > 2 and topic[1] in self._parties:
            its = self._flow(f"{lane.place} {name}", lane.place, 0)
            its.last, its.root = flow.last, flow.root
            self._grown(its)

    def add(self, count: Count) -> None:
        """A party counted; in the order of the numbers of each flow, before or after the leaves were read.

        One of the last counts of a flow may come again, from another place: it says nothing new.
        """
        key = count.lane if count.sent else f"{count.lane} {count.output}"
        its = self._flow(key, count.lane, -1 if count.sent else 0)
        mark = sha256(count.text().encode()).hexdigest()[:32]
        if mark in its.heard:
            return
        its.heard = [*its.heard, mark][-HEARD:]
        if count.first != its.said + 1:
            self._tell(count, f"the counts of a flow end at number {its.said}, and the next begins at {count.first}.")
        its.said = max(its.said, count.last)
        if count.last > its.last:
            insort(its.waiting, count, key=_last)
        else:
            self._compare(its, count)

    def findings(self) -> Iterator[Finding]:
        """What was found since this was asked last."""
        found, self._found = self._found, []
        yield from found

    def missing(self) -> Iterator[Finding]:
        """What parties counted beyond the last leaf. Only to be asked when no leaf can be on its way any more."""
        for its in self._flows.values():
            for count in its.waiting:
                yield self._finding(count, f"a party counted up to number {count.last} of a flow, which no leaf has.")

    def unconfirmed(self) -> list[Unconfirmed]:
        """Flows with numbers that nobody counted yet."""
        return [
            Unconfirmed(key, its.confirmed, its.last)
            for key, its in sorted(self._flows.items())
            if its.confirmed < its.last
        ]

    def _flow(self, key: str, lane: str, before: int) -> _Counted:
        return self._flows.setdefault(key, _Counted(lane, before, NOTHING, before, before))

    def _grown(self, its: _Counted) -> None:
        its.kept[its.last] = its.root
        if len(its.kept) > KEPT:
            its.forgotten = next(iter(its.kept))
            del its.kept[its.forgotten]
        while its.waiting and its.waiting[0].last <= its.last:
            self._compare(its, its.waiting.pop(0))

    def _compare(self, its: _Counted, count: Count) -> None:
        root = its.kept.get(count.last)
        if root is None:
            if count.last > max(its.confirmed, its.forgotten):
                self._tell(count, f"a party counted number {count.last} of a flow, which has no leaf.")
        elif root != count.root:
            sentence = f"a party counted something else up to number {count.last} of a flow than the leaves say."
            self._tell(count, sentence)
        else:
            its.confirmed = max(its.confirmed, count.last)
            its.kept = {number: kept for number, kept in its.kept.items() if number > count.last}

    def _tell(self, count: Count, sentence: str) -> None:
        self._found.append(self._finding(count, sentence))

    def _finding(self, count: Count, sentence: str) -> Finding:
        return Finding("R5" if count.sent else "R4", count.lane, self._windows.get(count.lane, 0), sentence)

    # ---- between two runs of a service

    def pack(self) -> dict[str, Any]:
        """As JSON."""
        return {
            key: [
                its.lane, its.last, its.root.hex(), its.confirmed, its.said, its.forgotten,
                [[number, root.hex()] for number, root in its.kept.items()], [count.text() for count in its.waiting],
                its.heard,
            ]
            for key, its in self._flows.items()
        }  # fmt: skip

    def restore(self, data: dict[str, Any]) -> None:
        """The inverse of `pack`."""
        for key, (lane, last, root, confirmed, said, forgotten, kept, waiting, heard) in data.items():
            hashes = {number: bytes.fromhex(its) for number, its in kept}
            counts = sorted((Count.parse(text) for text in waiting), key=_last)
            self._flows[key] = _Counted(
                lane, last, bytes.fromhex(root), confirmed, said, forgotten, hashes, counts, heard
            )


def read_counts(
    notes: Iterable[tuple[str, bytes]], keys: Mapping[str, Iterable[Verifier]], origin: str
) -> tuple[list[Count], list[Finding]]:
    """Open counts, and put them into the order of their numbers.

    Args:
        notes: where each stands, and its bytes. keys: verifier keys by party.

    Returns:
        Those that their party signed, and a finding for each other one. A note that came twice counts once.
    """
    counts, found = set[Count](), list[Finding]()
    for where, note in notes:
        try:
            counts.add(Count.open(note, keys, origin))
        except (CountError, NoteError) as error:
            found.append(Finding("R4", "", 0, f"the count in {where} is not used: {error}."))
    return sorted(counts, key=lambda count: (count.flow, count.first, count.last)), found
