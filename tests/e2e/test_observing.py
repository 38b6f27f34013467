"""What people see of an installation: `broker status`, a worker's metrics, the trace of an event; on a real Kafka."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import GroupAuthorizationFailedError
from click.testing import Result
from typer.testing import CliRunner

from broker.app.metricpage import everything
from broker.cli import build
from broker.client import Consumer, Event, Identity, Producer, Subject, pupil
from broker.client.producer import Sealed
from broker.crypto import DataKeyMaker
from broker.demo import auditlog, story
from broker.demo.stage import Stage
from broker.status import Watch, findings
from tests.e2e.watch import leaves, outcomes, raw, scraped, send

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

NUMBER = "182071649"  # published test number of a BSN
SIS, SCHOOL = story.SIS, story.PO_SCHOOL


def enrolment(number: int, las_key: str) -> Event:
    """Of a new pupil."""
    subject = Subject("PUPIL", f"https://ketenid.nl/pilot/{number:0128x}", (("LAS_KEY", las_key),))
    return Event(kind="ENROL", school=SCHOOL, sector="PO", subject=subject, body=Identity())


@pytest.fixture(scope="module")
def busy(scene: Stage) -> Iterator[Stage]:
    """With a log builder, and events of which one was set aside."""
    auditlog.start(scene)

    async def work() -> None:
        sent = await send(scene, SIS, [enrolment(1, "L1"), enrolment(2, "L2"), enrolment(3, NUMBER)])
        await outcomes(scene, SIS, sent)

    asyncio.run(work())
    auditlog.until_signed(scene.home, 3, 1)
    return scene


def status(scene: Stage, user: str, *options: str) -> Result:
    """The command, with this login."""
    environment = {"BROKER_CONNECTION": str(scene.home / "connections" / f"{user}.json")}
    return CliRunner().invoke(build("status", "policy"), ["status", *options], env=environment)


def told(result: Result) -> dict[str, Any]:
    """What `--json` wrote."""
    assert result.stdout, result.exception
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_operator_sees_workers_lag_quarantine_logs_and_registry(busy: Stage) -> None:
    """With no more rights than his own; an incident needs a person, so the command ends with 1."""
    result = status(busy, "operator", "--json")
    found = told(result)
    cluster = found["cluster"]
    assert (cluster["brokers"], cluster["expected"], cluster["leaderless"], cluster["behind"]) == (1, 1, [], 0)
    assert cluster["group"]["state"] == "STABLE"
    assert sum(cluster["group"]["lanes"].values()) == sum(flow["partitions"] for flow in cluster["flows"].values()) > 0
    assert set(cluster["flows"]) == set(busy.registry.parties)
    assert {flow["overdue"] for flow in cluster["flows"].values()} == {0}
    assert found["quarantined"] == {SIS: {"pgn.bsn": 1}}
    assert found["told"] == {"incidents": {"pgn.bsn": 1}, "lost": {}}
    assert found["registry"]["version"] == busy.registry.version
    assert found["registry"]["parties"] == len(busy.registry.parties)
    logs = found["logs"]
    assert f"{auditlog.NAME}/control/1" in logs
    assert len(logs) == 5  # one for each partition of the audit; of one that got nothing yet the partition itself
    assert {log["leaves"] for name, log in logs.items() if name.startswith("audit.events/")} <= {0}
    assert sum(log["leaves"] for log in logs.values()) >= 4
    assert found["hidden"] == ["parked"]
    assert [finding["alert"] for finding in found["findings"]] == ["IncidentSeen"]
    assert not found["well"]
    assert result.exit_code == 1


async def test_the_operator_sees_the_workers_group_and_can_not_join_it(busy: Stage) -> None:
    """To describe is not to read: he takes no lane away and moves no position."""
    consumer = AIOKafkaConsumer("registry", **busy.connections["operator"].aiokafka(), group_id="exchange")
    try:
        with pytest.raises(GroupAuthorizationFailedError):
            await consumer.start()
    finally:
        await consumer.stop()


def test_an_auditor_sees_the_logs_and_is_told_what_he_does_not_see(busy: Stage) -> None:
    """Nothing is found about what is hidden, and nothing of a party's queue is shown."""
    found = told(status(busy, "auditor", "--json"))
    assert found["hidden"] == ["flows", "group", "parked", "quarantined", "registry"]
    assert found["logs"]
    assert found["told"]["incidents"] == {"pgn.bsn": 1}


