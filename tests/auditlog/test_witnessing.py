"""Tests of `broker.auditlog.witnessing`: real witnesses on sockets, logs in folders, and witnesses that misbehave."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiokafka import TopicPartition
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from broker.audit import verify
from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.directory import HistoryDiffers, LogDirectory
from broker.audit.log.note import Cosigner, Note, Signer, open_note, render
from broker.audit.log.policy import Group, KnownLog, Policy
from broker.audit.log.policy import Witness as Listed
from broker.audit.log.tiles import TileBuilder
from broker.auditlog.book import SECRET, SigningKeys
from broker.auditlog.service import LogService
from broker.auditlog.witnessing import Witnessing, WitnessingConfig
from broker.engine import CompactedTail
from broker.errors import ConfigError
from broker.exchange.model import AUDIT_EVENTS
from broker.keys import MemoryKeys
from broker.witness.cosign import TrustedLogs
from broker.witness.server import Listening, Witness, WitnessServer
from broker.witness.state import State
from tests.audit.log.tree import key
from tests.audit.naive_log import decisions

NOW = 1_795_305_600
SCHOOL, SUPPLIER = (Cosigner(f"witness.example/{name}", key(name)) for name in ("school", "supplier"))
LEAVES = decisions(600)
SIZE = {"Content-Type": "text/x.tlog.size"}
Reply = Callable[[bytes], web.Response]


class StoredLog:
    """A log in a folder, as the builder writes it."""

    def __init__(self, root: Path, folder: str = "p3-1", forked: bool = False) -> None:
        self.path = root / folder
        self.origin = f"broker.example/audit/{folder.replace('-', '/')}"
        self.signer = Signer(self.origin, key("log"))
        self.directory, self._builder, self._forked = LogDirectory(self.path), TileBuilder(), forked

    def grow(self, size: int) -> bytes:
        """To so many leaves; gives the checkpoint."""
        leaves = LEAVES[self._builder.edge.size : size]
        growth = self._builder.append(leaves[::-1] if self._forked else leaves)
        self.directory.write_immutable(growth.files)
        text = Checkpoint(self.origin, growth.size, growth.root).text()
        note = render(text, [self.signer.sign(text)])
        self.directory.publish(note)
        self.directory.show_key(self.signer.vkey)
        return note

    def cosigned(self) -> tuple[int, set[str]] | None:
        """Size and cosigners of `checkpoint.w`; its log's signature is verified too."""
        note = self.directory.cosigned()
        if note is None:
            return None
        opened: Note = open_note(note, [self.signer.verifier, SCHOOL.verifier, SUPPLIER.verifier])
        names = {each.name for each in opened.verified}
        assert self.origin in names
        return Checkpoint.parse(opened.text).size, names - {self.origin}


@asynccontextmanager
async def witness(folder: Path, cosigner: Cosigner, *logs: StoredLog, port: int = 0) -> AsyncIterator[WitnessServer]:
    """A real one."""
    state = State(folder)
    try:
        mine = Witness(state, cosigner, TrustedLogs([log.signer.verifier for log in logs]), clock=lambda: NOW)
        async with WitnessServer(mine, Listening(port=port)) as server:
            server.witness = mine  # type: ignore[attr-defined]
            yield server
    finally:
        state.close()


@asynccontextmanager
async def scripted(*replies: Reply | int) -> AsyncIterator[tuple[int, list[bytes]]]:
    """One that answers as it is told, the last for ever; its port, and what it was sent."""
    waiting, came = list(replies), list[bytes]()

    async def handle(request: web.Request) -> web.Response:
        came.append(await request.read())
        reply = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return web.Response(status=reply) if isinstance(reply, int) else reply(came[-1])

    app = web.Application()
    app.router.add_post("/add-checkpoint", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1], came
    finally:
        await runner.cleanup()


def policy(school: int, supplier: int | None = None, needed: int = 2) -> Policy:
    """Of witnesses at these ports."""
    listed = [Listed("school", SCHOOL.verifier, f"http://127.0.0.1:{school}")]
    if supplier is None:
        return Policy((), tuple(listed), (), "school")
    listed.append(Listed("supplier", SUPPLIER.verifier, f"http://127.0.0.1:{supplier}/"))
    return Policy((), tuple(listed), (Group("both", needed, ("school", "supplier")),), "both")


