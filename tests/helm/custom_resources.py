"""What the chart may write into resources that only some clusters know: closed, so that a misspelt field is noticed.

Written by hand, for the fields that the chart uses, after the definitions of KEDA 2.x (`keda.sh/v1alpha1`) and of the Prometheus
operator (`monitoring.coreos.com/v1`), whose API servers drop unknown fields without a word.
"""

from __future__ import annotations

from typing import Any

TEXT = {"type": "string", "minLength": 1}
WHOLE = {"type": "integer", "minimum": 0}
DURATION = {"type": "string", "pattern": "^[1-9][0-9]*(s|m|h)$"}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}


def closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """An object with these fields and no others; those that are not named as optional are required."""
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": list(required)}


def listed(items: dict[str, Any]) -> dict[str, Any]:
    """At least one of them."""
    return {"type": "array", "items": items, "minItems": 1}


def resource(api_version: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A namespaced resource."""
    metadata = closed({"name": TEXT, "namespace": TEXT, "labels": TEXTS, "annotations": TEXTS}, "name", "namespace")
    fields = {"apiVersion": {"const": api_version}, "kind": TEXT, "metadata": metadata, "spec": spec}
    return closed(fields, *fields)


_RULE = closed(
    {
        "type": {"enum": ["Pods", "Percent"]},
        "value": {"type": "integer", "minimum": 1},
        "periodSeconds": {"type": "integer", "minimum": 1, "maximum": 1800},
    },
    "type",
    "value",
    "periodSeconds",
)
_SCALING = closed({"stabilizationWindowSeconds": {**WHOLE, "maximum": 3600}, "policies": listed(_RULE)})
_TRIGGER = closed(
    {"type": {"const": "kafka"}, "metadata": TEXTS, "authenticationRef": closed({"name": TEXT}, "name")},
    "type",
    "metadata",
    "authenticationRef",
)
_SELECTOR = closed({"matchLabels": TEXTS}, "matchLabels")
_ENDPOINT = closed({"port": TEXT, "path": TEXT, "interval": DURATION}, "port", "path")
_ALERT = closed(
    {"alert": TEXT, "record": TEXT, "expr": TEXT, "for": DURATION, "labels": TEXTS, "annotations": TEXTS}, "expr"
)
_GROUP = closed({"name": TEXT, "interval": DURATION, "rules": listed(_ALERT)}, "name", "rules")

SCHEMAS = {
    "ScaledObject": resource(
        "keda.sh/v1alpha1",
        closed(
            {
                "scaleTargetRef": closed({"name": TEXT}, "name"),
                "pollingInterval": WHOLE,
                "minReplicaCount": WHOLE,
                "maxReplicaCount": WHOLE,
                "advanced": closed(
                    {
                        "horizontalPodAutoscalerConfig": closed(
                            {"behavior": closed({"scaleUp": _SCALING, "scaleDown": _SCALING})}
                        )
                    }
                ),
                "triggers": listed(_TRIGGER),
            },
            "scaleTargetRef",
            "triggers",
        ),
    ),
    "ServiceMonitor": resource(
        "monitoring.coreos.com/v1",
        closed(
            {
                "selector": _SELECTOR,
                "namespaceSelector": closed({"matchNames": listed(TEXT)}),
                "endpoints": listed(_ENDPOINT),
            },
            "selector",
            "endpoints",
        ),
    ),
    "PrometheusRule": resource("monitoring.coreos.com/v1", closed({"groups": listed(_GROUP)}, "groups")),
}
