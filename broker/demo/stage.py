"""Where the demo plays: an embedded Kafka with everything set up, and one worker process."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aiokafka.errors import KafkaError

from broker.app.cluster import wanted_of
from broker.app.provision import add_broker_keys, add_login, add_profile, publish_all
from broker.client import Profile
from broker.data import data_path
from broker.demo.thisyear import of_this_year
from broker.errors import BrokerError
from broker.kafka import access
from broker.kafka.admin import Admin
from broker.kafka.connection import KafkaConnection
from broker.kafka.embedded import EmbeddedKafka
from broker.kafka.machine import free_ports
from broker.keys import FileKeys
from broker.registry import Registry, load_document, records_of, with_keys
from broker.registry.models import RegistryDocument
from broker.registry.store import apply

WORKER_START_SECONDS: Final = 60.0
RIGHTS_SECONDS: Final = 30.0


@dataclass
class Stage:
    """An installation on this machine.

    Attributes:
        home: its folder: Kafka's data, connections, keys, profiles, worker state and logs.
        ports: of the health and metrics endpoints of the workers, on the loopback interface.
    """

    home: Path
    kafka: EmbeddedKafka
    registry: Registry
    connections: dict[str, KafkaConnection]
    keys: FileKeys
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)

    def profile(self, party: str) -> Profile:
        """A party's profile."""
        return Profile.load(self.home / "profiles" / party)

    def start_worker(
        self, number: int = 1, module: str = "broker", patience_s: float = WORKER_START_SECONDS
    ) -> subprocess.Popen[bytes]:
        """Start an exchange worker as a process of its own, and wait until it serves.

        Args:
            module: whose command line it is.

        Raises:
            BrokerError: `demo.process`, with the place of its log.
        """
        port, home = free_ports(1), self.home
        worker = self.start_process(f"worker-{number}", port, [
            "worker", "--connection", home / "connections" / "exchange.json", "--keys", home / "keys",
            "--state", home / f"state-{number}", "--http", port,
        ], module, patience_s)  # fmt: skip
        self.ports.append(port)
        return worker

    def start_process(
        self,
        name: str,
        port: int,
        arguments: Sequence[object],
        module: str = "broker",
        patience_s: float = WORKER_START_SECONDS,
    ) -> subprocess.Popen[bytes]:
        """Start one of our commands as a process of its own, and wait until it serves.

        Args:
            name: of its log. port: of its probes; on the loopback interface. arguments: of the command line.

        Raises:
            BrokerError: `demo.process`, with the place of its log.
        """
        log = self.home / f"{name}.log"
        command = [sys.executable, "-m", module, *map(str, arguments)]
        with log.open("ab") as out:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)  # noqa: S603 - our own
        self.workers.append(process)
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline and process.poll() is None:
            if _is_ready(port):
                return process
            time.sleep(0.1)
        raise BrokerError(f"{name} did not come up; see {log}", code="demo.process")

    def stop(self) -> None:
        """Stop the workers, then Kafka."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
        for worker in self.workers:
            try:
                worker.wait(30)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        self.kafka.stop()


@contextmanager
def stage(home: Path, *, keep: bool = False, kafka: EmbeddedKafka | None = None) -> Iterator[Stage]:
    """Set the stage; take it down at the end, whatever happened.

    Args:
        keep: leave Kafka and the worker running when all went well.
        kafka: a new one that does not run yet; None: in this home, as it is by default.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    kafka = kafka or EmbeddedKafka(home / "kafka")
    kafka.start(detached=keep)
    scene: Stage | None = None
    went_well = False
    try:
        scene = asyncio.run(set_up(home, kafka, example_document()))
        scene.start_worker()
        yield scene
        went_well = True
    finally:
        if scene is None:
            kafka.stop()
        elif not (keep and went_well):
            scene.stop()


def example_document() -> RegistryDocument:
    """The example registry, as of this school year."""
    return of_this_year(load_document(data_path("examples") / "registry"), datetime.now(UTC))


async def set_up(home: Path, kafka: EmbeddedKafka, document: RegistryDocument) -> Stage:
    """Logins, keys, profiles, topics, rights and registry, on a Kafka that runs; no worker."""
    root = kafka.admin_connection()
    admin = Admin(root)
    connections = {
        user: add_login(admin, root, user, home / "connections" / f"{user}.json")
        for user in (access.OPERATOR, access.WORKER, access.AUDITOR)
    }
    keys = add_broker_keys(home / "keys", home / "operator-keys")
    profiles = {party.id: add_profile(admin, root, party.id, home / "profiles") for party in document.parties}
    document = with_keys(document, {party: [profile.public_key] for party, profile in profiles.items()})
    records = records_of(document)
    registry = Registry.from_records(records)
    wanted = wanted_of(registry, suspended=(), replicas=len(kafka.layout.nodes))
    admin.apply(wanted.topics, wanted.acls, wanted.quotas)
    operator = connections[access.OPERATOR]
    await _once_rights_count(lambda: apply(operator, records, operator="demo", reason="the demo's registry"))
    await _once_rights_count(lambda: publish_all(operator, keys, registry, "demo", "the demo's keys"))
    return Stage(home, kafka, registry, connections, keys)


async def _once_rights_count(step: Callable[[], Awaitable[object]]) -> None:
    """Do something as soon as what was granted has come to all brokers: each of three learns of it by itself."""
    deadline = time.monotonic() + RIGHTS_SECONDS
    while True:
        try:
            await step()
        except (BrokerError, KafkaError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)
        else:
            return


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
