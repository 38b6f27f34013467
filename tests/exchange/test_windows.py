"""Window leaves: what a lane says of a minute is what it wrote in it."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections import Counter
from hashlib import sha256
from itertools import pairwise
from typing import Any

from broker.audit.leaf import is_decision
from broker.exchange.model import AUDIT_EVENTS, Outgoing, Views
from broker.exchange.setaside import set_aside
from broker.exchange.windows import NOTHING, WINDOW_MS, Window, window_leaves
from broker.wire import FLOW_SEQ, TRACEPARENT
from tests.exchange.world import DELTA, PORTAL, SIS, World, enrolment, event, make_world

LOG_ENTRY_BYTES = 65_535  # C2SP tlog-tiles: the length of an entry is a uint16
LANE = f"exchange.in.{DELTA}.1"


def windows(outgoing: list[Outgoing]) -> list[dict[str, Any]]:
    """The window leaves among some records."""
    leaves = (o.value or b"" for o in outgoing if o.topic == AUDIT_EVENTS)
    return [json.loads(leaf)["window"] for leaf in leaves if not is_decision(leaf)]


def minute_later(world: World) -> list[dict[str, Any]]:
    """Nothing comes for a minute; the windows that are written then."""
    world.now_ms += WINDOW_MS
    return windows(world.run(DELTA).outgoing)


def a_world() -> World:
    """Emma is enrolled; no window of Delta's lane is open."""
    world = make_world()
    world.send(SIS, enrolment())
    return world


def mixed() -> list[Any]:
    """Events that end in every way: delivered, refused, repeated, waiting."""
    first = event()
    return [first, event(receiver=PORTAL), first, event(school="00AA"), event(), event(receiver="nobody")]


def of_lane(outgoing: list[Outgoing]) -> list[dict[str, Any]]:
    """The decisions of Delta's lane, whole."""
    leaves = [json.loads(o.value or b"") for o in outgoing if o.topic == AUDIT_EVENTS and is_decision(o.value or b"")]
    return [leaf for leaf in leaves if leaf["x"]["sender"] == DELTA]


def test_a_window_says_what_the_leaves_before_it_say() -> None:
    """Counted anew from the leaves: decisions, receivers, processes, sequence numbers, running hash."""
    world = a_world()
    for number in range(3):
        world.send(DELTA, *mixed())
        world.now_ms += 7_000 * number
    (window,) = minute_later(world)
    leaves = of_lane(world.outgoing)
    counted = Counter(
        (leaf["x"]["decision"], leaf["x"].get("receiver", ""), leaf["x"].get("process", "")) for leaf in leaves
    )
    assert {(c["decision"], c["party"], c["process"]): c["n"] for c in window["counts"]} == counted
    assert window["leaves"] == len(leaves) > 15
    assert {"delivered", "refused", "duplicate"} <= {c["decision"] for c in window["counts"]}
    roots: dict[str, bytes] = {}
    seqs: dict[str, list[int]] = {}
    for leaf in leaves:
        if "seq" in leaf["x"]:
            flow = leaf["x"]["flow"]
            ids = bytes.fromhex(leaf["ldv"]["trace_id"] + leaf["ldv"]["span_id"])
            roots[flow] = sha256(roots.get(flow, bytes(32)) + ids).digest()
            seqs.setdefault(flow, []).append(leaf["x"]["seq"])
    assert {f["flow"]: urlsafe_b64decode(f["root"] + "=") for f in window["flows"]} == roots
    assert {f["flow"]: list(range(f["first"], f["last"] + 1)) for f in window["flows"]} == seqs
    assert window["input"] == {"topic": f"in.{DELTA}", "partition": 1, "first": 0, "next": 18, "count": 18}


def test_a_receiver_finds_the_same_running_hash_in_what_it_read() -> None:
    """From the headers alone, without a leaf: that is what it signs."""
    world = a_world()
    world.send(DELTA, *[event(receiver=PORTAL) for _ in range(5)])
    (window,) = minute_later(world)
    for flow in window["flows"]:
        root, last = NOTHING, 0
        for out in world.outgoing:
            if f"{out.topic}/{out.partition}" == flow["flow"]:
                headers = dict(out.headers)
                _, trace, span, _ = headers[TRACEPARENT].decode().split("-")
                root = sha256(root + bytes.fromhex(trace) + bytes.fromhex(span)).digest()
                last = int(headers[FLOW_SEQ])
        assert (urlsafe_b64decode(flow["root"] + "="), last) == (root, flow["last"])


