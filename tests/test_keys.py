"""Tests of `broker.keys`: key stores with one interface."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import ConfigError
from broker.keys import FileKeys, KeyProvider, MemoryKeys, RecipientKey, create_first, numbers, provider, versions
from broker.keys import files as key_files
from broker.keys.open import open_keys
from tests.transit.engine import transit_engine
from tests.transit.policies import as_role

Store = FileKeys | MemoryKeys


@pytest.fixture(params=["files", "memory", "transit"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Every key store: what is tested with this holds for each."""
    if request.param == "memory":
        yield MemoryKeys()
    elif request.param == "files":
        yield FileKeys(tmp_path / "keys")
    else:
        with transit_engine(tmp_path / "engine") as engine:
            as_role(engine, "operator", tmp_path, monkeypatch)
            yield open_keys(tmp_path / "keys")


@pytest.fixture
def files(tmp_path: Path) -> FileKeys:
    """Keys in a folder that does not exist yet."""
    return FileKeys(tmp_path / "keys")


def code_of(call: Callable[[], object]) -> str:
    """The code of the ConfigError that a call raises."""
    with pytest.raises(ConfigError) as caught:
        call()
    return caught.value.code


# ---- every store


def test_a_new_key_is_there_in_both_halves(store: Store) -> None:
    """The public half has public members only; the private half belongs to it."""
    made = store.create("delta")
    assert store.recipient_keys("delta") == (made,)
    assert set(made.jwk) == {"kty", "crv", "x", "y"}
    private = store.private_key(made.kid)
    assert private is not None
    assert {**made.jwk, "d": private["d"]} == dict(private)


def test_all_stores_are_key_providers(store: Store) -> None:
    """The seam that the rest of the package asks for."""
    provider: KeyProvider = store
    assert provider.recipient_keys("nobody") == ()
    assert provider.private_key("nobody-20260101t000000-0000") is None


def test_the_newest_key_comes_first_also_within_one_second(store: Store) -> None:
    """Senders seal for the first; a script may rotate twice in a second."""
    made = [store.create("delta") for _ in range(5)]
    assert store.recipient_keys("delta") == tuple(reversed(made))
    assert [k.created for k in made] == sorted({k.created for k in made})


