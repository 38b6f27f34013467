"""Taking a lane over: shut the last owner out, decide what it left behind, read where the lane stands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition

from broker.engine.clients import Clients
from broker.engine.config import EngineConfig
from broker.engine.contact import Contact
from broker.engine.observe import Observer
from broker.engine.topics import TopicCounts
from broker.engine.topicview import CompactedTail
from broker.engine.transaction import settle, settle_partitions
from broker.engine.views import CurrentViews
from broker.errors import TransientError
from broker.exchange.gap import Gap
from broker.exchange.model import LANE_STATE, PARKED, REGISTRY, VAULT, InputRecord, Parked, Step, Views
from broker.exchange.state import LaneState

log = structlog.get_logger()

TRUNCATION_TRIES = 4
FOLLOWED = frozenset({REGISTRY, VAULT, LANE_STATE, PARKED})

Process = Callable[[LaneState, "list[InputRecord]", Views, int, int], Step]
"""`process(state, inputs, views, now_ms, next_offset) -> Step`: synchronous, does not change `state`."""


class SetAside(Protocol):
    """What is written instead of deciding over an event that the pure function fails on."""

    def __call__(
        self,
        state: LaneState,
        guilty: InputRecord | Parked,
        views: Views,
        now_ms: int,
        next_offset: int,
        *,
        brief: bool,
    ) -> Step:
        """See `broker.exchange.setaside.set_aside`."""


class RegistryMoved(Exception):
    """The registry changed after records were sent: this transaction must not commit."""


class NotAssigned(Exception):
    """The partition is not ours (now); a later assignment wakes the lane."""


class Source(Protocol):
    """What a lane asks of the fetch loop."""

    def owns(self, partition: TopicPartition) -> bool:
        """Whether the partition is assigned to us and no rebalance is under way."""

    async def certain(self) -> None:
        """Wait, after this process stood still, until the group has had the time to say that others own what we did."""

    def read_from(self, partition: TopicPartition, offset: int) -> None:
        """Fetch from here on.

        Raises:
            NotAssigned: the partition is not ours.
        """

    def resume(self, partition: TopicPartition) -> None:
        """Fetch on; does nothing for a partition that is not ours."""

    async def bounds(self, partition: TopicPartition) -> tuple[int, int]:
        """First offset that still exists, and the offset after the last that can be read."""


@dataclass(frozen=True, slots=True)
class LaneHost:
    """What all lanes of a worker share.

    Args:
        process: the pure function; see `Process`.
        set_aside: None: a lane stands still in front of an event that `process` fails on.
        outputs: names of the topics that an input topic may lead to.
        states, parked: tails of the lanes' own topics.
        contact: whether Kafka answers.
        starting: how many lanes may take over at once; hundreds would only queue up in the cluster.
        deciding: held by the lane that decides over a batch.
    """

    config: EngineConfig
    clients: Clients
    source: Source
    process: Process
    set_aside: SetAside | None
    outputs: Callable[[str], Iterable[str]]
    states: CompactedTail
    parked: CompactedTail
    views: CurrentViews
    topics: TopicCounts
    observer: Observer
    contact: Contact
    starting: asyncio.Semaphore
    deciding: asyncio.Lock


async def take_over(
    lane: str, partition: TopicPartition, producer: AIOKafkaProducer, host: LaneHost, failures: int
) -> tuple[LaneState, Gap | None]:
    """Make this producer the lane's only one and read the state it left.

    Waiting for the last stable offset alone would be wrong: lanes share partitions of `lane.state`, and a
    neighbour's open transaction holds it back behind our own last commit. Hence a record of our own to wait for.

    Args:
        failures: how often this failed in a row.

    Returns:
        The state, and what keeps the lane from going on where it stands.
    """
    timeout_s = host.config.takeover_timeout_s
    # The line may be long when a worker gets hundreds of lanes at once: that is no failure of this one.
    async with host.starting, asyncio.timeout(timeout_s):
        await host.source.certain()
        if not host.source.owns(partition):
            raise NotAssigned  # taken away while we waited or slept: do not fence the new owner
        began = time.monotonic()
        await producer.start()  # returns after InitProducerId
        party = partition.topic.partition(".")[2]
        flows, count = _load(lane, host, 0).flows, host.topics.partitions
        # Apart and first: every worker follows these topics and waits for what is open there. It must end also when a
        # partition of the others has no leader for a while, and before the registry is known that names the others.
        shared = {place for place in settle_partitions(lane, party, (), (), count) if place.topic in FOLLOWED}
        offsets = await settle(producer, shared)
        partitions = settle_partitions(lane, party, host.outputs(partition.topic), flows, count)
        # With a place whose end we see: an abort is as little to be believed as a commit, and what it leaves open our
        # first commit would let appear.
        seen = {place for place in shared if place.topic == LANE_STATE}
        offsets |= await settle(producer, (partitions - shared) | seen)
    own = ((LANE_STATE, host.states), (PARKED, host.parked), (VAULT, host.views.vault), (REGISTRY, host.views.registry))
    async with asyncio.timeout(timeout_s):
        for topic, tail in own:
            await tail.passed({p.partition: offset for p, offset in offsets.items() if p.topic == topic})
        bounds = await host.source.bounds(partition)
    state = _load(lane, host, 0)
    gap = _gap(state, partition, bounds, failures)
    host.observer.took_over(lane, time.monotonic() - began)
    log.info("lane.took_over", lane=lane, next_offset=state.next_offset, parked=len(state.parked))
    return state, gap


def _load(lane: str, host: LaneHost, start: int) -> LaneState:
    return LaneState.load(lane, host.states.of(lane), host.parked.of(lane), start=start)


def _gap(state: LaneState, partition: TopicPartition, bounds: tuple[int, int], failures: int) -> Gap | None:
    """What is missing between the lane's position and the log; never a silent jump.

    A lane that never committed anything stands at 0: what was removed before its first day was decided by nobody.
    """
    first, end = bounds
    position, (topic, number) = state.next_offset, partition
    if first <= position <= end:
        return None
    where = {"lane": state.lane, "topic": topic, "partition": number}
    if position < first:
        log.error("input.lost", code="input.lost", first=position, last=first - 1, **where)
        return Gap("input-lost", topic, number, position, first - 1, first)
    if failures < TRUNCATION_TRIES:  # a new leader may know less for a moment
        raise TransientError("The input ends before the lane's position.", code="input.truncated")
    # Another topic under the same name, or a log that lost its end. From the beginning: the duplicate window
    # catches what is known, and nothing is passed over.
    log.error("input.reset", code="input.reset", next_offset=position, end=end, first=first, **where)
    return Gap("input-reset", topic, number, first, end - 1, first)
