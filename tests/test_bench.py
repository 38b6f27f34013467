"""The benches run; what they measure is nobody's to assert."""

from __future__ import annotations

from typing import Any

import pytest

from bench import connections, exchange, families, fanout, parked
from bench.__main__ import BENCHES
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