def test_status_in_words_names_the_alert_first(busy: Stage) -> None:
    """On a pipe: lines with tabs, findings at the top; no value of a person."""
    text = status(busy, "operator").stdout
    first, second = text.splitlines()[:2]
    assert "1 need a person: see docs/runbooks" in first
    assert second == "warning\tIncidentSeen\tAn incident was written to the audit. in 24 hours: pgn.bsn (1)"
    assert f"{SIS}\t" in text
    assert re.search(r"^\d+ with nothing\t", text, flags=re.MULTILINE)
    assert "Not shown to this login: parked." in text
    assert NUMBER not in text


async def test_a_second_look_has_what_came_since_and_counts_nothing_twice(busy: Stage) -> None:
    """While watching. A login that may read `parked` sees how many wait for an enrolment."""
    early, party = story.early_bird(story.today()), story.PUBLISHER
    async with Watch(busy.kafka.admin_connection(), "exchange") as eyes:
        before = await eyes.look()
        assert before.parked == {}
        assert before.hidden == ()
        sent = await send(busy, SIS, [enrolment(5, NUMBER)])
        await outcomes(busy, SIS, sent)
        waiting = await send(busy, party, [early])
        await outcomes(busy, party, waiting)
        after = await eyes.look()
    assert after.parked == {party: 1}
    assert (before.quarantined, after.quarantined) == ({SIS: {"pgn.bsn": 1}}, {SIS: {"pgn.bsn": 2}})
    assert before.registry == after.registry
    assert before.logs is not None
    assert after.logs is not None
    assert sum(log.leaves for log in after.logs.values()) >= sum(log.leaves for log in before.logs.values())


async def test_a_kafka_that_does_not_answer_is_a_finding(busy: Stage) -> None:
    """Not an error: who watches goes on watching."""
    gone = replace(busy.connections["operator"], bootstrap="127.0.0.1:1")
    async with Watch(gone, "exchange") as eyes:
        found = await eyes.look()
    assert [each.alert for each in findings(found)] == ["KafkaAway"]
    assert found.cluster is None


# ---- metrics


def test_a_worker_serves_what_the_page_of_metrics_says(busy: Stage) -> None:
    """The very names, types, labels and sentences; after events of all kinds."""
    page, found = {metric.name: metric for metric in everything()["broker worker"]}, scraped(busy)
    assert {name: (f.type, f.documentation) for name, f in found.items()} == {
        name: (metric.kind, metric.sentence) for name, metric in page.items()
    }
    for name, family in found.items():
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(page[name].labels), sample
    assert found["broker_worker_ready"].samples[0].value == 1


async def test_what_was_withheld_is_counted_as_the_audit_has_it(busy: Stage) -> None:
    """By the names in the leaves of deliveries; and each record that was committed has its latency."""
    sent = await send(busy, story.PUBLISHER, [known("L1"), known("L2")])
    results = await outcomes(busy, story.PUBLISHER, sent)
    assert any(result.outcome == "DELIVERED" for status in results.values() for result in status[0].results)
    withheld = Counter(name for leaf in await leaves(busy) for name in leaf["x"].get("dropped", ()))
    found = scraped(busy)
    counted = {
        s.labels["attribute"]: s.value
        for s in found["broker_dropped_attributes_total"].samples
        if s.name.endswith("_total")
    }
    assert counted == withheld
    assert counted
    (records,) = (s.value for s in found["broker_records_total"].samples if s.name.endswith("_total"))
    (timed,) = (s.value for s in found["broker_end_to_end_seconds"].samples if s.name.endswith("_count"))
    assert timed == records


# ---- traces

GOOD = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
FORM = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-01")


class Odd(Producer):
    """A client of somebody else's making, which sets what headers it likes."""

    headers: tuple[tuple[str, bytes], ...] = ()

    def seal(self, event: Event, maker: DataKeyMaker) -> Sealed:
        """As ours, with more headers."""
        key, value, headers = super().seal(event, maker)
        return key, value, [*headers, *self.headers]


