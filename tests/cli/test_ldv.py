"""What `broker ldv` says before it connects to anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.cli import build
from broker.errors import ConfigError
from broker.kafka.connection import KafkaConnection

URL = "https://logboek.example/v1/traces"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--endpoint", URL), "ldv.board"),
        (("--endpoint", URL, "--own", "--board", "bestuur-horizon"), "ldv.board"),
        (("--endpoint", "http://logboek.example/v1/traces", "--own"), "ldv.endpoint"),
        (("--endpoint", URL, "--own", "--header-file", "absent"), "ldv.headers"),
        (("--endpoint", URL, "--own", "--ca-file", "absent"), "ldv.endpoint"),
        (("--endpoint", URL, "--own"), "kafka.file"),
    ],
)
def test_what_can_not_be_exported_is_told_at_once(
    arguments: tuple[str, ...], code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a code, before Kafka is asked for anything."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(build("ldv"), ["ldv", "export", "--connection", "absent.json", *arguments])
    assert isinstance(done.exception, ConfigError)
    assert done.exception.code == code


def test_a_secret_can_not_be_given_on_the_command_line(tmp_path: Path) -> None:
    """There every user of the machine could read it: there is no such option."""
    file = tmp_path / "connection.json"
    KafkaConnection("127.0.0.1:1", insecure_plaintext=True).to_file(file)
    arguments = ["ldv", "export", "--connection", str(file), "--own", "--endpoint", URL, "--header", "Authorization: x"]
    done = CliRunner().invoke(build("ldv"), arguments)
    assert done.exit_code == 2
    assert "--header" in done.stderr


@pytest.mark.parametrize("command", [["check"], ["export", "--own", "--endpoint", URL]])
def test_a_kafka_that_is_not_there_is_told(command: list[str], tmp_path: Path) -> None:
    """And what to look at."""
    file = tmp_path / "connection.json"
    KafkaConnection("127.0.0.1:1", insecure_plaintext=True).to_file(file)
    done = CliRunner().invoke(build("ldv"), ["ldv", *command, "--connection", str(file)])
    assert isinstance(done.exception, ConfigError)
    assert done.exception.code == "kafka.unreachable"
