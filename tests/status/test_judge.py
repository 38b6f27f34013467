"""What needs a person: by what was seen, in the words of the alerts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from broker.status import Cluster, Flow, Group, Log, Registered, Seen, Told, findings
from broker.status.judge import ENDS, EVIDENCE_S, MOST_OVERDUE, MOST_QUARANTINED, ONLY_HERE, WORDS

ALERTS = Path(__file__).parents[2] / "helm" / "eck-broker" / "files" / "alerts.yaml"
CLUSTER = Cluster(
    3, 3, (), 0, Group("STABLE", {"a": 2, "b": 1}), {"sis": Flow(2, 0, 0), "pub": Flow(1, 5_000, MOST_OVERDUE)}
)
LOG = Log(7, EVIDENCE_S + 1, ENDS * 3, ENDS * 3, None)  # there are three lanes
WELL = Seen(
    1.0, None, CLUSTER, Registered("sha256:0", 2, 1, 1, ()), {"sis": {"field.form": 10 * MOST_QUARANTINED}},
    {"sis": {"field.form": MOST_QUARANTINED}}, {"sis": 3}, {"x/p0/1": LOG}, Told({}, {}),
)  # fmt: skip
FLOWS = {"sis": Flow(2, 0, 0), "pub": Flow(1, 101, MOST_OVERDUE + 1)}
ILL = {
    "KafkaAway": Seen(1.0, "It does not answer."),
    "a broker is away": replace(WELL, cluster=replace(CLUSTER, brokers=2)),
    "no leader": replace(WELL, cluster=replace(CLUSTER, leaderless=("in.sis/0",))),
    "a copy is behind": replace(WELL, cluster=replace(CLUSTER, behind=1)),
    "NoWorkerReady": replace(WELL, cluster=replace(CLUSTER, group=Group("EMPTY", {}))),
    "LaneStands": replace(WELL, cluster=replace(CLUSTER, group=Group("STABLE", {"a": 2}))),
    "LagStays": replace(WELL, cluster=replace(CLUSTER, flows=FLOWS)),
    "RegistryInvalid": replace(WELL, registry=Registered("", 0, 0, 0, (), "A record can not be read.")),
    "EvidenceLate": replace(WELL, logs={"x/p0/1": replace(LOG, overdue=ENDS * 3 + 1)}),
    "one decision waits": replace(WELL, logs={"x/p0/1": Log(7, 9e3, 2, 2, EVIDENCE_S + 1)}),
    "no log was ever made": replace(WELL, logs={"audit.events/3": Log(0, None, 2, 2, EVIDENCE_S + 1)}),
    "QuarantineJump": replace(WELL, quarantined_lately={"sis": {"pgn.bsn": 1, "field.form": MOST_QUARANTINED}}),
    "InputLost": replace(WELL, told=Told({}, {"in.sis": 3})),
    "IncidentSeen": replace(WELL, told=Told({"pgn.bsn": 2}, {})),
}
OF_KAFKA = ("a broker is away", "no leader", "a copy is behind")
OF_EVIDENCE = ("one decision waits", "no log was ever made")


def test_nothing_is_found_where_all_is_well() -> None:
    """At the very edge too: lag that is young, a log that is old since nothing came, as many in quarantine as may be."""
    assert findings(WELL) == []


def test_ends_of_transactions_alone_are_no_late_evidence() -> None:
    """Workers that come and go on a quiet night leave many behind the last leaf; who may read sees that nothing waits."""
    assert findings(replace(WELL, logs={"x/p0/1": Log(7, 9e3, 5_000, 5_000, 0.0)})) == []


@pytest.mark.parametrize("case", ILL)
def test_one_thing_that_is_not_well_is_one_finding(case: str) -> None:
    """By the name of its alert."""
    (found,) = findings(ILL[case])
    assert found.alert == ("KafkaWeak" if case in OF_KAFKA else "EvidenceLate" if case in OF_EVIDENCE else case)
    assert found.detail


def test_what_a_login_does_not_see_is_not_taken_for_ill_or_well() -> None:
    """An auditor sees no group and no lag: nothing is said of workers."""
    assert findings(Seen(1.0, cluster=replace(CLUSTER, group=None, flows=None), hidden=("flows", "group"))) == []


def test_the_worst_comes_first() -> None:
    """Whatever is critical stands above what can wait for the morning."""
    cluster = replace(CLUSTER, group=Group("EMPTY", {}), flows=FLOWS)
    found = findings(replace(WELL, cluster=cluster, told=Told({"pgn.bsn": 1}, {"in.sis": 1})))
    assert [f.severity for f in found] == ["critical", "critical", "warning", "warning"]


def test_the_words_are_those_of_the_alerts() -> None:
    """Name, severity and sentence: who was called finds the same here, and its runbook."""
    rules = [rule for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]
    alerts = {rule["alert"]: (rule["labels"]["severity"], rule["annotations"]["summary"]) for rule in rules}
    assert {name: words for name, words in WORDS.items() if alerts.get(name) != words} == {
        name: WORDS[name] for name in ONLY_HERE
    }
