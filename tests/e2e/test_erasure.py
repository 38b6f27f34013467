"""A person is erased on a real Kafka: by the commands that school, operator and auditor give; the receipt verifies alone."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from broker.audit import verify
from broker.audit.leaf import lookup_tag
from broker.audit.store import Store, Wanted
from broker.cli import build
from broker.client import Event, Identity, Subject
from broker.demo import auditlog, story
from broker.demo.stage import Stage
from broker.exchange.keys import ExchangeKeys
from broker.exchange.model import AUDIT_EVENTS, VAULT
from broker.identity.vault import VaultRecord
from broker.keys import FileKeys
from tests.e2e.test_client import use
from tests.e2e.watch import leaves, outcomes, raw, send

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

ECK_IDS = [f"https://ketenid.nl/pilot/{number:0128x}" for number in (0xE1, 0xB2)]


def enrolment(number: int, kind: str = "ENROL") -> Event:
    """Of one of two pupils."""
    subject = Subject("PUPIL", ECK_IDS[number], (("LAS_KEY", f"W{number:04}"),))
    return Event(kind=kind, school=story.PO_SCHOOL, sector="PO", subject=subject, body=Identity())


def decided(scene: Stage, party: str, *events: Event) -> list[str]:
    """Send and wait for the decisions; their codes."""

    async def work() -> list[str]:
        sent = await send(scene, party, list(events))
        told = await outcomes(scene, party, sent)
        return [result.code for one in sent for result in told[one.event_id][-1].results]

    return asyncio.run(work())


def people(scene: Stage) -> dict[str | None, VaultRecord]:
    """Who stands in the vault's topic, by ECK iD: the newest of each key."""
    vault = ExchangeKeys(FileKeys(scene.home / "keys")).vault

    async def work() -> dict[bytes, bytes | None]:
        root = scene.kafka.admin_connection()
        return {record.key: record.value async for record in raw(root, lambda topic: topic == VAULT)}

    found = [vault.decrypt(key, value) for key, value in asyncio.run(work()).items() if value is not None]
    return {record.eck_id: record for record in found}


def run(scene: Stage, command: str, *arguments: object) -> Result:
    """A command of the auditor."""
    logs = ("--logs", str(scene.home / auditlog.LOGS), "--store", str(scene.home / "audit.db"))
    done = CliRunner().invoke(build("audit"), ["audit", command, *map(str, arguments), *logs])
    assert done.exit_code == 0, (done.output, done.exception)
    return done


def signed(scene: Stage) -> None:
    """Wait for the log to hold all that was decided, and read it and the index into the store."""

    async def all_of(topic: str) -> int:
        return len([None async for _ in raw(scene.connections["auditor"], lambda name: name == topic)])

    auditlog.until_signed(scene.home, asyncio.run(all_of(AUDIT_EVENTS)), 0)
    connection = scene.home / "connections" / "auditor.json"
    run(scene, "index", "--connection", connection, "--keys", scene.home / "keys")


def test_a_person_is_erased_with_a_receipt(scene: Stage, tmp_path: Path) -> None:
    """Merged, delivered, erased: the vault has a tombstone and the store no row, of both enrolments; the other pupil
    stays, old logs are beginnings of the new ones, and the receipt verifies with the published key and nothing else."""
    auditlog.start(scene)
    twin = Subject("PUPIL", None, (("LAS_KEY", "W0009"),))
    assert decided(
        scene, story.SIS, enrolment(0), enrolment(1), replace(enrolment(0), subject=twin)
    ) == ["ok.vault"] * 3  # fmt: skip
    uses = [replace(use(n), subject=Subject("PUPIL", ECK_IDS[n])) for n in (0, 1)]
    assert "ok" in decided(scene, story.PUBLISHER, *uses, replace(use(2), subject=twin))
    both = replace(enrolment(0).subject, previous_user_ids=twin.user_ids)
    assert decided(scene, story.SIS, replace(enrolment(0, "MERGE"), subject=both)) == ["ok.vault"]
    signed(scene)
    vault = people(scene)
    emma, noah = vault[ECK_IDS[0]], vault[ECK_IDS[1]]
    assert len(emma.subject_keys) == 2

    def found(person: VaultRecord) -> list[int]:
        with Store(scene.home / "audit.db") as store:
            return [len(store.find(Wanted(tag=lookup_tag(key)))) for key in person.subject_keys]

    assert all(found(emma)), found(emma)
    before, (others,) = {f: checkpoint.size for f, checkpoint in auditlog.checkpoints(scene.home).items()}, found(noah)
    old = tmp_path / "old"
    old.mkdir()
    for folder in before:
        (old / folder).write_bytes((scene.home / auditlog.LOGS / folder / "checkpoint").read_bytes())

    erase = enrolment(0, "ERASE")
    assert decided(scene, story.SIS, erase) == ["ok.vault"]
    assert set(decided(scene, story.PUBLISHER, replace(use(3), subject=uses[0].subject))) == {"subject.unknown"}
    signed(scene)

    assert people(scene).keys() == {ECK_IDS[1]}
    assert found(emma) == [0, 0]
    assert found(noah) == [others]
    stored = b"".join(path.read_bytes() for path in scene.home.glob("audit.db*"))
    assert not any(lookup_tag(key) in stored for key in emma.subject_keys)
    evidence = [leaf["x"] for leaf in asyncio.run(leaves(scene)) if leaf["x"]["event"] == erase.event_id]
    assert [(x["kind"], x["code"]) for x in evidence] == [("ERASE", "ok.vault")]

    receipt = tmp_path / "erased.tlog-proof"
    run(scene, "erasure", erase.event_id, "--out", receipt)
    vkeys = [path.read_text("utf-8").strip() for path in (scene.home / auditlog.LOGS).glob("*/log.vkey")]
    keys = tmp_path / "published.vkeys"
    keys.write_text("\n".join(vkeys), "utf-8")
    alone = [sys.executable, "-I", verify.__file__]
    done = subprocess.run(
        [*alone, "receipt", str(receipt), "--key-file", str(keys)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert erase.event_id in done.stdout
    said = json.dumps(done.stdout)
    assert not any(name in said for name in (*ECK_IDS, "W0000", "W0009"))
    olds = [argument for folder in before for argument in ("--old", str(old / folder))]
    logs = str(scene.home / auditlog.LOGS)
    done = subprocess.run([*alone, "log", logs, *olds], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
