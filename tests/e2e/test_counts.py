"""Counts end to end: parties count by command, the keeper makes leaves of it, and the auditor's reconciler agrees."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiokafka import AIOKafkaProducer
from typer.testing import CliRunner

from broker.app.provision import add_login
from broker.audit.count import Count
from broker.cli import build
from broker.cli.audit import read_topic
from broker.client import Event, Identity, Usage, pupil
from broker.client.counting import count_signer
from broker.demo import auditlog, story
from broker.demo.stage import Stage
from broker.exchange.model import AUDIT_CONTROL
from broker.kafka import access
from broker.kafka.admin import Admin
from broker.registry.registry import record_of
from broker.registry.store import change
from tests.e2e.watch import leaves, outcomes, send

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]
ECK_ID = "https://ketenid.nl/pilot/" + "0e" * 64
PARTIES = (story.PUBLISHER, story.PORTAL)


def broker(scene: Stage, *arguments: str) -> str:
    """A command of a party; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "broker", *arguments, "--profiles", str(scene.home / "profiles")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    return done.stdout


def start_keeper(scene: Stage) -> subprocess.Popen[bytes]:
    """`broker auditlog counts` with the rights of its own user."""
    root, file = scene.kafka.admin_connection(), scene.home / "connections" / "count-keeper.json"
    add_login(Admin(root), root, access.COUNT_KEEPER, file)
    with (scene.home / "count-keeper.log").open("ab") as out:
        command = [
            *(sys.executable, "-m", "broker", "auditlog", "counts"),
            *("--name", auditlog.NAME, "--connection", str(file)),
        ]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    scene.workers.append(process)
    return process


@pytest.fixture(scope="module")
def counted(scene: Stage) -> Stage:
    """A pupil is enrolled, both parties have keys to count with, keeper and log builder run."""
    enrol = Event(
        kind="ENROL", school=story.PO_SCHOOL, sector="PO", subject=pupil(eck_id=ECK_ID, las_key="L0001"), body=Identity()
    )  # fmt: skip

    async def prepare() -> None:
        changes: dict[str, bytes | None] = {}
        for party in PARTIES:
            keys = yaml.safe_load(broker(scene, "party", "count-key", party))["count_keys"]
            entry = scene.registry.parties[party].model_copy(update={"count_keys": tuple(keys)})
            changes[f"party/{party}"] = record_of(entry)
        await change(scene.connections["operator"], changes, operator="test", reason="they count from now on")
        await outcomes(scene, story.SIS, await send(scene, story.SIS, [enrol]))

    asyncio.run(prepare())
    auditlog.start(scene)
    start_keeper(scene)
    return scene


def send_usage(scene: Stage, folder: Path, *frequencies: int) -> None:
    """Usage of that pupil, by the command that counts."""
    lines = [
        Event(
            kind="USE", school=story.PO_SCHOOL, sector="PO", subject=pupil(eck_id=ECK_ID),
            body=Usage(
                entitlement_id=story.new_id(), product_id=story.BOOK, usage_type="WEEKLY_USAGE",
                usage_date=story.today().date(), frequency=frequency,
            ),
        ).json()
        for frequency in frequencies
    ]  # fmt: skip
    file = folder / "events.jsonl"
    file.write_text(
        "".join(f"{json.dumps({n: v for n, v in one.items() if v is not None})}\n" for one in lines), "utf-8"
    )
    broker(scene, "send", story.PUBLISHER, "usage", str(file), "--count", auditlog.NAME)


def receive_usage(scene: Stage, *, group: str = "counted", count: bool = True) -> list[dict[str, Any]]:
    """What the portal gets, by the command that counts."""
    counting = ("--count", auditlog.NAME) if count else ()
    arguments = ("receive", story.PORTAL, "usage", "--json", "--idle", "5", "--group", group, *counting)
    return [json.loads(line) for line in broker(scene, *arguments).splitlines()]


async def counts_in_log(scene: Stage) -> list[Count]:
    """What the keeper wrote, as an auditor reads it."""
    auditor = scene.home / "connections" / "auditor.json"
    control = await read_topic(auditor, AUDIT_CONTROL, 1.0)
    notes = [leaf["count"]["note"] for leaf in control if "count" in leaf]
    return [Count.parse(note.partition("\n\n")[0] + "\n") for note in notes]


async def until_counted(scene: Stage, there: Callable[[list[Count]], object]) -> list[Count]:
    """Wait for leaves of the control log, and until all is signed."""
    async with asyncio.timeout(60):
        while not there(found := await counts_in_log(scene)):
            pass
    control = await read_topic(scene.home / "connections" / "auditor.json", AUDIT_CONTROL, 1.0)
    await asyncio.to_thread(auditlog.until_signed, scene.home, len(await leaves(scene)), len(control))
    return found


def reconcile(scene: Stage) -> tuple[int, list[dict[str, Any]]]:
    """The auditor's command: its exit code, findings and what nobody counted."""
    keys = scene.home / "parties.vkey"
    keys.write_text("".join(f"{count_signer(scene.profile(party)).vkey}\n" for party in PARTIES), "utf-8")
    arguments = ["audit", "reconcile", "--logs", str(scene.home / auditlog.LOGS), "--keys", str(keys), "--json"]
    done = CliRunner().invoke(build("audit"), arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, [json.loads(line) for line in done.stdout.splitlines()]


async def test_what_two_parties_counted_is_what_the_log_says_and_a_false_count_is_found(
    counted: Stage, tmp_path: Path
) -> None:
    """In two runs each, of which the keeper is away for one; who reads in another group counts nothing twice."""
    send_usage(counted, tmp_path, 1, 2, 3)
    assert len(receive_usage(counted)) == 3
    await until_counted(counted, lambda found: len(found) == 2)
    keeper = counted.workers[-1]
    keeper.kill()
    await asyncio.to_thread(keeper.wait)
    send_usage(counted, tmp_path, 4)
    assert len(receive_usage(counted)) == 1
    assert len(receive_usage(counted, group="anew")) == 4
    start_keeper(counted)
    found = await until_counted(counted, lambda found: len(found) == 4)
    assert sorted((count.party, count.first, count.last) for count in found) == [
        (story.PORTAL, 1, 3), (story.PORTAL, 4, 4), (story.PUBLISHER, 0, 2), (story.PUBLISHER, 3, 3),
    ]  # fmt: skip
    code, said = await asyncio.to_thread(reconcile, counted)
    assert code == 0, said
    assert [entry for entry in said if entry["is"] == "finding"] == []
    flows = {entry["flow"].rpartition(" ")[2].partition("/")[0] for entry in said if entry["is"] == "unconfirmed"}
    assert not flows & {f"in.{story.PUBLISHER}", f"out.{story.PORTAL}.usage"}

    send_usage(counted, tmp_path, 5)
    (last,) = receive_usage(counted, count=False)
    profile = counted.profile(story.PORTAL)
    flow = next(count.flow for count in found if count.party == story.PORTAL)
    false = Count(auditlog.NAME, story.PORTAL, flow, last["seq"], last["seq"], bytes(32)).sign(count_signer(profile))
    producer = AIOKafkaProducer(**profile.connection.aiokafka())
    await producer.start()
    try:
        await producer.send_and_wait("audit.counts", false)
    finally:
        await producer.stop()
    await until_counted(counted, lambda found: len(found) == 6)
    code, said = await asyncio.to_thread(reconcile, counted)
    assert code == 1
    assert [(entry["rule"], "counted something else" in entry["sentence"]) for entry in said if entry["is"] == "finding"] == [
        ("R4", True)
    ]  # fmt: skip
