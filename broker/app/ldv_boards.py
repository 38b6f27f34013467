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

    def named(self, activity: str | None) -> frozenset[str]:
        """The boards whose register a processing activity (URI) stands in: one, unless several share an address."""
        return frozenset(self._registers.get((activity or "").rpartition("/")[0], ()))

    def of(self, entry: Entry) -> str | None:
        """The board whose Logboek a line belongs to; None: the broker's own."""
        activity = None if entry.line is None else entry.line.attribute(ACTIVITY)
        return self.controller(activity, entry.school)

    def controller(self, activity: str | None, school: str | None) -> str | None:
        """As `of`, by what a line says.

        First the register that the line itself names: that was the controller's when it was decided, also if the school
        has another board by now. Then, for what was refused before a purpose was known, the school's board of now.
        """
        board = None if school is None else self._registry.board_of(school)
        now = None if board is None else board.id
        named = self.named(activity)
        if len(named) == 1:
            return next(iter(named))
        # Several boards with one register between them: the school tells which, if it is with one of them.
        return now if not named or now in named else None
