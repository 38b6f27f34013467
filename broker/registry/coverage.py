"""Agreements and exceptions by whom they concern (gate 2)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date
from types import MappingProxyType

from broker.registry.agreements import Agreement, TemporaryException
from broker.registry.fields import ALL_OF_BOARD

_NONE: Mapping[str, tuple[Agreement, ...]] = MappingProxyType({})


class AgreementIndex:
    """All agreements. Never changed: a change makes another one, and costs what the receivers concerned have."""

    def __init__(
        self,
        by_party: Mapping[str, Mapping[str, tuple[Agreement, ...]]] = MappingProxyType({}),
        of_party: Mapping[str, tuple[Agreement, ...]] = MappingProxyType({}),
        products: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._by_party, self._of_party, self._products = by_party, of_party, products

    def between(self, board: str, party: str) -> tuple[Agreement, ...]:
        """Those of a board with a receiver, the newest first."""
        return self._by_party.get(party, _NONE).get(board, ())

    def of(self, party: str) -> tuple[Agreement, ...]:
        """Those of a receiver, in the order of their ids; the same object until one of them changes."""
        return self._of_party.get(party, ())

    def names_product(self, product: str) -> bool:
        """Whether any agreement names a product."""
        return product in self._products

    def with_changes(self, gone: Iterable[Agreement], come: Iterable[Agreement]) -> AgreementIndex:
        """The index after agreements changed."""
        gone, come = list(gone), list(come)
        if not gone and not come:
            return self
        where: defaultdict[str, set[str]] = defaultdict(set)
        for agreement in (*gone, *come):
            where[agreement.party].add(agreement.board)
        ended = {agreement.id for agreement in gone}
        added: defaultdict[tuple[str, str], list[Agreement]] = defaultdict(list)
        for agreement in come:
            added[agreement.party, agreement.board].append(agreement)
        by_party, of_party = dict(self._by_party), dict(self._of_party)
        for party, boards in where.items():
            of_board = dict(by_party.get(party, _NONE))
            for board in boards:
                kept = [a for a in of_board.pop(board, ()) if a.id not in ended]
                if ones := kept + added[party, board]:
                    of_board[board] = tuple(sorted(ones, key=_newest, reverse=True))
            by_party[party] = of_board
            of_party[party] = tuple(sorted((a for ones in of_board.values() for a in ones), key=lambda a: a.id))
        return AgreementIndex(by_party, of_party, self._count_products(gone, come))

    def _count_products(self, gone: Iterable[Agreement], come: Iterable[Agreement]) -> Mapping[str, int]:
        counts = dict(self._products)
        for agreements, step in ((come, 1), (gone, -1)):
            for product in (p.id for a in agreements for p in a.products):
                counts[product] = counts.get(product, 0) + step
                if not counts[product]:
                    del counts[product]
        return counts


def _newest(agreement: Agreement) -> tuple[date, tuple[int, ...], str]:
    return agreement.valid_from, tuple(int(part) for part in agreement.version.split(".")), agreement.id


class ExceptionIndex:
    """All exceptions; few at a time, so a change builds it anew."""

    def __init__(self, entries: Mapping[str, TemporaryException] = MappingProxyType({})) -> None:
        self._entries = entries
        found: defaultdict[tuple[str, str, str, str], list[TemporaryException]] = defaultdict(list)
        for _, entry in sorted(entries.items()):
            scope = ("board", entry.board or "") if entry.school == ALL_OF_BOARD else ("school", entry.school)
            found[(*scope, entry.receiver, entry.process)].append(entry)
        self._found = dict(found)

    def find(self, school: str, board: str, receiver: str, process: str, on: date) -> tuple[TemporaryException, ...]:
        """Those that last on this day, for the school or for all of its board, in the order of their ids."""
        if not self._found:
            return ()
        of_school = self._found.get(("school", school, receiver, process), [])
        of_board = self._found.get(("board", board, receiver, process), [])
        lasting = (entry for entry in (*of_school, *of_board) if entry.lasts(on))
        return tuple(sorted(lasting, key=lambda entry: entry.id))

    def with_changes(self, gone: Iterable[TemporaryException], come: Iterable[TemporaryException]) -> ExceptionIndex:
        """The index after exceptions changed."""
        ended, added = {entry.id for entry in gone}, {entry.id: entry for entry in come}
        if not ended and not added:
            return self
        return ExceptionIndex({**{k: v for k, v in self._entries.items() if k not in ended}, **added})
