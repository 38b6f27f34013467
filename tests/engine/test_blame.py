"""A batch that fails by what is in it: the guilty event is found and set aside, and nothing else ever is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lmdb
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError, NotLeaderForPartitionError

from broker.engine.store import StoreReader
from broker.errors import ConfigError, TransientError
from broker.exchange import InputRecord, LaneState, Parked, Step, Views, exchange, set_aside
from broker.exchange.model import Outgoing, StateDelta
from broker.schemas import catalogue, unframe
from broker.wire import decode_envelope
from tests.engine.machine import copy
from tests.engine.memory import OUT, SIS, Plant
from tests.exchange.world import DELTA, PORTAL
from tests.simulation.cluster import Item
from tests.simulation.school import TOPICS, the_school
from tests.simulation.worker import _build


@pytest.fixture
def plant() -> Iterator[Plant]:
    """One with topics for a copying function."""
    with pytest.MonkeyPatch.context() as patch:
        yield Plant(patch)


def values(count: int) -> list[bytes]:
    """What is sent: all of one key, numbered."""
    return [f"0:{number}".encode() for number in range(count)]


class Buggy:
    """Copies, and fails on some values.

    Attributes:
        fails: what each of these values has raised. calls: values of each call. aside: set aside, in order.
    """

    def __init__(self, fails: dict[bytes, Callable[[], Exception]]) -> None:
        self.fails = fails
        self.calls: list[list[bytes]] = []
        self.brief: list[bool] = []

    def __call__(
        self, state: LaneState, inputs: Sequence[InputRecord], views: Views, now: int, next_offset: int
    ) -> Step:
        """See copy."""
        self.calls.append([record.value or b"" for record in inputs])
        for record in inputs:
            if (fails := self.fails.get(record.value or b"")) is not None:
                raise fails()
        return copy(state, inputs, views, now, next_offset)

    def set_aside(
        self,
        state: LaneState,
        guilty: InputRecord | Parked,
        views: Views,
        now: int,  # noqa: ARG002
        next_offset: int,
        *,
        brief: bool,
    ) -> Step:
        """See SetAside: only its value is kept."""
        assert isinstance(guilty, InputRecord)
        self.brief.append(brief)
        delta = StateDelta(next_offset, next_parked=state.next_parked)
        counts = (views.partitions("lane.state"), views.partitions("parked"))
        kept = Outgoing(f"quarantine.{SIS}", 0, None, (guilty.value or b"")[: 4 if brief else None])
        return Step([kept, *state.records(delta, *counts)], [], delta)


def run(
    plant: Plant, process: Any, aside: Any, done: Callable[[], Any], seconds: float = 120.0, **config: Any
) -> float:
    """Run a worker until something is done; how long that took."""
    took = 0.0

    async def work() -> None:
        nonlocal took
        async with plant.plane(process, aside, **config):
            took = await plant.until(done, seconds)

    plant.run(work)
    return took


@pytest.mark.parametrize("guilty", [{0}, {299}, {150}, {7, 8, 9}, {0, 100, 101, 299}])
def test_the_guilty_records_are_set_aside_and_all_others_come_out_once_and_in_order(
    plant: Plant, guilty: set[int]
) -> None:
    """Wherever they stand in the batch, also side by side; the rest loses neither a record nor its order."""
    sent = values(300)
    plant.put(*sent)
    buggy = Buggy({sent[number]: lambda: ValueError("a secret") for number in guilty})
    took = run(plant, buggy, buggy.set_aside, lambda: plant.position() == 300, batch_records=300)
    assert plant.values(OUT) == [value for number, value in enumerate(sent) if number not in guilty]
    assert plant.values(f"quarantine.{SIS}") == [sent[number] for number in sorted(guilty)]
    assert took < 15 * len(guilty)
    for number in guilty:
        assert sum(call == [sent[number]] for call in buggy.calls) >= 3, "set aside before it had its tries"


@pytest.mark.parametrize(
    "error",
    [
        lambda: TransientError("not now"), lambda: ConfigError("no keys"), lambda: KafkaTimeoutError(),
        lambda: NotLeaderForPartitionError(), lambda: KafkaError(), lambda: TimeoutError(), lambda: OSError(5, "disk"),
        MemoryError,
    ],
)  # fmt: skip
def test_what_is_around_a_batch_never_sets_anything_aside(plant: Plant, error: Callable[[], Exception]) -> None:
    """However often it fails: Kafka, time-outs, keys, memory and disk say nothing of the record."""
    plant.put(*values(5))
    buggy = Buggy({b"0:2": error})
    alone = lambda: sum(call == [b"0:2"] for call in buggy.calls)  # noqa: E731
    tries = 0

    async def work() -> None:
        nonlocal tries
        async with plant.plane(buggy, buggy.set_aside) as plane:
            await plant.until(lambda: alone() >= 8)
            tries = alone()
            assert next(iter(plane.lanes.values())).failures >= 8
            buggy.fails.clear()
            await plant.until(lambda: plant.position() == 5)

    plant.run(work)
    assert tries >= 8
    assert plant.values(OUT) == values(5)
    assert plant.values(f"quarantine.{SIS}") == []


def test_an_output_too_large_for_its_topic_is_found_too(plant: Plant) -> None:
    """What Kafka refuses for its size fails for ever, and is of this one record."""
    sent = [*values(3), b"0:3" + b"x" * 500, *values(2)]
    plant.put(*sent)
    plant.cluster.most_bytes[OUT] = 100
    buggy = Buggy({})
    run(plant, buggy, buggy.set_aside, lambda: plant.position() == 6)
    assert plant.values(OUT) == [*values(3), *values(2)]
    assert plant.values(f"quarantine.{SIS}") == [sent[3]]


def test_what_is_too_large_even_for_the_quarantine_goes_there_shortened(plant: Plant) -> None:
    """The first time whole, then its beginning: it must not stop its lane for ever."""
    sent = [*values(3), b"0:3" + b"x" * 500]
    plant.put(*sent)
    plant.cluster.most_bytes.update({OUT: 100, f"quarantine.{SIS}": 100})
    buggy = Buggy({})
    run(plant, buggy, buggy.set_aside, lambda: plant.position() == 4)
    assert plant.values(f"quarantine.{SIS}") == [b"0:3x"]
    assert buggy.brief[0] is False
    assert buggy.brief[-1] is True


def test_a_fault_that_does_not_come_again_sets_nothing_aside(plant: Plant) -> None:
    """Fewer failures than tries: the record passes like any other."""
    plant.put(*values(5))
    left = 2

    def process(state: LaneState, inputs: Sequence[InputRecord], views: Views, now: int, next_offset: int) -> Step:
        nonlocal left
        if left and [record.value for record in inputs] == [b"0:2"]:
            left -= 1
            raise ValueError
        if len(inputs) > 1 and left and b"0:2" in [record.value for record in inputs]:
            raise ValueError
        return copy(state, inputs, views, now, next_offset)

    run(plant, process, Buggy({}).set_aside, lambda: plant.position() == 5)
    assert plant.values(OUT) == values(5)
    assert left == 0


def test_a_broken_exchange_does_not_empty_the_input_into_the_quarantine(
    plant: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    """It fails on everything: after some records the lane stands still and says that it is not the records."""
    sent = values(10)
    plant.put(*sent)
    buggy = Buggy({value: lambda: ValueError("of Jan Jansen") for value in sent})
    stood = lambda: sum(call == [sent[4]] for call in buggy.calls) > 8  # noqa: E731
    run(plant, buggy, buggy.set_aside, stood, blame_in_row=4)
    assert plant.values(f"quarantine.{SIS}") == sent[:4]
    assert plant.position() == 4
    said = capsys.readouterr().out
    assert "lane.broken" in said
    assert "Jansen" not in said


def test_without_a_way_to_set_aside_the_lane_stands_still(plant: Plant) -> None:
    """As a lane of any other function does: nothing passes what it fails on."""
    plant.put(*values(5))
    buggy = Buggy({b"0:2": ValueError})
    run(plant, buggy, None, lambda: sum(call == [b"0:2"] for call in buggy.calls) > 6)
    assert plant.values(OUT) == values(2)
    assert plant.position() == 2


# ---- time


def test_a_batch_that_takes_too_long_is_split(plant: Plant) -> None:
    """Half a second for each record, three seconds for a batch: it comes through in smaller ones, and nothing is set aside."""
    plant.put(*values(40))
    buggy = Buggy({})

    def slow(state: LaneState, inputs: Sequence[InputRecord], views: Views, now: int, next_offset: int) -> Step:
        plant.loop._now += 0.5 * len(inputs)
        return buggy(state, inputs, views, now, next_offset)

    run(plant, slow, buggy.set_aside, lambda: plant.position() == 40, batch_records=40)
    assert plant.values(OUT) == values(40)
    assert plant.values(f"quarantine.{SIS}") == []
    assert max(map(len, buggy.calls)) == 40


def test_one_record_that_takes_too_long_is_decided_and_named(plant: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    """It may be the machine: nothing is open while the lane decides, so it has the time; but the log says which it was."""
    plant.put(*values(5))
    buggy = Buggy({})

    def slow(state: LaneState, inputs: Sequence[InputRecord], views: Views, now: int, next_offset: int) -> Step:
        if b"0:2" in [record.value for record in inputs]:
            plant.loop._now += 5.0
        return buggy(state, inputs, views, now, next_offset)

    run(plant, slow, buggy.set_aside, lambda: plant.position() == 5, batch_records=1, request_timeout_s=2.5)
    assert plant.values(OUT) == values(5)
    said = [line for line in capsys.readouterr().out.splitlines() if "lane.slow_record" in line]
    assert len(said) == 1
    assert "offset=2" in said[0]


def test_a_batch_that_took_too_long_is_followed_by_smaller_ones(plant: Plant) -> None:
    """A tenth of a second for each record: from the second batch on the loop is not kept for longer than it may be."""
    plant.put(*values(40))
    buggy = Buggy({})

    def slow(state: LaneState, inputs: Sequence[InputRecord], views: Views, now: int, next_offset: int) -> Step:
        plant.loop._now += 0.1 * len(inputs)
        return buggy(state, inputs, views, now, next_offset)

    run(plant, slow, buggy.set_aside, lambda: plant.position() == 40, batch_records=20)
    sizes = [len(call) for call in buggy.calls if call]
    assert sizes[0] == 20
    assert max(sizes[1:]) <= 3
    assert plant.values(OUT) == values(40)


# ---- with the real exchange


class Exchange:
    """The exchange with a bug: it fails on these events, or whenever it lets one of these parked events go on."""

    def __init__(self, broken: set[str]) -> None:
        self.broken = broken

    def __call__(
        self, state: LaneState, inputs: Sequence[InputRecord], views: Views, now: int, next_offset: int
    ) -> Step:
        """See exchange."""
        step = exchange(state, inputs, views, the_school().keys, now, next_offset)
        released = [state.parked[n].record for n, event in step.delta.parked.items() if event is None]
        new = [event.record.offset for event in step.delta.parked.values() if event is not None]
        for record in [*(r for r in inputs if r.offset not in new), *released]:
            if self._id(record) in self.broken:
                raise KeyError("a bug")
        return step

    def set_aside(
        self, state: LaneState, guilty: InputRecord | Parked, views: Views, now: int, next_offset: int, *, brief: bool
    ) -> Step:
        """See SetAside."""
        return set_aside(state, guilty, views, the_school().keys, now, next_offset, brief=brief)

    def _id(self, record: InputRecord) -> str | None:
        return None if len(record.value or b"") < 20 else str(decode_envelope(record.value)[0]["event_id"])


def the_plant(patch: pytest.MonkeyPatch) -> Plant:
    """With the simulation's school."""
    return Plant(patch, TOPICS, the_school().records)


