"""How often somebody may ask: a token bucket for each name, and only so many names at once."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

MOST_NAMES: Final = 10_000


class TokenBuckets:
    """A bucket for each name.

    Args:
        per_s: how many requests a second go on for ever. burst: how many may come at once.
        clock: seconds that never go back.
    """

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._found: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # tokens, and when they were so many

    def take(self, name: Hashable) -> float:
        """Take a token.

        Returns:
            0.0 if there was one; else in how many seconds there is one.
        """
        now = self._clock()
        tokens, at = self._found.pop(name, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - at) * self._per_s)
        wait = 0.0 if tokens >= 1.0 else (1.0 - tokens) / self._per_s
        self._found[name] = (tokens if wait else tokens - 1.0), now
        if len(self._found) > MOST_NAMES:
            self._found.popitem(last=False)  # who asked longest ago; a full bucket is what he would have by then
        return wait