def test_the_newest_key_comes_first_when_the_clock_was_set_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new key is the newest whatever the clock says."""
    first = store.create("delta")
    monkeypatch.setattr(provider.time, "time", lambda: 1_000_000_000.0)
    second = store.create("delta")
    assert [k.kid for k in store.recipient_keys("delta")] == [second.kid, first.kid]


def test_older_keys_still_open_after_a_rotation(store: Store) -> None:
    """What is under way was sealed for the old one."""
    first, second = store.create("delta"), store.create("delta")
    assert store.private_key(first.kid) is not None
    assert store.private_key(second.kid) is not None


def test_a_destroyed_key_is_gone_in_both_halves(store: Store) -> None:
    """And the other stays; destroying it twice is told."""
    first, second = store.create("delta"), store.create("delta")
    store.destroy(first.kid)
    assert store.private_key(first.kid) is None
    assert store.recipient_keys("delta") == (second,)
    assert code_of(lambda: store.destroy(first.kid)) == "keys.missing"
    store.destroy(second.kid)
    assert store.owners() == ()


def test_a_destroyed_secret_is_gone_and_none_of_its_name_is_made_again(store: Store) -> None:
    """A command that makes what is missing, run again years later, must not make another one in its place."""
    store.create_secret("one")
    store.create_secret("two")
    assert store.destroy_secret("one")
    assert not store.destroy_secret("one")
    assert store.secret_names() == ("two",)
    assert code_of(lambda: store.secret("one")) == "keys.missing"
    assert code_of(lambda: store.create_secret("one")) == "keys.destroyed"
    assert code_of(lambda: store.destroy_secret("../one")) == "keys.name"


def test_owners_are_kept_apart_also_where_names_begin_alike(store: Store) -> None:
    """`delta` has no keys of `delta-oost`."""
    one, other = store.create("delta"), store.create("delta-oost")
    assert store.recipient_keys("delta") == (one,)
    assert store.recipient_keys("delta-oost") == (other,)
    assert store.owners() == ("delta", "delta-oost")


def test_a_secret_is_made_once(store: Store) -> None:
    """Making it again keeps it: all that was hashed under it would be lost."""
    assert store.create_secret("vault-mac") is True
    value = store.secret("vault-mac")
    assert len(value) == 32
    assert store.create_secret("vault-mac") is False
    assert store.secret("vault-mac") == value
    store.create_secret("record-keys")
    assert store.secret("record-keys") != value
    assert store.secret_names() == ("record-keys", "vault-mac")


def test_a_missing_secret_says_how_to_make_it(store: Store) -> None:
    """`keys.missing`, with the command."""
    with pytest.raises(ConfigError, match="broker keys create") as caught:
        store.secret("vault-mac")
    assert caught.value.code == "keys.missing"


BAD_NAMES = ["", "..", "../x", "a/b", "/etc/passwd", "A", "é", "a b", ".a", "-a", "a" * 64, "a\n", "a\x00", "*", "[a]"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_could_be_a_path_or_a_pattern_is_refused(store: Store, name: str) -> None:
    """For owners, secrets and ids alike; no file is made or looked for."""
    assert code_of(lambda: store.create(name)) == "keys.name"
    assert code_of(lambda: store.create_secret(name)) == "keys.name"
    assert code_of(lambda: store.secret(name)) == "keys.name"
    assert code_of(lambda: store.destroy(name)) == "keys.missing"
    assert store.private_key(name) is None


def test_an_owner_of_the_longest_name_has_keys_that_open(store: Store) -> None:
    """63 characters and the 21 of a key id."""
    made = store.create("a" * 63)
    assert store.private_key(made.kid) is not None
    store.destroy(made.kid)


def test_no_repr_shows_private_material(store: Store) -> None:
    """Of the store and of its keys."""
    made = store.create("delta")
    store.create_secret("vault-mac")
    private = store.private_key(made.kid)
    assert private is not None
    shown = repr((store, made, store.recipient_keys("delta")))
    assert private["d"] not in shown
    assert store.secret("vault-mac").hex() not in shown


def test_key_ids_sort_by_age_and_tell_their_owner(store: Store) -> None:
    """`<owner>-<yyyymmddthhmmss>-<4 hex>`."""
    kids = [store.create("delta").kid for _ in range(3)]
    assert kids == sorted(kids)
    assert all(kid.startswith("delta-20") for kid in kids)
    assert len(set(kids)) == 3


# ---- files


def test_files_and_their_folder_are_for_the_owner_only(files: FileKeys) -> None:
    """0600 and 0700, whatever the umask."""
    before = os.umask(0)
    try:
        made = files.create("delta")
        files.create_secret("vault-mac")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in [files.folder, *files.folder.iterdir()]}
    assert modes == {"keys": 0o700, f"{made.kid}.jwk": 0o600, "vault-mac.secret": 0o600}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_file_that_others_may_use_is_refused(files: FileKeys, mode: int) -> None:
    """Not repaired: it may have been read already. The error says what to do."""
    made = files.create("delta")
    files.create_secret("vault-mac")
    for path in files.folder.iterdir():
        path.chmod(mode)
    for call in (
        lambda: files.private_key(made.kid),
        lambda: files.recipient_keys("delta"),
        lambda: files.secret("vault-mac"),
        files.owners,
    ):
        assert code_of(call) == "keys.permissions"


def test_an_id_from_outside_never_reaches_another_file(files: FileKeys, tmp_path: Path) -> None:
    """A JWE's kid is the sender's text: paths, links upward and other suffixes are not followed."""
    files.create("delta")
    (tmp_path / "outside.jwk").write_text("{}")
    for kid in ("../outside", "..%2foutside", "outside.jwk/..", "delta\x00", f"{tmp_path}/outside"):
        assert files.private_key(kid) is None


@given(st.text(max_size=100))
def test_any_text_as_an_id_gives_nothing(kid: str) -> None:
    """Also where the file system would refuse it."""
    assert FileKeys("/nonexistent-folder").private_key(kid) is None


DAMAGED = [
    "",
    "{",
    "[]",
    "null",
    '{"kid": "x"}',
    '{"jwk": {}}',
    '{"kid":"x","owner":"delta","created":1,"jwk":{"kty":"EC"}}',
]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_key_file_is_told_without_its_content(files: FileKeys, text: str) -> None:
    """`keys.damaged`; the parser's own error, which holds the text of the file, is not carried along."""
    made = files.create("delta")
    path = files.folder / f"{made.kid}.jwk"
    path.write_text(text + '"geheim"' if text.startswith("{") and not text.endswith("}") else text)
    with pytest.raises(ConfigError) as caught:
        files.private_key(made.kid)
    assert caught.value.code == "keys.damaged"
    assert caught.value.__context__ is None
    assert "geheim" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("text", ["", "zz" * 32, "ab" * 31, "ab" * 33, "é"])
