"""The example programs: built once from a copy of their folder, and run as a supplier runs them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parent.parent.parent
VECTORS: Final = ROOT / "tests" / "vectors"
BUILD_S: Final = 600
RUN_S: Final = 90
# What the three say when nobody answers; another failure of fetching, such as a version that does not exist or a wrong
# checksum, is a failure.
NOBODY_ANSWERS: Final = re.compile(
    r"UnknownHost|Name or service not known|Temporary failure in name resolution|Connection refused|[Cc]onnect(ion)? timed out"
    r"|Connection reset|Network is unreachable|No route to host|in offline mode|ENOTCACHED|ENOTFOUND|EAI_AGAIN|ECONNREFUSED"
    r"|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|dial tcp|i/o timeout|no such host|module lookup disabled"
)
# A build is short: the best compiler of a Java machine would take longer than it saves.
_SHORT_LIVED: Final = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


@dataclass(frozen=True)
class Client:
    """The programs of one language, ready to run.

    Args:
        vectors: command that holds the code against the test vectors.
    """

    language: str
    folder: Path
    send_command: tuple[str, ...]
    receive_command: tuple[str, ...]
    vectors: tuple[str, ...]

    def send(self, bundle: Path, family: str, file: Path) -> subprocess.CompletedProcess[str]:
        """Runs `send`."""
        return self.run(*self.send_command, str(bundle), family, str(file))

    def receive(self, bundle: Path, family: str, **options: object) -> subprocess.CompletedProcess[str]:
        """Runs `receive`, options first: all three take them there."""
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return self.run(*self.receive_command, *words, str(bundle), family)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command in the folder of the programs."""
        environment = os.environ | {"VECTORS": str(VECTORS)}
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=RUN_S
        )

    def start_receive(self, bundle: Path, family: str, stdout: int, **options: object) -> subprocess.Popen[str]:
        """Starts `receive`, which goes on until it is stopped.

        Args:
            stdout: a file descriptor, or `subprocess.PIPE`.
        """
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        command = (*self.receive_command, *words, str(bundle), family)
        return subprocess.Popen(command, cwd=self.folder, stdout=stdout, stderr=subprocess.PIPE, text=True)


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """The JSON lines of a program that ended well."""
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def build(language: str, home: Path) -> Client:
    """Copies a language's folder, with the schemas where its programs look for them, and builds it there.

    Skips where its tools are absent or its packages can not be fetched.
    """
    need_tools(language)
    folder = home / "examples" / "clients" / language
    ignored = shutil.ignore_patterns("target", "node_modules", "bin")
    shutil.copytree(ROOT / "examples" / "clients" / language, folder, ignore=ignored)
    shutil.copytree(ROOT / "schemas" / "avro", home / "schemas" / "avro")
    return {"java": _java, "javascript": _javascript, "go": _go}[language](folder)


def _java(folder: Path) -> Client:
    _at_least(17, "javac", "-version")
    fetch(folder, "mvn", "-q", "-B", "compile")  # compiles too: what does not compile says so, and is no skip
    java = ("java", *_SHORT_LIVED, "-cp", "target/classes:target/lib/*")
    program = "nl.eckbroker.example"
    vectors = (*java, f"{program}.Vectors", str(VECTORS))
    return Client("java", folder, (*java, f"{program}.Send"), (*java, f"{program}.Receive"), vectors)


def _javascript(folder: Path) -> Client:
    _at_least(20, "node", "--version")
    fetch(folder, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    return Client(
        "javascript", folder, ("node", "send.mjs"), ("node", "receive.mjs"), ("node", "vectors.mjs", str(VECTORS))
    )


def _go(folder: Path) -> Client:
    fetch(folder, "go", "mod", "download")
    built = subprocess.run(
        ("go", "build", "-trimpath", "-o", "bin/", "./cmd/..."), cwd=folder, capture_output=True, text=True, check=False,
        timeout=BUILD_S,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return Client("go", folder, ("bin/send",), ("bin/receive",), ("go", "test", "-trimpath", "-count=1", "."))


def need_tools(language: str) -> None:
    """Skips where a language's tools are absent."""
    for tool in {"java": ("java", "javac", "mvn"), "javascript": ("node", "npm"), "go": ("go",)}[language]:
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool} on this machine")


def _at_least(wanted: int, *command: str) -> None:
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    major = re.search(r"\d+", said)
    if major is None or int(major[0]) < wanted:
        pytest.skip(f"the example needs {command[0]} {wanted}, and here is {said.strip()}")


def fetch(folder: Path, *command: str) -> None:
    """Runs what fetches packages; skips if nobody answers, or if the tool itself is too old."""
    environment = {"MAVEN_OPTS": " ".join(_SHORT_LIVED)} | os.environ
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=BUILD_S
    )
    said = (done.stdout + done.stderr).strip()
    if done.returncode and (old := re.search(r"go\.mod requires go >= .*", said)):
        pytest.skip(f"the Go on this machine is too old: {old[0][:200]}")
    if done.returncode and NOBODY_ANSWERS.search(said):
        pytest.skip(f"the packages can not be fetched: {said.splitlines()[0][:200]}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
