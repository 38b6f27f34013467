"""kill -9 of a worker in the middle of the load loses nothing, doubles nothing, and keeps each pupil's order."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from dataclasses import replace

import pytest

from broker.cli.connect import identity_events
from broker.client import Event, StatusConsumer
from broker.connectors import edexml
from broker.demo import story
from broker.demo.stage import Stage
from tests.e2e.watch import leaves, outcomes, received, send

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]
ROUNDS = 6


async def test_killing_a_worker_amid_load_loses_and_doubles_nothing(scene: Stage) -> None:
    """Two workers share the lanes; one is killed while events flow; every event is decided exactly once."""
    second = scene.start_worker(2)
    class_list = story.class_lists()[0]
    report = edexml.check(class_list.file)
    enrolments = list(identity_events(class_list.file, class_list.school, class_list.sector, report.school_year or ""))
    await outcomes(scene, story.SIS, await send(scene, story.SIS, enrolments))

    pupils = [(e.subject, story.new_id()) for e in enrolments if e.subject.kind == "PUPIL" and e.subject.eck_id]
    example = next(e for e in story.usage_day((class_list,), story.today()) if e.kind == "USE")
    load = [
        replace(
            example, event_id=story.new_id(), subject=replace(subject, user_ids=()),
            body=replace(example.body, usage_id=usage_id, revision=n + 1),
        )
        for n in range(ROUNDS * 4)
        for subject, usage_id in pupils
    ]  # fmt: skip
    task = asyncio.create_task(_send_in_rounds(scene, load))
    await _first_outcomes(scene)
    victim = scene.workers[0]
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    sent = await task
    told = await outcomes(scene, story.PUBLISHER, sent)
    assert second.poll() is None

    assert all(len(told[s.event_id]) == 1 for s in sent), "one status each"
    for party in (story.PORTAL, story.SHOP, story.SIS):
        got = await received(scene, party, count=len(load))
        counts = Counter(r.event.event_id for r in got)
        assert counts == Counter(e.event_id for e in load), f"{party}: each event exactly once"
        _in_order(load, [r.event for r in got])
    decided = Counter((leaf["x"]["event"], leaf["x"].get("receiver")) for leaf in await leaves(scene))
    assert all(decided[e.event_id, party] == 1 for e in load for party in (story.PORTAL, story.SHOP, story.SIS)), (
        "one leaf for each decision"
    )


async def _send_in_rounds(scene: Stage, load: list[Event]) -> list:  # type: ignore[type-arg]
    sent = []
    size = len(load) // ROUNDS
    for start in range(0, len(load), size):
        sent += await send(scene, story.PUBLISHER, load[start : start + size])
    return sent


async def _first_outcomes(scene: Stage) -> None:
    async with StatusConsumer(scene.profile(story.PUBLISHER), group="first") as statuses:
        async for _ in statuses:
            return


def _in_order(load: list[Event], got: list[Event]) -> None:
    by_pupil: dict[str | None, list[int]] = {}
    for event in got:
        by_pupil.setdefault(event.subject.eck_id, []).append(event.body.revision)
    assert len(by_pupil) == len({e.subject.eck_id for e in load})
    for revisions in by_pupil.values():
        assert revisions == sorted(revisions), "each pupil's events in the order they were sent"
