"""Dashboard, alert rules and their runbooks: they name what exists, and each alert leads somewhere."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import typer.main
import yaml

from broker.app.metricpage import Described, everything
from broker.cli import build
from tests.helm.rendering import CHART, render

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((CHART / "files" / "dashboards" / "eck-broker.json").read_text(encoding="utf-8"))
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: {**rule, "group": group["name"]}
    for group in yaml.safe_load((CHART / "files" / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
}
RUNBOOKS = ROOT / "docs" / "runbooks"
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in sorted(RUNBOOKS.glob("*.md")) if page.stem != "README"}
CHAPTERS = ("What it means for schools and suppliers", "How to look", "What to do", "When it is over")
OF_PROMETHEUS = {"instance", "job", "le", "pod", "namespace"}
KNOWN: dict[str, Described] = {
    series: metric for metrics in everything().values() for metric in metrics for series in metric.series
} | {"up": Described("up", "gauge", (), "Made by Prometheus: whether a target answered.")}
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"] if panel["type"] != "row"}


def nodes(query: str) -> Iterator[Any]:
    """All parts of a query, as Prometheus' grammar has it."""
    found: list[Any] = []
    promql_parser.walk(promql_parser.parse(query.replace("$__rate_interval", "1m")), found.append)
    return iter(found)


def unknown(query: str) -> set[str]:
    """Metrics and labels of a query that no service has."""
    wrong, labels = set[str](), set(OF_PROMETHEUS)
    parts = list(nodes(query))
    for part in parts:
        if isinstance(part, promql_parser.VectorSelector):
            metric = KNOWN.get(part.name)
            asked = {matcher.name for matcher in part.matchers.matchers}
            wrong |= {part.name} if metric is None else asked - {*metric.labels, *OF_PROMETHEUS}
            labels |= set() if metric is None else set(metric.labels)
    for part in parts:
        if isinstance(part, promql_parser.AggregateExpr) and part.modifier is not None:
            wrong |= set(part.modifier.labels) - labels
    return wrong


@pytest.mark.parametrize("name", RULES)
def test_an_alert_asks_for_what_services_tell(name: str) -> None:
    """Its query is PromQL; each metric and label of it stands in the table of metrics."""
    assert unknown(RULES[name]["expr"]) == set()


@pytest.mark.parametrize("title", PANELS)
def test_a_panel_asks_for_what_services_tell(title: str) -> None:
    """As an alert; and each panel says what it shows."""
    assert PANELS[title]["description"]
    queries = [target["expr"] for target in PANELS[title]["targets"]]
    assert queries
    assert [(query, unknown(query)) for query in queries if unknown(query)] == []


def test_a_query_for_what_is_not_there_is_found() -> None:
    """What the tests above lean on: an unknown metric, matcher or grouping."""
    assert unknown("rate(broker_nothing_total[5m])") == {"broker_nothing_total"}
    assert unknown('broker_lag_records{party="a"}') == {"party"}
    assert unknown("sum by (party) (broker_lag_records)") == {"party"}
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        unknown("sum by (topic")


@pytest.mark.parametrize("name", RULES)
def test_an_alert_says_what_is_so_and_where_to_read_on(name: str) -> None:
    """Severity, a sentence that is the same each time, and a runbook of its own name with its four chapters."""
    rule = RULES[name]
    notes = rule["annotations"]
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert "{{" not in notes["summary"]
    used = set(re.findall(r"\$labels\.(\w+)", notes["description"]))
    assert all(re.search(rf"by \([^)]*\b{label}\b", rule["expr"]) for label in used)
    assert notes["runbook_url"] == f"docs/runbooks/{name}.md"
    page = PAGES[name]
    assert page.startswith(f"# {name}\n\n{notes['summary']} Severity: {rule['labels']['severity']}.\n")
    assert re.findall(r"^## (.+)$", page, flags=re.MULTILINE) == list(CHAPTERS)
    assert f"| [{name}]({name}.md) | {rule['labels']['severity']} | {notes['summary']} |" in (
        RUNBOOKS / "README.md"
    ).read_text(encoding="utf-8")


def test_there_is_no_runbook_without_an_alert() -> None:
    """A page that nothing leads to would grow old unseen."""
    assert set(PAGES) == set(RULES)


