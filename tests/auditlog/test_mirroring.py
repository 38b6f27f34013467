"""A mirror of logs: whole at every moment, whatever the source is and whenever the copying ends."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from broker.audit import verify
from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.directory import CHECKPOINT, COSIGNED, KEY, LogDirectory
from broker.audit.log.note import Cosigner, Signer, render, split_note
from broker.audit.log.tiles import TileBuilder, TileReader, offsets_path
from broker.auditlog import mirroring
from broker.auditlog.mirroring import Mirrored, mirror
from broker.cli import build

ORIGIN = "broker.example/audit/p0/1"
LEAVES = [b'{"n":%d}' % n for n in range(6_000)]
FIRST_S, NEXT_S = 700, 4_500


class Source:
    """A log as a builder writes it: offsets beside it, and a cosigned checkpoint that lags."""

    def __init__(self, root: Path, origin: str = ORIGIN, seed: bytes = bytes(32)) -> None:
        self.root, self.origin, self.builder = root, origin, TileBuilder()
        self.folder = root / "-".join(origin.split("/")[-2:])
        self.directory, self.signer = (
            LogDirectory(self.folder),
            Signer(origin, Ed25519PrivateKey.from_private_bytes(seed)),
        )

    def grow(self, size: int, leaves: list[bytes] = LEAVES, *, cosign: bool = False) -> bytes:
        """To so many leaves."""
        at = self.builder.edge.size
        while at < size:
            after = min(size, at - at % 256 + 256)
            self.directory.write_immutable(self.builder.append(leaves[at:after]).files)
            at = after
        full, last = divmod(size, 256)
        offsets = {offsets_path(number): bytes(8 * 256) for number in range(full)}
        self.directory.write_immutable({**offsets, offsets_path(full, last): bytes(8 * last)} if last else offsets)
        text = Checkpoint(self.origin, size, self.builder.edge.root()).text()
        note = render(text, [self.signer.sign(text)])
        self.directory.show_key(self.signer.vkey)
        self.directory.publish(note)
        if cosign:
            self.directory.publish_cosigned(note)
        return note


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """700 leaves, of which 600 are cosigned."""
    source = Source(tmp_path / "logs")
    source.grow(600, cosign=True)
    source.grow(FIRST_S)
    return source


def whole(folder: Path) -> bool:
    """What the auditor's verifier says, of both checkpoints, with nothing but the copy."""
    return verify.main(["log", str(folder), "--entries", "hashes"]) == 0


def copy(source: Source, target: Path) -> Mirrored:
    """One log."""
    (one,) = mirror(source.root, target)
    return one


def test_a_copy_is_the_log_to_the_last_byte_and_goes_on_where_it_ended(source: Source, tmp_path: Path) -> None:
    """Files, checkpoints, keys and offsets; again without anything new it does nothing."""
    target = tmp_path / "copy"
    assert copy(source, target) == Mirrored("p0-1", 0, FIRST_S)
    assert whole(target / "p0-1")
    for name in ("tile/0/002.p/88", "tile/entries/002.p/88"):  # what a reader of the cosigned checkpoint asks for
        assert (target / "p0-1" / name).read_bytes() == (source.folder / name).read_bytes()
    source.grow(2_000, cosign=True)
    source.grow(NEXT_S)
    assert copy(source, target) == Mirrored("p0-1", FIRST_S, NEXT_S)
    assert whole(target / "p0-1")
    assert copy(source, target) == Mirrored("p0-1", NEXT_S, NEXT_S)
    for name in (CHECKPOINT, COSIGNED, KEY, "tile/0/000", "tile/0/017.p/148", "tile/1/000.p/17", "offsets/016"):
        assert (target / "p0-1" / name).read_bytes() == (source.folder / name).read_bytes(), name
    copied = LogDirectory(target / "p0-1")
    assert list(TileReader(copied.read, NEXT_S).entries(0, NEXT_S)) == LEAVES[:NEXT_S]
    extra = {p.relative_to(target / "p0-1") for p in (target / "p0-1").rglob("*") if p.is_file()}
    assert extra <= {p.relative_to(source.folder) for p in source.folder.rglob("*")} | {Path("tile/0/007.p/208")}