class Asking:
    """What the log builder's process does; one round at a time."""

    def __init__(self, root: Path, trust: Policy, **options: Any) -> None:
        self.registry = CollectorRegistry()
        self._witnessing = Witnessing(root, WitnessingConfig(trust, **options), self.registry)

    async def round(self) -> list[str]:
        """One; gives what was logged."""
        with capture_logs() as logs:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
                await self._witnessing.round(session)
        return [f"{line['log_level']} {line['event']}" for line in logs]

    def metric(self, name: str, **labels: str) -> float | None:
        """Of the log builder."""
        return self.registry.get_sample_value(f"broker_auditlog_{name}", labels)

    def alarm(self, name: str = "school") -> float | None:
        """Of a witness."""
        return self.metric("witness_alarm", log="p3-1", witness=name)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Folder of all logs."""
    return tmp_path / "logs"


def answers(server: WitnessServer, status: int) -> float:
    """How often a witness answered so."""
    registry = server.witness.metrics.registry  # type: ignore[attr-defined]
    return registry.get_sample_value("broker_witness_answers_total", {"status": str(status)}) or 0.0


# ---- with real witnesses


async def test_what_witnesses_cosign_is_what_an_auditor_accepts(root: Path, tmp_path: Path) -> None:
    """Round after round; `verify.py` takes the log under a policy with a quorum of both, and refuses it before."""
    log = StoredLog(root)
    async with witness(tmp_path / "1", SCHOOL, log) as one, witness(tmp_path / "2", SUPPLIER, log) as two:
        trust = policy(one.port, two.port)
        asking = Asking(root, trust)
        file = tmp_path / "policy"
        file.write_bytes(Policy((KnownLog(log.signer.verifier),), trust.witnesses, trust.groups, trust.quorum).render())
        log.grow(1)
        assert verify.main(["log", str(log.path), "--policy", str(file)]) == 1
        for size in (1, 2, 255, 256, 257, 512, 600):
            log.grow(size)
            assert await asking.round() == []
            assert log.cosigned() == (size, {SCHOOL.name, SUPPLIER.name})
            assert verify.main(["log", str(log.path), "--policy", str(file)]) == 0
        log.grow(600)
        assert (answers(one, 200), answers(one, 409), answers(two, 200)) == (7, 0, 7)
        assert asking.metric("cosigned_leaves", log="p3-1", witness="school") == 600
        assert (asking.metric("quorum_timestamp_seconds", log="p3-1") or 0) > 0
        assert asking.alarm() == 0


async def test_a_key_that_came_since_stands_on_what_is_cosigned_too(root: Path, tmp_path: Path) -> None:
    """A witness that knows the old key alone goes on; who knows the new one alone reads `checkpoint.w` all the same."""
    log = StoredLog(root)
    new = Signer(log.origin, key("the next log key"))
    async with witness(tmp_path / "1", SCHOOL, log) as one:
        asking = Asking(root, policy(one.port))
        log.grow(300)
        await asking.round()
        at = asking.metric("quorum_timestamp_seconds", log="p3-1")

        def sign(size: int) -> str:
            log.grow(size)
            text = open_note(log.directory.checkpoint() or b"", [log.signer.verifier]).text
            log.directory.publish(render(text, [log.signer.sign(text), new.sign(text)]))
            return text

        text = sign(300)
        assert await asking.round() == []
        opened = open_note(log.directory.cosigned() or b"", [new.verifier, SCHOOL.verifier])
        assert (opened.text, len(opened.verified)) == (text, 2)
        assert log.cosigned() == (300, {SCHOOL.name})
        assert asking.metric("quorum_timestamp_seconds", log="p3-1") == at  # nobody cosigned anything meanwhile
        assert answers(one, 200) == 1
        sign(400)
        await asking.round()
        assert log.cosigned() == (400, {SCHOOL.name})
        file = tmp_path / "policy"
        for vkey in (log.signer.vkey, new.vkey):
            file.write_text(f"log {vkey}\nwitness school {SCHOOL.vkey}\nquorum school\n")
            assert verify.main(["log", str(log.path), "--policy", str(file)]) == 0


async def test_the_newest_cosigned_tree_counts_while_the_log_grows_on(root: Path, tmp_path: Path) -> None:
    """`checkpoint` is ahead of `checkpoint.w`: the auditor takes both, as one history."""
    log = StoredLog(root)
    async with witness(tmp_path / "1", SCHOOL, log) as one:
        log.grow(300)
        await Asking(root, policy(one.port)).round()
        log.grow(500)
        text = f"log {log.signer.vkey}\nwitness school {SCHOOL.vkey}\nquorum school\n"
        (tmp_path / "policy").write_text(text)
        assert verify.main(["log", str(log.path), "--policy", str(tmp_path / "policy")]) == 0


async def test_a_log_that_stands_still_is_asked_for_once(root: Path, tmp_path: Path) -> None:
    """Also by a process that was started again."""
    log = StoredLog(root)
    log.grow(3)
    async with witness(tmp_path / "1", SCHOOL, log) as one:
        asking = Asking(root, policy(one.port))
        for _ in range(3):
            await asking.round()
        await Asking(root, policy(one.port)).round()
        assert answers(one, 200) == 1


async def test_what_a_witness_knows_is_remembered_or_asked_for(root: Path, tmp_path: Path) -> None:
    """After a restart from `checkpoint.w`; without that, one 409 tells it."""
    log = StoredLog(root)
    log.grow(3)
    async with witness(tmp_path / "1", SCHOOL, log) as one:
        await Asking(root, policy(one.port)).round()
        log.grow(7)
        await Asking(root, policy(one.port)).round()
        assert (answers(one, 200), answers(one, 409)) == (2, 0)
        (log.path / "checkpoint.w").unlink()
        log.grow(9)
        assert await Asking(root, policy(one.port)).round() == []
        assert (answers(one, 200), answers(one, 409)) == (3, 1)
    assert log.cosigned() == (9, {SCHOOL.name})


async def test_each_log_is_cosigned(root: Path, tmp_path: Path) -> None:
    """Every folder with a checkpoint, in one round; one that is damaged holds nobody up."""
    logs = [StoredLog(root, folder) for folder in ("p3-1", "p4-1", "p4-2", "control-1")]
    async with witness(tmp_path / "1", SCHOOL, *logs) as one:
        asking = Asking(root, policy(one.port))
        for log in logs:
            log.grow(4)
        await asking.round()
        assert [log.cosigned() for log in logs] == [(4, {SCHOOL.name})] * 4
        for log in logs:
            log.grow(9)
        shutil.rmtree(logs[1].path / "tile")
        (logs[2].path / "checkpoint").write_text("damaged")
        assert sorted(await asking.round()) == ["warning auditlog.witness.failed"] * 2
        assert [log.cosigned() for log in logs] == [(size, {SCHOOL.name}) for size in (9, 4, 4, 9)]


async def test_while_a_witness_is_away_the_last_quorum_stays(root: Path, tmp_path: Path) -> None:
    """Said once, counted each time; when it is back both are at the newest again."""
    log = StoredLog(root)
    log.grow(3)
    async with witness(tmp_path / "1", SCHOOL, log) as one:
        async with witness(tmp_path / "2", SUPPLIER, log) as two:
            asking = Asking(root, policy(one.port, two.port))
            await asking.round()
        log.grow(5)
        assert await asking.round() == ["warning auditlog.witness.failed"]
        log.grow(6)
        assert await asking.round() == []
        assert log.cosigned() == (3, {SCHOOL.name, SUPPLIER.name})
        assert asking.metric("witness_failures_total", witness="supplier", kind="away") == 2
        log.grow(8)
        async with witness(tmp_path / "2", SUPPLIER, log, port=two.port):
            await asking.round()
        assert log.cosigned() == (8, {SCHOOL.name, SUPPLIER.name})


async def test_with_a_quorum_of_one_it_goes_on(root: Path, tmp_path: Path) -> None:
    """And the other's cosignature on the same tree is added when it comes."""
    log = StoredLog(root)
    log.grow(3)
    async with witness(tmp_path / "1", SCHOOL, log) as one, witness(tmp_path / "2", SUPPLIER, log) as two:
        asking = Asking(root, policy(one.port, two.port, needed=1))
        await asking.round()
    log.grow(5)
    async with witness(tmp_path / "1", SCHOOL, log, port=one.port):
        await asking.round()
        assert log.cosigned() == (5, {SCHOOL.name})
    async with witness(tmp_path / "2", SUPPLIER, log, port=two.port):
        await asking.round()
        assert log.cosigned() == (5, {SCHOOL.name, SUPPLIER.name})


