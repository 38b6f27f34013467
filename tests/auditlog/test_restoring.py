"""A log whose files were lost is made again from a copy and from Kafka, to the byte, or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from broker.audit.log.directory import CHECKPOINT, KEY, HistoryDiffers
from broker.audit.log.note import Signer
from broker.auditlog.book import SECRET, LogName, SigningKeys
from broker.auditlog.builder import HistoryLost
from broker.auditlog.epoch import begin_epoch
from broker.auditlog.mirroring import mirror
from broker.auditlog.restoring import Restored, restore
from broker.cli import auditlog, build
from broker.errors import ConfigError
from broker.kafka.connection import KafkaConnection
from broker.keys import FileKeys, MemoryKeys
from tests.auditlog.conftest import Desk
from tests.auditlog.test_builder import remove_before, values

FIRST, ALL = 600, 700
TREE_FILES = ("tile", "offsets", CHECKPOINT, KEY)


def content(folder: Path) -> dict[str, bytes]:
    """All files of a log that a reader of its checkpoint asks for, or that say where leaves stood in Kafka."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {
        name: data
        for name, data in found.items()
        if name.split("/")[0] in TREE_FILES and (".p/" not in name or name.endswith((".p/188", ".p/2")))
    }


@pytest.fixture
async def lost(desk: Desk, tmp_path: Path) -> tuple[Desk, Path]:
    """A log of 700 leaves, its mirror of the first 600; `whole` is a copy of its folder."""
    await desk.write(*values(0, 300))
    await desk.write(*values(900, 910), abort=True)
    await desk.write(*values(300, FIRST))
    async with desk.building():
        await desk.until_size(FIRST)
        assert [one.error for one in mirror(desk.root, tmp_path / "copy")] == [None]
        await desk.write(*values(FIRST, ALL))
        await desk.until_size(ALL)
    shutil.copytree(desk.directory().path, tmp_path / "whole")
    return desk, tmp_path / "copy"


async def again(desk: Desk, copy: Path | None = None, epoch: int | None = None) -> Restored:
    """What is tested."""
    return await restore(desk.base, desk.place, desk.clients, desk.keys, desk.root, copy=copy, epoch=epoch)


@pytest.mark.parametrize("mirrored", [True, False], ids=["mirror", "nothing"])
async def test_a_lost_folder_comes_back_to_the_byte(lost: tuple[Desk, Path], tmp_path: Path, *, mirrored: bool) -> None:
    """Tiles, bundles, offsets, keys and the checkpoint; the builder goes on, and no epoch is needed."""
    desk, copy = lost
    shutil.rmtree(desk.directory().path)
    done = await again(desk, copy if mirrored else None)
    assert done == Restored(desk.name(), ALL, FIRST if mirrored else 0)
    whole = content(tmp_path / "whole")
    assert {"tile/0/002.p/188", "tile/entries/002.p/188", "tile/1/000.p/2", "offsets/002.p/188"} <= set(whole)
    assert content(desk.directory().path) == whole
    assert await again(desk) == Restored(desk.name(), ALL, ALL)  # once more: nothing to do
    await desk.write(*values(ALL, 720))
    async with desk.building():
        await desk.until_size(720)
    assert desk.leaves() == values(0, 720)
    assert desk.seen.stopped is None


async def test_lost_and_damaged_files_come_back_from_wherever_they_are(lost: tuple[Desk, Path], tmp_path: Path) -> None:
    """Bundles, tiles and offsets are missing here and there, and one is cut off: folder, copy and Kafka together."""
    desk, copy = lost
    folder = desk.directory().path
    for name in ("tile/entries/002.p", "tile/0/001", "offsets/002.p", "tile/entries/000"):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (copy / folder.name / "tile/entries/001").write_bytes(b"\0")
    shutil.rmtree(copy / folder.name / "offsets/002.p")
    assert await again(desk, copy) == Restored(desk.name(), ALL, 512)
    assert content(folder) == content(tmp_path / "whole")


async def test_a_file_with_other_bytes_is_never_replaced(lost: tuple[Desk, Path]) -> None:
    """It is evidence; the person is told its name."""
    desk, copy = lost
    (desk.directory().path / "tile/0/001").write_bytes(bytes(32 * 256))
    with pytest.raises(HistoryDiffers, match=r"tile/0/001 is in the log already"):
        await again(desk, copy)
    assert (desk.directory().path / "tile/0/001").read_bytes() == bytes(32 * 256)


@pytest.mark.parametrize("part", ["entry", "offset"])
async def test_what_does_not_lead_to_the_signed_root_is_not_written(lost: tuple[Desk, Path], part: str) -> None:
    """A copy with another leaf, and one whose offsets lead Kafka's reader to the wrong place."""
    desk, copy = lost
    mirrored = copy / desk.name().folder
    file = mirrored / ("tile/entries/001" if part == "entry" else "offsets/002.p/88")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    shutil.rmtree(desk.directory().path)
    with pytest.raises(HistoryLost, match=r"do not lead to the root that was signed|has no more of them"):
        await again(desk, copy)
    assert not desk.directory().path.exists()


