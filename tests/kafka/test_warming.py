"""Java's start-up cache: recorded once, used by every start, and no start depends on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.cli import build
from broker.errors import ConfigError
from broker.kafka import artifacts, warming
from broker.kafka.embedded import EmbeddedKafka
from broker.kafka.java import start_cache
from broker.kafka.warming import warm

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of its own with Kafka's archives, in which nothing was recorded."""
    folder = tmp_path_factory.mktemp("cache")
    archives = artifacts.provide()
    for archive in archives:
        copy = folder / archive.relative_to(artifacts.cache_folder())
        copy.parent.mkdir(parents=True)
        copy.write_bytes(archive.read_bytes())
    return folder


@pytest.fixture
def kafka(tmp_path: Path, cache: Path) -> Iterator[EmbeddedKafka]:
    """A Kafka of that folder, that is not started yet."""
    found = EmbeddedKafka(tmp_path / "kafka", cache=cache, offline=True)
    yield found
    found.stop(kill=True)


def files_of(kafka: EmbeddedKafka) -> str:
    """What the broker's process has mapped into its memory."""
    return Path(f"/proc/{kafka.status().pids[1]}/maps").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_start_is_recorded_once_and_used_from_then_on(
    kafka: EmbeddedKafka, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the command that people type; archives of another time make it record again. What fell over on the disk is
    passed over, not died of."""
    monkeypatch.setenv("BROKER_KAFKA_CACHE", str(cache))
    monkeypatch.delenv("BROKER_KAFKA_VERSION", raising=False)
    file = start_cache(cache, kafka.version)
    assert not file.exists()
    said = CliRunner().invoke(build("kafka"), ["kafka", "warm", "--offline"])
    assert said.exit_code == 0, said.output
    assert file.name in said.output.replace("\n", "")
    assert {path.suffix for path in cache.iterdir() if path.is_file()} == {".aot", ""}, "nothing else of it stays"
    kafka.start()
    assert str(file) in files_of(kafka)
    kafka.stop()

    recorded = []
    with monkeypatch.context() as patch:
        patch.setattr(warming, "_record", lambda *_: recorded.append(1))
        assert warm(cache) == file
        assert recorded == []
        archive = artifacts.provide(cache, offline=True)[0]
        was = archive.stat().st_mtime
        os.utime(archive, (was - 1_000, was - 1_000))
        warm(cache)
        assert recorded == [1]
        os.utime(archive, (was, was))

    whole = file.read_bytes()
    for damaged in (_flipped(whole, 10_000_000), _flipped(whole, len(whole) // 2), whole[: len(whole) // 2], b"none"):
        file.write_bytes(damaged)
        assert kafka.start().status().state == "running"
        kafka.stop(kill=True)


def _flipped(whole: bytes, at: int) -> bytes:
    return whole[:at] + bytes(byte ^ 255 for byte in whole[at : at + 200_000]) + whole[at + 200_000 :]


def test_a_java_that_records_nothing_is_told_and_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends without the file."""
    file = start_cache(cache, artifacts.chosen_version(None, None))
    file.unlink(missing_ok=True)

    class KilledKafka(EmbeddedKafka):
        def stop(self, *, kill: bool = False, timeout_s: float = 30.0) -> None:  # noqa: ARG002 - what it is told
            super().stop(kill=True)

    monkeypatch.setattr(warming, "EmbeddedKafka", KilledKafka)
    with pytest.raises(ConfigError) as refused:
        warm(cache, offline=True)
    assert refused.value.code == "kafka.warm"
    assert not file.exists()


def test_a_folder_that_can_not_be_written_to_is_told(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As what it is: no reason not to go on."""
    start_cache(cache, artifacts.chosen_version(None, None)).unlink(missing_ok=True)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(cache / ".warming"))

    monkeypatch.setattr(artifacts, "only_one", refuse)
    with pytest.raises(ConfigError, match=r"Permission denied \(.*\.warming.*only not faster") as refused:
        warm(cache, offline=True)
    assert refused.value.code == "kafka.warm"
