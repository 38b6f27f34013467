"""The vault's secrets are replaced by the operator's command while a worker is under load, on a real Kafka."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.app.provision import add_login
from broker.client import Event, Identity, Subject, Usage
from broker.client.published import broker_kids
from broker.demo import story
from broker.demo.stage import Stage
from broker.exchange.keys import vault_cipher
from broker.exchange.model import VAULT
from broker.identity.vault import RECORDS
from broker.kafka.access import KEY_ROTATOR
from broker.kafka.admin import Admin
from broker.keys import FileKeys, numbers
from broker.rotation.recipient import rotate_recipient, still_needed
from broker.rotation.secrets import Job, read_registry
from tests.e2e.watch import outcomes, raw, send

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

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


def command(scene: Stage, *arguments: str, what: str = "vault") -> list[str]:
    """`broker keys rotate` as the operator runs it."""
    return [
        sys.executable, "-m", "broker", "keys", "rotate", what, "--keys", str(scene.home / "keys"), "--json",
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
        shown = await asyncio.to_thread(subprocess.run, command(scene, "--status"), capture_output=True, check=True)
        assert json.loads(shown.stdout)["records_under_older"], "it was not killed amid the rewriting"
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


class Told:
    """Does not wait: nobody else is here who would have to learn of anything."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def step(self, name: str, text: str) -> None:
        """See Telling."""
        del text
        self.steps.append(name)

    async def wait(self, seconds: float, why: str) -> None:
        """See Telling."""

    def partition(self, number: int, of: int, old: int) -> None:
        """See Progress."""

    def rewritten(self, records: int) -> None:
        """See Progress."""


async def test_the_brokers_key_is_destroyed_only_once_nothing_undecided_needs_it(scene: Stage) -> None:
    """An event that waits for an enrolment is sealed for the older one: it is not destroyed, whatever is asked, until
    the event went on. Lanes that are not known to have decided keep it as well. Then it is taken back everywhere."""
    admin, home = scene.kafka.admin_connection(), scene.home
    rotator = add_login(Admin(admin), admin, KEY_ROTATOR, home / "connections" / f"{KEY_ROTATOR}.json")
    keys, tell = FileKeys(home / "keys"), Told()
    job = Job(scene.connections["operator"], rotator, keys, "annelies", "each week", 0.0)
    (old,) = keys.recipient_keys("broker")
    late = Subject("PUPIL", None, (("LAS_KEY", "R99999"),))
    (parked,) = await send(scene, story.PUBLISHER, [replace(use(0), subject=late)])
    assert (await outcomes(scene, story.PUBLISHER, [parked]))[parked.event_id][-1].results[0].code == "subject.waiting"

    first = await rotate_recipient(job, keys, tell, "exchange", destroy=True)
    new = keys.recipient_keys("broker")[0]
    assert first is not None
    assert "1 parked" in first
    assert await broker_kids(admin) == {old.kid, new.kid}
    assert keys.private_key(old.kid) is not None

    enrolled = await send(scene, story.SIS, [replace(identity(0), subject=replace(late, eck_id=eck_id(9_999)))])
    assert (await outcomes(scene, story.SIS, enrolled))[enrolled[0].event_id][-1].results[0].code == "ok.vault"
    await outcomes(scene, story.PUBLISHER, [parked], times=2)
    taken = job.clock() + timedelta(hours=1)
    assert (await still_needed(job, (old.kid,), taken, "nobody")).lanes
    async with asyncio.timeout(60):
        while await still_needed(job, (old.kid,), taken, "exchange"):  # noqa: ASYNC110 - Kafka tells nobody
            await asyncio.sleep(0.2)
    second = await rotate_recipient(job, keys, tell, "exchange", destroy=False)
    assert second is not None
    assert "--destroy" in second
    assert keys.private_key(old.kid) is not None

    assert await rotate_recipient(job, keys, tell, "exchange", destroy=True) is None
    assert [key.kid for key in keys.recipient_keys("broker")] == [new.kid]
    assert await broker_kids(admin) == {new.kid}
    entry = (await read_registry(scene.connections["operator"])).keys_in_use["broker"]
    assert (entry.version, entry.older) == (new.kid, ())
    assert tell.steps == ["made", "in use", "destroyed", "ended"]
    shown = command(scene, "--status", what="broker")
    status = json.loads((await asyncio.to_thread(subprocess.run, shown, capture_output=True, check=True)).stdout)
    assert (status["in_use"], status["older"], status["waiting"]) == (new.kid, "", "")
    again = await send(scene, story.SIS, [identity(1)])
    assert (await outcomes(scene, story.SIS, again))[again[0].event_id][-1].results[0].code == "ok.vault"
