"""`verify.py window`: the auditor's own check that nothing was left out, over logs that our own log writer made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.audit import verify
from broker.audit.leaf import canonical
from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.directory import LogDirectory
from broker.audit.log.note import Signer, render
from broker.audit.log.tiles import TileBuilder
from tests.audit import histories
from tests.audit import naive_log as naive
from tests.audit.histories import changed, history, leaves_of, window_of
from tests.audit.test_reconcile import (
    DECISIONS,
    IN,
    NUMBERED,
    WINDOWS,
    double,
    drop,
    early_erasure_of_an_epoch,
    erasures_gone_wrong,
    gap,
    long_history,
    places,
    renumbered,
    without,
)
from tests.exchange.world import DELTA, event

AFTER_ALL = 1 << 52
Run = Callable[..., tuple[int, str]]


def write(folder: Path, leaves: Iterable[bytes], name: str = "p0") -> Path:
    """A log as ours are written: tiles first, then a signed checkpoint."""
    signer = Signer(f"broker.example/audit/{name}/1", Ed25519PrivateKey.from_private_bytes(b"k" * 32))
    directory, growth = LogDirectory(folder / f"{name}-1"), TileBuilder().append(list(leaves))
    directory.write_immutable(growth.files)
    text = Checkpoint(signer.name, growth.size, growth.root).text()
    directory.publish(render(text, [signer.sign(text)]))
    directory.show_key(signer.vkey)
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """The command: exit code and what it printed."""

    def command(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        code = verify.main(["window", *map(str, arguments)])
        return code, capsys.readouterr().out

    return command


@pytest.fixture
def judged(tmp_path: Path, run: Run) -> Callable[[Iterable[bytes]], set[str]]:
    """The rules that a history breaks, if it is signed as it is; its tree is always whole."""
    number = 0

    def judge(leaves: Iterable[bytes]) -> set[str]:
        nonlocal number
        number += 1
        naive.write(tmp_path / f"{number}", list(leaves))
        code, out = run(tmp_path / f"{number}", "--key", naive.LOG.vkey, "--now", AFTER_ALL)
        found = [line.removeprefix("FINDING: ") for line in out.splitlines() if line.startswith("FINDING: ")]
        assert (code == 1) == bool(found)
        assert all(line[0] == "R" for line in found), found
        return {line[:2] for line in found}

    return judge


Judged = Callable[[Iterable[bytes]], set[str]]


@pytest.mark.parametrize("world", [histories.a_world, histories.waiting, histories.duties, histories.erasures])
def test_what_the_exchange_wrote_is_verified(world: Callable[[], histories.World], tmp_path: Path, run: Run) -> None:
    """Tree, signature and windows; the summary says how many."""
    leaves = leaves_of(world())
    code, out = run(write(tmp_path, leaves), "--now", AFTER_ALL)
    assert code == 0, out
    windows = sum(window_of(leaf) is not None for leaf in leaves)
    assert out.splitlines()[-1].startswith(f"VERIFIED: size {len(leaves)}, ")
    assert out.splitlines()[-1].endswith(f"; {windows} windows were judged.")


def test_no_leaf_can_be_left_out_or_stand_there_twice(judged: Judged) -> None:
    """At any place."""
    for at in range(len(history())):
        assert "R6" in judged(drop(history(), at)), at
        assert "R6" in judged(double(history(), at)), at


def test_an_erasure_has_its_leaf_and_a_leaf_its_erasure(judged: Judged) -> None:
    """As the reconciler finds it: left out, twice, of another id, before its ERASE; and what it can not know."""
    for case, (leaves, rules) in erasures_gone_wrong().items():
        assert judged(leaves) == rules, case
    assert judged(early_erasure_of_an_epoch()) == set()


def test_leaves_can_not_change_places(judged: Judged) -> None:
    """At any place where a rule says in which order they stand."""
    for one, other in histories.swaps(history()):
        leaves = list(history())
        leaves[one], leaves[other] = leaves[other], leaves[one]
        assert judged(leaves) & {"R1", "R3", "R6"}, (one, other)


@pytest.mark.parametrize(
    ("path", "to", "rule"),
    [
        (("x", "receiver"), "somebody-else", "R2"),
        (("x", "in", "offset"), 4_000, "R2"),
        (("x", "decision"), "expired", "R6"),
        (("ldv", "span_id"), "00f067aa0ba902b7", "R2"),
        (("x", "seq"), 4_000, "R3"),
        (("x", "flow"), "out.somebody.usage/0", "R3"),
        (("ldv", "trace_id"), "4bf92f3577b34da6a3ce929d0e0e4736", "R3"),
    ],
)
def test_what_a_decision_says_can_not_be_changed(judged: Judged, path: tuple[str, ...], to: object, rule: str) -> None:
    """Each time by the rule that is for it."""
    for at in NUMBERED if rule == "R3" else DECISIONS:
        assert rule in judged([*history()[:at], changed(history()[at], *path, to=to), *history()[at + 1 :]]), at


def test_no_number_of_a_window_can_be_changed(judged: Judged) -> None:
    """But for its times, and where the last one of a lane ends on its input."""
    for at in WINDOWS:
        for path in places(window_of(history()[at]), "window"):
            if path[-1] in ("from", "to", "partition") or path[-2:] == ("input", "next"):
                continue
            said = histories.content(history()[at])
            for name in path:
                said = said[name]
            to = "A" * 42 + "I" if path[-1] == "root" else said + 1  # type: ignore[operator]
            assert judged([*history()[:at], changed(history()[at], *path, to=to), *history()[at + 1 :]]), path


def test_who_leaves_a_delivery_out_and_corrects_the_counts_is_found(judged: Judged) -> None:
    """By the numbers; and if they are corrected too, by the running hash."""
    for at in NUMBERED[:: max(1, len(NUMBERED) // 8)]:
        x, left = histories.content(history()[at])["x"], without(history(), at)
        assert "R3" in judged(left)
        assert "R3" in judged(renumbered(left, x["flow"], histories.lane_of(history()[at]), x["seq"])), at


def test_who_leaves_a_refusal_out_and_corrects_the_counts_is_found_by_the_input(judged: Judged) -> None:
    """There is an input record that nobody decided over (R1)."""
    refused = [at for at in DECISIONS if histories.content(history()[at])["x"]["decision"] == "refused"]
    alone = [
        at
        for at in refused
        if sum(
            histories.lane_of(history()[n]) == histories.lane_of(history()[at])
            and histories.content(history()[n])["x"]["in"]["offset"]
            == histories.content(history()[at])["x"]["in"]["offset"]
            for n in DECISIONS
        )
        == 1
    ]
    assert alone
    for at in alone:
        assert judged(without(history(), at)) == {"R1"}


def test_no_part_of_a_window_can_be_left_out(tmp_path: Path, run: Run) -> None:
    """Nor come twice, nor say something else than the others."""
    parts = tuple(long_history())
    _, whole = run(write(tmp_path / "whole", parts), "--now", AFTER_ALL)
    assert "does not follow the parts" not in whole
    for at in range(len(parts)):
        for n, leaves in enumerate(
            (
                drop(parts, at),
                double(parts, at),
                [*parts[:at], changed(parts[at], "window", "leaves", to=1), *parts[at + 1 :]],
            )
        ):
            code, out = run(write(tmp_path / f"{at}-{n}", leaves), "--now", AFTER_ALL)
            assert code == 1
            assert "does not follow the parts" in out or "are in no window" in out or n == 1


def test_the_control_log_beside_it_tells_of_input_that_was_read_again(tmp_path: Path, run: Run) -> None:
    """Without that it is a finding."""
    world = histories.a_world()
    position = world.state(DELTA).next_offset
    world.state(DELTA).next_offset = 0
    world.send(DELTA, event(), event())
    histories.minute(world, DELTA)
    write(tmp_path, leaves_of(world))
    code, out = run(tmp_path)
    assert code == 1
    assert "FINDING: R1, " in out
    write(tmp_path, [gap("input-reset", 0, 1, position, 0)], "control")
    code, out = run(tmp_path)
    assert code == 0, out


def test_behind_the_start_of_an_epoch_what_was_before_is_not_asked_for(judged: Judged) -> None:
    """From its first window on a lane is held to all rules."""
    start = WINDOWS[1] - 3
    epoch = canonical({"epoch": {"reason": "lost"}, "v": 1})
    assert judged([epoch, *history()[start:]]) == set()
    assert judged(history()[start:])
    for at in range(WINDOWS[3] + 1, len(history())):
        assert judged([epoch, *drop(history()[start:], at - start)])


def test_a_window_that_is_still_open_is_told_and_is_late_only_after_three_minutes(tmp_path: Path, run: Run) -> None:
    """As of the newest moment in the logs, unless another one is given."""
    write(tmp_path, history()[: WINDOWS[-1]])
    code, out = run(tmp_path)
    assert code == 0, out
    assert f"OPEN, not checked: {tmp_path}/p0-1, lane '{IN}/1'" in out
    code, out = run(tmp_path, "--now", AFTER_ALL)
    assert code == 1
    assert "are in no window" in out


def test_a_log_whose_tree_is_false_is_not_verified_by_good_windows(tmp_path: Path, run: Run) -> None:
    """The leaves that are judged are those that were signed."""
    other = naive.write(tmp_path / "other", list(history())[:-1])
    log = naive.write(tmp_path / "log", list(history()))
    (log / "checkpoint").write_bytes((other / "checkpoint").read_bytes())
    (log / f"tile/0/000.p/{len(history())}").rename(log / f"tile/0/000.p/{len(history()) - 1}")
    code, out = run(log, "--key", naive.LOG.vkey)
    assert code != 0
    assert "NOT VERIFIED" in out


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_anything_may_stand_in_a_leaf(data: st.DataObject) -> None:
    """It is a finding, or nothing; never a crash, and what is behind it is read."""
    find = verify.Findings()
    windows = verify.Windows(Path("log"), [], find)
    leaf = histories.content(data.draw(st.sampled_from(history())))
    at: object = leaf
    anything = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers()) | st.just({})
    while isinstance(at, dict | list) and at:
        name = data.draw(st.sampled_from(sorted(at)) if isinstance(at, dict) else st.integers(0, len(at) - 1))
        if not isinstance(at[name], dict | list) or data.draw(st.booleans()):
            at[name] = data.draw(anything)
            break
        at = at[name]
    for entry in (canonical(leaf), data.draw(st.binary()), *history()):
        windows(entry)
    windows.end(AFTER_ALL)
    assert windows.index == len(history()) + 1
    assert find.count
