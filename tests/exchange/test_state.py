"""The state that a lane keeps in memory is the state that its transactions wrote, after any sequence of batches."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.exchange import InputRecord, LaneState, Parked, StateDelta
from broker.exchange.model import LANE_STATE, PARKED
from broker.exchange.objects import Said
from broker.exchange.windows import Window
from broker.limits import Limits

LANE = "exchange.in.uitgeverij-delta.0"
RING = Limits(window_slots=3, window_slot_ids=3, object_slots=3, object_slot_entries=2)
DUTIES = ["seed/po-usage", "seed/po-usage/2", "agreement/vwo/1.0/99PA"]
Batch = tuple[int, list[int], int, list[int], dict[str, int], dict[int, int], dict[str, str | None]]


@st.composite
def batches(draw: st.DrawFn) -> list[Batch]:
    """Per batch: deliveries, keys that events park under, how many are released, flows that move, incidents, objects
    that something is said of, and duties that are told or forgotten."""
    return draw(
        st.lists(
            st.tuples(
                st.integers(0, 25),
                st.lists(st.integers(0, 3), max_size=4),
                st.integers(0, 3),
                st.lists(st.integers(0, 2), max_size=3),
                st.dictionaries(st.sampled_from(["pgn.bsn/key", "sender.forged/sender"]), st.integers(0, 30_000)),
                st.dictionaries(st.integers(0, 8), st.integers(0, 2**32 - 1), max_size=9),
                st.dictionaries(
                    st.sampled_from(DUTIES), st.sampled_from([None, "active", "2026-07-01T10:30:00+00:00"])
                ),
            ),
            max_size=12,
        )
    )


def record(offset: int) -> InputRecord:
    """A parked record; anything will do, missing key and value as well."""
    value = None if offset % 5 == 0 else bytes([offset % 256]) * 3
    return InputRecord(
        "in.uitgeverij-delta", 0, offset, offset, None if offset % 3 else b"k", value, (("data-key", b"x"),)
    )


def delta_of(state: LaneState, batch: Batch, names: list[int]) -> StateDelta:
    """What a batch of the exchange changes: new numbers are consecutive, what is released was parked before."""
    deliveries, keys, released, flows, incidents, objects, duties = batch
    delta = StateDelta(
        state.next_offset + 1, next_parked=state.next_parked, incidents=dict(state.incidents) | incidents, duties=duties
    )
    delta.objects = {number.to_bytes(16): Said(number, revision) for number, revision in objects.items()}
    for number in sorted(state.parked)[:released]:
        delta.parked[number] = None
    for key in keys:
        delta.parked[delta.next_parked] = Parked(
            delta.next_parked, bytes([key]) * 32, 30_000, record(delta.next_parked)
        )
        delta.next_parked += 1
    for _ in range(deliveries):
        names[0] += 1
        delta.delivered.append(names[0].to_bytes(16))
    delta.window = state.counted.at(state.next_offset)
    for flow in flows:
        name = f"out.portaal-plein.usage/{flow}"
        delta.roots[name] = bytes([flow]) * 32
        delta.window.delivered(name, 1, 1_000)
        delta.window.count("delivered", None if flow % 2 else "portaal-plein", None, 1_000)
        delta.flows[name] = delta.flows.get(name, state.flows.get(name, 0)) + 1
    return delta


@settings(max_examples=300, deadline=None)
@given(batches())
def test_what_the_records_say_is_the_state_that_was_adopted(run: list[Batch]) -> None:
    """After each batch, loaded from the compacted topics: equal in every field, the order of waiting included."""
    state = LaneState(LANE, limits=RING)
    states: dict[str, bytes] = {}
    parked: dict[str, bytes] = {}
    names = [0]
    for batch in run:
        delta = delta_of(state, batch, names)
        for out in state.records(delta, 4, 4):
            topic = {LANE_STATE: states, PARKED: parked}[out.topic]
            key = (out.key or b"").decode()
            if out.value is None:
                topic.pop(key, None)
            else:
                topic[key] = out.value
        state.adopt(delta)
        loaded = LaneState.load(LANE, states, parked, limits=RING)
        assert loaded == state
        assert list(loaded.parked) == sorted(loaded.parked)
        assert state.delivered == {i for ids in state.window.content.values() for i in ids}
        # The window holds the newest deliveries, without a hole.
        newest = [n.to_bytes(16) for n in range(max(1, names[0] - 5), names[0] + 1)]
        assert state.delivered.issuperset(newest)
        assert {number for numbers in state.waiting.values() for number in numbers} == set(state.parked)
        assert {n: m for n, m in batch[-1].items() if m is not None}.items() <= state.duties.items()
        assert not {name for name, marker in batch[-1].items() if marker is None} & state.duties.keys()
        assert all(state.objects.last(thing) == said for thing, said in list(delta.objects.items())[-4:])


def test_another_lanes_records_are_not_taken_for_ones_own() -> None:
    """Lanes share partitions of `lane.state` and `parked`, and one lane's name can begin with another's."""
    other = LaneState(f"{LANE}0")
    delta = StateDelta(7, delivered=[b"d" * 16], parked={0: Parked(0, b"w" * 32, 30_000, record(1))}, next_parked=1)
    delta.objects, delta.duties = {b"o" * 16: Said(1, 1)}, {"seed/x": "now"}
    delta.window, delta.roots = Window(3, 1_000, 5, 2), {"out.x.usage/0": b"r" * 32}
    written = {(o.key or b"").decode(): o.value or b"" for o in other.records(delta, 1, 1)}
    assert LaneState.load(LANE, written, written, start=3) == LaneState(LANE, next_offset=3)


def test_a_state_that_was_not_adopted_did_not_change() -> None:
    """Writing the records of a delta leaves the state as it was: the transaction may still abort."""
    state, untouched = LaneState(LANE, limits=RING), LaneState(LANE, limits=RING)
    delta = StateDelta(
        7,
        delivered=[bytes([n]) * 16 for n in range(20)],
        parked={0: Parked(0, b"w" * 32, 30_000, record(1))},
        next_parked=1,
    )
    delta.objects, delta.duties = {bytes([n]) * 16: Said(n, n) for n in range(9)}, {"seed/x": "now"}
    first = state.records(delta, 1, 1)
    assert state == untouched
    assert state.records(delta, 1, 1) == first