class Killed(Exception):
    """Stands for a kill -9."""


def test_killed_before_any_step_the_copy_is_whole_and_is_finished_later(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each call that changes something on the disk: what a reader sees then is a log, the old one or the new."""
    names = [(Path, "hardlink_to"), (Path, "replace"), (mirroring.LogDirectory, "write_immutable")]
    first = tmp_path / "first"
    copy(source, first)
    source.grow(1_100, cosign=True)
    source.grow(1_200)
    for at in count(1):
        target = tmp_path / f"copy-{at}"
        shutil.copytree(first, target)
        calls = count(1)
        with monkeypatch.context() as patch:
            for where, name in names:
                patch.setattr(where, name, _dying(getattr(where, name), calls, at))
            try:
                copy(source, target)
            except Killed:
                assert whole(target / "p0-1"), at
            else:
                break
        assert copy(source, target).after == 1_200
        assert whole(target / "p0-1"), at
    assert at > 10


def _dying(real: Callable[..., Any], calls: Any, at: int) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == at:
            raise Killed
        return real(*args, **kwargs)

    return call


DAMAGE = {
    "an entry": "tile/entries/000",
    "an entry at the edge": "tile/entries/002.p/188",
    "the signature": CHECKPOINT,
    "the cosigned tree": COSIGNED,
}


@pytest.mark.parametrize("name", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_source_leaves_the_copy_as_it_was(source: Source, tmp_path: Path, name: str) -> None:
    """Not a file is written, and once the source is whole again the copy goes on."""
    target, file = tmp_path / "copy", source.folder / name
    good = file.read_bytes()
    file.write_bytes(
        good.replace(b'{"n":', b'{"m":', 1) if b'{"n"' in good else good.replace(b"\n6", b"\n5").replace(b"\n7", b"\n6")
    )
    assert file.read_bytes() != good
    assert copy(source, target).error is not None
    assert not [path for path in target.rglob("*") if path.is_file()]
    file.write_bytes(good)
    assert copy(source, target).after == FIRST_S
    assert whole(target / "p0-1")


def test_a_damaged_tile_is_not_copied_but_worked_out(source: Source, tmp_path: Path) -> None:
    """Tiles follow from the entries; the copy is better than its source then."""
    tile = source.folder / "tile/1/000.p/2"
    tile.write_bytes(bytes(64))
    assert copy(source, tmp_path / "copy").error is not None  # the edge of what is cosigned can not be told
    (source.folder / COSIGNED).unlink()
    assert copy(source, tmp_path / "copy").after == FIRST_S
    assert whole(tmp_path / "copy/p0-1")


def test_a_log_that_was_taken_back_or_rewritten_does_not_replace_the_copy(source: Source, tmp_path: Path) -> None:
    """Fewer leaves, other leaves, another log: the copy is the evidence, and stays."""
    target = tmp_path / "copy"
    copy(source, target)
    before = (target / "p0-1" / CHECKPOINT).read_bytes()
    shorter, other = Source(tmp_path / "shorter"), Source(tmp_path / "other")
    shorter.grow(FIRST_S - 1)
    other.grow(NEXT_S, [b"x" + leaf for leaf in LEAVES])
    strange = Source(tmp_path / "strange", origin="broker.example/other/p0/1")
    strange.grow(NEXT_S)
    for wrong, why in ((shorter, "taken back"), (other, "rewritten"), (strange, "another log")):
        assert why in str(copy(wrong, target).error)
        assert (target / "p0-1" / CHECKPOINT).read_bytes() == before
        assert whole(target / "p0-1")


def test_a_source_that_changes_between_the_two_readings_is_not_written(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was verified is what is written."""
    readings = count(1)
    real = mirroring.TileReader.entries

    def changing(self: TileReader, start: int, end: int) -> Any:
        other = start == 0 and next(readings) == 2
        return (b"x" + entry if other else entry for entry in real(self, start, end))

    monkeypatch.setattr(mirroring.TileReader, "entries", changing)
    assert "changed while" in str(copy(source, tmp_path / "copy").error)
    assert not (tmp_path / "copy").exists()


def test_one_log_that_can_not_be_copied_does_not_keep_back_the_others(source: Source, tmp_path: Path) -> None:
    """The command ends with 1 and says which; keys from elsewhere refuse a log that somebody else signed."""
    second = Source(source.root, origin="broker.example/audit/p1/1", seed=b"\1" * 32)
    second.grow(10)
    (tmp_path / "keys").write_text(f"{second.signer.vkey}\n")
    words = ["auditlog", "mirror", "--logs", str(source.root), "--to", str(tmp_path / "copy")]
    done = CliRunner().invoke(build("auditlog"), [*words, "--key-file", str(tmp_path / "keys")])
    assert done.exit_code == 1
    assert not (tmp_path / "copy/p0-1").exists()
    assert whole(tmp_path / "copy/p1-1")
    done = CliRunner().invoke(build("auditlog"), words)
    assert done.exit_code == 0, done.output
    assert whole(tmp_path / "copy/p0-1")


def test_a_cosigned_checkpoint_that_the_log_did_not_sign_replaces_none(source: Source, tmp_path: Path) -> None:
    """Who can write to the source's disk, and has no key of the log, takes nothing from the copy."""
    target, cosigned = tmp_path / "copy", source.folder / COSIGNED
    copy(source, target)
    good = cosigned.read_bytes()
    text = split_note(good)[0]
    stranger = Signer("stranger.example", Ed25519PrivateKey.from_private_bytes(b"\2" * 32))
    cosigned.write_bytes(render(text, [stranger.sign(text)]))
    assert copy(source, target).error is not None
    assert (target / "p0-1" / COSIGNED).read_bytes() == good
    assert whole(target / "p0-1")


@pytest.mark.parametrize("name", [CHECKPOINT, COSIGNED])
def test_a_copy_keeps_the_signatures_that_it_has(source: Source, tmp_path: Path, name: str) -> None:
    """Of a witness, or of the next key: to take a line off needs no key. What was signed more comes over."""
    target, file = tmp_path / "copy", source.folder / name
    few = file.read_bytes()
    text, lines = split_note(few)
    other = Cosigner("witness.example", Ed25519PrivateKey.from_private_bytes(b"\3" * 32))
    many = render(text, [*lines, other.sign(text, 1795305600)])
    for shown, expected in ((few, few), (many, many), (few, many)):
        file.write_bytes(shown)
        assert copy(source, target).error is None
        assert (target / "p0-1" / name).read_bytes() == expected


@pytest.mark.parametrize("beside", ["", "a stranger's"], ids=["nothing", "a stranger's"])
def test_with_keys_from_elsewhere_those_beside_the_source_are_not_copied(
    source: Source, tmp_path: Path, beside: str
) -> None:
    """The copy shows what it was verified with."""
    stranger = Signer(ORIGIN, Ed25519PrivateKey.from_private_bytes(b"\2" * 32))
    (source.folder / KEY).write_text(f"{stranger.vkey}\n" if beside else "")
    (one,) = mirror(source.root, tmp_path / "copy", [source.signer.verifier])
    assert one == Mirrored("p0-1", 0, FIRST_S)
    assert (tmp_path / "copy/p0-1" / KEY).read_text() == f"{source.signer.vkey}\n"


def test_the_checkpoint_of_a_copy_is_written_last(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the flush of all files that it needs, and of their folders."""
    told: list[str] = []
    for name in ("write_immutable", "show_key", "publish", "publish_cosigned"):
        monkeypatch.setattr(LogDirectory, name, _telling(getattr(LogDirectory, name), name, told))
    copy(source, tmp_path / "copy")
    assert told[-3:] == ["show_key", "publish", "publish_cosigned"]
    assert set(told[:-3]) == {"write_immutable"}


def _telling(real: Callable[..., Any], name: str, told: list[str]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        told.append(name)
        return real(*args)

    return call


def test_a_file_of_the_copy_with_other_bytes_is_not_replaced(source: Source, tmp_path: Path) -> None:
    """It may be evidence: a person decides."""
    file = tmp_path / "copy/p0-1/tile/0/001"
    file.parent.mkdir(parents=True)
    file.write_bytes(os.urandom(8192))
    found = copy(source, tmp_path / "copy")
    assert "other bytes" in str(found.error)
    assert not (tmp_path / "copy/p0-1" / CHECKPOINT).exists()