def test_windows_follow_each_other_without_a_hole() -> None:
    """Numbers, input offsets and sequence numbers each begin where the window before ended; hashes run on."""
    world = a_world()
    found = []
    for _ in range(4):
        world.send(DELTA, event(), event(school="00AA"))
        found += minute_later(world)
    assert [window["no"] for window in found] == [1, 2, 3, 4]
    for before, window in pairwise(found):
        assert window["input"]["first"] == before["input"]["next"]
        last = {flow["flow"]: flow["last"] for flow in before["flows"]}
        assert {f["flow"]: f["first"] for f in window["flows"] if f["flow"] in last}.items() <= {
            flow: n + 1 for flow, n in last.items()
        }.items()
    assert sum(window["leaves"] for window in found) == len(of_lane(world.outgoing))


def test_a_lane_without_work_writes_no_window() -> None:
    """Neither before anything came nor after its last window, however long."""
    world = a_world()
    assert minute_later(world) == []
    world.send(DELTA, event())
    assert not windows(world.run(DELTA).outgoing)  # too early
    assert len(minute_later(world)) == 1
    assert minute_later(world) == []
    assert minute_later(world) == []
    assert world.run(DELTA).outgoing == []


def test_while_work_goes_on_a_window_ends_with_the_first_batch_after_a_minute() -> None:
    """Its leaf comes behind all leaves that it counts, those of the same batch included."""
    world = a_world()
    world.send(DELTA, event())
    world.now_ms += WINDOW_MS
    step = world.run(DELTA, world.record(DELTA, event()))
    own = [o.value or b"" for o in step.outgoing if o.topic == AUDIT_EVENTS]
    assert [is_decision(leaf) for leaf in own] == [True] * (len(own) - 1) + [False]
    assert windows(step.outgoing)[0]["input"]["count"] == 2


def test_a_clock_that_is_set_back_ends_the_window() -> None:
    """Else it could stay open for as long as the clock was wrong."""
    world = a_world()
    world.send(DELTA, event())
    world.now_ms -= 3_600_000
    assert [window["input"]["count"] for window in windows(world.run(DELTA).outgoing)] == [1]


def test_who_takes_the_lane_over_counts_on() -> None:
    """The open window and the running hashes are in the lane's state: one story, whoever tells it."""
    told = []
    for takes_over in (False, True):
        world = a_world()
        for _ in range(3):
            world.send(DELTA, event(event_id="0b0e2ff5-0000-4000-8000-000000000001"), event(receiver=PORTAL))
            if takes_over:
                world.take_over(DELTA)
        (window,) = minute_later(world)
        told.append({name: window[name] for name in ("counts", "input", "leaves", "no")})
        told[-1]["last"] = sorted(flow["last"] for flow in window["flows"])
    assert told[0] == told[1]


def test_an_event_that_was_set_aside_is_counted() -> None:
    """What the exchange failed on is a decision like any other."""
    world = a_world()
    state, record = world.state(DELTA), world.raw(DELTA, value=b"guilty")
    step = set_aside(
        state,
        record,
        Views(world.registry, world.vault, world.partitions),
        world.exchange_keys,
        world.now_ms,
        record.offset + 1,
    )
    state.adopt(step.delta)
    (window,) = minute_later(world)
    assert (window["leaves"], window["input"]["count"]) == (1, 1)
    assert window["counts"] == [{"decision": "quarantined", "n": 1, "party": "", "process": ""}]


def test_a_window_that_is_too_long_for_one_leaf_goes_on_in_the_next_part() -> None:
    """Every entry is in exactly one part, and every part fits into a log."""
    window = Window(number=9, began_ms=1_000, first_offset=5, inputs=500, leaves=900)
    for n in range(450):
        window.count("delivered", f"partij-met-een-lange-naam-{n}", "BestellenLeveren", 1_000)
        window.delivered(f"out.partij-met-een-lange-naam-{n}.licence/11", 2**40 + n, 1_000)
    roots = {flow: sha256(flow.encode()).digest() for flow in window.flows}
    leaves = list(window_leaves(window, LANE, (f"in.{DELTA}", 1), 505, roots, 61_000))
    parts = [json.loads(leaf)["window"] for leaf in leaves]
    assert max(map(len, leaves)) <= LOG_ENTRY_BYTES
    assert [(part["part"], part["parts"]) for part in parts] == [(n, 5) for n in range(1, 6)]
    assert [entry["party"] for part in parts for entry in part["counts"]] == sorted(key[1] for key in window.counts)
    assert [entry["flow"] for part in parts for entry in part["flows"]] == sorted(window.flows)
    common = [{name: part[name] for name in part if name not in ("counts", "flows", "part")} for part in parts]
    assert all(part == common[0] for part in common)
