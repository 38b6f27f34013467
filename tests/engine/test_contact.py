"""Kafka is away: the worker says so once a minute, goes on by itself, and ends in time when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from aiokafka.errors import KafkaError

from broker.engine import DataPlane
from broker.errors import TransientError
from broker.exchange import InputRecord, LaneState, Step, Views
from tests.engine.machine import copy
from tests.engine.memory import OUT, Plant
from tests.simulation.worker import CONFIG


@pytest.fixture
def plant() -> Iterator[Plant]:
    """One with topics for a copying function."""
    with pytest.MonkeyPatch.context() as patch:
        yield Plant(patch)


def lines(capsys: pytest.CaptureFixture[str], event: str) -> list[str]:
    """What was logged."""
    return [line for line in capsys.readouterr().out.splitlines() if event in line]


def test_a_worker_that_can_not_reach_kafka_says_so_once_a_minute_and_goes_on_by_itself(
    plant: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five minutes, far beyond its patience, with input that waits: one line a minute, and no end of the process."""
    plant.put(b"0:0")

    async def work() -> None:
        async with plant.plane(copy) as plane:
            await plant.until(lambda: plant.position() == 1)
            capsys.readouterr()
            plant.network.down = True
            plant.put(b"0:1")
            began = plant.loop.time()
            await plant.until(lambda: plant.loop.time() > began + 300, 400)
            assert not plane._ended.done(), "a new process would not reach Kafka either"
            said = capsys.readouterr().out.splitlines()
            away = [line for line in said if "kafka.away" in line]
            assert 5 <= len(away) <= 6
            assert "memory" in away[0]
            assert "since" in away[0]
            assert len([line for line in said if "warning" in line]) < 40, "the one line drowns"
            plant.network.down = False
            assert await plant.until(lambda: plant.position() == 2) < 30
            assert lines(capsys, "kafka.back")

    plant.run(work)
    assert plant.values(OUT) == [b"0:0", b"0:1"]


@pytest.mark.parametrize("moment", ["before it knows the topics", "before it joins the group"])
def test_a_worker_that_starts_while_kafka_is_away_starts_once_it_is_back(
    plant: Plant, capsys: pytest.CaptureFixture[str], moment: str
) -> None:
    """Kafka may go at any moment of the start: a new process would not find it either."""
    plant.put(b"0:0")

    async def work() -> None:
        plane = plant.plane(copy)

        def go() -> None:
            plant.network.down = True

        if moment == "before it knows the topics":
            go()
        else:
            plane._on_loaded = go
        starting = asyncio.create_task(plane.start())
        await plant.until(lambda: plant.network.down)
        await asyncio.sleep(90.0)
        assert not starting.done()
        assert 1 <= len(lines(capsys, "kafka.away")) <= 2
        plant.network.down = False
        await plant.until(lambda: plant.position() == 1)
        await starting
        await plane.stop()

    plant.run(work)


