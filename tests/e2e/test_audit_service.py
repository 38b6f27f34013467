"""A board asks about a pupil of its own, on a real Kafka: enrolled, delivered, signed, indexed, asked, proven.

Everything is a process of its own, with its own login, as an operator starts it; the officer's commands run here.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from broker.app.provision import add_login
from broker.audit.leaf import is_decision
from broker.auditserve.service import SECRETS
from broker.cli import build
from broker.client import Event, Usage, pupil
from broker.demo import auditlog, story
from broker.demo.stage import Stage
from broker.errors import BrokerError
from broker.kafka import access
from broker.kafka.admin import Admin
from broker.kafka.machine import free_ports
from broker.kafka.pki import DevelopmentCA
from broker.keys import FileKeys
from tests.e2e.watch import outcomes, raw, send
from tests.e2e.withdrawing import enrolment

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
BOARD, OTHER_BOARD = "bestuur-horizon", "bestuur-kompas"
PO, VO = story.PO_SCHOOL, story.VO_SCHOOL
OURS, SECOND, THEIRS = "L0001", "L0002", "K0001"
PATIENCE_S = 60.0


def use(school: str, las_key: str) -> Event:
    """A pupil works with a book, which the publisher tells by the school's own id."""
    body = Usage(
        entitlement_id=story.new_id(), product_id=story.BOOK, usage_type="WEEKLY_USAGE", usage_date=story.today().date()
    )
    return Event(
        kind="USE", school=school, sector="PO" if school == PO else "VO", subject=pupil(las_key=las_key), body=body
    )


@dataclass
class Running:
    """An installation with logs, a store, and the service.

    Attributes:
        about_ours: ids of all events about our first pupil.
    """

    scene: Stage
    ca: DevelopmentCA
    port: int
    http: int
    process: subprocess.Popen[bytes]
    about_ours: set[str]

    @property
    def home(self) -> Path:
        """Folder of the installation."""
        return self.scene.home

    def ask(self, command: str, *arguments: str, who: str = BOARD, typed: str | None = None) -> Result:
        """What an officer types."""
        certificate, key = self.ca.issue_party(who)
        known = {
            "--service": f"https://localhost:{self.port}", "--cert": certificate, "--cert-key": key,
            "--ca": self.ca.ca_file, "--key-file": self.home / "published.vkeys",
        }  # fmt: skip
        options = [str(part) for option in known.items() for part in option]
        return CliRunner().invoke(build("audit"), ["audit", "ask", command, *arguments, *options], input=typed)

    def person(self, value: str, id_type: str = "LAS_KEY", school: str = PO, who: str = BOARD) -> Result:
        """Ask about a pupil."""
        sector = "PO" if school == PO else "VO"
        where = ("--school", school, "--sector", sector, "--type", id_type, "--id-file", "-", "--json")
        return self.ask("person", *where, who=who, typed=value)

    def index(self) -> Result:
        """What the operator's timer runs."""
        options = {
            "--logs": self.home / auditlog.LOGS, "--store": self.home / "audit.db", "--keys": self.home / "keys",
            "--connection": self.home / "connections" / "auditor.json",
        }  # fmt: skip
        return CliRunner().invoke(build("audit"), ["audit", "index", *[str(p) for o in options.items() for p in o]])


async def live(scene: Stage) -> set[str]:
    """Two pupils here, one elsewhere; events about each. Gives the ids of those about the first."""
    ours = enrolment(PO, OURS)
    enrolments = [ours, enrolment(PO, SECOND), enrolment(VO, THEIRS)]
    await outcomes(scene, story.SIS, await send(scene, story.SIS, enrolments))
    about = [use(PO, OURS) for _ in range(3)]
    events = [*about, use(PO, SECOND), use(VO, THEIRS)]
    await outcomes(scene, story.PUBLISHER, await send(scene, story.PUBLISHER, events))
    return {event.event_id for event in (ours, *about)}


async def leaves_of(scene: Stage, topic: str) -> list[bytes]:
    """All leaves on a topic."""
    return [r.value async for r in raw(scene.connections["auditor"], lambda name: name == topic)]


