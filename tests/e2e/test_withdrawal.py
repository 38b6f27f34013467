"""Promise P7 on a real Kafka: withdrawing a gate stops delivery within 5 s, what is in flight and parked included.

The proof of time: the position up to which receivers can read is asked 4 s after the registry's change was committed (a
second for the question itself). A delivery that is committed later lies at or behind it. There must be none.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiokafka.client
import pytest

from broker.app.worker import output_topics
from broker.demo import story
from broker.demo.stage import Stage
from broker.engine import DataPlane, EngineConfig, KafkaClients, RegistryView, VaultView, topic_identity
from broker.exchange import ExchangeKeys, exchange
from broker.exchange.model import VAULT
from broker.kafka import access
from broker.keys import FileKeys
from broker.registry.store import change, read_records
from tests.e2e.watch import send
from tests.e2e.withdrawing import (
    KEPT,
    LIMIT_SECONDS,
    PO_PORTAL,
    VO_PORTAL,
    Load,
    Outputs,
    Records,
    Valve,
    between,
    enrol,
    gates,
    known_pupils,
    late,
    revoked,
    usage,
    withdraw,
)
from tests.engine.machine import until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]
ASKED_SECONDS = LIMIT_SECONDS - 1.0
NEWCOMER = "L0100"
VIEW = "registry-view"


@pytest.fixture(scope="module")
def school(scene: Stage) -> Stage:
    """The installation, with pupils at both schools."""
    asyncio.run(enrol(scene, *known_pupils()))
    return scene


@pytest.fixture
async def permitted(school: Stage) -> AsyncIterator[Records]:
    """The registry that permits all flows; put back afterwards."""
    operator = school.connections["operator"]
    records = await read_records(operator)
    yield records
    await change(operator, records, operator="test", reason="as it was")  # `apply` would keep what was revoked since


async def worker(scene: Stage) -> None:
    """At least one worker runs, as in production."""
    if all(process.poll() is not None for process in scene.workers):
        await asyncio.to_thread(scene.start_worker)


async def no_worker(scene: Stage) -> None:
    """SIGTERM to all."""
    running = [process for process in scene.workers if process.poll() is None]
    for process in running:
        process.terminate()
    for process in running:
        await asyncio.to_thread(process.wait, 30)


async def test_each_gate_stops_delivery_within_five_seconds_under_load(school: Stage, permitted: Records) -> None:
    """Four gates in six ways, one after the other, while events go on; what nobody withdrew goes on as well."""
    await worker(school)
    closed = []
    async with Outputs(school) as outputs, Load(school) as load:
        await load.flowing()
        for gate in gates(permitted):
            at = await withdraw(school, gate.changes)
            closed.append((gate, at, asyncio.create_task(outputs.ends_at(at + ASKED_SECONDS))))
        ends = {gate.flow: await asked for gate, _, asked in closed}
        await load.more(LIMIT_SECONDS - ASKED_SECONDS + 0.5)
        await load.stop()
        found = await outputs.read(load)
    for gate, at, _ in closed:
        assert [one for one in found if one.flow == gate.flow], f"{gate.name}: it was open before"
        assert late(found, gate.flow, ends[gate.flow]) == [], gate.name
        codes = load.codes(gate.flow, at + LIMIT_SECONDS)
        assert codes, f"{gate.name}: load went on"
        assert set(codes) == {gate.code}, gate.name
        assert set(load.codes(KEPT, at)) == {"ok"}, f"{gate.name}: only what was withdrawn stops"


async def test_parked_events_meet_the_gates_as_they_are_when_the_pupil_comes(school: Stage, permitted: Records) -> None:
    """Parked while all was permitted; then the gates close, then the enrolment comes: refused by each gate."""
    await worker(school)
    closed = gates(permitted)
    waiting = {flow: usage(flow, story.pupil(las_key=NEWCOMER)) for flow in (*(gate.flow for gate in closed), KEPT)}
    ids = {event.event_id for event in waiting.values()}
    async with Outputs(school) as outputs, Load(school) as load:
        await load.flowing()
        load.sent |= {event.event_id: (flow, time.monotonic()) for flow, event in waiting.items()}
        await send(school, story.PUBLISHER, list(waiting.values()))
        await load.until(lambda: ids <= load.told.keys(), "they wait")
        at = await withdraw(school, {key: value for gate in closed for key, value in gate.changes.items()})
        await load.until(lambda: all(gate.code in load.codes(gate.flow, at) for gate in closed), "all gates are closed")
        await enrol(school, NEWCOMER)
        await load.until(lambda: all(len(load.told[event_id]) > 1 for event_id in ids), "they are decided")
        await load.stop()
        found = await outputs.read(load)
    expected = {gate.flow: gate.code for gate in closed} | {KEPT: "ok"}
    for flow, event in waiting.items():
        assert load.codes_of(event.event_id) == ["subject.waiting", expected[flow]]
    assert [one.flow for one in found if one.event_id in ids] == [KEPT]


# ---- frozen workers

FROZEN: Mapping[str, Mapping[str, float]] = {
    "within-the-transaction-time-out": {},
    "beyond-it": {"transaction_timeout_s": 4.0, "batch_timeout_s": 3.0, "request_timeout_s": 2.0},
    "missed-by-the-group-as-well": {"session_timeout_s": 6.0, "heartbeat_s": 0.5, "rebalance_timeout_s": 6.0},
}


async def test_a_frozen_worker_delivers_nothing_on_permission_that_was_withdrawn_meanwhile(
    school: Stage, permitted: Records, tmp_path: Path
) -> None:
    """Three workers, each stopped (SIGSTOP) between its last look at the registry and its commit; then the withdrawal.

    Two go on after 5 s. The third goes on when those have taken over and decided everything.
    """
    await no_worker(school)
    flows, sides = (VO_PORTAL, PO_PORTAL), {}
    for connection, side in (("vo-usage-delta-portaal", "sender"), ("po-usage-delta-portaal", "receiver")):
        sides |= revoked(permitted, connection, side)
    zombies = await asyncio.gather(*(start_freezing(school, tmp_path / name, FROZEN[name]) for name in FROZEN))
    try:
        async with Outputs(school) as outputs, Load(school, flows) as load:
            await load.flowing()
            for name in FROZEN:
                (tmp_path / name).touch()
            await until(lambda: all(state_of(zombie.process.pid) == "T" for zombie in zombies), "they stand still")
            in_flight = await outputs.in_flight()
            at = await withdraw(school, sides)
            ends = await outputs.ends_at(at + ASKED_SECONDS)
            await asyncio.sleep(at + LIMIT_SECONDS + 0.5 - time.monotonic())
            *early, missed = zombies
            for zombie in early:
                zombie.go_on()
            await load.more(0.0)
            await load.stop()
            missed.go_on()
            await until(lambda: b"lane.failed" in missed.said(), "it noticed")
            found = await outputs.read(load)
    finally:
        for zombie in zombies:
            zombie.go_on()
        await no_worker(school)
    assert len(in_flight) == len(FROZEN), "each had deliveries that were written and not committed"
    for flow in flows:
        assert late(found, flow, ends) == []
        assert set(load.codes(flow, at)) == {"gate.connection"}
    assert all(len(load.told[event_id]) == 1 for event_id in load.sent), "each event is decided once"


class Zombie:
    """A worker that stops itself; see `tests.e2e.freezing`."""

    def __init__(self, scene: Stage, freeze: Path, time_outs: Mapping[str, float]) -> None:
        self._log = scene.home / f"{freeze.name}.log"
        command = [
            sys.executable, "-m", "tests.e2e.freezing", str(freeze), json.dumps(time_outs), "worker",
            "--connection", str(scene.home / "connections" / "exchange.json"), "--keys", str(scene.home / "keys"),
            "--state", str(self._log.with_suffix(".state")),
        ]  # fmt: skip
        with self._log.open("wb") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        scene.workers.append(self.process)

    def said(self) -> bytes:
        """Its log."""
        return self._log.read_bytes()

    def go_on(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)


async def start_freezing(scene: Stage, freeze: Path, time_outs: Mapping[str, float]) -> Zombie:
    """Start one and wait until it serves."""
    zombie = Zombie(scene, freeze, time_outs)
    await until(lambda: b"worker.ready" in zombie.said() or zombie.process.poll() is not None, "it serves", 90)
    assert zombie.process.poll() is None, zombie.said().decode()
    return zombie


def state_of(pid: int) -> str:
    """A process's state as Linux names it: T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]


