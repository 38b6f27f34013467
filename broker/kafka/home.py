"""The home folder of the embedded Kafka: what it remembers between starts, its secrets and its processes' numbers."""

from __future__ import annotations

import fcntl
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from broker.errors import ConfigError
from broker.kafka import process
from broker.kafka.configuration import LOG4J, Layout, server_properties
from broker.kafka.pki import DevelopmentCA, write_private


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is fixed once a home is made, or must be the same at the next start.

    Args:
        version: of Kafka that ran last; None in a home that was made before this was noted.
    """

    brokers: int
    base_port: int
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """What runs in a home folder.

    Args:
        state: `running`, `partly` (some brokers are gone) or `stopped`.
        version: of Kafka, that runs or would be started.
        pids: process id by node.
    """

    state: str
    home: Path
    brokers: int
    version: str
    bootstrap: str | None
    ports: tuple[int, ...]
    pids: Mapping[int, int]
    connection_file: Path | None


@dataclass(frozen=True, slots=True)
class Home:
    """The files of one embedded Kafka that are not one broker's (those are in `Layout`)."""

    folder: Path

    @property
    def pki(self) -> DevelopmentCA:
        """The certificates."""
        return DevelopmentCA(self.folder / "pki")

    @property
    def document(self) -> Path:
        """What is remembered."""
        return self.folder / "kafka.json"

    @property
    def admin_secret(self) -> Path:
        """The super user's password."""
        return self.folder / "admin.secret"

    @property
    def cluster_id(self) -> Path:
        """The cluster's id, which the format tool wants."""
        return self.folder / "cluster.id"

    def remembered(self) -> Remembered | None:
        """What the last start noted; None before the first.

        Raises:
            ConfigError: it can not be read.
        """
        try:
            document = json.loads(self.document.read_text())
            return Remembered(int(document["brokers"]), int(document["base_port"]), document.get("version"))
        except OSError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{self.document} is damaged. Remove it: ports are then chosen anew.", code="kafka.home"
            ) from error

    def remember(self, what: Remembered) -> None:
        """Notes it for the next start."""
        document = {"brokers": what.brokers, "base_port": what.base_port, "version": what.version}
        self.document.write_text(json.dumps(document) + "\n")

    def prepare(self, layout: Layout, reauth_ms: int, extra: Mapping[str, str]) -> None:
        """Makes keys, secrets and settings; what is there and good stays."""
        self.pki.prepare()
        (self.folder / "log4j2.xml").write_text(LOG4J, encoding="utf-8")
        if not self.admin_secret.exists():
            write_private(self.admin_secret, secrets.token_urlsafe(24).encode())
        if not self.cluster_id.exists():
            # 16 bytes in base64; a leading hyphen breaks the format tool.
            self.cluster_id.write_text("E" + secrets.token_urlsafe(16)[1:21] + "A")
        for node in layout.nodes:
            self.pki.issue_broker(node)
            text = server_properties(layout, node, self.pki.folder, extra, reauth_ms)
            layout.properties_file(node).write_text(text, encoding="utf-8")

    def pid_file(self, node: int) -> Path:
        """The process number of a broker."""
        return self.folder / f"broker-{node}.pid"

    def pids(self, brokers: int) -> dict[int, int]:
        """Process number by broker, of those that live."""
        found = {node: process.recorded(self.pid_file(node)) for node in range(1, brokers + 1)}
        return {node: pid for node, pid in found.items() if pid is not None}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lets one process (and one thread) start or prepare this home at a time."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.folder / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
