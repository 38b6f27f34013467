"""`broker audit ask` as an officer types it, against a service that listens; and the first errors of `serve`."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from broker.audit import verify
from broker.auditserve.server import AuditServer
from broker.cli import build
from broker.errors import BrokerError
from broker.keys import FileKeys
from broker.wire import AUDIT_SALT
from tests.audit.signed_world import GrowingLog
from tests.auditserve.office import BOARD, LOCAL, Office, logs_of_production
from tests.exchange.world import PORTAL

PUPIL = ("--school", "99PA", "--sector", "PO", "--type", "LAS_KEY")


class Desk:
    """An officer's machine: certificate, keys, and the service that somebody else runs."""

    def __init__(self, office: Office, server: AuditServer) -> None:
        self.office, self.folder = office, office.folder
        self.keys = self.folder / "published.vkeys"
        self.keys.write_text(office.log.signer.vkey + "\n")
        self.url = f"https://localhost:{server.port}"

    def run(self, command: str, *arguments: str, who: str = BOARD, typed: str | None = None) -> Result:
        """One command; `typed`: at the prompt, or into standard input."""
        cert, key = self.office.ca.issue_party(who)
        known = (
            "--service",
            self.url,
            "--cert",
            str(cert),
            "--cert-key",
            str(key),
            "--ca",
            str(self.office.ca.ca_file),
        )
        wanted = ["audit", "ask", command, *arguments, *known, "--key-file", str(self.keys)]
        return CliRunner().invoke(build("audit"), wanted, input=typed)

    def fails(self, *arguments: str, **options: Any) -> str:
        """The code of the error that a command ends with."""
        done = self.run(*arguments, **options)
        assert isinstance(done.exception, BrokerError), done.output
        return done.exception.code


@contextmanager
def listening(office: Office) -> Iterator[AuditServer]:
    """The service in a thread of its own, since a command has its own event loop."""
    loop, opened, close = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    servers: list[AuditServer] = []

    async def serve() -> None:
        async with office.open(burst=1_000) as server:
            servers.append(server)
            opened.set()
            await close.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert opened.wait(30)
    try:
        yield servers[0]
    finally:
        loop.call_soon_threadsafe(close.set)
        thread.join(30)
        loop.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """An officer of the board."""
    office = Office(tmp_path)
    with logs_of_production(), listening(office) as server:
        yield Desk(office, server)


def rows(done: Result) -> list[dict[str, Any]]:
    """The lines of JSON."""
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]  # the prompt ends a line of its own


def test_decisions_are_found_in_every_format(desk: Desk) -> None:
    """As a table, CSV and JSON, as `find` on the machine itself shows them; each proven here."""
    found = rows(desk.run("find", "--json", "--since", "2026-11-24"))
    assert {row["school"] for row in found} == {"99PA"}
    assert {row["proof"] for row in found} == {f"proven at size {desk.office.log.builder.edge.size}"}
    as_csv = list(csv.DictReader(io.StringIO(desk.run("find", "--csv", "--since", "2026-11-24").stdout)))
    assert [{name: cell for name, cell in row.items() if cell} for row in as_csv] == [
        {name: str(cell) for name, cell in row.items()} for row in found
    ]
    assert len(desk.run("find", "--since", "2026-11-24").stdout.splitlines()) == len(found) + 1
    portal = rows(desk.run("find", "--json", "--party", PORTAL, "--decision", "delivered"))
    assert {(row["receiver"], row["decision"]) for row in portal} == {(PORTAL, "delivered")}
    assert desk.fails("find", "--json", "--csv") == "audit.format"
    assert desk.fails("find", "--school", "99VA") == "audit.scope"
    assert desk.fails("find", "--since", "yesterday") == "audit.moment"


@pytest.mark.parametrize("way", ["typed", "file", "stdin"])
def test_a_pupils_id_is_typed_unseen_or_read(desk: Desk, way: str) -> None:
    """And is in nothing that the command shows."""
    file = desk.folder / "id"
    file.write_text(f"{LOCAL}\n")
    more = {"typed": (), "file": ("--id-file", str(file)), "stdin": ("--id-file", "-")}[way]
    done = desk.run("person", *PUPIL, "--json", *more, typed=None if way == "file" else f"{LOCAL}\n")
    assert len(rows(done)) > 3
    assert LOCAL not in done.output
    assert len({row["event"] for row in rows(done)}) > 1


def test_an_id_is_no_part_of_a_command(desk: Desk) -> None:
    """No option and no argument takes it: it would stand in the shell's history."""
    done = desk.run("person", *PUPIL, LOCAL)
    assert done.exit_code == 2
    assert desk.run("person", *PUPIL, "--value", LOCAL).exit_code == 2
    assert desk.office.recorded.leaves == []


def test_an_id_that_is_none_is_not_sent(desk: Desk) -> None:
    """An empty line, two lines, bytes."""
    file = desk.folder / "id"
    for content in (b" \n", b"a\nb\n", b"\xff\xfe"):
        file.write_bytes(content)
        assert desk.fails("person", *PUPIL, "--id-file", str(file)) == "audit.id"
    assert desk.fails("person", *PUPIL, "--id-file", str(desk.folder / "none")) == "audit.file"
    assert desk.office.recorded.leaves == []