async def test_a_trace_goes_from_the_sender_to_each_receiver_and_into_the_audit(busy: Stage) -> None:
    """The trace id stays; each delivery has a span of its own, whose parent is the sender's; the leaf has all three."""
    event = known("L1")
    async with Producer(busy.profile(story.PUBLISHER)) as producer:
        sent = await producer.send(event, traceparent=GOOD)
    trace, span = await arrived(busy, event.event_id)
    assert trace == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert span != "00f067aa0ba902b7"
    mine = [leaf["ldv"] for leaf in await leaves(busy) if leaf["x"].get("event") == sent.event_id]
    assert [(line["trace_id"], line["parent_span_id"]) for line in mine] == [(trace, "00f067aa0ba902b7")] * len(mine)
    assert span in {line["span_id"] for line in mine}


@pytest.mark.parametrize(
    "header",
    [
        b"00-4bf9\nSet-Cookie: x",
        b"<script>",
        GOOD.upper().encode(),
        b"00-" + NUMBER.encode().rjust(32, b"0") + GOOD[35:].encode(),
    ],
    ids=["newline", "markup", "upper", "number"],
)
async def test_what_is_no_trace_is_replaced_and_not_passed_on(busy: Stage, header: bytes) -> None:
    """The event goes on under a trace that the broker makes; neither it nor the sender's `tracestate` gets out."""
    event = known("L2")
    async with Odd(busy.profile(story.PUBLISHER)) as producer:
        producer.headers = (("traceparent", header), ("tracestate", b"vendor=Emma"))
        await producer.send(event)
    trace, _ = await arrived(busy, event.event_id)
    assert NUMBER not in trace
    records = [r async for r in raw(busy.kafka.admin_connection(), lambda t: t.startswith(f"out.{story.PORTAL}."))]
    headers = [name for record in records for name, _ in record.headers]
    assert "tracestate" not in headers
    assert not [value for record in records for _, value in record.headers if header in value]


def known(las_key: str) -> Event:
    """Usage of a pupil who is enrolled."""
    return replace(story.early_bird(story.today()), event_id=story.new_id(), subject=pupil(las_key=las_key))


async def arrived(scene: Stage, event_id: str) -> tuple[str, str]:
    """Trace and span of the delivery of an event to the portal, as its client shows them."""
    async with asyncio.timeout(60), Consumer(scene.profile(story.PORTAL), "usage", group=f"trace-{event_id}") as portal:
        async for one in portal:
            if one.event.event_id == event_id:
                found = FORM.fullmatch(one.traceparent or "")
                assert found is not None
                return (found[1], found[2])
    raise AssertionError("it did not come")


# ---- at the end: without a log builder, and without workers


async def test_late_evidence_is_what_waits_and_not_the_ends_of_transactions(
    busy: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that comes and goes leaves ends of transactions behind the last leaf: nothing waits. A decision does."""
    for module in ("look", "judge"):
        monkeypatch.setattr(f"broker.status.{module}.EVIDENCE_S", 1.0)
    auditor = busy.connections["auditor"]

    async def until(late: bool, unsigned: bool) -> list[str]:
        async with asyncio.timeout(60), Watch(auditor, "exchange") as eyes:
            while True:
                seen = await eyes.look()
                assert seen.logs is not None
                found = [each.detail for each in findings(seen) if each.alert == "EvidenceLate"]
                if bool(found) == late and any(log.overdue for log in seen.logs.values()) == unsigned:
                    return found
                await asyncio.sleep(0.2)

    await until(late=False, unsigned=True)
    builder = busy.workers[-1]
    builder.terminate()
    await asyncio.to_thread(builder.wait, 30)
    sent = await send(busy, SIS, [enrolment(7, "L7")])
    await outcomes(busy, SIS, sent)
    assert "records behind" in (await until(late=True, unsigned=True))[0]


async def test_without_workers_that_is_what_comes_first(busy: Stage) -> None:
    """The group is empty once they have left."""
    worker = busy.workers[0]
    worker.terminate()
    await asyncio.to_thread(worker.wait, 30)
    async with asyncio.timeout(60), Watch(busy.connections["operator"], "exchange") as eyes:
        while (found := findings(await eyes.look()))[0].alert != "NoWorkerReady":  # noqa: ASYNC110 - it is on Kafka
            await asyncio.sleep(0.2)
    assert found[0].severity == "critical"
