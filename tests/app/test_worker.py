"""A worker process, as an operator starts it."""

from __future__ import annotations

import gc
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker.app import worker as worker_module
from broker.app.metrics import Metrics
from broker.app.provision import add_broker_keys
from broker.app.worker import Ending, ExchangeService, freeze_heap, output_topics, wait_for_kafka
from broker.engine import DataPlane
from broker.engine.reader import InputReader
from broker.engine.topics import TopicCounts
from broker.engine.topicview import TopicTail
from broker.errors import ConfigError
from broker.kafka.connection import KafkaConnection
from broker.kafka.embedded import EmbeddedKafka
from broker.kafka.machine import free_ports
from broker.registry import Registry
from broker.settings import WorkerSettings
from tests.engine.machine import OWN, create_topics


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A Kafka with the broker's topics: a worker serves every `in.*` it sees."""
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka"), heap_mb=192) as kafka:
        create_topics(
            kafka.admin_connection(), {**OWN, "in.sis-noord": 2, "status.sis-noord": 1, "quarantine.sis-noord": 1}
        )
        yield kafka


def start(
    folder: Path, connection: Path, *more: str, program: Sequence[str] = (sys.executable, "-m", "broker")
) -> subprocess.Popen[bytes]:
    """`broker worker`, with its log in `folder`."""
    add_broker_keys(folder / "keys", folder / "operator")
    command = [
        *program,
        "worker",
        "--connection",
        str(connection),
        "--keys",
        str(folder / "keys"),
    ]
    with (folder / "log").open("wb") as out:
        return subprocess.Popen([*command, "--state", str(folder / "state"), *more], stdout=out, stderr=out)


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 40) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def get(port: int, path: str) -> tuple[int, str]:
    """One request; (0, "") when nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError:
        return 0, ""


@pytest.mark.kafka
@pytest.mark.timeout(120)
def test_a_worker_says_when_it_is_ready_and_ends_well_at_sigterm(own_kafka: EmbeddedKafka, tmp_path: Path) -> None:
    """Ready on /readyz and as one line of log, metrics are served, SIGTERM ends it with 0 within 20 s."""
    port = free_ports(1)
    worker = start(tmp_path, own_kafka.connection_file, "--http", str(port))
    try:
        wait_for(lambda: get(port, "/readyz")[0] == 200 or worker.poll() is not None, "ready")
        status, text = get(port, "/metrics")
        assert status == 200
        assert 'broker_lanes{state="reading"} 2.0' in text
        assert get(port, "/healthz")[0] == 200
        limits = Path(f"/proc/{worker.pid}/limits").read_text()
        assert [line.split()[-3:-1] for line in limits.splitlines() if "core file" in line] == [["0", "0"]]
        began = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(25) == 0
        assert time.monotonic() - began < 20
    finally:
        worker.kill()
        worker.wait()
    events = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    ready = [event for event in events if event["event"] == "worker.ready"]
    assert [event["text"] for event in ready] == ["ready: 2 lanes"]
    assert (tmp_path / "state" / "vault" / "data" / "data.mdb").exists()


@pytest.mark.kafka
@pytest.mark.timeout(120)
def test_a_worker_whose_kafka_goes_away_ends_with_a_reason_or_at_sigterm(tmp_path: Path) -> None:
    """Kafka is killed under it: the worker is not ready any more, and still ends within 20 s of SIGTERM."""
    with EmbeddedKafka(tmp_path / "kafka", heap_mb=192) as kafka:
        create_topics(kafka.admin_connection(), {**OWN, "in.sis-noord": 1})
        port = free_ports(1)
        worker = start(tmp_path, kafka.connection_file, "--http", str(port))
        try:
            wait_for(lambda: get(port, "/readyz")[0] == 200 or worker.poll() is not None, "ready")
            kafka.kill()
            wait_for(lambda: get(port, "/readyz")[0] == 503, "not ready", 15)
            assert get(port, "/healthz")[0] == 200
            worker.send_signal(signal.SIGTERM)
            began = time.monotonic()
            worker.wait(30)
            assert time.monotonic() - began < 22
        finally:
            worker.kill()
            worker.wait()


@pytest.mark.kafka
@pytest.mark.timeout(240)
def test_a_worker_goes_on_by_itself_when_kafka_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Away for longer than the worker's patience, twice: before its start and under it; it is the same process after."""
    monkeypatch.setenv("BROKER_PATIENCE_S", "25")  # longer than it takes to know that Kafka is away, as in production
    with EmbeddedKafka(tmp_path / "kafka", heap_mb=192) as kafka:
        create_topics(kafka.admin_connection(), {**OWN, "in.sis-noord": 1})
        kafka.kill()
        port = free_ports(1)
        worker = start(tmp_path, kafka.connection_file, "--http", str(port))
        log = tmp_path / "log"
        try:
            wait_for(lambda: "kafka.away" in log.read_text() or worker.poll() is not None, "it says that it waits")
            kafka.start()
            wait_for(lambda: get(port, "/readyz")[0] == 200 or worker.poll() is not None, "ready", 120)
            kafka.kill()
            time.sleep(40)
            assert worker.poll() is None, "it ended"
            # Once for each time away; once more if Kafka was slow to serve after its start.
            assert 2 <= log.read_text().count("kafka.away") <= 4
            kafka.start()
            wait_for(lambda: get(port, "/readyz")[0] == 200 or worker.poll() is not None, "ready again", 120)
            assert worker.poll() is None, "it ended"
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(20) == 0
        finally:
            worker.kill()
            worker.wait()


