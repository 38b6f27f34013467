"""Tests of `broker keys wrap`, `rewrap` and `list`: a whole folder, also when it is stopped in the middle."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import broker.cli.keys as command
from broker.errors import BrokerError
from broker.keys import FileKeys
from broker.keys import wrapped as folders
from broker.keys.files import key_files
from broker.keys.open import open_keys
from tests.transit.engine import FakeTransit
from tests.transit.policies import KEY

Become = Callable[..., Path]
SECRETS = ("record-keys", "vault-mac")


def run(folder: Path, *arguments: str) -> Any:
    """A command on a folder."""
    return CliRunner().invoke(command.app, [*arguments, "--keys", str(folder)])


def told(folder: Path, *arguments: str) -> str:
    """What a command says that succeeds."""
    result = run(folder, *arguments)
    assert result.exit_code == 0, result.exception
    return str(result.output)


def contents(keys: FileKeys) -> dict[str, object]:
    """All that a folder's users get of it."""
    found: dict[str, object] = {name: keys.secret(name) for name in keys.secret_names()}
    for owner in keys.owners():
        found |= {key.kid: (key, keys.private_key(key.kid)) for key in keys.recipient_keys(owner)}
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """In clear: two recipient keys, another's public key, two secrets, and one that was destroyed."""
    keys, operator = FileKeys(tmp_path / "keys"), FileKeys(tmp_path / "operator")
    keys.create("broker")
    keys.create("broker")
    keys.add_public("operator", operator.create("operator"))
    for name in (*SECRETS, "gone"):
        keys.create_secret(name)
    keys.destroy_secret("gone")
    return tmp_path / "keys"


def test_a_folder_is_wrapped_whole_and_nothing_stays_in_clear(folder: Path, set_up: Become) -> None:
    """Its users get what they got; a second time nothing is left to do; what was destroyed stays so."""
    set_up("operator")
    before = contents(FileKeys(folder))
    clear = {path.read_bytes() for path in key_files(folder)}
    assert "5 files" in told(folder, "wrap")
    assert contents(open_keys(folder)) == before
    assert not clear & {path.read_bytes() for path in folder.iterdir()}
    assert {path.name for path in folder.iterdir()} == {*(p.name for p in key_files(folder)), "gone.destroyed"}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in key_files(folder))
    assert "0 files" in told(folder, "wrap")
    assert getattr(run(folder, "create", "--secret", "gone").exception, "code", None) == "keys.destroyed"


class _Killed(BaseException):
    """As a kill -9 would: nothing of ours catches it."""


