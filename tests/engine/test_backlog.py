"""What waits for its batch."""

from __future__ import annotations

from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from broker.engine.backlog import Backlog, size_of
from broker.engine.config import EngineConfig


def records(sizes: list[int]) -> list[ConsumerRecord]:
    """Records whose values have these sizes."""
    return [
        ConsumerRecord("in.a", 0, n, 1, 0, b"k", bytes(size), None, 1, size, (("h", b"1"), ("n", None)))
        for n, size in enumerate(sizes)
    ]


@given(st.lists(st.integers(0, 5000), max_size=60), st.integers(1, 20), st.integers(1, 8000))
def test_batches_keep_the_order_and_both_limits(sizes: list[int], most: int, room: int) -> None:
    """All records come out once and in order; a batch is over its bytes only if it is one record."""
    backlog = Backlog(EngineConfig(batch_records=most, batch_bytes=room))
    backlog.extend(records(sizes))
    found = []
    while backlog:
        batch = backlog.take(most)
        assert 1 <= len(batch) <= most
        assert len(batch) == 1 or sum(len(r.value or b"") for r in batch) <= room
        found += [r.offset for r in batch]
    assert found == list(range(len(sizes)))
    assert not backlog.full


def test_it_is_full_with_two_batches_of_records_or_of_bytes() -> None:
    """Then the partition is paused; a megabyte record counts as what it is."""
    backlog = Backlog(EngineConfig(batch_records=10, batch_bytes=100_000))
    backlog.extend(records([10] * 19))
    assert not backlog.full
    backlog.extend(records([10]))
    assert backlog.full
    backlog.clear()
    assert not backlog.full
    backlog.extend(records([200_000]))
    assert backlog.full
    backlog.take(1)
    assert not backlog.full


def test_a_header_without_value_becomes_an_empty_one() -> None:
    """The exchange reads bytes; Kafka knows null headers."""
    backlog = Backlog(EngineConfig())
    (record,) = records([3])
    backlog.extend([record])
    assert size_of(record) == 1 + 3 + 2 + 1
    (taken,) = backlog.take(5)
    assert taken.headers == (("h", b"1"), ("n", b""))
    assert (taken.key, taken.value, taken.timestamp) == (b"k", bytes(3), 1)
