"""What the tests of withdrawal share: flows under load, gates to close, and what had been delivered by when."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple, Self

from aiokafka import AIOKafkaConsumer, TopicPartition

from broker.client import Event, Identity, Producer, Progress, Status, StatusConsumer, Subject, Usage, pupil
from broker.demo import story
from broker.demo.stage import Stage
from broker.kafka.reading import looking
from broker.policy.document import canonical
from broker.registry.store import change
from broker.wire import FLOW, decode_envelope
from tests.e2e.watch import outcomes, send
from tests.engine.machine import until

LIMIT_SECONDS = 5.0  # promise P7
RATE_PER_SECOND = 210
ROUND_SECONDS = 0.05
PUPILS = 40  # enough for every partition to have some of them


class Flow(NamedTuple):
    """Events of the publisher about one school, for one receiver, of one kind."""

    school: str
    receiver: str
    kind: str = "USE"


PO, VO = story.PO_SCHOOL, story.VO_SCHOOL
PROGRESS = Flow(VO, story.PORTAL, "PROGRESS")
VO_SHOP, PO_SHOP = Flow(VO, story.SHOP), Flow(PO, story.SHOP)
VO_PORTAL, PO_PORTAL = Flow(VO, story.PORTAL), Flow(PO, story.PORTAL)
PO_SIS = Flow(PO, story.SIS)
KEPT = Flow(VO, story.SIS)  # nobody withdraws anything of it
FLOWS = (PROGRESS, VO_SHOP, PO_SHOP, VO_PORTAL, PO_PORTAL, PO_SIS, KEPT)

Records = Mapping[str, bytes]


class Gate(NamedTuple):
    """A gate that closes: the registry's records that change, the flow that ends, and the code it is refused with."""

    name: str
    flow: Flow
    code: str
    changes: dict[str, bytes | None]


def gates(records: Records) -> list[Gate]:
    """All four gates, two of them in two ways; each closes a flow of its own."""
    yesterday = (datetime.now(UTC).date() - timedelta(days=1)).isoformat()
    return [
        Gate("the route is gone", PROGRESS, "gate.route", without_route(records)),
        Gate("the agreement is gone", VO_SHOP, "gate.agreement", {"agreement/vwo-vo-winkel": None}),
        Gate("the agreement ended", PO_SHOP, "gate.agreement", edited(records, "agreement/vwo-po-winkel", valid_until=yesterday)),
        Gate("the sender's side is revoked", VO_PORTAL, "gate.connection", revoked(records, "vo-usage-delta-portaal", "sender")),
        Gate("the receiver's side is revoked", PO_PORTAL, "gate.connection", revoked(records, "po-usage-delta-portaal", "receiver")),
        Gate("the policy denies what it is about", PO_SIS, "gate.policy", without_usage_dates(records)),
    ]  # fmt: skip


def edited(records: Records, key: str, **fields: Any) -> dict[str, bytes | None]:
    """A record with some members changed."""
    return {key: canonical(json.loads(records[key]) | fields)}


def revoked(records: Records, connection: str, side: str) -> dict[str, bytes | None]:
    """One side of a connection takes its word back."""
    return edited(records, f"connection/{connection}/{side}", state="revoked", at=datetime.now(UTC).isoformat())


def without_route(records: Records) -> dict[str, bytes | None]:
    """No progress from publishers to portals any more."""
    table = json.loads(records["routes/current"])
    table["routes"] = [route for route in table["routes"] if "PROGRESS" not in route["kinds"]]
    return {"routes/current": canonical(table)}


def without_usage_dates(records: Records) -> dict[str, bytes | None]:
    """The policy denies a SIS in PO the dates of usage, without which a usage event says nothing."""
    policy = json.loads(records["policy/current"])
    row = next(row for row in policy["attributes"] if "usageDates" in row["attributes"])
    rule = next(rule for rule in row["rules"] if "SIS" in rule["receiver_roles"])
    denied = rule | {"id": "usage-sis", "receiver_roles": ["SIS"], "effects": rule["effects"] | {"Gebruik": "D/A/A"}}
    rule["receiver_roles"] = [role for role in rule["receiver_roles"] if role != "SIS"]
    row["rules"].append(denied)
    return {"policy/current": canonical(policy)}


