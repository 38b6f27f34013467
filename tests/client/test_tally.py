"""What a party counted survives whatever ends its program: no gap, nothing twice, and nobody else's record."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit.count import Count, FlowCounter, input_hash
from broker.audit.lanes import NOTHING
from broker.client.tally import BLOCK, Tally
from tests.audit.test_count import LANE, ORIGIN
from tests.exchange.world import DELTA, PORTAL

FLOW = f"{LANE}/out.{PORTAL}.usage/0"
INPUT = f"in.{DELTA}"


def trace(seq: int) -> str:
    """The header of a record."""
    return f"00-{seq + 1:032x}-{seq + 1:016x}-01"


def true_root(upto: int) -> bytes:
    """After so many records of the flow."""
    counter = FlowCounter(FLOW)
    for seq in range(1, upto + 1):
        counter.read(seq, trace(seq))
    return counter.root


def sent_root(upto: int) -> bytes:
    """After all offsets up to this one."""
    root = NOTHING
    for offset in range(upto + 1):
        root = input_hash(root, offset)
    return root


def begun_again(tally: Tally, disk: str, told: list[str] | None = None) -> Tally:
    """The program after a crash, with what stood on the disk."""
    again = Tally(tally.origin, tally.party, [].append if told is None else told.append)
    if disk:
        again.restore(json.loads(disk))
    return again


def written(tally: Tally) -> str:
    """What stands on the disk."""
    return json.dumps(tally.pack())


@given(st.lists(st.sampled_from(["read", "read", "read", "save", "commit", "count", "crash"]), max_size=60))
def test_a_receiver_that_dies_anywhere_counts_each_number_once(steps: list[str]) -> None:
    """The group's position is committed after the file; what comes again after a crash is passed over."""
    told, notes = list[str](), list[Count]()
    tally, disk, position, committed = Tally(ORIGIN, PORTAL, told.append), "", 0, 0
    for step in [*steps, "count"]:
        match step:
            case "read":
                position += 1
                tally.read(FLOW, position, trace(position))
            case "save":
                disk = written(tally)
            case "commit":
                disk, committed = written(tally), position
            case "count":
                notes += tally.counts()
                disk = written(tally)
            case _:
                tally, position = begun_again(tally, disk, told), committed
    assert told == []
    assert [note.first for note in notes] == [1, *(note.last + 1 for note in notes[:-1])][: len(notes)]
    assert all(note.root == true_root(note.last) for note in notes)
    assert (notes[-1].last if notes else 0) >= committed


def test_a_number_that_did_not_come_is_told_once_and_ends_the_counting_of_its_flow_alone() -> None:
    """What was counted before it stays good; if the number does come after all, counting goes on."""
    told = list[str]()
    tally = Tally(ORIGIN, PORTAL, told.append)
    for seq in (1, 2, 4, 5):
        tally.read(FLOW, seq, trace(seq))
        tally.read(FLOW[:-1] + "1", seq if seq < 3 else seq - 1, trace(seq))
    assert [sentence.partition(" only:")[0] for sentence in told] == [f"{FLOW} is counted up to 2"]
    assert [(count.flow, count.last) for count in tally.counts()] == [(FLOW, 2), (FLOW[:-1] + "1", 4)]
    for seq in (3, 4):
        tally.read(FLOW, seq, trace(seq))
    assert [(count.first, count.last, count.root) for count in tally.counts()] == [(3, 4, true_root(4))]


NOT_OURS: dict[str, tuple[str, int, str, str]] = {
    "begins-late": (FLOW, 7, trace(7), "its first record that came has number 7"),
    "another-party": (f"{LANE}/out.{DELTA}.usage/0", 1, trace(1), "not its party's own"),
    "no-flow": ("nonsense", 1, trace(1), "not its party's own"),
    "no-trace": (FLOW, 1, "", "has no traceparent"),
}


@pytest.mark.parametrize("name", NOT_OURS)
def test_what_can_not_be_counted_is_told_and_stops_nothing(name: str) -> None:
    """Nothing of it is written down."""
    flow, seq, traceparent, sentence = NOT_OURS[name]
    told = list[str]()
    tally = Tally(ORIGIN, PORTAL, told.append)
    for number in (seq, seq + 1):
        tally.read(flow, number, traceparent)
    assert len(told) == 1
    assert sentence in told[0]
    assert tally.counts() == []
    assert tally.pack()["flows"] == {}


# ---- a sender


@dataclass
class Answer:
    """Of Kafka."""

    offset: int


