"""The table of all metrics: complete, and in the form that Prometheus asks for."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from broker import __version__
from broker.app.metricpage import SERVICES, described, everything, reference
from broker.app.scrape import PYTHON, Certificates, new_registry, watch_disk

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
# What a label may hold: all of it comes out of the code, the schemas, the registry or the installation.
BOUNDED = {
    "attribute", "certificate", "code", "kind", "log", "origin", "outcome", "partition", "python", "question", "reason", "result", "rule",
    "state", "status", "topic", "version", "view", "witness",
}  # fmt: skip


def test_the_page_is_the_one_that_is_generated() -> None:
    """A metric that is added, renamed or relabelled shows in the page that people read."""
    assert PAGE.read_text(encoding="utf-8") == reference()


@pytest.mark.parametrize("service", SERVICES)
def test_names_follow_the_conventions_of_prometheus(service: str) -> None:
    """Our prefix, base units, `_total` for counters and for nothing else, a sentence for each, only bounded labels."""
    for metric in everything()[service]:
        assert re.fullmatch(r"broker(_[a-z]+)+", metric.name), metric
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric
        assert not re.search(
            r"_(ms|us|ns|millis\w*|minutes|hours|days|kb|mb|gb|kib|mib|percent|count|sum|bucket)(_|$)", metric.name
        )
        assert metric.kind in {"counter", "gauge", "histogram"}
        assert metric.kind != "histogram" or metric.name.endswith(("_seconds", "_bytes", "_records"))
        assert metric.sentence.endswith("."), metric
        assert set(metric.labels) <= BOUNDED, metric


@pytest.mark.parametrize("service", SERVICES)
def test_a_name_means_one_thing_in_all_services(service: str) -> None:
    """Of the same type, with the same labels and the same sentence, or it has another name."""
    others = {metric.name: metric for metrics in everything().values() for metric in metrics}
    assert [metric for metric in everything()[service] if others[metric.name] != metric] == []


def test_a_service_says_which_version_it_is_and_what_room_is_left(tmp_path: Path) -> None:
    """A folder that is not there any more is no number, and does not break the scrape."""
    registry, folder = new_registry(), tmp_path / "state"
    folder.mkdir()
    watch_disk(registry, folder)
    assert registry.get_sample_value("broker_build_info", {"version": __version__, "python": PYTHON}) == 1
    assert (registry.get_sample_value("broker_disk_free_bytes") or 0) > 0
    folder.rmdir()
    gone = registry.get_sample_value("broker_disk_free_bytes")
    assert gone is not None
    assert math.isnan(gone)


def test_a_certificate_tells_when_it_ends_and_a_renewed_one_too(tmp_path: Path) -> None:
    """Of several in a file the first to end; a file that can not be read is no number, and does not break the scrape."""
    registry, file = new_registry(), tmp_path / "ca.pem"
    certificates = Certificates(registry)
    certificates.watch("kafka-ca", file)
    certificates.watch("service", None)

    def end() -> float:
        return registry.get_sample_value("broker_certificate_end_timestamp_seconds", {"certificate": "kafka-ca"}) or 0

    assert math.isnan(end())
    file.write_bytes(certificate(datetime(2027, 1, 2, tzinfo=UTC)) + certificate(datetime(2027, 1, 1, tzinfo=UTC)))
    assert end() == datetime(2027, 1, 1, tzinfo=UTC).timestamp()
    file.write_bytes(certificate(datetime(2028, 1, 1, tzinfo=UTC)))
    assert end() == datetime(2028, 1, 1, tzinfo=UTC).timestamp()
    file.write_text("no certificate", encoding="utf-8")
    assert math.isnan(end())


def certificate(end: datetime) -> bytes:
    """One that ends then, PEM."""
    key, name = Ed25519PrivateKey.generate(), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, datetime(2026, 1, 1, tzinfo=UTC), end)
    return made.sign(key, None).public_bytes(Encoding.PEM)


def test_labels_are_told_before_anything_was_counted() -> None:
    """Of a counter that has no series yet too: what an alert rule may ask for is known from the start."""
    names = {metric.name: metric.labels for metric in described(SERVICES["broker worker"]())}
    assert names["broker_decisions_total"] == ("code", "outcome")
    assert names["broker_lag_records"] == ("partition", "topic")


def test_the_text_of_every_service_is_in_the_exposition_format() -> None:
    """Prometheus' own parser reads it, with the names and types of the table."""

    def kinds(registry: CollectorRegistry) -> dict[str, str]:
        found = text_string_to_metric_families(generate_latest(registry).decode())
        return {
            f.name + ("_total" if f.type == "counter" else ""): f.type for f in found if not f.name.endswith("_created")
        }

    for service, make in SERVICES.items():
        assert kinds(make()) == {metric.name: metric.kind for metric in everything()[service]}
