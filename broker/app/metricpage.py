"""All metrics of all services, read off their own registries: `docs/reference/metrics.md`, and what alerts may name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from broker.app.ldv_export import ExportMetrics
from broker.app.metrics import Metrics
from broker.app.scrape import watch_disk
from broker.auditlog.anchoring import AnchorMetrics
from broker.auditlog.counting import KeeperMetrics
from broker.auditlog.indexing import IndexMetrics
from broker.auditlog.reconciling import ReconcileMetrics
from broker.auditlog.service import LogMetrics
from broker.auditlog.witnessing import WitnessingMetrics
from broker.auditserve.server import ServiceMetrics
from broker.witness.server import WitnessMetrics


@dataclass(frozen=True, slots=True, order=True)
class Described:
    """One metric.

    Args:
        name: as it is scraped; of a counter with `_total`. kind: counter, gauge or histogram.
        labels: sorted; without `le`. sentence: what it says.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    sentence: str

    @property
    def series(self) -> tuple[str, ...]:
        """The names that a query can ask for."""
        if self.kind == "histogram":
            return tuple(f"{self.name}{ending}" for ending in ("_bucket", "_count", "_sum"))
        if self.kind == "counter":
            return (self.name, f"{self.name.removesuffix('_total')}_created")
        return (self.name,)


def _worker() -> CollectorRegistry:
    registry = Metrics().registry
    watch_disk(registry, None)
    return registry


def _log_builder() -> CollectorRegistry:
    registry = LogMetrics().registry
    watch_disk(registry, None)
    WitnessingMetrics(registry)
    return registry


SERVICES: Final[Mapping[str, Callable[[], CollectorRegistry]]] = MappingProxyType({
    "broker worker": _worker,
    "broker auditlog run": _log_builder,
    "broker auditlog watch": lambda: ReconcileMetrics().registry,
    "broker auditlog index": lambda: IndexMetrics().registry,
    "broker auditlog counts": lambda: KeeperMetrics().registry,
    "broker auditlog anchor": lambda: AnchorMetrics().registry,
    "broker audit serve": lambda: ServiceMetrics().registry,
    "broker ldv export": lambda: ExportMetrics().registry,
    "broker witness serve": lambda: WitnessMetrics().registry,
})  # fmt: skip


def described(registry: CollectorRegistry) -> Iterator[Described]:
    """The metrics of a registry, those without a value yet too."""
    for collector in registry._collector_to_names:  # the public way shows no labels where nothing was counted yet
        yield from _of(collector)


def _of(collector: Collector) -> Iterator[Described]:
    declared: tuple[str, ...] | None = getattr(collector, "_labelnames", None)
    for family in collector.collect():
        labels = declared if declared is not None else tuple(getattr(family, "_labelnames", ()))
        yield Described(_name(family), family.type, tuple(sorted(labels)), family.documentation)


def _name(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


def everything() -> dict[str, tuple[Described, ...]]:
    """By the command that serves them; each in order of its name."""
    return {command: tuple(sorted(described(make()))) for command, make in SERVICES.items()}


def reference() -> str:
    """The tables as a page."""
    lines = [
        "# Metrics",
        "",
        "Every service that runs for long serves `/metrics` in the Prometheus text format, beside `/livez` and",
        "`/readyz`, on the address of `--http` (loopback by default). Units are seconds, bytes and records;",
        "counters end in `_total`, and beside each stands when it began (`_created`). Labels are outcomes, codes,",
        "names of logs, topics, partitions, types of errors and names of attributes as the schemas have them:",
        "their number is bounded by the registry and the schemas, and none comes out of a record. A topic's name",
        "holds a party's id.",
        "",
        "`sum by (topic)` over a metric with `topic` and `partition` gives it per party. The dashboard and the",
        "alert rules in `helm/eck-broker/files/` use what stands here; each alert has [a",
        "page](../runbooks/README.md). This page is generated from the services' own registries by `make docs`.",
    ]
    for command, metrics in everything().items():
        lines += ["", f"## `{command}`", "", "| metric | type | labels | what it says |", "|---|---|---|---|"]
        lines += [
            f"| `{m.name}` | {m.kind} | {', '.join(f'`{label}`' for label in m.labels)} | {m.sentence} |"
            for m in metrics
        ]
    return "\n".join(lines) + "\n"
