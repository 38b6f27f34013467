"""Boards merge, BRINs change: what a succession makes of a registry (domain, section 10.16).

Nothing is carried over by silence and nothing widens: where two boards become one, what each of them had for all of its
schools is for those schools by name afterwards. What ends does so under the successor's name, so that what closes its
affairs (credits, requests to destroy) still finds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any, TypeVar

from broker.errors import ConfigError
from broker.registry.models import (
    ALL_OF_BOARD,
    Agreement,
    Board,
    ConnectionSide,
    Entry,
    School,
    Succession,
    TemporaryException,
    key_of,
)
from broker.registry.registry import parse_record, record_of

_E = TypeVar("_E", Board, School, Agreement, TemporaryException, ConnectionSide)


def changes(records: Mapping[str, bytes], succession: Succession) -> dict[str, bytes | None]:
    """The records that a succession changes, adds, and removes (None); its own record is one of them.

    A board that merges into another: its schools go to the successor. Its agreements go there too, for these schools by
    name, or end. What the successor has for all of its schools is for those that it had, by name; only if it had none
    yet it stays as it is.

    A school whose BRIN changes: the new one takes its place, with locations renamed by the first four positions, and
    with `formerly` if the pupils stay known. Agreements and connections name the new BRIN, or end.

    Exceptions are carried with the agreements, and are removed where these end.

    Raises:
        ConfigError: `registry.succession`, if predecessor or successor are not as they must be.
    """
    made = _Made(records, succession)
    made.merge_board() if succession.what == "board" else made.rename_school()
    made.put(succession)
    return {key: value for key, value in made.changes.items() if records.get(key) != value}


class _Made:
    """A succession at work."""

    def __init__(self, records: Mapping[str, bytes], succession: Succession) -> None:
        self.records, self.keys, self.it = records, sorted(records), succession
        self.changes: dict[str, bytes | None] = {}
        self.last_day = succession.first_day - timedelta(days=1)
        if key_of(succession) in records:
            raise _refuse(f"the succession {succession.id} was made already; give another one an id of its own")

    def put(self, entry: Entry) -> None:
        self.changes[key_of(entry)] = record_of(entry)

    def put_new(self, entry: Entry) -> None:
        if key_of(entry) in self.records:
            raise _refuse(f"{key_of(entry)} is there already; give it another id first")
        self.put(entry)

    def remove(self, entry: Entry) -> None:
        self.changes[key_of(entry)] = None

    def all(self, model: type[_E], kind: str) -> Iterator[_E]:
        for key in self.keys:
            if key.startswith(f"{kind}/"):
                entry = parse_record(key, self.records[key])
                if isinstance(entry, model):
                    yield entry

    def one(self, model: type[_E], kind: str, name: str) -> _E | None:
        value = self.records.get(f"{kind}/{name}")
        entry = None if value is None else parse_record(f"{kind}/{name}", value)
        return entry if isinstance(entry, model) else None

    # ---- boards

    def merge_board(self) -> None:
        old = self.one(Board, "board", self.it.predecessor)
        if old is None:
            raise _refuse(f"there is no board {self.it.predecessor}")
        if self.one(Board, "board", self.it.successor) is None:
            raise _refuse(f"there is no board {self.it.successor}; add it with `broker registry apply` first")
        schools = list(self.all(School, "school"))
        names = tuple(school.id for school in schools if school.board == old.id)
        others = tuple(school.id for school in schools if school.board == self.it.successor)
        for school in schools:
            if school.id in names:
                self.put(_with(school, board=self.it.successor))
        self._merge_agreements(names, others)
        if self.it.connections == "end":
            for side in self.all(ConnectionSide, "connection"):
                if side.school in names:
                    self.put(_switched_off(side, self.it))
        self.remove(old)

    def _merge_agreements(self, names: tuple[str, ...], others: tuple[str, ...]) -> None:
        """Agreements and exceptions of both boards.

        Args:
            names: schools of the predecessor. others: of the successor.
        """
        old, new = self.it.predecessor, self.it.successor
        for agreement in self.all(Agreement, "agreement"):
            if agreement.board == old:
                self._move_agreement(agreement, names)
            elif agreement.board == new and agreement.schools == ALL_OF_BOARD and others:
                self.put(_with(agreement, schools=others))
        for exception in self.all(TemporaryException, "exception"):
            if exception.board == old:
                self._divide_exception(exception, names if self.it.agreements == "carry" else ())
            elif exception.board == new and others:
                self._divide_exception(exception, others)

    def _move_agreement(self, agreement: Agreement, names: tuple[str, ...]) -> None:
        schools = names if agreement.schools == ALL_OF_BOARD else agreement.schools
        if not schools or not self._still_begins(agreement):
            self.remove(agreement)
            return
        moved = _with(agreement, board=self.it.successor, schools=schools)
        self.put(moved if self.it.agreements == "carry" else self._ended(moved))

    def _divide_exception(self, exception: TemporaryException, schools: tuple[str, ...]) -> None:
        """Instead of one for all of a board, one for each of these: no parent elsewhere was informed (R21)."""
        self.remove(exception)
        for school in schools:
            self.put_new(_with(exception, id=f"{exception.id[:55]}.{school}", school=school, board=None))

    # ---- schools

    def rename_school(self) -> None:
        old, new = self.one(School, "school", self.it.predecessor), self.it.successor
        if old is None:
            raise _refuse(f"there is no school {self.it.predecessor}")
        if self.one(School, "school", new) is not None:
            raise _refuse(
                f"the school {new} is there already. Two schools that become one are no change of a BRIN: their pupils"
                " may have the same local ids. Enrol them at the school that stays, and take the other one away."
            )
        if old.locations and len(new) != 4:
            raise _refuse(f"{new} is a location itself and can not take over locations; take them away first")
        renamed = {old.id: new, **{place: new + place[4:] for place in old.locations}}
        formerly = (*old.formerly, old.id) if self.it.identities == "carry" else ()
        places = tuple(renamed[place] for place in old.locations)
        self.put(_with(old, id=new, locations=places, formerly=formerly))
        self.remove(old)
        others = tuple(s.id for s in self.all(School, "school") if s.board == old.board and s.id != old.id)
        for agreement in self.all(Agreement, "agreement"):
            if agreement.board == old.board:
                self._rename_in_agreement(agreement, renamed, others)
        for exception in self.all(TemporaryException, "exception"):
            if exception.school == old.id:
                if self.it.agreements == "carry":
                    self.put(_with(exception, school=new))
                else:
                    self.remove(exception)
        for side in self.all(ConnectionSide, "connection"):
            if side.school == old.id:
                where = None if side.location is None else renamed.get(side.location, new + side.location[4:])
                moved = _with(side, school=new, location=where)
                self.put(moved if self.it.connections == "carry" else _switched_off(moved, self.it))

    def _rename_in_agreement(
        self, agreement: Agreement, renamed: Mapping[str, str], others_of_board: tuple[str, ...]
    ) -> None:
        if self.it.agreements == "carry":
            if isinstance(agreement.schools, tuple):
                self.put(_with(agreement, schools=tuple(renamed.get(name, name) for name in agreement.schools)))
            return
        if isinstance(agreement.schools, tuple):
            concerned = tuple(renamed[name] for name in agreement.schools if name in renamed)
            others = tuple(name for name in agreement.schools if name not in renamed)
        else:
            concerned = (self.it.successor,)
            others = others_of_board
        if not concerned:
            return
        if others:
            # For the others it goes on; for the school that ends, what remains is a past agreement of its own.
            self.put(_with(agreement, schools=others))
            if self._still_begins(agreement):
                name = f"{agreement.id[:55]}.{self.it.successor}"
                self.put_new(self._ended(_with(agreement, id=name, schools=concerned)))
        elif self._still_begins(agreement):
            self.put(self._ended(_with(agreement, schools=concerned)))
        else:
            self.remove(agreement)

    # ---- ends

    def _still_begins(self, agreement: Agreement) -> bool:
        return self.it.agreements == "carry" or agreement.valid_from <= self.last_day

    def _ended(self, agreement: Agreement) -> Agreement:
        until = min(agreement.valid_until, self.last_day)
        local = None if agreement.local_ids_until is None else min(agreement.local_ids_until, until)
        return _with(agreement, valid_until=until, local_ids_until=local)


def _switched_off(side: ConnectionSide, succession: Succession) -> ConnectionSide:
    """What was accepted is revoked, what was offered is declined, from the successor's first day on."""
    becomes = {"accepted": "revoked", "offered": "declined"}.get(side.state)
    if becomes is None:
        return side
    at = max(side.at, datetime.combine(succession.first_day, time(), UTC))
    return _with(side, state=becomes, at=at)


def _with(entry: _E, **fields: Any) -> _E:
    return type(entry).model_validate({**{name: getattr(entry, name) for name in type(entry).model_fields}, **fields})


def _refuse(why: str) -> ConfigError:
    return ConfigError(f"The succession can not be made: {why}.", code="registry.succession")