@pytest.mark.parametrize("at", ["write 1", "write 3", "after write 3", "remove 1", "remove 3", "link 2"])
def test_a_wrapping_that_was_killed_goes_on_where_it_was(
    at: str, folder: Path, set_up: Become, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every moment each key is there, in clear or wrapped, and after a second run nothing is in clear."""
    set_up("operator")
    before, done = contents(FileKeys(folder)), {"write": 0, "remove": 0, "link": 0}
    clear = {path.name: path.read_bytes() for path in key_files(folder)}
    step, number = at.removeprefix("after ").split()

    def dying(what: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def do(*arguments: Any) -> Any:
            done[what] += 1
            dies = (what, done[what]) == (step, int(number))
            if dies and not at.startswith("after"):
                raise _Killed
            real(*arguments)
            if dies:
                raise _Killed

        return do

    with monkeypatch.context() as patch:
        patch.setattr(folders, "write_private", dying("write", folders.write_private))
        patch.setattr(folders, "overwrite_and_unlink", dying("remove", folders.overwrite_and_unlink))
        patch.setattr(folders.os, "link", dying("link", os.link))
        with pytest.raises(_Killed):
            run(folder, "wrap")
    now = {path.name: path.read_bytes() for path in key_files(folder)}
    assert now.keys() == clear.keys()
    assert all(data == clear[name] or data.startswith(b"vault:v1:") for name, data in now.items())
    told(folder, "wrap")
    assert contents(open_keys(folder)) == before
    assert list(folder.glob(".*")) == []
    assert all(path.read_bytes().startswith(b"vault:v1:") for path in key_files(folder))


def test_what_is_destroyed_after_a_wrapping_that_was_killed_is_nowhere_in_clear(
    folder: Path, set_up: Become, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The originals lie beside until it is run again: a destroyed key's does not."""
    set_up("operator")
    (kid, _) = (key.kid for key in FileKeys(folder).recipient_keys("broker"))
    clear = {name: (folder / name).read_bytes() for name in (f"{kid}.jwk", f"{SECRETS[0]}.secret")}

    def dies(_: Path) -> None:
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(folders, "overwrite_and_unlink", dies)
        with pytest.raises(_Killed):
            run(folder, "wrap")
    assert set(clear.values()) <= {path.read_bytes() for path in folder.iterdir()}
    told(folder, "destroy", kid, "--yes")
    open_keys(folder).destroy_secret(SECRETS[0])
    assert not set(clear.values()) & {path.read_bytes() for path in folder.iterdir()}


def test_what_a_killed_command_left_in_clear_goes_too(folder: Path, set_up: Become) -> None:
    """A key that got no name yet is used by nobody, and would still lie there when all else is wrapped."""
    set_up("operator")
    (folder / ".new-abc").write_text("00" * 32)
    told(folder, "wrap")
    assert list(folder.glob(".*")) == []


@pytest.mark.parametrize("how", ["symbolic", "hard"])
def test_a_file_with_a_second_name_is_not_wrapped(how: str, folder: Path, tmp_path: Path, set_up: Become) -> None:
    """Overwriting its original would take the key from whoever has the other name; leaving it leaves it in clear."""
    set_up("operator")
    file, other = folder / f"{SECRETS[0]}.secret", tmp_path / "other.secret"
    file.rename(other)
    if how == "symbolic":
        file.symlink_to(other)
    else:
        file.hardlink_to(other)
    before = contents(FileKeys(folder)), other.read_bytes()
    assert getattr(run(folder, "wrap").exception, "code", None) == "keys.linked"
    assert other.read_bytes() == before[1]
    file.unlink()
    other.rename(file)
    told(folder, "wrap")
    assert contents(open_keys(folder)) == before[0]


def test_originals_stay_until_every_file_is_wrapped(folder: Path, set_up: Become, engine: FakeTransit) -> None:
    """A server that stops answering in the middle costs nothing."""
    set_up("operator")
    before = {path.name: path.read_bytes() for path in key_files(folder)}
    real, asked = engine.answer, [0]

    def ends(*request: Any) -> Any:
        asked[0] += 1
        engine.sealed = asked[0] > 5
        return real(*request)

    engine.answer = ends  # type: ignore[method-assign]
    error = run(folder, "wrap").exception
    assert isinstance(error, BrokerError)
    assert error.code == "transit.sealed"
    left = {p.name.removesuffix(".plain").removeprefix("."): p.read_bytes() for p in folder.glob(".*.plain")}
    assert left
    now = {path.name: path.read_bytes() for path in key_files(folder)}
    assert {name: left.get(name, now[name]) for name in now} == before


def test_a_rotation_of_the_transit_key_is_followed_by_a_rewrap(
    folder: Path, set_up: Become, engine: FakeTransit
) -> None:
    """By a job that never sees a key in clear; then the old version can be closed, and old copies do not open."""
    set_up("operator")
    told(folder, "wrap")
    before, old = contents(open_keys(folder)), {path: path.read_bytes() for path in key_files(folder)}
    assert {row["wrapped"] for row in _listed(folder)} == {1}
    engine.keys[KEY].versions.append(os.urandom(32))
    set_up("rewrapper")
    decrypted = engine.asked("transit/decrypt")
    assert "5 files" in told(folder, "rewrap")
    assert "0 files" in told(folder, "rewrap")
    assert engine.asked("transit/decrypt") == decrypted
    engine.keys[KEY].min_decryption_version = 2
    set_up("operator")
    assert contents(open_keys(folder)) == before
    assert {row["wrapped"] for row in _listed(folder)} == {2}
    for path, wrapped in old.items():
        path.write_bytes(wrapped)
    with pytest.raises(BrokerError) as caught:
        open_keys(folder).open_all()
    assert caught.value.code == "transit.version"


def test_a_rewrap_that_was_stopped_goes_on_and_counts_what_is_left(
    folder: Path, set_up: Become, engine: FakeTransit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has the newest version is left alone."""
    set_up("operator")
    told(folder, "wrap")
    engine.keys[KEY].versions.append(os.urandom(32))
    real, written = folders.write_private, [0]

    def dies(*arguments: Any) -> None:
        written[0] += 1
        if written[0] == 3:
            raise _Killed
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(folders, "write_private", dies)
        with pytest.raises(_Killed):
            run(folder, "rewrap")
    said = told(folder, "rewrap")
    assert "3 files" in said
    assert "2 had" in said


def test_what_comes_back_under_an_older_version_replaces_nothing(
    folder: Path, set_up: Become, engine: FakeTransit
) -> None:
    """A server that has not heard of the rotation yet: its operators would close the version that the file needs."""
    set_up("operator")
    told(folder, "wrap")
    before = {path: path.read_bytes() for path in key_files(folder)}
    real = engine.answer

    def says_two(method: str, path: str, *rest: Any) -> Any:
        answer = real(method, path, *rest)
        if path == f"transit/keys/{KEY}":
            answer["data"]["latest_version"] = 2
        return answer

    engine.answer = says_two  # type: ignore[method-assign]
    assert getattr(run(folder, "rewrap").exception, "code", None) == "transit.answer"
    assert {path: path.read_bytes() for path in key_files(folder)} == before


def test_a_list_says_what_is_wrapped_and_what_is_not(folder: Path, set_up: Become) -> None:
    """In clear where no server is set; rewrapping such a folder says what comes first."""
    assert {row["wrapped"] for row in _listed(folder)} == {None}
    assert "in clear" in told(folder, "list")
    assert getattr(run(folder, "wrap").exception, "code", None) == "transit.settings"
    set_up("operator")
    assert getattr(run(folder, "rewrap").exception, "code", None) == "keys.plain"
    told(folder, "wrap")
    assert "in clear" not in told(folder, "list")
    assert {row["kid"] for row in _listed(folder)} == set(contents(open_keys(folder)))


def _listed(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told(folder, "list", "--json").splitlines()]