FOOLED = """
import os
from broker.app import worker
from broker.cli import main
if "ECK_FOOLED" not in os.environ:
    os.environ["ECK_FOOLED"] = "once"
    worker.wait_for_kafka = lambda connection: None
main()
"""


@pytest.mark.kafka
def test_a_kafka_that_goes_away_in_the_middle_of_the_start_is_waited_for(tmp_path: Path) -> None:
    """It answered when the worker looked, and then not: Faust gives up, the same process begins anew and waits."""
    with EmbeddedKafka(tmp_path / "kafka", heap_mb=192) as kafka:
        create_topics(kafka.admin_connection(), {**OWN, "in.sis-noord": 1})
        kafka.kill()
        port = free_ports(1)
        command = (sys.executable, "-c", FOOLED)
        worker = start(tmp_path, kafka.connection_file, "--http", str(port), program=command)
        log = tmp_path / "log"
        try:
            wait_for(lambda: "kafka.away" in log.read_text() or worker.poll() is not None, "it waits")
            assert "worker.anew" in log.read_text()
            kafka.start()
            wait_for(lambda: get(port, "/readyz")[0] == 200 or worker.poll() is not None, "ready", 120)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(20) == 0
        finally:
            worker.kill()
            worker.wait()


def test_a_start_that_waits_is_alive_and_not_ready(tmp_path: Path) -> None:
    """Kafka is away, or the keys' server is sealed: a probe that got no answer would end it once a minute."""
    connection = tmp_path / "connection.json"
    KafkaConnection("127.0.0.1:1", insecure_plaintext=True).to_file(connection)
    port = free_ports(1)
    worker = start(tmp_path, connection, "--http", str(port))
    log = tmp_path / "log"
    try:
        wait_for(lambda: "kafka.away" in log.read_text() or worker.poll() is not None, "it waits")
        assert [get(port, path)[0] for path in ("/livez", "/readyz", "/metrics")] == [200, 503, 200]
        assert "broker_worker_ready 0.0" in get(port, "/metrics")[1], "nobody would be told"
        worker.send_signal(signal.SIGTERM)
        worker.wait(20)
    finally:
        worker.kill()
        worker.wait()


def test_before_its_start_it_waits_for_an_address_that_does_not_answer_and_for_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once a minute a line; what answers and does not let it in ends it at once."""
    answers = [ConfigError("nobody there", code="kafka.unreachable")] * 3 + [None]

    async def check(_: KafkaConnection) -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    monkeypatch.setattr(worker_module, "check", check)
    connection = KafkaConnection("127.0.0.1:1", insecure_plaintext=True)
    wait_for_kafka(connection, pause_s=0.01)
    assert capsys.readouterr().out.count("kafka.away") == 1
    assert answers == []
    answers = [ConfigError("wrong password", code="kafka.login")]
    with pytest.raises(ConfigError, match="wrong password"):
        wait_for_kafka(connection, pause_s=0.01)


@pytest.mark.kafka
@pytest.mark.timeout(120)
def test_what_an_operator_must_correct_is_said_at_once(own_kafka: EmbeddedKafka, tmp_path: Path) -> None:
    """A wrong password and a missing key end the process with 1 and one readable sentence."""
    wrong = tmp_path / "wrong.json"
    replace(own_kafka.admin_connection(), password="wrong").to_file(wrong)
    worker = start(tmp_path, wrong)
    assert worker.wait(40) == 1
    said = (tmp_path / "log").read_text()
    assert "kafka.login" in said
    assert "Traceback" not in said
    add_broker_keys(tmp_path / "keys", tmp_path / "operator")
    (tmp_path / "keys" / "vault-mac.secret").unlink()
    command = [sys.executable, "-m", "broker", "worker", "--connection", str(own_kafka.connection_file)]
    done = subprocess.run([*command, "--keys", str(tmp_path / "keys"), "--state", str(tmp_path / "s")],
                          capture_output=True, timeout=60, check=False)  # fmt: skip
    assert done.returncode == 1
    assert b"keys.missing" in done.stderr


@pytest.mark.kafka
@pytest.mark.timeout(120)
def test_missing_topics_end_the_worker_with_their_names(tmp_path: Path) -> None:
    """A cluster without the broker's topics: which are missing, and the command that makes them; exit code 1."""
    with EmbeddedKafka(tmp_path / "kafka", heap_mb=192) as kafka:
        create_topics(kafka.admin_connection(), {name: 1 for name in OWN if name != "parked"})
        worker = start(tmp_path, kafka.connection_file)
        assert worker.wait(60) == 1
    said = (tmp_path / "log").read_text()
    assert "topic.missing" in said
    assert "parked" in said
    assert "broker topics apply" in said


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`BROKER_...`; what is given explicitly wins."""
    monkeypatch.setenv("BROKER_GROUP", "blue")
    monkeypatch.setenv("BROKER_HTTP_PORT", "9100")
    monkeypatch.setenv("BROKER_BATCH_RECORDS", "50")
    found = WorkerSettings(state=tmp_path, http_port=0)
    assert (found.group, found.http_port, found.state) == ("blue", 0, tmp_path)
    assert found.engine().group == "blue"
    assert found.engine().batch_records == 50


def test_time_outs_in_the_wrong_order_are_refused() -> None:
    """A transaction that the cluster ends before the lane gives up would be believed in."""
    from broker.engine import EngineConfig

    with pytest.raises(ConfigError) as caught:
        EngineConfig(batch_timeout_s=20.0)
    assert caught.value.code == "engine.timeouts"


def test_outputs_are_those_the_route_table_can_reach() -> None:
    """Every topic of a party in a role that a role of the sender reaches; none for a stranger."""
    from broker.data import data_path
    from broker.registry.files import load_document, records_of

    registry = Registry.from_records(records_of(load_document(data_path("examples") / "registry")))
    assert output_topics("in.nobody", registry) == []
    found = output_topics("in.uitgeverij-delta", registry)
    assert found
    assert len(found) == len(set(found))
    assert all(topic.startswith("out.") for topic in found)
    assert not [t for t in found if t.startswith("out.uitgeverij-delta.usage")]


class _Cycle:
    """Refers to itself, so that only the collector finds it."""

    def __init__(self) -> None:
        self.itself = self


def test_what_is_there_when_the_views_are_loaded_costs_no_collection_any_more() -> None:
    """It is out of the collector's sight; what comes later is not."""
    held = _Cycle()
    try:
        freeze_heap()
        seen = {id(thing) for thing in gc.get_objects()}
        later = _Cycle()
        assert id(held) not in seen
        assert any(thing is later for thing in gc.get_objects())
        assert len(seen) < gc.get_freeze_count() / 10
    finally:
        gc.unfreeze()


