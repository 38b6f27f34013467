"""Attacks by reading what a process prints: settings, keys and passwords in reprs, logs, errors and on its command line."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from broker.app.logs import configure
from broker.app.provision import add_broker_keys
from broker.client import Profile
from broker.client.receipts import Evidence
from broker.crypto import DataKey, DataKeyMaker, DataKeyOpener, KeyedHash
from broker.errors import BrokerError
from broker.exchange import ExchangeKeys
from broker.exchange.keys import BROKER, SECRETS
from broker.identity.vault import SchoolKeys, VaultCipher, VaultRecord
from broker.kafka.admin import Admin
from broker.kafka.connection import KafkaConnection, _Environment
from broker.kafka.embedded import EmbeddedKafka
from broker.keys import FileKeys, MemoryKeys
from broker.settings import WorkerSettings
from tests.exchange.world import EMMA

PASSWORD = "canary-password-of-nobody"
RAW = bytes(range(7, 39))
SIGNS = (PASSWORD, RAW.hex(), repr(RAW)[2:-1], EMMA[-40:], "L0001")


def leaks(text: str) -> list[str]:
    """Which secrets a text shows, in any of the forms that Python has for them."""
    return [sign for sign in SIGNS if sign in text]


def connection() -> KafkaConnection:
    """A login."""
    return KafkaConnection("127.0.0.1:1", None, "pub", PASSWORD)


def memory_keys() -> MemoryKeys:
    """Keys, all of them the canary."""
    keys = MemoryKeys()
    keys.create("operator")
    keys._secrets = dict.fromkeys(SECRETS, RAW)
    return keys


def environment() -> Any:
    """Settings as pydantic reads them."""
    return _Environment(bootstrap="a:1", username="pub", password=PASSWORD)  # type: ignore[arg-type]


HOLDERS: dict[str, Callable[[], object]] = {
    "connection": connection,
    "environment": environment,
    "settings": lambda: WorkerSettings(connection=Path("c.json")),
    "profile": lambda: Profile("pub", connection(), memory_keys()),
    "keys in memory": memory_keys,
    "keys of the exchange": lambda: ExchangeKeys(memory_keys()),
    "vault": lambda: VaultCipher(RAW, RAW, RAW),
    "school keys": lambda: SchoolKeys(RAW),
    "keyed hash": lambda: KeyedHash(RAW),
    "data key": lambda: DataKey.from_secret(RAW, b"header", "kid"),
    "maker": lambda: DataKeyMaker(memory_keys().recipient_keys("operator")[0].jwk, "kid"),
    "opener": lambda: DataKeyOpener(memory_keys().private_key),
    "evidence": lambda: Evidence("e", "pub", RAW, RAW),
    "enrolment": lambda: VaultRecord("99PA", "PO", "PUPIL", EMMA, (("LAS_KEY", "L0001"),), None, RAW, former_keys=(RAW,)),
}  # fmt: skip


@pytest.mark.parametrize("name", HOLDERS)
def test_what_holds_a_secret_does_not_show_it(name: str) -> None:
    """By repr, str, in a container, in a log line as an argument, and in the text of an error about it."""
    holder = HOLDERS[name]()
    stream = io.StringIO()
    configure("debug", stream)
    try:
        structlog.get_logger("broker.x").error("e", reason=holder, text=f"{holder} {[holder]!r}", record=holder)
    finally:
        structlog.reset_defaults()
    shown = repr(holder) + str(holder) + repr({"x": holder}) + stream.getvalue()
    try:
        raise BrokerError(f"about {holder!r}", code="x")
    except BrokerError as error:
        # As a tool would that shows the variables of each frame.
        shown += "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert leaks(shown) == []


def test_the_signs_are_found_where_they_are() -> None:
    """The test above is not blind."""
    assert leaks(f"{PASSWORD}{RAW!r}{RAW.hex()}{EMMA}L0001") == list(SIGNS)
    assert leaks(repr(vars(memory_keys()))) != []


WRONG: dict[str, dict[str, str]] = {
    "a password without TLS": {"BROKER_KAFKA_INSECURE_PLAINTEXT": "true"},
    "a mechanism that is none": {"BROKER_KAFKA_MECHANISM": PASSWORD},
    "a boolean that is none": {"BROKER_KAFKA_INSECURE_PLAINTEXT": PASSWORD},
    "a number that is none": {"BROKER_VIEW_AGE_S": PASSWORD},
    "a damaged secret": {},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_worker_that_can_not_start_says_why_and_no_secret(tmp_path: Path, name: str) -> None:
    """A process of its own, with the password in its environment: nothing of it on stdout and stderr."""
    add_broker_keys(tmp_path / "keys", tmp_path / "operator")
    if name == "a damaged secret":
        (tmp_path / "keys" / "vault-mac.secret").write_text(f"{PASSWORD}\n")
    settings = {
        "BROKER_KAFKA_BOOTSTRAP": "127.0.0.1:1", "BROKER_KAFKA_USERNAME": "exchange", "BROKER_KAFKA_PASSWORD": PASSWORD,
        "BROKER_KEYS": str(tmp_path / "keys"), "BROKER_STATE": str(tmp_path / "state"),
    }  # fmt: skip
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")}
    # As `broker worker`, but that it does not wait for Kafka first.
    program = "from broker.app import worker, logs; from broker.settings import WorkerSettings; logs.configure(); "
    program += "worker.create_app(WorkerSettings())"
    done = subprocess.run(
        [sys.executable, "-c", program], env=kept | settings | WRONG[name], capture_output=True, text=True, timeout=60,
        cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert done.stderr
    if WRONG[name].get("BROKER_KAFKA_MECHANISM"):  # what was set as something else than a secret is named
        assert "mechanism" in done.stderr
    else:
        assert leaks(done.stdout + done.stderr) == []


@pytest.mark.kafka
def test_no_password_is_on_a_command_line_or_in_kafkas_log(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    """Of the brokers' processes; everybody on the machine may see those. Users made by our commands included."""
    user = f"user-{tmp_path.name[-20:].replace('_', '-')}"
    Admin(kafka.admin_connection()).ensure_user(user, PASSWORD)
    admin = kafka.admin_connection().password or ""
    assert admin
    lines = [
        Path(f"/proc/{pid}/{what}").read_bytes().decode(errors="replace")
        for pid in kafka.status().pids.values()
        for what in ("cmdline", "environ")
    ]
    logs = [path.read_text(errors="replace") for path in kafka.home.glob("broker-*.log")]
    assert all("java" in line or "=" in line for line in lines)
    for text in (*lines, *logs):
        assert PASSWORD not in text
        assert admin not in text
    Admin(kafka.admin_connection()).remove_user(user)


def test_a_damaged_key_file_is_named_and_not_quoted(tmp_path: Path) -> None:
    """JSON's own error holds the whole text of the file: neither the error nor what caused it may."""
    keys = FileKeys(tmp_path)
    key = keys.create(BROKER)
    path = tmp_path / f"{key.kid}.jwk"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document)[:-3])
    with pytest.raises(BrokerError) as caught:
        keys.private_key(key.kid)
    told = "".join(traceback.format_exception(caught.value))
    assert document["jwk"]["d"] not in told
    assert all(
        document["jwk"]["d"] not in repr(vars(error)) for error in (caught.value, caught.value.__context__) if error
    )
