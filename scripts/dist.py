"""Builds what is released: sdist, wheel, bill of materials, SHA256SUMS. The same commit gives the same bytes.

What is built is what is committed, not what lies in the working folder: no build output of an example, no key and no
note gets into a package. It is built by the tools of the lock, without a network. Run by `make dist`.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent.parent))
from scripts.bill_of_materials import as_json, bill, graph, pins

ROOT: Final = Path(__file__).parent.parent
BUILDERS: Final = ("build", "hatchling")


def git(*words: str) -> bytes:
    """What a git command of this repository prints."""
    return subprocess.run(("git", *words), cwd=ROOT, check=True, capture_output=True).stdout


def strangers() -> list[str]:
    """The build's tools that are not those of the lock, each with what is there and what should be."""
    locked = pins(ROOT / "requirements" / "dev.txt")
    tools = graph(BUILDERS, locked)
    found = {name: metadata.version(name) for name in tools}
    return [
        f"{name} {found[name]}, not {locked[name].version}"
        for name in sorted(tools)
        if found[name] != locked[name].version
    ]


def build(commit: str, out: Path) -> list[Path]:
    """Builds a commit into a folder: sdist, the wheel out of that sdist, bill and sums.

    Args:
        commit: as git names it.
        out: an empty or absent folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    epoch = int(git("show", "--no-patch", "--format=%ct", commit))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        with zipfile.ZipFile(io.BytesIO(git("archive", "--format=zip", commit))) as tree:
            tree.extractall(source)
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "PYTHONDONTWRITEBYTECODE": "1"}
        command = (sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source))
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        (wheel,) = out.glob("*.whl")
        text = as_json(bill(source, epoch))
    name, version = wheel.name.split("-")[:2]
    sbom = out / f"{name}-{version}.cdx.json"
    sbom.write_text(text, "utf-8")
    files = sorted((wheel, sbom, *out.glob("*.tar.gz")))
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
    (out / "SHA256SUMS").write_text(sums, "utf-8")
    return [*files, out / "SHA256SUMS"]


def main() -> int:
    """Build the commit that is checked out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commit", default="HEAD", help="what to build (default: what is checked out)")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="emptied first (default: dist)")
    options = parser.parse_args()
    if foreign := strangers():
        sys.stderr.write(
            f"The tools here are not those of requirements/dev.txt: {'; '.join(foreign)}. Run: make clean\n"
        )
        return 1
    if git("status", "--porcelain").strip():
        sys.stderr.write("Note: there are changes that are not committed; they are not in what is built.\n")
    if options.out.exists():
        shutil.rmtree(options.out)
    for path in build(options.commit, options.out):
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
