"""How large a lane's batches are: by how long it takes to decide over them."""

from __future__ import annotations

from broker.engine.batchsize import BatchSize
from broker.engine.config import EngineConfig

CONFIG = EngineConfig(batch_records=500, decision_s=0.25)


def test_a_batch_that_takes_too_long_is_as_large_the_next_time_as_fits() -> None:
    """With a slow disk a decision over 500 records keeps the worker from reading its views, and from heartbeats."""
    size = BatchSize(CONFIG)
    size.committed(500, 25.0)
    assert size.most == 5
    size.committed(5, 100.0)
    assert size.most == 1


def test_it_grows_again_slowly_and_not_beyond_the_most() -> None:
    """What was slow once need not stay so."""
    size = BatchSize(CONFIG)
    size.committed(500, 2.5)
    found = [size.most]
    for _ in range(60):
        size.committed(size.most, 0.01)
        found.append(size.most)
    assert found[:3] == [50, 60, 70]
    assert found[-1] == 500


def test_a_small_batch_that_took_long_tells_nothing_good_of_large_ones() -> None:
    """The next is by the records that there were, not by those that would have been allowed."""
    size = BatchSize(CONFIG)
    size.committed(20, 0.5)
    assert size.most == 10


def test_a_failure_halves_it() -> None:
    """What is too much for its time-out must not come back for ever."""
    size = BatchSize(EngineConfig(batch_records=3))
    for most in (1, 1):
        size.failed()
        assert size.most == most
