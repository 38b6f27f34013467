"""What a party counted, as plain values: a counter for each flow that it reads, and each partition that it sends to.

A receiver's numbers have no gap, so it is enough to count on from the last one: what is read again is passed over.

A sender learns a number only by Kafka's answer. When one does not come, or when the process was killed before it wrote
down what came, the next answer leaves numbers out. They are its own if so many records of it were without an answer,
and nobody else sends; more than that are somebody else's, and then it counts no further. To know after a crash how
many those can be, it writes down beforehand how many it may send until it writes down again (`BLOCK`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from broker.audit.count import Count, CountError, FlowCounter, InputCounter
from broker.audit.lanes import NOTHING
from broker.audit.log.note import NoteError
from broker.errors import ContractError

BLOCK: Final = 1_000
CRASHED: Final = -1  # stands for the number of a record that was sent before the process was killed


@dataclass(slots=True)
class Input:
    """One partition that the party sends to.

    Args:
        begun: records that were handed to Kafka's client, or are about to be. limit: how many may be; that is on the
            disk. promised: the same, as it is written down now.
        queued: records that came into its queue, or may have, numbered from 1.
        flying: begun, and without an answer. lost: numbers of those whose answer does not come.
        stopped: another's records are between ours, or ours began before counting did: not counted any more.
    """

    counter: InputCounter
    begun: int = 0
    limit: int = 0
    promised: int = 0
    queued: int = 0
    flying: int = 0
    lost: list[int] = field(default_factory=list)
    stopped: bool = False

    @property
    def open(self) -> int:
        """How many records may be in Kafka that are not counted."""
        return self.flying + len(self.lost)

    def answered(self, number: int, offset: int) -> None:
        """Kafka has the record of this number at this offset.

        Raises:
            CountError: `count.input`: offsets before it are not ours to count. Raised once.
        """
        self.flying -= 1
        before = sum(1 for one in self.lost if one < number)
        self.lost = [one for one in self.lost if one > number]
        if self.stopped:
            return
        first = self.counter.last + 1
        if not 0 <= offset - first <= before:
            self.stopped = True
            raise CountError(self._why(first, offset), code="count.input")
        for each in range(first, offset + 1):
            self.counter.sent(each)

    def _why(self, first: int, offset: int) -> str:
        flow = self.counter.flow
        if first == 0:
            return (
                f"{flow} had {offset} records before counting began, so it is not counted. Who counts must do so from "
                "the first record on"
            )
        return (
            f"{flow} went from {first - 1} to {offset}, and not by what was sent here: another program sends for this "
            "party too, or the topic is another one. It is counted no further; tell the operator if neither is so"
        )


class Tally:
    """All counters of a party.

    Args:
        tell: is given each sentence that a person should read, once.
    """

    def __init__(self, origin: str, party: str, tell: Callable[[str], object]) -> None:
        self.origin, self.party, self._tell = origin, party, tell
        self._flows: dict[str, FlowCounter] = {}
        self._inputs: dict[str, Input] = {}
        self._told: set[str] = set()
        self.unsent: dict[str, bytes] = {}
        self.changed = False

    # ---- a receiver

    def read(self, flow: str, seq: int, traceparent: str) -> None:
        """A record counts as processed. What can not be counted is told, once for each flow, and nothing is raised."""
        counter = self._flows.get(flow) or FlowCounter(flow)
        before = counter.last
        try:
            if flow not in self._flows:
                Count(self.origin, self.party, flow, 0, 0, NOTHING)  # is it ours to count?
            counter.read(seq, traceparent)
        except (CountError, NoteError) as error:
            self._say(flow, self._gap(flow, seq, counter, error))
        else:
            self._flows[flow] = counter
            self.changed |= counter.last != before

    def _gap(self, flow: str, seq: int, counter: FlowCounter, error: ContractError) -> str:
        if error.code == "count.gap" and not counter.last:
            return (
                f"{flow} is not counted: its first record that came has number {seq}. Who counts must read from the "
                "first one on"
            )
        return f"{flow} is counted up to {counter.last} only: {error}"

    # ---- a sender

    def input(self, topic: str, partition: int) -> Input:
        """A partition that the party sends to."""
        flow = f"{topic}/{partition}"
        if flow not in self._inputs:
            self._inputs[flow] = Input(InputCounter(flow))
        return self._inputs[flow]

    def queue(self, its: Input, answer: asyncio.Future[Any]) -> None:
        """A record stands in the queue of Kafka's client; in the order of the queue."""
        its.queued += 1
        number = its.queued
        answer.add_done_callback(lambda done: self._answered(its, number, done))

    def drop(self, its: Input) -> None:
        """A record that was begun may have been sent or not; no answer comes."""
        its.queued += 1
        its.flying -= 1
        its.lost.append(its.queued)
        self.changed = True

    def _answered(self, its: Input, number: int, answer: asyncio.Future[Any]) -> None:
        self.changed = True
        if answer.cancelled() or answer.exception() is not None:
            its.flying -= 1
            its.lost.append(number)
            return
        try:
            its.answered(number, answer.result().offset)
        except CountError as error:
            self._say(its.counter.flow, str(error))

    def rest(self) -> None:
        """Nothing more is sent until a limit is written down again."""
        for its in self._inputs.values():
            its.limit = its.promised = its.begun
        self.changed = True

    # ---- notes

    def counts(self) -> list[Count]:
        """All that is new since the last ones; a flow whose last note is still unsent waits."""
        counters = [*self._flows.values(), *(its.counter for its in self._inputs.values())]
        made = [each.count(self.origin, self.party) for each in counters if each.flow not in self.unsent]
        self.changed |= bool(made)
        return [count for count in made if count is not None]

    def _say(self, flow: str, sentence: str) -> None:
        if flow not in self._told:
            self._told.add(flow)
            self._tell(sentence)

    # ---- between two runs

    def pack(self) -> dict[str, Any]:
        """As JSON."""
        inputs = {
            flow: [*_plain(its.counter), its.open + max(its.limit, its.promised) - its.begun, its.stopped]
            for flow, its in self._inputs.items()
        }
        flows = {flow: _plain(counter) for flow, counter in self._flows.items()}
        unsent = {flow: note.decode() for flow, note in self.unsent.items()}
        return {"v": 1, "origin": self.origin, "party": self.party, "flows": flows, "inputs": inputs, "unsent": unsent}

    def restore(self, data: dict[str, Any]) -> None:
        """The inverse of `pack`.

        Raises:
            ValueError, TypeError, LookupError, AttributeError: it is something else.
        """
        self._flows, self._inputs = {}, {}
        for flow, (last, root, told) in data["flows"].items():
            self._flows[flow] = FlowCounter(flow, int(last), _hash(root), int(told))
        for flow, (last, root, told, left, stopped) in data["inputs"].items():
            counter = InputCounter(flow, int(last), _hash(root), int(told))
            self._inputs[flow] = Input(counter, lost=[CRASHED] * min(int(left), 1 << 20), stopped=bool(stopped))
            if stopped:
                self._say(flow, f"{flow} is not counted: an earlier run found records in it that are not ours to count")
        self.unsent = {flow: note.encode() for flow, note in data["unsent"].items()}


def _plain(counter: FlowCounter | InputCounter) -> list[int | str]:
    return [counter.last, counter.root.hex(), counter.told]


def _hash(text: str) -> bytes:
    root = bytes.fromhex(text)
    if len(root) != len(NOTHING):
        raise ValueError
    return root
