"""Prometheus and Grafana of the compose file: what they ask, load and show. Neither was run: their files are read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.commands import parsed
from tests.helm.compose import HOME, SERVICES, TREE

PROMETHEUS = yaml.safe_load((TREE / "compose" / "prometheus.yaml").read_text(encoding="utf-8"))
PROVISIONING = TREE / "compose" / "grafana"
DASHBOARDS = TREE / "helm" / "eck-broker" / "files" / "dashboards"
ALERTS = TREE / "helm" / "eck-broker" / "files" / "alerts.yaml"


def on_host(service: str, path: str) -> Path:
    """The file of this tree that a service sees under a path."""
    for mount in SERVICES[service]["volumes"]:
        source, _, target = mount.removesuffix(":ro").partition(":")
        if source.startswith("./") and Path(path).is_relative_to(target):
            return TREE / source / Path(path).relative_to(target)
    raise AssertionError(f"{service} has no {path}")


def loaded(folder: str, kind: str) -> Any:
    """The one thing that a file of Grafana's provisioning brings."""
    (file,) = (PROVISIONING / folder).iterdir()
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert document["apiVersion"] == 1
    (one,) = document[kind]
    return one


def test_prometheus_asks_every_service_that_tells_something() -> None:
    """All ports of probes and metrics are targets, but for the audit service, which is off unless asked for."""
    told = set()
    for name, service in SERVICES.items():
        if "profiles" not in service and ("worker" in name or "--http" in service.get("command", ())):
            _, options = parsed(service["command"], service.get("environment"))
            port = options.get("http") or int(service["environment"]["BROKER_HTTP_PORT"])
            told.add((name.removesuffix("-1").removesuffix("-2"), f"127.0.0.1:{port}"))
    jobs = {(job["job_name"], job["static_configs"][0]["targets"]) for job in _frozen(PROMETHEUS["scrape_configs"])}
    assert {(name, target) for name, targets in jobs for target in targets} == told
    assert len(told) == 6


def _frozen(jobs: Any) -> Any:
    assert all(set(job) == {"job_name", "static_configs"} for job in jobs)
    return [
        {**job, "static_configs": [{"targets": tuple(each["targets"])} for each in job["static_configs"]]}
        for job in jobs
    ]


def test_prometheus_reads_the_files_that_are_mounted_and_listens_on_loopback() -> None:
    """Its configuration, the chart's own rules, and a folder that is its volume."""
    options = dict(word.removeprefix("--").split("=", 1) for word in SERVICES["prometheus"]["command"])
    assert on_host("prometheus", options["config.file"]) == TREE / "compose" / "prometheus.yaml"
    assert [on_host("prometheus", rules) for rules in PROMETHEUS["rule_files"]] == [ALERTS]
    assert options["storage.tsdb.path"] == f"{HOME}/prometheus"
    assert options["web.listen-address"] == "127.0.0.1:9090"
    assert not {"web.enable-admin-api", "web.enable-lifecycle"} & set(options)
    assert loaded("datasources", "datasources")["url"] == f"http://{options['web.listen-address']}"


def test_grafana_lets_nobody_in_without_a_login_of_its_own() -> None:
    """No anonymous visitor, no sign-up, and its password comes from a file that is made at the first start."""
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == environment["GF_USERS_ALLOW_SIGN_UP"] == "false"
    assert environment["GF_SECURITY_ADMIN_PASSWORD__FILE"] == f"{HOME}/grafana-admin/password"
    assert "GF_SECURITY_ADMIN_PASSWORD" not in environment


def test_the_rules_are_those_of_the_chart() -> None:
    """Prometheus would not start on a file that is missing or is no rule file: groups of alerts, each with a name."""
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    assert groups
    for group in groups:
        assert {"name", "rules"} <= set(group)
        assert all({"alert", "expr"} <= set(rule) or {"record", "expr"} <= set(rule) for rule in group["rules"])


def test_the_dashboards_are_those_of_the_chart() -> None:
    """Grafana loads them from where they are mounted, and they ask the data source that is there."""
    provider = loaded("dashboards", "providers")
    assert on_host("grafana", provider["options"]["path"]) == DASHBOARDS
    source = loaded("datasources", "datasources")
    files = sorted(DASHBOARDS.glob("*.json"))
    assert files
    for file in files:
        text = file.read_text(encoding="utf-8")
        named = set(re.findall(r'"uid": "([^"]+)"', json.dumps(_datasources(json.loads(text)))))
        assert named <= {source["uid"], "${datasource}", "-- Grafana --", "grafana"}


def _datasources(node: Any) -> list[Any]:
    """All data sources that a dashboard names."""
    if isinstance(node, dict):
        here = [node["datasource"]] if isinstance(node.get("datasource"), dict) else []
        return here + [found for child in node.values() for found in _datasources(child)]
    return [found for child in node for found in _datasources(child)] if isinstance(node, list) else []


@pytest.mark.parametrize("service", ["prometheus", "grafana"])
def test_images_of_others_have_a_version(service: str) -> None:
    """Neither `latest` nor a major version alone: what runs is what was read."""
    assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", SERVICES[service]["image"])
