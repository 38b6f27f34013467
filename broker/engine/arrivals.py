"""Which vault keys a lane's next batch looks at, for the sake of its parked events.

A full lane waits for ten thousand keys: a look at each of them in each batch costs more than most batches. So the
lane is told what the view read, and a batch looks at that alone. What a lane has to look at is kept until a batch that
looked at it is *committed*, and everything is looked at

- after a take-over, since nobody told this worker's lane what came before;
- after a batch that left work over (`Step.more`), since it may have left known people's events;
- once in a while, so that a notice that was missed delays an event, and does not strand it until it expires.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Container, Iterable


class Arrivals:
    """See the module. At first everything is to be looked at.

    Args:
        all_every_s: at most so long after a look at everything comes the next one.
    """

    def __init__(self, all_every_s: float) -> None:
        self._all_every_s = all_every_s
        self._told: set[bytes] = set()  # since the last decision
        self._looked: set[bytes] | None = None  # at by the batch under way, or the one before; None: at all
        self._all_at = time.monotonic()

    def everything(self) -> None:
        """Nothing is known of what came before: the next batch looks at all that waits."""
        self._looked = None

    def add(self, keys: Iterable[bytes], waited_for: Container[bytes]) -> bool:
        """Take over what the view read, if an event of this lane waits for it; whether any did."""
        found = {key for key in keys if key in waited_for}
        self._told |= found
        return bool(found)

    def to_look_at(self) -> Collection[bytes] | None:
        """What a decision that begins now looks at; None: at all that waits.

        Call it in one go with opening the vault, so that everything that was told can be read. A batch that is
        decided once more looks at what it looked at before, and at what came since.
        """
        if time.monotonic() - self._all_at >= self._all_every_s:
            self._looked = None
        if self._looked is None:
            self._all_at = time.monotonic()
        else:
            self._looked |= self._told
        self._told.clear()
        return self._looked

    def committed(self, *, more: bool) -> None:
        """The batch is committed: what it looked at needs no other look, unless it left work over."""
        self._looked = None if more else set()
