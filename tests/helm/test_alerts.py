"""Scenes played against the alert rules, by Prometheus' own engine for queries: each fires when it should, and not else.

Needs Go, and Prometheus' packages once; skipped where there is none, or where they can not be fetched.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from broker.exchange.outcomes import CODES
from tests.examples.programs import BUILD_S, fetch, need_tools
from tests.helm.rendering import CHART

PROGRAM = Path(__file__).parent / "alerts"
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load((CHART / "files" / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
}
SECONDS = {"": 0, "s": 1, "m": 60, "h": 3600}
Play = Callable[..., list[str]]


@dataclass(frozen=True)
class Scene:
    """What Prometheus gets, a sample a minute, and who is called.

    Args:
        load: series in the notation of Prometheus' own tests: `0x60` sixty more zeroes, `_x60` sixty times nothing.
        alert: the rule; it alone is played. fires: whether it does, within `minutes`; with which label.
    """

    alert: str
    load: str
    fires: bool
    minutes: int = 120
    label: str = ""


WORKER = '{job="worker",instance="%s"}'
A, B = WORKER % "a", WORKER % "b"
LOG = '{topic="audit.events",partition="%d"}'

SCENES = {
    "no worker was ever seen": Scene("NoWorkerReady", "other 1x120", fires=True),
    "one of two is ready": Scene(
        "NoWorkerReady", f"broker_worker_ready{A} 0x120\nbroker_worker_ready{B} 1x120", fires=False
    ),
    "the last one goes": Scene("NoWorkerReady", f"broker_worker_ready{A} 1x30 _x90", fires=True),
    "one loads for ever beside another": Scene(
        "WorkerNotReady",
        f"broker_worker_ready{A} 0x120\nbroker_worker_ready{B} 1x120",
        fires=True,
        label='instance="a"',
    ),
    "one loads for some minutes": Scene("WorkerNotReady", f"broker_worker_ready{A} 0x10 1x110", fires=False),
    "a view that loads has no age": Scene("ViewStale", f'broker_view_age_seconds{{view="v",{A[1:]} ' + "Inf " * 121, fires=False),
    "a view that was current grows old": Scene(
        "ViewStale", f'broker_view_age_seconds{{view="v",{A[1:]} 1x10 40+60x50', fires=True, label='view="v"'
    ),
    "a service goes that was there": Scene(
        "ServiceAway", f"up{A} 1x20 0x100\nbroker_build_info{A} 1x20 _x100", fires=True, label='instance="a"'
    ),
    "what is not ours goes": Scene("ServiceAway", "up{job='x',instance='x'} 1x20 0x100", fires=False),
    "a pod was replaced, and its target with it": Scene(
        "ServiceAway",
        f"up{A} 1x20 _x100\nbroker_build_info{A} 1x20 _x100\nup{B} 1x120\nbroker_build_info{B} 1x120",
        fires=False,
    ),
    "lost when a worker starts, before the first scrape": Scene("InputLost", f"broker_lost_records_total{A} _x60 7x60\nbroker_lost_records_created{A} _x60 3500x60", fires=True),
    "lost by a worker that runs": Scene("InputLost", f"broker_lost_records_total{A} 0x60 3x60\nbroker_lost_records_created{A} -90000x120", fires=True),
    "nothing is lost, and a worker comes": Scene(
        "InputLost", f"broker_lost_records_total{A} 0x120\nbroker_lost_records_total{B} _x60 0x60\n"
        f"broker_lost_records_created{A} 0x120\nbroker_lost_records_created{B} _x60 3500x60", fires=False
    ),
    "lost a month ago, and Prometheus was away": Scene(
        "InputLost", f"broker_lost_records_total{A} _x60 7x60\nbroker_lost_records_created{A} _x60 -90000x60", fires=False
    ),
    "a code that nobody had yet, all at once": Scene(
        "QuarantineJump", 'broker_decisions_total{outcome="QUARANTINED",code="c",instance="a"} _x60 60x60\nbroker_decisions_created{outcome="QUARANTINED",code="c",instance="a"} _x60 3500x60', fires=True
    ),
    "an incident that the live count missed": Scene(
        "IncidentSeen",
        'broker_incidents_seen_total 0x120\nbroker_decisions_total{outcome="QUARANTINED",code="pgn.bsn"} _x60 1x60\n'
        'broker_decisions_created{outcome="QUARANTINED",code="pgn.bsn"} _x60 3500x60',
        fires=True,
    ),
    "what is set aside and no incident": Scene(
        "IncidentSeen", 'broker_incidents_seen_total 0x120\nbroker_decisions_total{outcome="QUARANTINED",code="field.form"} 0+1x120', fires=False
    ),
    "what was set aside long ago": Scene(
        "QuarantineJump", 'broker_decisions_total{outcome="QUARANTINED",code="c",instance="a"} 5000x120\nbroker_decisions_created{outcome="QUARANTINED",code="c",instance="a"} -9000x120', fires=False,
        minutes=120,
    ),
    "one a minute": Scene(
        "QuarantineJump", 'broker_decisions_total{outcome="QUARANTINED",code="c",instance="a"} 0+1x120\nbroker_decisions_created{outcome="QUARANTINED",code="c",instance="a"} -9000x120', fires=False
    ),
    "three a minute": Scene(
        "QuarantineJump", 'broker_decisions_total{outcome="QUARANTINED",code="c",instance="a"} 0+3x120\nbroker_decisions_created{outcome="QUARANTINED",code="c",instance="a"} -9000x120', fires=True
    ),
    "input of one party waits": Scene(
        "LagStays",
        'broker_lag_records{topic="in.a",partition="0"} 90x120\nbroker_lag_records{topic="in.a",partition="1"} 20x120\n'
        'broker_lag_records{topic="in.b",partition="0"} 0x120',
        fires=True,
        label='topic="in.a"',
    ),
    "a peak that goes down": Scene("LagStays", 'broker_lag_records{topic="in.a",partition="0"} 5000-500x10 0x110', fires=False),
    "a quiet night": Scene("LatencyHigh", 'broker_end_to_end_seconds_bucket{le="30"} 5x120\nbroker_end_to_end_seconds_bucket{le="+Inf"} 5x120', fires=False),
    "a log that is signed to the moment": Scene(
        "EvidenceLate", f"broker_auditlog_current_timestamp_seconds{LOG % 0} 0+60x120", fires=False
    ),
    "no log builder": Scene("EvidenceLate", "other 1x120", fires=True),
    "one partition that never came so far": Scene(
        "EvidenceLate",
        f"broker_auditlog_current_timestamp_seconds{LOG % 0} 0+60x120\n"
        f"broker_auditlog_current_timestamp_seconds{LOG % 1} 0x120",
        fires=True,
    ),
    "entries had gone when the indexer started": Scene(
        "IndexOld", 'broker_index_lost_total{partition="p"} _x60 1x60\nbroker_index_lost_created{partition="p"} _x60 3500x60\nbroker_index_look_age_seconds _x60 30x60', fires=True
    ),
    "the store is fresh": Scene("IndexOld", "broker_index_look_age_seconds 30x120", fires=False),
    "counts had gone when the keeper started": Scene(
        "CountsWait", "broker_counts_lost_total _x60 4x60\nbroker_counts_lost_created _x60 3500x60\nbroker_counts_behind_records _x60 0x60", fires=True
    ),
    "exporters of many boards, each nearly done": Scene(
        "LogboekBehind",
        "\n".join(f'broker_ldv_lag_records{{topic="t",partition="0",job="ldv",instance="{i}"}} 100x120' for i in range(30)),
        fires=False,
    ),
    "one exporter behind": Scene(
        "LogboekBehind",
        'broker_ldv_lag_records{topic="t",partition="0",job="ldv",instance="a"} 700x120\n'
        'broker_ldv_lag_records{topic="t",partition="1",job="ldv",instance="a"} 700x120',
        fires=True,
        label='instance="a"',
    ),
    "a witness that is away": Scene(
        "WitnessBehind",
        'broker_auditlog_shown_leaves{log="p0-1"} 10+1x240\nbroker_auditlog_cosigned_leaves{log="p0-1",witness="w"} 0x240\n'
        'broker_auditlog_cosigned_leaves{log="p0-1",witness="v"} 9+1x240',
        fires=True,
        minutes=240,
        label='witness="w"',
    ),
    "witnesses that follow a busy log": Scene(
        "WitnessBehind",
        'broker_auditlog_shown_leaves{log="p0-1"} 10+100x240\nbroker_auditlog_cosigned_leaves{log="p0-1",witness="v"} 0+100x240',
        fires=False,
        minutes=240,
    ),
    "a finding before the first scrape": Scene(
        "ReconcilerFinding", 'broker_reconcile_findings_total{rule="R1"} _x60 1x60\nbroker_reconcile_findings_created{rule="R1"} _x60 3500x60', fires=True, label='rule="R1"'
    ),
    "a compaction that nobody began": Scene("CompactionStands", "broker_rolled_timestamp_seconds 18000x800", fires=True, minutes=800),
}  # fmt: skip


def test_every_code_with_an_incident_calls_somebody() -> None:
    """Those of the table of codes, and no other."""
    (pattern,) = set(re.findall(r'code=~"([^"]+)"', RULES["IncidentSeen"]["expr"]))
    asked = {code for code in CODES if re.fullmatch(pattern, code)}
    assert asked == {code for code, meaning in CODES.items() if meaning.incident}


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Play:
    """Plays a scene against its rule; gives the labels of each alert that fires."""
    need_tools("go")
    folder = Path(shutil.copytree(PROGRAM, tmp_path_factory.mktemp("go") / "alerts"))
    fetch(folder, "go", "mod", "download", "github.com/prometheus/prometheus")
    fetch(folder, "go", "build", "-trimpath", "-o", "alerts", ".")

    def played(scene: Scene, rule: dict[str, Any]) -> list[str]:
        number, unit = re.fullmatch(r"(\d*)([smh]?)", rule.get("for", "")).groups()  # type: ignore[union-attr]
        asked = {
            "rules": [{"alert": scene.alert, "expr": rule["expr"], "for_s": int(number or 0) * SECONDS[unit]}],
            "scenes": [{"load": scene.load, "minutes": scene.minutes}],
        }
        done = subprocess.run(
            ("./alerts",), cwd=folder, input=json.dumps(asked), capture_output=True, text=True, check=True, timeout=BUILD_S
        )  # fmt: skip
        return [fired["labels"] for fired in json.loads(done.stdout)[0]]

    return played


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SCENES)
def test_who_is_called_is_called_when_it_is_time(play: Play, name: str) -> None:
    """In each scene the rule fires, with the label that says where; or nobody is called."""
    scene = SCENES[name]
    fired = play(scene, RULES[scene.alert])
    assert bool(fired) == scene.fires
    assert all(scene.label in labels for labels in fired)
