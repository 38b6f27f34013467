"""The state of a lane: what is written and read back is what was adopted."""

from __future__ import annotations

import copy

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.exchange.model import LANE_STATE, PARKED, InputRecord, Parked, StateDelta
from broker.exchange.objects import Said
from broker.exchange.state import LaneState, delivery_id, lane_partition, pack_record, unpack_record
from broker.limits import Limits

LANE = "exchange.in.sis-noord.3"
SMALL = Limits(window_slots=3, window_slot_ids=4, object_slots=3, object_slot_entries=4)


class Topics:
    """The two compacted topics, as dicts."""

    def __init__(self) -> None:
        self.content: dict[str, dict[str, bytes]] = {LANE_STATE: {}, PARKED: {}}

    def write(self, state: LaneState, delta: StateDelta) -> None:
        """Commit: write the records, then adopt."""
        for record in state.records(delta, 4, 2):
            assert record.key is not None
            if record.value is None:
                self.content[record.topic].pop(record.key.decode(), None)
            else:
                self.content[record.topic][record.key.decode()] = record.value
        state.adopt(delta)

    def load(self, limits: Limits = SMALL) -> LaneState:
        """Take over."""
        return LaneState.load(LANE, self.content[LANE_STATE], self.content[PARKED], limits=limits)


def record(offset: int) -> InputRecord:
    """Some input."""
    return InputRecord("in.sis-noord", 3, offset, 1_700_000_000_000, b"k" * 32, b"v%d" % offset, (("data-key", b"x"),))


def key(number: int) -> bytes:
    """Some vault key."""
    return number.to_bytes(32, "big")


steps = st.lists(
    st.tuples(
        st.integers(0, 30),  # deliveries
        st.dictionaries(st.sampled_from(["out.a.usage/0", "out.b.usage/1"]), st.integers(1, 9)),
        st.integers(0, 3),  # newly parked
        st.sets(st.integers(0, 40)),  # numbers to release, as far as they are parked
        st.dictionaries(st.sampled_from(["pgn.subject/las_key", "pgn.body/remark"]), st.integers(1, 30_000)),
        st.dictionaries(st.integers(0, 20), st.integers(0, 9), max_size=14),  # objects and their revisions
        st.dictionaries(st.sampled_from(["seed/a", "agreement/b/1/99PA"]), st.sampled_from([None, "active", "asked"])),
    ),
    max_size=12,
)


@settings(max_examples=200, deadline=None)
@given(steps)
def test_a_taken_over_state_is_the_adopted_one(
    changes: list[tuple[int, dict[str, int], int, set[int], dict[str, int], dict[int, int], dict[str, str | None]]],
) -> None:
    """After any sequence of commits, what the next owner loads equals what the last owner held, window included."""
    topics, state, count = Topics(), LaneState(LANE, limits=SMALL), 0
    remembered: list[bytes] = []
    for deliveries, flows, parks, releases, incidents, objects, duties in changes:
        delta = StateDelta(state.next_offset + 1, flows=flows, next_parked=state.next_parked, incidents=incidents)
        delta.objects, delta.duties = {key(n)[16:]: Said(n, revision) for n, revision in objects.items()}, duties
        delta.delivered = [delivery_id(str(count + n), "r") for n in range(deliveries)]
        count += deliveries
        remembered += delta.delivered
        delta.parked.update(dict.fromkeys(releases & state.parked.keys()))
        for _ in range(parks):
            delta.parked[delta.next_parked] = Parked(
                delta.next_parked, key(delta.next_parked % 3), 30_000 + count, record(count)
            )
            delta.next_parked += 1
        topics.write(state, delta)
        loaded = topics.load()
        assert loaded == state
        assert state.delivered == {i for ids in state.window.content.values() for i in ids}
        # The ring holds at least all but one slot's worth of the newest, and never more than its size.
        assert state.delivered >= set(remembered[-8:])
        assert len(state.delivered) <= 12
        assert len(state.objects.known) <= 12


def test_one_delta_may_go_round_the_whole_ring() -> None:
    """More deliveries in one batch than the window holds: the newest stay, and the ring goes on behind them."""
    topics, state = Topics(), LaneState(LANE, limits=SMALL)
    ids = [delivery_id(str(n), "r") for n in range(41)]
    topics.write(state, StateDelta(1, delivered=ids[:40]))
    topics.write(state, StateDelta(2, delivered=ids[40:]))
    assert topics.load() == state
    assert state.delivered >= set(ids[-9:])


def test_a_lane_reads_only_its_own_keys() -> None:
    """Neighbours share the topics; a lane whose name begins alike is another lane."""
    topics, other = Topics(), LaneState(LANE + "0", limits=SMALL)
    delta = StateDelta(9, next_parked=1, delivered=[delivery_id("e", "r")])
    delta.parked[0] = Parked(0, key(1), 30_000, record(1))
    topics.write(other, delta)
    assert topics.load() == LaneState(LANE, limits=SMALL)


def test_a_lane_that_never_committed_begins_at_the_start_of_its_input() -> None:
    """`start` counts only without a state of its own."""
    topics = Topics()
    assert LaneState.load(LANE, {}, {}, start=17).next_offset == 17
    state = LaneState(LANE, limits=SMALL)
    topics.write(state, StateDelta(5))
    assert LaneState.load(LANE, topics.content[LANE_STATE], {}, start=17).next_offset == 5


def test_release_frees_the_subject() -> None:
    """When the last event of a subject is released, nothing waits for it any more."""
    state = LaneState(LANE, limits=SMALL)
    delta = StateDelta(1, next_parked=2)
    delta.parked = {n: Parked(n, key(7), 30_000, record(n)) for n in range(2)}
    state.adopt(delta)
    assert state.waiting == {key(7): [0, 1]}
    state.adopt(StateDelta(2, next_parked=2, parked={0: None}))
    assert state.waiting == {key(7): [1]}
    state.adopt(StateDelta(3, next_parked=2, parked={1: None}))
    assert state.waiting == {}
    assert state.parked == {}


def test_records_do_not_change_the_state() -> None:
    """Until the commit the state stays as it was: an aborted transaction leaves no trace."""
    state = LaneState(LANE, limits=SMALL)
    state.adopt(StateDelta(1, flows={"out.a.usage/0": 1}, delivered=[delivery_id("e", "r")]))
    before = copy.deepcopy(state)
    delta = StateDelta(2, flows={"out.a.usage/0": 2}, delivered=[delivery_id("f", "r")])
    delta.objects, delta.duties = {b"o" * 16: Said(1, 1)}, {"seed/x": "now"}
    state.records(delta, 4, 4)
    assert state == before


def test_a_record_with_empty_parts_survives_packing() -> None:
    """Null and empty are not the same, and stay apart."""
    for value in (InputRecord("in.a", 0, 1, 2, None, None), InputRecord("in.a", 0, 1, 2, b"", b"", (("h", b""),))):
        assert unpack_record(pack_record(value)) == value


def test_a_lanes_home_partition_never_changes() -> None:
    """CRC-32 of the lane's id: other workers, other versions must look in the same place."""
    assert [lane_partition(f"exchange.in.party.{n}", 50) for n in range(3)] == [17, 3, 11]
