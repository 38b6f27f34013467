"""What services tell Prometheus of themselves: their version, how much room is left, how long certificates last."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

from cryptography import x509
from prometheus_client import CollectorRegistry, Gauge

from broker import __version__

PYTHON: Final = ".".join(map(str, sys.version_info[:3]))


def new_registry() -> CollectorRegistry:
    """A registry of one service, which tells its version already."""
    registry = CollectorRegistry()
    build = Gauge(
        "broker_build_info", "Always 1; of which version of the broker and of Python.", ("version", "python"),
        registry=registry,
    )  # fmt: skip
    build.labels(__version__, PYTHON).set(1)
    return registry


def watch_disk(registry: CollectorRegistry, folder: Path | None) -> None:
    """Tell at each scrape how many bytes are free where a service writes.

    Args:
        folder: must be there when it is scraped; None: only the name, for the reference.
    """
    free = Gauge("broker_disk_free_bytes", "Free where the service writes: its state, or the logs.", registry=registry)
    if folder is not None:
        free.set_function(lambda: _free(folder))


class Certificates:
    """Tells at each scrape when certificates end: the file may have been renewed meanwhile."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ends = Gauge(
            "broker_certificate_end_timestamp_seconds",
            "When a certificate ends: kafka-ca, or the service's own; of several in a file the first to end.",
            ("certificate",), registry=registry,
        )  # fmt: skip

    def watch(self, name: str, file: Path | None) -> None:
        """Tell it of a PEM file too; None, as where the operating system's trust store is used: nothing is told."""
        if file is not None:
            self._ends.labels(name).set_function(lambda: _end_of(file))


def _end_of(file: Path) -> float:
    """NaN where it can not be told."""
    try:
        return min(each.not_valid_after_utc.timestamp() for each in x509.load_pem_x509_certificates(file.read_bytes()))
    except (OSError, ValueError):
        return float("nan")


def _free(folder: Path) -> float:
    """NaN where it can not be told: a scrape must not fail by it."""
    try:
        return float(shutil.disk_usage(folder).free)
    except OSError:
        return float("nan")
