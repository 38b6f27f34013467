"""Whose line it is: the standard keeps lines per controller, and a processor counts as a part of its controller."""

from __future__ import annotations

from collections import defaultdict

from broker.audit.ldv import ACTIVITY, Entry
from broker.registry import Registry


class Boards:
    """Finds the controller of lines, by one registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._registers: defaultdict[str, set[str]] = defaultdict(set)
        for board in registry.boards.values():
            self._registers[board.processing_register.rstrip("/")].add(board.id)

    def of(self, entry: Entry) -> str | None:
        """The board whose Logboek a line belongs to; None: the broker's own.

        First the register that the line itself names: that was the controller's when it was decided, also if the school
        has another board by now. Then, for what was refused before a purpose was known, the school's board of now.
        """
        school = None if entry.school is None else self._registry.board_of(entry.school)
        now = None if school is None else school.id
        activity = None if entry.line is None else entry.line.attribute(ACTIVITY)
        named = self._registers.get((activity or "").rpartition("/")[0], set())
        if len(named) == 1:
            return next(iter(named))
        # Several boards with one register between them: the school tells which, if it is with one of them.
        return now if not named or now in named else None
