"""`broker audit index`, `find`, `explain`, `receipt` and `erasure`, from a folder of logs to what a person reads."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from broker.audit.leaf import b64url
from broker.audit.log.tiles import bundle_path
from broker.cli import build
from broker.errors import BrokerError
from broker.wire import AUDIT_SALT
from tests.audit.signed_world import GrowingLog, audit_events, busy_world
from tests.exchange.world import EMMA, SIS, World, enrolment


@dataclass
class Desk:
    """An auditor's folder."""

    folder: Path
    world: World
    log: GrowingLog

    def run(self, command: str, *arguments: str, store: str = "store") -> Result:
        """One command."""
        where = ("--store", str(self.folder / store), "--logs", str(self.folder / "logs"))
        return CliRunner().invoke(build("audit"), ["audit", command, *arguments, *where])

    def fails(self, *arguments: str, **options: str) -> str:
        """The code of the error that a command ends with."""
        done = self.run(*arguments, **options)
        assert isinstance(done.exception, BrokerError)
        return done.exception.code


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """With a log, and an index of it."""
    world = busy_world()
    log = GrowingLog(tmp_path / "logs")
    log.grow(audit_events(world))
    made = Desk(tmp_path, world, log)
    done = made.run("index")
    assert done.exit_code == 0, done.output
    assert f"{len(world.leaves())} decisions and 0 other leaves are new" in done.stderr
    assert "0 decisions and 0 other leaves are new" in made.run("index").stderr
    return made


def rows(done: Result) -> list[dict[str, Any]]:
    """The lines of JSON."""
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_decisions_are_found_in_every_format(desk: Desk) -> None:
    """As a table, CSV and JSON: the same rows, each proven."""
    found = rows(desk.run("find", "--json"))
    assert [row["event"] for row in found] == [x["event"] for x in desk.world.evidence()]
    assert {row["proof"] for row in found} == {f"proven at size {desk.log.builder.edge.size}"}
    as_csv = list(csv.DictReader(io.StringIO(desk.run("find", "--csv").stdout)))
    assert [{name: cell for name, cell in row.items() if cell} for row in as_csv] == [
        {name: str(cell) for name, cell in row.items()} for row in found
    ]
    lines = desk.run("find").stdout.splitlines()
    assert len(lines) == len(found) + 1
    assert lines[0].startswith("time\tschool\t")


def test_decisions_are_narrowed_down(desk: Desk) -> None:
    """By each option; and it says when there may be more."""
    everything = rows(desk.run("find", "--json"))
    for option, value in (
        ("school", "99PA"), ("party", "portaal-plein"), ("process", "Gebruik"), ("decision", "duplicate"),
        ("code", "school.not_yours"), ("event", everything[1]["event"]),
    ):  # fmt: skip
        expected = [
            r
            for r in everything
            if value in ([r["sender"], r.get("receiver")] if option == "party" else [r.get(option)])
        ]
        assert 0 < len(expected) < len(everything)
        assert rows(desk.run("find", "--json", f"--{option}", value)) == expected
    assert rows(desk.run("find", "--json", "--since", "2026-11-24T10:00:01+01:00")) == []
    assert rows(desk.run("find", "--json", "--since", "2026-11-24T09:00")) == everything
    assert rows(desk.run("find", "--json", "--since", "2026-11-24T10:00+01:00")) == everything
    assert rows(desk.run("find", "--json", "--until", "2026-11-24T09:00:00")) == []
    few = desk.run("find", "--json", "--most", "2")
    assert rows(few) == everything[-2:]
    assert "there may be older ones" in few.stderr


def test_parquet_is_written(desk: Desk) -> None:
    """To a file."""
    duckdb = pytest.importorskip("duckdb")
    file = desk.folder / "found.parquet"
    assert desk.run("find", "--parquet", str(file)).exit_code == 0
    with duckdb.connect() as connection:
        assert len(connection.read_parquet(str(file)).fetchall()) == len(desk.world.leaves())


def test_what_can_not_be_proven_ends_with_1(desk: Desk) -> None:
    """And is shown all the same."""
    (desk.log.folder / bundle_path(0, desk.log.builder.edge.size)).unlink()
    done = desk.run("find", "--json")
    assert done.exit_code == 1
    assert len(done.stdout.splitlines()) == len(desk.world.leaves())
    assert f"{len(desk.world.leaves())} of {len(desk.world.leaves())} could not be proven" in done.stderr


def test_an_event_is_explained(desk: Desk) -> None:
    """In sentences, without a value."""
    done = desk.run("explain", desk.world.evidence()[1]["event"])
    assert done.exit_code == 0
    assert "It was delivered to portaal-plein in the process Gebruik." in done.stdout
    assert EMMA not in done.stdout


