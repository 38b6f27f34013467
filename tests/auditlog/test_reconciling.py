"""The reconciler as a process: logs that grow, restarts anywhere, findings that are said once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.count import Count
from broker.audit.leaf import canonical
from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.directory import LogDirectory
from broker.audit.log.note import Signer, render
from broker.audit.log.tiles import TileBuilder
from broker.auditlog.reconciling import ReconcileService, Reconciling
from broker.errors import ConfigError
from tests.audit.histories import a_world, history, leaves_of, minute, window_of
from tests.audit.test_count import KEYS, received, sent
from tests.audit.test_count import history as counted_history
from tests.audit.test_reconcile import WINDOWS, drop, gap
from tests.exchange.world import DELTA, PORTAL, event

BASE = "broker.example/audit"
LATER = 1 << 50


class Growing:
    """A log that is signed again and again."""

    def __init__(self, root: Path, name: str = "p0") -> None:
        self._signer = Signer(f"{BASE}/{name}/1", Ed25519PrivateKey.from_private_bytes(b"k" * 32))
        self._directory, self._builder = LogDirectory(root / f"{name}-1"), TileBuilder()

    def add(self, *leaves: bytes) -> None:
        """More leaves, signed and shown."""
        growth = self._builder.append(leaves)
        self._directory.write_immutable(growth.files)
        text = Checkpoint(self._signer.name, growth.size, growth.root).text()
        self._directory.publish(render(text, [self._signer.sign(text)]))


def count_leaf(note: bytes) -> bytes:
    """As the control log has it."""
    return canonical({"count": {"note": note.decode()}, "v": 1})


def value(its: Reconciling, name: str, **labels: str) -> float | None:
    """Of a metric."""
    return its.metrics.registry.get_sample_value(name, labels)


@pytest.mark.parametrize("at", [1, WINDOWS[0], len(history()) - 1])
def test_a_fault_is_found_once_however_often_the_process_begins_again(tmp_path: Path, at: int) -> None:
    """The log grows by a few leaves each time, and each look is by a new process."""
    log, found = Growing(tmp_path / "logs"), []
    leaves = drop(history(), at)
    for start in range(0, len(leaves), 4):
        log.add(*leaves[start : start + 4])
        found += Reconciling(tmp_path / "logs", tmp_path / "state").look(0)
    for now_ms in (0, LATER, LATER):
        found += Reconciling(tmp_path / "logs", tmp_path / "state").look(now_ms)
    assert any(finding.rule == "R6" for finding in found)
    assert len(found) == len(set(found))
    assert Reconciling(tmp_path / "logs", tmp_path / "state").look(LATER) == []


def test_a_history_that_adds_up_gives_no_finding_while_it_grows(tmp_path: Path) -> None:
    """Leaf by leaf; the metrics say how far it is, and how old the oldest open window."""
    log, its = Growing(tmp_path), Reconciling(tmp_path, tmp_path / "state")
    for leaf in history():
        log.add(leaf)
        assert its.look(0) == []
    assert value(its, "broker_reconcile_leaves", log="p0-1") == len(history()) - 1
    assert its.look(0) == []  # what was seen at one look is read at the next
    assert value(its, "broker_reconcile_leaves", log="p0-1") == len(history())


def test_findings_open_windows_and_unconfirmed_flows_are_metrics(tmp_path: Path) -> None:
    """By rule; the age of an open window in seconds."""
    log = Growing(tmp_path)
    log.add(*history()[: WINDOWS[-1]])
    its = Reconciling(tmp_path, tmp_path / "state")
    its.look(0)
    assert its.look(0) == []
    assert value(its, "broker_reconcile_findings_total", rule="R6") is None
    (finding,) = its.look(LATER)
    assert finding.rule == "R6"
    assert value(its, "broker_reconcile_findings_total", rule="R6") == 1
    assert (value(its, "broker_reconcile_oldest_open_window_seconds") or 0) > 1e9
    assert its.look(LATER + 1) == []


def test_what_the_control_log_tells_is_read_before_the_leaves_that_need_it(tmp_path: Path) -> None:
    """Though it is sealed a moment later."""
    world = a_world()
    position = world.state(DELTA).next_offset
    world.state(DELTA).next_offset = 0
    world.send(DELTA, event(), event())
    minute(world, DELTA)
    its = Reconciling(tmp_path, tmp_path / "state")
    Growing(tmp_path).add(*leaves_of(world))
    assert its.look(0) == []
    Growing(tmp_path, "control").add(gap("input-reset", 0, 1, position, 0))
    assert its.look(0) == []
    assert its.look(0) == []
    assert value(its, "broker_reconcile_leaves", log="p0-1") == len(leaves_of(world))


def test_counts_come_later_than_leaves(tmp_path: Path) -> None:
    """They are compared with what is remembered, over restarts; one of what no leaf has is a finding after a while."""
    logs, counts, state = tmp_path / "logs", tmp_path / "counts", tmp_path / "state"
    counts.mkdir()
    keys = tmp_path / "keys"
    keys.write_text("".join(f"{key.vkey}\n" for key in KEYS.values()), "utf-8")
    Growing(logs).add(*counted_history())

    def look(now_ms: int = 0) -> list[str]:
        its = Reconciling(logs, state, keys, counts)
        found = [finding.rule for finding in its.look(now_ms)]
        unconfirmed.append(value(its, "broker_reconcile_unconfirmed_flows") or 0)
        return found

    unconfirmed: list[float] = []
    assert look() == []
    assert look() == []
    mine = [replace(count, origin=BASE) for count in received()]
    for number, count in enumerate(mine):
        (counts / f"{number}.count").write_bytes(count.sign(KEYS[count.party]))
    assert look() == []
    assert unconfirmed[-1] < unconfirmed[-2]
    more: Count = replace(mine[-1], first=mine[-1].last + 1, last=mine[-1].last + 1)
    (counts / "more.count").write_bytes(more.sign(KEYS[more.party]))
    assert look() == []
    assert look(LATER).count("R4") == 1
    assert look(LATER) == []


def test_one_log_that_can_not_be_read_does_not_keep_others_from_being_read(tmp_path: Path) -> None:
    """It is told as a failure; what was found in the others is told all the same, once."""
    Growing(tmp_path, "p1").add(*drop(history(), 1))
    broken = Growing(tmp_path, "p0")
    broken.add(*history())
    its = Reconciling(tmp_path, tmp_path / "state")
    its.look(0)
    for bundle in (tmp_path / "p0-1" / "tile" / "entries").rglob("*"):
        if bundle.is_file():
            bundle.unlink()
    with pytest.raises(Exception, match="is missing"):
        its.look(0)
    assert value(its, "broker_reconcile_findings_total", rule="R6")
    assert value(its, "broker_reconcile_leaves", log="p1-1") == len(history()) - 1


def test_a_log_that_got_shorter_and_a_state_that_is_none_are_errors(tmp_path: Path) -> None:
    """Neither is gone over in silence."""
    Growing(tmp_path / "long").add(*history())
    its = Reconciling(tmp_path / "long", tmp_path / "state")
    its.look(0)
    its.look(0)
    Growing(tmp_path / "short").add(*history()[:5])
    with pytest.raises(ConfigError) as error:
        Reconciling(tmp_path / "short", tmp_path / "state").look(0)
    assert error.value.code == "auditlog.shorter"
    for nonsense in (b"", b"{}", b'{"v":2}', b"[1]", (tmp_path / "state").read_bytes()[:-9]):
        (tmp_path / "state").write_bytes(nonsense)
        with pytest.raises(ConfigError) as error:
            Reconciling(tmp_path / "long", tmp_path / "state")
        assert error.value.code == "auditlog.reconciling"


async def test_the_service_looks_again_after_a_failure(tmp_path: Path) -> None:
    """No log is there at first; it is not ready until one was read."""
    its = Reconciling(tmp_path / "logs", tmp_path / "state")
    service = ReconcileService(its, look_s=0.01, clock=lambda: 0)
    task = asyncio.ensure_future(service.run())

    async def until(name: str, **labels: str) -> None:
        async with asyncio.timeout(20):
            while not value(its, name, **labels):  # noqa: ASYNC110 - metrics tell nobody that they changed
                await asyncio.sleep(0.01)

    try:
        await until("broker_reconcile_failures_total", kind="ConfigError")
        Growing(tmp_path / "logs").add(*history())
        await until("broker_reconcile_leaves", log="p0-1")
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert window_of(history()[-1])


def test_counts_stand_in_the_control_log_too(tmp_path: Path) -> None:
    """They are verified again; one that comes a second time, in the folder or as a leaf, says nothing new."""
    logs, counts, state, keys = (tmp_path / name for name in ("logs", "counts", "state", "keys"))
    counts.mkdir()
    keys.write_text("".join(f"{key.vkey}\n" for key in KEYS.values()), "utf-8")
    log, control = Growing(logs), Growing(logs, "control")
    log.add(*counted_history())
    mine = [replace(count, origin=BASE) for count in (*received(), *sent())]

    def look(*those: Path) -> tuple[list[str], float]:
        its = Reconciling(logs, state, *those)
        found = [finding.sentence for finding in its.look(0)]
        return found, value(its, "broker_reconcile_unconfirmed_flows") or 0

    control.add(*(count_leaf(count.sign(KEYS[count.party])) for count in mine[:2]))
    look(keys, counts)
    (counts / "a.count").write_bytes(mine[0].sign(KEYS[mine[0].party]))
    assert look(keys, counts)[0] == []
    control.add(*(count_leaf(count.sign(KEYS[count.party])) for count in mine[1:]))
    assert look(keys, counts) == ([], 0)
    forged = Signer(DELTA, Ed25519PrivateKey.from_private_bytes(b"x" * 32))
    control.add(count_leaf(mine[-1].sign(forged)), b'{"count":{},"v":1}')
    found, _ = look(keys, counts)
    assert [sentence.partition(" is not used")[0] for sentence in found[1:]] == [
        f"the count in leaf {len(mine) + 1} of the control log"
    ]
    assert found[0].startswith(f"leaf {len(mine) + 2} of the control log can not be read")


def test_without_keys_no_count_in_the_control_log_is_looked_at(tmp_path: Path) -> None:
    """It proves nothing then; nor does that of a party whose key is not among those that are trusted."""
    Growing(tmp_path / "logs").add(*counted_history())
    forged = Signer(PORTAL, Ed25519PrivateKey.from_private_bytes(b"x" * 32))
    Growing(tmp_path / "logs", "control").add(count_leaf(replace(received()[0], origin=BASE).sign(forged)))
    keys = tmp_path / "keys"
    keys.write_text(f"{KEYS[DELTA].vkey}\n", "utf-8")
    for known in (None, keys):
        assert Reconciling(tmp_path / "logs", tmp_path / f"state-{known is None}", known).look(0) == []
