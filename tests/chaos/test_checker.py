"""The checker of the hostile run: a history that is right is clean, and each planted fault is found, under its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chaos import journal
from chaos.checker import DEADLINE_MS, check
from chaos.history import (
    Decision,
    History,
    Input,
    Lane,
    Output,
    Place,
    Quarantined,
    Seen,
    Status,
    Withdrawal,
)

SENDER, PORTAL, SHOP = "publisher", "portal", "shop"
IN, SCHOOL = f"in.{SENDER}", "99AA"
LANE = f"{IN}/0"


def clean_history() -> History:
    """Five events about two pupils, one of whom came late; one event sent twice, one refused, one that is none.

    Offsets 0, 2: Anna; 1, 3: Bram, who came after 3; 4: Anna's first once more; 5: refused; 6: no event;
    7: about somebody who never came.
    """
    history = History()
    events = ["a1", "b1", "a2", "b2", "a1", "a3", None, "n1"]
    pupils = ["anna", "bram", "anna", "bram", "anna", "anna", None, "nobody"]
    history.inputs = [Input(Place(IN, 0, n), *about) for n, about in enumerate(zip(events, pupils, strict=True))]
    history.acknowledged = [Seen(item.place, item.event) for item in history.inputs if item.event is not None]
    history.absent = {"nobody"}
    seqs = {PORTAL: 0, SHOP: 0}
    for offset in (0, 2, 1, 3):  # Bram's wait until he comes
        for receiver in (PORTAL, SHOP):
            deliver(history, offset, receiver, seqs)
    for receiver in (PORTAL, SHOP):
        decide(history, 4, "duplicate", receiver, "event.duplicate")
    decide(history, 5, "refused", None, "gate.agreement")
    decide(history, 6, "quarantined", None, "frame.marker")
    history.quarantined = [Quarantined(Place(IN, 0, 6), "0" * 8)]
    for offset in (1, 3, 7):
        decide(history, offset, "parked", None, "subject.waiting")
    tell(history)
    history.lanes = {LANE: Lane(8, {f"out.{to}.usage/0": 4 for to in (PORTAL, SHOP)}, 1)}
    history.ends = {LANE: 8, f"{IN}/1": 0}
    history.seen = [Seen(output.place, output.event) for output in history.outputs if output.receiver == PORTAL]
    name, last = f"out.{PORTAL}.usage/0", max(output.place.offset for output in history.outputs)
    history.withdrawals = [
        Withdrawal(SENDER, PORTAL, "usage", 10_000, SCHOOL, {name: 100}),
        # Nothing could be read yet, but all was committed behind what was still open.
        Withdrawal(SENDER, PORTAL, "usage", 10_000, SCHOOL, {name: 0}, {name: [[0, 1], [1, last + 1]]}),
    ]
    return history


def decide(history: History, offset: int, outcome: str, receiver: str | None, code: str) -> None:
    """A leaf of the audit."""
    event = history.inputs[offset].event or "0" * 8
    history.decisions.append(Decision(Place(IN, 0, offset), event, outcome, receiver, code))


def deliver(history: History, offset: int, receiver: str, seqs: dict[str, int]) -> None:
    """A record for a receiver, and its leaf."""
    item, seqs[receiver] = history.inputs[offset], seqs[receiver] + 1
    assert item.event is not None
    flow, seq = f"out.{receiver}.usage", seqs[receiver]
    place = Place(flow, 0, 2 * seq)  # markers of transactions stand in between
    history.outputs.append(
        Output(
            place, item.event, SENDER, receiver, "usage", "USE", LANE, seq, item.pupil, item.place, 1000 * seq, SCHOOL
        )
    )
    history.decisions.append(Decision(item.place, item.event, "delivered", receiver, "ok", f"{flow}/0", seq))


def tell(history: History) -> None:
    """A status for each input and moment: what waited was told apart."""
    for item in history.inputs:
        mine = [d for d in history.decisions if d.source == item.place]
        for interim in (True, False):
            results = tuple((d.outcome, d.receiver, d.code) for d in mine if (d.outcome == "parked") is interim)
            if results:
                history.statuses.append(Status(item.place, mine[0].event, results))


def test_a_run_as_promised_is_clean() -> None:
    """Parked, repeated, refused and broken records included."""
    assert str(check(clean_history())) == "clean"


def test_a_history_is_the_same_after_it_was_on_disk(tmp_path: Path) -> None:
    """What a run left can be judged again."""
    history, file = clean_history(), tmp_path / "history.jsonl.gz"
    journal.save(history, file)
    assert journal.load(file) == history


# ---- faults: each changes one thing


def _input_without_decision(h: History) -> None:
    h.inputs.append(Input(Place(IN, 0, 8), "a9", "anna"))
    h.ends[LANE], h.lanes[LANE] = 9, h.lanes[LANE]._replace(next_offset=9)


def _acknowledged_and_gone(h: History) -> None:
    h.acknowledged.append(Seen(Place(IN, 0, 8), "a9"))


def _still_waiting_though_he_came(h: History) -> None:
    h.absent.clear()


def _delivery_without_record(h: History) -> None:
    del h.outputs[-1]
    h.lanes[LANE] = Lane(8, {f"out.{PORTAL}.usage/0": 4, f"out.{SHOP}.usage/0": 3}, 1)


def _delivered_nowhere(h: History) -> None:
    decide(h, 5, "delivered", "third", "ok")
    h.statuses.append(Status(Place(IN, 0, 5), "a3", (("delivered", "third", "ok"),)))


def _called_a_duplicate_of_nothing(h: History) -> None:
    number = next(n for n, d in enumerate(h.decisions) if d.outcome == "refused")
    h.decisions[number] = h.decisions[number]._replace(outcome="duplicate", receiver=PORTAL)
    _retell(h)


def _status_missing(h: History) -> None:
    h.statuses.pop()


def _quarantine_missing(h: History) -> None:
    h.quarantined.clear()


def _no_lane(h: History) -> None:
    h.lanes.clear()


def _a_reader_missed_a_number(h: History) -> None:
    h.gaps.append(f"{LANE}>out.{PORTAL}.usage/0: 3 was due, 4 came")


def _output_twice(h: History) -> None:
    last = h.outputs[-1]
    h.outputs.append(last._replace(place=last.place._replace(offset=last.place.offset + 1)))


def _decided_twice(h: History) -> None:
    decide(h, 5, "refused", None, "gate.agreement")


def _decided_for_all_and_for_one(h: History) -> None:
    decide(h, 0, "refused", None, "gate.agreement")


def _parked_twice(h: History) -> None:
    decide(h, 1, "parked", None, "subject.waiting")


def _told_twice(h: History) -> None:
    h.statuses.append(h.statuses[0])


def _quarantined_twice(h: History) -> None:
    h.quarantined *= 2


def _duplicate_delivered_again(h: History) -> None:
    h.decisions = [d for d in h.decisions if not (d.outcome == "duplicate" and d.receiver == SHOP)]
    deliver(h, 4, SHOP, {SHOP: 4})
    h.lanes[LANE] = Lane(8, {f"out.{PORTAL}.usage/0": 4, f"out.{SHOP}.usage/0": 5}, 1)
    _retell(h)


def _decision_of_nothing(h: History) -> None:
    h.decisions.append(Decision(Place(IN, 1, 5), "x", "refused", None, "gate.agreement"))


def _swapped(h: History, first: int, second: int) -> None:
    """Two outputs change places, numbers and all: only whose input came first tells."""
    one, other = h.outputs[first], h.outputs[second]
    h.outputs[first] = one._replace(place=other.place, seq=other.seq)
    h.outputs[second] = other._replace(place=one.place, seq=one.seq)
    numbers = {(o.event, o.receiver): o.seq for o in h.outputs}
    h.decisions = [d._replace(seq=numbers[d.event, d.receiver or ""]) if d.flow is not None else d for d in h.decisions]
    h.seen = [Seen(o.place, o.event) for o in h.outputs if o.receiver == PORTAL]


def _order_of_a_pupil(h: History) -> None:
    _swapped(h, 0, 2)


def _order_of_what_was_parked(h: History) -> None:
    _swapped(h, 4, 6)


def _a_pupil_in_two_partitions(h: History) -> None:
    last = h.outputs[2]  # Anna's second, as the first of the other partition
    h.outputs[2] = last._replace(place=Place(f"out.{PORTAL}.usage", 1, 0), seq=1)


def _numbers_out_of_order(h: History) -> None:
    a, b = h.outputs[0], h.outputs[2]
    h.outputs[0], h.outputs[2] = a._replace(seq=b.seq), b._replace(seq=a.seq)


def _gap_in_the_numbers(h: History) -> None:
    h.outputs[-2] = h.outputs[-2]._replace(seq=5)


def _output_without_leaf(h: History) -> None:
    h.decisions = [d for d in h.decisions if (d.event, d.receiver) != ("b2", SHOP)]
    _retell(h)


def _told_what_was_not_decided(h: History) -> None:
    h.statuses.append(Status(Place(IN, 0, 5), "a3", (("refused", SHOP, "gate.policy"),)))


def _quarantined_without_leaf(h: History) -> None:
    h.quarantined.append(Quarantined(Place(IN, 0, 5), "a3"))


def _late_by_the_clock(h: History) -> None:
    h.withdrawals = [Withdrawal(SENDER, PORTAL, "usage", 4_000 - DEADLINE_MS - 1)]


def _late_by_where_it_lies(h: History) -> None:
    h.withdrawals = [Withdrawal(SENDER, PORTAL, "usage", 10_000, SCHOOL, {f"out.{PORTAL}.usage/0": 8})]


def _late_behind_what_was_open(h: History) -> None:
    name, last = f"out.{PORTAL}.usage/0", max(o.place.offset for o in h.outputs if o.receiver == PORTAL)
    h.withdrawals = [Withdrawal(SENDER, PORTAL, "usage", 10_000, SCHOOL, {name: 0}, {name: [[0, last]]})]


def _read_and_gone(h: History) -> None:
    h.seen.append(Seen(Place(f"out.{PORTAL}.usage", 0, 7), "a3"))


def _lane_elsewhere(h: History) -> None:
    h.lanes[LANE] = h.lanes[LANE]._replace(next_offset=7)


def _lane_counts_otherwise(h: History) -> None:
    h.lanes[LANE] = h.lanes[LANE]._replace(flows={f"out.{PORTAL}.usage/0": 4, f"out.{SHOP}.usage/0": 3})


def _lane_parks_otherwise(h: History) -> None:
    h.lanes[LANE] = h.lanes[LANE]._replace(parked=0)


def _a_settling_record_is_visible(h: History) -> None:
    h.strange.append(Place(f"out.{PORTAL}.usage", 0, 1))


def _leaf_of_another_input(h: History) -> None:
    h.outputs[0] = h.outputs[0]._replace(source=Place(IN, 0, 2))


def _retell(h: History) -> None:
    h.statuses.clear()
    tell(h)


FAULTS: dict[Callable[[History], None], str] = {
    _input_without_decision: "lost", _acknowledged_and_gone: "lost", _still_waiting_though_he_came: "lost",
    _delivery_without_record: "lost", _delivered_nowhere: "lost", _called_a_duplicate_of_nothing: "lost",
    _status_missing: "lost", _quarantine_missing: "lost", _no_lane: "lost", _a_reader_missed_a_number: "lost",
    _output_twice: "doubled", _decided_twice: "doubled", _decided_for_all_and_for_one: "doubled",
    _parked_twice: "doubled", _told_twice: "doubled", _quarantined_twice: "doubled",
    _duplicate_delivered_again: "doubled", _decision_of_nothing: "doubled",
    _order_of_a_pupil: "reordered", _order_of_what_was_parked: "reordered",
    _a_pupil_in_two_partitions: "reordered", _numbers_out_of_order: "reordered", _gap_in_the_numbers: "reordered",
    _output_without_leaf: "unaudited", _told_what_was_not_decided: "unaudited",
    _quarantined_without_leaf: "unaudited", _late_by_the_clock: "late", _late_by_where_it_lies: "late",
    _late_behind_what_was_open: "late",
    _read_and_gone: "aborted", _lane_elsewhere: "disagreeing", _lane_counts_otherwise: "disagreeing",
    _lane_parks_otherwise: "disagreeing", _a_settling_record_is_visible: "disagreeing", _leaf_of_another_input: "disagreeing",
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.strip("_"))
def test_each_planted_fault_is_found(fault: Callable[[History], None]) -> None:
    """Under the name that it is counted by."""
    history = clean_history()
    fault(history)
    verdict = check(history)
    assert getattr(verdict, FAULTS[fault]), str(verdict)


def test_order_is_seen_where_nothing_else_is_wrong() -> None:
    """A swap of two outputs that agrees with its leaves, statuses and numbers is found by their inputs alone."""
    history = clean_history()
    _order_of_what_was_parked(history)
    verdict = check(history)
    assert [name for name, found in verdict.all() if found] == ["reordered"]