def test_a_receipt_is_written_that_the_verifier_accepts(desk: Desk) -> None:
    """The salt as bytes or as text; only its owner may read the file."""
    record = desk.world.topic("out.portaal-plein.usage")[0]
    salt = dict(record.headers)[AUDIT_SALT]
    files = {name: desk.folder / name for name in ("raw", "text", "value", "bad", "out")}
    files["raw"].write_bytes(salt)
    files["text"].write_text(f"{b64url(salt)}\n")
    files["value"].write_bytes(record.value or b"")
    files["bad"].write_bytes(bytes(32))
    event = desk.world.evidence()[1]["event"]
    out = ("--out", str(files["out"]))
    value = ("--value-file", str(files["value"]))
    for name in ("raw", "text"):
        files["out"].unlink(missing_ok=True)
        done = desk.run("receipt", event, "portaal-plein", "--salt-file", str(files[name]), *out, *value)
        assert done.exit_code == 0, done.output
        assert files["out"].stat().st_mode & 0o077 == 0
        arguments = ["audit", "verify", "receipt", str(files["out"]), "--value", str(files["value"])]
        accepted = CliRunner().invoke(build("audit"), [*arguments, "--key", desk.log.signer.vkey])
        assert accepted.exit_code == 0, accepted.output
    files["out"].unlink()
    assert desk.fails("receipt", event, "portaal-plein", "--salt-file", str(files["bad"]), *out, *value) == "receipt"
    assert not files["out"].exists()


def test_the_receipt_of_an_erasure_is_written(desk: Desk) -> None:
    """Without a salt; the command says how to check it, and that holds."""
    before = len(audit_events(desk.world))
    erase = replace(enrolment(), kind="ERASE")
    desk.world.send(SIS, erase)
    desk.log.grow(audit_events(desk.world)[before:])
    assert "1 decisions and 1 other leaves are new" in desk.run("index").stderr
    out = desk.folder / "out"
    done = desk.run("erasure", erase.event_id, "--out", str(out))
    assert done.exit_code == 0, done.output
    assert f"broker audit verify receipt {out}" in done.stderr
    accepted = CliRunner().invoke(
        build("audit"), ["audit", "verify", "receipt", str(out), "--key", desk.log.signer.vkey]
    )
    assert accepted.exit_code == 0, accepted.output
    assert erase.event_id in accepted.output
    event = desk.world.evidence()[1]["event"]
    assert desk.fails("erasure", event, "--out", str(desk.folder / "absent")) == "audit.event"
    assert not (desk.folder / "absent").exists()


def test_keys_can_be_those_one_has_from_elsewhere(desk: Desk) -> None:
    """A log that is signed by another key is not read at all; one's own key is enough."""
    file = desk.folder / "keys"
    file.write_text(GrowingLog(desk.folder / "x", "broker.example/audit/p1/1").signer.vkey)
    assert desk.fails("index", "--key-file", str(file)) == "log.note"
    assert "its log is not here" in desk.run("find", "--key-file", str(file)).stdout
    file.write_text(desk.log.signer.vkey + "\n")
    assert desk.run("find", "--key-file", str(file)).exit_code == 0


def test_what_is_wrong_is_told(desk: Desk) -> None:
    """By a code, with nothing written."""
    assert desk.fails("find", store="absent") == "audit.store"
    assert not (desk.folder / "absent").exists()
    assert desk.fails("find", "--json", "--csv") == "audit.format"
    assert desk.fails("find", "--since", "yesterday") == "audit.moment"
    assert desk.fails("explain", "absent") == "audit.event"
    salt = ("--salt-file", str(desk.folder / "absent"), "--out", str(desk.folder / "out"))
    assert desk.fails("receipt", "absent", "nobody", *salt) == "audit.file"


def test_a_damaged_log_keeps_no_other_from_being_indexed(desk: Desk) -> None:
    """It ends with the error all the same."""
    other = GrowingLog(desk.log.root, "broker.example/audit/p1/1")
    other.grow(audit_events(desk.world))
    desk.log.grow(audit_events(desk.world))
    (desk.log.folder / bundle_path(0, desk.log.builder.edge.size)).unlink()
    done = desk.run("index")
    assert isinstance(done.exception, BrokerError)
    assert done.exception.code == "log.tile"
    assert f"{other.origin}: {len(desk.world.leaves())} decisions" in done.stderr


def test_persons_need_a_connection_and_a_key(desk: Desk) -> None:
    """Both or neither; what is missing is told before Kafka is asked for anything."""
    nowhere = str(desk.folder / "absent")
    assert desk.fails("index", "--connection", nowhere) == "audit.people"
    assert desk.fails("index", "--keys", nowhere) == "audit.people"
    assert desk.fails("index", "--connection", nowhere, "--keys", str(desk.folder)).startswith("keys.")
