"""What every service tells Prometheus of itself: which version it is, and how much room its folder has left."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

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


def _free(folder: Path) -> float:
    """NaN where it can not be told: a scrape must not fail by it."""
    try:
        return float(shutil.disk_usage(folder).free)
    except OSError:
        return float("nan")
