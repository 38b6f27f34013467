"""Tests of `broker.keys.transit` and its server: what wraps key files, against the engine's own cryptography."""

from __future__ import annotations

import os
import traceback
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.errors import BrokerError, ConfigError, TransientError
from broker.kafka.pki import DevelopmentCA
from broker.keys import FileKeys
from broker.keys.files import key_files
from broker.keys.open import TransitSettings, open_keys
from broker.keys.transit import Transit, TransitWrapping
from broker.keys.transit_login import TokenFile
from broker.keys.transit_server import TransitServer
from broker.tls import client_context
from tests.transit.engine import FakeTransit, Key, Refusal, Token, transit_engine
from tests.transit.policies import KEY, policy

Become = Callable[..., Path]
NAMES = ("vault-mac", "record-keys")


@pytest.fixture
def folder(set_up: Become, tmp_path: Path) -> Path:
    """A folder with a recipient key and two secrets, wrapped by the operator; the environment is a service's."""
    set_up("operator")
    keys = open_keys(tmp_path / "keys")
    keys.create("broker")
    for name in NAMES:
        keys.create_secret(name)
    set_up("service")
    return tmp_path / "keys"


def failure(call: Callable[[], object]) -> tuple[type[BrokerError], str]:
    """Kind and code of the error of ours that a call raises."""
    with pytest.raises(BrokerError) as caught:
        call()
    return TransientError if isinstance(caught.value, TransientError) else ConfigError, caught.value.code


def test_the_disk_holds_ciphertext_and_another_process_opens_it(folder: Path) -> None:
    """Nothing in clear, not even the public half; what one object wrote another reads."""
    files = key_files(folder)
    assert len(files) == 3
    assert all(path.read_bytes().startswith(b"vault:v1:") for path in files)
    keys = open_keys(folder)
    (made,) = keys.recipient_keys("broker")
    private = keys.private_key(made.kid)
    assert private is not None
    assert {**made.jwk, "d": private["d"]} == dict(private)
    assert {len(keys.secret(name)) for name in NAMES} == {32}
    on_disk = b"".join(path.read_bytes() for path in folder.iterdir())
    assert private["d"].encode() not in on_disk
    assert keys.secret(NAMES[0]).hex().encode() not in on_disk


def test_no_file_can_take_the_place_of_another(folder: Path) -> None:
    """The name is bound to what is in it, by the server: two secrets that are swapped both do not open."""
    one, other = (folder / f"{name}.secret" for name in NAMES)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    for name in NAMES:
        with pytest.raises(ConfigError, match=name) as caught:
            open_keys(folder).secret(name)
        assert caught.value.code == "keys.damaged"


def test_a_key_that_would_not_bind_the_name_wraps_nothing(engine: FakeTransit, set_up: Become, tmp_path: Path) -> None:
    """A key that is not derived looks at no context, without an error: so it is looked at before the first file."""
    engine.keys[KEY] = Key(derived=False)
    set_up("operator")
    assert failure(lambda: open_keys(tmp_path / "keys").create_secret("vault-mac")) == (ConfigError, "transit.derived")
    assert not (tmp_path / "keys").exists()


def test_a_service_opens_keys_and_can_do_nothing_else(folder: Path, engine: FakeTransit) -> None:
    """By the policy that the how-to shows for it."""
    keys = open_keys(folder)
    keys.open_all()
    before = key_files(folder)
    assert failure(lambda: keys.create("broker")) == (ConfigError, "transit.denied")
    assert failure(lambda: keys.create_secret("another")) == (ConfigError, "transit.denied")
    assert key_files(folder) == before


def test_what_is_open_needs_no_server(folder: Path, engine: FakeTransit) -> None:
    """Each file is asked for once; after that the server may be gone."""
    keys = open_keys(folder)
    asked = engine.asked("transit/decrypt")
    keys.open_all()
    engine.sealed = True
    for _ in range(3):
        (made,) = keys.recipient_keys("broker")
        assert keys.private_key(made.kid) is not None
        assert [len(keys.secret(name)) for name in NAMES] == [32, 32]
        keys.open_all()
    assert engine.asked("transit/decrypt") - asked == 3


