"""The vault's secrets are replaced by the operator's command while a worker is under load, on a real Kafka."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from broker.app.provision import add_login
from broker.client import Event, Identity, Subject, Usage
from broker.demo import story
from broker.demo.stage import Stage
from broker.exchange.keys import vault_cipher
from broker.exchange.model import VAULT
from broker.identity.vault import RECORDS
from broker.kafka.access import KEY_ROTATOR
from broker.kafka.admin import Admin
from broker.keys import FileKeys, numbers
from tests.e2e.watch import outcomes, raw, send

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

PUPILS, ERASED, ROUND = 300, 20, 40


def eck_id(number: int) -> str:
    """Of an invented pupil."""
    return f"https://ketenid.nl/pilot/{number + 0x1000:0128x}"


def identity(number: int, kind: str = "ENROL") -> Event:
    """An event about one of the pupils."""
    subject = Subject("PUPIL", eck_id(number), (("LAS_KEY", f"R{number:05}"),))
    return Event(kind=kind, school=story.PO_SCHOOL, sector="PO", subject=subject, body=Identity())


def use(number: int) -> Event:
    """A supplier's event about one of them, who must be found in the vault."""
    body = Usage(
        entitlement_id=story.new_id(), product_id=story.BOOK, usage_type="WEEKLY_USAGE",
        usage_date=story.today().date(), frequency=1,
    )  # fmt: skip
    return Event(kind="USE", school=story.PO_SCHOOL, sector="PO", subject=Subject("PUPIL", eck_id(number)), body=body)


def command(scene: Stage, *arguments: str) -> list[str]:
    """`broker keys rotate vault` as the operator runs it."""
    return [
        sys.executable, "-m", "broker", "keys", "rotate", "vault", "--keys", str(scene.home / "keys"), "--json",
        "--connection", str(scene.home / "connections" / "operator.json"), "--grace", "12", *arguments,
    ]  # fmt: skip


def killed_at(scene: Stage, step: str, times: int = 1) -> None:
    """Run it, and kill -9 it once it has told this step so many times; it must not have ended before."""
    process = subprocess.Popen(command(scene), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        for told in steps(process.stdout):
            times -= told == step
            if not times:
                break
        process.kill()
    assert not times, f"it ended before: {process.returncode}"


def steps(lines: Iterator[str]) -> Iterator[str]:
    """What it tells, without partitions in which nothing is old."""
    for line in lines:
        told = json.loads(line)
        if told["step"] != "partition" or told["older"]:
            yield told["step"]


async def test_the_vaults_secret_is_replaced_under_load_though_the_command_is_killed(scene: Stage) -> None:
    """Killed before the newer one is in use, amid the rewriting and before the end; each time it goes on. Meanwhile no
    event is lost and nobody is not found; who is erased amid it stays erased; the older secret is gone at the end, and
    everybody else is found, under the newer one alone. Begin and end stand in the audit."""
    admin = scene.kafka.admin_connection()
    add_login(Admin(admin), admin, KEY_ROTATOR, scene.home / "connections" / f"{KEY_ROTATOR}.json")
    keys = FileKeys(scene.home / "keys")
    enrolments = [identity(number) for number in range(PUPILS)]
    await outcomes(scene, story.SIS, await send(scene, story.SIS, enrolments))

    told: dict[str, list[str]] = {}
    ended = asyncio.Event()

    async def load() -> None:
        done = 0
        while not ended.is_set():
            start = ERASED + done % (PUPILS - ERASED - ROUND)
            mine = range(start, start + ROUND)
            for party, events in (
                (story.SIS, [identity(number, "CHANGE") for number in mine]),
                (story.PUBLISHER, [use(number) for number in mine]),
            ):
                sent = await send(scene, party, events)
                found = await outcomes(scene, party, sent)
                told.update({one.event_id: [r.code for s in found[one.event_id] for r in s.results] for one in sent})
            done += ROUND

    async def rotation() -> None:
        await asyncio.to_thread(killed_at, scene, "made")
        await asyncio.to_thread(killed_at, scene, "partition")
        erased = [identity(number, "ERASE") for number in range(ERASED)]
        await outcomes(scene, story.SIS, await send(scene, story.SIS, erased))
        await asyncio.to_thread(killed_at, scene, "rewritten")
        last = await asyncio.to_thread(subprocess.run, command(scene), capture_output=True, text=True, check=False)
        assert last.returncode == 0, last.stderr

    loading = asyncio.create_task(load())
    try:
        await rotation()
    finally:
        ended.set()
    await loading

    assert numbers(keys, RECORDS) == (2,)
    codes = Counter(code for found in told.values() for code in found)
    assert all(told.values())
    assert codes.keys() <= {"ok", "ok.vault"}, codes
    asked = await send(scene, story.PUBLISHER, [use(number) for number in range(PUPILS)])
    answers = await outcomes(scene, story.PUBLISHER, asked)
    unknown = {
        number
        for number, one in enumerate(asked)
        if {r.code for s in answers[one.event_id] for r in s.results} == {"subject.unknown"}
    }
    assert unknown == set(range(ERASED))

    cipher = vault_cipher(keys)
    cipher.use(2, 1)
    newest = {record.key: record.value async for record in raw(admin, lambda topic: topic == VAULT)}
    standing = {key: value for key, value in newest.items() if value is not None}
    assert not any(cipher.is_older(key, value) for key, value in standing.items())
    assert {cipher.decrypt(key, value).eck_id for key, value in standing.items()} == {
        eck_id(number) for number in range(ERASED, PUPILS)
    }
    changes = [
        leaf["control"]
        async for record in raw(scene.connections["auditor"], lambda topic: topic == "audit.control")
        if (leaf := json.loads(record.value)).get("control", {}).get("key") == f"key/{RECORDS}"
    ]
    assert [change["after"]["older"] for change in changes] == [[RECORDS], []]