@dataclass
class Sending:
    """A party that sends, its disk, and Kafka."""

    told: list[str] = field(default_factory=list)
    kafka: int = 0  # records in the partition
    disk: str = ""
    tally: Tally = field(init=False)
    waiting: list[tuple[asyncio.Future[Answer], int | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tally = Tally(ORIGIN, DELTA, self.told.append)

    def save(self) -> None:
        """Write down what was counted."""
        self.disk = written(self.tally)

    def send(self, *, arrives: bool = True) -> None:
        """One record, that comes to Kafka or not; its answer comes later."""
        its = self.tally.input(INPUT, 0)
        if its.begun >= its.limit:
            its.promised = its.begun + BLOCK
            self.save()
            its.limit = its.promised
        its.begun += 1
        its.flying += 1
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.tally.queue(its, future)
        self.waiting.append((future, self.kafka if arrives else None))
        self.kafka += arrives

    async def answer(self, *, lose: bool = False) -> None:
        """The oldest answer comes, or never will."""
        if self.waiting:
            future, offset = self.waiting.pop(0)
            if lose or offset is None:
                future.set_exception(TimeoutError())
            else:
                future.set_result(Answer(offset))
            await asyncio.sleep(0)

    def crash(self) -> None:
        """Killed: it goes on with what stood on the disk."""
        self.waiting.clear()
        self.tally = begun_again(self.tally, self.disk, self.told)


STEPS = ["send", "send", "send", "lost-before", "answer", "answer", "lost-answer", "save", "count", "crash"]


@given(st.lists(st.sampled_from(STEPS), max_size=80))
def test_a_sender_that_dies_anywhere_counts_each_offset_once(steps: list[str]) -> None:
    """Answers that never came, and records that were answered after the file was written, are counted by the next."""

    async def play() -> None:
        sending, notes = Sending(), list[Count]()
        for step in [*steps, "end"]:
            match step:
                case "send" | "lost-before":
                    sending.send(arrives=step == "send")
                case "answer" | "lost-answer":
                    await sending.answer(lose=step == "lost-answer")
                case "save":
                    sending.save()
                case "count":
                    notes += sending.tally.counts()
                    sending.save()
                case "crash":
                    sending.crash()
                case _:
                    sending.send()
                    while sending.waiting:
                        await sending.answer()
                    notes += sending.tally.counts()
        assert sending.told == []
        assert [note.first for note in notes] == [0, *(note.last + 1 for note in notes[:-1])]
        assert all(note.root == sent_root(note.last) for note in notes)
        assert notes[-1].last == sending.kafka - 1

    asyncio.run(play())


def foreign_after_stop(sending: Sending) -> None:
    """It ended in order, so that nothing of it can be on its way."""
    sending.tally.rest()
    sending.save()
    sending.crash()
    sending.kafka += 1


def foreign_meanwhile(sending: Sending) -> None:
    """Though every answer came."""
    sending.kafka += 1


def topic_anew(sending: Sending) -> None:
    """It begins with 0 again."""
    sending.kafka = 0


@pytest.mark.parametrize("happens", [foreign_after_stop, foreign_meanwhile, topic_anew], ids=lambda f: f.__name__)
async def test_a_record_that_is_not_ours_ends_the_counting(happens: Callable[[Sending], None]) -> None:
    """Once told, also after a crash, in which the allowance would cover it; what was counted before stays good."""
    sending = Sending()
    for _ in range(3):
        sending.send()
        await sending.answer()
    happens(sending)
    for _ in range(2):
        sending.send()
        await sending.answer()
    assert [f"{INPUT}/0 went from 2 to" in sentence for sentence in sending.told] == [True]
    sending.save()
    sending.crash()
    sending.send()
    await sending.answer()
    assert len(sending.told) == 2
    assert "an earlier run found" in sending.told[1]
    assert [(count.first, count.last, count.root) for count in sending.tally.counts()] == [(0, 2, sent_root(2))]


async def test_who_begins_late_can_not_count_what_was_sent_before() -> None:
    """It is told so."""
    sending = Sending(kafka=5)
    sending.send()
    await sending.answer()
    assert "had 5 records before counting began" in sending.told[0]
    assert sending.tally.counts() == []


async def test_a_send_that_was_given_up_may_have_arrived() -> None:
    """Before or after others that are under way."""
    sending = Sending()
    sending.send()
    its = sending.tally.input(INPUT, 0)
    its.begun += 1
    its.flying += 1
    sending.tally.drop(its)
    sending.kafka += 1
    sending.send()
    while sending.waiting:
        await sending.answer()
    assert sending.told == []
    assert [(count.last, count.root) for count in sending.tally.counts()] == [(2, sent_root(2))]


async def test_a_lost_answer_explains_nothing_before_it() -> None:
    """Another's record stands before the first one of two; that the second got no answer does not make it ours."""
    sending = Sending()
    sending.kafka = 1
    sending.send()
    sending.send()
    sending.waiting[1][0].cancel()
    await sending.answer()
    assert "had 1 records before counting began" in sending.told[0]


def test_a_flow_whose_note_is_not_sent_yet_waits() -> None:
    """One note of it at a time is kept, so that a year without Kafka fills no disk."""
    tally = Tally(ORIGIN, PORTAL, [].append)
    tally.read(FLOW, 1, trace(1))
    (count,) = tally.counts()
    tally.unsent[count.flow] = b"note"
    tally.read(FLOW, 2, trace(2))
    again = begun_again(tally, written(tally))
    assert again.counts() == []
    assert again.unsent == {FLOW: b"note"}
    del again.unsent[FLOW]
    assert [(count.first, count.last) for count in again.counts()] == [(2, 2)]
