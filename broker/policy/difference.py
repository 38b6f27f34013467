"""What a change of the policy changes, before it holds (R11): what passes to whom, and the words of the rules.

Two policies with different versions differ in at least one of three: what passes in some cell, what a row or rule says
(purpose, basis, evidence, owner, label, class), or only the order and the spelling of the file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from broker.policy.rules import EFFECT_MEANINGS, Cell, Policy
from broker.policy.words import PROCESSES, PRODUCT_TYPES, RECEIVER_ROLES, SECTORS

NO_RULE = "- (no rule, so never)"


@dataclass(frozen=True, slots=True)
class Passing:
    """A change in what passes.

    Args:
        sectors, receiver_roles, product_types: for all combinations of these, and for no others of this process,
            `before` became `after` (several changes may say the same of one attribute).
        before, after: the effect with transform and conditions, in words.
    """

    attribute: str
    process: str
    sectors: tuple[str, ...]
    receiver_roles: tuple[str, ...]
    product_types: tuple[str, ...]
    before: str
    after: str

    def sentence(self) -> str:
        """For people."""
        types = "" if self.product_types == PRODUCT_TYPES else f", for {' and '.join(self.product_types)} products"
        where = f"in {self.process} ({'/'.join(self.sectors)}) to {', '.join(self.receiver_roles)}{types}"
        return f"{self.attribute} {where}: was {self.before}; becomes {self.after}."


@dataclass(frozen=True, slots=True)
class Wording:
    """A change in what a row or rule says: `what` is `row <attribute>` or `rule <id>`; None: it was or is not there."""

    what: str
    field: str
    before: str | None
    after: str | None

    def sentence(self) -> str:
        """For people."""
        if self.before is None:
            return f"{self.what} is new; {self.field}: {self.after}."
        if self.after is None:
            return f"{self.what} is gone; {self.field} was: {self.before}."
        return f"{self.what}, {self.field}: was {self.before}; becomes {self.after}."


def passing(old: Policy, new: Policy) -> list[Passing]:
    """All changes in what passes, as few lines as say it, by attribute and process."""
    found: dict[tuple[str, str, str, str], set[tuple[str, str, str]]] = defaultdict(set)
    for name in sorted(old.attributes | new.attributes):
        for process, sector, role, kind in product(PROCESSES, SECTORS, RECEIVER_ROLES, PRODUCT_TYPES):
            before, after = (_says(policy.cell(process, sector, role, name, kind)) for policy in (old, new))
            if before != after:
                found[name, process, before, after].add((sector, role, kind))
    return [
        Passing(name, process, *block, before, after)
        for (name, process, before, after), cells in found.items()
        for block in _blocks(cells)
    ]


def wording(old: Policy, new: Policy) -> list[Wording]:
    """All changes in what rows and rules say, and rows and rules that come and go."""
    before, after = _words(old), _words(new)
    return [
        Wording(what, field, before.get((what, field)), after.get((what, field)))
        for what, field in dict.fromkeys([*before, *after])
        if before.get((what, field)) != after.get((what, field))
    ]


def _says(cell: Cell | None) -> str:
    if cell is None:
        return NO_RULE
    said = f"{cell.effect} ({EFFECT_MEANINGS[cell.effect]}"
    if cell.effect in ("D", "R"):
        return f"{said})"
    if cell.effect == "T":
        said += f" by {cell.rule.transform}" + (", only if the agreement names it" if cell.needs_agreement else "")
    if cell.rule.conditions:
        said += f"; if {', '.join(cell.rule.conditions)}"
    return f"{said})"


_Block = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


def _blocks(cells: Iterable[tuple[str, str, str]]) -> Iterator[_Block]:
    """Cells (sector, role, product type) as few blocks of sectors x roles x product types, in the words' own order."""
    sectors: dict[tuple[str, str], list[str]] = defaultdict(list)
    for sector, role, kind in sorted(cells, key=_order):
        sectors[role, kind].append(sector)
    kinds: dict[tuple[tuple[str, ...], str], list[str]] = defaultdict(list)
    for (role, kind), of in sectors.items():
        kinds[tuple(of), role].append(kind)
    roles: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = defaultdict(list)
    for (in_sectors, role), of_kinds in kinds.items():
        roles[in_sectors, tuple(of_kinds)].append(role)
    for (in_sectors, of_kinds_), of_roles in roles.items():
        yield in_sectors, tuple(of_roles), of_kinds_


def _order(cell: tuple[str, str, str]) -> tuple[int, int, int]:
    sector, role, kind = cell
    words: tuple[tuple[str, ...], ...] = (RECEIVER_ROLES, PRODUCT_TYPES, SECTORS)
    return words[0].index(role), words[1].index(kind), words[2].index(sector)


def _words(policy: Policy) -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    for row in policy.rows:
        for name in row.attributes:
            found[f"row {name}", "class"] = row.cls
            found[f"row {name}", "label"] = f"{row.label['nl']} / {row.label['en']}"
        for rule in row.rules:
            told: dict[str, Any] = rule.model_dump(include={"purpose", "basis", "evidence", "owner"})
            found.update({(f"rule {rule.id}", field): value for field, value in told.items()})
    return found
