"""The indexer as a service beside a real Kafka, worker and log builder."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.audit.query import Query
from broker.audit.signed import keys_beside_logs
from broker.audit.store import Store, Wanted
from broker.client import Event, Identity, Usage, pupil
from broker.demo import auditlog, story
from broker.demo.stage import Stage
from broker.kafka.machine import free_ports
from tests.e2e.watch import leaves, outcomes, send

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]
PATIENCE_S = 60.0


@dataclass
class Indexer:
    """The process, and its store."""

    process: subprocess.Popen[bytes]
    port: int
    store: Path
    said: Path

    def metrics(self) -> dict[str, float]:
        """Sums over the labels, by name; none before it listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return {}
        found: dict[str, float] = {}
        for line in lines:
            match = re.fullmatch(r"(broker_index_\w+?)(?:\{.*\})? (\S+)", line)
            if match:
                found[match[1]] = found.get(match[1], 0) + float(match[2])
        return found

    def until(self, decisions: int, persons: list[int]) -> None:
        """Wait until so many decisions are in the store, and so many leaves of each person."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            measured = self.metrics()
            if measured.get("broker_index_entries_total") and not measured["broker_index_waiting_entries"]:
                with Store(self.store) as store:
                    if len(store.find(Wanted(most=10_000))) == decisions and self.persons() == persons:
                        return
            assert self.process.poll() is None, self.said.read_text()
            assert time.monotonic() < deadline, self.said.read_text()
            time.sleep(0.2)

    def persons(self) -> list[int]:
        """How many leaves each person has."""
        with closing(sqlite3.connect(self.store)) as store:
            return [count for (count,) in store.execute("SELECT count(*) FROM tags GROUP BY tag ORDER BY 1")]


@pytest.fixture
def index(scene: Stage, tmp_path: Path) -> Iterator[Indexer]:
    """It has the auditor's login, and of the keys none but that of the schools."""
    auditlog.start(scene)
    keys = tmp_path / "school-keys"
    keys.mkdir(mode=0o700)
    shutil.copy(scene.home / "keys" / "school-keys.secret", keys)
    port, said, store = free_ports(1), tmp_path / "index.log", tmp_path / "audit.db"
    command = [
        sys.executable, "-m", "broker", "auditlog", "index", "--logs", str(scene.home / auditlog.LOGS),
        "--store", str(store), "--connection", str(scene.home / "connections" / "auditor.json"),
        "--keys", str(keys), "--every", "1", "--http", str(port),
    ]  # fmt: skip
    with said.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        yield Indexer(process, port, store, said)
        process.terminate()
        assert process.wait(60) == 0, said.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def enrolled(key: str, eck_id: str) -> Event:
    """A pupil's enrolment."""
    subject = pupil(eck_id=eck_id, las_key=key)
    return Event(kind="ENROL", school=story.PO_SCHOOL, sector="PO", subject=subject, body=Identity())


def used(eck_id: str) -> Event:
    """A pupil's use of a book."""
    body = Usage(
        entitlement_id=story.new_id(), product_id=story.BOOK, usage_type="WEEKLY_USAGE",
        usage_date=story.today().date(), frequency=1,
    )  # fmt: skip
    return Event(kind="USE", school=story.PO_SCHOOL, sector="PO", subject=pupil(eck_id=eck_id), body=body)


async def about(scene: Stage, key: str, eck_id: str) -> tuple[int, int]:
    """Enrol a pupil who then uses a book; all leaves there are, and those about these two events."""
    sent = []
    for party, event in ((story.SIS, enrolled(key, eck_id)), (story.PUBLISHER, used(eck_id))):
        sent += await send(scene, party, [event])
        await outcomes(scene, party, sent[-1:])
    found, ids = await leaves(scene), {each.event_id for each in sent}
    return len(found), sum(leaf["x"].get("event") in ids for leaf in found)


async def test_the_loop_takes_in_leaves_and_persons_as_they_come(scene: Stage, index: Indexer) -> None:
    """Twice, so that the second time is a look of a process that runs; each decision is found with its proof."""
    first, second = (f"https://ketenid.nl/pilot/{number:0128x}" for number in (0xA1, 0xB2))
    total, mine = await about(scene, "L0001", first)
    assert mine > 0
    index.until(total, [mine])
    before, (total, its) = total, await about(scene, "L0002", second)
    assert total > before
    assert its == mine
    index.until(total, [mine, its])

    logs = scene.home / auditlog.LOGS
    with Store(index.store) as store:
        rows = Query(store, logs, keys_beside_logs(logs)).find(Wanted(most=10_000))
    assert [row.problem for row in rows] == [None] * total
    for secret in (first, second, "L0001", "L0002"):
        assert secret not in index.said.read_text()
