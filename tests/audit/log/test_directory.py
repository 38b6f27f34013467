"""Tests of `broker.audit.log.directory`: immutable, never backwards, and whole after a kill at any step."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.directory import KEY, HistoryDiffers, LogDirectory
from broker.audit.log.merkle import node_hash
from broker.audit.log.note import NoteError, Signer, render
from broker.audit.log.tiles import TileBuilder, TileError, read_edge
from broker.errors import TransientError
from tests.audit.log.tree import ORIGIN, entry, key

LOG = Signer(ORIGIN, key("golden log key"))


def note(size: int, root: bytes = bytes(range(32)), origin: str = ORIGIN) -> bytes:
    """A signed checkpoint."""
    text = Checkpoint(origin, size, root).text()
    return render(text, [LOG.sign(text)])


def entries(start: int, end: int) -> list[bytes]:
    """Of the golden tree."""
    return [entry(i) for i in range(start, end)]


def stored(path: Path) -> dict[str, bytes]:
    """All files that a reader could see."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.relative_to(path).parts[0] not in (".tmp", ".lock")
    }


def test_files_are_where_their_names_say(tmp_path: Path) -> None:
    """Nothing else is left; they are read again by name, and what is not there is None."""
    log = LogDirectory(tmp_path / "new" / "log")
    growth = TileBuilder().append(entries(0, 600))
    log.write_immutable(growth.files)
    assert stored(log.path) == growth.files
    assert list((log.path / ".tmp").iterdir()) == []
    assert all(log.read(name) == data for name, data in growth.files.items())
    assert log.read("tile/0/900") is None
    assert log.load_edge(600).root() == growth.root


@pytest.mark.parametrize("name", ["../x", "checkpoint", "tile/0/../../checkpoint", "/etc/passwd", ".tmp/000"])
def test_no_name_leads_out_of_the_tiles(tmp_path: Path, name: str) -> None:
    """Neither for reading nor for writing."""
    log = LogDirectory(tmp_path / "log")
    with pytest.raises(TileError):
        log.read(name)
    with pytest.raises(TileError):
        log.write_immutable({name: b"x"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["tile/0/000", "tile/entries/000", "tile/0/002.p/88", "tile/entries/002.p/88"])
def test_other_bytes_under_a_name_that_is_taken_are_refused(tmp_path: Path, name: str) -> None:
    """Full and partial alike; nothing of that call is written, the old bytes stay."""
    log = LogDirectory(tmp_path)
    files = TileBuilder().append(entries(0, 600)).files
    log.write_immutable(files)
    with pytest.raises(HistoryDiffers, match=f"{name} is in the log already, with other bytes"):
        log.write_immutable({"tile/0/500": b"new", name: files[name] + b"x"})
    assert stored(tmp_path) == files
    log.write_immutable(files)
    assert stored(tmp_path) == files


def test_a_partial_file_must_be_how_its_full_file_begins(tmp_path: Path) -> None:
    """Another history that never reached the old sizes does not get in beside what was written before."""
    log = LogDirectory(tmp_path)
    log.write_immutable(TileBuilder().append(entries(0, 256)).files)
    log.write_immutable(TileBuilder().append(entries(0, 200)).files)
    before = stored(tmp_path)
    with pytest.raises(HistoryDiffers, match=r"is not how tile/\S+ begins"):
        log.write_immutable(TileBuilder().append(entries(1, 100)).files)
    assert stored(tmp_path) == before


def test_a_full_file_that_was_emptied_is_noticed(tmp_path: Path) -> None:
    """It is there, with other bytes: also for a partial file."""
    log = LogDirectory(tmp_path)
    (tmp_path / "tile/0").mkdir(parents=True)
    (tmp_path / "tile/0/000").touch()
    for files in (TileBuilder().append(entries(0, 9)).files, TileBuilder().append(entries(0, 256)).files):
        with pytest.raises(HistoryDiffers):
            log.write_immutable(files)


def test_two_writers_of_one_position_can_not_both_be_right(tmp_path: Path) -> None:
    """The same entries: both succeed. Others: the second stops, whoever it is."""
    first, second = LogDirectory(tmp_path), LogDirectory(tmp_path)
    growth = TileBuilder().append(entries(0, 300))
    first.write_immutable(growth.files)
    second.write_immutable(TileBuilder().append(entries(0, 300)).files)
    with pytest.raises(HistoryDiffers):
        second.write_immutable(TileBuilder().append([*entries(0, 299), b"another"]).files)
    assert stored(tmp_path) == growth.files


@pytest.mark.parametrize("same", [True, False])
def test_a_name_that_is_taken_in_between_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    """Between looking and naming another writer comes first: the file system refuses the second name."""
    log, link, theirs = LogDirectory(tmp_path), os.link, b"ours" if same else b"theirs"

    def late(source: Any, target: Any, **options: Any) -> None:
        Path(target).write_bytes(theirs)
        link(source, target, **options)

    monkeypatch.setattr(os, "link", late)
    if same:
        log.write_immutable({"tile/0/000": b"ours"})
    else:
        with pytest.raises(HistoryDiffers):
            log.write_immutable({"tile/0/000": b"ours"})
    assert stored(tmp_path) == {"tile/0/000": theirs}
    assert list((tmp_path / ".tmp").iterdir()) == []


# ---- checkpoints


def test_a_checkpoint_is_shown_as_it_was_published(tmp_path: Path) -> None:
    """None before the first; the same again, more leaves, and the same tree with more signatures replace it."""
    log = LogDirectory(tmp_path / "log")
    assert log.checkpoint() is None
    more = note(7) + (str(Signer("other", key("other")).sign("x\n")) + "\n").encode()
    for data in (note(5), note(5), note(7), more):
        log.publish(data)
        assert log.checkpoint() == data
        assert (log.path / "checkpoint").read_bytes() == data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (note(6), "would take leaves back"),
        (note(7, bytes(32)), "one of the two is false"),
        (note(9, origin="other.example/log"), "each log needs a folder of its own"),
    ],
)
def test_a_checkpoint_never_goes_back(tmp_path: Path, data: bytes, message: str) -> None:
    """Fewer leaves, another root for as many, another log: refused, and the old one stays."""
    log = LogDirectory(tmp_path)
    log.publish(note(7))
    with pytest.raises(HistoryDiffers, match=message):
        log.publish(data)
    assert log.checkpoint() == note(7)


