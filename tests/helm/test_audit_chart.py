"""The audit's part of the Helm chart: who sees what, which commands run, and that they are reached."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from helm_python import HelmError

from broker.auditlog.anchoring import AnchorFolder
from broker.cli import auditlog
from broker.cli.witness import address
from tests.helm.commands import parsed
from tests.helm.rendering import ALL_ON, NAME, audit, audit_pod, clients_service, render

COMMANDS = {
    "log-builder": "auditlog run",
    "reconciler": "auditlog watch",
    "indexer": "auditlog index",
    "count-keeper": "auditlog counts",
    "audit-service": "audit serve",
}
LOGS, STORE, STATE, VAULT = (f"/var/lib/eck-broker/{name}" for name in ("auditlog", "store", "reconciler", "vault"))

TMP = "/tmp"  # noqa: S108 - in the container, where it is memory


def by_name(found: list[Any]) -> dict[str, Any]:
    """Each has a name of its own."""
    names = {each["name"]: each for each in found}
    assert len(names) == len(found)
    return names


def seen(container: Any, volumes: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    """What a container sees: by path, the kind and name of what is there, and whether it may write."""
    found = {}
    for mount in container["volumeMounts"]:
        volume = volumes[mount["name"]]
        if "secret" in volume:
            what = f"secret {volume['secret']['secretName']}"
        elif "configMap" in volume:
            what = f"config {volume['configMap']['name']}"
        elif "persistentVolumeClaim" in volume:
            what = f"data {mount['subPath']}"
        else:
            what = f"{volume['emptyDir'].get('medium', 'disk').lower()} {mount['name']}"
            assert volume["emptyDir"]["sizeLimit"]
        found[mount["mountPath"]] = (what, not mount.get("readOnly", False))
    return found


@pytest.mark.parametrize("version", ["1.29", "1.31", "1.34"])
@pytest.mark.parametrize("values", [{}, ALL_ON], ids=["default", "all"])
def test_manifests_of_the_audit_are_what_kubernetes_takes(values: dict[str, Any], version: str) -> None:
    """Strictly, as those of the workers."""
    found = audit(values)
    kinds = {"NetworkPolicy", "PersistentVolumeClaim", "PodDisruptionBudget", "Service", "StatefulSet"}
    assert set(found) == (kinds - {"PersistentVolumeClaim"} if values else kinds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the validator's own dependencies
        for manifest in found.values():
            kubernetes_validate.validate(manifest, version, strict=True)


# --- who sees what


def test_each_container_sees_its_own_secrets_and_of_the_volume_what_it_needs() -> None:
    """The table: all mounts of all containers. Only the log builder sees the signing key and writes logs; only the
    indexer sees the schools' keys and writes the store; the reconciler has no secret."""
    spec = audit_pod(ALL_ON)
    volumes = by_name(spec["volumes"])
    assert {name: seen(container, volumes) for name, container in by_name(spec["containers"]).items()} == {
        "log-builder": {
            "/run/eck-broker": ("memory log-builder-private", False),
            "/etc/eck-broker/witnesses": ("config witnesses", False),
            LOGS: ("data auditlog", True),
            TMP: ("memory log-builder-tmp", True),
        },
        "reconciler": {
            "/etc/eck-broker/parties": ("config parties", False),
            LOGS: ("data auditlog", False),
            STATE: ("data reconciler", True),
            TMP: ("memory reconciler-tmp", True),
        },
        "indexer": {
            "/run/eck-broker": ("memory indexer-private", False),
            LOGS: ("data auditlog", False),
            STORE: ("data store", True),
            TMP: ("memory indexer-tmp", True),
        },
        "count-keeper": {
            "/run/eck-broker": ("memory count-keeper-private", False),
            TMP: ("memory count-keeper-tmp", True),
        },
        "audit-service": {
            "/run/eck-broker": ("memory audit-service-private", False),
            "/etc/eck-broker/clients": ("config eck-broker-audit-clients", False),
            LOGS: ("data auditlog", False),
            STORE: ("data store", True),
            VAULT: ("disk audit-service-vault", True),
            TMP: ("memory audit-service-tmp", True),
        },
    }
    assert {name: seen(container, volumes) for name, container in by_name(spec["initContainers"]).items()} == {
        "log-builder-copies": {
            "/run/eck-broker": ("memory log-builder-private", True),
            "/run/mounted/connection": ("secret eck-broker-log-builder-connection", False),
            "/run/mounted/keys": ("secret eck-broker-auditlog-keys", False),
        },
        "indexer-copies": {
            "/run/eck-broker": ("memory indexer-private", True),
            "/run/mounted/connection": ("secret eck-broker-auditor-connection", False),
            "/run/mounted/keys": ("secret eck-broker-school-keys", False),
        },
        "count-keeper-copies": {
            "/run/eck-broker": ("memory count-keeper-private", True),
            "/run/mounted/connection": ("secret eck-broker-count-keeper-connection", False),
        },
        "audit-service-copies": {
            "/run/eck-broker": ("memory audit-service-private", True),
            "/run/mounted/connection": ("secret eck-broker-audit-service-connection", False),
            "/run/mounted/keys": ("secret eck-broker-audit-service-keys", False),
            "/run/mounted/tls": ("secret eck-broker-audit-service-tls", False),
        },
    }
    assert volumes["data"]["persistentVolumeClaim"] == {"claimName": "restored"}


