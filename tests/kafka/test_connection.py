"""One object with everything needed to connect, and errors that say what is wrong."""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError

from broker.errors import ConfigError
from broker.kafka.connection import KafkaConnection
from broker.kafka.diagnosis import check, explain
from broker.kafka.embedded import EmbeddedKafka
from broker.kafka.pki import DevelopmentCA

SECRET = "s3cret-of-nobody"


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    """A CA that signed nothing."""
    ca = DevelopmentCA(tmp_path / "pki")
    ca.prepare()
    return ca.ca_file


@pytest.fixture
def connection(ca_file: Path) -> KafkaConnection:
    """A connection to nowhere."""
    return KafkaConnection("kafka.example:9093,[::1]:9094", ca_file, "pub", SECRET)


def test_the_password_does_not_show_in_the_repr(connection: KafkaConnection) -> None:
    """A connection that ends in a log does not bring its password along."""
    assert SECRET not in repr(connection)


def test_aiokafka_gets_tls_1_2_with_host_name_check(connection: KafkaConnection) -> None:
    """The keyword arguments say SASL_SSL, with a context that verifies."""
    settings = connection.aiokafka(request_timeout_ms=5000)
    context = settings.pop("ssl_context")
    assert settings == {
        "bootstrap_servers": "kafka.example:9093,[::1]:9094",
        "security_protocol": "SASL_SSL",
        "request_timeout_ms": 5000,
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "pub",
        "sasl_plain_password": SECRET,
    }
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_confluent_gets_the_same_settings_by_its_own_names(connection: KafkaConnection, ca_file: Path) -> None:
    """Both clients connect alike."""
    assert connection.confluent() == {
        "bootstrap.servers": "kafka.example:9093,[::1]:9094",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "pub",
        "sasl.password": SECRET,
        "ssl.ca.location": str(ca_file),
    }


def test_faust_gets_credentials_that_mean_sasl_over_tls(ca_file: Path) -> None:
    """Faust would take SASL without TLS silently; it gets a context, so its protocol is SASL_SSL."""
    connection = KafkaConnection("a:1, b:2", ca_file, "pub", SECRET)
    credentials = connection.faust_credentials()
    assert connection.faust_broker_url() == ["kafka://a:1", "kafka://b:2"]
    assert credentials.protocol.value == "SASL_SSL"
    assert credentials.mechanism.value == "SCRAM-SHA-512"


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"bootstrap": ""}, "kafka.bootstrap"),
        ({"bootstrap": "kafka.example"}, "kafka.bootstrap"),
        ({"bootstrap": "kafka.example:99999"}, "kafka.bootstrap"),
        ({"bootstrap": "a:1"}, "kafka.credentials_missing"),
        ({"bootstrap": "a:1", "username": "pub"}, "kafka.credentials_missing"),
        ({"bootstrap": "a:1", "username": "u", "password": SECRET, "mechanism": "GSSAPI"}, "kafka.mechanism"),
        (
            {"bootstrap": "a:1", "username": "u", "password": SECRET, "insecure_plaintext": True},
            "kafka.sasl_without_tls",
        ),
    ],
)
def test_contradicting_settings_are_refused(settings: dict[str, object], code: str) -> None:
    """Above all: a password never goes over a line without TLS."""
    with pytest.raises(ConfigError) as raised:
        KafkaConnection(**settings)
    assert raised.value.code == code
    assert SECRET not in str(raised.value)


def test_plaintext_is_there_only_when_asked_for_by_name() -> None:
    """`insecure_plaintext` takes TLS and login away together."""
    plain = KafkaConnection("a:1", insecure_plaintext=True)
    assert plain.aiokafka()["security_protocol"] == "PLAINTEXT"
    assert plain.confluent() == {"bootstrap.servers": "a:1", "security.protocol": "PLAINTEXT"}
    assert plain.ssl_context() is None
    assert plain.faust_credentials() is None


def test_a_missing_ca_file_is_named(tmp_path: Path) -> None:
    """The message says which file, since Python's own does not."""
    connection = KafkaConnection("a:1", tmp_path / "none.pem", "u", "p")
    with pytest.raises(ConfigError, match=r"none\.pem") as raised:
        connection.ssl_context()
    assert raised.value.code == "kafka.ca_file"


def test_a_connection_survives_its_file(connection: KafkaConnection, tmp_path: Path) -> None:
    """What is written is read back the same, and only the owner can read it."""
    path = tmp_path / "new" / "pub.json"
    connection.to_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert KafkaConnection.from_file(path) == connection
    assert [p.name for p in path.parent.iterdir()] == ["pub.json"]


