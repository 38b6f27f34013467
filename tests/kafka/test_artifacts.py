"""The archives of Apache Kafka: what the lock says runs, and nothing else."""

from __future__ import annotations

import hashlib
import shutil
import socket
from pathlib import Path
from typing import NoReturn

import pytest

from broker.errors import ConfigError, TransientError
from broker.kafka import artifacts
from broker.kafka.artifacts import LOCK_FILE, cache_folder, chosen_version, locked, provide, require_readable, versions


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, Path]:
    """A cache and a lock file with one archive of our own making."""
    cache, lock = tmp_path / "cache", tmp_path / "kafka.lock"
    archive = cache / "org" / "example" / "thing" / "1.0" / "thing-1.0.jar"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"content")
    lock.write_text(f"# comment\n\n{hashlib.sha256(b'content').hexdigest()} org.example:thing:1.0\n")
    return cache, lock


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection can be made."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize(("version", "count"), [("4.3.0", 46), ("4.3.1", 46), ("3.9.2", 59)])
def test_a_lock_names_one_version_throughout(version: str, count: int) -> None:
    """A mixture of versions, as a resolver once made, would start and then fail somewhere."""
    lock = versions()[version]
    own = [artifact for artifact in locked(lock) if artifact.group == "org.apache.kafka"]
    assert {artifact.version for artifact in own} == {version}
    assert len(locked(lock)) == len({(a.group, a.name) for a in locked(lock)}) == count


def test_the_tested_version_comes_first_and_others_are_named_after_theirs() -> None:
    """`kafka.lock` is what a start fetches when nothing is said."""
    assert next(iter(versions().values())) == LOCK_FILE
    others = list(versions().items())[1:]
    assert [path.name for _, path in others] == [f"kafka-{version}.lock" for version, _ in others]


def test_the_version_is_what_is_asked_for_else_what_ran_last_else_the_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that ran 3.9 is not brought to 4.3, from where there is no way back, by leaving an option out."""
    monkeypatch.delenv("BROKER_KAFKA_VERSION", raising=False)
    assert chosen_version(None, None) == next(iter(versions()))
    assert chosen_version(None, "3.9.2") == "3.9.2"
    assert chosen_version(None, "4.2.9") == next(iter(versions()))
    assert chosen_version("4.3.1", "3.9.2") == "4.3.1"
    monkeypatch.setenv("BROKER_KAFKA_VERSION", "3.9.2")
    assert chosen_version(None, "4.3.1") == "3.9.2"
    with pytest.raises(ConfigError, match=r"Kafka 4\.2\.9.*4\.3\.1") as raised:
        chosen_version("4.2.9", None)
    assert raised.value.code == "kafka.version"


def test_data_is_not_given_to_an_older_kafka(tmp_path: Path) -> None:
    """Kafka 3.9 would die of what 4.3 wrote; a patch release makes no difference, and 3.10 is newer than 3.9."""
    require_readable("3.9.2", None, tmp_path)
    require_readable("4.3.0", "4.3.1", tmp_path)
    require_readable("3.10.0", "3.9.2", tmp_path)
    with pytest.raises(ConfigError, match=r"written by Kafka 4\.3\.1") as raised:
        require_readable("3.9.2", "4.3.1", tmp_path)
    assert raised.value.code == "kafka.version"


@pytest.mark.parametrize("line", ["abc org.example:thing:1.0", f"{'0' * 64} org.example:thing", f"{'0' * 64} a::1"])
def test_a_malformed_lock_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    """A lock that is half read is no lock."""
    (tmp_path / "kafka.lock").write_text(f"# first\n{line}\n")
    with pytest.raises(ConfigError, match="line 2"):
        locked(tmp_path / "kafka.lock")


def test_a_verified_archive_needs_no_network(small: tuple[Path, Path], no_network: None) -> None:
    """Once fetched, everything works offline."""
    cache, lock = small
    assert [path.name for path in provide(cache, lock_file=lock)] == ["thing-1.0.jar"]


def test_a_changed_archive_is_not_returned(small: tuple[Path, Path]) -> None:
    """One other byte, and it does not run."""
    cache, lock = small
    next(cache.rglob("*.jar")).write_bytes(b"Content")
    with pytest.raises(ConfigError, match=r"org\.example:thing:1\.0") as raised:
        provide(cache, offline=True, lock_file=lock)
    assert raised.value.code == "kafka.offline"


def test_without_a_network_the_first_fetch_says_so(
    tmp_path: Path, no_network: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message says that the network is needed once, and where to look."""
    with pytest.raises(TransientError, match="network once") as raised:
        provide(tmp_path / "cache")
    assert raised.value.code == "kafka.fetch"
    assert "46 archives" in capsys.readouterr().err


def test_an_archive_that_stays_wrong_is_refused(small: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror that serves something else is found out, also when it does so twice."""
    cache, lock = small
    archive = next(cache.rglob("*.jar"))
    archive.write_bytes(b"tampered")
    monkeypatch.setattr(artifacts, "_fetch", lambda *_: archive.write_bytes(b"tampered again"))
    with pytest.raises(ConfigError) as raised:
        provide(cache, lock_file=lock)
    assert raised.value.code == "kafka.checksum"


def test_a_full_disk_is_told_before_fetching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, since half a download helps nobody."""
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ConfigError, match="10 MB are free") as raised:
        provide(tmp_path / "cache")
    assert raised.value.code == "kafka.disk"


def test_the_cache_can_be_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BROKER_KAFKA_CACHE names it; else it is the user's own."""
    monkeypatch.setenv("BROKER_KAFKA_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("BROKER_KAFKA_CACHE")
    assert "eck-broker" in cache_folder().parts


@pytest.mark.kafka
def test_a_damaged_archive_is_fetched_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The copy of a cache with one damaged archive: told, removed, fetched, verified."""
    originals = provide()
    smallest = min(originals, key=lambda path: path.stat().st_size)
    cache = tmp_path / "cache"
    for path in originals:
        copy = cache / path.relative_to(cache_folder())
        copy.parent.mkdir(parents=True)
        copy.symlink_to(path)
    damaged = cache / smallest.relative_to(cache_folder())
    damaged.unlink()
    damaged.write_bytes(smallest.read_bytes()[:-1])
    with pytest.raises(ConfigError):
        provide(cache, offline=True)
    provide(cache)
    assert damaged.read_bytes() == smallest.read_bytes()
    assert f"{smallest.name} differs" in capsys.readouterr().err
