"""From a leaf's `x.registry` to the entries that held then, by the control log alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from broker.audit.ldv import ACTIVITY
from broker.cli import audit as command
from broker.cli.audit import app
from broker.errors import ConfigError
from broker.exchange.switch import change_leaf
from broker.policy.document import canonical
from broker.registry.connections import ConnectionSide
from broker.registry.diff import diff
from broker.registry.history import entry_at
from broker.registry.registry import parse_record
from broker.registry.store import control_leaf
from broker.registry.version import VersionTree
from tests.exchange.world import DELTA, SIS, World, enrolment, event, make_world

BOARD, LINK = "board/bestuur-horizon", "connection/po-usage-delta-portaal/receiver"
NEW = "https://nieuw.horizon.example/register"


def told(before: dict[str, bytes], after: dict[str, bytes], at: int) -> list[dict[str, Any]]:
    """The control leaves of one change by an operator, as `broker.registry.store` writes them."""
    return [
        json.loads(control_leaf(one, before.get(one.key), after.get(one.key), "annelies", "test", at))
        for one in diff(before, after)
    ]


def moved_register() -> tuple[World, list[dict[str, Any]]]:
    """A board's register changes its address between two events; later the board goes."""
    world = make_world()
    first = dict(world.records)
    leaves = [{"control": {"kind": "incident", "at": 0}}, *told({}, first, 1)]
    world.send(SIS, enrolment())
    world.send(DELTA, event())
    second = first | {BOARD: canonical(json.loads(first[BOARD]) | {"processing_register": NEW})}
    leaves += told(first, second, 2)
    world.edit(BOARD, processing_register=NEW)
    world.send(DELTA, event())
    third = {key: value for key, value in second.items() if key != BOARD}
    return world, leaves + told(second, third, 3)


def test_a_leaf_leads_to_the_register_that_held_when_it_was_written() -> None:
    """By its version of the registry to the entry of the board, and that has the address which the line names."""
    world, leaves = moved_register()
    registers = set()
    for written in world.leaves():
        leaf = json.loads(written)
        found = entry_at(leaves, leaf["x"]["registry"], BOARD)
        register = found["after"]["processing_register"]
        assert leaf["ldv"]["attributes"][ACTIVITY] == f"{register}/{leaf['x']['process']}"
        assert (found["action"], found["at"]) == (("add", 1) if register != NEW else ("change", 2))
        assert found["operator"] == "annelies"
        registers.add(register)
    assert len(registers) == 2


def test_a_change_by_an_event_counts_as_well() -> None:
    """A side of a connection that a school's own system switched: the leaf of the lane has the whole change."""
    world = make_world()
    before = parse_record(LINK, world.records[LINK])
    assert isinstance(before, ConnectionSide)
    after = before.model_copy(update={"state": "revoked"})
    leaves = [*told({}, dict(world.records), 1), json.loads(change_leaf(LINK, before, after, "e", SIS, 2))]
    world.edit(LINK, **json.loads(change_leaf(LINK, before, after, "e", SIS, 2))["control"]["after"])
    assert entry_at(leaves, world.registry.version, LINK)["operator"] == SIS
    assert entry_at(leaves, world.registry.version, BOARD)["at"] == 1


def test_what_is_not_there_is_told() -> None:
    """A version that the leaves do not lead to, an entry that was not there yet, or not any more."""
    world, leaves = moved_register()
    gone = {key: value for key, value in world.records.items() if key != BOARD}
    last = VersionTree().with_changes(gone).version
    for missing, key, code in (
        ("sha256:00", BOARD, "registry.version"), (world.registry.version, "board/none", "registry.entry"),
        (last, BOARD, "registry.entry"),
    ):  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            entry_at(leaves, missing, key)
        assert caught.value.code == code
    with pytest.raises(ConfigError) as caught:
        entry_at(leaves[5:], world.registry.version, BOARD)
    assert caught.value.code == "registry.version"


def test_the_command_shows_the_change(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As JSON, read from the control log."""
    world, leaves = moved_register()

    async def read(connection: Path, topic: str, idle: float) -> list[dict[str, Any]]:
        assert (connection, topic, idle) == (tmp_path, "audit.control", 2.0)
        return leaves

    monkeypatch.setattr(command, "read_topic", read)
    done = CliRunner().invoke(app, ["entry", world.registry.version, BOARD, "--connection", str(tmp_path)])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["after"]["processing_register"] == NEW
