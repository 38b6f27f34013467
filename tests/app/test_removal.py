"""What may be removed of the input: what lanes say that they decided, as it can be read back; never anything else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from broker.app import removal
from broker.app.removal import Extent, Plan, plan_removal, removable
from tests.engine.machine import copy
from tests.engine.memory import IN, Plant
from tests.simulation.clients import SimClients

PLACE = TopicPartition(IN, 0)
OFFSETS = st.integers(0, 50)


@given(st.none() | OFFSETS, OFFSETS, OFFSETS, OFFSETS)
def test_nothing_undecided_and_nothing_young_is_ever_removed(
    position: int | None, first: int, more: int, young: int
) -> None:
    """Whatever the log looks like; and what is decided and old enough goes whole."""
    end = first + more
    young = min(max(young, first), end)
    before = removable(Extent(position, first, end, young))
    if before is None:
        assert position is None or position > end or min(position, young) <= first
    else:
        assert position is not None
        assert first < before <= min(position, young, end)
        assert before in (position, young)


@pytest.fixture
def plant() -> Iterator[Plant]:
    """One with topics for a copying function, and its clock in the module under test."""
    with pytest.MonkeyPatch.context() as patch:
        plant = Plant(patch)
        patch.setattr(removal, "time", plant.time)
        yield plant


def planned(plant: Plant, keep_s: float = 0.0) -> Plan:
    """What would be removed now; nothing else runs."""
    found: list[Plan] = []

    async def work() -> None:
        found.append(await plan_removal(SimClients(plant.cluster, plant.network), "exchange", keep_s))

    plant.run(work)
    return found[0]


def test_a_lane_that_never_committed_has_nothing_removed(plant: Plant) -> None:
    """However old its input is."""
    plant.put(b"0:0", b"0:1")
    assert planned(plant) == Plan({}, frozenset())


def test_what_a_lane_decided_goes_and_the_rest_stays(plant: Plant) -> None:
    """Up to the lane's own record, as it is committed; what came after it stays, and what is too young."""
    plant.put(*(b"0:%d" % number for number in range(5)))
    clients = SimClients(plant.cluster, plant.network)
    plans: list[Plan] = []

    async def work() -> None:
        async with plant.plane(copy):
            await plant.until(lambda: plant.position() == 5)
        plant.put(b"0:5", b"0:6")
        plans.append(await plan_removal(clients, "exchange", 0.0))
        plans.append(await plan_removal(clients, "exchange", 3600.0))
        plans.append(await plan_removal(clients, "another", 0.0))

    plant.run(work)
    assert [plan.before for plan in plans] == [{PLACE: 5}, {}, {}]


def test_a_position_that_is_not_committed_is_not_believed(plant: Plant) -> None:
    """Written, acknowledged even, but without its marker (KAFKA-20734): nobody can read it, so nothing is removed."""
    plant.put(b"0:0", b"0:1")

    async def work() -> None:
        async with plant.plane(copy, proof_s=1000.0) as plane:
            await plant.until(lambda: plant.position() == 2)
            plant.cluster.leaderless = True
            plant.put(b"0:2")
            await plant.until(lambda: next(iter(plane.lanes.values())).committed == 3)
            assert plant.position() == 2
            plans.append(await plan_removal(SimClients(plant.cluster, plant.network), "exchange", 0.0))

    plans: list[Plan] = []
    with pytest.raises(TimeoutError):  # it can not even be read how lanes stand
        plant.run(work)
    assert plans == []


def test_a_topic_that_ends_before_its_lane_is_left_alone(plant: Plant) -> None:
    """Another one under the same name: all of it is undecided."""
    plant.put(*(b"0:%d" % number for number in range(5)))
    plans: list[Plan] = []

    async def work() -> None:
        async with plant.plane(copy):
            await plant.until(lambda: plant.position() == 5)
        plant.cluster.log(PLACE).entries.clear()
        plant.put(b"0:5", b"0:6")
        plans.append(await plan_removal(SimClients(plant.cluster, plant.network), "exchange", 0.0))

    plant.run(work)
    assert plans == [Plan({}, frozenset({PLACE}))]
