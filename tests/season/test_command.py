"""The command `broker preseason check`, from a folder and from a real Kafka."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from typer.testing import CliRunner

from broker.app.cluster import wanted_of
from broker.audit.leaf import control_leaf
from broker.cli import preseason as command
from broker.data import data_path
from broker.errors import ConfigError
from broker.exchange.model import AUDIT_CONTROL, VAULT
from broker.identity.vault import Flags, VaultCipher, VaultRecord, new_subject_key
from broker.kafka.access import OPERATOR, WORKER
from broker.kafka.admin import Admin
from broker.kafka.connection import KafkaConnection
from broker.kafka.embedded import EmbeddedKafka
from broker.keys import FileKeys
from broker.registry import Registry, load, load_document, records_of, store
from broker.season import CODES

EXAMPLES = data_path("examples") / "registry"
LAST = "2027-2028, 3 schools: 2 blocks, 2 soon, 7 note; not looked at: keys of parties, topics, pupils, requests to destroy"
SECRETS = ("vault-mac", "vault-records", "school-keys")
EMMA = "https://ketenid.nl/pilot/" + "e1" * 64


def run(*arguments: str) -> Any:
    """Run it on a day in June, with no connection in the environment."""
    return CliRunner().invoke(command.app, ["check", "--day", "2027-06-01", *arguments], env={"BROKER_CONNECTION": ""})


def test_a_folder_is_enough() -> None:
    """A table for each school that has something, a last line with counts, and exit code 2 because something blocks."""
    done = run("--folder", str(EXAMPLES), "--day", "2026-12-01")
    lines = done.stdout.splitlines()
    assert done.exit_code == 2
    assert [line for line in lines if line.startswith("99")] == ["99PA De Regenboog", "99VA Het Kompas"]
    assert lines[-1] == LAST


def test_nothing_that_blocks_is_exit_code_0() -> None:
    """What comes soon, and notes, stop no script."""
    done = run("--folder", str(EXAMPLES), "--school-year", "2026-2027", "--day", "2026-11-24", "--school", "99PA")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1].startswith("2026-2027, 1 schools: 0 blocks, 1 soon")


def test_each_finding_is_a_line_for_machines() -> None:
    """Nothing else is on standard output; what does not apply is left out."""
    done = run("--folder", str(EXAMPLES), "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {entry["code"] for entry in found} <= CODES.keys()
    assert found[0] == {
        "school": "99PA", "severity": "blocks", "code": "agreement.missing", "party": "hulp-extern",
        "about": ["vwo-po-hulp", "po-result-west-hulp"], "on": "2027-08-01", "says": found[0]["says"],
        "todo": CODES["agreement.missing"].todo,
    }  # fmt: skip
    assert done.stderr.startswith("2027-2028, 3 schools: ")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), "season.source"),
        (("--folder", str(EXAMPLES), "--keys", str(EXAMPLES)), "season.source"),
        (("--folder", str(EXAMPLES), "--school-year", "2027"), "season.year"),
        (("--folder", str(EXAMPLES), "--school-year", "2020-2021"), "season.year"),
        (("--folder", str(EXAMPLES), "--school", "99ZZ"), "season.school"),
    ],
)
def test_what_cannot_be_answered_is_an_error(arguments: tuple[str, ...], code: str) -> None:
    """Each with a code."""
    done = run(*arguments)
    assert isinstance(done.exception, ConfigError)
    assert done.exception.code == code


@dataclass(frozen=True)
class Installed:
    """Connection files of a Kafka with the example registry, and the broker's keys."""

    worker: Path
    operator: Path
    keys: Path


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """One of its own: other tests leave in the registry what no registry can be made of."""
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka"), heap_mb=192) as embedded:
        yield embedded


