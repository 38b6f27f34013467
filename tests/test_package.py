"""What a user installs: the wheel carries all data, and its demo runs from an empty virtual environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from broker.kafka.artifacts import versions

ROOT = Path(__file__).parent.parent
BUILT = {"target", "node_modules", "bin"}  # what building the example clients leaves; git ignores it


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this tree."""
    folder = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT), cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_carries_all_data(wheel: Path) -> None:
    """Every data file of the tree is in the package, and no test is."""
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("schemas", "topics", "policies", "connectors", "examples"):
        expected = {
            f"broker/_data/{path.relative_to(ROOT).as_posix()}"
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and not BUILT & set(path.parts)
        }
        assert expected
        assert expected <= names
    assert {f"broker/kafka/{path.name}" for path in versions().values()} <= names
    assert "broker/py.typed" in names
    assert not any(name.startswith("tests/") for name in names)


def test_the_wheel_has_no_build_output_of_the_example_clients(tmp_path: Path) -> None:
    """From a tree in which all three were built: their sources go along, tens of megabytes of libraries do not."""
    tree = tmp_path / "tree"
    for name in ("broker", "schemas", "topics", "policies", "connectors", "examples"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", *BUILT))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, tree / name)
    for place in ("java/target", "javascript/node_modules", "go/bin"):
        (tree / "examples" / "clients" / place).mkdir()
        (tree / "examples" / "clients" / place / "built").touch()
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(tree), cwd=tree)
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert [name for name in names if name.endswith("/built")] == []
    assert {f"broker/_data/examples/clients/{name}" for name in ("java/pom.xml", "go/wire.go")} <= set(names)


@pytest.mark.kafka
@pytest.mark.timeout(900)
def test_the_demo_runs_from_the_wheel_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """As a stranger does it: new environment, locked requirements, the wheel, `broker demo`, no checkout in sight."""
    python = tmp_path / "venv" / "bin" / "python"
    _run(sys.executable, "-m", "venv", str(tmp_path / "venv"), cwd=tmp_path)
    pip = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    _run(*pip, "--require-hashes", "-r", str(ROOT / "requirements" / "embedded.txt"), cwd=tmp_path)
    _run(*pip, "--no-deps", str(wheel), cwd=tmp_path)
    done = _run(str(python.with_name("broker")), "demo", "--home", str(tmp_path / "demo"), cwd=tmp_path)
    assert "uitgeverij-oost" in done
    facts = json.loads((tmp_path / "demo" / "report.json").read_text("utf-8"))
    assert facts["audit"]["by_decision"]["delivered"] > 300
    assert {row["code"] for row in facts["not_delivered"]} >= {"pgn.bsn", "event.duplicate", "subject.waiting"}
    kept = list(facts["same_event"]["kept"].values())
    assert len(kept) >= 2
    assert any(one != other for one in kept for other in kept), "one event, different attributes"
    assert processes_of(tmp_path) == []


def test_locked_requirements_have_hashes_and_no_host(tmp_path: Path) -> None:
    """Each pinned version has a SHA-256, and no registry is named."""
    for name in ("dev.txt", "embedded.txt"):
        text = (ROOT / "requirements" / name).read_text("utf-8")
        assert "://" not in text
        pins = [
            block for block in text.replace("\\\n", " ").splitlines() if "==" in block and not block.startswith(" ")
        ]
        assert pins
        assert all("--hash=sha256:" in pin for pin in pins)


def _run(*command: str, cwd: Path) -> str:
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("BROKER_", "PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def processes_of(folder: Path) -> list[str]:
    """Command lines of running processes that mention a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if str(folder).encode() in command:
            found.append(command.decode(errors="replace"))
    return found
