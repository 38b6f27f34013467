"""The commands `broker kafka` and `broker topics`, as a person or a script meets them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from broker.app.cluster import topics_of
from broker.cli import kafka as kafka_commands
from broker.cli import topics as topics_commands
from broker.data import data_path
from broker.errors import ConfigError
from broker.kafka.embedded import EmbeddedKafka
from broker.registry import load, load_document, records_of
from broker.registry.store import apply
from tests.kafka.conftest import Cluster

run = CliRunner().invoke


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home folder in which nothing runs afterwards."""
    yield tmp_path / "kafka"
    EmbeddedKafka(tmp_path / "kafka").stop(kill=True)


def test_what_does_not_run_is_told_by_the_exit_code(home: Path) -> None:
    """Status ends with 3, stop is content."""
    asked = run(kafka_commands.app, ["status", "--home", str(home), "--json"])
    assert (asked.exit_code, json.loads(asked.stdout)["state"]) == (3, "stopped")
    stopped = run(kafka_commands.app, ["stop", "--home", str(home)])
    assert (stopped.exit_code, "not running" in stopped.stderr) == (0, True)


@pytest.mark.kafka
def test_start_status_stop(home: Path) -> None:
    """Started once, found running, said so when started again, stopped; its log is there."""
    started = run(kafka_commands.app, ["start", "--home", str(home), "--json"])
    assert started.exit_code == 0, started.output
    document = json.loads(started.stdout)
    assert document["state"] == "running"
    again = run(kafka_commands.app, ["start", "--home", str(home), "--json"])
    assert "already running" in again.stderr
    assert json.loads(again.stdout) == document
    assert "running" in run(kafka_commands.app, ["status", "--home", str(home)]).stdout
    assert "Kafka Server started" in run(kafka_commands.app, ["logs", "--home", str(home)]).stdout
    assert run(kafka_commands.app, ["stop", "--home", str(home)]).exit_code == 0
    assert run(kafka_commands.app, ["status", "--home", str(home)]).exit_code == 3


@pytest.mark.kafka
def test_plan_says_what_apply_then_does(cluster: Cluster, tmp_path: Path) -> None:
    """Plan ends with 2 while something differs; after apply with 0; what only a person can decide stays."""
    connection = tmp_path / "admin.json"
    cluster.admin.connection.to_file(connection)
    folder = tmp_path / "topics"
    folder.mkdir()
    text = (data_path("topics") / "schemas.yaml").read_text().replace("name: schemas", "name: by.command")
    file = folder / "by.command.yaml"
    file.write_text(text.replace("topicName: schemas", "topicName: by.command"))
    arguments = ["--connection", str(connection), "--topics", str(folder), "--json"]

    planned = run(topics_commands.app, ["plan", *arguments])
    assert planned.exit_code == 2, planned.output
    assert [json.loads(line)["change"] for line in planned.stdout.splitlines()] == ["create_topic"]
    applied = run(topics_commands.app, ["apply", *arguments])
    assert (applied.exit_code, applied.stdout) == (0, planned.stdout)
    assert run(topics_commands.app, ["plan", *arguments]).exit_code == 0

    file.write_text(file.read_text().replace("partitions: 1", "partitions: 2"))
    left = run(topics_commands.app, ["apply", *arguments])
    assert (left.exit_code, json.loads(left.stdout)["change"]) == (2, "drift")


@pytest.mark.kafka
def test_the_parties_of_a_registry_get_their_topics_and_rights(cluster: Cluster, tmp_path: Path) -> None:
    """Planned only: names and rights come from the registry's parties and from what they may receive."""
    connection = tmp_path / "admin.json"
    cluster.admin.connection.to_file(connection)
    parties = topics_of(load(data_path("examples") / "registry"))
    assert parties
    planned = run(
        topics_commands.app,
        ["plan", "--connection", str(connection), "--registry", str(data_path("examples") / "registry"), "--json"],
    )
    assert planned.exit_code == 2, planned.output
    changes = [json.loads(line) for line in planned.stdout.splitlines()]
    created = {change["target"] for change in changes if change["change"] == "create_topic"}
    for party, topics in parties.items():
        assert {f"in.{party}", f"status.{party}", *(f"out.{party}.{family}" for family in topics.families)} <= created
        for kind in ("add_acl", "set_quota"):
            assert any(change["change"] == kind and change["target"] == party for change in changes)


@pytest.mark.kafka
async def test_the_parties_can_be_those_of_the_live_registry(cluster: Cluster, tmp_path: Path) -> None:
    """As the operator, who reads the topic: the plan is that of the folder from which the registry was applied.

    While no party stands on it, nothing is planned: all parties would lose their rights.
    """
    folder, file = data_path("examples") / "registry", tmp_path / "operator.json"
    operator = cluster.connection("operator")
    operator.to_file(file)

    async def plan(*source: str) -> Result:
        arguments = ["plan", "--connection", str(file), "--json", *source]
        return await asyncio.to_thread(run, topics_commands.app, arguments)

    refused = await plan("--registry-topic")
    assert isinstance(refused.exception, ConfigError)
    assert refused.exception.code == "topics.registry"
    await apply(operator, records_of(load_document(folder)), operator="test", reason="test")
    live = await plan("--registry-topic")
    assert live.exit_code == 2, live.output
    assert live.stdout == (await plan("--registry", str(folder))).stdout
    assert {"set_quota", "add_acl", "create_topic"} <= {json.loads(line)["change"] for line in live.stdout.splitlines()}
    both = await plan("--registry-topic", "--registry", str(folder))
    assert isinstance(both.exception, ConfigError)
    assert both.exception.code == "topics.registry"
