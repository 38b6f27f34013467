"""Tests of `broker.auditserve.bucket`: how often one may ask."""

from __future__ import annotations

import pytest

from broker.auditserve import bucket
from broker.auditserve.bucket import TokenBuckets


def test_a_burst_and_then_so_many_a_second() -> None:
    """And what was not used is not kept beyond a burst."""
    now = [100.0]
    buckets = TokenBuckets(0.5, 3, lambda: now[0])
    assert [buckets.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 2.0]
    assert buckets.take("b") == 0.0
    now[0] += 1.0
    assert buckets.take("a") == 1.0
    now[0] += 1.0
    assert [buckets.take("a"), buckets.take("a")] == [0.0, 2.0]
    now[0] += 3600.0
    assert [buckets.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 2.0]


def test_who_is_refused_does_not_pay_for_it() -> None:
    """Else who asks on and on would never be answered again."""
    now = [0.0]
    buckets = TokenBuckets(1.0, 1, lambda: now[0])
    assert buckets.take("a") == 0.0
    for _ in range(9):
        now[0] += 0.1
        assert buckets.take("a") > 0.0
    now[0] += 0.11
    assert buckets.take("a") == 0.0


def test_so_many_names_and_no_more_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not grow with them; who asked last is not forgotten."""
    monkeypatch.setattr(bucket, "MOST_NAMES", 10)
    buckets = TokenBuckets(0.001, 1, lambda: 0.0)
    for name in range(1_000):
        assert buckets.take(name) == 0.0
    assert len(buckets._found) == 10
    assert buckets.take(999) > 0.0
