"""`broker witness`: makes a key, and runs as a process that may be killed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.audit.log.note import COSIGNATURE, Verifier, open_note
from broker.cli import build
from broker.cli.witness import address
from broker.errors import ConfigError
from tests.witness.logs import GrowingLog

LOG, FORK = GrowingLog(), GrowingLog(forked_at=1)


def make_key(folder: Path) -> Verifier:
    """With the command; gives what it printed."""
    arguments = ["witness", "key", "witness.school.example", "--key", str(folder / "key")]
    done = CliRunner().invoke(build("witness"), arguments)
    assert done.exit_code == 0, done.output
    return Verifier.parse(done.stdout.strip())


@contextmanager
def running(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process, and its address."""
    (folder / "logs").write_text(f"{LOG.signer.vkey}\n")
    command = "import sys; from broker.cli import main; sys.exit(main())"
    options = [
        "--state",
        "state",
        "--key",
        "key",
        "--log-key",
        "logs",
        "--listen",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", command, "witness", "run", *options], cwd=folder, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.search(r"port ([0-9]+)$", line)
        assert found, line + process.stderr.read()
        yield process, f"http://127.0.0.1:{found[1]}/add-checkpoint"
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def post(url: str, body: bytes) -> tuple[int, bytes]:
    """Status and body."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body, method="POST"), timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_a_witness_that_was_killed_remembers(tmp_path: Path) -> None:
    """Kill -9 after a cosignature: started again it refuses the other history, says so, and goes on with the first."""
    key = make_key(tmp_path)
    assert key.kind == COSIGNATURE
    with running(tmp_path) as (process, url):
        status, lines = post(url, LOG.body(0, 3))
        assert status == 200
        assert open_note(LOG.checkpoint(3).text().encode() + b"\n" + lines, [key]).verified
        process.send_signal(signal.SIGKILL)
        process.wait()
    with running(tmp_path) as (process, url):
        assert post(url, FORK.body(0, 5)) == (409, b"3\n")
        assert post(url, FORK.body(3, 3))[0] == 422
        assert post(url, LOG.body(3, 5))[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
        assert process.stderr is not None
        told = process.stderr.read()
    alarm = json.loads(next(line for line in told.splitlines() if line.startswith("{")))
    assert (alarm["event"], alarm["level"], alarm["origin"]) == ("witness.fork", "error", LOG.origin)
    assert len(list((tmp_path / "state").glob(f"{alarm['evidence']}.*"))) == 2


def test_two_witnesses_do_not_share_a_state(tmp_path: Path) -> None:
    """The second command ends with an error."""
    make_key(tmp_path)
    with running(tmp_path):
        options = ["--state", "state", "--key", "key", "--log-key", "logs"]
        arguments = ["witness", "run", *(str(tmp_path / each) if each[0] != "-" else each for each in options)]
        done = CliRunner().invoke(build("witness"), arguments)
        assert isinstance(done.exception, ConfigError)
        assert done.exception.code == "witness.state"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), "witness.key"),
        (("--listen", "0.0.0.0:1"), "witness.tls"),
        (("--listen", "0.0.0.0:1", "--cert", "c"), "witness.tls"),
        (("--listen", "8090"), "witness.listen"),
        (("--http", "127.0.0.1:99999"), "witness.listen"),
    ],
)
def test_what_can_not_run_is_told_at_once(options: tuple[str, ...], code: str, tmp_path: Path) -> None:
    """Before anything is written."""
    arguments = ["witness", "run", "--state", str(tmp_path / "state"), "--key", str(tmp_path / "absent")]
    done = CliRunner().invoke(build("witness"), [*arguments, "--log-key", str(tmp_path / "absent"), *options])
    assert isinstance(done.exception, ConfigError)
    assert done.exception.code == code
    assert not (tmp_path / "state").exists()


def test_an_address_is_host_and_port() -> None:
    """Also of IPv6."""
    assert address("127.0.0.1:8090") == ("127.0.0.1", 8090)
    assert address("[::1]:0") == ("::1", 0)
