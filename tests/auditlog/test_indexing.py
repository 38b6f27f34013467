"""The indexer as a process: logs that grow, persons, and looks that fail. Kafka is a list of records here."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog
from structlog.testing import LogCapture
from typer.testing import CliRunner

from broker.audit import store as store_module
from broker.audit.log.tiles import bundle_path
from broker.audit.store import Store, Wanted
from broker.auditlog.indexing import Indexing, IndexMetrics, IndexService, People
from broker.cli import build
from broker.errors import BrokerError
from broker.kafka.machine import free_ports
from tests.audit.signed_world import GrowingLog, audit_events, audit_index, busy_world, tag_of
from tests.auditlog.test_indexer import CONNECTION, Topic
from tests.exchange.world import World

OTHER = "broker.example/audit/p1/1"


@pytest.fixture
def world() -> World:
    """What the exchange wrote."""
    return busy_world()


@pytest.fixture
def said() -> Iterator[LogCapture]:
    """What is logged."""
    captured, before = LogCapture(), structlog.get_config()
    structlog.configure(processors=[captured])
    yield captured
    structlog.configure(**before)


def value(its: Indexing, name: str, **labels: str) -> float | None:
    """Of a metric."""
    return its.metrics.registry.get_sample_value(f"broker_index_{name}", labels)


def found(store: Path, wanted: Wanted | None = None) -> int:
    """How many leaves are found."""
    with Store(store) as opened:
        return len(opened.find(wanted or Wanted()))


def persons(world: World, topic: Topic, monkeypatch: pytest.MonkeyPatch) -> People:
    """Who reads them from that topic."""
    monkeypatch.setattr("broker.kafka.reading.ClosingConsumer", topic)
    return People(CONNECTION, lambda: world.exchange_keys.vault)


def test_each_look_takes_in_what_is_new(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves of all logs, those that began later too, and whom they are about; a new process goes on."""
    events, entries = audit_events(world), audit_index(world)
    topic = Topic([[*entries]])
    people = persons(world, topic, monkeypatch)
    log = GrowingLog(tmp_path / "logs")
    log.grow(events[:2])
    its = Indexing(tmp_path / "logs", tmp_path / "store", people=people)
    its.look()
    assert (value(its, "leaves", log="p0-1"), value(its, "entries_total")) == (2, len(entries))
    waiting = value(its, "waiting_entries")
    assert waiting is not None
    assert 0 < waiting < len(entries)
    log.grow(events[2:])
    other = GrowingLog(tmp_path / "logs", OTHER)
    other.grow(events[:1])
    its = Indexing(tmp_path / "logs", tmp_path / "store", people=people)
    its.look()
    assert (value(its, "leaves", log="p0-1"), value(its, "leaves", log="p1-1")) == (len(events), 1)
    assert (value(its, "entries_total"), value(its, "waiting_entries")) == (0, 0)
    assert found(tmp_path / "store") == len(events) + 1
    assert found(tmp_path / "store", Wanted(tag=tag_of(world))) > 0