def test_what_is_no_checkpoint_is_not_published(tmp_path: Path) -> None:
    """Nothing is written then."""
    with pytest.raises(NoteError):
        LogDirectory(tmp_path / "log").publish(b"hello\n")
    assert list(tmp_path.iterdir()) == []


def test_two_that_publish_at_once_do_not_pass_each_other(tmp_path: Path) -> None:
    """The second is told to try again; the lock goes with its holder."""
    log = LogDirectory(tmp_path)
    log.publish(note(5))
    with (tmp_path / ".lock").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(TransientError, match="another process"):
            log.publish(note(7))
    assert log.checkpoint() == note(5)
    log.publish(note(7))


# ---- a kill at any step


class Killed(BaseException):
    """No handler of the code under test may catch it, and nothing works after it."""


@contextmanager
def killed_after(operations: int) -> Iterator[list[str]]:
    """Let so many operations on files through; the next and all after it raise, as if the process were gone."""
    done: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in (
            (os, "fsync"), (os, "link"), (os, "unlink"), (os, "mkdir"), (os, "replace"), (os, "open"), (os, "write"),
        ):  # fmt: skip
            real = getattr(owner, name)

            def step(*args: Any, _real: Any = real, _name: str = name, **options: Any) -> Any:
                if len(done) >= operations:
                    raise Killed
                result = _real(*args, **options)
                done.append(_name)
                return result

            patch.setattr(owner, name, step)
        yield done


def seal(path: Path, size: int) -> None:
    """What a sealer does with the leaves up to a size: go on from its last checkpoint, write, publish."""
    log = LogDirectory(path)
    old = 300
    builder = TileBuilder(log.load_edge(old))
    growth = builder.append(entries(old, size))
    log.write_immutable(growth.files)
    log.publish(note(growth.size, growth.root))