@pytest.mark.parametrize("name", PAGES)
def test_what_a_runbook_names_exists(name: str) -> None:
    """Its commands, the names of log lines, its links, and its metrics."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "broker").rglob("*.py"))
    quoted = re.findall(r"`([^`]+)`", PAGES[name].replace("\n  ", " "))
    for text in quoted:
        if text.startswith("broker "):
            assert command_exists(shlex.split(text)[1:]), text
        elif text.startswith("broker_"):
            assert text.partition("{")[0] in {*KNOWN, *(metric.name for metric in KNOWN.values())}, text
        elif re.fullmatch(r"[a-z]+\.[a-z_]+(\.[a-z_]+)?", text) and not text.endswith(".json"):
            kinds = text.replace("witness.fork", "witness.").replace("witness.unproven", "witness.")
            assert kinds in source or text in (CHART / "values.yaml").read_text(encoding="utf-8") or in_values(text), (
                text
            )
    for link in re.findall(r"\]\(([^)#]+)\)", PAGES[name]):
        assert (RUNBOOKS / link).is_file(), link


def command_exists(words: list[str]) -> bool:
    """Whether these words begin with a command or a group of the command line."""
    command: Any = typer.main.get_command(build())
    for depth, word in enumerate(words):
        if not hasattr(command, "commands"):
            return True
        if word not in command.commands:
            return depth > 0 and word.startswith("-")
        command = command.commands[word]
    return True


def in_values(name: str) -> bool:
    """Whether the chart has this value."""
    node: Any = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    for part in name.split("."):
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return True


# ---- the chart


def rule(values: dict[str, Any], chart: Path) -> Any:
    """The PrometheusRule, if one is made."""
    return yaml.safe_load(render(values, chart).get("prometheusrule.yaml", ""))


def test_the_chart_brings_the_rules_where_prometheus_operator_is(every_api: Path) -> None:
    """All of them, each about this release's namespace only; with where runbooks are read and the labels to be found by."""
    on = {"enabled": True, "labels": {"release": "prometheus"}, "runbooks": "https://git.example/eck-broker/"}
    found = rule({"prometheusRule": on}, every_api)
    rules = {each["alert"]: each for group in found["spec"]["groups"] for each in group["rules"]}
    assert found["metadata"]["labels"]["release"] == "prometheus"
    assert rules.keys() == RULES.keys()
    for name, each in rules.items():
        assert each["annotations"]["runbook_url"] == f"https://git.example/eck-broker/docs/runbooks/{name}.md"
        for key in ("for", "labels"):
            assert each.get(key) == RULES[name].get(key)
        selectors = [part for part in nodes(each["expr"]) if isinstance(part, promql_parser.VectorSelector)]
        for part in selectors:
            assert ("namespace", "exchange") in {(m.name, m.value) for m in part.matchers.matchers}, each["expr"]
        whole = re.sub(r'namespace="exchange",?', "", each["expr"]).replace("{}", "")
        assert promql_parser.parse(whole).prettify() == promql_parser.parse(RULES[name]["expr"]).prettify()
    assert rule({"prometheusRule": on}, CHART) is None  # a cluster without the CRD
    assert rule({}, every_api) is None


def test_without_the_audit_its_alerts_are_left_out(every_api: Path) -> None:
    """Nobody is called since there is no log builder where none is to be."""
    found = rule({"prometheusRule": {"enabled": True}, "audit": {"enabled": False}}, every_api)
    assert [group["name"] for group in found["spec"]["groups"]] == ["eck-broker"]


def test_the_chart_brings_the_dashboard_for_grafanas_sidecar() -> None:
    """The same JSON in a ConfigMap that its sidecar looks for; none unless asked for."""
    found = yaml.safe_load(render({"grafanaDashboard": {"enabled": True}})["dashboard-configmap.yaml"])
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(found["data"]["eck-broker.json"]) == DASHBOARD
    assert not render().get("dashboard-configmap.yaml", "").strip()


def test_panels_of_the_dashboard_lie_beside_each_other() -> None:
    """Within 24 columns, none over another; each asks the data source that is chosen above."""
    places = [(panel["title"], panel["gridPos"]) for panel in DASHBOARD["panels"]]
    assert all(place["x"] + place["w"] <= 24 for _, place in places)
    assert [(a, b) for (a, one), (b, other) in combinations(places, 2) if overlap(one, other)] == []
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert {panel["datasource"]["uid"] for panel in PANELS.values()} == {"${datasource}"}


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    """Whether two panels share a place."""
    return all(
        one[at] < other[at] + other[size] and other[at] < one[at] + one[size] for at, size in (("x", "w"), ("y", "h"))
    )
