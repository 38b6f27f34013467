"""Prometheus metrics: one update per batch, on cached children; no label ever comes from a record.

Labels are outcomes, codes, topics, partitions, types of errors, and names of attributes as the schemas have them. A
topic's name holds a party's id, never a person. `docs/reference/metrics.md` is made of what stands here.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from broker.app.scrape import Certificates, new_registry
from broker.engine import BatchReport, DataPlane, Observer

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
END_TO_END_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3_600.0)


class Metrics(Observer):
    """Everything that is counted, in a registry of its own.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.registry = new_registry()
        self._decisions = Counter(
            "broker_decisions_total", "Decisions, by outcome and code.", ("outcome", "code"), registry=self.registry
        )
        self._children: dict[tuple[str, str], Counter] = {}
        self._dropped = Counter(
            "broker_dropped_attributes_total", "Times that a receiver did not get an attribute, by its name.",
            ("attribute",), registry=self.registry,
        )  # fmt: skip
        self._dropped_children: dict[str, Counter] = {}
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
        self._latencies = _Latencies()
        self.registry.register(self._latencies)
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

        self._ready = Gauge(
            "broker_worker_ready", "1: it serves, as /readyz says; 0: it loads, or its views are too old.",
            registry=self.registry,
        )  # fmt: skip
        self.certificates = Certificates(self.registry)
        self._plane = _PlaneCollector()
        self.registry.register(self._plane)

    def watch(self, plane: DataPlane, ready: Callable[[], bool] = lambda: True) -> None:
        """Read the state of a data plane at every scrape, and whether it serves."""
        self._plane.plane = plane
        self._ready.set_function(lambda: float(ready()))

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
        now_ms = self._clock() * 1000
        self._latencies.add([max(0.0, now_ms - arrived_ms) / 1000 for arrived_ms in report.arrived_ms])
        for names, count in Tally(d.dropped for d in report.decisions if d.dropped).items():
            for name in names:
                held = self._dropped_children.get(name)
                if held is None:
                    held = self._dropped_children[name] = self._dropped.labels(name)
                held.inc(count)
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


class _Latencies(Collector):
    """A histogram that takes a batch at a time: to observe each record would cost more than to count it.

    Written and read in the event loop only.
    """

    def __init__(self) -> None:
        self._counts, self._sum = [0] * (len(END_TO_END_SECONDS) + 1), 0.0

    def add(self, seconds: Sequence[float]) -> None:
        """Count those of one batch."""
        for each in seconds:
            self._counts[bisect_left(END_TO_END_SECONDS, each)] += 1
        self._sum += sum(seconds)

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        bounds = [*map(str, END_TO_END_SECONDS), "+Inf"]
        yield HistogramMetricFamily(
            "broker_end_to_end_seconds",
            "From Kafka's time of an input record until what was decided over it is committed.",
            buckets=[*zip(bounds, map(float, accumulate(self._counts)), strict=True)],
            sum_value=self._sum,
        )


class _PlaneCollector(Collector):
    """What can be read off a data plane; as long as there is none, the names alone."""

    plane: DataPlane | None = None

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        by_partition = ("topic", "partition")
        ages = GaugeMetricFamily("broker_view_age_seconds", "Since a view was proven current.", labels=("view",))
        broken = GaugeMetricFamily("broker_registry_invalid", "1: the newest registry can not be used.", labels=())
        lanes = GaugeMetricFamily("broker_lanes", "Lanes, by whether they read.", labels=("state",))
        lag = GaugeMetricFamily("broker_lag_records", "Input records that wait.", labels=by_partition)
        row = GaugeMetricFamily("broker_lane_failures_in_row", "How often a lane failed in a row.", labels=by_partition)
        parked = GaugeMetricFamily("broker_parked_events", "Events that wait for an identity.", labels=by_partition)
        aside = GaugeMetricFamily(
            "broker_quarantined_events",
            "Events set aside and not replayed, the newest 4,096 of a lane, dropped ones and those of long ago too.",
            labels=by_partition,
        )
        if (plane := self.plane) is not None:
            for view in (plane.views.registry, plane.views.vault):
                ages.add_metric((view.topic,), view.age_s)
            broken.add_metric((), float(plane.views.registry.invalid is not None))
            reading = sum(lane.positioned for lane in plane.lanes.values())
            lanes.add_metric(("reading",), reading)
            lanes.add_metric(("standing",), len(plane.lanes) - reading)
            for partition, records in plane.lag().items():
                lag.add_metric((partition.topic, str(partition.partition)), records)
            self._of_lanes(plane, row, parked, aside)
        yield from (ages, broken, lanes, lag, row, parked, aside)

    def _of_lanes(
        self, plane: DataPlane, row: GaugeMetricFamily, parked: GaugeMetricFamily, aside: GaugeMetricFamily
    ) -> None:
        for partition, lane in plane.lanes.items():
            labels = (partition.topic, str(partition.partition))
            row.add_metric(labels, lane.failures)
            waits, set_aside = lane.waiting
            parked.add_metric(labels, waits)
            aside.add_metric(labels, set_aside)
