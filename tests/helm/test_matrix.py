"""The chart with each file of values that comes with it, on each Kubernetes, with and without the APIs of others."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from helm_python import HelmError, lint

from broker.app.health import HealthServer
from broker.kafka import access
from broker.kafka.pki import DevelopmentCA
from broker.keys.open import TransitSettings
from tests.helm.commands import parsed
from tests.helm.custom_resources import SCHEMAS
from tests.helm.rendering import CHART, render

GOOD = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted((CHART / "ci").glob("*.yaml"))}
BAD = sorted((Path(__file__).parent / "bad-values").glob("*.yaml"))
PODS = {"Deployment", "StatefulSet", "CronJob", "Job"}
VERSIONS = ("1.29", "1.31", "1.34")
IMAGE = "registry.example/eck-broker"

each_file = pytest.mark.parametrize("name", GOOD)


def documents(values: dict[str, Any], chart: Path = CHART) -> list[dict[str, Any]]:
    """All manifests."""
    rendered = render(values, chart)
    texts = [text for name, text in sorted(rendered.items()) if name.endswith(".yaml")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def pods(found: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name of the owner, labels and specification of all pods."""
    for document in found:
        if document["kind"] in PODS:
            spec = document["spec"]
            spec = spec["jobTemplate"]["spec"] if document["kind"] == "CronJob" else spec
            template = spec["template"]
            yield document["metadata"]["name"], template["metadata"]["labels"], template["spec"]


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """All of a pod."""
    return [*spec.get("initContainers", []), *spec["containers"]]


def test_there_are_files_of_values_to_begin_with() -> None:
    """The least, all of it, and a Kafka of Strimzi."""
    assert set(GOOD) == {"minimal", "production", "strimzi"}


@each_file
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("apis", ["builtin", "all"])
def test_every_manifest_is_valid(name: str, version: str, apis: str, every_api: Path) -> None:
    """Strictly, also what KEDA and the Prometheus operator get; those only where the cluster has their API."""
    found = documents(GOOD[name], every_api if apis == "all" else CHART)
    kinds = {document["kind"] for document in found}
    wanted = {"ScaledObject", "ServiceMonitor"} if name == "production" and apis == "all" else set()
    assert kinds & set(SCHEMAS) >= wanted
    assert apis == "all" or not kinds & set(SCHEMAS)
    names = [(document["kind"], document["metadata"]["name"]) for document in found]
    assert len(names) == len(set(names)) > 8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the validator's own dependencies
        for document in found:
            assert document["metadata"]["namespace"] == "exchange"
            assert len(document["metadata"]["name"]) <= 63
            if document["kind"] in SCHEMAS:
                jsonschema.validate(document, SCHEMAS[document["kind"]])
            else:
                kubernetes_validate.validate(document, version, strict=True)


@each_file
def test_helms_strict_lint_has_nothing_to_say(name: str) -> None:
    """But for the icon, which there is not."""
    report = lint(CHART, GOOD[name], strict=True)
    assert report["errors"] == []
    assert [message["error"] for message in report["messages"]] == ["icon is recommended"]


@each_file
def test_every_container_is_hardened(name: str) -> None:
    """Of every pod: the standard `restricted`, a root that is read-only, limited memory, no token, no host's namespaces."""
    found = list(pods(documents(GOOD[name])))
    assert len(found) >= 3
    for owner, _, spec in found:
        assert spec["automountServiceAccountToken"] is False, owner
        assert spec["enableServiceLinks"] is False, owner
        assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & set(spec), owner
        assert spec["securityContext"]["runAsNonRoot"] is True, owner
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, owner
        for volume in spec["volumes"]:
            assert {"secret", "configMap", "emptyDir", "persistentVolumeClaim", "projected"} & set(volume), owner
            assert volume.get("emptyDir", {"sizeLimit": 1})["sizeLimit"], owner
        for container in containers(spec):
            assert container["image"].startswith(IMAGE), owner
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "privileged": False,
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            }, owner
            assert {"memory", "cpu"} <= set(container["resources"]["requests"]), owner
            assert "memory" in container["resources"]["limits"], owner


