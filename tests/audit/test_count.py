"""Counts by the parties: what a receiver read and a sender sent is what the leaves say, or it is found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from broker.audit.count import (
    Confirmations,
    Count,
    CountError,
    FlowCounter,
    InputCounter,
    read_counts,
)
from broker.audit.log.note import NoteError, Signer, Verifier
from broker.audit.reconcile import Reconciler, read_all
from broker.wire import FLOW, FLOW_SEQ, TRACEPARENT
from tests.audit.histories import changed, content, leaves_of, minute, window_of
from tests.exchange.world import DELTA, PORTAL, SIS, World, enrolment, event, make_world

ORIGIN = "broker.example/audit/test"
LANE = f"exchange.in.{DELTA}.1"
KEYS = {
    party: Signer(party, Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32))
    for n, party in enumerate((DELTA, PORTAL))
}
VKEYS = {party: [Verifier.parse(key.vkey)] for party, key in KEYS.items()}


@cache
def a_world() -> World:
    """Delta sends ten events, of which the portal gets some."""
    world = make_world()
    world.send(SIS, enrolment())
    for n in range(5):
        world.send(DELTA, event(receiver=PORTAL), event())
        if n % 2:
            minute(world)
    minute(world)
    return world


@cache
def history() -> tuple[bytes, ...]:
    """Its leaves."""
    return tuple(leaves_of(a_world()))


def received(upto: int = 1 << 53, skip: int | None = None) -> list[Count]:
    """What the portal counts of what it reads, from the headers of the records alone, in two steps."""
    counters: dict[str, FlowCounter] = {}
    found = []
    for out in a_world().outgoing:
        if out.topic == f"out.{PORTAL}.usage":
            headers = {name: value.decode() for name, value in out.headers if name in (FLOW, FLOW_SEQ, TRACEPARENT)}
            if headers[FLOW] != LANE:
                continue
            flow = f"{headers[FLOW]}/{out.topic}/{out.partition}"
            counter, seq = counters.setdefault(flow, FlowCounter(flow)), int(headers[FLOW_SEQ])
            if seq > upto:
                continue
            if seq == skip:
                counter.last += 1  # it pretends that it read it
                continue
            counter.read(seq, headers[TRACEPARENT])
            if seq == 2:
                found.append(counter.count(ORIGIN, PORTAL))
    found += [counter.count(ORIGIN, PORTAL) for counter in counters.values()]
    return sorted((count for count in found if count is not None), key=lambda count: (count.flow, count.first))


def sent(offsets: Iterable[int] = range(10)) -> list[Count]:
    """What Delta counts of what it sent."""
    counter = InputCounter(f"in.{DELTA}/1")
    for offset in offsets:
        counter.sent(offset)
    count = counter.count(ORIGIN, DELTA)
    return [] if count is None else [count]


def held(counts: Iterable[Count], leaves: Iterable[bytes] = (), late: bool = False) -> tuple[list[str], Confirmations]:
    """Rules that are broken; counts that come before the leaves, or after them."""
    confirmations = Confirmations(KEYS)
    reconciler = Reconciler(watcher=confirmations)
    for count in counts if not late else ():
        confirmations.add(count)
    found = list(read_all(leaves or history(), reconciler))
    for count in counts if late else ():
        confirmations.add(count)
    found += [*confirmations.findings(), *confirmations.missing()]
    return [finding.rule for finding in found], confirmations


class Looked(int):
    """A number that says how often it was held against another one."""

    times = 0

    def __le__(self, other: int) -> bool:
        Looked.times += 1
        return int(self) <= other

    def __gt__(self, other: int) -> bool:
        Looked.times += 1
        return int(self) > other

    def __lt__(self, other: int) -> bool:
        Looked.times += 1
        return int(self) < other


def test_counts_that_wait_are_not_all_looked_at_for_each_leaf() -> None:
    """Two years of counts, or what a party invents, would else keep the reconciler from coming to an end."""
    (good,) = sent()
    confirmations = Confirmations(KEYS)
    for count in (replace(good, first=n, last=Looked(n)) for n in range(1_999, 999, -1)):
        confirmations.add(count)
    confirmations.add(good)
    Looked.times = 0
    list(read_all(history(), Reconciler(watcher=confirmations)))
    assert Looked.times < 100
    assert len(list(confirmations.missing())) == 1_000
    assert f"in.{DELTA}/1" not in {its.flow for its in confirmations.unconfirmed()}
    again = Confirmations(KEYS)
    packed = json.loads(json.dumps(confirmations.pack()))
    packed[good.flow][7].reverse()
    again.restore(packed)
    assert again.pack() == confirmations.pack(), "an older state may have them in another order"


@pytest.mark.parametrize("late", [False, True])
def test_what_both_parties_counted_is_what_the_leaves_say(late: bool) -> None:
    """Whether the counts or the leaves are read first: nothing is left unconfirmed but what nobody counted."""
    counts = [*received(), *sent()]
    assert len(counts) >= 3
    found, confirmations = held(counts, late=late)
    assert found == []
    assert confirmations.unconfirmed() == []


def test_what_nobody_counted_is_unconfirmed_and_no_finding() -> None:
    """A party need not count; of one without a key nothing is followed at all."""
    found, confirmations = held([])
    assert found == []
    assert {its.flow.partition(" ")[0] for its in confirmations.unconfirmed()} == {f"in.{DELTA}/1"}
    assert all(its.confirmed <= 0 < its.last for its in confirmations.unconfirmed())
    nobody = Confirmations(())
    list(read_all(history(), Reconciler(watcher=nobody)))
    assert nobody.unconfirmed() == []


def test_who_counted_a_part_confirmed_a_part() -> None:
    """The rest is unconfirmed."""
    found, confirmations = held(received(upto=2))
    assert found == []
    portal = [its for its in confirmations.unconfirmed() if " out." in its.flow]
    assert portal
    assert all(its.confirmed == 2 < its.last for its in portal)


@pytest.mark.parametrize("late", [False, True])
def test_a_record_that_a_receiver_did_not_get_is_found(late: bool) -> None:
    """Its running hash lacks it."""
    assert "R4" in held(received(skip=2), late=late)[0]


@pytest.mark.parametrize("late", [False, True])
def test_a_receiver_that_counts_more_than_was_delivered_is_found(late: bool) -> None:
    """Or something was delivered of which there is no leaf."""
    last = received()[-1]
    assert held([*received(), replace(last, first=last.last + 1, last=last.last + 3)], late=late)[0] == ["R4"]


def test_counts_of_a_flow_that_do_not_follow_each_other_are_found() -> None:
    """Somebody took one away."""
    counts = received()
    assert counts[0].last < counts[1].last
    assert "R4" in held(counts[1:])[0]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("offsets", [range(9), range(11), [0, 1, 2, 3, 5, 6, 7, 8, 9], [*range(9), 11]])
def test_what_a_sender_sent_and_what_was_decided_over_is_compared(late: bool, offsets: Iterable[int]) -> None:
    """One record less is a part; one that nobody decided over, or that it never sent, is a finding."""
    assert held(sent(offsets), late=late)[0] == ([] if offsets == range(9) else ["R5"])


def test_an_offset_that_nobody_decided_over_is_found_behind_one_that_was_confirmed() -> None:
    """What was confirmed is not remembered; what comes behind is compared all the same."""
    world = make_world()
    world.send(DELTA, *[event(school="00AA") for _ in range(4)])
    leaves = leaves_of(world)
    confirmations = Confirmations(KEYS)
    list(read_all([*leaves[:2], leaves[3]], Reconciler(watcher=confirmations)))
    counter = InputCounter(f"in.{DELTA}/1")
    for offset in (1, 2):
        for sent_one in range(counter.last + 1, offset + 1):
            counter.sent(sent_one)
        count = counter.count(ORIGIN, DELTA)
        assert count is not None
        confirmations.add(count)
    (finding,) = confirmations.findings()
    assert finding.rule == "R5"
    assert "number 2 of a flow, which has no leaf" in finding.sentence


def test_an_omission_that_is_hidden_from_all_windows_is_found_by_the_senders_count() -> None:
    """A refused event is left out, and counts and offsets of its window are made to fit: only the sender can tell."""
    world = make_world()
    world.send(DELTA, event(school="00AA"), event(school="00AA"), event(school="00AA"))
    minute(world)
    leaves = leaves_of(world)
    said = window_of(leaves[-1])
    assert said is not None
    (count,) = said["counts"]
    assert content(leaves[1])["x"]["in"]["offset"] == 1
    window = changed(leaves[-1], "window", "counts", to=[{**count, "n": 2}])
    window = changed(changed(window, "window", "leaves", to=2), "window", "input", "count", to=2)
    hidden = [leaves[0], leaves[2], window]
    assert held([], hidden)[0] == []
    assert held(sent(range(3)), hidden)[0] == ["R5"]


def test_what_was_confirmed_can_be_kept() -> None:
    """As JSON, with what waits; a count that comes later is compared all the same."""
    first = Confirmations(KEYS)
    first.add(received()[0])
    reconciler = Reconciler(watcher=first)
    list(read_all(history()[:6], reconciler))
    kept = Confirmations(KEYS)
    kept.restore(json.loads(json.dumps(first.pack())))
    reconciler.watcher = kept
    list(read_all(history()[6:], reconciler))
    for count in [*received()[1:], *sent()]:
        kept.add(count)
    assert [*kept.findings(), *kept.missing()] == []
    assert kept.unconfirmed() == []


# ---- the note


def test_a_count_is_five_lines_and_a_signature() -> None:
    """As documented, byte for byte; read back it is the same."""
    count = Count(ORIGIN, PORTAL, f"{LANE}/out.{PORTAL}.usage/0", 841, 907, bytes(32))
    assert count.text() == (
        f"{ORIGIN}/count/v1\n{PORTAL}\n{LANE}/out.{PORTAL}.usage/0\n841 907\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
    )
    assert Count.parse(count.text()) == count
    assert Count.open(count.sign(KEYS[PORTAL]), VKEYS, ORIGIN) == count


def test_only_a_party_itself_can_count_for_it() -> None:
    """Not another party, not under a key that is not its own, not for other logs."""
    count = Count(ORIGIN, PORTAL, f"{LANE}/out.{PORTAL}.usage/0", 1, 2, bytes(32))
    with pytest.raises(CountError):
        count.sign(KEYS[DELTA])
    other = Signer(PORTAL, Ed25519PrivateKey.from_private_bytes(b"x" * 32))
    with pytest.raises(NoteError):
        Count.open(count.sign(other), VKEYS, ORIGIN)
    with pytest.raises(NoteError):
        Count.open(count.sign(KEYS[PORTAL]), {PORTAL: VKEYS[DELTA]}, ORIGIN)
    with pytest.raises(CountError):
        Count.open(count.sign(KEYS[PORTAL]), VKEYS, "another.example/audit")
    with pytest.raises(CountError):
        Count(ORIGIN, DELTA, count.flow, 1, 2, bytes(32))
    with pytest.raises(CountError):
        Count(ORIGIN, PORTAL, f"in.{DELTA}/1", 1, 2, bytes(32))
    good, found = read_counts(
        [("a", count.sign(KEYS[PORTAL])), ("b", count.sign(other)), ("c", count.sign(KEYS[PORTAL]))], VKEYS, ORIGIN
    )
    assert good == [count]
    assert [(finding.rule, "in b" in finding.sentence) for finding in found] == [("R4", True)]


def test_every_bit_of_a_count_matters() -> None:
    """None can be flipped so that the note is still a count of this party."""
    note = Count(ORIGIN, PORTAL, f"{LANE}/out.{PORTAL}.usage/0", 1, 2, bytes(32)).sign(KEYS[PORTAL])
    for bit in range(len(note) * 8):
        flipped = bytearray(note)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises((CountError, NoteError)):
            Count.open(bytes(flipped), VKEYS, ORIGIN)


BROKEN: list[Callable[[str], str]] = [
    lambda text: text + "x\n",
    lambda text: text.replace("1 2", "2 1"),
    lambda text: text.replace("1 2", "01 2"),
    lambda text: text.replace("1 2", "1  2"),
    lambda text: text.replace("count/v1", "count/v2"),
    lambda text: text.replace("A=", "B="),
    lambda text: text.replace("out.", "in."),
    str.swapcase,
]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_count_in_another_spelling_is_refused(broken: Callable[[str], str]) -> None:
    """One text, one meaning."""
    text = broken(Count(ORIGIN, PORTAL, f"{LANE}/out.{PORTAL}.usage/0", 1, 2, bytes(32)).text())
    with pytest.raises((CountError, NoteError)):
        Count.parse(text)


@given(st.text() | st.lists(st.text(max_size=9), min_size=5, max_size=5).map(lambda lines: "\n".join([*lines, ""])))
def test_any_text_is_a_count_or_is_refused(text: str) -> None:
    """By an error of ours."""
    with pytest.raises((CountError, NoteError)):
        Count.parse(text)


# ---- who counts


def test_a_receiver_sees_at_once_that_a_number_is_missing() -> None:
    """What it read before, a second time, is passed over; nothing is counted over a gap."""
    counter = FlowCounter(f"{LANE}/out.{PORTAL}.usage/0")
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert counter.count(ORIGIN, PORTAL) is None
    counter.read(1, trace)
    counter.read(1, trace)
    with pytest.raises(CountError) as error:
        counter.read(3, trace)
    assert error.value.code == "count.gap"
    with pytest.raises(CountError):
        counter.read(2, "none")
    counter.read(2, trace)
    count = counter.count(ORIGIN, PORTAL)
    assert count is not None
    assert (count.first, count.last) == (1, 2)
    counter.read(3, trace)
    after = counter.count(ORIGIN, PORTAL)
    assert after is not None
    assert (after.first, after.last) == (3, 3)
    assert counter.count(ORIGIN, PORTAL) is None