def test_one_log_that_is_damaged_keeps_neither_others_nor_persons_from_being_taken_in(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look fails all the same, with that log's error, and is not counted as one that went well."""
    events, entries = audit_events(world), audit_index(world)
    damaged, whole = GrowingLog(tmp_path / "logs"), GrowingLog(tmp_path / "logs", OTHER)
    damaged.grow(events)
    (damaged.folder / bundle_path(0, len(events))).unlink()
    whole.grow(events)
    now = [0.0]
    its = Indexing(
        tmp_path / "logs",
        tmp_path / "store",
        people=persons(world, Topic([[*entries]]), monkeypatch),
        metrics=IndexMetrics(lambda: now[0]),
    )
    now[0] = 7.0
    with pytest.raises(BrokerError, match="tile/entries"):
        its.look()
    assert value(its, "look_age_seconds") == 7
    assert (value(its, "leaves", log="p0-1"), value(its, "leaves", log="p1-1")) == (None, len(events))
    assert (value(its, "entries_total"), value(its, "waiting_entries")) == (len(entries), 0)
    damaged.directory.write_immutable(
        {bundle_path(0, len(events)): whole.directory.read(bundle_path(0, len(events))) or b""}
    )
    its.look()
    assert value(its, "look_age_seconds") == 0
    assert value(its, "leaves", log="p0-1") == len(events)


def test_a_log_that_can_not_be_read_keeps_no_other_from_being_taken_in(tmp_path: Path, world: World) -> None:
    """The disk's error is raised at the end, as one of ours is."""
    unreadable, whole = GrowingLog(tmp_path / "logs"), GrowingLog(tmp_path / "logs", OTHER)
    unreadable.grow(audit_events(world))
    whole.grow(audit_events(world))
    bundle = unreadable.folder / bundle_path(0, len(audit_events(world)))
    bundle.unlink()
    bundle.mkdir()
    its = Indexing(tmp_path / "logs", tmp_path / "store")
    with pytest.raises(IsADirectoryError):
        its.look()
    assert value(its, "leaves", log="p1-1") == len(audit_events(world))


def test_every_failure_of_a_look_is_told(
    tmp_path: Path, world: World, said: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is raised; those behind it are logged and counted, so that a damaged log hides no wrong key."""
    its = Indexing(tmp_path, tmp_path / "store", people=persons(world, Topic([[]], visible=()), monkeypatch))
    with pytest.raises(BrokerError) as caught:
        its.look()
    assert caught.value.code == "audit.logs"
    (entry,) = said.entries
    assert entry["event"] == "auditlog.indexing"
    assert "audit.index" in entry["error"]
    assert value(its, "failures_total", kind="ConfigError") == 1


def test_entries_that_went_before_they_were_read_are_told(
    tmp_path: Path, world: World, said: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By partition, as an error in the log and in the metrics; it goes on."""
    entries = audit_index(world)
    topic = Topic([[*entries[:1]]])
    people = persons(world, topic, monkeypatch)
    GrowingLog(tmp_path / "logs").grow(audit_events(world))
    its = Indexing(tmp_path / "logs", tmp_path / "store", people=people)
    its.look()
    topic.partitions[0] += entries[1:]
    topic.first = 2
    its.look()
    its.look()
    assert value(its, "lost_total", partition="audit.index/0") == 1
    assert [entry["partition"] for entry in said.entries if entry["event"] == "auditlog.lost"] == ["audit.index/0"]


def test_a_key_from_elsewhere_counts_instead_of_the_one_beside_the_log(tmp_path: Path, world: World) -> None:
    """So a forger's log is not taken in."""
    log, stranger = GrowingLog(tmp_path / "logs"), GrowingLog(tmp_path / "else", OTHER)
    log.grow(audit_events(world))
    keys = tmp_path / "keys"
    keys.write_text(f"{stranger.signer.vkey}\n", "utf-8")
    with pytest.raises(BrokerError, match="no signature of a key that is known"):
        Indexing(tmp_path / "logs", tmp_path / "store", key_file=keys).look()
    keys.write_text(f"{log.signer.vkey}\n", "utf-8")
    Indexing(tmp_path / "logs", tmp_path / "store", key_file=keys).look()
    assert found(tmp_path / "store") > 0


@contextmanager
def serving(its: Indexing, port: int) -> Iterator[asyncio.Task[None]]:
    """The service, while the block runs."""
    task = asyncio.ensure_future(IndexService(its, look_s=0.01, http=("127.0.0.1", port)).run())
    try:
        yield task
    finally:
        task.cancel()


def asked(port: int, path: str) -> tuple[int, str]:
    """What the endpoint answers; 0 before it listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError:
        return 0, ""


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - an endpoint has no event
            await asyncio.sleep(0.01)


async def test_the_service_looks_again_after_a_failure(tmp_path: Path, world: World) -> None:
    """Alive all the time; ready once there is a log to read, and not when the store turns out to be something else."""
    its, port = Indexing(tmp_path / "logs", tmp_path / "store"), free_ports(1)
    with serving(its, port) as task:
        await until(lambda: bool(value(its, "failures_total", kind="ConfigError")))
        assert await asyncio.to_thread(asked, port, "readyz") == (503, "")
        GrowingLog(tmp_path / "logs").grow(audit_events(world))
        await until(lambda: asked(port, "readyz")[0] == 200)
        assert (await asyncio.to_thread(asked, port, "healthz"))[0] == 200
        metrics = (await asyncio.to_thread(asked, port, "metrics"))[1]
        assert f'broker_index_leaves{{log="p0-1"}} {len(audit_events(world))}.0' in metrics
        (tmp_path / "other").write_bytes(b"this is no store; " * 1000)
        (tmp_path / "other").replace(tmp_path / "store")  # at once: a look must not find an empty file, and fill it
        await until(lambda: asked(port, "readyz")[0] == 503)
        assert not task.done()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_store_that_another_process_writes_to_is_waited_for(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite says that it is locked; the look is tried again."""
    monkeypatch.setattr(store_module, "_BUSY_MS", 1)
    GrowingLog(tmp_path / "logs").grow(audit_events(world))
    its = Indexing(tmp_path / "logs", tmp_path / "store")
    with Store(tmp_path / "store") as other, serving(its, free_ports(1)):
        with other.transaction():
            await until(lambda: bool(value(its, "failures_total", kind="OperationalError")))
        await until(lambda: value(its, "leaves", log="p0-1") == len(audit_events(world)))


def test_a_connection_without_keys_is_refused(tmp_path: Path) -> None:
    """At the start, since entries are sealed; and keys without a connection too."""
    for option in ("--connection", "--keys"):
        done = CliRunner().invoke(
            build("auditlog"), ["auditlog", "index", "--store", str(tmp_path / "store"), option, str(tmp_path)]
        )
        assert isinstance(done.exception, BrokerError)
        assert done.exception.code == "audit.people"
    assert not (tmp_path / "store").exists()
