"""Lanes are shared out evenly, and stay where they are as far as that allows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from broker.engine import EngineConfig, Observer
from broker.engine.assignor import Claim, LaneAssignor, read, share, written
from broker.engine.reader import InputReader

LANES = [TopicPartition(f"in.p{topic}", number) for topic in range(4) for number in range(6)]
NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
CLAIMS = st.dictionaries(
    NAMES, st.builds(Claim, st.integers(0, 3), st.lists(st.sampled_from(LANES), unique=True).map(tuple)), min_size=1
)


@given(st.lists(st.sampled_from(LANES), unique=True), CLAIMS)
def test_every_lane_has_one_worker_and_none_has_two_more_than_another(
    there: list[TopicPartition], claims: dict[str, Claim]
) -> None:
    """Whatever workers claim: what is not there, what others claim too, nothing."""
    shares = share(there, claims)
    assert shares.keys() == claims.keys()
    assert sorted(lane for lanes in shares.values() for lane in lanes) == sorted(there)
    sizes = [len(lanes) for lanes in shares.values()]
    assert max(sizes) - min(sizes) <= 1


@given(st.lists(NAMES, min_size=1, max_size=5, unique=True), st.integers(0, 4), st.booleans())
def test_only_what_must_move_moves(names: list[str], number: int, comes: bool) -> None:
    """When a worker goes only its lanes move; when one comes only as many as it gets."""
    before = share(LANES, {name: Claim(0, ()) for name in names})
    claims = {name: Claim(1, tuple(lanes)) for name, lanes in before.items()}
    if comes:
        claims["new"] = Claim(0, ())
    elif len(claims) > 1:
        del claims[names[number % len(names)]]
    after = share(LANES, claims)
    moved = [lane for name, lanes in after.items() for lane in lanes if lane not in before.get(name, ())]
    gone = [lane for name, lanes in before.items() if name not in claims for lane in lanes]
    assert len(moved) == (len(after["new"]) if comes else len(gone))


def test_at_first_the_partitions_of_each_party_are_spread() -> None:
    """One party's load should not meet one worker."""
    shares = share(LANES, {name: Claim(0, ()) for name in "abc"})
    for lanes in shares.values():
        assert [sum(lane.topic == f"in.p{n}" for lane in lanes) for n in range(4)] == [2, 2, 2, 2]


def test_who_comes_to_one_that_has_everything_gets_some_of_each_party() -> None:
    """And the one that gives keeps some of each."""
    shares = share(LANES, {"a": Claim(4, tuple(LANES)), "b": Claim(0, ())})
    for lanes in shares.values():
        assert [sum(lane.topic == f"in.p{n}" for lane in lanes) for n in range(4)] == [3, 3, 3, 3]


def test_one_that_was_away_claims_in_vain_what_others_got_meanwhile() -> None:
    """A zombie says what it had before; the round tells that it is old."""
    old, new = tuple(LANES[:12]), tuple(LANES)
    shares = share(LANES, {"zombie": Claim(3, old), "b": Claim(4, new[:12]), "c": Claim(4, new[12:])})
    kept = [lane for lane in shares["b"] if lane in LANES[:12]]
    assert len(kept) == 8
    assert len([lane for lane in shares["c"] if lane in LANES[12:]]) == 8


def test_rounds_go_up_as_workers_tell_each_other() -> None:
    """Over aiokafka's own records, as they come from the group."""
    first, second = LaneAssignor(), LaneAssignor()
    cluster = SimpleNamespace(partitions_for_topic=lambda topic: {0, 1, 2, 3} if topic == "in.p0" else None)

    def rebalance(*workers: LaneAssignor) -> list[list[TopicPartition]]:
        told = {str(n): type(m).decode(m.encode()) for n, m in enumerate(w.metadata(["in.p0"]) for w in workers)}
        assigned = workers[0].assign(cluster, told)
        for number, worker in enumerate(workers):
            worker.on_assignment(type(assigned[str(number)]).decode(assigned[str(number)].encode()))
        return [assigned[str(number)].partitions() for number in range(len(workers))]

    assert [len(lanes) for lanes in rebalance(first)] == [4]
    alone = rebalance(first)[0]
    both = rebalance(first, second)
    assert [len(lanes) for lanes in both] == [2, 2]
    assert set(both[0]) < set(alone)
    assert read(first.metadata([]).user_data).round == 3
    third = LaneAssignor()
    assert set(rebalance(third, second)[1]) == set(both[1])


async def test_a_worker_knows_one_way_to_assign_only() -> None:
    """aiokafka sends a JoinGroup for each: with two, workers that meet chased each other out of the group for ever."""
    found: list[dict[str, Any]] = []
    clients: Any = SimpleNamespace(consumer=lambda **settings: found.append(settings))
    InputReader(clients, EngineConfig(), lambda _: None, Observer())  # type: ignore[arg-type, return-value]
    (assignor,) = found[0]["partition_assignment_strategy"]
    assert isinstance(assignor, LaneAssignor)


def test_what_can_not_be_read_claims_nothing() -> None:
    """Of another version, or of none: such a worker gets its share all the same."""
    for data in (None, b"", b"\xff", b"[]", b"{}", b'{"round":"x","lanes":[]}', b'{"round":1,"lanes":[["in.p0",3]]}'):
        assert read(data) == Claim(0, ())
    assert read(written(Claim(7, tuple(LANES[:3])))) == Claim(7, tuple(LANES[:3]))
