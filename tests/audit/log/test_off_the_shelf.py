"""What nobody here wrote accepts our logs, where Go is on the machine: transparency-dev's fsck and golang.org/x/mod/sumdb.

Both unmodified. The second is a library; what asks it is `sumdb/main.go` beside this file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.directory import KEY, LogDirectory
from broker.audit.log.note import Signer, render
from broker.audit.log.tiles import TileBuilder

FSCK: Final = "github.com/transparency-dev/tessera/cmd/fsck@v1.0.4"
INSTALL_S: Final = 240
# On a log that does not hold fsck 1.0.4 can go on for ever, or end with 0 and only print the error: so there is a time
# limit, and what counts is the line that it prints when all is well.
LOOK_S: Final = 20
WELL: Final = "Successfully fsck'd log"

pytestmark = [
    pytest.mark.skipif(shutil.which("go") is None, reason="Go is not on this machine"),
    pytest.mark.timeout(INSTALL_S + 200),
]


SUMDB: Final = Path(__file__).parent / "sumdb"


@pytest.fixture(scope="module")
def sumdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A verifier on the library that checks Go's own modules."""
    source = shutil.copytree(SUMDB, tmp_path_factory.mktemp("sumdb") / "source")
    command = ["go", "build", "-o", str(source / "sumdb"), "."]
    try:
        done = subprocess.run(
            command, cwd=source, env={**os.environ, "GOFLAGS": ""}, capture_output=True, text=True, timeout=INSTALL_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        pytest.skip("x/mod could not be fetched and built in time")
    if done.returncode:
        pytest.skip(f"x/mod could not be fetched: {done.stderr[-200:]}")
    return source / "sumdb"


@pytest.fixture(scope="module")
def fsck(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, as its authors publish it."""
    folder = tmp_path_factory.mktemp("fsck")
    try:
        done = subprocess.run(
            ["go", "install", FSCK], env={**os.environ, "GOBIN": str(folder), "GOFLAGS": ""},
            capture_output=True, text=True, timeout=INSTALL_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        pytest.skip("fsck could not be fetched and built in time")
    if done.returncode:
        pytest.skip(f"fsck could not be fetched: {done.stderr[-200:]}")
    return folder / "fsck"


def a_log(folder: Path, size: int) -> Path:
    """A signed log of so many leaves."""
    signer = Signer("broker.example/audit/p0/1", Ed25519PrivateKey.generate())
    directory, builder, grown = LogDirectory(folder), TileBuilder(), None
    for start in range(0, size, 997):
        entries = [b'{"n":%d,"v":1}' % number for number in range(start, min(size, start + 997))]
        grown = builder.append(entries)
        directory.write_immutable(grown.files)
    assert grown is not None
    checkpoint = Checkpoint(signer.name, grown.size, grown.root)
    directory.publish(render(checkpoint.text(), [signer.sign(checkpoint.text())]))
    directory.show_key(signer.vkey)
    return folder


def says(fsck: Path, log: Path) -> str:
    """What fsck prints about a log."""
    command = [str(fsck), f"--storage_url=file://{log}/", f"--public_key={log / KEY}", "--ui=false"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LOOK_S, check=False)
    except subprocess.TimeoutExpired as late:
        return (late.stderr or b"").decode() if isinstance(late.stderr, bytes) else late.stderr or ""
    return done.stdout + done.stderr


@pytest.mark.parametrize("size", [1, 255, 256, 257, 600, 70_000])
def test_fsck_finds_our_log_whole(fsck: Path, tmp_path: Path, size: int) -> None:
    """Around the edges of a tile, and with three levels of them."""
    assert f"{WELL} with size {size} " in says(fsck, a_log(tmp_path / "log", size))


def test_fsck_does_not_find_a_changed_log_whole(fsck: Path, tmp_path: Path) -> None:
    """One bit of one entry: else the test above would show nothing."""
    log = a_log(tmp_path / "log", 600)
    bundle = log / "tile" / "entries" / "001"
    data = bytearray(bundle.read_bytes())
    data[40] ^= 1
    bundle.write_bytes(data)
    assert WELL not in says(fsck, log)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 600, 70_000])
def test_sumdb_finds_every_entry_in_the_signed_tree(sumdb: Path, tmp_path: Path, size: int) -> None:
    """And each smaller tree that it looks at is the beginning of this one."""
    done = subprocess.run([sumdb, a_log(tmp_path / "log", size)], capture_output=True, text=True, check=False)
    assert done.stdout.startswith(f"WHOLE: {size} entries"), done.stdout + done.stderr


@pytest.mark.parametrize("file", ["checkpoint", "log.vkey", "tile/entries/001", "tile/0/001", "tile/1/000.p/2"])
def test_sumdb_finds_what_was_changed(sumdb: Path, tmp_path: Path, file: str) -> None:
    """One bit of any file: else the test above would show nothing."""
    changed = a_log(tmp_path / "log", 600) / file
    data = bytearray(changed.read_bytes())
    data[40] ^= 1
    changed.write_bytes(data)
    done = subprocess.run([sumdb, tmp_path / "log"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("NOT WHOLE")