def until(port: int) -> None:
    """Wait until the service is ready."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        assert time.monotonic() < deadline, "the service did not come up"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def running(scene: Stage) -> Iterator[Running]:
    """Everything has been sent, decided, signed and indexed, and the service answers."""
    auditlog.start(scene)
    about = asyncio.run(live(scene))
    events = asyncio.run(leaves_of(scene, "audit.events"))
    auditlog.until_signed(scene.home, sum(map(is_decision, events)), 1)
    lines = [path.read_text() for path in (scene.home / auditlog.LOGS).glob("*/log.vkey")]
    (scene.home / "published.vkeys").write_text("".join(lines))
    root = scene.kafka.admin_connection()
    connection = scene.home / "connections" / f"{access.AUDIT_SERVICE}.json"
    add_login(Admin(root), root, access.AUDIT_SERVICE, connection)
    ca = DevelopmentCA(scene.home / "ca")
    ca.prepare()
    ca.issue_broker(0)
    port = free_ports(2)
    http = port + 1
    options = {
        "--store": scene.home / "audit.db", "--logs": scene.home / auditlog.LOGS, "--connection": connection,
        "--keys": own_keys(scene), "--state": scene.home / "audit-state", "--cert": ca.folder / "broker-0.pem",
        "--cert-key": ca.folder / "broker-0.key", "--client-ca": ca.ca_file, "--listen": f"127.0.0.1:{port}",
        "--http": f"127.0.0.1:{http}", "--key-file": scene.home / "published.vkeys",
    }  # fmt: skip
    command = [
        sys.executable,
        "-m",
        "broker",
        "audit",
        "serve",
        *[str(p) for option in options.items() for p in option],
    ]
    with (scene.home / "audit-service.log").open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=os.environ)
    made = Running(scene, ca, port, http, process, about)
    try:
        done = made.index()
        assert done.exit_code == 0, done.output
        assert " 0 wait for their leaf" in done.stderr
        until(http)
        yield made
    finally:
        process.terminate()
        ended = process.wait(30)
    assert ended == 0, "told to end, it ends in order, also without Kafka"


def own_keys(scene: Stage) -> Path:
    """A folder with the secrets that the service needs, and no other key."""
    folder = scene.home / "audit-service-keys"
    folder.mkdir(mode=0o700)
    for name in SECRETS:
        file = folder / f"{name}.secret"
        file.touch(mode=0o600)
        file.write_bytes((scene.home / "keys" / file.name).read_bytes())
        assert FileKeys(folder).secret(name) == scene.keys.secret(name)
    return folder


def rows(done: Result) -> list[dict[str, Any]]:
    """The lines of JSON; each row proven."""
    assert done.exit_code == 0, (done.output, done.exception)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(row["proof"].startswith("proven at size ") for row in found)
    return found


def code(done: Result) -> str:
    """Of the error that a command ended with."""
    assert isinstance(done.exception, BrokerError), done.output
    return done.exception.code


def test_a_board_finds_all_about_its_pupil_by_either_id(running: Running) -> None:
    """Each decision over each event about the pupil, no other, each proven under the published keys."""
    eck_id = enrolment(PO, OURS).subject.eck_id
    assert eck_id is not None
    by_local, by_eck = rows(running.person(OURS)), rows(running.person(eck_id, "ECK_ID"))
    assert by_local == by_eck
    assert {row["event"] for row in by_local} == running.about_ours
    every = [
        json.loads(leaf)["x"] for leaf in asyncio.run(leaves_of(running.scene, "audit.events")) if is_decision(leaf)
    ]
    assert len(by_local) == sum(x["event"] in running.about_ours for x in every)
    assert {row["decision"] for row in by_local} >= {"delivered"}
    assert {row["school"] for row in by_local} == {PO}


def test_a_pupil_of_another_school_is_not_found(running: Running) -> None:
    """By neither id, and not at that school either; its own board finds it."""
    eck_id = enrolment(VO, THEIRS).subject.eck_id
    assert eck_id is not None
    for done in (
        running.person(THEIRS), running.person(eck_id, "ECK_ID"), running.person(THEIRS, school=VO),
        running.person("L9999"), running.person(OURS, who=OTHER_BOARD),
    ):  # fmt: skip
        assert code(done) == "audit.person"
    assert {row["school"] for row in rows(running.person(THEIRS, school=VO, who=OTHER_BOARD))} == {VO}
    assert code(running.person(OURS, who=story.PUBLISHER)) == "audit.denied"


def test_boards_and_parties_find_what_is_theirs(running: Running) -> None:
    """Without a person; and the story of an event."""
    assert {row["school"] for row in rows(running.ask("find", "--json"))} == {PO}
    assert {row["school"] for row in rows(running.ask("find", "--json", who=OTHER_BOARD))} == {VO}
    portal = rows(running.ask("find", "--json", who=story.PORTAL))
    assert {row["receiver"] for row in portal} == {story.PORTAL}
    assert {row["school"] for row in portal} == {PO, VO}
    told = running.ask("explain", next(row["event"] for row in portal if row["school"] == PO))
    assert told.exit_code == 0
    assert f"It was delivered to {story.PORTAL}" in told.stdout


def test_each_question_stands_in_the_audit_and_names_no_pupil(running: Running) -> None:
    """Who, what, which school; the log builder signs it like all the rest. No id is in it, nor in the service's log."""
    assert code(running.person("L9999")) == "audit.person"
    leaves = asyncio.run(leaves_of(running.scene, "audit.control"))
    asked = [json.loads(leaf)["control"] for leaf in leaves if b"audit-query" in leaf]
    last = {name: value for name, value in asked[-1].items() if name != "at"}
    assert last == {
        "answer": "given", "by": BOARD, "kind": "audit-query", "question": "people", "role": "board", "school": PO,
    }  # fmt: skip
    auditlog.until_signed(running.home, 1, len(leaves))
    said = b"".join(leaves).decode() + (running.home / "audit-service.log").read_text()
    with urllib.request.urlopen(f"http://127.0.0.1:{running.http}/metrics", timeout=5) as answer:
        said += answer.read().decode()
    assert "audit.answered" in said
    known = [enrolment(school, key).subject for school, key in ((PO, OURS), (VO, THEIRS))]
    for canary in (OURS, THEIRS, "L9999", *((one.eck_id or "").rpartition("/")[2] for one in known)):
        assert canary not in said


def test_who_is_erased_is_not_found_any_more(running: Running) -> None:
    """As soon as the vault says so, though the store still has the rows."""
    first = enrolment(PO, SECOND)
    assert rows(running.person(SECOND))
    erase = Event(kind="ERASE", school=PO, sector="PO", subject=first.subject, body=first.body)
    asyncio.run(outcomes(running.scene, story.SIS, asyncio.run(send(running.scene, story.SIS, [erase]))))
    deadline = time.monotonic() + PATIENCE_S
    while (done := running.person(SECOND)).exit_code == 0:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert code(done) == "audit.person"


def test_without_kafka_there_is_no_answer(running: Running) -> None:
    """The last test of this module: Kafka stops. What can not be audited is not told."""
    assert running.ask("find", "--json").exit_code == 0
    running.scene.kafka.stop()
    done = running.ask("find", "--json")
    assert code(done) in ("audit.unrecorded", "view.stale")
    assert done.stdout == ""
    assert running.process.poll() is None
