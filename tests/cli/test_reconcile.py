"""`broker audit reconcile`: over folders, with a summary that can be quoted."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.audit.count import Count
from broker.cli.audit import app
from broker.errors import ConfigError
from tests.audit.histories import a_world, changed, history, leaves_of, minute, window_of
from tests.audit.test_count import KEYS, received, sent
from tests.audit.test_count import history as counted_history
from tests.audit.test_reconcile import IN, WINDOWS, drop, gap
from tests.audit.test_verify_window import write
from tests.auditlog.test_reconciling import Growing, count_leaf
from tests.exchange.world import DELTA, event

BASE = "broker.example/audit"


def run(*arguments: object) -> tuple[int, str]:
    """The command: its exit code, and all that it wrote."""
    done = CliRunner().invoke(app, ["reconcile", "--logs", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def counts(folder: Path, those: Iterable[Count]) -> Path:
    """A folder of signed counts with the keys of the parties."""
    folder.mkdir()
    (folder / "parties.vkey").write_text("# parties\n" + "".join(f"{key.vkey}\n" for key in KEYS.values()), "utf-8")
    for number, count in enumerate(those):
        signed = Count(BASE, count.party, count.flow, count.first, count.last, count.root).sign(KEYS[count.party])
        (folder / f"{number}.count").write_bytes(signed)
    return folder


def test_a_history_that_adds_up_says_so_in_one_line(tmp_path: Path) -> None:
    """How many leaves, windows, lanes and logs, until when."""
    code, out = run(write(tmp_path, history()))
    assert code == 0, out
    expected = (
        f"ADDS UP: 0 findings in {len(history())} leaves, {len(WINDOWS)} windows and 2 lanes of 1 logs, up to 2026-"
    )
    assert out.startswith(expected)
    assert out.rstrip().endswith("0 windows open; counts were not asked for.")


def test_a_leaf_that_was_left_out_is_told_by_rule_lane_and_window(tmp_path: Path) -> None:
    """Exit code 1; as JSON too."""
    at = WINDOWS[-1] - 1
    write(tmp_path, drop(history(), at))
    code, out = run(tmp_path)
    assert code == 1
    assert f"R6\t{IN}/1\t" in out
    assert "DOES NOT ADD UP: " in out
    code, out = run(tmp_path, "--json")
    assert code == 1
    found = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert {entry["is"] for entry in found} == {"finding"}
    assert {(entry["rule"], entry["lane"]) for entry in found} >= {("R6", f"{IN}/1")}


def test_counts_of_the_control_log_need_only_the_keys(tmp_path: Path) -> None:
    """What the parties signed is verified again; one that differs is a finding."""
    folder = counts(tmp_path / "counts", [])
    for name, those in (("good", [*received(), *sent()]), ("less", received(skip=2))):
        logs = tmp_path / name
        Growing(logs).add(*counted_history())
        signed = [replace(count, origin=BASE).sign(KEYS[count.party]) for count in those]
        Growing(logs, "control").add(*(count_leaf(note) for note in signed))
        code, out = run(logs, "--keys", folder / "parties.vkey")
        assert code == (name == "less"), out
        assert ("R4\t" in out) == (name == "less")
        assert run(logs)[1].rstrip().endswith("counts were not asked for.")
        if name == "good":
            assert out.rstrip().endswith("0 flows not counted to the end.")


def test_an_open_window_is_told_and_a_finding_once_it_is_late(tmp_path: Path) -> None:
    """As of the newest leaf in all logs."""
    write(tmp_path, history()[: WINDOWS[-1]])
    code, out = run(tmp_path)
    assert code == 0
    assert "Open windows" in out
    assert "; 1 windows open" in out
    last = changed(history()[WINDOWS[0]], "window", "to", to=(1 << 53) - 1)
    code, out = run(write(tmp_path / "late", [*history()[: WINDOWS[-1]], last]))
    assert code == 1
    assert "are in no window" in out


def test_what_parties_counted_is_held_against_the_leaves(tmp_path: Path) -> None:
    """All of it; a count by a wrong key is not used; what nobody counted is told."""
    logs = write(tmp_path / "logs", counted_history())
    code, out = run(logs, "--counts", counts(tmp_path / "good", [*received(), *sent()]))
    assert code == 0, out
    assert "; 0 flows not counted to the end." in out
    code, out = run(logs, "--counts", counts(tmp_path / "some", sent()))
    assert code == 0, out
    assert "Not counted by its party" in out
    code, out = run(logs, "--counts", counts(tmp_path / "less", received(skip=2)))
    assert code == 1
    assert "R4\t" in out
    assert window_of(counted_history()[-1])


def test_the_control_log_is_read_for_lost_input(tmp_path: Path) -> None:
    """Whatever its folder sorts behind."""
    world = a_world()
    position = world.state(DELTA).next_offset
    world.state(DELTA).next_offset = 0
    world.send(DELTA, event(), event())
    minute(world, DELTA)
    write(tmp_path, leaves_of(world))
    assert run(tmp_path)[0] == 1
    write(tmp_path, [b"nonsense", gap("input-reset", 0, 1, position, 0)], "control")
    code, out = run(tmp_path)
    assert code == 1
    assert [line.partition("\t")[0] for line in out.splitlines() if line.startswith("R")] == ["R0"]
    write(tmp_path / "good", leaves_of(world))
    write(tmp_path / "good", [gap("input-reset", 0, 1, position, 0)], "control")
    assert run(tmp_path / "good")[0] == 0


def test_a_folder_without_logs_or_keys_is_an_error_that_says_so(tmp_path: Path) -> None:
    """Nothing was reconciled, so nothing adds up."""
    with pytest.raises(ConfigError) as error:
        run(tmp_path)
    assert error.value.code == "auditlog.none"
    write(tmp_path, history())
    with pytest.raises(ConfigError) as error:
        run(tmp_path, "--counts", tmp_path)
    assert error.value.code == "auditlog.keys"