def test_what_was_destroyed_is_forgotten(folder: Path) -> None:
    """At the next look at the folder the memory has it no more."""
    keys = open_keys(folder)
    keys.open_all()
    (made,) = keys.recipient_keys("broker")
    private = keys.private_key(made.kid)
    assert private is not None
    assert isinstance(keys.wrapping, TransitWrapping)
    keys.destroy(made.kid)
    keys.destroy_secret(NAMES[0])
    keys.open_all()
    assert len(keys.wrapping._opened) == 1
    assert private["d"] not in str(keys.wrapping._opened)


def _seal(engine: FakeTransit, _: Path) -> None:
    engine.sealed = True


def _no_key(engine: FakeTransit, _: Path) -> None:
    del engine.keys[KEY]


def _another_key(engine: FakeTransit, _: Path) -> None:
    engine.keys[KEY] = Key()


def _too_old(engine: FakeTransit, _: Path) -> None:
    engine.keys[KEY].versions.append(os.urandom(32))
    engine.keys[KEY].min_decryption_version = 2


def _too_new(_: FakeTransit, folder: Path) -> None:
    for path in key_files(folder):
        path.write_bytes(path.read_bytes().replace(b"vault:v1:", b"vault:v2:"))


def _changed(_: FakeTransit, folder: Path) -> None:
    for path in key_files(folder):
        path.write_bytes(path.read_bytes()[:40] + b"AAAA" + path.read_bytes()[44:])


def _in_clear(_: FakeTransit, folder: Path) -> None:
    (folder / f"{NAMES[0]}.secret").write_text("00" * 32 + "\n")


def _token_ended(engine: FakeTransit, _: Path) -> None:
    engine.tokens.clear()


def _namespace(engine: FakeTransit, _: Path) -> None:
    engine.namespace = "onderwijs"


def _not_json(engine: FakeTransit, _: Path) -> None:
    engine.answers = lambda _: b"<html>"


def _nothing_in_it(engine: FakeTransit, _: Path) -> None:
    engine.answers = lambda _: b'{"data": {"plaintext": 7}}'


def _too_deep(engine: FakeTransit, _: Path) -> None:
    engine.answers = lambda _: b"[" * 200_000