def test_a_cosigned_checkpoint_never_gets_smaller(root: Path) -> None:
    """Nor another of the same size; and its lock is not the one that the builder needs."""
    log, other = StoredLog(root), StoredLog(root / "other", forked=True)
    small, large, forked = log.grow(3), log.grow(5), other.grow(5)
    log.directory.publish_cosigned(large)
    for note in (small, forked):
        with pytest.raises(HistoryDiffers):
            log.directory.publish_cosigned(note)
    assert log.directory.cosigned() == large
    with log.directory._alone(".lock"):
        log.directory.publish_cosigned(large)


# ---- alarms


async def test_a_fork_is_an_alarm_and_no_storm(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The witness saw another history: an error, a metric, and that witness is left alone for a while.

    What the witness kept, and a copy of the log, tell an auditor.
    """
    real, other = StoredLog(root), StoredLog(tmp_path / "other", forked=True)
    real.grow(5)
    other.grow(4)
    async with witness(tmp_path / "1", SCHOOL, real) as one:
        await Asking(tmp_path / "other", policy(one.port)).round()
        asking = Asking(root, policy(one.port))
        assert await asking.round() == ["error witness.unproven", "error auditlog.witness.alarm"]
        assert (asking.alarm(), real.cosigned()) == (1, None)
        for size in (6, 7, 8):
            real.grow(size)
            assert await asking.round() == []
        assert answers(one, 422) == 1
        eager = Asking(root, policy(one.port), alarm_pause_s=0.0)
        assert [len(await eager.round()) for _ in range(2)] == [2, 2]
    assert real.cosigned() is None
    kept = [str(path) for path in sorted((tmp_path / "1").glob("unproven-*"))[:2]]
    assert verify.main(["consistency", *kept, "--log", str(real.path), "--key", real.signer.vkey]) == 1
    assert "REWRITTEN" in capsys.readouterr().out


def cosigned_by(cosigner: Cosigner, time_s: int = NOW, change: Callable[[str], str] = str) -> Reply:
    """An answer with 200, maybe on another text."""

    def reply(body: bytes) -> web.Response:
        text = body.partition(b"\n\n")[2].partition(b"\n\n")[0].decode() + "\n"
        return web.Response(text=f"{cosigner.sign(change(text), time_s)}\n")

    return reply


def note_of_more(body: bytes) -> web.Response:
    """A valid cosignature, on the checkpoint with something added to it."""
    line = cosigned_by(SCHOOL, change=lambda text: f"{text}\nmore\n")(body).text
    return web.Response(text=f"more\n\n{line}")


@pytest.mark.parametrize(
    "reply",
    [
        cosigned_by(SUPPLIER),
        cosigned_by(Cosigner(SCHOOL.name, key("somebody else"))),
        cosigned_by(SCHOOL, change=lambda text: text.replace("p3", "p4")),
        cosigned_by(SCHOOL, time_s=0),
        lambda _: web.Response(text=""),
        lambda _: web.Response(text="<html>welcome</html>"),
        lambda _: web.Response(body=b"\xff\n"),
        note_of_more,
        422,
    ],
    ids=["another witness", "another key", "another text", "no time", "empty", "a page", "no text", "a note", "422"],
)
async def test_a_signature_that_is_wrong_is_an_alarm(root: Path, reply: Reply | int) -> None:
    """Nothing is shown, and nobody is asked again at once."""
    log = StoredLog(root)
    log.grow(5)
    async with scripted(reply) as (port, came):
        asking = Asking(root, policy(port))
        assert await asking.round() == ["error auditlog.witness.alarm"]
        assert await asking.round() == []
        assert (asking.alarm(), log.cosigned(), len(came)) == (1, None, 1)


async def test_an_alarm_ends_when_the_witness_cosigns(root: Path) -> None:
    """The gauge goes back to 0."""
    log = StoredLog(root)
    log.grow(5)
    async with scripted(422, cosigned_by(SCHOOL)) as (port, _):
        asking = Asking(root, policy(port), alarm_pause_s=0.0)
        await asking.round()
        assert asking.alarm() == 1
        await asking.round()
        assert (asking.alarm(), log.cosigned()) == (0, (5, {SCHOOL.name}))


async def test_a_witness_that_knows_more_than_the_log_shows_is_an_alarm(root: Path) -> None:
    """Leaves were taken back, or somebody else signs."""
    log = StoredLog(root)
    log.grow(5)
    async with scripted(lambda _: web.Response(status=409, text="9\n", headers=SIZE)) as (port, came):
        asking = Asking(root, policy(port))
        assert await asking.round() == ["error auditlog.witness.alarm"]
        assert (asking.alarm(), len(came)) == (1, 1)


async def test_a_log_that_grew_meanwhile_is_no_alarm(root: Path) -> None:
    """Another process of ours asked first, about a larger tree."""
    log = StoredLog(root)
    log.grow(5)

    def grown(_: bytes) -> web.Response:
        log.grow(9)
        return web.Response(status=409, text="9\n", headers=SIZE)

    async with scripted(grown, cosigned_by(SCHOOL)) as (port, came):
        asking = Asking(root, policy(port))
        assert await asking.round() == ["warning auditlog.witness.failed"]
        assert await asking.round() == []
        assert (asking.alarm(), log.cosigned(), len(came)) == (0, (9, {SCHOOL.name}), 2)


@pytest.mark.parametrize(
    ("reply", "kind", "questions"),
    [
        (400, "400", 1),
        (403, "403", 1),
        (404, "404", 1),
        (500, "500", 1),
        (429, "429", 1),
        (lambda _: web.Response(status=307, headers={"Location": "/elsewhere"}), "307", 1),
        (lambda _: web.Response(status=409, text="3\n"), "409", 1),
        (lambda _: web.Response(status=409, text="3", headers=SIZE), "form", 1),
        (lambda _: web.Response(status=409, text="03\n", headers=SIZE), "form", 1),
        (lambda _: web.Response(status=409, text="٣\n", headers=SIZE), "form", 1),
        (lambda _: web.Response(text="x" * 70_000), "form", 1),
        (lambda _: web.Response(status=409, text="3\n", headers=SIZE), "409", 2),
    ],
    ids=range(12),
)
async def test_other_answers_are_counted_and_no_alarm(
    root: Path, reply: Reply | int, kind: str, questions: int
) -> None:
    """They say nothing of the log: said once, and asked again in the next round."""
    log = StoredLog(root)
    log.grow(5)
    async with scripted(reply) as (port, came):
        asking = Asking(root, policy(port))
        assert await asking.round() == ["warning auditlog.witness.failed"]
        assert len(came) == questions
        assert await asking.round() == []
        assert asking.metric("witness_failures_total", witness="school", kind=kind) == 2
        # What an alert compares: the witness never answered, and that is told too.
        assert asking.metric("shown_leaves", log="p3-1") == 5
        assert asking.metric("cosigned_leaves", log="p3-1", witness="school") == 0
        assert (asking.alarm(), log.cosigned()) == (None, None)


# ---- settings, and the process


@pytest.mark.parametrize(
    "url",
    [None, "ftp://witness.example", "http://witness.example", "https://user:pw@witness.example", "https://w.example/?q", "witness", "https://[", "https://w.example:x"],
)  # fmt: skip
def test_a_witness_that_can_not_be_asked_is_told(url: str | None) -> None:
    """Plain http is for this machine, or said on purpose."""
    with pytest.raises(ConfigError) as refused:
        WitnessingConfig(Policy((), (Listed("school", SCHOOL.verifier, url),), (), "school"))
    assert refused.value.code == "auditlog.witness"


def test_plain_http_can_be_allowed(tmp_path: Path) -> None:
    """And authorities that are none are told."""
    trust = Policy((), (Listed("school", SCHOOL.verifier, "http://witness.example"),), (), "school")
    config = WitnessingConfig(trust, insecure_plaintext=True, ca_file=tmp_path / "absent")
    assert len(config.witnesses) == 1
    with pytest.raises(ConfigError, match="can not be read as certificates"):
        config.context()


async def test_the_service_asks_witnesses(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside its builders, again and again, with its metrics among the others; without Kafka here."""

    async def never(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(CompactedTail, "run", never)
    monkeypatch.setattr(LogService, "_partitions", never)
    log = StoredLog(root)
    log.grow(3)
    keys = MemoryKeys()
    keys.create_secret(SECRET)
    async with witness(tmp_path / "1", SCHOOL, log) as one:
        asked = WitnessingConfig(policy(one.port), every_s=0.02)
        clients: Any = None  # nobody connects
        service = LogService("broker.example/audit", clients, SigningKeys(keys), root, witnesses=asked)
        task = asyncio.create_task(service.run())
        try:
            for size in (3, 5):
                log.grow(size)
                await until(task, lambda size=size: log.cosigned() == (size, {SCHOOL.name}))
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert b'broker_auditlog_cosigned_leaves{log="p3-1",witness="school"} 5.0' in service.metrics.text()


def test_a_partition_that_never_comes_so_far_is_missed(root: Path) -> None:
    """Its builder may fail from the start: the metric is there and says 0, so that an alert sees it."""
    clients: Any = None  # nobody connects
    keys = MemoryKeys()
    keys.create_secret(SECRET)
    service = LogService("broker.example/audit", clients, SigningKeys(keys), root)
    service._builder(TopicPartition(AUDIT_EVENTS, 3))
    told = b'broker_auditlog_current_timestamp_seconds{partition="3",topic="audit.events"} 0.0'
    assert told in service.metrics.text()


async def until(task: Awaitable[None], condition: Callable[[], bool]) -> None:
    """Wait for a condition while a task runs."""
    async with asyncio.timeout(30):
        while not condition():
            assert isinstance(task, asyncio.Task)
            assert not task.done()
            await asyncio.sleep(0.01)
