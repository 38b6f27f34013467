"""The compose file: its structure. What its steps do: test_compose_steps.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from broker.app.compose import BROKERS
from broker.kafka import artifacts
from tests.helm.commands import parsed
from tests.helm.compose import COMPOSE, HOME, SERVICES

AUDIT = ("log-builder", "reconciler", "indexer", "count-keeper", "audit-service")
WORKERS = ("worker-1", "worker-2")
KAFKA = tuple(f"kafka-{node}" for node in range(1, BROKERS + 1))
COMMANDS = {
    "namespace": "compose hold",
    "prepare": "compose prepare",
    "setup": "compose setup",
    "worker-1": "worker",
    "worker-2": "worker",
    "door-inside": "compose door",
    "door": "compose door",
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


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"door"}))
def test_nothing_listens_to_the_outside(name: str) -> None:
    """No port and no network: each container is alone, or inside the one namespace, whose holder is alone."""
    service = SERVICES[name]
    assert service["network_mode"] in ("none", "service:namespace")
    assert not {"ports", "expose", "networks"} & set(service)
    assert SERVICES["namespace"]["network_mode"] == "none"


def test_the_only_way_in_leads_from_this_machine_to_the_dashboard() -> None:
    """One port, on loopback of the host; behind it no secret, and a socket file that leads to Grafana's port."""
    door, inside = SERVICES["door"], SERVICES["door-inside"]
    assert door["ports"] == ["127.0.0.1:3000:3000"]
    assert "environment" not in door
    assert [mount.partition(":")[0] for mount in (*door["volumes"], *inside["volumes"])] == ["door", "door"]
    outer, inner = (parsed(service["command"])[1] for service in (door, inside))
    assert outer["to"] == inner["listen"] == f"unix:{HOME}/door/grafana.sock"
    grafana = SERVICES["grafana"]["environment"]
    assert inner["to"] == f"{grafana['GF_SERVER_HTTP_ADDR']}:{grafana['GF_SERVER_HTTP_PORT']}"


def test_no_secret_is_in_the_file() -> None:
    """The environment holds paths, ports, switches and the name of the logs; passwords are made at the first start."""
    public = {"BROKER_AUDITLOG_NAME", "GF_SERVER_HTTP_ADDR", "GF_LOG_MODE"}
    for service in SERVICES.values():
        environment = service.get("environment", {})
        values = [value for name, value in environment.items() if name not in public]
        assert all(value.startswith(HOME) or value.isdecimal() or value in ("true", "false") for value in values)
    assert "insecure" not in str(SERVICES)


def test_each_container_has_only_its_own_volumes() -> None:
    """No broker sees another's folder or the operator's, the workers neither that nor the profiles; their keys are
    read-only. Only the log builder sees the key that signs, and writes logs; only workers, indexer and audit service see
    the schools' keys; Prometheus, Grafana and the doors see no key and no login of ours."""
    mounts = {name: sorted(service.get("volumes", ())) for name, service in SERVICES.items()}
    logs, registry = f"auditlog:{HOME}/auditlog", "${ECK_REGISTRY:-./examples/registry}:/etc/eck-broker/registry:ro"
    everywhere = ("operator", "worker", "remover", "builder", "auditor", "counter", "auditservice", "profiles")
    expected = {
        "namespace": [],
        "prepare": [f"{name}:{HOME}/{name}" for name in (*KAFKA, "operator", "grafana-admin", "grafana", "prometheus")],
        **{f"format-{name[-1]}": [f"{name}:{HOME}/{name}"] for name in KAFKA},
        **{name: [f"{name}:{HOME}/{name}"] for name in KAFKA},
        "setup": [registry, *(f"{name}:{HOME}/{name}" for name in everywhere)],
        **{name: [f"state-{name[-1]}:{HOME}/state", f"worker:{HOME}/worker:ro"] for name in WORKERS},
        "removal": [f"remover:{HOME}/remover:ro"],
        "log-builder": [logs, f"builder:{HOME}/builder:ro"],
        "reconciler": [f"{logs}:ro", f"reconciler:{HOME}/reconciler"],
        "indexer": [f"{logs}:ro", f"auditor:{HOME}/auditor:ro", f"auditstore:{HOME}/auditstore"],
        "count-keeper": [f"counter:{HOME}/counter:ro"],
        "audit-service": [
            "${ECK_AUDIT_TLS:-./audit-tls}:/etc/eck-broker/audit-tls:ro",
            f"{logs}:ro",
            f"auditservice:{HOME}/auditservice:ro",
            f"auditstore:{HOME}/auditstore",
            f"auditvault:{HOME}/auditvault",
        ],
        "prometheus": [
            f"prometheus:{HOME}/prometheus",
            "./compose/prometheus.yaml:/etc/prometheus/prometheus.yml:ro",
            "./helm/eck-broker/files/alerts.yaml:/etc/prometheus/alerts.yaml:ro",
        ],
        "grafana": [
            f"grafana:{HOME}/grafana",
            f"grafana-admin:{HOME}/grafana-admin:ro",
            "./compose/grafana:/etc/grafana/provisioning:ro",
            "./helm/eck-broker/files/dashboards:/etc/eck-broker/dashboards:ro",
        ],
        "door-inside": [f"door:{HOME}/door"],
        "door": [f"door:{HOME}/door:ro"],
        "cli": [f"operator:{HOME}/operator:ro", f"profiles:{HOME}/profiles:ro"],
    }
    assert mounts == {name: sorted(own) for name, own in expected.items()}
    named = {mount.partition(":")[0] for own in mounts.values() for mount in own if mount[0] not in "$."}
    assert named == set(COMPOSE["volumes"])


