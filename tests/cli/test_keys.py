"""Tests of `broker keys`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

import broker.cli.keys as command
from broker.errors import ConfigError
from broker.kafka.connection import KafkaConnection
from broker.keys import FileKeys, RecipientKey


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A key folder that does not exist yet."""
    return tmp_path / "keys"


def run(folder: Path, *arguments: str) -> Result:
    """Run a command on a key folder."""
    return CliRunner().invoke(command.app, [*arguments], env={"BROKER_KEYS": str(folder)})


def done(folder: Path, *arguments: str) -> str:
    """The output of a command that succeeds."""
    result = run(folder, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(folder: Path, *arguments: str) -> str:
    """The code of a command that does not."""
    error = run(folder, *arguments).exception
    assert isinstance(error, ConfigError), error
    return error.code


def test_create_makes_a_key_and_secrets_once(folder: Path) -> None:
    """Again: the same key, the same secret."""
    first = json.loads(done(folder, "create", "broker", "--secret", "vault-mac", "--secret", "record-keys", "--json"))
    secret = FileKeys(folder).secret("vault-mac")
    again = json.loads(done(folder, "create", "broker", "--secret", "vault-mac", "--json"))
    assert first == again
    assert FileKeys(folder).secret("vault-mac") == secret
    assert FileKeys(folder).secret_names() == ("record-keys", "vault-mac")


def test_create_can_make_a_secret_alone_and_needs_something_to_make(folder: Path) -> None:
    """Without owner and secret it says what is missing."""
    done(folder, "create", "--secret", "vault-mac")
    assert FileKeys(folder).owners() == ()
    assert refused(folder, "create") == "keys.name"


def test_list_shows_the_newest_first_and_names_secrets(folder: Path) -> None:
    """As lines to grep, and as JSON."""
    keys = FileKeys(folder)
    older, newest = keys.create("broker"), keys.create("broker")
    keys.create_secret("vault-mac")
    lines = [line.split("\t") for line in done(folder, "list").splitlines()[2:]]
    assert [(line[0], line[3]) for line in lines] == [
        (newest.kid, "newest"), (older.kid, "older"), ("vault-mac", "secret"),
    ]  # fmt: skip
    rows = [json.loads(line) for line in done(folder, "list", "--json").splitlines()]
    assert [row["kid"] for row in rows] == [newest.kid, older.kid, "vault-mac"]


def test_list_of_an_empty_folder_is_empty(folder: Path) -> None:
    """Not an error; nothing is made."""
    assert done(folder, "list", "--json") == ""
    assert not folder.exists()


def test_rotate_makes_a_newer_key_and_keeps_the_older(folder: Path) -> None:
    """Of an owner who has one."""
    assert refused(folder, "rotate", "broker") == "keys.missing"
    first = FileKeys(folder).create("broker")
    made = json.loads(done(folder, "rotate", "broker", "--json"))
    assert [k.kid for k in FileKeys(folder).recipient_keys("broker")] == [made["kid"], first.kid]


def test_the_vaults_keys_are_replaced_only_with_a_connection(folder: Path, tmp_path: Path) -> None:
    """The registry says which is in use, so nothing is made without it; and the vault is written by another user."""
    create = FileKeys(folder)
    create.create_secret("vault-records")
    assert refused(folder, "rotate", "vault") == "keys.connection"
    connection = tmp_path / "operator.json"
    KafkaConnection("kafka.example:9093", None, "operator", "invented").to_file(connection)
    error = run(folder, "rotate", "vault", "--connection", str(connection)).exception
    assert isinstance(error, ConfigError)
    assert "key-rotator.json" in str(error)
    assert create.secret_names() == ("vault-records",)


def test_export_is_a_public_jwk_set(folder: Path) -> None:
    """RFC 7517 section 5: public members, key id, use and algorithm."""
    keys = FileKeys(folder)
    older, newest = keys.create("delta"), keys.create("delta")
    document = json.loads(done(folder, "export", "delta"))
    assert [key["kid"] for key in document["keys"]] == [newest.kid, older.kid]
    assert {name for key in document["keys"] for name in key} == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert refused(folder, "export", "oost") == "keys.missing"


def test_destroy_asks_to_be_sure(folder: Path) -> None:
    """Without --yes nothing happens; with it the key is gone, and another time it is not there."""
    made = FileKeys(folder).create("broker")
    assert refused(folder, "destroy", made.kid) == "keys.confirm"
    assert FileKeys(folder).private_key(made.kid) is not None
    done(folder, "destroy", made.kid, "--yes")
    assert FileKeys(folder).private_key(made.kid) is None
    assert refused(folder, "destroy", made.kid, "--yes") == "keys.missing"
    assert refused(folder, "destroy", "../x", "--yes") == "keys.missing"


def test_publish_puts_the_brokers_public_keys_on_kafka(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them, newest first, over the connection given; nothing private. What was destroyed is taken back."""
    published: list[Any] = []

    async def publish_keys(connection: KafkaConnection, keys: tuple[RecipientKey, ...]) -> None:
        published.append((connection.bootstrap, keys))

    async def broker_kids(_connection: KafkaConnection) -> frozenset[str]:
        return frozenset(
            {"broker-20250101t000000-aaaa", *(key.kid for key in FileKeys(folder).recipient_keys("broker"))}
        )

    async def take_back_keys(_connection: KafkaConnection, kids: list[str]) -> None:
        published.append(kids)

    monkeypatch.setattr(command, "publish_keys", publish_keys)
    monkeypatch.setattr(command, "broker_kids", broker_kids)
    monkeypatch.setattr(command, "take_back_keys", take_back_keys)
    connection = tmp_path / "connection.json"
    KafkaConnection("kafka.example:9093", None, "operator", "invented").to_file(connection)
    assert refused(folder, "publish", "--connection", str(connection)) == "keys.missing"
    keys = FileKeys(folder)
    keys.create("broker")
    keys.create("broker")
    keys.create("operator")
    done(folder, "publish", "--connection", str(connection))
    assert published == [
        ("kafka.example:9093", keys.recipient_keys("broker")),
        ["broker-20250101t000000-aaaa"],
    ]


def test_no_command_prints_private_material(folder: Path) -> None:
    """Neither a private member nor a secret, on either stream, in any form."""
    keys = FileKeys(folder)
    kid = keys.create("broker").kid
    keys.create_secret("vault-mac")
    private, secret = keys.private_key(kid), keys.secret("vault-mac").hex()
    assert private is not None
    for arguments in (
        ["create", "broker", "--secret", "vault-mac"], ["create", "broker", "--json"], ["list"], ["list", "--json"],
        ["export", "broker"], ["rotate", "broker"], ["destroy", kid], ["destroy", kid, "--yes"],
    ):  # fmt: skip
        result = run(folder, *arguments)
        shown = result.output + result.stderr + repr(result.exception)
        assert private["d"] not in shown, arguments
        assert secret not in shown, arguments
        assert '"d"' not in shown, arguments


def test_an_exported_key_is_trusted_elsewhere_and_a_private_one_refused(folder: Path, tmp_path: Path) -> None:
    """The operator's public key goes to the workers' folder; a private JWK in the file is an alarm."""
    done(folder, "create", "operator")
    file = tmp_path / "operator.json"
    file.write_text(done(folder, "export", "operator"), "utf-8")
    workers = tmp_path / "workers"
    done(workers, "trust", "operator", str(file))
    (trusted,) = FileKeys(workers).recipient_keys("operator")
    assert trusted.jwk == FileKeys(folder).recipient_keys("operator")[0].jwk
    assert FileKeys(workers).private_key(trusted.kid) is None
    private = FileKeys(folder).private_key(trusted.kid)
    assert private is not None
    file.write_text(json.dumps({"keys": [{**private, "kid": trusted.kid}]}), "utf-8")
    assert refused(workers, "trust", "operator", str(file)) == "keys.private"
    file.write_text("{}", "utf-8")
    assert refused(workers, "trust", "operator", str(file)) == "keys.damaged"
