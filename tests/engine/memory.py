"""The whole data plane on the cluster in memory (`tests/simulation`): quick, and the same each time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError

from broker.engine import DataPlane, RegistryView, VaultView, views
from broker.exchange.model import AUDIT_CONTROL, AUDIT_EVENTS, AUDIT_INDEX, LANE_STATE, PARKED
from broker.schemas import catalogue, unframe
from tests.engine.machine import some_registry
from tests.simulation.clients import SimClients
from tests.simulation.cluster import Item, MemoryCluster
from tests.simulation.loop import NOBODY, Party, SimLoop, SimTime
from tests.simulation.network import Network
from tests.simulation.reading import lane_heads
from tests.simulation.schedule import CLOCKED
from tests.simulation.school import EPOCH_S
from tests.simulation.worker import CONFIG, MemoryStore

SIS, IN, OUT = "sis-noord", "in.sis-noord", "out.sis-noord.copy"
TOPICS = {
    IN: 1, OUT: 1, f"status.{SIS}": 1, f"quarantine.{SIS}": 1, "registry": 1, "vault.identity": 2, PARKED: 1,
    LANE_STATE: 2, AUDIT_EVENTS: 2, AUDIT_CONTROL: 1, AUDIT_INDEX: 2,
}  # fmt: skip


class Cluster(MemoryCluster):
    """With limits on the size of records, as topics have them, and topics that take nothing for now (`refuse`)."""

    def __init__(self, loop: SimLoop, time: SimTime, topics: Mapping[str, int]) -> None:
        super().__init__(loop, time, topics)
        self.most_bytes: dict[str, int] = {}
        self.refuse: set[str] = set()

    def produce(self, transactional_id: str, epoch: int, place: TopicPartition, sequence: int, items: Any) -> int:
        """See MemoryCluster."""
        if place.topic in self.refuse:
            raise KafkaConnectionError
        most = self.most_bytes.get(place.topic, 1 << 30)
        if any(len(item.value or b"") > most for item in items):
            raise MessageSizeTooLargeError
        return super().produce(transactional_id, epoch, place, sequence, items)


class Plant:
    """A cluster, the way to it, and a worker.

    Args:
        registry: its records.
    """

    def __init__(
        self, patch: pytest.MonkeyPatch, topics: Mapping[str, int] = TOPICS, registry: Mapping[str, bytes] | None = None
    ) -> None:
        self.loop = SimLoop(1)
        self.time = SimTime(self.loop, EPOCH_S)
        self.cluster = Cluster(self.loop, self.time, topics)
        self.network = Network(self.loop)
        self.party = Party("worker")
        asyncio.set_event_loop(self.loop)
        MemoryStore.disks.clear()
        for module in CLOCKED:
            patch.setattr(module, "time", self.time)
        patch.setattr(views, "Store", MemoryStore)
        records = registry or {"version": b"1"}
        self.cluster.write(TopicPartition("registry", 0), [Item(key.encode(), value) for key, value in records.items()])

    def plane(self, process: Any, set_aside: Any = None, *, build: Any = some_registry, **config: Any) -> DataPlane:
        """Make a data plane; call it in `run`."""
        clients = SimClients(self.cluster, self.network)
        return DataPlane(
            clients, process, RegistryView(clients, build), VaultView(clients, lambda: "the vault", Path("disk")),
            outputs=lambda _: [OUT], set_aside=set_aside, config=replace(CONFIG, **config),
        )  # fmt: skip

    def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a test's own work as the worker's process."""

        async def main() -> None:
            await self.loop.spawn(self.party, work)

        try:
            self.loop.run_until_complete(self.loop.create_task(main(), context=NOBODY.copy()))
        finally:
            self.party.alive = False
            for task in asyncio.all_tasks(self.loop):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
            self.loop._ready.clear()  # type: ignore[attr-defined]
            self.loop._timers.clear()
            self.loop.close()

    async def until(self, condition: Callable[[], Any], seconds: float = 60.0) -> float:
        """Wait for it; how long it took."""
        began = self.loop.time()
        while not condition():
            assert self.loop.time() < began + seconds, "it does not happen"
            await asyncio.sleep(0.05)
        took = self.loop.time() - began
        await asyncio.sleep(0.1)  # a transaction's markers come to each partition at a moment of their own
        return took

    # ---- records

    def put(self, *values: bytes, topic: str = IN) -> None:
        """What the party sends."""
        self.cluster.write(TopicPartition(topic, 0), [Item(b"k" * 32, value) for value in values])

    def values(self, topic: str) -> list[bytes]:
        """What a read_committed reader finds, in order."""
        places = [place for place in self.cluster.logs if place.topic == topic]
        return [e.item.value or b"" for place in places for e in self.cluster.log(place).committed() if e.item]

    def controls(self) -> list[dict[str, Any]]:
        """The control log."""
        return [json.loads(value)["control"] for value in self.values(AUDIT_CONTROL)]

    def statuses(self) -> list[tuple[int, str]]:
        """What the sender was told: offset and code."""
        schema = catalogue()["status.v1"]
        data = [schema.decode(unframe(value)[1]) for value in self.values(f"status.{SIS}")]
        return [(datum["offset"], result["code"]) for datum in data for result in datum["results"]]

    def position(self) -> int:
        """Where the lane says that it stands."""
        head = lane_heads(self.cluster).get(f"exchange.{IN}.0")
        return 0 if head is None else int(head["next_offset"])
