"""The benches run; what they measure is nobody's to assert."""

from __future__ import annotations

import pytest

from bench import exchange
from bench.__main__ import BENCHES


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
