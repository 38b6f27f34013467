"""The benches run; what they measure is nobody's to assert."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import auditlog, connections, exchange, families, fanout, leaf, leaves, parked, tiles
from bench.__main__ import BENCHES
from broker.audit.coordinates import coordinates
from broker.audit.leaf import canonical
from broker.registry import Registry
from broker.schemas import catalogue


def test_the_exchange_is_measured_beside_the_bare_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both run over the same events, every one of which is delivered, and every figure of the table is there."""
    monkeypatch.setattr(exchange, "BATCH", 8)
    monkeypatch.setattr(exchange, "BATCHES", 1 + exchange.WINDOW // 8)
    result = exchange.run(seconds=0)
    assert result["rounds"] == 1
    assert result["ratio"] > 0
    assert {300 <= size < 310 for size in result["input_bytes"]} == {True}
    _, rows, _ = BENCHES["exchange"]
    assert all(figure for _, figure in rows(result))


def table(name: str, result: dict[str, Any]) -> list[tuple[str, str]]:
    """The rows of a bench, each of which has its figure."""
    _, rows, _ = BENCHES[name]
    found = rows(result)
    assert found
    assert all(what and figure for what, figure in found)
    return found


def test_every_family_is_measured_beside_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    """One typical event of each, all of them delivered; a new family needs one too."""
    monkeypatch.setattr(families, "BATCH", 3)
    result = families.run(seconds=0)
    assert result["families"].keys() == {name for name, _ in catalogue().families}
    assert result["families"]["usage"]["ratio"] == 1
    assert result["families"]["connection"]["decisions_per_event"] > 1
    assert len(table("families", result)) == len(families.TYPICAL)


def test_fan_out_is_measured_with_exactly_so_many_receivers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every decision is a delivery, so that a ratio is that of receivers."""
    monkeypatch.setattr(fanout, "BATCH", 3)
    result = fanout.run(seconds=0)
    assert list(result["receivers"]) == ["1", "3", "10"]
    written = [figures["written_bytes_per_event"] for figures in result["receivers"].values()]
    assert written == sorted(written)
    table("fanout", result)


def test_parked_events_are_all_released_in_order_both_ways() -> None:
    """The bench itself checks each pupil's order."""
    result = parked.run(count=40)
    assert (result["at_once"]["calls"], result["at_once"]["pupils"]) == (1, 10)
    assert (result["one_by_one"]["calls"], result["one_by_one"]["pupils"]) == (40, 40)
    table("parked", result)


def test_the_order_check_of_the_parked_bench_sees_what_is_swapped() -> None:
    """Two events of one pupil, delivered the other way round."""
    world, sent = parked.make_world(), parked._events(2, 1)
    world.send(parked.SIS, parked.enrolment(parked._eck_id(0), "L00000"))
    world.send(parked.DELTA, *reversed(sent))
    delivered = world.topic(f"out.{parked.PORTAL}.usage")
    with pytest.raises(AssertionError):
        parked._check_order(sent, delivered)


def test_the_country_of_the_connections_bench_is_switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its records are those of a registry in which every link is on; the bench itself checks its answers."""
    monkeypatch.setattr(connections, "LOOKUPS", 200)
    monkeypatch.setattr(connections, "CHANGES", 2)
    count = 2 * connections.OF_A_SCHOOL
    records = connections.Records(count)
    assert len(records) == len(dict(records.items())) == len(list(records))
    assert all(records[key] == value for key, value in records.items())
    registry = Registry.from_records(records)
    links = {name for party in registry.parties for name in registry.links_from(party)}
    assert len(links) == count
    table("connections", connections.run(count=count))


def test_a_leaf_is_measured_beside_a_bare_record_and_within_a_decision() -> None:
    """Every figure of the table is there; the patched exchange decides as the whole one, and writes no audit."""
    result = leaf.run(seconds=0, batch=3)
    assert result["rounds"] == 1
    assert result["leaf_bytes"] > 1_000
    table("leaf", result)


def test_the_exchange_without_audit_delivers_all_the_same() -> None:
    """What is compared differs in the audit alone; afterwards the audit is back."""
    world = exchange.make_world()
    world.send(exchange.SIS, exchange.enrolment(exchange._eck_id(0), "L0000"))
    inputs = exchange._inputs(world, [exchange._event(0)])
    whole = world.step(exchange.DELTA, inputs)
    with leaf.without_audit():
        without = world.step(exchange.DELTA, inputs)
    assert without.decisions == whole.decisions == world.step(exchange.DELTA, inputs).decisions
    topics = [[out.topic for out in step.outgoing] for step in (whole, without)]
    assert [topic for topic in topics[0] if not topic.startswith("audit.")] == topics[1]
    assert len(topics[0]) == len(topics[1]) + 2


def test_the_leaves_of_the_benches_are_those_of_the_exchange() -> None:
    """Canonical, all different, about as many subjects as there should be; the n-th is the same wherever one begins."""
    made = leaves.Leaves(200)
    entries = list(made.entries(0, 200))
    assert len(set(entries)) == 200
    assert all(canonical(json.loads(entry)) == entry for entry in entries)
    assert [(n, coordinates(entry)) for n, entry in enumerate(entries)] == list(made.coordinates(0, 200))
    assert list(made.entries(70, 90)) == entries[70:90]
    assert sorted(n for subject in range(made.subjects) for n in made.of_subject(subject)) == list(range(200))


def test_tiles_are_measured_at_both_distances_of_checkpoints(tmp_path: Path) -> None:
    """The log is written to the named disk, and removed."""
    result = tiles.run(count=300, folder=tmp_path)
    assert list(result["steps"]) == ["1000", "10000"]
    assert list(tmp_path.iterdir()) == []
    table("tiles", result)


def test_a_log_is_verified_indexed_and_asked(tmp_path: Path) -> None:
    """The bench itself checks that the verifier accepts both logs, and that every row that was found is proven."""
    result = auditlog.run(count=3_000, folder=tmp_path)
    assert (result["subject"]["rows"], result["index"]["leaves"]) == (10, 30)
    assert result["supplier"]["largest"]["rows"] == result["supplier"]["largest_rows_only"]["rows"] > 0
    assert list(tmp_path.iterdir()) == []
    table("auditlog", result)


def test_the_log_of_the_bench_needs_room(tmp_path: Path) -> None:
    """It says what it needs before it begins."""
    with pytest.raises(SystemExit, match="--folder"):
        auditlog.require_room(tmp_path, 10**15)