def run_school(plant: Plant, process: Exchange, send: Callable[[Plant], Any], done: Callable[[], Any]) -> None:
    """Run the real exchange until something is done."""

    async def work() -> None:
        async with plant.plane(process, process.set_aside, build=_build):
            waiting = send(plant)
            if waiting is not None:
                await waiting
            await plant.until(done, 200)

    plant.run(work)


def put(plant: Plant, party: str, *items: Item) -> None:
    """What a party sends, to its first partition."""
    plant.cluster.write(TopicPartition(f"in.{party}", 0), list(items))


def delivered(plant: Plant) -> list[str]:
    """Ids of the events that the portal got, in order."""
    return [str(decode_envelope(value)[0]["event_id"]) for value in plant.values(f"out.{PORTAL}.usage")]


def told(plant: Plant) -> dict[str, list[str]]:
    """Codes that the sender was told, by event."""
    found: dict[str, list[str]] = {}
    for value in plant.values(f"status.{DELTA}"):
        datum = catalogue()["status.v1"].decode(unframe(value)[1])
        found.setdefault(datum["event_id"], []).extend(result["code"] for result in datum["results"])
    return found


def test_an_event_that_the_exchange_fails_on_is_quarantined_told_audited_and_an_incident() -> None:
    """Sealed as it came, with its place and its code, and no value of it anywhere in clear; others go on."""
    school = the_school()
    uses = [use for use in school.uses[0] if use.event][:3]
    guilty = str(uses[1].event)
    with pytest.MonkeyPatch.context() as patch:
        plant = the_plant(patch)
        put(plant, SIS, school.enrolments[0].item)

        async def send() -> None:
            await plant.until(lambda: plant.values("vault.identity"))
            await asyncio.sleep(1)
            put(plant, DELTA, *(use.item for use in uses))

        run_school(plant, Exchange({guilty}), lambda _: send(), lambda: len(told(plant)) == 3)
    assert delivered(plant) == [str(uses[0].event), str(uses[2].event)]
    assert told(plant)[guilty] == ["internal.error"]
    (kept,) = plant.values(f"quarantine.{DELTA}")
    datum = catalogue()["quarantine.v1"].decode(unframe(kept)[1])
    assert (datum["code"], datum["event_id"], datum["offset"]) == ("internal.error", guilty, 1)
    leaves = [json.loads(value)["x"] for value in plant.values("audit.events")]
    assert [leaf["decision"] for leaf in leaves if leaf["event"] == guilty] == ["quarantined"]
    (incident,) = [leaf for leaf in plant.controls() if leaf["kind"] == "incident"]
    assert incident["code"] == "internal.error"
    assert incident["in"] == {"offset": 1, "partition": 0, "topic": f"in.{DELTA}"}