async def test_it_is_frozen_once_the_views_are_loaded_and_before_the_group_is_joined(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Before, there is nothing to freeze; later, a collection would stop lanes that already read."""
    happened: list[str] = []

    def noting(what: str) -> Callable[..., Any]:
        async def note(*_: object) -> None:
            happened.append(what)

        return note

    monkeypatch.setattr(TopicCounts, "require", noting("topics"))
    monkeypatch.setattr(TopicTail, "loaded_or_blocked", noting("loaded"))
    monkeypatch.setattr(InputReader, "start", noting("joined"))
    monkeypatch.setattr(DataPlane, "_spawn", lambda _self, work, _name: work.close())
    monkeypatch.setattr(worker_module, "freeze_heap", lambda: happened.append("frozen"))
    add_broker_keys(tmp_path / "keys", tmp_path / "operator")
    settings = WorkerSettings(keys=tmp_path / "keys", state=tmp_path / "state")
    connection = KafkaConnection("127.0.0.1:1", insecure_plaintext=True)
    service = ExchangeService(settings, connection, Metrics(), Ending())
    await service.on_start()
    assert service._plane is not None
    await service._plane.start()
    assert happened == ["topics", *["loaded"] * 4, "frozen", "joined"]
    await service._plane.stop()


async def test_what_a_worker_opened_of_an_erased_person_goes_with_the_tombstone(tmp_path: Path) -> None:
    """The view that reads the tombstone evicts from the cipher that the exchange opens with."""
    add_broker_keys(tmp_path / "keys", tmp_path / "operator")
    settings = WorkerSettings(keys=tmp_path / "keys", state=tmp_path / "state", http_port=0)
    service = ExchangeService(
        settings, KafkaConnection("127.0.0.1:1", insecure_plaintext=True), Metrics(), Ending()
    )  # fmt: skip
    await service.on_start()
    assert service._plane is not None
    assert service._plane.views.vault.evict == service._keys.vault.evict
    await service._plane.stop()


async def test_a_worker_keeps_idle_partitions_compacted_and_tells_when(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of its tasks, with its own login; the time of the last success is a metric."""
    add_broker_keys(tmp_path / "keys", tmp_path / "operator")
    settings = WorkerSettings(keys=tmp_path / "keys", state=tmp_path / "state", http_port=0)
    connection, metrics = KafkaConnection("127.0.0.1:1", insecure_plaintext=True), Metrics()

    async def succeed(known: KafkaConnection, done: Callable[[float], None]) -> None:
        assert known is connection
        done(1_796_030_000.0)

    monkeypatch.setattr(worker_module, "keep_rolling", succeed)
    service = ExchangeService(settings, connection, metrics, Ending())
    assert "_roll" in set().union(*ExchangeService._tasks.values())  # which mode starts with the service
    await ExchangeService._roll.fun(service)
    assert b"broker_rolled_timestamp_seconds 1.79603e+09" in metrics.text()
