"""The Dockerfile, read: what goes into the image and how it runs. It is built where there is a container engine."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from broker import __version__
from broker.app.health import HealthServer

TREE = Path(__file__).parents[2]
TEXT = (TREE / "Dockerfile").read_text(encoding="utf-8")
STEPS = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()
SITE = "/opt/venv/lib/python3.12/site-packages/broker/"


def steps(word: str) -> list[str]:
    """The arguments of all instructions of this kind."""
    return [step.removeprefix(word).strip() for step in STEPS if step.startswith(f"{word} ")]


def test_no_instruction_uses_a_shell() -> None:
    """All commands are lists, so that nothing is interpreted and signals reach the broker itself."""
    assert [json.loads(command) for command in steps("RUN")]
    assert json.loads(steps("ENTRYPOINT")[0]) == ["python", "-m", "broker"]
    assert json.loads(steps("CMD")[0]) == ["--help"]


def test_the_image_runs_as_an_ordinary_user() -> None:
    """The last instruction about users names the ids of the chart and of the compose file."""
    assert steps("USER") == ["10001:10001"]
    assert STEPS.index("USER 10001:10001") > max(STEPS.index(step) for step in STEPS if step.startswith("RUN"))


def test_packages_come_by_hash_only() -> None:
    """pip takes wheels whose hash is in the lock, and nothing else; the lock has a hash for each."""
    (install,) = [command for command in map(json.loads, steps("RUN")) if "install" in command and "pip" in command]
    assert {"--require-hashes", "--no-deps", "--only-binary"} <= set(install)
    lock = (TREE / "requirements" / "embedded.txt").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[a-z])", lock.strip())
    assert len(entries) > 30
    assert all("--hash=sha256:" in entry for entry in entries)


def test_the_image_has_the_files_of_the_wheel() -> None:
    """What is copied, and where to, is what pyproject.toml puts into the wheel."""
    wheel = tomllib.loads((TREE / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    data = {name: target.removeprefix("broker/") for name, target in wheel["wheel"]["sources"].items()}
    expected = {"broker": SITE} | {name: f"{SITE}{target}/" for name, target in data.items()}
    copied = dict(step.split() for step in steps("COPY") if not step.startswith(("--", "requirements")))
    assert {source.rstrip("/"): target for source, target in copied.items()} == expected


def test_the_builder_sees_nothing_that_is_not_named() -> None:
    """The list of ignored files begins with everything and lets in what the Dockerfile copies."""
    lines = [line for line in (TREE / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {step.split()[0].rstrip("/") for step in steps("COPY") if not step.startswith("--")}
    assert allowed == copied


def test_nothing_is_fetched_from_a_place_that_is_written_here() -> None:
    """One base image, no host names: mirrors are the business of whoever builds."""
    assert steps("ARG") == ["PYTHON_IMAGE=python:3.12-slim", f"VERSION={__version__}", 'SOURCE=""', 'REVISION=""']
    assert {step.split()[0] for step in steps("FROM")} == {"${PYTHON_IMAGE}"}
    elsewhere = TEXT.replace("http://{host}:{port}/readyz", "")  # what its own health check asks, of itself
    assert not re.search(r"https?://|curl|wget|apt-get|ADD ", elsewhere)


def test_volumes_have_their_folders_in_the_image() -> None:
    """A named volume takes owner and mode from the image: each has its folder, for its owner only."""
    (made,) = [command for command in map(json.loads, steps("RUN")) if command[0] == "install"]
    assert {"--owner=10001", "--group=10001", "--mode=0700"} <= set(made)
    compose = (TREE / "docker-compose.yml").read_text(encoding="utf-8")
    mounted = set(re.findall(r"[\w-]+:(/var/lib/eck-broker/[\w-]+)(?=\W)", compose))
    assert mounted == {path for path in made if path.startswith("/var/lib/eck-broker/")}


def test_the_image_says_what_it_is_made_of() -> None:
    """Title, licence, version, and the source and revision that the builder gives."""
    (labels,) = steps("LABEL")
    found = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', labels))
    assert found.pop("description")
    assert found == {
        "title": "eck-broker",
        "licenses": "EUPL-1.2",
        "version": "${VERSION}",
        "source": "${SOURCE}",
        "revision": "${REVISION}",
    }


async def test_the_health_check_asks_a_worker_whether_it_is_ready() -> None:
    """The very command, run against the endpoint: ready, not ready, nobody there, and no port at all."""
    (check,) = steps("HEALTHCHECK")
    program, *words = json.loads(check.partition("CMD ")[2])
    assert program == "python"

    def healthy(**environment: str) -> bool:
        given = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")} | environment
        done = subprocess.run([sys.executable, *words], env=given, stderr=subprocess.DEVNULL, timeout=30, check=False)
        return done.returncode == 0

    ready = True
    server = HealthServer(lambda: True, lambda: ready, lambda: b"")
    await server.start("127.0.0.1", 0)
    port = str(server.port)
    try:
        assert await asyncio.to_thread(healthy, BROKER_HTTP_PORT=port)
        ready = False
        assert not await asyncio.to_thread(healthy, BROKER_HTTP_PORT=port)
    finally:
        await server.stop()
    assert not await asyncio.to_thread(healthy, BROKER_HTTP_PORT=port)
    assert await asyncio.to_thread(healthy, BROKER_HTTP_PORT="0")
    assert await asyncio.to_thread(healthy)