async def test_records_that_kafka_removed_are_missed_unless_a_copy_has_them(lost: tuple[Desk, Path]) -> None:
    """From nothing it says where Kafka begins; the mirror has what was removed; one leaf less, and it has not."""
    desk, copy = lost
    shutil.rmtree(desk.directory().path)
    offsets = (copy / desk.name().folder / "offsets/002.p/88").read_bytes()
    after = int.from_bytes(offsets[-8:]) + 1
    remove_before(desk, after)
    with pytest.raises(HistoryLost, match=rf"the first 0 can be had.*at offset 0 .*has records from {after} on"):
        await again(desk)
    assert not desk.directory().path.exists()
    shutil.copytree(copy, copy.with_name("short"))
    for name in ("tile/entries/002.p", "offsets/002.p"):
        shutil.rmtree(copy.with_name("short") / desk.name().folder / name)
    with pytest.raises(HistoryLost, match=r"the first 512 can be had.*has records from"):
        await again(desk, copy.with_name("short"))
    assert not desk.directory().path.exists()
    assert await again(desk, copy) == Restored(desk.name(), ALL, FIRST)
    assert desk.leaves() == values(0, ALL)


async def test_a_later_epoch_needs_its_first_leaf_and_an_older_one_can_be_restored(
    lost: tuple[Desk, Path], tmp_path: Path
) -> None:
    """That leaf stands in no record: it comes from a copy, or not at all."""
    desk, _ = lost
    remove_before(desk, 200)
    await begin_epoch(desk.base, desk.place, desk.clients, desk.keys, desk.root, reason="a try", operator="olga")
    assert [one.error for one in mirror(desk.root, tmp_path / "later")] == [None, None]
    async with desk.building():
        await desk.until_size(1 + ALL - 200, epoch=2)
    for epoch in (1, 2):
        shutil.copytree(desk.directory(epoch).path, tmp_path / f"epoch-{epoch}")
        shutil.rmtree(desk.directory(epoch).path)
    with pytest.raises(HistoryLost, match=r"stands in the log alone"):
        await again(desk)
    assert await again(desk, tmp_path / "later") == Restored(desk.name(2), 501, 1)
    assert await again(desk, tmp_path / "later", epoch=1) == Restored(desk.name(1), ALL, ALL)
    assert desk.leaves(2) == (desk.leaves(2)[:1] + values(200, ALL))
    assert content(desk.directory(1).path) == content(tmp_path / "epoch-1")
    with pytest.raises(ConfigError, match=r"Nobody ever signed"):
        await again(desk, epoch=3)


async def test_a_folder_that_shows_another_history_is_left_alone(lost: tuple[Desk, Path]) -> None:
    """Somebody has put a checkpoint of another tree there."""
    desk, copy = lost
    folder = desk.directory().path
    note = (folder / CHECKPOINT).read_bytes()
    shutil.rmtree(folder)
    folder.mkdir()
    lines = note.split(b"\n")
    lines[1], lines[2] = b"300", b"A" * 43 + b"="
    (folder / CHECKPOINT).write_bytes(b"\n".join(lines))
    with pytest.raises(HistoryLost, match=r"shows a checkpoint of 300 leaves with another root"):
        await again(desk, copy)
    assert [path.name for path in folder.iterdir()] == [CHECKPOINT]


async def test_without_the_key_that_signed_nothing_is_restored(lost: tuple[Desk, Path]) -> None:
    """What Kafka says was signed counts only with its signature."""
    desk, copy = lost
    shutil.rmtree(desk.directory().path)
    others = MemoryKeys()
    others.create_secret(SECRET)
    desk.keys = SigningKeys(others)
    with pytest.raises(ConfigError, match=r"is not signed with a key that is here"):
        await again(desk, copy)
    assert not desk.directory().path.exists()


async def test_keys_that_signed_before_come_back_with_the_copy(lost: tuple[Desk, Path]) -> None:
    """A retired key stays beside the log: what it signed is verified with it."""
    desk, copy = lost
    shutil.rmtree(desk.directory().path)
    retired = Signer(desk.name().origin, Ed25519PrivateKey.from_private_bytes(bytes(32))).vkey
    with (copy / desk.name().folder / KEY).open("a") as file:
        file.write(f"{retired}\n")
    await again(desk, copy)
    assert set((desk.directory().path / KEY).read_text().split()) == {retired, *desk.keys.vkeys(desk.name())}


def test_the_command_restores_the_log_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the builder's login and keys, from the copy that is given; and tells what came from where."""
    asked: list[tuple[Any, ...]] = []

    async def restored(
        base: str, place: object, clients: object, keys: SigningKeys, *rest: Any, **more: Any
    ) -> Restored:
        del clients
        asked.append((base, place, len(keys.public_keys()), *rest, more))
        return Restored(LogName(base, "p3", 2), 700, 600)

    monkeypatch.setattr(auditlog, "make_again", restored)
    FileKeys(tmp_path / "keys").create_secret(SECRET)
    (tmp_path / "ca.pem").write_text("")
    KafkaConnection("127.0.0.1:1", tmp_path / "ca.pem", "log-builder", "secret").to_file(tmp_path / "builder.json")
    words = ["--name", "broker.example/audit", "--connection", str(tmp_path / "builder.json")]
    words += ["--keys", str(tmp_path / "keys"), "--logs", str(tmp_path / "logs"), "--from", str(tmp_path / "copy")]
    monkeypatch.setattr(KafkaConnection, "aiokafka", lambda _, **__: {})  # no certificate is read
    done = CliRunner().invoke(build(), ["auditlog", "restore", "p3", *words])
    assert done.exit_code == 0, done.output
    place = TopicPartition("audit.events", 3)
    told = {"copy": tmp_path / "copy", "epoch": None}
    assert asked == [("broker.example/audit", place, 1, tmp_path / "logs", told)]
    assert "600 of files and 100 of Kafka" in " ".join(done.output.split())