# ---- a view that can not read


@asynccontextmanager
async def in_process(scene: Stage, folder: Path) -> AsyncIterator[DataPlane]:
    """The exchange as a worker runs it, in this process; its view of the registry names itself to Kafka."""
    connection, config = scene.connections[access.WORKER], EngineConfig()
    keys = ExchangeKeys(FileKeys(scene.home / "keys"))
    clients = KafkaClients.of_engine(connection, config)
    timeout = int(config.request_timeout_s * 1000)
    registry = RegistryView(KafkaClients(connection, request_timeout_ms=timeout, client_id=VIEW))
    vault = VaultView(clients, topic_identity(connection, VAULT), folder)
    plane = DataPlane(
        clients, lambda state, inputs, views, now, end: exchange(state, inputs, views, keys, now, end),
        registry, vault, outputs=lambda topic: output_topics(topic, registry.current), config=config,
    )  # fmt: skip
    async with plane:
        await plane.ready()
        yield plane


def by_way_of(valve: Valve) -> Callable[..., Any]:
    """aiokafka's way to connect, but that the registry's view goes through the valve."""
    connect = aiokafka.client.create_conn

    async def create_conn(host: str, port: int, *, client_id: str, **options: Any) -> Any:
        where = valve.address if client_id == VIEW else (host, port)
        return await connect(*where, client_id=client_id, **options)

    return create_conn


async def test_a_registry_reader_that_hears_nothing_pauses_the_lanes(
    school: Stage, permitted: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection stands open and silent: no delivery at all, until it reads again and knows of the withdrawal."""
    await no_worker(school)
    flows = (VO_PORTAL, KEPT)
    async with Valve(school.kafka.admin_connection().hosts()[0]) as valve, Outputs(school) as outputs:
        monkeypatch.setattr(aiokafka.client, "create_conn", by_way_of(valve))
        async with in_process(school, tmp_path) as plane, Load(school, flows) as load:
            await load.flowing()
            view, known = plane.views.registry, plane.views.registry.current
            valve.shut()
            await load.until(lambda: view.age_s > plane.config.view_age_s, "the view is stale")
            at = await withdraw(school, revoked(permitted, "vo-usage-delta-portaal", "receiver"))
            stale = await outputs.ends()
            ends = await outputs.ends_at(at + ASKED_SECONDS)
            assert view.current is known, "it can not know yet"
            valve.open()
            await load.more(0.5)
            await load.stop()
            found = await outputs.read(load)
    assert between(found, stale, ends) == []
    assert late(found, VO_PORTAL, stale) == []
    assert set(load.codes(VO_PORTAL, at)) == {"gate.connection"}
    assert set(load.codes(KEPT, 0.0)) == {"ok"}, "the lanes went on and lost nothing"