def test_the_secrets_are_copied_as_those_of_the_workers_are() -> None:
    """By the same program (test_chart.py runs it), from what is mounted to what the commands read."""
    for container in audit_pod()["initContainers"]:
        assert container["command"][4:] == ["/run/eck-broker", "/run/mounted/connection", "/run/mounted/keys"]
    for volume in audit_pod()["volumes"]:
        assert volume.get("secret", {"defaultMode": 0o400})["defaultMode"] == 0o400


def test_without_persons_the_indexer_has_no_secret() -> None:
    """Neither mounted nor named on its command line."""
    spec = audit_pod({"audit": {"indexer": {"persons": False}}})
    secrets = {volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume}
    assert secrets == {"eck-broker-log-builder-connection", "eck-broker-auditlog-keys"}
    _, options = parsed(by_name(spec["containers"])["indexer"]["args"])
    assert (options["connection"], options["keys"]) == (None, None)


def test_containers_share_no_processes_and_no_secret_twice() -> None:
    """Else one could read the other's memory, or what its neighbour has."""
    spec = audit_pod()
    assert not {"shareProcessNamespace", "hostPID", "hostIPC"} & set(spec)
    for same in (
        {"audit": {"logBuilder": {"keysSecret": "one"}, "indexer": {"keysSecret": "one"}}},
        {"audit": {"logBuilder": {"keysSecret": "one"}}, "keys": {"secret": "one"}},
        {"audit": {"indexer": {"connectionSecret": "one"}}, "removal": {"connectionSecret": "one"}},
    ):
        with pytest.raises(HelmError, match="A secret is named twice"):
            render(same)


# --- what runs


@pytest.mark.parametrize("values", [{}, ALL_ON], ids=["default", "all"])
def test_the_commands_are_those_of_the_broker_and_read_what_is_mounted(values: dict[str, Any]) -> None:
    """Parsed by the command line itself; every path is below a folder that the container sees."""
    spec = audit_pod(values)
    for name, container in by_name(spec["containers"]).items():
        command, options = parsed(container["args"])
        assert command == COMMANDS[name]
        mounted = [Path(mount["mountPath"]) for mount in container["volumeMounts"]]
        paths = [value for value in options.values() if isinstance(value, Path)]
        assert paths
        for path in paths:
            assert any(path.is_relative_to(folder) for folder in mounted), path
        assert "command" not in container  # the image's own
    builder = parsed(by_name(spec["containers"])["log-builder"]["args"])[1]
    assert builder["name"] == NAME
    assert (builder["policy"] is None) == (not values)


def test_the_settings_have_the_brokers_own_defaults() -> None:
    """Lateness and pause are what the commands take without the option."""
    args = {name: container["args"] for name, container in by_name(audit_pod()["containers"]).items()}
    for name, option, command in (("reconciler", "lateness", auditlog.watch), ("indexer", "every", auditlog.index)):
        assert parsed(args[name])[1][option] == inspect.signature(command).parameters[option].default