def test_who_is_not_known_is_told_without_the_id(desk: Desk) -> None:
    """In one sentence."""
    done = desk.run("person", *PUPIL, "--id-file", "-", typed="L9999\n")
    assert isinstance(done.exception, BrokerError)
    assert done.exception.code == "audit.person"
    assert "L9999" not in str(done.exception) + done.output
    assert desk.fails("person", *PUPIL, "--id-file", "-", typed=LOCAL, who=PORTAL) == "audit.denied"


def test_all_pages_are_read_when_that_is_wanted(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it says that there may be more."""
    everything = rows(desk.run("find", "--json"))
    desk.office.desk.answer = small_pages(desk.office.desk.answer)  # type: ignore[method-assign]
    first = desk.run("find", "--json")
    assert rows(first) == everything[-2:]
    assert "there may be older ones: ask with --all" in first.stderr
    whole = desk.run("find", "--json", "--all")
    assert rows(whole) == everything
    assert "older" not in whole.stderr


def small_pages(answer: Any) -> Any:
    """A service that gives two rows at a time."""

    async def two(name: str, question: Any, body: bytes) -> Any:
        return await answer(name, question, json.dumps({**json.loads(body), "most": 2}).encode())

    return two


def test_an_event_is_explained(desk: Desk) -> None:
    """From its leaves, which were proven here."""
    event = rows(desk.run("find", "--json", "--party", PORTAL))[0]["event"]
    done = desk.run("explain", event)
    assert done.exit_code == 0
    assert f"event {event}" in done.stdout
    assert f"It was delivered to {PORTAL}" in done.stdout
    assert f"This leaf is proven at size {desk.office.log.builder.edge.size}." in done.stdout
    assert desk.fails("explain", "00000000-0000-4000-8000-000000000000") == "audit.event"
    assert desk.fails("explain", LOCAL) == "audit.question"


def test_a_receipt_is_written_and_holds(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """As the verifier, which shares no code with it, has it; readable by its owner only."""
    record = desk.office.world.topic(f"out.{PORTAL}.usage")[0]
    event = desk.office.world.delivered(PORTAL)[0].envelope["event_id"]
    salt, value, out = desk.folder / "salt", desk.folder / "value", desk.folder / "order.tlog-proof"
    salt.write_bytes(dict(record.headers)[AUDIT_SALT])
    value.write_bytes(record.value or b"")
    files = ("--salt-file", str(salt), "--value-file", str(value), "--out", str(out))
    assert desk.run("receipt", event, PORTAL, *files, who=PORTAL).exit_code == 0
    assert out.stat().st_mode & 0o077 == 0
    assert verify.main(["receipt", str(out), "--value", str(value), "--key-file", str(desk.keys)]) == 0
    capsys.readouterr()
    out.unlink()
    value.write_bytes(b"another")
    assert desk.fails("receipt", event, PORTAL, *files) == "receipt"
    assert not out.exists()


def test_what_is_not_proven_ends_with_1(desk: Desk) -> None:
    """With a key that is another one; and it says how much was not searched yet."""
    desk.office.log.grow([b'{"ldv":{}}'])
    done = desk.run("find", "--json")
    assert done.exit_code == 0
    size = desk.office.log.builder.edge.size
    assert f"the newest 1 of {size} leaves were not searched yet" in done.stderr
    desk.keys.write_text(GrowingLog(desk.folder / "other", "broker.example/audit/p7/1").signer.vkey + "\n")
    done = desk.run("find", "--json")
    assert done.exit_code == 1
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert f"{len(found)} of {len(found)} are not proven" in done.stderr
    assert all("not proven" in row["proof"] for row in found)


# ---- serve


def test_what_is_missing_shows_before_anything_starts(tmp_path: Path) -> None:
    """Certificate, keys, connection, in this order; and without a certificate there is no option at all."""
    office = Office(tmp_path)
    folder, keys = office.ca.folder, tmp_path / "keys"
    good = {
        "--store": tmp_path / "store", "--logs": tmp_path / "logs", "--connection": tmp_path / "none.json",
        "--keys": keys, "--state": tmp_path / "state", "--cert": folder / "broker-0.pem",
        "--cert-key": folder / "broker-0.key", "--client-ca": office.ca.ca_file,
    }  # fmt: skip

    def serve(**changes: Path | None) -> Result:
        wanted = good | {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
        options = [str(part) for name, value in wanted.items() if value is not None for part in (name, value)]
        return CliRunner().invoke(build("audit"), ["audit", "serve", *options])

    def code(**changes: Path) -> str:
        done = serve(**changes)
        assert isinstance(done.exception, BrokerError), done.output
        return done.exception.code

    for name in ("cert", "cert_key", "client_ca"):
        assert serve(**{name: None}).exit_code == 2
    assert code(cert=tmp_path / "nothing.pem") == "audit.tls"
    assert code() == "keys.missing"
    for name in ("vault-mac", "vault-records", "school-keys"):
        FileKeys(keys).create_secret(name)
    assert code() == "kafka.file"