def test_kafka_has_the_version_that_is_tested() -> None:
    """The image is of the version of kafka.lock."""
    locked = re.search(r"kafka_2\.13:([0-9.]+)", artifacts.LOCK_FILE.read_text(encoding="utf-8"))
    assert locked is not None
    java = {service["image"] for service in SERVICES.values() if service.get("entrypoint") == ["java"]}
    assert java == {f"apache/kafka:{locked[1]}"}


def test_the_order_is_given_by_what_each_step_needs() -> None:
    """Every step waits for the end of the one before; only Kafka, which does not end, is waited for by logging in."""
    needs = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
    done, started = {"condition": "service_completed_successfully"}, {"condition": "service_started"}
    healthy = {"condition": "service_healthy"}
    after_setup = (*WORKERS, *AUDIT, "removal", "prometheus", "cli")
    expected: dict[str, Any] = {name: {"setup": done} for name in after_setup}
    expected |= {"namespace": {}, "prepare": {}, "setup": dict.fromkeys(KAFKA, started)}
    for name in KAFKA:
        expected |= {f"format-{name[-1]}": {"prepare": done}}
        expected |= {name: {"namespace": started, f"format-{name[-1]}": done}}
    expected["audit-service"] |= {"indexer": healthy}
    expected |= {"grafana": {"prometheus": healthy}, "door-inside": {"namespace": started}}
    expected |= {"door": {"door-inside": started}}
    assert needs == expected


@pytest.mark.parametrize(("service", "command"), COMMANDS.items(), ids=COMMANDS.keys())
def test_every_command_is_one_of_the_brokers(service: str, command: str) -> None:
    """Parsed by the command line itself, with the environment that the service has; its paths are in its volumes."""
    found, options = parsed(SERVICES[service]["command"], SERVICES[service].get("environment"))
    assert found == command
    mounted = [Path(volume.removesuffix(":ro").rpartition(":")[2]) for volume in SERVICES[service].get("volumes", ())]
    for value in options.values():
        if isinstance(value, Path) and value != Path(HOME):  # what volumes are mounted below
            assert any(value.is_relative_to(folder) for folder in mounted), value


def test_every_service_that_runs_the_broker_is_held_against_its_command_line() -> None:
    """All of our image; to `cli` a command is given."""
    image = SERVICES["cli"]["image"]
    own = {name for name, its in SERVICES.items() if its["image"] == image}
    assert all("entrypoint" not in SERVICES[name] for name in own)
    assert own == {*COMMANDS, "cli"}


@pytest.mark.parametrize("service", AUDIT)
def test_the_health_of_the_audit_is_asked_at_its_own_port(service: str) -> None:
    """Each has another one, since they may share a network namespace."""
    _, options = parsed(SERVICES[service]["command"], SERVICES[service]["environment"])
    assert f"http://127.0.0.1:{_port(options)}/readyz" in SERVICES[service]["healthcheck"]["test"][-1]
    ports = [_port(parsed(SERVICES[name]["command"], SERVICES[name]["environment"])[1]) for name in AUDIT]
    ports += [int(SERVICES[name]["environment"]["BROKER_HTTP_PORT"]) for name in WORKERS]
    assert len(set(ports)) == len(AUDIT) + len(WORKERS)


@pytest.mark.parametrize("service", WORKERS)
def test_the_health_of_a_worker_is_asked_at_its_own_port(service: str) -> None:
    """The second has another port, and another copy of the vault."""
    port = SERVICES[service]["environment"]["BROKER_HTTP_PORT"]
    assert f"http://127.0.0.1:{port}/readyz" in SERVICES[service]["healthcheck"]["test"][-1]


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


def test_the_reconciler_has_no_login_and_no_key() -> None:
    """Files are all it needs; it is in the namespace so that Prometheus hears of its findings."""
    assert set(SERVICES["reconciler"]["environment"]) == {"BROKER_AUDITLOG_LOGS"}
    assert not any("keys" in word or "connection" in word for word in SERVICES["reconciler"]["command"])