@pytest.fixture(scope="module")
def installed(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Two pupils in the vault, one without ECK iD; a request to destroy of long ago; a topic that was forgotten."""
    home = tmp_path_factory.mktemp("preseason")
    admin, registry = Admin(kafka.admin_connection()), load(EXAMPLES)
    wanted = wanted_of(registry, suspended=(), replicas=1)
    admin.apply([t for t in wanted.topics if t.name != "out.sis-zuid.usage"], wanted.acls)
    files = {}
    for user in (WORKER, OPERATOR):
        admin.ensure_user(user, f"password-of-{user}")
        files[user] = home / f"{user}.json"
        kafka.connection(user, f"password-of-{user}").to_file(files[user])
    keys = FileKeys(home / "keys")
    for name in SECRETS:
        keys.create_secret(name)
    asyncio.run(_fill(KafkaConnection.from_file(files[OPERATOR]), KafkaConnection.from_file(files[WORKER]), keys))
    return Installed(files[WORKER], files[OPERATOR], home / "keys")


async def _fill(operator: KafkaConnection, worker: KafkaConnection, keys: FileKeys) -> None:
    await store.apply(operator, records_of(load_document(EXAMPLES)), operator="test", reason="test")
    cipher = VaultCipher(*(keys.secret(name) for name in SECRETS))
    producer = AIOKafkaProducer(**worker.aiokafka(), transactional_id=f"{WORKER}.test", acks="all")
    await producer.start()
    try:
        async with producer.transaction():
            for eck_id, las_key in ((EMMA, "L0001"), (None, "L0002")):
                pupil = VaultRecord(
                    "99PA", "PO", "PUPIL", eck_id, (("LAS_KEY", las_key),), None, new_subject_key(), Flags()
                )
                for key in cipher.keys(pupil):
                    await producer.send(VAULT, cipher.encrypt(key, pupil), key=key)
            said = {
                "at": 1, "party": "hulp-extern", "school": "99PA", "agreement_id": "oud", "deadline": 20_000,
                "control_id": "c-1", "sender": "broker",
            }  # fmt: skip
            await producer.send(AUDIT_CONTROL, control_leaf("destroy-requested", said))
        await producer.begin_transaction()
        await producer.send(AUDIT_CONTROL, control_leaf("destroy-confirmed", said))
        await producer.abort_transaction()  # what was not committed was not said
    finally:
        await producer.stop()


def found_by(*arguments: str) -> tuple[list[dict[str, Any]], str]:
    """Findings at 99PA and 99MA, and the last line."""
    done = run(*arguments, "--json")
    assert done.exit_code == 2, done.output
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.mark.kafka
def test_the_worker_counts_pupils_and_reads_everything_else(installed: Installed) -> None:
    """Per school and sector; keys that are missing, the topic that was forgotten, the request that nobody confirmed."""
    found, last = found_by("--connection", str(installed.worker), "--keys", str(installed.keys))
    at_horizon = {(f["code"], f.get("sector"), f.get("count")) for f in found if f["school"] == "99PA"}
    assert ("pupils.no-eck-id", "PO", 1) in at_horizon
    assert ("local-ids.depend", "PO", 1) in at_horizon
    assert ("pupils.age-unknown", "PO", 2) in at_horizon
    assert ("destroy.overdue", None, None) in at_horizon
    assert ("party.key", None, None) in at_horizon
    assert ("pupils.none", "99MA") in {(f["code"], f["school"]) for f in found}
    topics = [f["about"] for f in found if f["code"] == "party.topics"]
    assert topics == [["out.sis-zuid.usage"]]
    assert "not looked at" not in last
    assert "L000" not in str(found)
    assert "ketenid" not in str(found)


@pytest.mark.kafka
def test_the_operator_sees_all_but_pupils(installed: Installed) -> None:
    """He may not read the vault: without --keys it is not looked at, with them it is an error."""
    found, last = found_by("--connection", str(installed.operator))
    assert {"destroy.overdue", "party.topics", "local-ids.ended"} <= {f["code"] for f in found}
    assert not any(f["code"].startswith("pupils.") for f in found)
    assert last.rstrip().endswith("not looked at: pupils")
    refused = run("--connection", str(installed.operator), "--keys", str(installed.keys))
    assert isinstance(refused.exception, ConfigError)
    assert refused.exception.code == "topic.missing"


@pytest.mark.kafka
def test_a_registry_that_was_read_is_the_one_that_was_applied(installed: Installed) -> None:
    """What a folder says, the topic says."""
    records = asyncio.run(store.read_records(KafkaConnection.from_file(installed.worker)))
    assert Registry.from_records(records).version == load(EXAMPLES).version
