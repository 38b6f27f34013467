"""The chart, rendered with Helm's own library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart

CHART = Path(__file__).parents[2] / "helm" / "eck-broker"
NAME = "broker.example/audit"  # the one value without a default
OF_THE_AUDIT = "audit-"  # templates of the audit begin with it
ALL_ON = {
    "imagePullSecrets": ["pull"],
    "image": {"digest": "sha256:" + "0" * 64},
    "serviceAccount": {"annotations": {"a/b": "c"}},
    "podAnnotations": {"a/b": "c"},
    "podLabels": {"team": "chain"},
    "nodeSelector": {"pool": "kafka"},
    "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoSchedule"}],
    "priorityClassName": "high",
    "audit": {
        "logBuilder": {"witnessPolicy": "witnesses"},
        "reconciler": {"partyKeys": "parties"},
        "countKeeper": {"enabled": True},
        "service": {"enabled": True},
        "persistence": {"existingClaim": "restored", "storageClassName": "fast"},
    },
    "networkPolicy": {
        "kafka": {"ports": [9093, 9094], "to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
        "witnesses": {"ports": [443, 8443], "to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]},
        "auditClients": {"from": [{"ipBlock": {"cidr": "198.51.100.0/24"}}]},
        "metrics": {"podLabels": {"app": "prometheus"}},
    },
}


def named(values: dict[str, Any] | None = None) -> dict[str, Any]:
    """These values, and a name for the logs unless they have one."""
    values = values or {}
    return {**values, "audit": {"name": NAME, **values.get("audit", {})}}


def render(values: dict[str, Any] | None = None, chart: Path = CHART, release: str = "nl") -> dict[str, str]:
    """Templates by file name, as `helm template nl` would print them."""
    with Chart.load(chart) as loaded:
        rendered = loaded.render(named(values), name=release, namespace="exchange")
    return {name.rpartition("/")[2]: text for name, text in rendered.items()}


def by_kind(rendered: dict[str, str], *, of_the_audit: bool) -> dict[str, Any]:
    """Manifests by kind, those of the audit or the others: there is at most one of each."""
    texts = [
        text
        for name, text in rendered.items()
        if name.endswith(".yaml") and name.startswith(OF_THE_AUDIT) == of_the_audit
    ]
    found = [document for text in texts for document in yaml.safe_load_all(text) if document]
    found = [document for document in found if not _of_clients(document)]
    kinds = {document["kind"]: document for document in found}
    assert len(kinds) == len(found)
    return kinds


def containers(spec: Any) -> list[Any]:
    """All containers of a pod, those that prepare included."""
    return [*spec["initContainers"], *spec["containers"]]


def _of_clients(document: Any) -> bool:
    return bool(document["metadata"]["labels"].get("app.kubernetes.io/component") == "audit-clients")


def clients_service(values: dict[str, Any] | None = None) -> Any:
    """The Service that boards and parties come to, if there is one."""
    text = render(values).get("audit-clients-service.yaml", "")
    return yaml.safe_load(text)


def audit(values: dict[str, Any] | None = None, chart: Path = CHART, release: str = "nl") -> dict[str, Any]:
    """Manifests of the audit by kind."""
    return by_kind(render(values, chart, release), of_the_audit=True)


def audit_pod(values: dict[str, Any] | None = None) -> Any:
    """The specification of the audit's pod."""
    return audit(values)["StatefulSet"]["spec"]["template"]["spec"]
