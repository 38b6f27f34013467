"""How long nothing is delivered: what counts as a delivery, and which silence is told. Without a Kafka."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chaos import outages
from chaos.history import Place, Seen
from chaos.outages import FAULTS, Figures, Measure, _Measuring

DELTA, WEST, SIS = "in.uitgeverij-delta", "in.uitgeverij-west", "in.sis-noord"


@pytest.fixture
def measuring(tmp_path: Path) -> _Measuring:
    """On a setting whose ledger the test fills."""
    ledger = SimpleNamespace(acknowledged=[])
    beside = SimpleNamespace(workload=SimpleNamespace(ledger=ledger), receivers=[])
    crew = SimpleNamespace(supervise=lambda: None, workers=[])
    here: Any = SimpleNamespace(kafka=SimpleNamespace(layout=SimpleNamespace(nodes=(1,))), beside=beside, crew=crew)
    return _Measuring(Measure(1, tmp_path, tmp_path), here, lambda _: None)


def acknowledge(measuring: _Measuring, topic: str, partition: int, *events: str) -> None:
    """Kafka took them."""
    ledger = measuring._here.beside.workload.ledger
    ledger.acknowledged += [Seen(Place(topic, partition, n), event) for n, event in enumerate(events)]


def test_the_longest_silence_of_each_partition_that_ends_after_the_fault_counts(measuring: _Measuring) -> None:
    """One that began before it is a part of it; one that was over before is not; nor are those of the school's system."""
    acknowledge(measuring, DELTA, 0, "a", "b", "c", "d")
    acknowledge(measuring, WEST, 1, "e", "f")
    acknowledge(measuring, SIS, 0, "g")
    measuring._pulse.heard = [(1.0, "a"), (9.0, "b"), (9.5, "e"), (13.0, "c"), (13.5, "d"), (14.0, "f"), (14.0, "g")]
    measuring._by_lane()
    assert measuring._silences(10.0, 20.0) == {f"{DELTA}/0": 4.0, f"{WEST}/1": 4.5}


def test_it_flows_again_when_every_partition_delivered_what_was_sent_after_the_fault(
    measuring: _Measuring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event from before that is sent again under its id was delivered before the fault: it shows nothing."""
    acknowledge(measuring, DELTA, 0, "a")
    acknowledge(measuring, WEST, 1, "b")
    measuring._pulse.heard = [(1.0, "a"), (1.0, "b")]
    measuring._by_lane()
    steps = iter([("a", DELTA, 0), ("c", WEST, 1), ("d", DELTA, 0)])
    told: list[str] = []

    def step(*_: object) -> None:
        event, topic, partition = next(steps)
        acknowledge(measuring, topic, partition, event)
        if event != "a":
            measuring._pulse.hear(event)
        told.append(event)

    monkeypatch.setattr(measuring, "_step", step)
    assert measuring._flows_again() <= time.monotonic()
    assert told == ["a", "c", "d"]


def test_a_system_that_does_not_come_back_is_an_error(measuring: _Measuring, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a figure."""
    monkeypatch.setattr(outages, "WAIT_S", 0.2)
    acknowledge(measuring, DELTA, 0, "a")
    measuring._by_lane()
    with pytest.raises(TimeoutError, match="nothing is delivered any more"):
        measuring._flows_again()


def test_the_table_has_a_row_for_each_fault() -> None:
    """With how often, the median, the worst, and how many partitions were silent."""
    figures = Figures(lanes=6)
    for name in FAULTS:
        figures.longest[name] += [1.0, 2.0, 9.0]
        figures.touched[name] += [2, 6, 3]
    head, *rows = str(figures).splitlines()
    assert "of 6 partitions" in head
    assert [row.split("  ")[0] for row in rows] == list(FAULTS)
    assert all(row.split()[-4:] == ["3", "2.00s", "9.00s", "6"] for row in rows)