@each_file
def test_every_pod_is_denied_what_no_rule_allows(name: str) -> None:
    """Each is selected by a policy for both directions; no rule is for everybody, but names and Kafka by port."""
    found = documents(GOOD[name])
    policies = [document["spec"] for document in found if document["kind"] == "NetworkPolicy"]
    for owner, labels, _ in pods(found):
        types = {
            kind
            for policy in policies
            if policy["podSelector"]["matchLabels"].items() <= labels.items()
            for kind in policy["policyTypes"]
        }
        assert types == {"Ingress", "Egress"}, owner
    for policy in policies:
        assert all(rule["from"] and rule["ports"] for rule in policy.get("ingress", []))
        for rule in policy.get("egress", []):
            open_ports = {port["port"] for port in rule["ports"]}
            assert rule.get("to") or (name == "minimal" and open_ports == {9093})


@each_file
def test_no_secret_is_rendered(name: str) -> None:
    """No manifest is a Secret or holds one; what the environment takes from one was asked for, by reference."""
    found = documents(GOOD[name])
    assert "Secret" not in {document["kind"] for document in found}
    asked = {variable["name"] for variable in GOOD[name].get("worker", {}).get("extraEnv", [])}
    for _, _, spec in pods(found):
        for container in containers(spec):
            assert "envFrom" not in container
            for variable in container.get("env", []):
                source = variable.get("valueFrom", {})
                assert variable["name"] in asked or set(source) <= {"fieldRef"}
                secret = re.search("PASSWORD|SECRET|TOKEN", variable["name"])
                assert not ("value" in variable and secret and not variable["name"].endswith("_FILE"))
    assert not re.search(r"BEGIN [A-Z ]*PRIVATE KEY|\"password\": \"[^\"]", yaml.safe_dump_all(found))


@each_file
def test_every_command_is_one_of_the_broker(name: str) -> None:
    """Parsed by the command line itself, with the environment that the container has."""
    for owner, _, spec in pods(documents(GOOD[name])):
        for container in containers(spec):
            if "command" in container:
                assert container["command"][:3] == ["python", "-I", "-c"], owner
                continue
            environment = {v["name"]: v.get("value", "192.0.2.1") for v in container.get("env", [])}
            environment = {key: value for key, value in environment.items() if key.startswith("BROKER_")}
            assert parsed(container["args"], environment)[0], owner


@each_file
def test_the_notes_say_what_to_do_next(name: str) -> None:
    """Every secret and ConfigMap that must be there is named, the steps are numbered, and what is weak is told."""
    notes = render(GOOD[name])["NOTES.txt"]
    for _, _, spec in pods(documents(GOOD[name])):
        for volume in spec["volumes"]:
            if "secret" in volume:
                assert f"  {volume['secret']['secretName']}  " in notes
    assert [line[:2] for line in notes.splitlines() if re.match(r"\d\.", line)] == ["1.", "2.", "3.", "4."]
    assert "rollout status deployment/nl-eck-broker" in notes
    assert ("Job nl-eck-broker-topics" in notes) == (name == "strimzi")
    assert ("   broker topics apply --registry" in notes) == (name != "strimzi")
    assert ("named by its tag" in notes) == (name != "production")
    assert ("of ANY address" in notes) == (name == "minimal")
    assert ("NO ScaledObject" in notes) == ("NO ServiceMonitor" in notes) == (name == "production")