async def withdraw(scene: Stage, changes: Mapping[str, bytes | None]) -> float:
    """Commit a change of the registry; monotonic seconds of the moment when it had been committed."""
    done = await change(scene.connections["operator"], changes, operator="test", reason="the school says stop")
    assert {one.key for one in done} == changes.keys()
    return time.monotonic()


# ---- events


def usage(flow: Flow, subject: Subject) -> Event:
    """An event of a flow."""
    body = Usage(
        entitlement_id=story.new_id(), product_id=story.BOOK, usage_type="WEEKLY_USAGE", usage_date=date.today(),  # noqa: DTZ011
        progress=Progress(status="STARTED") if flow.kind == "PROGRESS" else None,
    )  # fmt: skip
    sector = "PO" if flow.school == PO else "VO"
    return Event(kind=flow.kind, school=flow.school, sector=sector, receiver=flow.receiver, subject=subject, body=body)


def enrolment(school: str, las_key: str) -> Event:
    """A pupil comes to a school."""
    eck_id = f"https://ketenid.nl/pilot/{school.encode().hex() + las_key.encode().hex():0>128}"
    return Event(
        kind="ENROL", school=school, sector="PO" if school == PO else "VO",
        subject=Subject("PUPIL", eck_id, (("LAS_KEY", las_key),)), body=Identity(),
    )  # fmt: skip


async def enrol(scene: Stage, *las_keys: str) -> None:
    """Pupils come to both schools, and the exchange knows it."""
    events = [enrolment(school, las_key) for school in (PO, VO) for las_key in las_keys]
    await outcomes(scene, story.SIS, await send(scene, story.SIS, events))


def known_pupils() -> list[str]:
    """Those that the load is about."""
    return [f"L{number:04}" for number in range(PUPILS)]


class Load:
    """Sends events of the flows in turn, hundreds a second, and collects what it is told about them.

    Attributes:
        sent: event id -> its flow, and when it went to Kafka (monotonic seconds).
        told: event id -> its statuses.
    """

    def __init__(self, scene: Stage, flows: tuple[Flow, ...] = FLOWS) -> None:
        self.sent: dict[str, tuple[Flow, float]] = {}
        self.told: dict[str, list[Status]] = {}
        self._scene, self._flows, self._on = scene, flows, True
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._send())]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._on = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send(self) -> None:
        at_once = round(RATE_PER_SECOND * ROUND_SECONDS)
        number, pupils = 0, known_pupils()
        async with Producer(self._scene.profile(story.PUBLISHER)) as producer:
            due = time.monotonic()
            while self._on:
                events = []
                for _ in range(at_once):
                    flow = self._flows[number % len(self._flows)]
                    events.append(usage(flow, pupil(las_key=pupils[number % PUPILS])))
                    self.sent[events[-1].event_id] = flow, time.monotonic()
                    number += 1
                await producer.send_many(events)
                due = max(due + ROUND_SECONDS, time.monotonic() - 1.0)
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _listen(self) -> None:
        async with StatusConsumer(self._scene.profile(story.PUBLISHER), group=f"load-{time.time_ns()}") as statuses:
            async for status in statuses:
                self.told.setdefault(status.event_id, []).append(status)

    async def until(self, condition: Any, what: str, seconds: float = 60.0) -> None:
        """Wait for a condition, as long as load goes on."""

        def reached() -> bool:
            for task in self._tasks:
                if task.done():
                    task.result()
            return bool(condition())

        await until(reached, what, seconds)

    async def flowing(self) -> None:
        """Wait until every flow is delivered."""
        await self.until(lambda: {self.sent[e][0] for e in self._delivered()} == set(self._flows), "all flows run")

    async def stop(self) -> None:
        """Send no more, and wait until every event has its outcome."""
        self._on = False
        with suppress(asyncio.CancelledError):
            await self._tasks[1]
        del self._tasks[1]
        await self.until(lambda: self.sent.keys() <= self.told.keys(), "every event has its outcome")

    async def more(self, seconds: float) -> None:
        """Wait until events that go out from now on, for so long, have outcomes."""
        last = time.monotonic() + seconds
        await self.until(lambda: any(at > last for _, at in self.sent.values()), "sending goes on")
        await self.until(lambda: self.codes_after(last), "outcomes go on")

    def codes_of(self, event_id: str) -> list[str]:
        """The codes of one event, in the order in which they were told."""
        return [result.code for status in self.told.get(event_id, ()) for result in status.results]

    def codes(self, flow: Flow, after: float) -> list[str]:
        """The codes of a flow's events that were sent after a moment."""
        ids = [event_id for event_id, (of, at) in self.sent.items() if of == flow and at > after]
        return [code for event_id in ids for code in self.codes_of(event_id)]

    def codes_after(self, moment: float) -> list[str]:
        """The codes of all events that were sent after a moment."""
        return [code for flow in self._flows for code in self.codes(flow, moment)]

    def _delivered(self) -> list[str]:
        return [e for e in self.told.keys() & self.sent.keys() if self.told[e][-1].results[0].code == "ok"]