FAILURES = {
    "sealed": (_seal, TransientError, "transit.sealed"),
    "no such key": (_no_key, ConfigError, "transit.missing"),
    "another key of that name": (_another_key, ConfigError, "keys.damaged"),
    "version too old": (_too_old, ConfigError, "transit.version"),
    "version too new": (_too_new, ConfigError, "transit.version"),
    "changed": (_changed, ConfigError, "keys.damaged"),
    "in clear": (_in_clear, ConfigError, "keys.plain"),
    "token ended": (_token_ended, ConfigError, "transit.denied"),
    "other namespace": (_namespace, ConfigError, "transit.missing"),
    "not JSON": (_not_json, ConfigError, "transit.answer"),
    "too deep": (_too_deep, ConfigError, "transit.answer"),
    "senseless": (_nothing_in_it, ConfigError, "transit.answer"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_each_way_to_fail_says_who_must_act(case: str, folder: Path, engine: FakeTransit) -> None:
    """A TransientError is worth waiting for, a ConfigError is not."""
    spoil, kind, code = FAILURES[case]
    spoil(engine, folder)
    assert failure(open_keys(folder).open_all) == (kind, code)
    if case != "in clear":
        assert failure(lambda: open_keys(folder).secret(NAMES[0])) == (kind, code)


@pytest.mark.parametrize(
    ("variable", "value", "kind", "code"),
    [
        ("ADDRESS", "https://127.0.0.1:1", TransientError, "transit.unreachable"),
        ("ADDRESS", "https://not..a.host", TransientError, "transit.unreachable"),
        ("ADDRESS", "http://127.0.0.1:8200", ConfigError, "transit.settings"),
        ("ADDRESS", "https://127.0.0.1:8200/v1", ConfigError, "transit.settings"),
        ("MOUNT", "other", ConfigError, "transit.denied"),
        ("MOUNT", "../sys", ConfigError, "transit.settings"),
        ("KEY", "", ConfigError, "transit.settings"),
        ("TOKEN_FILE", "", ConfigError, "transit.settings"),
        ("TOKEN_FILE", "/nonexistent", ConfigError, "transit.login"),
        ("KUBERNETES_ROLE", "and another way", ConfigError, "transit.settings"),
        ("CA_FILE", "/nonexistent", ConfigError, "transit.ca"),
        ("CA_FILE", "", ConfigError, "transit.untrusted"),
    ],
)
def test_wrong_settings_are_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, kind: type[BrokerError], code: str
) -> None:
    """By the name of what is wrong; without a CA file our own CA is not trusted."""
    monkeypatch.setenv(f"BROKER_TRANSIT_{variable}", value)
    assert failure(lambda: open_keys(folder).secret(NAMES[0])) == (kind, code)


def test_a_server_of_another_ca_gets_no_token(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handshake ends before anything is sent."""
    other = DevelopmentCA(tmp_path / "other")
    other.prepare()
    with transit_engine(tmp_path / "stranger") as stranger:
        monkeypatch.setenv("BROKER_TRANSIT_ADDRESS", stranger.address)
        monkeypatch.setenv("BROKER_TRANSIT_CA_FILE", str(other.ca_file))
        assert failure(lambda: open_keys(folder).secret(NAMES[0])) == (ConfigError, "transit.untrusted")
        assert stranger.requests == []


def test_half_of_the_settings_does_not_mean_keys_in_clear(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A forgotten or misspelt address must not make a wrapped installation one in clear."""
    monkeypatch.setenv("BROKER_TRANSIT_KEY", KEY)
    assert failure(lambda: open_keys(tmp_path)) == (ConfigError, "transit.settings")
    monkeypatch.delenv("BROKER_TRANSIT_KEY")
    assert TransitSettings.from_env().wrapping() is None


def test_wrapped_files_without_a_server_say_what_is_missing(folder: Path) -> None:
    """And not that they are damaged, with a backup to be restored."""
    assert failure(lambda: FileKeys(folder).secret(NAMES[0])) == (ConfigError, "keys.wrapped")
    assert failure(FileKeys(folder).owners) == (ConfigError, "keys.wrapped")


def test_a_token_of_a_file_that_was_replaced_is_read_again(folder: Path, engine: FakeTransit, set_up: Become) -> None:
    """As an agent does that keeps it fresh; the process goes on with the new one."""
    keys = open_keys(folder)
    keys.secret(NAMES[0])
    engine.tokens.clear()
    assert failure(lambda: keys.secret(NAMES[1])) == (ConfigError, "transit.denied")
    set_up("service")
    assert len(keys.secret(NAMES[1])) == 32


@pytest.mark.parametrize("way", ["approle", "kubernetes"])
def test_a_login_is_repeated_when_its_token_has_ended(
    way: str, folder: Path, engine: FakeTransit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what proves who we are, read anew; a wrong one is `transit.login`."""
    role, proof = tmp_path / "role", tmp_path / "proof"
    role.write_text("workers\n")
    proof.write_text("proof\n")
    proof.chmod(0o600)
    monkeypatch.delenv("BROKER_TRANSIT_TOKEN_FILE")
    if way == "approle":
        monkeypatch.setenv("BROKER_TRANSIT_ROLE_ID_FILE", str(role))
        monkeypatch.setenv("BROKER_TRANSIT_SECRET_ID_FILE", str(proof))
        engine.approles["workers", "proof"] = Token(policy("service"))
    else:
        monkeypatch.setenv("BROKER_TRANSIT_KUBERNETES_ROLE", "workers")
        monkeypatch.setenv("BROKER_TRANSIT_JWT_FILE", str(proof))
        engine.accounts["workers", "proof"] = Token(policy("service"))
    keys = open_keys(folder)
    keys.secret(NAMES[0])
    engine.tokens.clear()
    assert len(keys.secret(NAMES[1])) == 32
    assert engine.asked(f"auth/{way}/login") == 2
    proof.write_text("another")
    assert failure(lambda: open_keys(folder).secret(NAMES[0])) == (ConfigError, "transit.login")


@pytest.mark.parametrize("mode", [0o604, 0o644])
def test_a_token_that_everybody_may_read_is_refused(mode: int, folder: Path, set_up: Become) -> None:
    """It may have been read already."""
    set_up("service").chmod(mode)
    assert failure(lambda: open_keys(folder).secret(NAMES[0])) == (ConfigError, "keys.permissions")


def test_a_standby_is_followed_to_the_active_server_by_https_only(
    folder: Path, engine: FakeTransit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once; a Location in clear would carry the token over the network."""
    with transit_engine(tmp_path / "engine") as standby:  # of the same CA
        monkeypatch.setenv("BROKER_TRANSIT_ADDRESS", standby.address)
        standby.active = engine.address
        assert len(open_keys(folder).secret(NAMES[0])) == 32
        for nowhere in (
            engine.address.replace("https", "http"),
            standby.address,  # while they choose who is active
            "https://[",
            "https://127.0.0.1:port",
            "https://",
        ):
            standby.active = nowhere
            assert failure(lambda: open_keys(folder).secret(NAMES[0])) == (TransientError, "transit.unavailable")


def test_an_answer_that_never_ends_is_given_up(
    folder: Path, engine: FakeTransit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes in time, and the answer does not: nobody would open keys any more, and nobody be told."""
    monkeypatch.setenv("BROKER_TRANSIT_TIMEOUT_S", "0.2")
    engine.drip_s = 0.03
    assert failure(lambda: open_keys(folder).secret(NAMES[0])) == (TransientError, "transit.unreachable")


def test_what_keeps_everybody_out_is_asked_for_once(folder: Path, engine: FakeTransit) -> None:
    """A login, a time-out or a line of an audit for each file would be for nothing."""
    engine.tokens.clear()
    keys, asked = open_keys(folder), len(engine.requests)
    assert failure(keys.open_all) == (ConfigError, "transit.denied")
    assert len(engine.requests) == asked + 1


def test_a_file_that_others_may_read_keeps_no_other_closed(folder: Path) -> None:
    """It is told when all others are open."""
    keys = open_keys(folder)
    key_files(folder)[0].chmod(0o644)
    assert failure(keys.open_all) == (ConfigError, "keys.permissions")
    assert isinstance(keys.wrapping, TransitWrapping)
    assert len(keys.wrapping._opened) == 2


def test_neither_keys_nor_tokens_are_in_errors_or_reprs(folder: Path, engine: FakeTransit) -> None:
    """Answers that break in the middle of a key, an error that quotes it, and every object of ours."""
    secret = "b64 of a key: " + "ab" * 32
    encoded = b64encode(secret.encode()).decode()
    (token,) = [t for t in engine.tokens if engine.tokens[t].policy == policy("service")]

    def refuses(_: str) -> bytes:
        raise Refusal(400, encoded, token)

    for broken in (
        f'{{"data": {{"plaintext": "{encoded}"',
        f'{{"data": {{"plaintext": ["{encoded}"]}}}}',
        f'{{"data": {{"plaintext": "{encoded}!"}}}}',
        None,
    ):
        engine.answers = refuses if broken is None else lambda _, broken=broken: broken.encode()  # type: ignore[misc]
        keys = open_keys(folder)
        with pytest.raises(BrokerError) as caught:
            keys.secret(NAMES[0])
        shown = "".join(traceback.format_exception(caught.value)) + repr((keys, keys.wrapping, vars(keys.wrapping)))
        assert encoded not in shown
        assert token not in shown
    server = TransitServer(engine.address, client_context(engine.ca_file, "transit.ca"))
    assert token not in repr((server, TokenFile(Path("x")), Transit(server, TokenFile(Path("x")), KEY)))
