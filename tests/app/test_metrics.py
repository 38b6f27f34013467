"""Metrics and the endpoint that serves them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import aiohttp
from aiokafka import TopicPartition

from broker.app.health import HealthServer
from broker.app.metrics import Metrics
from broker.engine import BatchReport
from broker.exchange.model import Decision, Outcome

PLACE = TopicPartition("in.sis-noord", 2)


def samples(metrics: Metrics) -> dict[str, float]:
    """Name with labels -> value."""
    lines = [line for line in metrics.text().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_a_batch_is_counted_by_outcome_and_code() -> None:
    """One update per batch; no label holds a receiver, field or rule."""
    metrics = Metrics()
    ok, refused = Decision(Outcome.DELIVERED, "ok", "pub"), Decision(Outcome.REFUSED, "gate.agreement", "pub", "f", "r")
    for _ in range(2):
        metrics.committed(BatchReport("exchange.in.a.0", 3, [ok, ok, refused], 0.002, 0.02))
    found = samples(metrics)
    assert found['broker_decisions_total{code="ok",outcome="DELIVERED"}'] == 4
    assert found['broker_decisions_total{code="gate.agreement",outcome="REFUSED"}'] == 2
    assert found["broker_records_total"] == 6
    assert found["broker_batch_seconds_count"] == 2
    assert found['broker_transaction_seconds_bucket{le="0.025"}'] == 2


def test_what_a_receiver_did_not_get_is_counted_by_name() -> None:
    """Each attribute once for each delivery; what was refused withheld nothing by minimising."""
    metrics = Metrics()
    some, more = ("birthDate", "eMail"), ("eMail",)
    decisions = [Decision(Outcome.DELIVERED, "ok", "pub", dropped=names) for names in (some, some, more, ())]
    metrics.committed(BatchReport("exchange.in.a.0", 4, decisions, 0.002, 0.02))
    metrics.committed(BatchReport("exchange.in.a.0", 1, decisions[:1], 0.002, 0.02))
    found = samples(metrics)
    assert found['broker_dropped_attributes_total{attribute="birthDate"}'] == 3
    assert found['broker_dropped_attributes_total{attribute="eMail"}'] == 4


def test_latency_is_from_kafkas_time_of_a_record_to_the_commit() -> None:
    """Each record counts, in its bucket and in all wider ones; a clock of Kafka's that is ahead gives 0."""
    metrics = Metrics(clock=lambda: 1_796_030_000.0)
    at = 1_796_030_000_000
    metrics.committed(BatchReport("exchange.in.a.0", 3, [], 0.002, 0.02, (at - 20, at - 5_000, at + 300)))
    metrics.committed(BatchReport("exchange.in.a.0", 1, [], 0.002, 0.02, (at - 7_200_000,)))
    found = samples(metrics)
    wanted = {"0.01": 1, "0.025": 2, "2.5": 2, "5.0": 3, "3600.0": 3, "+Inf": 4}
    assert {bound: found[f'broker_end_to_end_seconds_bucket{{le="{bound}"}}'] for bound in wanted} == wanted
    assert found["broker_end_to_end_seconds_count"] == 4
    assert found["broker_end_to_end_seconds_sum"] == 7205.02


def test_what_goes_wrong_is_counted() -> None:
    """Failures by type, take-overs, recomputed batches, lost and rescued records, incidents; when idle partitions had a record."""
    metrics = Metrics()
    metrics.failed("lane", "ProducerFenced")
    metrics.took_over("lane", 0.3)
    metrics.recomputed("lane")
    metrics.lost("lane", 7)
    metrics.rescued("lane")
    metrics.incident()
    metrics.rolled(1_796_030_000.0)
    found = samples(metrics)
    assert found["broker_rolled_timestamp_seconds"] == 1_796_030_000.0
    assert found['broker_lane_failures_total{kind="ProducerFenced"}'] == 1
    assert found["broker_takeover_seconds_count"] == 1
    assert found["broker_recomputed_batches_total"] == 1
    assert found["broker_lost_records_total"] == 7
    assert found["broker_rescued_records_total"] == 1
    assert found["broker_incidents_seen_total"] == 1


def test_the_state_of_the_lanes_is_read_at_each_scrape() -> None:
    """Lag, ages of views, lanes that stand still, events that are parked or set aside."""
    metrics = Metrics()
    lane = SimpleNamespace(positioned=False, failures=4, waiting=(3, 6))
    views = SimpleNamespace(
        registry=SimpleNamespace(topic="registry", age_s=0.2, invalid="registry.record"),
        vault=SimpleNamespace(topic="vault.identity", age_s=1.5),
    )
    plane: Any = SimpleNamespace(views=views, lanes={PLACE: lane}, lag=lambda: {PLACE: 12})
    metrics.watch(plane, lambda: lane.positioned)
    found = samples(metrics)
    assert found["broker_worker_ready"] == 0
    where = '{partition="2",topic="in.sis-noord"}'
    assert found[f"broker_lag_records{where}"] == 12
    assert found[f"broker_lane_failures_in_row{where}"] == 4
    assert found[f"broker_parked_events{where}"] == 3
    assert found[f"broker_quarantined_events{where}"] == 6
    assert found['broker_view_age_seconds{view="vault.identity"}'] == 1.5
    assert found['broker_lanes{state="standing"}'] == 1
    assert found['broker_lanes{state="reading"}'] == 0
    assert found["broker_registry_invalid"] == 1
    lane.positioned = True
    found = samples(metrics)
    assert found['broker_lanes{state="reading"}'] == 1
    assert found["broker_worker_ready"] == 1


async def test_probes_answer_by_status() -> None:
    """200 or 503; /metrics has the text; everything else is 404."""
    state = {"alive": True, "ready": False}
    server = HealthServer(lambda: state["alive"], lambda: state["ready"], lambda: b"a 1\n")
    await server.start("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:

            async def ask(path: str) -> tuple[int, str]:
                async with session.get(path) as answer:
                    return answer.status, await answer.text()

            assert await ask("/livez") == await ask("/healthz") == (200, "ok\n")
            assert await ask("/readyz") == (503, "not ok\n")
            state.update(alive=False, ready=True)
            assert await ask("/livez") == await ask("/healthz") == (503, "not ok\n")
            assert await ask("/readyz") == (200, "ok\n")
            assert await ask("/metrics") == (200, "a 1\n")
            assert (await ask("/"))[0] == 404
            async with session.post("/metrics") as answer:
                assert answer.status == 405
    finally:
        await server.stop()
