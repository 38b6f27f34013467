"""The reconciler: a history that the exchange wrote adds up, and with one fault anywhere in it does not."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.audit.leaf import canonical, control_leaf
from broker.audit.reconcile import Finding, Reconciler, read_all
from broker.audit.told import read_gap
from broker.exchange.windows import Window, window_leaves
from tests.audit import histories
from tests.audit.histories import changed, content, history, lane_of, leaves_of, window_of
from tests.exchange.world import DELTA, SIS, event

IN = f"in.{DELTA}"
AFTER_ALL = 1 << 52  # no lane may be open then


def findings(leaves: Iterable[bytes], reconciler: Reconciler | None = None) -> list[Finding]:
    """Of a whole history, every lane of which should have told its last window by now."""
    reconciler = reconciler or Reconciler()
    return [*read_all(leaves, reconciler), *reconciler.late(AFTER_ALL)]


def rules(leaves: Iterable[bytes], reconciler: Reconciler | None = None) -> set[str]:
    """Those that a history breaks."""
    return {finding.rule for finding in findings(leaves, reconciler)}


@pytest.mark.parametrize("world", [histories.a_world, histories.waiting, histories.duties, histories.erasures])
def test_what_the_exchange_wrote_adds_up(world: Callable[[], Any]) -> None:
    """Whatever it decided, in several lanes of one partition, also when lanes were taken over."""
    leaves = leaves_of(world())
    assert findings(leaves) == []
    assert len({lane_of(leaf) for leaf in leaves}) >= 2


def test_the_histories_have_every_decision_in_them() -> None:
    """Else the tests here would say less than they seem to."""
    leaves = [leaf for make in (histories.a_world, histories.waiting, histories.duties) for leaf in leaves_of(make())]
    evidence = [content(leaf).get("x", {}) for leaf in leaves]
    decisions = {x.get("decision") for x in evidence}
    assert decisions >= {"delivered", "refused", "duplicate", "quarantined", "parked", "expired"}
    assert any("replay_of" in x for x in evidence)
    assert any("in" not in x for x in evidence if x)


def drop(leaves: tuple[bytes, ...], at: int) -> list[bytes]:
    """Without one leaf."""
    return [*leaves[:at], *leaves[at + 1 :]]


def double(leaves: tuple[bytes, ...], at: int) -> list[bytes]:
    """With one leaf twice."""
    return [*leaves[: at + 1], *leaves[at:]]


def test_no_leaf_can_be_left_out() -> None:
    """A decision is missed by its window (R6), a window by the next one or by the lane that stays open (R6)."""
    for at in range(len(history())):
        assert "R6" in rules(drop(history(), at))


def test_no_leaf_can_stand_there_twice() -> None:
    """It is one too many for its window, and its span is known."""
    for at in range(len(history())):
        found = rules(double(history(), at))
        assert "R6" in found
        assert window_of(history()[at]) or content(history()[at])["x"]["decision"] == "parked" or found & {"R1", "R2"}


# ---- erasures


def erasures_gone_wrong() -> dict[str, tuple[list[bytes], set[str]]]:
    """Histories with one fault at an `erased` leaf, and the rules that find it."""
    leaves = tuple(leaves_of(histories.erasures()))
    at = [n for n, leaf in enumerate(leaves) if "erased" in content(leaf)][-1]
    before, rest = leaves[: at - 1], leaves[at + 1 :]
    erase, erased = leaves[at - 1], leaves[at]
    return {
        "left out": (drop(leaves, at), {"R7"}),
        "twice": (double(leaves, at), {"R7"}),
        "behind its window": ([*before, erase, *rest, erased], {"R7"}),
        "before its ERASE": ([*before, erased, erase, *rest], {"R7"}),
        "of another id": ([*before, erase, changed(erased, "erased", "id", to="A" * 22), *rest], {"R7"}),
        "of no form": ([*before, erase, changed(erased, "erased", "id", to=7), *rest], {"R0", "R7"}),
        "without its ERASE": (drop(leaves, at - 1), {"R1", "R6", "R7"}),
    }


def early_erasure_of_an_epoch() -> list[bytes]:
    """A log that begins with an `erased` leaf: its ERASE was the last leaf of the log before."""
    leaves = leaves_of(histories.erasures())
    at = next(n for n, leaf in enumerate(leaves) if "erased" in content(leaf))
    return [canonical({"epoch": {"reason": "lost"}, "v": 1}), *leaves[at:]]


@pytest.mark.parametrize("case", erasures_gone_wrong())
def test_an_erasure_has_its_leaf_and_a_leaf_its_erasure(case: str) -> None:
    """Neither alone, in whatever order; also if the reconciler is stopped between any two leaves and goes on later."""
    leaves, broken = erasures_gone_wrong()[case]
    assert rules(leaves) == broken
    found, reconciler = set[str](), Reconciler()
    for leaf in leaves:
        found |= {finding.rule for finding in reconciler.feed(leaf)}
        reconciler = Reconciler.unpack(json.loads(json.dumps(reconciler.pack())))
    assert found == broken


def test_of_an_erasure_at_the_start_of_an_epoch_nothing_is_known() -> None:
    """But of a second one it is."""
    leaves = early_erasure_of_an_epoch()
    assert findings(leaves) == []
    assert rules([*leaves, leaves[1]]) == {"R7"}


def test_a_state_from_before_there_were_erasures_is_read() -> None:
    """A service that was updated goes on."""
    reconciler = Reconciler()
    assert list(read_all(history(), reconciler)) == []
    kept = reconciler.pack()
    for lane in kept["lanes"]:
        del lane["erasures"]
    assert Reconciler.unpack(kept) == reconciler


def test_leaves_can_not_change_places() -> None:
    """By number (R3), by input offset (R1), or by the window that they are counted in (R6)."""
    for one, other in histories.swaps(history()):
        leaves = list(history())
        leaves[one], leaves[other] = leaves[other], leaves[one]
        assert rules(leaves) & {"R1", "R3", "R6"}


DECISIONS = [at for at, leaf in enumerate(history()) if window_of(leaf) is None]
NUMBERED = [at for at in DECISIONS if "seq" in content(history()[at])["x"]]


@pytest.mark.parametrize(
    ("path", "to", "rule"),
    [
        (("x", "receiver"), "somebody-else", "R2"),
        (("x", "in", "offset"), 4_000, "R2"),
        (("x", "in", "partition"), 2, "R2"),
        (("x", "decision"), "expired", "R6"),
        (("x", "process"), "another", "R6"),
        (("ldv", "span_id"), "00f067aa0ba902b7", "R2"),
    ],
)
def test_what_a_decision_says_can_not_be_changed(path: tuple[str, ...], to: object, rule: str) -> None:
    """Receiver and input are in its span, all that is counted is counted."""
    for at in DECISIONS:
        assert rule in rules([*history()[:at], changed(history()[at], *path, to=to), *history()[at + 1 :]])


@pytest.mark.parametrize(
    ("path", "to"),
    [
        (("x", "seq"), 4_000),
        (("x", "flow"), "out.somebody.usage/0"),
        (("ldv", "trace_id"), "4bf92f3577b34da6a3ce929d0e0e4736"),
    ],
)
def test_what_a_delivery_says_of_its_flow_can_not_be_changed(path: tuple[str, ...], to: object) -> None:
    """By its numbers and its running hash (R3)."""
    for at in NUMBERED:
        assert "R3" in rules([*history()[:at], changed(history()[at], *path, to=to), *history()[at + 1 :]])


WINDOWS = [at for at, leaf in enumerate(history()) if window_of(leaf) is not None]


def places(value: object, *path: Any) -> Iterable[tuple[Any, ...]]:
    """Of all numbers and hashes in a window."""
    items: Iterable[tuple[Any, object]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    elif isinstance(value, int) or (path and path[-1] == "root"):
        yield path
    for name, inner in items:
        yield from places(inner, *path, name)


def test_no_number_of_a_window_can_be_changed() -> None:
    """Each count, number, offset and hash of it is held against the leaves, and against the windows beside it."""
    for at in WINDOWS:
        leaves = history()
        tried = 0
        for path in places(window_of(leaves[at]), "window"):
            said: Any = content(leaves[at])
            for name in path:
                said = said[name]
            to = urlsafe_b64encode(bytes(31) + b"x").rstrip(b"=").decode() if path[-1] == "root" else said + 1
            if path[-1] in ("from", "to") or path[-2:] == ("input", "next"):
                continue  # times are for people; the end of the last window's input is known by the next one only
            found = rules([*leaves[:at], changed(leaves[at], *path, to=to), *leaves[at + 1 :]])
            assert found & {"R1", "R3", "R6"} or path[-1] == "partition", path
            tried += 1
        assert tried > 5


def test_where_a_window_ends_on_its_input_the_next_one_begins() -> None:
    """Neither an offset that no window has nor one that two have."""
    first, second = [at for at in WINDOWS if lane_of(history()[at]) == f"{IN}/1"][:2]
    assert first < second
    for step in (1, -1):
        said = window_of(history()[first])
        assert said is not None
        leaf = changed(history()[first], "window", "input", "next", to=said["input"]["next"] + step)
        assert "R1" in rules([*history()[:first], leaf, *history()[first + 1 :]])


# ---- who hides an omission


def without(leaves: tuple[bytes, ...], at: int) -> list[bytes]:
    """Leave a decision out, and let its window count one less."""
    x, lane = content(leaves[at])["x"], lane_of(leaves[at])
    window = next(n for n in WINDOWS if n > at and lane_of(leaves[n]) == lane)
    said = content(leaves[window])
    for count in said["window"]["counts"]:
        if (count["decision"], count["party"], count["process"]) == (
            x["decision"], x.get("receiver", ""), x.get("process", ""),
        ):  # fmt: skip
            count["n"] -= 1
    said["window"]["counts"] = [count for count in said["window"]["counts"] if count["n"]]
    said["window"]["leaves"] -= 1
    return [*leaves[:at], *leaves[at + 1 : window], canonical(said), *leaves[window + 1 :]]


def renumbered(leaves: list[bytes], flow: str, lane: str, above: int) -> list[bytes]:
    """With all numbers of a flow above some number one less, in leaves and windows."""
    found = []
    for leaf in leaves:
        said = content(leaf)
        if lane_of(leaf) == lane:
            if said.get("x", {}).get("flow") == flow and said["x"]["seq"] > above:
                said["x"]["seq"] -= 1
            for its in said.get("window", {}).get("flows", ()):
                if its["flow"] == flow:
                    its["first"] -= its["first"] > above
                    its["last"] -= its["last"] >= above
        found.append(canonical(said))
    return found


def test_who_leaves_a_delivery_out_and_corrects_the_counts_is_found_by_the_numbers() -> None:
    """And who numbers the rest anew, by the running hash: it has the delivery in it, in every window to come."""
    for at in NUMBERED:
        x = content(history()[at])["x"]
        left = without(history(), at)
        assert "R3" in rules(left)
        found = [
            f
            for f in findings(renumbered(left, x["flow"], lane_of(history()[at]), x["seq"]))
            if f.rule == "R3" and "running hash" in f.sentence
        ]
        sole = any(
            f["first"] == f["last"] == x["seq"] for w in WINDOWS for f in (window_of(history()[w]) or {})["flows"]
        )
        assert found or sole  # a window that told of nothing else in this flow is then one that tells of nothing


def test_who_leaves_another_decision_out_and_corrects_the_counts_is_found_by_the_input() -> None:
    """If it was the only one over its input: there is an input record that nobody decided over."""
    for at in set(DECISIONS).difference(NUMBERED):
        source = content(history()[at])["x"]["in"]
        alone = sum(
            lane_of(history()[n]) == lane_of(history()[at])
            and content(history()[n])["x"]["in"]["offset"] == source["offset"]
            for n in DECISIONS
        )
        if alone == 1:
            assert "R1" in rules(without(history(), at))
        else:  # one of several, such as that the event waited: what became of it is then a decision out of order
            parked = content(history()[at])["x"]["decision"] == "parked"
            assert not parked or "R1" in rules(without(history(), at))


# ---- parts, gaps, epochs


def long_history() -> list[bytes]:
    """A window of five parts, of leaves that do not exist: only its parts are looked at."""
    window = Window(number=1, began_ms=1_000, first_offset=0, inputs=0, leaves=900)
    for n in range(450):
        window.count("delivered", f"partij-{n}", "BestellenLeveren", 1_000)
        window.delivered(f"out.partij-{n}.licence/1", 1, 1_000)
    return list(window_leaves(window, f"exchange.{IN}.1", (IN, 1), 0, dict.fromkeys(window.flows, bytes(32)), 61_000))


def of_parts(leaves: Iterable[bytes]) -> list[str]:
    """What is found of parts."""
    return [f.sentence for f in findings(leaves) if "part" in f.sentence or "in no window" in f.sentence]


def test_a_window_in_parts_is_one_window() -> None:
    """Its lists are joined; no part is missing."""
    parts = long_history()
    assert len(parts) == 5
    assert of_parts(parts) == []
    reconciler = Reconciler()
    list(read_all(parts, reconciler))
    assert reconciler.windows == 1


@pytest.mark.parametrize("at", range(5))
def test_no_part_of_a_window_can_be_left_out_or_doubled(at: int) -> None:
    """Nor the last, without which the window is not told."""
    parts = tuple(long_history())
    assert of_parts(drop(parts, at))
    assert of_parts(double(parts, at)) or at == 4
    assert "R6" in rules(double(parts, at))
    assert of_parts([*parts[:at], changed(parts[at], "window", "leaves", to=1), *parts[at + 1 :]])


def gap(kind: str, first: int, last: int, position: int, next_offset: int, topic: str = IN) -> bytes:
    """A leaf of the control log."""
    said = {"at": 1, "first": first, "last": last, "next_offset": next_offset, "partition": 1, "position": position}
    return control_leaf(kind, {**said, "topic": topic})


def test_a_hole_in_the_input_is_no_finding_if_the_control_log_tells_of_it() -> None:
    """Kafka removed what nobody had read: input-lost. One that covers less explains less."""
    first = next(at for at in WINDOWS if lane_of(history()[at]) == f"in.{SIS}/1")
    said = window_of(history()[first])
    assert said is not None
    end = said["input"]["next"]
    shorter = changed(history()[first], "window", "input", "next", to=end - 2)
    tail = [at for at in range(first + 1, len(history())) if lane_of(history()[at]) == f"in.{SIS}/1"]
    rest = [history()[at] for at in tail]
    assert "R1" in rules([shorter, *rest], Reconciler(founded=False))
    told = read_gap(gap("input-lost", end - 2, end - 1, end - 2, end, f"in.{SIS}"))
    assert told is not None
    assert "R1" not in rules([shorter, *rest], Reconciler(gaps=[told], founded=False))
    less = read_gap(gap("input-lost", end - 1, end - 1, end - 1, end, f"in.{SIS}"))
    assert less is not None
    assert "R1" in rules([shorter, *rest], Reconciler(gaps=[less], founded=False))


def test_input_that_is_read_again_is_no_finding_if_the_control_log_tells_of_it() -> None:
    """The topic was made anew: input-reset. The lane's numbers and windows run on."""
    world = histories.a_world()
    state = world.state(DELTA)
    position, before = state.next_offset, len(world.outgoing)
    state.next_offset = 0
    world.send(DELTA, event(), event())
    histories.minute(world, DELTA)
    assert len(world.outgoing) > before
    leaves = leaves_of(world)
    assert "R1" in rules(leaves)
    told = read_gap(gap("input-reset", 0, 1, position, 0))
    assert told is not None
    assert findings(leaves, Reconciler(gaps=[told])) == []


