"""A party's folder as the operator gives it, for programs that are not in Python."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from broker.demo.stage import Stage
from broker.registry import receivable_families


def write_bundle(scene: Stage, party: str, folder: Path, **topics: Any) -> Path:
    """Write one of a party of the stage.

    Args:
        topics: other values of `topics` than the party's own, such as `out`.
    """
    profile = scene.profile(party)
    connection = profile.connection
    assert profile.folder is not None
    assert connection.ca_file is not None
    families = receivable_families(scene.registry, party)
    own = {
        "in": f"in.{party}", "status": f"status.{party}", "quarantine": f"quarantine.{party}",
        "out": {family: f"out.{party}.{family}" for family in sorted(families)},
        "schemas": "schemas", "broker_keys": "broker.keys",
    }  # fmt: skip
    document = {
        "party": party, "bootstrap": connection.bootstrap, "topics": own | topics, "group_prefix": f"{party}.",
    }  # fmt: skip
    (folder / "kafka").mkdir(parents=True)
    (folder / "party.json").write_text(json.dumps(document), "utf-8")
    shutil.copy(connection.ca_file, folder / "ca.pem")
    shutil.copytree(profile.folder / "keys", folder / "keys")
    login = (
        "org.apache.kafka.common.security.scram.ScramLoginModule required "
        f'username="{connection.username}" password="{connection.password}";'
    )
    _properties(folder / "kafka" / "java.properties", {
        "bootstrap.servers": connection.bootstrap, "security.protocol": "SASL_SSL",
        "sasl.mechanism": connection.mechanism, "sasl.jaas.config": login, "ssl.truststore.type": "PEM",
        "ssl.truststore.location": "ca.pem",
    })  # fmt: skip
    _properties(folder / "kafka" / "librdkafka.properties", {
        **{name: str(value) for name, value in connection.confluent().items()}, "ssl.ca.location": "ca.pem",
    })  # fmt: skip
    return folder


def _properties(path: Path, settings: Mapping[str, str]) -> None:
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), "utf-8")