def test_a_damaged_secret_is_told_without_its_content(files: FileKeys, text: str) -> None:
    """Not hex, or of another length."""
    files.create_secret("vault-mac")
    (files.folder / "vault-mac.secret").write_text(text)
    with pytest.raises(ConfigError) as caught:
        files.secret("vault-mac")
    assert caught.value.code == "keys.damaged"
    assert not text or text not in str(caught.value)


def test_a_crash_while_writing_leaves_nothing_behind(files: FileKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole or not at all: no half file, and no temporary one."""

    def crash(_: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(key_files.os, "fsync", crash)
    with pytest.raises(OSError, match="full"):
        files.create("delta")
    assert list(files.folder.iterdir()) == []
    monkeypatch.undo()
    assert files.create("delta")


def test_a_temporary_file_of_a_killed_process_is_not_a_key(files: FileKeys) -> None:
    """Left behind by kill -9 between writing and renaming."""
    made = files.create("delta")
    (files.folder / ".new-abc").write_bytes(b"half")
    assert files.recipient_keys("delta") == (made,)
    assert files.owners() == ("delta",)


def test_a_public_key_alone_can_stand_in_the_folder(files: FileKeys) -> None:
    """Where workers run the operator's private key need not be: one can seal for it and not open."""
    made = files.create("operator")
    path = files.folder / f"{made.kid}.jwk"
    document = json.loads(path.read_text())
    del document["jwk"]["d"]
    path.write_text(json.dumps(document))
    assert files.recipient_keys("operator") == (made,)
    assert files.private_key(made.kid) is None


def test_keys_are_there_for_the_next_process(files: FileKeys) -> None:
    """What one object wrote another reads."""
    made = files.create("delta")
    files.create_secret("vault-mac")
    again = FileKeys(str(files.folder))
    assert again.recipient_keys("delta") == (made,)
    assert again.private_key(made.kid) == files.private_key(made.kid)
    assert again.secret("vault-mac") == files.secret("vault-mac")


def test_a_public_key_of_somebody_else_seals_but_does_not_open(tmp_path: Path) -> None:
    """A worker has the operator's public key only: it can seal for him and open nothing of his."""
    operators, worker = FileKeys(tmp_path / "operator"), FileKeys(tmp_path / "worker")
    key = operators.create("operator")
    worker.add_public("operator", key)
    assert worker.recipient_keys("operator") == (key,)
    assert worker.private_key(key.kid) is None
    assert '"d"' not in (tmp_path / "worker" / f"{key.kid}.jwk").read_text("utf-8")


def test_trusting_a_key_never_overwrites_a_private_one(tmp_path: Path) -> None:
    """The operator's own folder, the broker's key under another owner, and an id that is a path: all refused."""
    keys = FileKeys(tmp_path / "keys")
    operator, broker = keys.create("operator"), keys.create("broker")
    for owner, key in (
        ("operator", operator),
        ("operator", broker),
        ("operator", RecipientKey("../operator-x", operator.jwk, 1)),
        ("operator", RecipientKey("operator", operator.jwk, 1)),
    ):
        with pytest.raises(ConfigError):
            keys.add_public(owner, key)
    assert keys.private_key(operator.kid) is not None
    assert keys.private_key(broker.kid) is not None
    assert not (tmp_path / "operator-x.jwk").exists()


# ---- versions of secrets


def test_versions_of_a_secret_are_numbered_and_the_newest_is_first(store: Store) -> None:
    """What only begins alike is none; of nothing there is nothing."""
    assert code_of(lambda: versions(store, "vault-records")) == "keys.missing"
    for name in ("vault-records", "vault-records.2", "vault-records.10", "vault-records.x", "vault-records.02"):
        store.create_secret(name)
    store.create_secret("vault")
    assert list(versions(store, "vault-records")) == [10, 2, 1]
    assert versions(store, "vault-records")[1] == store.secret("vault-records")
    assert numbers(store, "vault") == (1,)


def test_a_secret_that_was_replaced_is_not_made_again(store: Store) -> None:
    """`broker keys create` and the compose file are run at each start: the later version is there, so it is there."""
    assert create_first(store, "vault-records")
    assert not create_first(store, "vault-records")
    store.create_secret("vault-records.2")
    store.destroy_secret("vault-records")
    assert not create_first(store, "vault-records")
    assert numbers(store, "vault-records") == (2,)
    store.destroy_secret("vault-records.2")
    assert code_of(lambda: create_first(store, "vault-records")) == "keys.destroyed"