def test_probes_ask_the_port_that_the_command_listens_on() -> None:
    """On the pod's own address, each service on a port of its own; the metrics service has them all."""
    ports, listening = {}, {}
    for name, container in by_name(audit_pod(ALL_ON)["containers"]).items():
        options = parsed(container["args"])[1]
        if "listen" in options:
            listening[name] = address(options["listen"])
            options["http_host"], options["http"] = address(options["http"])
            extra = container["ports"].pop()
            assert extra == {"name": f"{name}-tls", "containerPort": listening[name][1], "protocol": "TCP"}
        assert options["http_host"] == "$(POD_IP)"
        assert container["env"] == [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
        assert container["ports"] == [{"name": name, "containerPort": options["http"], "protocol": "TCP"}]
        asked = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
        assert {get["port"] for get in asked.values()} == {name}
        assert {kind: get["path"] for kind, get in asked.items()} == {
            "startup": "/livez", "liveness": "/livez", "readiness": "/readyz",
        }  # fmt: skip
        ports[name] = options["http"]
    assert listening == {"audit-service": ("$(POD_IP)", 8470)}
    service = audit(ALL_ON)["Service"]["spec"]
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
    assert {port["name"]: port["port"] for port in service["ports"]} == ports
    assert len({*ports.values(), 8470}) == 6
    assert audit()["StatefulSet"]["spec"]["serviceName"] == audit()["Service"]["metadata"]["name"]


def test_one_pod_that_can_be_drained_and_replaced() -> None:
    """One replica on one volume; a budget that blocks no drain; replaced also while it is not ready."""
    found = audit()
    assert found["StatefulSet"]["spec"]["replicas"] == 1
    assert found["StatefulSet"]["spec"]["podManagementPolicy"] == "Parallel"
    assert found["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    assert "PodDisruptionBudget" not in audit({"podDisruptionBudget": {"enabled": False}})


def test_a_long_name_leaves_room_for_the_hash_of_the_pods() -> None:
    """Kubernetes makes a label of the set's name, a dash and ten digits; a label has 63 characters at most."""
    found = audit(release="a-release-with-a-name-that-is-as-long-as-helm-allows")
    for kind in ("StatefulSet", "Service"):
        assert len(found[kind]["metadata"]["name"]) <= 63
    assert len(found["StatefulSet"]["metadata"]["name"]) + 11 <= 63


def test_a_rotated_secret_starts_the_audit_anew() -> None:
    """Its own secrets do, those of the workers do not."""

    def checksum(values: dict[str, Any]) -> str:
        return str(audit(values)["StatefulSet"]["spec"]["template"]["metadata"]["annotations"]["checksum/secrets"])

    own = [
        {}, {"secretsRevision": "2"}, {"audit": {"logBuilder": {"keysSecret": "other"}}},
        {"audit": {"indexer": {"connectionSecret": "other"}}},
    ]  # fmt: skip
    assert len({checksum(values) for values in own}) == len(own)
    assert checksum({"keys": {"secret": "other"}}) == checksum({})


def test_boards_and_parties_come_to_the_service_alone() -> None:
    """By a Service of its own, which takes no metrics port; none is made while it is off."""
    service = clients_service(ALL_ON)
    assert service["spec"]["ports"] == [
        {"name": "https", "port": 443, "targetPort": "audit-service-tls", "protocol": "TCP"}
    ]
    labels = audit(ALL_ON)["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert clients_service() is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the validator's own dependencies
        kubernetes_validate.validate(service, "1.34", strict=True)
    assert "lets nobody come to it" in render({"audit": {"service": {"enabled": True}}})["NOTES.txt"]
    assert "lets nobody come to it" not in render(ALL_ON)["NOTES.txt"]


# --- anchor and mirror


def test_an_anchor_writes_beside_the_logs_and_nowhere_else() -> None:
    """It sees the logs read-only but for the one folder that is its own; it has no secret; its port is scraped."""
    spec = audit_pod({"audit": {"anchor": {"enabled": True, "url": "https://timestamp.example/tsr"}}})
    container = by_name(spec["containers"])["anchor"]
    assert seen(container, by_name(spec["volumes"])) == {
        "/etc/eck-broker/authority": ("config eck-broker-timestamp-authorities", False),
        LOGS: ("data auditlog", False),
        f"{LOGS}/anchor": ("data auditlog/anchor", True),
        TMP: ("memory anchor-tmp", True),
    }
    command, options = parsed(container["args"])
    assert (command, options["every"], options["logs"]) == ("auditlog anchor", 3600, Path(LOGS))
    assert AnchorFolder(Path(LOGS)).path == Path(LOGS, "anchor")
    notes = render({"audit": {"anchor": {"enabled": True, "url": "https://timestamp.example/tsr"}}})["NOTES.txt"]
    assert "lets its authority not be reached" in notes


def test_a_mirror_copies_to_other_storage_on_the_same_node() -> None:
    """The logs read-only, no secret, each hour; where the volume of the logs is, since that can be on one node at a time."""
    text = render({"audit": {"mirror": {"enabled": True, "existingClaim": "copy"}}})["audit-mirror.yaml"]
    job = yaml.safe_load(text)
    spec = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    command, options = parsed(container["args"])
    assert (command, options["logs"], options["to"]) == (
        "auditlog mirror", Path(LOGS), Path("/var/lib/eck-broker/mirror"),
    )  # fmt: skip
    assert seen(container, by_name(spec["volumes"])) == {
        LOGS: ("data auditlog", False),
        "/var/lib/eck-broker/mirror": ("data mirror", True),
        TMP: ("memory tmp", True),
    }
    claims = {v["name"]: v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "emptyDir" not in v}
    assert claims == {"data": "nl-eck-broker-audit", "mirror": "copy"}
    (near,) = spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    labels = audit()["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    assert near["labelSelector"]["matchLabels"].items() <= labels.items()
    assert not render()["audit-mirror.yaml"].strip()


# --- the volume


def test_the_volume_outlives_the_release() -> None:
    """Helm leaves it; it can grow; the pod uses it, or another one that is there already."""
    claim = audit()["PersistentVolumeClaim"]
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert claim["spec"] == {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "50Gi"}}}
    (data,) = [volume for volume in audit_pod()["volumes"] if volume["name"] == "data"]
    assert data["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    fast = audit({"audit": {"persistence": {"storageClassName": "fast", "size": "2Ti"}}})["PersistentVolumeClaim"][
        "spec"
    ]
    assert (fast["storageClassName"], fast["resources"]["requests"]["storage"]) == ("fast", "2Ti")
    assert audit_pod()["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"


# --- network


def test_the_audit_reaches_kafka_and_witnesses_that_are_named() -> None:
    """Beside what all pods may (test_chart.py), nothing by default; metrics from one namespace."""
    policy = audit()["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []
    (metrics,) = policy["ingress"]
    assert metrics["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    assert [port["port"] for port in metrics["ports"]] == [8081, 8082, 8083]
    assert audit(ALL_ON)["NetworkPolicy"]["spec"]["egress"] == [
        {
            "to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}],
            "ports": [{"port": 443, "protocol": "TCP"}, {"port": 8443, "protocol": "TCP"}],
        }
    ]
    assert audit(ALL_ON)["NetworkPolicy"]["spec"]["ingress"][1:] == [
        {
            "from": [{"ipBlock": {"cidr": "198.51.100.0/24"}}],
            "ports": [{"port": 8470, "protocol": "TCP"}],
        }
    ]
    nobody = {"networkPolicy": {"metrics": {"namespaceLabels": {"kubernetes.io/metadata.name": None}}}}
    assert audit(nobody)["NetworkPolicy"]["spec"]["ingress"] == []
    assert "NetworkPolicy" not in audit({"networkPolicy": {"enabled": False}})


# --- what people are told


def test_a_name_for_the_logs_must_be_chosen() -> None:
    """There is no default, and the error says what it is."""
    with pytest.raises(HelmError, match=r"audit\.name is not set.*for ever"):
        render({"audit": {"name": ""}})
    assert render({"audit": {"name": "", "enabled": False}})


def test_switched_off_nothing_of_it_is_left_and_the_notes_say_so() -> None:
    """No manifest, no secret; a warning."""
    off = {"audit": {"enabled": False}}
    assert audit(off) == {}
    notes = render(off)["NOTES.txt"]
    assert "WARNING: audit.enabled is not set" in notes
    assert "log-builder" not in notes


def test_the_notes_name_the_secrets_that_must_be_there() -> None:
    """Of each service; and warn of witnesses that can not be reached."""
    notes = render(ALL_ON)["NOTES.txt"]
    for volume in audit_pod(ALL_ON)["volumes"]:
        if "secret" in volume:
            assert f"  {volume['secret']['secretName']}  " in notes
    assert "lets no witness be reached" not in notes
    assert "eck-broker-school-keys" not in render({"audit": {"indexer": {"persons": False}}})["NOTES.txt"]
    unreachable = {"audit": {"logBuilder": {"witnessPolicy": "witnesses"}}}
    assert "lets no witness be reached" in render(unreachable)["NOTES.txt"]
    assert "lets no witness be reached" not in render(ALL_ON)["NOTES.txt"]


def test_a_service_monitor_of_its_own_scrapes_all_ports(every_api: Path) -> None:
    """It finds the audit's metrics service, not that of the workers."""
    found = audit({"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}}, every_api)
    monitor, service = found["ServiceMonitor"], found["Service"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"] == "audit"
    assert [end["port"] for end in monitor["spec"]["endpoints"]] == [port["name"] for port in service["spec"]["ports"]]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert "ServiceMonitor" not in audit({}, every_api)