def test_a_parked_event_whose_release_fails_is_found_and_the_others_go_on() -> None:
    """It waits with others of its pupil and of another one; the enrolments come, and only it is set aside, told twice."""
    school = the_school()
    first, second = ([use for number, use in enumerate(school.uses[pupil]) if number % 2] for pupil in (0, 1))
    guilty = str(first[0].event)
    with pytest.MonkeyPatch.context() as patch:
        plant = the_plant(patch)
        put(plant, DELTA, first[0].item, second[0].item, first[1].item, second[1].item)

        async def send() -> None:
            await plant.until(lambda: len(told(plant)) == 4)
            put(plant, SIS, school.enrolments[0].item, school.enrolments[1].item)

        run_school(
            plant,
            Exchange({guilty}),
            lambda _: send(),
            lambda: len(told(plant).get(guilty, ())) == 2 and len(delivered(plant)) >= 3,
        )
    assert told(plant)[guilty] == ["subject.waiting", "internal.error"]
    came = delivered(plant)
    assert [name for name in came if name != str(first[1].event)] == [str(use.event) for use in second]
    assert str(first[1].event) in came
    assert len(plant.values(f"quarantine.{DELTA}")) == 1
    log = plant.cluster.log(TopicPartition("parked", 0))
    parked = {entry.item.key: entry.item.value for entry in log.committed() if entry.item}
    assert [key for key, value in parked.items() if value is not None] == []


# ---- parts


def test_a_disk_that_can_not_be_read_is_no_fault_of_the_event_that_asked() -> None:
    """The vault's copy fails: a transient error, which sets nothing aside."""

    class Broken:
        def get(self, key: bytes) -> bytes:
            raise lmdb.CorruptedError(key.hex())

    with pytest.raises(TransientError, match="copy on disk"):
        StoreReader(Broken()).get(b"key")  # type: ignore[arg-type]
