"""The steps of the compose file, as far as they need no Kafka; with one: tests/helm/test_compose_steps.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.app.compose import BROKERS, Home, prepare, setup
from broker.errors import ConfigError

VOLUMES = ("operator", "grafana-admin", *(f"kafka-{node}" for node in range(1, BROKERS + 1)))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """With the volumes that are mounted."""
    for volume in VOLUMES:
        (tmp_path / volume).mkdir(mode=0o700)
    return Home(tmp_path, 9092)


def test_what_is_prepared_stays_and_each_broker_has_its_own(home: Home) -> None:
    """A second time makes no new key, password or cluster; no broker has the authority's key or a neighbour's."""
    prepare(home, "/opt/kafka/libs/*")
    first = {path: path.read_bytes() for path in home.folder.rglob("*") if path.is_file()}
    prepare(home, "/opt/kafka/libs/*")
    assert {path: path.read_bytes() for path in home.folder.rglob("*") if path.is_file()} == first

    assert all(path.stat().st_mode & 0o077 == 0 for path in first)
    for node in range(1, BROKERS + 1):
        names = {path.name for path in first if path.is_relative_to(home / f"kafka-{node}")}
        assert names == {
            "ca.pem", f"broker-{node}.keystore.pem", f"server-{node}.properties", "log4j2.xml", "format.args", "server.args",
        }  # fmt: skip
        settings = (home / f"kafka-{node}" / f"server-{node}.properties").read_text()
        assert f"LOGIN://127.0.0.1:{9092 + 3 * (node - 1)}," in settings
        assert "connections.max.reauth.ms=3600000\n" in settings
        assert "default.replication.factor=3\nmin.insync.replicas=2\n" in settings


def test_a_mistake_in_the_registry_shows_before_anything_is_made(home: Home, tmp_path: Path) -> None:
    """No login is made, and Kafka is not even asked."""
    prepare(home, "/opt/kafka/libs/*")
    before = sorted(home.folder.rglob("*"))
    (registry := tmp_path / "registry").mkdir()
    (registry / "a.yaml").write_text("partys: []\n")
    with pytest.raises(ConfigError) as refused:
        setup(home, registry)
    assert refused.value.code == "registry.invalid"
    assert sorted(path for path in home.folder.rglob("*") if not path.is_relative_to(registry)) == before
