"""The demo's day: send, wait for the outcomes, receive, read the audit."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from broker.cli.audit import read_topic
from broker.cli.connect import identity_events
from broker.cli.send import send_all
from broker.client import Consumer, Event, Producer, Profile, Received, Sent, Status, StatusConsumer
from broker.connectors import edexml
from broker.crypto import DataKeyMaker
from broker.demo import story
from broker.demo.stage import Stage
from broker.errors import BrokerError
from broker.exchange.model import AUDIT_CONTROL, AUDIT_EVENTS

PATIENCE_SECONDS: Final = 60.0
RECEIVERS: Final = (story.PORTAL, story.SHOP, story.SIS)
Say = Callable[[str], None]


@dataclass
class Day:
    """All that happened.

    Attributes:
        sent: events by sender.
        statuses: outcomes by sender, in the order they came.
        received: usage by receiver.
        mistakes: what went wrong on purpose, by event id.
        leaves, control: audit records, parsed.
    """

    sent: Counter[str] = field(default_factory=Counter)
    statuses: dict[str, list[Status]] = field(default_factory=dict)
    received: dict[str, list[Received]] = field(default_factory=dict)
    mistakes: dict[str, str] = field(default_factory=dict)
    class_lists: dict[str, dict[str, Any]] = field(default_factory=dict)
    leaves: list[dict[str, Any]] = field(default_factory=list)
    control: list[dict[str, Any]] = field(default_factory=list)


async def live(stage: Stage, say: Say) -> Day:
    """Live the day through.

    Raises:
        BrokerError: `demo.incomplete`, if an outcome does not come in time.
    """
    day = Day()
    now = story.today()
    watchers = {party: _Watcher(stage.profile(party)) for party in (story.SIS, story.PUBLISHER, story.STRANGER)}
    for watcher in watchers.values():
        await watcher.start()
    try:
        say("the SIS enrols two classes from their EDEXML files")
        await _enrol(stage, day, watchers[story.SIS])
        say("the publisher sends a day of usage")
        await _publish(stage, day, watchers, now)
        say("the SIS enrols a pupil whose usage was waiting")
        await _latecomer(stage, day, watchers, now)
    finally:
        for party, watcher in watchers.items():
            await watcher.stop()
            day.statuses[party] = watcher.statuses
    say("portal, shop and school receive")
    for party in RECEIVERS:
        day.received[party] = await _receive(stage.profile(party))
    say("the auditor reads")
    auditor = stage.home / "connections" / "auditor.json"
    day.leaves = await read_topic(auditor, AUDIT_EVENTS, 2.0)
    day.control = await read_topic(auditor, AUDIT_CONTROL, 2.0)
    return day


async def _enrol(stage: Stage, day: Day, watcher: _Watcher) -> None:
    for class_list in story.class_lists():
        report = edexml.check(class_list.file)
        if report.problems:
            raise BrokerError(f"{class_list.file.name} has problems", code="demo.class_list")
        day.class_lists[class_list.school] = json.loads(report.to_json())
        events = list(identity_events(class_list.file, class_list.school, class_list.sector, report.school_year or ""))
        await watcher.wait_for(await _send(stage, day, story.SIS, events))


async def _publish(stage: Stage, day: Day, watchers: dict[str, _Watcher], now: Any) -> None:
    events = list(story.usage_day(story.class_lists(), now))
    early = story.early_bird(now)
    sent = await _send(stage, day, story.PUBLISHER, [*events, early])
    example = next(e for e in events if e.kind == "USE" and e.school == story.PO_SCHOOL and e.subject.eck_id)
    wrong = story.mistakes(example)
    sent += await _send(stage, day, story.PUBLISHER, list(wrong.values()))
    day.mistakes = {e.event_id: what for what, e in wrong.items() if e.event_id != example.event_id}
    day.mistakes |= {example.event_id: "the same event once more", early.event_id: "a pupil who is not enrolled yet"}
    truncated = await _send_damaged(stage, example)
    day.sent[story.PUBLISHER] += 1
    await watchers[story.PUBLISHER].wait_for(sent, truncated)
    stranger = [replace(example, event_id=story.new_id(), sender=None)]
    await watchers[story.STRANGER].wait_for(await _send(stage, day, story.STRANGER, stranger))
    day.mistakes[stranger[0].event_id] = "a publisher that no school connected"


async def _latecomer(stage: Stage, day: Day, watchers: dict[str, _Watcher], now: Any) -> None:
    sent = await _send(stage, day, story.SIS, [story.enrolment_of_latecomer(now)])
    await watchers[story.SIS].wait_for(sent)
    early = next(event_id for event_id, what in day.mistakes.items() if what.startswith("a pupil who"))
    await watchers[story.PUBLISHER].wait_until(lambda w: w.counts[early] == 2)


async def _send(stage: Stage, day: Day, party: str, events: list[Event]) -> list[Sent]:
    day.sent[party] += len(events)
    return await send_all(stage.profile(party), events)


async def _send_damaged(stage: Stage, example: Event) -> int:
    """An event whose last bytes are lost, as a broken client sends it. Gives the number of outcomes to wait for."""
    profile = stage.profile(story.PUBLISHER)
    async with Producer(profile) as client:
        broker = stage.keys.recipient_keys("broker")[0]
        damaged = replace(example, event_id=story.new_id())
        key, value, headers = client.seal(damaged, DataKeyMaker(broker.jwk, broker.kid))
        raw = AIOKafkaProducer(**profile.connection.aiokafka(), acks="all", enable_idempotence=True)
        await raw.start()
        try:
            await raw.send_and_wait(f"in.{story.PUBLISHER}", value[:-7], key=key, partition=0, headers=headers)
        finally:
            await raw.stop()
    return 1


class _Watcher:
    """Collects a sender's outcomes in the background."""

    def __init__(self, profile: Profile) -> None:
        self.statuses: list[Status] = []
        self.counts: Counter[str] = Counter()
        self._expected: Counter[str] = Counter()
        self._total = 0
        self._consumer = StatusConsumer(profile, group=f"demo-{time.time_ns()}")
        self._moved = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._consumer.start()
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._consumer.stop()

    async def _follow(self) -> None:
        async for status in self._consumer.statuses():
            async with self._moved:
                self.statuses.append(status)
                self.counts[status.event_id] += 1
                self._moved.notify_all()

    async def wait_for(self, sent: list[Sent], further: int = 0) -> None:
        """Wait until each of these events has its outcome, and as many others."""
        self._expected.update(s.event_id for s in sent)
        self._total += len(sent) + further
        await self.wait_until(
            lambda w: sum(w.counts.values()) >= w._total and all(w.counts[e] >= n for e, n in w._expected.items())
        )

    async def wait_until(self, reached: Callable[[_Watcher], bool]) -> None:
        """Wait for a condition, or say what is missing."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), self._moved:
                await self._moved.wait_for(lambda: reached(self))
        except TimeoutError:
            raise BrokerError(
                f"{sum(self.counts.values())} of {self._total} outcomes came within {PATIENCE_SECONDS:.0f} s; "
                "the worker's log says more",
                code="demo.incomplete",
            ) from None


async def _receive(profile: Profile) -> list[Received]:
    """Everything that is there for a receiver: up to the end of its topic."""
    async with Consumer(profile, "usage", group=f"demo-{time.time_ns()}") as consumer:
        found = [received async for received in consumer.events(idle_seconds=2.0)]
        if consumer.gaps:
            raise BrokerError(f"{profile.party} misses records: {consumer.gaps}", code="demo.incomplete")
        return found
