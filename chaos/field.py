"""What runs beside the faults, in an event loop of its own: senders, receivers, and the ways to the brokers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, wait
from typing import Any, Final, Self, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition

from broker.demo.stage import Stage
from broker.engine import KafkaClients
from broker.engine.ending import end_within
from broker.kafka.closing import told_to_end
from broker.registry.store import change
from chaos.checker import DEADLINE_MS
from chaos.committed import Ranges, committed_behind
from chaos.history import Withdrawal
from chaos.proxy import Mode, Way
from chaos.recorder import Receiver
from chaos.workload import Workload
from chaos.world import PORTAL, SHOP

T = TypeVar("T")
RETRY_S: Final = 1.0
CHANGE_S: Final = 20.0
LEAVE_S: Final = 10.0
WORK: Final = "work of the run"
END_S: Final = 20.0  # clients are let go

Changes = dict[str, bytes | None]


class Field:
    """A thread with an event loop; all methods are for the main thread.

    Args:
        note: where to write what happens; called in either thread.
    """

    def __init__(self, scene: Stage, workload: Workload, note: Callable[[str], None]) -> None:
        self._scene, self.workload, self._note = scene, workload, note
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="field", daemon=True)
        self._ways: dict[str, dict[str, Way]] = {}  # by worker, by broker
        self.receivers = [Receiver(scene.profile(party), note) for party in (PORTAL, SHOP)]
        self._changes: list[Future[None]] = []
        self._started: list[Future[None]] = []
        self.withdrawals: list[Withdrawal] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for started in self._started:  # first, while their clients' own tasks still run: they leave in good order
            started.cancel()
        self.run(self._left())
        self.run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def run(self, work: Coroutine[Any, Any, T], seconds: float = 60.0) -> T:
        """Do something there, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    def start(self, work: Coroutine[Any, Any, Any]) -> Future[None]:
        """Do something there; a failure is noted."""

        async def noted() -> None:
            if (task := asyncio.current_task()) is not None:
                task.set_name(WORK)
            try:
                await work
            except Exception as error:  # noqa: BLE001 - the run goes on, and its reader is told
                self._note(f"failed: {type(error).__name__}: {error}")

        started = asyncio.run_coroutine_threadsafe(noted(), self._loop)
        self._started.append(started)
        return started

    # ---- senders and receivers

    def begin(self) -> Future[None]:
        """Start them; a future of the senders' end."""
        for receiver in self.receivers:
            self.start(receiver.run())
        return asyncio.run_coroutine_threadsafe(self.workload.run(), self._loop)

    @property
    def delivered(self) -> int:
        """How much the receivers have read."""
        return sum(len(receiver.seen) for receiver in self.receivers)

    # ---- ways

    def ways(self, worker: str) -> dict[str, int]:
        """Ports for a worker, by the address of each broker."""

        async def make() -> dict[str, int]:
            self._ways[worker] = {}
            ports = {}
            for host, port in self._scene.kafka.admin_connection().hosts():
                way = self._ways[worker][f"{host}:{port}"] = Way((host, port))
                ports[f"{host}:{port}"] = await way.start()
            return ports

        return self.run(make())

    def be(self, mode: Mode, worker: str, broker: str | None = None) -> None:
        """How a worker's ways to the brokers, or to one of them, behave from now on."""

        async def change_all() -> None:
            for address, way in self._ways.get(worker, {}).items():
                if broker in (None, address):
                    await way.be(mode)

        self.run(change_all())

    # ---- registry

    def change(self, changes: Changes) -> None:
        """Change the registry, as soon as Kafka lets us."""
        self._changes.append(self.start(self._change(changes)))

    def withdraw(self, changes: Changes, sender: str, receiver: str, school: str) -> None:
        """Take a permission back for good, and look where outputs end when its deadline has passed."""

        async def take_back() -> None:
            await self._change(changes)
            at = time.time()
            await asyncio.sleep(DEADLINE_MS / 1000)
            ends, behind = await self._ends(f"out.{receiver}.usage")
            self.withdrawals.append(Withdrawal(sender, receiver, "usage", int(at * 1000), school, ends, behind))

        self._changes.append(self.start(take_back()))

    def settled(self, seconds: float) -> bool:
        """Wait until the registry's changes are made."""
        _, pending = wait(self._changes, seconds)
        return not pending

    async def _change(self, changes: Changes) -> None:
        operator = self._scene.connections["operator"]

        async def once() -> None:
            await change(operator, changes, operator="chaos", reason="a change amid faults")

        await self._until_done(once, "registry not changed yet")

    async def _ends(self, topic: str) -> tuple[dict[str, int], dict[str, Ranges]]:
        """Where what can be read ends, and what is committed behind it; a little later if Kafka is away."""

        async def once() -> tuple[dict[str, int], dict[str, Ranges]]:
            connection = self._scene.kafka.admin_connection()
            consumer = AIOKafkaConsumer(
                **connection.aiokafka(), isolation_level="read_committed", enable_auto_commit=False
            )
            client = KafkaClients(connection).metadata()
            try:
                await consumer.start()
                await client.bootstrap()
                client.set_topics([topic])
                consumer.assign([TopicPartition(topic, 0)])  # makes the client ask for metadata of this topic
                while not (numbers := consumer.partitions_for_topic(topic)):  # noqa: ASYNC110 - no event for it
                    await asyncio.sleep(0.05)
                found = await consumer.end_offsets([TopicPartition(topic, number) for number in numbers])
                behind = {place: await committed_behind(client, place, offset) for place, offset in found.items()}
                return (
                    {f"{p.topic}/{p.partition}": offset for p, offset in found.items()},
                    {f"{p.topic}/{p.partition}": ranges for p, ranges in behind.items() if ranges},
                )
            finally:
                await end_within(consumer.stop(), RETRY_S)
                await end_within(client.close(), RETRY_S)

        return await self._until_done(once, "ends not known yet")

    async def _until_done(self, once: Callable[[], Awaitable[T]], otherwise: str) -> T:
        """Do something until Kafka lets us; the first trouble is noted."""
        noted = False
        while True:
            try:
                async with asyncio.timeout(CHANGE_S):
                    return await once()
            except (Exception, asyncio.CancelledError) as error:
                if told_to_end():
                    raise
                if not noted:
                    self._note(f"{otherwise}: {type(error).__name__}")
                noted = True
                await asyncio.sleep(RETRY_S)

    async def _left(self) -> None:
        """Wait a moment for clients that leave."""
        left = [task for task in asyncio.all_tasks() if task.get_name() == WORK]
        if left:
            await asyncio.wait(left, timeout=LEAVE_S)

    async def _end(self) -> None:
        for ways in self._ways.values():
            for way in ways.values():
                await way.stop()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=END_S)
