"""What the machine must have before a broker is started: a clear message beats a Java stack trace."""

from __future__ import annotations

import random
import shutil
import socket
from pathlib import Path
from typing import Final

from broker.errors import ConfigError

# Below the range from which systems hand out ports to clients: a remembered port stays free.
PORT_RANGE: Final = range(20_000, 32_000)
DATA_DISK_BYTES: Final = 500_000_000
JVM_BESIDE_HEAP_BYTES: Final = 150_000_000


def require_resources(home: Path, brokers: int, heap_mb: int) -> None:
    """Checks disk and memory for brokers that are to be started.

    Raises:
        ConfigError: there is too little of one.
    """
    free_disk = shutil.disk_usage(home).free
    if free_disk < DATA_DISK_BYTES:
        raise ConfigError(
            f"The embedded Kafka needs {DATA_DISK_BYTES // 1_000_000} MB of disk in {home} and "
            f"{free_disk // 1_000_000} MB are free. Make room, or use a home folder on another disk.",
            code="kafka.disk",
        )
    needed = brokers * (heap_mb * 1_000_000 + JVM_BESIDE_HEAP_BYTES)
    free_memory = available_memory_bytes()
    if free_memory is not None and free_memory < needed:
        raise ConfigError(
            f"{brokers} broker(s) need {needed // 1_000_000} MB of memory and "
            f"{free_memory // 1_000_000} MB are available. Close other programs, or start fewer brokers.",
            code="kafka.memory",
        )


def available_memory_bytes() -> int | None:
    """Memory that a new process could get, by the kernel's own estimate; `None` where it tells none."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def free_ports(count: int) -> int:
    """Returns the first of `count` free ports in a row.

    Raises:
        ConfigError: none were found.
    """
    for _ in range(100):
        first = random.choice(PORT_RANGE[:-count])  # noqa: S311 - spreads test runs, protects nothing
        if all(port_is_free(port) for port in range(first, first + count)):
            return first
    raise ConfigError(
        f"No {count} free ports in a row were found between {PORT_RANGE[0]} and {PORT_RANGE[-1]}. Give base_port.",
        code="kafka.port",
    )


def port_is_free(port: int) -> bool:
    """Whether we could listen on the port of 127.0.0.1."""
    with socket.socket() as probe:
        # As Java does: what is left of connections that have ended does not count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