# ---- what is delivered


class Delivered(NamedTuple):
    """A record that a receiver can read."""

    flow: Flow
    event_id: str
    place: TopicPartition
    offset: int


class Outputs:
    """The receivers' topics, read_committed."""

    def __init__(self, scene: Stage) -> None:
        self._scene = scene
        self._consumer = AIOKafkaConsumer(
            **scene.kafka.admin_connection().aiokafka(), isolation_level="read_committed", enable_auto_commit=False
        )
        self._topics = [f"out.{party}.usage" for party in (story.PORTAL, story.SHOP, story.SIS)]
        self._places: list[TopicPartition] = []

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        for topic in self._topics:
            first = TopicPartition(topic, 0)
            self._consumer.assign([first])
            await until(lambda t=topic: self._consumer.partitions_for_topic(t), f"{topic} is known")
            self._places += [TopicPartition(topic, n) for n in sorted(self._consumer.partitions_for_topic(topic))]
        self._consumer.assign(self._places)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def ends(self) -> dict[TopicPartition, int]:
        """Where what can be read ends now: a delivery that is committed later lies there or behind it."""
        found: dict[TopicPartition, int] = await self._consumer.end_offsets(self._places)
        return found

    async def ends_at(self, moment: float) -> dict[TopicPartition, int]:
        """The same, asked at a moment (monotonic seconds)."""
        await asyncio.sleep(max(0.0, moment - time.monotonic()))
        return await self.ends()

    async def in_flight(self) -> set[str]:
        """Lanes with deliveries that are written and not committed."""
        consumer = looking(self._scene.kafka.admin_connection(), isolation_level="read_uncommitted")
        await consumer.start()
        try:
            consumer.assign(self._places)
            readable, written, lanes = await self.ends(), await consumer.end_offsets(self._places), set[str]()
            for place, offset in readable.items():
                consumer.seek(place, offset)
            while any([await consumer.position(p) < written[p] for p in self._places]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    lanes |= {dict(record.headers)[FLOW].decode() for record in records if record.headers}
            return lanes
        finally:
            await consumer.stop()

    async def read(self, load: Load) -> list[Delivered]:
        """All deliveries of a load."""
        await self._consumer.seek_to_beginning(*self._places)
        ends, found = await self.ends(), list[Delivered]()
        while any([await self._consumer.position(p) < ends[p] for p in self._places]):
            for place, records in (await self._consumer.getmany(timeout_ms=200)).items():
                for record in records:
                    event_id = decode_envelope(record.value)[0]["event_id"]
                    if event_id in load.sent:
                        found.append(Delivered(load.sent[event_id][0], event_id, place, record.offset))
        return found


Ends = Mapping[TopicPartition, int]


def late(found: list[Delivered], flow: Flow, ends: Ends) -> list[Delivered]:
    """What of a flow was delivered after a moment whose ends are given."""
    return [one for one in found if one.flow == flow and one.offset >= ends[one.place]]


def between(found: list[Delivered], first: Ends, last: Ends) -> list[Delivered]:
    """What was delivered, of any flow, between two moments."""
    return [one for one in found if first[one.place] <= one.offset < last[one.place]]


class Valve:
    """Passes bytes on to a server, until it is shut: then it keeps its connections open, and they are silent."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._to, self._open = server, asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()

    @property
    def address(self) -> tuple[str, int]:
        """Where to connect."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()
        return host, port

    def shut(self) -> None:
        """Hold everything back."""
        self._open.clear()

    def open(self) -> None:
        """Pass everything on, what was held back first."""
        self._open.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._to)
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
