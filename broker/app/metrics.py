"""Prometheus metrics: one update per batch, on cached children; no label ever comes from a record.

Labels are outcomes, codes, topics, partitions and types of errors. A topic's name holds a party's id, never a person.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from broker.engine import BatchReport, DataPlane, Observer

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics(Observer):
    """Everything that is counted, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._decisions = Counter(
            "broker_decisions_total", "Decisions, by outcome and code.", ("outcome", "code"), registry=self.registry
        )
        self._children: dict[tuple[str, str], Counter] = {}
        self._records = Counter("broker_records_total", "Input records committed.", registry=self.registry)
        self._batches = Histogram(
            "broker_batch_seconds", "Seconds to decide over a batch.", buckets=SECONDS, registry=self.registry
        )
        self._transactions = Histogram(
            "broker_transaction_seconds",
            "Seconds to write and commit a batch.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._takeovers = Histogram(
            "broker_takeover_seconds", "Seconds to take a lane over.", buckets=SECONDS, registry=self.registry
        )
        self._failures = Counter(
            "broker_lane_failures_total", "Times that a lane began again, by type of error.", ("kind",),
            registry=self.registry,
        )  # fmt: skip
        self._recomputed = Counter(
            "broker_recomputed_batches_total", "Batches decided again since the registry changed before their commit.",
            registry=self.registry,
        )  # fmt: skip
        self._lost = Counter("broker_lost_records_total", "Input deleted before it was read.", registry=self.registry)
        self._rescued = Counter(
            "broker_rescued_records_total", "Records that the client library could not parse.", registry=self.registry
        )
        self._incidents = Counter(
            "broker_incidents_seen_total",
            "Incidents seen on audit.control; live, may miss some.",
            registry=self.registry,
        )
        self._rolled = Gauge(
            "broker_rolled_timestamp_seconds",
            "When each partition of vault.identity and parked last got the record that lets Kafka compact; 0: not yet.",
            registry=self.registry,
        )

    def watch(self, plane: DataPlane) -> None:
        """Read the state of a data plane at every scrape."""
        self.registry.register(_PlaneCollector(plane))

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)

    def incident(self) -> None:
        """An incident passed on the control log."""
        self._incidents.inc()

    def rolled(self, now_s: float) -> None:
        """All partitions that must be compacted in time have a new record; seconds since 1970."""
        self._rolled.set(now_s)

    def committed(self, report: BatchReport) -> None:
        """See Observer."""
        self._records.inc(report.records)
        self._batches.observe(report.process_s)
        self._transactions.observe(report.transaction_s)
        for key, count in Tally((d.outcome.value, d.code) for d in report.decisions).items():
            child = self._children.get(key)
            if child is None:
                child = self._children[key] = self._decisions.labels(*key)
            child.inc(count)

    def took_over(self, lane: str, seconds: float) -> None:  # noqa: ARG002
        """See Observer."""
        self._takeovers.observe(seconds)

    def failed(self, lane: str, kind: str) -> None:  # noqa: ARG002
        """See Observer."""
        self._failures.labels(kind).inc()

    def recomputed(self, lane: str) -> None:  # noqa: ARG002
        """See Observer."""
        self._recomputed.inc()

    def lost(self, lane: str, records: int) -> None:  # noqa: ARG002
        """See Observer."""
        self._lost.inc(records)

    def rescued(self, lane: str) -> None:  # noqa: ARG002
        """See Observer."""
        self._rescued.inc()


class _PlaneCollector(Collector):
    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def collect(self) -> Iterator[Metric]:
        plane, by_partition = self._plane, ("topic", "partition")
        ages = GaugeMetricFamily("broker_view_age_seconds", "Since a view was proven current.", labels=("view",))
        for view in (plane.views.registry, plane.views.vault):
            ages.add_metric((view.topic,), view.age_s)
        yield ages
        invalid = plane.views.registry.invalid is not None
        yield GaugeMetricFamily("broker_registry_invalid", "The newest registry cannot be used.", value=invalid)
        lanes = GaugeMetricFamily("broker_lanes", "Lanes, by whether they read.", labels=("state",))
        reading = sum(lane.positioned for lane in plane.lanes.values())
        lanes.add_metric(("reading",), reading)
        lanes.add_metric(("standing",), len(plane.lanes) - reading)
        yield lanes
        lag = GaugeMetricFamily("broker_lag_records", "Input records that wait.", labels=by_partition)
        for partition, records in plane.lag().items():
            lag.add_metric((partition.topic, str(partition.partition)), records)
        yield lag
        row = GaugeMetricFamily("broker_lane_failures_in_row", "How often a lane failed in a row.", labels=by_partition)
        parked = GaugeMetricFamily("broker_parked_events", "Events that wait for an identity.", labels=by_partition)
        for partition, lane in plane.lanes.items():
            labels = (partition.topic, str(partition.partition))
            row.add_metric(labels, lane.failures)
            parked.add_metric(labels, lane.parked)
        yield row
        yield parked
