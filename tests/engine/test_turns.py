"""Lanes of one worker decide in turn, and go on as soon as the group has come together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest
from aiokafka import TopicPartition

from broker.exchange import InputRecord, LaneState, Step, Views
from tests.engine.machine import copy
from tests.engine.memory import IN, OUT, TOPICS, Plant
from tests.simulation.cluster import Item

LANES = 6


@pytest.fixture
def plant() -> Iterator[Plant]:
    """One with several lanes for a copying function."""
    with pytest.MonkeyPatch.context() as patch:
        yield Plant(patch, TOPICS | {IN: LANES, OUT: LANES})


def test_many_busy_lanes_do_not_keep_the_views_from_reading(plant: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    """Each decision takes half a second of the worker: views read in between, so none is made on an old one."""
    for number in range(LANES):
        place = TopicPartition(IN, number)
        plant.cluster.write(place, [Item(b"k" * 32, b"%d:%d" % (number, i)) for i in range(8)])
    under_way: list[str] = []

    def slow(state: LaneState, inputs: Sequence[InputRecord], views: Views, now: int, next_offset: int) -> Step:
        plant.loop._now += 0.5 * bool(inputs)
        under_way.append(state.lane)
        return copy(state, inputs, views, now, next_offset)

    async def work() -> None:
        async with plant.plane(slow, decision_s=1.0, request_timeout_s=2.5, view_age_s=4.0) as plane:
            await plant.until(lambda: all(lane.committed == 8 for lane in plane.lanes.values()) and plane.lanes)
            assert [lane.failures for lane in plane.lanes.values()] == [0] * LANES

    plant.run(work)
    assert len(set(under_way)) == LANES
    assert len(plant.values(OUT)) == 8 * LANES
    assert "lane.failed" not in capsys.readouterr().out


def test_a_lane_that_was_shut_out_waits_unless_the_group_has_met(plant: Plant) -> None:
    """A zombie has to learn what it is, and not to fence others; once the lane was assigned to it, it need not wait."""
    place = TopicPartition(IN, 0)

    async def fenced(plane: object) -> None:
        (lane,) = (lane for at, lane in plane.lanes.items() if at == place)  # type: ignore[attr-defined]
        plant.cluster.init_producer(lane.id, 4.0)
        before = lane.failures
        plant.put(b"0:%d" % plant.cluster.log(place).end)
        await plant.until(lambda: lane.failures > before)

    async def work() -> None:
        async with plant.plane(copy, fenced_backoff_s=30.0) as plane:
            await plant.until(lambda: plane.lanes and all(lane.positioned for lane in plane.lanes.values()))
            await fenced(plane)
            assert await plant.until(lambda: plane.lanes[place].committed == 1) > 25
            await fenced(plane)
            plane.lanes[place].assigned()
            assert await plant.until(lambda: plane.lanes[place].committed == 2) < 5

    plant.run(work)


def test_to_stand_in_line_for_a_take_over_is_no_failure(plant: Plant) -> None:
    """A worker that gets hundreds of lanes at once takes them over in turn, however long that is."""

    async def work() -> None:
        plane = plant.plane(copy, starting_lanes=1)
        await plane._host.starting.acquire()
        async with plane:
            await plant.until(lambda: plane.lanes)
            await asyncio.sleep(30.0)  # more than a take-over may take
            plane._host.starting.release()
            await plant.until(lambda: all(lane.positioned for lane in plane.lanes.values()))
            assert [lane.failures for lane in plane.lanes.values()] == [0] * LANES

    plant.run(work)


def test_a_lane_that_is_taken_away_while_it_stands_in_line_shuts_nobody_out(plant: Plant) -> None:
    """Its next owner may have taken over meanwhile."""

    async def work() -> None:
        plane = plant.plane(copy, starting_lanes=1)
        await plane._host.starting.acquire()
        async with plane:
            await plant.until(lambda: plane.lanes)
            await plane._reader.on_partitions_revoked(set(plane.lanes))
            plane._host.starting.release()
            await asyncio.sleep(5.0)
            assert plant.cluster.transactional == {}
            await plane._reader.on_partitions_assigned(plane._reader._consumer.assignment())
            await plant.until(lambda: all(lane.positioned for lane in plane.lanes.values()))

    plant.run(work)


def test_a_worker_that_stood_still_asks_the_group_before_it_takes_a_lane_over(plant: Plant) -> None:
    """Others may own its lanes by now: with the first step after SIGCONT it would shut them out."""
    place, group = TopicPartition(IN, 0), "exchange"

    async def work() -> None:
        async with plant.plane(copy) as plane:
            await plant.until(lambda: plane.lanes and all(lane.positioned for lane in plane.lanes.values()))
            before = plant.cluster.transactional[plane.lanes[place].id].epoch
            plant.loop._now += 30.0  # longer than its session
            plant.cluster.groups[group].members.clear()  # so it was thrown out, and learns of it by its next heartbeat
            plane.lanes[place]._let_go()
            plane.lanes[place].reset()
            await asyncio.sleep(0.3)
            assert plant.cluster.transactional[plane.lanes[place].id].epoch == before
            await plant.until(lambda: all(lane.positioned for lane in plane.lanes.values()))
            assert plant.cluster.transactional[plane.lanes[place].id].epoch > before

    plant.run(work)