def test_a_disk_that_is_full_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error comes out, no file has a name, no half file is left."""
    log = LogDirectory(tmp_path)
    real, calls = os.write, []

    def write(handle: int, data: Any) -> int:
        calls.append(handle)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return real(handle, data)

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="No space"):
        log.write_immutable(TileBuilder().append(entries(0, 600)).files)
    calls[:] = [0, 0]
    with pytest.raises(OSError, match="No space"):
        log.publish(note(600))
    assert stored(tmp_path) == {}
    assert list((tmp_path / ".tmp").iterdir()) == []


def test_what_the_disk_takes_in_parts_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write may take fewer bytes than it was given."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, bytes(data)[:1000]))
    files = TileBuilder().append(entries(0, 600)).files
    LogDirectory(tmp_path).write_immutable(files)
    assert stored(tmp_path) == files


def test_a_sealer_that_is_killed_after_any_operation_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """At every step readers see a whole old or new checkpoint and only right files; the second run completes it."""
    begin = TileBuilder().append(entries(0, 300))
    whole = TileBuilder().append(entries(0, 600))
    expected = {**begin.files, **TileBuilder(read_edge(begin.files.get, 300)).append(entries(300, 600)).files}
    expected["checkpoint"] = note(600, whole.root)
    killed, steps = True, 0
    while killed:
        path = tmp_path / str(steps)
        log = LogDirectory(path)
        log.write_immutable(begin.files)
        log.publish(note(300, begin.root))
        killed = False
        try:
            with killed_after(steps):
                seal(path, 600)
        except Killed:
            killed = True
        seen = stored(path)
        assert seen.pop("checkpoint") in (note(300, begin.root), expected["checkpoint"])
        assert seen.items() <= expected.items()
        if log.checkpoint() == expected["checkpoint"]:
            assert {**seen, "checkpoint": expected["checkpoint"]} == expected
        seal(path, 600)
        assert stored(path) == expected
        steps += 1
    assert steps > 40


def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_folder_before_the_call_returns(tmp_path: Path) -> None:
    """Order of operations: write and flush, name, then every folder that has a new name in it."""
    flushed: list[Path] = []
    real, link = os.fsync, os.link
    linked: list[tuple[Path, bool]] = []

    def where(handle: int) -> Path:
        return Path(f"/proc/self/fd/{handle}").readlink()

    def fsync(handle: int) -> None:
        flushed.append(where(handle))
        real(handle)

    def name(source: Any, target: Any, **options: Any) -> None:
        linked.append((Path(target), Path(source) in flushed))
        link(source, target, **options)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    log = LogDirectory(tmp_path / "log")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        patch.setattr(os, "link", name)
        log.write_immutable({"tile/0/x001/000.p/5": b"12345"})
    assert linked == [(log.path / "tile/0/x001/000.p/5", True)]
    below = [log.path / p for p in ("tile/0/x001/000.p", "tile/0/x001", "tile/0", "tile", "")]
    assert {*below, tmp_path} <= set(flushed)
    # A writer that was killed may have left the name, but not yet on the disk.
    flushed.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        LogDirectory(log.path).write_immutable({"tile/0/x001/000.p/5": b"12345"})
    assert {*below, tmp_path} == set(flushed)


# ---- partial files that are not needed any more


def test_partial_files_go_when_their_full_file_is_there(tmp_path: Path) -> None:
    """Others stay, and every size remains readable."""
    log, builder = LogDirectory(tmp_path), TileBuilder()
    roots = {}
    for start, end in ((0, 100), (100, 250), (250, 260), (260, 300)):
        growth = builder.append(entries(start, end))
        log.write_immutable(growth.files)
        roots[end] = growth.root
    assert log.remove_superseded() == 4
    assert set(stored(tmp_path)) == {
        "tile/0/000", "tile/0/001.p/4", "tile/0/001.p/44", "tile/1/000.p/1",
        "tile/entries/000", "tile/entries/001.p/4", "tile/entries/001.p/44",
    }  # fmt: skip
    assert not (tmp_path / "tile/0/000.p").exists()
    assert {size: log.load_edge(size).root() for size in roots} == roots
    assert log.remove_superseded() == 0


def test_a_partial_file_that_contradicts_its_full_file_is_kept(tmp_path: Path) -> None:
    """It is evidence."""
    log = LogDirectory(tmp_path)
    log.write_immutable(TileBuilder().append(entries(1, 100)).files)
    before = stored(tmp_path)
    full = TileBuilder().append(entries(0, 256)).files
    log.write_immutable(full)
    with pytest.raises(HistoryDiffers, match=r"tile/0/000\.p/99 is not how tile/0/000 begins"):
        log.remove_superseded()
    assert before.items() <= stored(tmp_path).items()


def test_what_a_killed_writer_left_goes_after_an_hour(tmp_path: Path) -> None:
    """Not earlier: another writer may be about to name it."""
    log = LogDirectory(tmp_path)
    log.write_immutable({"tile/0/000": b"x"})
    old, new = tmp_path / ".tmp" / "old", tmp_path / ".tmp" / "new"
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (time.time() - 3700, time.time() - 3700))
    assert log.remove_superseded() == 1
    assert [file.name for file in (tmp_path / ".tmp").iterdir()] == ["new"]


def test_two_leaves_have_one_node_above_them(tmp_path: Path) -> None:
    """The smallest tree with an inner node, from a folder."""
    log = LogDirectory(tmp_path)
    growth = TileBuilder().append([b"a", b"b"])
    log.write_immutable(growth.files)
    tile = log.read("tile/0/000.p/2") or b""
    assert growth.root == node_hash(tile[:32], tile[32:])


def test_a_key_that_was_shown_stays_before_the_newer_ones(tmp_path: Path) -> None:
    """What it signed is verified with it for ever; a line that is no key of this log goes."""
    first, second, other = (Signer(name, key(seed)).vkey for name, seed in (("a", "1"), ("a", "2"), ("b", "3")))
    directory = LogDirectory(tmp_path / "log")
    directory.show_key(first)
    directory.show_key(first, second)
    file = tmp_path / "log" / KEY
    assert file.read_text() == f"{first}\n{second}\n"
    directory.show_key(first)  # a builder that has not got the newer one yet
    directory.show_key(second)  # and one that has not got the older one any more
    assert file.read_text() == f"{first}\n{second}\n"
    file.write_bytes(f"{other}\n{first}\n\xff half a l".encode("latin-1"))
    directory.show_key(second)
    assert file.read_text() == f"{first}\n{second}\n"