def test_kafka_may_go_between_the_first_answer_and_the_topics(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """aiokafka has no error of its own for it, only the one that all of its errors are."""
    plant.put(b"0:0")
    refused = 3

    async def work() -> None:
        nonlocal refused
        plane = plant.plane(copy)
        known = plane.topics._clients.metadata

        def metadata() -> Any:
            nonlocal refused
            client = known()
            if refused:
                refused -= 1

                async def fails() -> None:
                    raise KafkaError("Unable to get cluster metadata over all known brokers")

                monkeypatch.setattr(client, "fetch_all_metadata", fails)
            return client

        monkeypatch.setattr(plane.topics._clients, "metadata", metadata)
        async with plane:
            await plant.until(lambda: plant.position() == 1)

    plant.run(work)
    assert refused == 0


def test_it_is_not_killed_as_soon_as_kafka_is_back(plant: Plant) -> None:
    """Patience counts from then on: lanes may take a while after a long absence."""
    plant.put(b"0:0")

    async def work() -> None:
        async with plant.plane(copy) as plane:
            await plant.until(lambda: plant.position() == 1)
            for _ in range(4):
                plant.network.down = True
                plant.put(b"0:1")
                began = plant.loop.time()
                await plant.until(lambda: plant.loop.time() > began + 90, 400)  # noqa: B023
                plant.network.down = False
                await plant.until(lambda: not plane._contact.away)
            assert not plane._ended.done()
            await plant.until(lambda: plant.position() == 5)

    plant.run(work)


@pytest.mark.parametrize("error", [TransientError, ValueError])
def test_a_lane_that_does_not_move_while_kafka_answers_ends_the_process(plant: Plant, error: type[Exception]) -> None:
    """With a message that says what stands still, and why; a look at duties and parked events is no progress."""
    plant.put(b"0:0", b"0:1")

    def fails(state: LaneState, inputs: Sequence[InputRecord], views: Views, now: int, next_offset: int) -> Step:
        if inputs:
            raise error("never")
        return copy(state, inputs, views, now, next_offset)

    async def work() -> None:
        plane = plant.plane(fails)
        with pytest.raises(TransientError, match=rf"1 lanes have work and none moved \({error.__name__}\)"):
            await plane.run()
        await plane.stop()

    plant.run(work)
    assert CONFIG.patience_s < plant.loop.time() - 1_000 < 2 * CONFIG.patience_s


@pytest.mark.parametrize("code", ["keys.opening", "keys.behind"])
def test_a_lane_that_waits_for_a_key_ends_no_process(plant: Plant, code: str) -> None:
    """A new process would have that key no sooner, and open none at all while the server that unwraps them is away."""
    plant.put(b"0:0", b"0:1")
    here: list[bool] = []

    def waits(state: LaneState, inputs: Sequence[InputRecord], views: Views, now: int, next_offset: int) -> Step:
        if inputs and not here:
            raise TransientError("not here yet", code=code)
        return copy(state, inputs, views, now, next_offset)

    async def work() -> None:
        async with plant.plane(waits) as plane:
            began = plant.loop.time()
            await plant.until(lambda: plant.loop.time() > began + 3 * CONFIG.patience_s, 600)
            assert not plane._ended.done()
            here.append(True)
            await plant.until(lambda: plant.position() == 2)

    plant.run(work)


@pytest.mark.parametrize("seconds", [3600.0, 86_400.0, -3600.0])
def test_a_clock_that_is_set_ends_no_process(plant: Plant, seconds: float) -> None:
    """How long nothing moved is not told by the clock on the wall."""
    plant.put(b"0:0")

    async def work() -> None:
        plane = plant.plane(copy)
        async with plane:
            await plant.until(lambda: plant.position() == 1)
            plant.party.clock = seconds
            began = plant.loop.time()
            await plant.until(lambda: plant.loop.time() > began + 2 * CONFIG.patience_s, 400)
            assert not plane._ended.done()
            plant.put(b"0:1")
            await plant.until(lambda: plant.position() == 2)

    plant.run(work)


def test_a_process_that_stood_still_itself_does_not_take_kafka_for_away(
    plant: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGSTOP, or a machine without a core for it: its own silence is not Kafka's."""
    plant.put(b"0:0")

    async def work() -> None:
        async with plant.plane(copy):
            await plant.until(lambda: plant.position() == 1)

            def thaw() -> None:
                plant.loop.thaw(plant.party)

            plant.party.frozen = True
            plant.cluster.later(100.0, thaw)
            plant.put(b"0:1")
            await plant.until(lambda: plant.position() == 2, 300)

    plant.run(work)
    assert lines(capsys, "kafka.away") == []


# ---- stopping


async def _stop(plant: Plant, plane: DataPlane) -> float:
    began = plant.loop.time()
    await plane.stop()
    return plant.loop.time() - began


def test_it_ends_in_time_when_kafka_is_away(plant: Plant) -> None:
    """Nothing answers any more: it does not wait for that."""
    plant.put(b"0:0")
    took = 0.0

    async def work() -> None:
        nonlocal took
        plane = plant.plane(copy)
        await plane.start()
        await plant.until(lambda: plant.position() == 1)
        plant.network.down = True
        plant.put(b"0:1")
        await plant.until(lambda: plane._contact.away)
        took = await _stop(plant, plane)

    plant.run(work)
    assert took <= CONFIG.stop_timeout_s + 1.5


def test_it_leaves_the_group_at_once_and_its_last_batch_is_whole(plant: Plant) -> None:
    """Under load: what it began it ends, and others have its lanes right then."""
    plant.put(*(b"0:%d" % number for number in range(200)))
    took = 0.0

    async def work() -> None:
        nonlocal took
        plane = plant.plane(copy)
        await plane.start()
        await plant.until(lambda: plant.position() > 20)
        took = await _stop(plant, plane)
        assert plant.cluster.groups["exchange"].members == {}
        await asyncio.sleep(0.1)  # markers come at moments of their own
        assert not any(log.open for log in plant.cluster.logs.values()), "a transaction was left open"

    plant.run(work)
    assert took < 1.0
    assert plant.position() < 200
    assert plant.values(OUT) == [b"0:%d" % number for number in range(plant.position())]


def test_a_batch_that_hangs_does_not_keep_it_in_the_group(plant: Plant) -> None:
    """It waits for the batch as long as it may, then leaves, and only then sees to its producers."""
    plant.put(b"0:0")
    left = took = 0.0

    async def work() -> None:
        nonlocal left, took
        plane = plant.plane(copy)
        await plane.start()
        await plant.until(lambda: plant.position() == 1)
        plant.cluster.refuse = {OUT}
        plant.put(b"0:1")
        await plant.until(lambda: not next(iter(plane.lanes.values()))._settled.is_set())
        began = plant.loop.time()

        def gone() -> None:
            nonlocal left
            if not plant.cluster.groups["exchange"].members:
                left = plant.loop.time() - began
            else:
                plant.cluster.later(0.05, gone)

        gone()
        took = await _stop(plant, plane)

    plant.run(work)
    assert CONFIG.settle_timeout_s <= left <= CONFIG.settle_timeout_s + 0.5
    assert took <= CONFIG.stop_timeout_s + 1.5
