"""Tests of `broker.witness.key`: one file, one key, for its owner alone."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from broker.audit.log.note import COSIGNATURE, NoteError, Verifier
from broker.errors import ConfigError
from broker.witness.key import create, load, read_vkeys
from tests.witness.logs import ORIGIN, OTHER, GrowingLog

NAME = "witness.school.example"


def test_a_key_is_read_back_as_it_was_made(tmp_path: Path) -> None:
    """With type 4, and with a mode that lets nobody else read it."""
    made = create(tmp_path / "key", NAME)
    read = load(tmp_path / "key")
    assert (read.vkey, read.sign("a\n", 1)) == (made.vkey, made.sign("a\n", 1))
    assert Verifier.parse(made.vkey).kind == COSIGNATURE
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    """A witness that lost its key is another witness."""
    create(tmp_path / "key", NAME)
    before = (tmp_path / "key").read_bytes()
    with pytest.raises(ConfigError, match="there already"):
        create(tmp_path / "key", NAME)
    assert (tmp_path / "key").read_bytes() == before


def test_a_name_that_is_none_makes_no_file(tmp_path: Path) -> None:
    """The name stands in each cosignature, so it has the form of a key name."""
    with pytest.raises(NoteError):
        create(tmp_path / "key", "a name")
    assert not (tmp_path / "key").exists()


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    """And the message says what to run."""
    create(tmp_path / "key", NAME)
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        load(tmp_path / "key")


def test_a_key_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Also a folder that can not be written to."""
    with pytest.raises(ConfigError, match="can not be read"):
        load(tmp_path / "absent")
    with pytest.raises(ConfigError, match="can not be written"):
        create(tmp_path / "absent" / "key", NAME)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda line: line[:0],
        lambda line: line.replace(b"PRIVATE", b"PUBLIC"),
        lambda line: line.replace(NAME.encode(), b"witness.other.example"),
        lambda line: line[:-5] + b"\n",
        lambda line: line + line,
        lambda line: line.rpartition(b"+")[0] + b"+" + b64encode(b"\x01" + bytes(32)) + b"\n",
        lambda line: line.rpartition(b"+")[0] + b"+" + b64encode(b"\x04" + bytes(31)) + b"\n",
        lambda line: b"\xff" + line,
    ],
)
def test_what_is_no_key_of_a_witness_is_refused(tmp_path: Path, spoil: object) -> None:
    """Without a word of what is in the file."""
    create(tmp_path / "key", NAME)
    line = (tmp_path / "key").read_bytes()
    (tmp_path / "key").write_bytes(spoil(line))  # type: ignore[operator]
    with pytest.raises(ConfigError, match="holds no key of a witness"):
        load(tmp_path / "key")


def test_keys_of_logs_are_read_from_files(tmp_path: Path) -> None:
    """One a line, comments and empty lines between them; of a wrong line the number is told."""
    first, second = GrowingLog(ORIGIN).signer, GrowingLog(OTHER).signer
    (tmp_path / "a").write_text(f"# two logs\n{first.vkey}\n\n{second.vkey}\n")
    (tmp_path / "b").write_text(first.vkey)
    found = read_vkeys([tmp_path / "a", tmp_path / "b"])
    assert [key.vkey for key in found] == [first.vkey, second.vkey, first.vkey]
    (tmp_path / "c").write_text(f"{first.vkey}\nsomething\n")
    with pytest.raises(ConfigError, match="line 2"):
        read_vkeys([tmp_path / "c"])
    with pytest.raises(ConfigError, match="can not be read"):
        read_vkeys([tmp_path / "absent"])
