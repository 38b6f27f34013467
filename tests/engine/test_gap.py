"""Input that is gone before a lane decided over it: told once, by its offsets, with the step over it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from aiokafka import TopicPartition

from broker.engine.blame import Blame, Trial
from broker.exchange import InputRecord, LaneState, Views
from broker.exchange.gap import Gap, tell_gap
from broker.registry import Registry
from tests.engine.machine import copy
from tests.engine.memory import IN, OUT, Plant
from tests.simulation.worker import CONFIG

PLACE = TopicPartition(IN, 0)


@pytest.fixture
def plant() -> Iterator[Plant]:
    """One with topics for a copying function."""
    with pytest.MonkeyPatch.context() as patch:
        yield Plant(patch)


def remove(plant: Plant, before: int) -> None:
    """What retention does."""
    log = plant.cluster.log(PLACE)
    del log.entries[: before - log.start]
    log.start = before


def test_what_was_removed_while_no_worker_ran_is_told_once_by_its_offsets(plant: Plant) -> None:
    """Also when nothing else comes, and not again by the worker after the next."""
    plant.put(b"0:0", b"0:1", b"0:2")

    async def work() -> None:
        async with plant.plane(copy):
            await plant.until(lambda: plant.position() == 3)
        plant.put(*(b"0:%d" % number for number in range(3, 9)))
        remove(plant, 9)
        for _ in range(2):
            async with plant.plane(copy):
                await plant.until(lambda: plant.position() == 9)
        plant.put(b"0:9")
        async with plant.plane(copy):
            await plant.until(lambda: plant.position() == 10)

    plant.run(work)
    (told,) = plant.controls()
    del told["at"]
    assert told == {
        "kind": "input-lost", "topic": IN, "partition": 0, "first": 3, "last": 8, "position": 3, "next_offset": 9
    }  # fmt: skip
    assert plant.values(OUT) == [b"0:0", b"0:1", b"0:2", b"0:9"]


def test_what_was_removed_before_the_first_day_of_a_lane_is_told_too(plant: Plant) -> None:
    """Nobody decided over it."""
    plant.put(b"0:0", b"0:1", b"0:2")
    remove(plant, 2)

    async def work() -> None:
        async with plant.plane(copy):
            await plant.until(lambda: plant.position() == 3)

    plant.run(work)
    assert [(told["kind"], told["first"], told["last"]) for told in plant.controls()] == [("input-lost", 0, 1)]
    assert plant.values(OUT) == [b"0:2"]


def test_the_step_over_a_gap_does_not_swallow_what_came_for_events_that_wait() -> None:
    """The batch that does it looks at nothing else: all is to be looked at by the next one."""
    state = LaneState("exchange.in.sis-noord.0")
    step = tell_gap(state, Gap("input-lost", IN, 0, 0, 4, 5), Views(Registry(), {}, lambda _: 1), 0)
    assert step.more
    assert step.delta.next_offset == 5


def test_what_is_removed_from_under_a_lane_that_stands_is_told(plant: Plant) -> None:
    """It can not reach the cluster for longer than the topic keeps its input, and goes on by itself."""
    plant.put(b"0:0")

    async def work() -> None:
        async with plant.plane(copy):
            await plant.until(lambda: plant.position() == 1)
            plant.network.cut.add(plant.party)
            plant.put(b"0:1", b"0:2", b"0:3")
            remove(plant, 3)
            await plant.until(lambda: plant.time.monotonic() > 1_020)
            plant.network.cut.clear()
            await plant.until(lambda: plant.position() == 4)

    plant.run(work)
    assert [(told["kind"], told["first"], told["last"]) for told in plant.controls()] == [("input-lost", 1, 2)]
    assert plant.values(OUT) == [b"0:0", b"0:3"]


def test_a_step_over_a_gap_that_does_not_commit_is_told_by_the_one_that_does(plant: Plant) -> None:
    """The cluster takes the first commits for nothing: one leaf all the same, in the transaction that moves the lane."""
    plant.put(b"0:0", b"0:1", b"0:2")
    remove(plant, 2)
    taken, left = plant.cluster.end_transaction, 3

    def end(lane: str, epoch: int, commit: bool) -> None:
        nonlocal left
        if commit and left:
            left -= 1
            plant.cluster.transactional[lane].epoch += 1
        taken(lane, epoch, commit)

    plant.cluster.end_transaction = end  # type: ignore[method-assign]

    async def work() -> None:
        async with plant.plane(copy):
            await plant.until(lambda: plant.position() == 3)

    plant.run(work)
    assert left == 0
    assert [(told["kind"], told["first"], told["last"]) for told in plant.controls()] == [("input-lost", 0, 1)]


def test_nobody_is_guilty_by_an_offset_of_another_topic() -> None:
    """A record was found guilty; before it is set aside the topic is made anew: what stands there now is another one."""
    config = replace(CONFIG, blame_tries=2)
    blame, trial = Blame(config, can_set_aside=True), Trial([InputRecord(IN, 0, 3, 0, None, b"")], released=0)
    for _ in range(2):
        with pytest.raises(KeyError) as caught, blame.watching():
            raise KeyError
        assert blame.failed(caught.value, trial)
    assert blame.guilty == (3, False)
    blame.passed(Trial([], gap=Gap("input-reset", IN, 0, 0, 1, 0)), 0, more=False)
    assert blame.guilty is None


def test_a_topic_that_ends_before_the_lane_is_read_again_and_told(plant: Plant) -> None:
    """Another one under the same name, or one that lost its end: from its beginning, and told once."""
    plant.put(*(b"0:%d" % number for number in range(5)))

    async def work() -> None:
        async with plant.plane(copy):
            await plant.until(lambda: plant.position() == 5)
        plant.cluster.log(PLACE).entries.clear()
        plant.put(b"0:5", b"0:6")
        async with plant.plane(copy):
            await plant.until(lambda: plant.position() == 2)

    plant.run(work)
    (told,) = plant.controls()
    assert (told["kind"], told["first"], told["last"]) == ("input-reset", 0, 1)
    assert (told["position"], told["next_offset"]) == (5, 0)
    assert plant.values(OUT)[5:] == [b"0:5", b"0:6"]
