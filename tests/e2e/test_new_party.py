"""A party is let in while the exchange runs: by the commands that an operator types, without a restart."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from broker.client import Event, Subject, Usage
from broker.data import data_path
from broker.demo import story
from broker.demo.stage import Stage
from tests.e2e.watch import outcomes, send

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]
NEWCOMER = "uitgeverij-zuid"
SERVED_WITHIN_SECONDS = 60


async def test_a_party_added_while_workers_run_is_served_without_a_restart(scene: Stage, tmp_path: Path) -> None:
    """`party add`, `registry apply`, `topics apply`; then its first event is decided within a minute."""
    operator = ("--connection", str(scene.home / "connections" / "operator.json"))
    registry = tmp_path / "registry"
    shutil.copytree(data_path("examples") / "registry", registry)
    printed = _broker("party", "add", NEWCOMER, *operator, "--profiles", str(scene.home / "profiles"))
    party = yaml.safe_load(printed) | {
        "name": "Uitgeverij West", "roles": ["PUBLISHER"], "covenant": "deelnemer",
        "eck_id_attested_on": "2026-09-01", "processor_url": "https://uitgeverij-zuid.example/",
    }  # fmt: skip
    (registry / "west.yaml").write_text(yaml.safe_dump({"parties": [party]}), "utf-8")
    assert _broker("registry", "plan", str(registry), *operator, code=2)
    _broker("registry", "apply", str(registry), *operator, "--reason", "a new publisher")
    _broker("topics", "apply", "--registry", str(registry), *operator)
    started = time.monotonic()
    event = Event(
        kind="USE", school=story.PO_SCHOOL, sector="PO", subject=Subject(),
        body=Usage(
            entitlement_id=story.new_id(), product_id=story.BOOK, usage_type="WEEKLY_USAGE",
            usage_date=story.today().date(),
        ),
    )  # fmt: skip
    told = await outcomes(scene, NEWCOMER, await send(scene, NEWCOMER, [event]))
    assert time.monotonic() - started < SERVED_WITHIN_SECONDS
    assert [r.code for s in told[event.event_id] for r in s.results] == ["school.not_yours"], "it has no agreement yet"
    _broker("topics", "plan", "--registry", str(registry), *operator)  # exit code 0: nothing differs
    assert all(worker.poll() is None for worker in scene.workers)


def _broker(*arguments: str, code: int = 0) -> str:
    done = subprocess.run([sys.executable, "-m", "broker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout
