"""The Helm chart, rendered with Helm's own library and checked against Kubernetes' own schemas."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from helm_python import HelmError, lint

from broker.app.provision import add_broker_keys
from broker.errors import ConfigError
from broker.kafka.connection import KafkaConnection
from broker.keys import FileKeys
from broker.settings import WorkerSettings
from tests.helm.commands import parsed
from tests.helm.rendering import ALL_ON, CHART, audit, audit_pod, by_kind, containers, named, render

SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
KEDA = {"autoscaling": {"keda": {"enabled": True, "bootstrapServers": "kafka:9093", "triggerAuthentication": "lag"}}}
MONITOR = {"serviceMonitor": {"enabled": True}}


def manifests(values: dict[str, Any] | None = None, chart: Path = CHART) -> dict[str, Any]:
    """Manifests by kind, those of the audit aside (see test_audit_chart.py)."""
    return by_kind(render(values, chart), of_the_audit=False)


def pod(values: dict[str, Any] | None = None) -> Any:
    """The pods' specification."""
    return manifests(values)["Deployment"]["spec"]["template"]["spec"]


def removal(values: dict[str, Any] | None = None) -> Any:
    """The specification of the pods that remove input."""
    return manifests(values)["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("values", [{}, ALL_ON, KEDA, MONITOR], ids=["default", "all", "keda", "monitor"])
def test_the_chart_passes_helms_strict_lint(values: dict[str, Any]) -> None:
    """Neither errors nor warnings; Helm's only remark is that there is no icon."""
    report = lint(CHART, named(values), strict=True)
    assert report["errors"] == []
    assert [message["error"] for message in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("version", ["1.29", "1.31", "1.34"])
@pytest.mark.parametrize("values", [{}, ALL_ON], ids=["default", "all"])
def test_manifests_are_what_kubernetes_takes(values: dict[str, Any], version: str) -> None:
    """Strictly: a field that Kubernetes does not know is an error, in the oldest version we name and in newer ones."""
    found = manifests(values)
    assert set(found) == {"CronJob", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the validator's own dependencies
        for manifest in found.values():
            kubernetes_validate.validate(manifest, version, strict=True)


def test_a_misspelt_field_would_be_noticed() -> None:
    """The check above is not empty: the validator refuses what Kubernetes would ignore or refuse."""
    manifest = manifests()["Deployment"]
    manifest["spec"]["template"]["spec"]["containers"][0]["readOnlyRootFileSystem"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="readOnlyRootFileSystem"):
        kubernetes_validate.validate(manifest, "1.31", strict=True)


@pytest.mark.parametrize(
    ("pods", "count"), [(pod, 2), (removal, 2), (audit_pod, 5)], ids=["worker", "removal", "audit"]
)
@pytest.mark.parametrize("values", [{}, ALL_ON, KEDA], ids=["default", "all", "keda"])
def test_pods_keep_to_the_restricted_standard(
    values: dict[str, Any], pods: Callable[[dict[str, Any] | None], Any], count: int
) -> None:
    """Every container runs without root, rights, a writable image or a service account's token."""
    spec = pods(values)
    more = 4 if pods is audit_pod and values is ALL_ON else 0  # two services that are off by default, with their copies
    assert len(containers(spec)) == count + more
    for container in containers(spec):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert "memory" in container["resources"]["limits"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["fsGroup"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert manifests(values)["ServiceAccount"]["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(spec)
    known = {"secret", "emptyDir", "configMap", "persistentVolumeClaim"}
    assert all(known & set(volume) for volume in spec["volumes"])


def test_a_worker_has_time_to_end_its_transactions() -> None:
    """It needs 20 s at most."""
    assert pod()["terminationGracePeriodSeconds"] == 60


def test_decided_input_is_removed_within_a_day_by_a_login_of_its_own() -> None:
    """Each hour, what is older than twelve; with the secret of the remover, and none of the workers' secrets."""
    job, spec = manifests()["CronJob"]["spec"], removal()
    assert job["schedule"] == "17 * * * *"
    assert job["concurrencyPolicy"] == "Forbid"
    (container,) = spec["containers"]
    command, options = parsed(container["args"], {v["name"]: v["value"] for v in container["env"]})
    assert (command, options["keep_hours"]) == ("topics trim", 12)
    secrets = [volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume]
    assert secrets == ["eck-broker-remover-connection"]
    assert {variable["name"] for variable in container["env"]} == {"BROKER_CONNECTION", "BROKER_GROUP"}
    assert "CronJob" not in manifests({"removal": {"enabled": False}})


def test_no_pods_selector_takes_the_others() -> None:
    """The Deployment would else count the others' pods; one network policy is for all, another adds to it."""
    found, audits = manifests(), audit()
    labels = {
        "worker": found["Deployment"]["spec"]["template"]["metadata"]["labels"],
        "removal": found["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"],
        "audit": audits["StatefulSet"]["spec"]["template"]["metadata"]["labels"],
    }

    def takes(selector: dict[str, str]) -> set[str]:
        return {name for name, own in labels.items() if selector.items() <= own.items()}

    assert takes(found["Deployment"]["spec"]["selector"]["matchLabels"]) == {"worker"}
    assert takes(found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]) == {"worker"}
    assert takes(found["Service"]["spec"]["selector"]) == {"worker"}
    assert takes(found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]) == {"worker", "removal", "audit"}
    assert takes(audits["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]) == {"audit"}
    for kind in ("StatefulSet", "PodDisruptionBudget"):
        assert takes(audits[kind]["spec"]["selector"]["matchLabels"]) == {"audit"}
    assert takes(audits["Service"]["spec"]["selector"]) == {"audit"}


def test_the_platform_may_choose_the_users() -> None:
    """`null` leaves the ids out, as OpenShift wants; that nothing runs as root stays, and cannot be switched off."""
    context = pod({"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}})["securityContext"]
    assert context == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    with pytest.raises(HelmError, match="runAsNonRoot"):
        render({"podSecurityContext": {"runAsNonRoot": False}})


def test_every_writable_folder_has_a_limit() -> None:
    """What a worker may write to is limited in size, and what holds keys is memory."""
    volumes = {volume["name"]: volume["emptyDir"] for volume in pod()["volumes"] if "emptyDir" in volume}
    assert set(volumes) == {"private", "state", "tmp"}
    assert all(volume["sizeLimit"] for volume in volumes.values())
    assert volumes["private"]["medium"] == "Memory"
    mounts = {mount["name"]: mount for mount in pod()["containers"][0]["volumeMounts"]}
    assert mounts["private"]["readOnly"] is True


def test_no_secret_is_in_the_environment() -> None:
    """The environment holds paths and numbers; nothing comes from a secret, and the chart makes none."""
    for container in [*containers(pod(ALL_ON)), *containers(removal(ALL_ON)), *containers(audit_pod(ALL_ON))]:
        assert "envFrom" not in container
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {"fieldRef": None})  # a value of its own, or of the pod itself
            assert set(source) == {"fieldRef"}
            assert not re.search(r"PASSWORD|SECRET|TOKEN|USERNAME", variable["name"])
    assert "Secret" not in {**manifests(ALL_ON), **audit(ALL_ON)}
    keys = [key for key in _keys(SCHEMA["properties"]) if not key.endswith("Secret")]  # those name one
    assert not re.search("password|token|username", "|".join(keys), re.IGNORECASE)


def test_the_workers_settings_are_those_of_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variable is a setting of `WorkerSettings`, and the chart's defaults are the broker's own."""
    default = WorkerSettings(_env_file=None)
    worker = pod()["containers"][0]
    values = {variable["name"]: variable.get("value", "10.1.2.3") for variable in worker["env"]}
    assert {name.removeprefix("BROKER_").lower() for name in values} == set(WorkerSettings.model_fields)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    settings = WorkerSettings(_env_file=None)
    own = {"connection", "keys", "state", "http_host", "http_port"}
    assert settings.model_dump(exclude=own) == default.model_dump(exclude=own)
    assert (settings.http_host, settings.http_port) == ("10.1.2.3", worker["ports"][0]["containerPort"])


def test_kubelet_and_prometheus_reach_the_endpoint() -> None:
    """The endpoint listens on the pod's address, not on loopback, and probes ask the paths that exist."""
    worker = pod()["containers"][0]
    host = next(variable for variable in worker["env"] if variable["name"] == "BROKER_HTTP_HOST")
    assert host["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP"
    paths = {kind: worker[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    service = manifests()["Service"]["spec"]
    assert service["clusterIP"] == "None"
    assert service["ports"] == [{"name": "metrics", "port": 8080, "targetPort": "metrics", "protocol": "TCP"}]


def test_a_rotated_secret_starts_the_workers_anew() -> None:
    """The pods' annotation follows `secretsRevision` and the names of the secrets, and shows nothing of either."""

    def checksum(values: dict[str, Any]) -> str:
        found = manifests(values)["Deployment"]["spec"]["template"]["metadata"]["annotations"]["checksum/secrets"]
        assert re.fullmatch("[0-9a-f]{64}", found)
        return str(found)

    different = [{}, {"secretsRevision": "2"}, {"keys": {"secret": "other"}}, {"kafka": {"connectionSecret": "other"}}]
    assert len({checksum(values) for values in different}) == 4
    assert checksum({}) == checksum({"replicas": 5})


# --- the copies of the secrets


def test_copies_are_readable_by_the_worker_alone(tmp_path: Path) -> None:
    """What the kubelet mounts is refused by the broker; what the init container makes of it is taken.

    A mounted secret looks like this: links over `..data` to files that belong to root and, with fsGroup, to a
    group that may read them.
    """
    origin, mounted = tmp_path / "origin", tmp_path / "mounted"
    add_broker_keys(origin / "keys", tmp_path / "operator")
    connection = KafkaConnection("kafka.example:9093", None, "exchange", "a password")
    connection.to_file(origin / "connection" / "connection.json")
    for name in ("connection", "keys"):
        data = mounted / name / "..2026_01_01"
        data.mkdir(parents=True)
        (mounted / name / "..data").symlink_to(data.name)
        for file in (origin / name).iterdir():
            shutil.copyfile(file, data / file.name)
            (data / file.name).chmod(0o440)
            (mounted / name / file.name).symlink_to(f"..data/{file.name}")
    with pytest.raises(ConfigError, match="others can read it"):
        KafkaConnection.from_file(mounted / "connection" / "connection.json")
    with pytest.raises(ConfigError, match="may be read by others"):
        FileKeys(mounted / "keys").secret("record-keys")

    container = pod()["initContainers"][0]
    assert container["command"][:3] == ["python", "-I", "-c"]
    assert container["command"][4:] == ["/run/eck-broker", "/run/mounted/connection", "/run/mounted/keys"]
    private = tmp_path / "private"
    private.mkdir()
    command = [sys.executable, "-I", "-c", container["command"][3], private, mounted / "connection", mounted / "keys"]
    for _ in range(2):  # an init container may run again
        subprocess.run(command, check=True)

    assert KafkaConnection.from_file(private / "connection" / "connection.json") == connection
    copied, original = FileKeys(private / "keys"), FileKeys(origin / "keys")
    assert copied.secret("record-keys") == original.secret("record-keys")
    assert copied.recipient_keys("broker") == original.recipient_keys("broker")
    for folder in private.iterdir():
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o400}
    assert {file.name for file in (private / "keys").iterdir()} == {file.name for file in (origin / "keys").iterdir()}


def test_a_login_of_strimzi_becomes_a_connection_file(tmp_path: Path) -> None:
    """What its User Operator and the cluster's CA give is all that is needed; neither stays beside it under another name."""
    mounted, private = tmp_path / "mounted", tmp_path / "private"
    private.mkdir()
    for path, text in {"connection/password": 'a p"ssword\n', "cluster-ca/ca.crt": "PEM", "keys/a.secret": "s"}.items():
        (mounted / path).parent.mkdir(parents=True)
        (mounted / path).write_text(text)
    strimzi = {"enabled": True, "bootstrapServers": "kafka.example:9093", "clusterCaSecret": "ca"}
    command = pod({"kafka": {"strimzi": strimzi}})["initContainers"][0]["command"]
    here = [word.replace("/run/mounted", str(mounted)).replace("/run/eck-broker", str(private)) for word in command[4:]]
    for _ in range(2):  # an init container may run again
        subprocess.run([sys.executable, *command[1:4], *here], check=True)

    expected = KafkaConnection("kafka.example:9093", private / "connection/ca.pem", "exchange", 'a p"ssword')
    assert KafkaConnection.from_file(private / "connection" / "connection.json") == expected
    assert (private / "connection" / "ca.pem").read_text() == "PEM"
    files = {str(path.relative_to(private)) for path in private.rglob("*") if path.is_file()}
    assert files == {"connection/connection.json", "connection/ca.pem", "keys/a.secret"}
    assert {stat.S_IMODE((private / name).stat().st_mode) for name in files} == {0o400}


def test_more_secrets_and_settings_come_by_reference() -> None:
    """A secret becomes files beside the others, a setting a reference; a change of the secret starts the workers anew."""
    reference = {"name": "BROKER_KEY_STORE", "valueFrom": {"configMapKeyRef": {"name": "a", "key": "b"}}}
    spec = pod({"worker": {"extraSecrets": ["store-login"], "extraEnv": [reference]}})
    assert spec["containers"][0]["env"][-1] == reference
    assert spec["initContainers"][0]["command"][5:] == [
        f"/run/mounted/{n}" for n in ("connection", "keys", "store-login")
    ]
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "store-login"]
    assert volume["secret"] == {"secretName": "store-login", "defaultMode": 0o400}
    assert "store-login" not in {mount["name"] for mount in spec["containers"][0]["volumeMounts"]}


def test_a_key_store_is_reached_by_workers_alone() -> None:
    """Only where it is named, and by a policy that selects no other pod."""
    to = [{"ipBlock": {"cidr": "192.0.2.1/32"}}]
    text = render({"networkPolicy": {"keyStore": {"to": to}}})["keystore-networkpolicy.yaml"]
    policy = yaml.safe_load(text)["spec"]
    assert policy["egress"] == [{"ports": [{"port": 8200, "protocol": "TCP"}], "to": to}]
    assert policy["podSelector"]["matchLabels"] == manifests()["Deployment"]["spec"]["selector"]["matchLabels"]
    assert not render().get("keystore-networkpolicy.yaml", "").strip()


def test_the_worker_does_not_see_the_mounted_secrets() -> None:
    """Only the init container has them, read-only, and where the worker looks is where the copies are."""
    spec = pod()
    init, worker = spec["initContainers"][0], spec["containers"][0]
    secrets = {volume["name"]: volume["secret"] for volume in spec["volumes"] if "secret" in volume}
    assert {secret["defaultMode"] for secret in secrets.values()} == {0o400}
    assert not {mount["name"] for mount in worker["volumeMounts"]} & set(secrets)
    assert all(mount["readOnly"] for mount in init["volumeMounts"] if mount["name"] in secrets)
    where = {variable["name"]: variable.get("value") for variable in worker["env"]}
    assert where["BROKER_CONNECTION"] == "/run/eck-broker/connection/connection.json"
    assert where["BROKER_KEYS"] == "/run/eck-broker/keys"


# --- values


def test_every_value_is_explained() -> None:
    """Each key of values.yaml has a comment above it, or is the only key below one that has."""
    lines = (CHART / "values.yaml").read_text(encoding="utf-8").splitlines()
    bare = [
        line.strip()
        for above, line in zip(["", *lines], lines, strict=False)
        if re.match(r" *[A-Za-z-]+:", line) and not above.lstrip().startswith("#")
    ]
    # Amounts below `requests` and `limits`, the workers' port, and what a NetworkPolicy peer is made of.
    allowed = r"(cpu|memory|ephemeral-storage|port|matchLabels|podSelector|k8s-app|kubernetes\.io/metadata\.name):.*"
    assert [line for line in bare if not re.fullmatch(allowed, line)] == []


def test_schema_and_values_have_the_same_keys() -> None:
    """No value without a schema, no schema for a value that has no default."""
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    of_ours = {name: node for name, node in SCHEMA["properties"].items() if name != "global"}  # Helm's own
    _same_keys(values, {"properties": of_ours})


def test_the_schema_is_closed_at_every_level() -> None:
    """Every object refuses unknown keys; a free map takes texts only."""
    objects = [node for node in _nodes(SCHEMA) if node.get("type") == "object"]
    assert len(objects) > 20
    for node in objects:
        closed = node.get("additionalProperties") is False or node.get("maxProperties") == 0
        assert closed or node["additionalProperties"] == {"type": "string"}


@pytest.mark.parametrize(
    "values",
    [
        {"replica": 3},
        {"image": {"tagg": "1"}},
        {"kafka": {"password": "secret"}},
        {"keys": {"value": "secret"}},
        {"worker": {"group": "Exchange"}},
        {"worker": {"viewAgeSeconds": 9}},
        {"http": {"port": 80}},
        {"resources": {"limits": {"memory": "1 gigabyte"}}},
        {"resources": {"limits": {"gpu": "1"}}},
        {"podSecurityContext": {"runAsUser": 0}},
        {"podAnnotations": {"a": 1}},
        {"networkPolicy": {"egress": "all"}},
        {"networkPolicy": {"kafka": {"to": [{}]}}},
        {"networkPolicy": {"kafka": {"to": [{"cidr": "10.0.0.0/8"}]}}},
        {"autoscaling": {"keda": {"enabled": True}}},
        {"autoscaling": {"keda": {"enabled": True, "bootstrapServers": "kafka", "triggerAuthentication": "lag"}}},
        {"autoscaling": {"keda": {"minReplicas": 0}}},
        {"audit": {"name": ""}},
        {"audit": {"name": "broker.example/the audit"}},
        {"audit": {"name": "broker.example/audit/"}},
        {"audit": {"replicas": 2}},
        {"audit": {"logBuilder": {"key": "secret"}}},
        {"audit": {"logBuilder": {"port": 80}}},
        {"audit": {"logBuilder": {"port": 8083}}},
        {"audit": {"logBuilder": {"keysSecret": ""}}},
        {"audit": {"logBuilder": {"keysSecret": "eck-broker-keys"}}},
        {"audit": {"indexer": {"keysSecret": "eck-broker-keys"}}},
        {"audit": {"indexer": {"keysSecret": "eck-broker-auditlog-keys"}}},
        {"audit": {"indexer": {"connectionSecret": "eck-broker-log-builder-connection"}}},
        {"audit": {"indexer": {"everySeconds": 0}}},
        {"audit": {"indexer": {"resources": {"limits": {"memory": "much"}}}}},
        {"audit": {"persistence": {"size": "large"}}},
        {"audit": {"service": {"enabled": True, "listenPort": 443}}},
        {"audit": {"service": {"enabled": True, "listenPort": 8081}}},
        {"audit": {"service": {"enabled": True, "keysSecret": "eck-broker-keys"}}},
        {"audit": {"countKeeper": {"enabled": True, "connectionSecret": "eck-broker-connection"}}},
        {"networkPolicy": {"auditClients": {"from": [{}]}}},
        {"audit": {"persistence": {"accessModes": ["ReadWriteMany"]}}},
        {"networkPolicy": {"witnesses": {"to": [{}]}}},
        {"removal": {"keepHours": 24}},
        {"removal": {"schedule": "hourly"}},
        {"global": {"anything": 1}},
    ],
    ids=json.dumps,
)
def test_wrong_values_are_refused(values: dict[str, Any]) -> None:
    """A key that is not known, or a value that would not work, does not reach the cluster."""
    with pytest.raises(HelmError):
        render(values)


# --- network


def test_network_is_denied_but_for_dns_kafka_and_metrics() -> None:
    """Out: names and Kafka. In: metrics, from one namespace. Nothing else, since both types are named."""
    policy = manifests()["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    selected = policy["podSelector"]["matchLabels"].items()
    assert selected < manifests()["Deployment"]["spec"]["selector"]["matchLabels"].items()
    assert policy["ingress"] == [
        {
            "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
            "ports": [{"port": 8080, "protocol": "TCP"}],
        }
    ]
    dns, kafka = policy["egress"]
    assert dns["ports"] == [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
    assert dns["to"][0]["podSelector"] == {"matchLabels": {"k8s-app": "kube-dns"}}
    assert kafka == {"ports": [{"port": 9093, "protocol": "TCP"}]}


def test_network_can_be_narrowed() -> None:
    """Kafka by address, metrics by pod, or no metrics for anybody."""
    policy = manifests(ALL_ON)["NetworkPolicy"]["spec"]
    assert policy["egress"][1] == {
        "to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        "ports": [{"port": 9093, "protocol": "TCP"}, {"port": 9094, "protocol": "TCP"}],
    }
    assert policy["ingress"][0]["from"][0]["podSelector"] == {"matchLabels": {"app": "prometheus"}}
    nobody = {"networkPolicy": {"metrics": {"namespaceLabels": {"kubernetes.io/metadata.name": None}}}}
    assert manifests(nobody)["NetworkPolicy"]["spec"]["ingress"] == []


def test_what_is_weaker_says_so() -> None:
    """Without a policy, or with one that leaves Kafka's address open, the notes tell."""
    assert "of ANY address" in render()["NOTES.txt"]
    assert "ANY address" not in render(ALL_ON)["NOTES.txt"]
    off = {"networkPolicy": {"enabled": False}}
    assert "NetworkPolicy" not in manifests(off)
    assert "WARNING: there is no NetworkPolicy" in render(off)["NOTES.txt"]


# --- what only some clusters know


def test_without_their_apis_keda_and_service_monitor_are_left_out() -> None:
    """A cluster without the CRDs takes the rest, with its fixed number of workers, and the notes tell what is missing."""
    rendered = render({**KEDA, **MONITOR})
    assert not {"ScaledObject", "ServiceMonitor"} & set(manifests({**KEDA, **MONITOR}))
    assert manifests(KEDA)["Deployment"]["spec"]["replicas"] == 2
    assert "NO ScaledObject" in rendered["NOTES.txt"]
    assert "NO ServiceMonitor" in rendered["NOTES.txt"]


def test_keda_scales_by_the_lag_of_the_whole_group(every_api: Path) -> None:
    """Over TLS and SCRAM, never to zero, slowly; and the deployment leaves the number of workers to KEDA."""
    found = manifests(KEDA, every_api)
    spec = found["ScaledObject"]["spec"]
    assert "replicas" not in found["Deployment"]["spec"]
    assert spec["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]
    assert spec["minReplicaCount"] >= 1
    trigger = spec["triggers"][0]
    assert trigger["metadata"]["consumerGroup"] == WorkerSettings(_env_file=None).group
    assert "topic" not in trigger["metadata"]
    assert (trigger["metadata"]["tls"], trigger["metadata"]["sasl"]) == ("enable", "scram_sha512")
    assert all(isinstance(value, str) for value in trigger["metadata"].values())  # KEDA takes nothing else
    assert trigger["authenticationRef"] == {"name": "lag"}
    assert "NO ScaledObject" not in render(KEDA, every_api)["NOTES.txt"]


def test_the_service_monitor_finds_the_service(every_api: Path) -> None:
    """Its selector and port are those of the metrics service, in its own namespace."""
    found = manifests({"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}}, every_api)
    monitor, service = found["ServiceMonitor"], found["Service"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["exchange"]}
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_both_are_off_unless_asked_for(every_api: Path) -> None:
    """A cluster that has the CRDs gets neither by itself."""
    assert not {"ScaledObject", "ServiceMonitor"} & set(manifests({}, every_api))


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for child in node.values():
            yield from _nodes(child)
    elif isinstance(node, list):
        for child in node:
            yield from _nodes(child)


def _keys(properties: dict[str, Any]) -> Iterator[str]:
    for name, node in properties.items():
        yield name
        yield from _keys(node.get("properties", {}))


def _same_keys(values: Any, schema: dict[str, Any]) -> None:
    schema = SCHEMA["$defs"].get(schema.get("$ref", "").rpartition("/")[2], schema)
    if "properties" in schema and isinstance(values, dict):
        assert set(values) == set(schema["properties"]) - {"cpu"} | set(values) & {"cpu"}  # a limit that is left out
        for name, value in values.items():
            _same_keys(value, schema["properties"][name])
