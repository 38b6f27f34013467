"""The chapters of the demo's school year, in their order. Each is a module with one function, `play`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from broker.demo.chapters import (
    asking,
    closing,
    enrolling,
    licences,
    ordering,
    parents,
    results,
    roster,
    switching,
    testing,
    using,
)
from broker.demo.telling import Chapter, Year

CHAPTERS: Final[tuple[Callable[[Year], Awaitable[Chapter]], ...]] = (
    enrolling.play,
    ordering.play,
    licences.play,
    roster.play,
    using.play,
    asking.play,
    parents.play,
    results.play,
    testing.play,
    switching.play,
    closing.play,
)

__all__ = ["CHAPTERS"]