def test_a_relative_ca_file_is_beside_the_connection_file(tmp_path: Path) -> None:
    """So that a folder with both can be handed over and moved."""
    path = tmp_path / "pub.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"bootstrap": "a:1", "ca_file": "ca.pem", "username": "u", "password": "p"}))
    assert KafkaConnection.from_file(path).ca_file == tmp_path / "ca.pem"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_can_read_is_refused(connection: KafkaConnection, tmp_path: Path, mode: int) -> None:
    """A password that others may have read is not used; the message has the command that helps."""
    path = tmp_path / "pub.json"
    connection.to_file(path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600") as raised:
        KafkaConnection.from_file(path)
    assert raised.value.code == "kafka.file_mode"


@pytest.mark.parametrize(
    "text",
    [
        f'{{"password": "{SECRET}"',
        "[]",
        f'{{"password": "{SECRET}"}}',
        f'{{"bootstrap": "a:1", "pasword": "{SECRET}"}}',
        f'{{"bootstrap": 1, "password": "{SECRET}"}}',
    ],
)
def test_a_damaged_file_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    """The file holds a password, so no part of it is in the message nor in a cause that is shown with it."""
    path = tmp_path / "pub.json"
    path.touch(mode=0o600)
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        KafkaConnection.from_file(path)
    assert raised.value.code == "kafka.file"
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The path is in the message."""
    with pytest.raises(ConfigError, match=r"none\.json"):
        KafkaConnection.from_file(tmp_path / "none.json")


def test_the_environment_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ca_file: Path) -> None:
    """A container is given BROKER_KAFKA_* and its password as a mounted file."""
    (tmp_path / "password").write_text(f"{SECRET}\n")
    monkeypatch.setenv("BROKER_KAFKA_BOOTSTRAP", "a:1")
    monkeypatch.setenv("BROKER_KAFKA_CA_FILE", str(ca_file))
    monkeypatch.setenv("BROKER_KAFKA_USERNAME", "exchange")
    monkeypatch.setenv("BROKER_KAFKA_PASSWORD_FILE", str(tmp_path / "password"))
    assert KafkaConnection.from_env() == KafkaConnection("a:1", ca_file, "exchange", SECRET)


def test_the_environment_can_name_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, connection: KafkaConnection
) -> None:
    """BROKER_KAFKA_CONNECTION decides alone."""
    connection.to_file(tmp_path / "pub.json")
    monkeypatch.setenv("BROKER_KAFKA_CONNECTION", str(tmp_path / "pub.json"))
    monkeypatch.setenv("BROKER_KAFKA_BOOTSTRAP", "other:1")
    assert KafkaConnection.from_env() == connection


def test_an_empty_environment_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is set: the first thing to set is named."""
    for name in ("CONNECTION", "BOOTSTRAP", "USERNAME", "PASSWORD", "PASSWORD_FILE"):
        monkeypatch.delenv(f"BROKER_KAFKA_{name}", raising=False)
    with pytest.raises(ConfigError, match="host:port"):
        KafkaConnection.from_env()


async def test_an_address_where_nobody_listens_is_unreachable(ca_file: Path) -> None:
    """The message says that nobody answers, not "unable to bootstrap"."""
    with pytest.raises(ConfigError) as raised:
        await check(KafkaConnection("127.0.0.1:1", ca_file, "u", "p"))
    assert raised.value.code == "kafka.unreachable"


@pytest.mark.kafka
async def test_a_good_connection_passes_the_check(kafka: EmbeddedKafka) -> None:
    """No error is the answer; one address of several is enough."""
    good = kafka.admin_connection()
    await check(good)
    await check(replace(good, bootstrap=f"127.0.0.1:1,{good.bootstrap}"))


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"password": "wrong"}, "kafka.login", "wrong user or password"),
        ({"username": "nobody"}, "kafka.login", "wrong user or password"),
        ({"ca_file": None}, "kafka.tls_untrusted", "not trusted"),
        ({"bootstrap": "127.0.0.1:1"}, "kafka.unreachable", "cannot be reached"),
        (
            {"ca_file": None, "username": None, "password": None, "insecure_plaintext": True},
            "kafka.tls",
            "SASL_SSL",
        ),
    ],
)
async def test_each_reason_why_aiokafka_cannot_bootstrap_has_its_own_message(
    kafka: EmbeddedKafka, change: dict[str, object], code: str, words: str
) -> None:
    """aiokafka says "Unable to bootstrap" for all of these; `explain` and `check` tell them apart."""
    bad = replace(kafka.admin_connection(), **change)
    producer = AIOKafkaProducer(**bad.aiokafka(request_timeout_ms=3000))
    with pytest.raises(KafkaConnectionError, match="Unable to bootstrap") as raised:
        await producer.start()
    await producer.stop()
    explained = await asyncio.to_thread(explain, raised.value, bad)
    assert (explained.code, words in str(explained)) == (code, True), explained
    with pytest.raises(ConfigError) as checked:
        await check(bad)
    assert checked.value.code == code


@pytest.mark.kafka
async def test_an_unknown_ca_is_not_trusted(kafka: EmbeddedKafka, ca_file: Path) -> None:
    """Another CA than the cluster's is named in the message."""
    with pytest.raises(ConfigError, match=str(ca_file)) as raised:
        await check(replace(kafka.admin_connection(), ca_file=ca_file))
    assert raised.value.code == "kafka.tls_untrusted"