def test_behind_the_start_of_an_epoch_a_lane_is_known_from_its_first_window_on() -> None:
    """Its numbers, hashes and waiting events began in the log before. What comes then is held to all rules."""
    start = WINDOWS[1] - 3
    epoch = canonical({"epoch": {"reason": "lost"}, "v": 1})
    leaves = [epoch, *history()[start:]]
    assert findings(leaves) == []
    for at in range(WINDOWS[3] + 1, len(history())):
        assert rules([epoch, *drop(history()[start:], at - start)])


# ---- open windows


def test_a_lane_whose_window_is_not_told_yet_is_open_and_late_only_after_a_while() -> None:
    """Until then it is reported with its age, no more."""
    reconciler = Reconciler()
    assert list(read_all(history()[: WINDOWS[-1]], reconciler)) == []
    (lane,) = reconciler.open_lanes()
    assert (lane.lane, lane.leaves > 2) == (f"{IN}/1", True)
    assert list(reconciler.late(lane.since_ms + 10_000, 10_000)) == []
    (finding,) = reconciler.late(lane.since_ms + 10_001, 10_000)
    assert (finding.rule, finding.lane, finding.window) == ("R6", lane.lane, lane.window)


def test_what_is_known_between_two_leaves_can_be_kept() -> None:
    """As JSON, in the middle of a window too; nothing is found that was not there, and what is there is found."""
    for at in range(len(history())):
        reconciler = Reconciler()
        assert list(read_all(history()[:at], reconciler)) == []
        kept = Reconciler.unpack(json.loads(json.dumps(reconciler.pack())))
        assert kept == reconciler
        assert findings(history()[at:], kept) == []


