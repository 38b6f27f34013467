"""The real bundle of a party of the stage, for programs that are not in Python."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from broker.client.profile import CONNECTION_FILE
from broker.demo import story
from broker.demo.stage import Stage
from broker.kafka.connection import KafkaConnection
from broker.onboarding.bundle import PARTY_FILE, write_bundle
from broker.onboarding.sandbox import Sandbox, free_school


def bundle_of(scene: Stage, party: str, folder: Path) -> Path:
    """The bundle as `broker party add` makes it, in a place of its own. Its sandbox is not in the registry."""
    profile = scene.profile(party)
    assert profile.folder is not None
    shutil.copytree(profile.folder, folder)
    connection = KafkaConnection.from_file(folder / CONNECTION_FILE)
    registry = scene.registry
    sandbox = Sandbox(party, free_school(registry.schools.values()), registry.parties[party].roles)
    write_bundle(folder, connection, registry, sandbox, story.today().date())
    return folder


def another_topic(bundle: Path, family: str, topic: str) -> Path:
    """Have the bundle name another topic for what comes of a family."""
    path = bundle / PARTY_FILE
    document = json.loads(path.read_text("utf-8"))
    document["topics"]["out"][family] = topic
    path.write_text(json.dumps(document), "utf-8")
    return bundle


def change_settings(bundle: Path, old: str, new: str) -> Path:
    """Put something else into the settings of Java's client and of librdkafka's."""
    for path in bundle.glob("kafka/*.properties"):
        text = path.read_text("utf-8")
        assert old in text, path.name
        path.write_text(text.replace(old, new), "utf-8")
    return bundle