async def test_probes_ask_what_the_endpoint_answers() -> None:
    """Alive from progress, ready from views and lanes: the very paths, asked of the endpoint itself."""
    asked = {
        (kind, container[kind]["httpGet"]["path"])
        for _, _, spec in pods(documents(GOOD["production"]))
        for container in spec["containers"]
        for kind in ("startupProbe", "livenessProbe", "readinessProbe")
        if kind in container
    }
    assert asked == {("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")}
    import aiohttp

    server = HealthServer(lambda: True, lambda: True, lambda: b"")
    await server.start("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession() as session:
            for _, path in sorted(asked):
                async with session.get(f"http://127.0.0.1:{server.port}{path}") as answer:
                    assert answer.status == 200, path
    finally:
        await server.stop()


def test_a_rolling_update_leaves_no_gap() -> None:
    """A new worker is there, ready and settled before an old one goes, one by one; each has longer than it needs to end."""
    (deployment,) = [document for document in documents(GOOD["production"]) if document["kind"] == "Deployment"]
    spec = deployment["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert spec["minReadySeconds"] == 15
    from broker.app.worker import STOP_S

    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > 2 * STOP_S


# --- Strimzi


def test_each_login_of_strimzi_is_that_of_the_right_user() -> None:
    """The user whose rights the service has, of the secret that the values name; nothing but the password is mounted."""
    users = {
        "nl-eck-broker": {"exchange": access.WORKER},
        "nl-eck-broker-removal": {"remover": access.REMOVER},
        "topics": {"operator": access.OPERATOR},
        "nl-eck-broker-audit": {
            name: name for name in (access.LOG_BUILDER, access.AUDITOR, access.COUNT_KEEPER, access.AUDIT_SERVICE)
        },
    }
    for owner, _, spec in pods(documents(GOOD["strimzi"])):
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        found = {}
        for container in spec["initContainers"]:
            command = container.get("command", [])
            if "--login" not in command:
                continue
            bootstrap, user = command[command.index("--login") + 1 :][:2]
            assert bootstrap == "exchange-kafka-bootstrap.kafka.svc:9093"
            mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
            login, authority = (mounts[f"/run/mounted/{name}"]["secret"] for name in ("connection", "cluster-ca"))
            assert login["items"] == [{"key": "password", "path": "password"}]
            assert authority["secretName"] == "exchange-cluster-ca-cert"
            assert authority["items"] == [{"key": "ca.crt", "path": "ca.crt"}]
            found[login["secretName"]] = user
        assert found == users["topics" if "-topics-" in owner else owner]


# --- a key store


def test_each_service_with_wrapped_keys_finds_the_key_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment, with the files that are mounted, is a whole setting of the broker; with the key and login of its own."""
    values = GOOD["production"]
    values = {
        **values,
        "keyStore": {**values["keyStore"], "namespace": "chain", "authMount": "ours/auth", "timeoutSeconds": 3},
    }
    found = {}
    for owner, _, spec in pods(documents(values)):
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for container in spec["containers"]:
            environment = {v["name"]: v["value"] for v in container.get("env", []) if "TRANSIT" in v["name"]}
            if not environment:
                assert container["name"] in {"removal", "mirror", "reconciler", "anchor", "count-keeper"}, owner
                continue
            mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
            login = mounts["/run/key-store-login"]
            assert mounts["/etc/eck-broker/key-store"]["configMap"] == {"name": "exchange-key-store-ca"}
            for name, file in environment.items():
                if name.endswith("_FILE"):
                    assert file.rpartition("/")[0] in mounts, name
            authority = DevelopmentCA(tmp_path / container["name"])
            authority.prepare()
            with monkeypatch.context() as patch:
                for name, value in environment.items():
                    patch.setenv(name, str(authority.ca_file) if name == "BROKER_TRANSIT_CA_FILE" else value)
                assert TransitSettings.from_env().wrapping() is not None
            found[container["name"]] = environment["BROKER_TRANSIT_KEY"], login.get("secret", login.get("projected"))
            assert (environment["BROKER_TRANSIT_NAMESPACE"], environment["BROKER_TRANSIT_AUTH_MOUNT"]) == (
                "chain",
                "ours/auth",
            )
    token = {"path": "token", "expirationSeconds": 3600, "audience": "vault.example"}
    of = "exchange-key-store-"
    assert found == {
        "worker": ("exchange-workers", {"defaultMode": 0o440, "sources": [{"serviceAccountToken": token}]}),
        "log-builder": ("exchange-log-builder", {"secretName": f"{of}log-builder", "defaultMode": 0o440}),
        "indexer": ("exchange-workers", {"secretName": f"{of}indexer", "defaultMode": 0o440}),
        "audit-service": ("exchange-workers", {"secretName": f"{of}audit-service", "defaultMode": 0o440}),
    }


@pytest.mark.parametrize(
    ("login", "ending"), [({"appRoleSecret": "role"}, "SECRET_ID_FILE"), ({"tokenSecret": "token"}, "TOKEN_FILE")],
    ids=["app-role", "token"],
)  # fmt: skip
def test_workers_log_in_by_a_file_too(login: dict[str, str], ending: str) -> None:
    """The secret is mounted where its setting says; no token of the service account is then; without a key store neither is."""
    store = {"address": "https://vault.example:8200", "worker": {"key": "workers", **login}}
    for values in ({**GOOD["minimal"], "keyStore": store}, GOOD["minimal"]):
        (spec,) = [spec for owner, _, spec in pods(documents(values)) if owner == "nl-eck-broker"]
        names = {variable["name"] for variable in spec["containers"][0]["env"]}
        assert (f"BROKER_TRANSIT_{ending}" in names) == ("keyStore" in values)
        assert any("TRANSIT" in name for name in names) == ("keyStore" in values)
        assert not any("projected" in volume for volume in spec["volumes"])
        secrets = {volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume}
        assert (set(login.values()) <= secrets) == ("keyStore" in values)


def test_who_asks_the_key_store_may_reach_it_and_nobody_else() -> None:
    """Workers, and the audit's pod when one of its services has keys there; the jobs do not."""

    def reach(values: dict[str, Any]) -> set[str]:
        found = documents(values)
        policies = [document["spec"] for document in found if document["kind"] == "NetworkPolicy"]
        return {
            labels["app.kubernetes.io/component"]
            for _, labels, _ in pods(found)
            for policy in policies
            if policy["podSelector"]["matchLabels"].items() <= labels.items()
            for rule in policy.get("egress", [])
            if {"port": 8200, "protocol": "TCP"} in rule["ports"]
        }

    values = GOOD["production"]
    workers = {
        name: value
        for name, value in values["keyStore"].items()
        if name not in {"logBuilder", "indexer", "auditService"}
    }
    assert reach(values) == {"worker", "audit"}
    assert reach({**values, "keyStore": workers}) == {"worker"}


# --- topics


def test_the_topics_job_is_another_one_when_what_it_does_differs() -> None:
    """A Job can not be changed: its name follows the image, the registry's revision and what it runs, and nothing else."""

    def name(**topics: Any) -> str:
        values = {**GOOD["strimzi"], "topics": {**GOOD["strimzi"]["topics"], **topics}}
        (job,) = [document for document in documents(values) if document["kind"] == "Job"]
        return str(job["metadata"]["name"])

    different = [{}, {"registryRevision": "2"}, {"registry": "other"}, {"applyRegistry": {"enabled": False}}]
    assert len({name(**topics) for topics in different}) == 4
    (again,) = [d for d in documents({**GOOD["strimzi"], "replicas": 5}) if d["kind"] == "Job"]
    assert again["metadata"]["name"] == name()


def test_topics_and_rights_come_before_the_registry() -> None:
    """One container after the other, with the same login; what only a person can decide is not tried again."""
    (job,) = [document for document in documents(GOOD["strimzi"]) if document["kind"] == "Job"]
    spec = job["spec"]["template"]["spec"]
    assert [container["name"] for container in containers(spec)] == ["private-copies", "topics", "registry"]
    commands = [parsed(c["args"], {"BROKER_CONNECTION": "x"}) for c in containers(spec)[1:]]
    assert [command for command, _ in commands] == ["topics apply", "registry apply"]
    assert str(commands[0][1]["registry"]) == str(commands[1][1]["folder"]) == "/etc/eck-broker/registry"
    (rule,) = job["spec"]["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"] == {"containerName": "topics", "operator": "In", "values": [2]}
    assert "Job" not in {document["kind"] for document in documents(GOOD["minimal"])}


# --- values that are refused


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad_values_are_refused_with_a_reason(path: Path) -> None:
    """The first line of each file is what Helm says, so that whoever wrote the values knows what to do."""
    text = path.read_text(encoding="utf-8")
    found = re.match(r"# refused: (.+)\n", text)
    assert found is not None
    with pytest.raises(HelmError, match=found[1]):
        render(yaml.safe_load(text))


def test_all_bad_values_are_there() -> None:
    """What the test above goes through is not empty."""
    assert len(BAD) == 27