def test_the_parts_of_a_window_that_were_read_are_kept_too() -> None:
    """A process may end between two parts."""
    reconciler = Reconciler()
    list(read_all(long_history()[:2], reconciler))
    assert Reconciler.unpack(json.loads(json.dumps(reconciler.pack()))) == reconciler


# ---- anything may stand in a log


_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.binary(max_size=60) | st.binary(max_size=20).map(lambda data: b'{"ldv":' + data))
@settings(max_examples=200, deadline=None)
def test_bytes_that_are_no_leaf_are_a_finding(data: bytes) -> None:
    """By R0, whatever they are."""
    assert [finding.rule for finding in Reconciler().feed(data)] == ["R0"]


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_leaf_with_anything_in_any_place_of_it_is_read_or_is_a_finding(data: st.DataObject) -> None:
    """Nothing in it can stop the reading of what is behind it."""
    leaf = content(data.draw(st.sampled_from(history())))
    at: Any = leaf
    while True:
        name = data.draw(st.sampled_from(sorted(at)) if isinstance(at, dict) else st.integers(0, len(at) - 1))
        if not isinstance(at[name], dict | list) or not at[name] or data.draw(st.booleans()):
            break
        at = at[name]
    at[name] = data.draw(_json)
    try:
        encoded = canonical(leaf)
    except UnicodeEncodeError:
        return
    reconciler = Reconciler()
    list(reconciler.feed(encoded))
    assert reconciler.position == 1
    list(read_all(history(), reconciler))
    assert json.dumps(reconciler.pack())


def test_a_finding_says_rule_lane_and_window_and_nothing_of_what_a_leaf_holds() -> None:
    """It goes to logs and reports: a receiver or flow that somebody planted does not."""
    planted = "999990019"
    leaves = [changed(leaf, "x", "receiver", to=planted) if window_of(leaf) is None else leaf for leaf in history()]
    found = findings(leaves)
    assert found
    assert all(planted not in str(finding) for finding in found)
    assert any(str(f).startswith(f"R2, lane {IN}/1, window 1: leaf ") for f in found)
