"""The policy: for each attribute what may pass, in which process and sector, to whom, for what purpose.

Rules are data (`policies/policy.yaml`, the registry record `policy/current`); nothing here knows an attribute.
What no rule allows does not pass (promise P3).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, ValidationError, field_validator, model_validator

from broker.data import data_path
from broker.policy.document import Written, canonical, problems_of, read_json, read_yaml, refuse
from broker.policy.projection import (
    CHECKED_BY_EXCHANGE,
    CONDITIONS,
    DEFAULT_DENY,
    NOT_IN_AGREEMENT,
    Possible,
    Projection,
)
from broker.policy.words import (
    PROCESSES,
    PRODUCT_TYPES,
    RECEIVER_ROLES,
    ROLES,
    SECTORS,
    LawfulBasis,
    Process,
    ProductType,
    ReceiverRole,
)

Effect = Literal["A", "T", "C", "D", "R"]
Class = Literal[
    "business", "pseudonym", "identifying", "quasi", "linked", "sensitive", "secret", "free-text",
]  # fmt: skip
Text = Annotated[str, Field(min_length=1, max_length=2_000)]
AttributeName = Annotated[str, Field(pattern=r"^[a-z][A-Za-z0-9]{1,63}$")]
CellKey = tuple[str, str, str, str]  # process, sector, receiver role, product type
EFFECT_MEANINGS: Mapping[Effect, str] = MappingProxyType({
    "A": "allowed",
    "T": "only transformed",
    "C": "only if the agreement names it",
    "D": "never",
    "R": "the event is refused, with an incident",
})  # fmt: skip


class Rule(Written):
    """One decision over an attribute, with the reasons that make it lawful.

    Args:
        id: stable; it stands in audit leaves.
        effects: process -> effects for PO, VO and MBO, written `A/C/D`. A process that is not there: no word on it.
        receiver_roles: to whom it applies; all parties if left out (the vault only where it is named).
        product_types: for which products it applies; all if left out.
        conditions: names from `CONDITIONS` that must hold besides.
        transform: function for effect T.
        purpose, basis: what for, and on which ground of GDPR article 6; `geen` where nothing passes.
        evidence: where it is written. owner: who answers for it.
    """

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")]
    effects: Annotated[Mapping[Process, tuple[Effect, Effect, Effect]], Field(min_length=1)]
    receiver_roles: tuple[ReceiverRole, ...] | None = None
    product_types: tuple[ProductType, ...] | None = None
    conditions: tuple[str, ...] = ()
    transform: Literal["first_letter"] | None = None
    purpose: Text
    basis: Literal[LawfulBasis, "geen"]
    evidence: Text
    owner: Text

    @field_validator("effects", mode="before")
    @classmethod
    def _triples(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {k: tuple(v.split("/")) if isinstance(v, str) else v for k, v in value.items()}

    @field_validator("conditions")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in value if name not in CONDITIONS]:
            raise ValueError(f"unknown conditions {', '.join(unknown)}; known are {', '.join(CONDITIONS)}")
        return value

    @model_validator(mode="after")
    def _lawful(self) -> Self:
        effects = {effect for triple in self.effects.values() for effect in triple}
        if bool(effects & {"A", "T", "C"}) == (self.basis == "geen"):
            raise ValueError("basis `geen` is for a rule that lets nothing pass, and such a rule has no other")
        if ("T" in effects) != (self.transform is not None):
            raise ValueError("effect T and a transform belong together")
        return self

    @property
    def specificity(self) -> int:
        """How much a rule names; the one that names more decides."""
        return (self.receiver_roles is not None) + (self.product_types is not None)

    @property
    def rejects(self) -> bool:
        """Some effect is R."""
        return any("R" in triple for triple in self.effects.values())

    def cells(self) -> Iterator[tuple[CellKey, Effect]]:
        """All (process, sector, receiver role, product type) that it speaks about."""
        roles = self.receiver_roles or (RECEIVER_ROLES if self.rejects else ROLES)
        for process, triple in self.effects.items():
            for (sector, effect), role, product_type in product(
                zip(SECTORS, triple, strict=True), roles, self.product_types or PRODUCT_TYPES
            ):
                yield (process, sector, role, product_type), effect


class Row(Written):
    """The rules of one attribute, or of several that are always decided alike.

    Args:
        attributes: names, as schemas and agreements use them.
        cls: what the attribute says about a person.
        label: what it is called, for people: `nl` and `en`.
    """

    attributes: Annotated[tuple[AttributeName, ...], Field(min_length=1)]
    cls: Annotated[Class, Field(alias="class")]
    label: Mapping[Literal["nl", "en"], Text]
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.label.keys() != {"nl", "en"}:
            raise ValueError("label needs both nl and en")
        for rule in self.rules:
            everywhere = rule.specificity == 0 and len(rule.effects) == len(PROCESSES)
            if rule.rejects and (len(self.rules) > 1 or not everywhere or set().union(*rule.effects.values()) != {"R"}):
                raise ValueError(f"rule {rule.id}: what is refused (R) is refused everywhere, by the row's only rule")
            # No agreement, no directly identifying attribute; the vault and the SIS that made the id are no receivers
            # of something new.
            free = "own-school-sis" in rule.conditions or rule.receiver_roles == ("VAULT",)
            if self.cls == "identifying" and not free and any("A" in triple for triple in rule.effects.values()):
                raise ValueError(f"rule {rule.id}: an identifying attribute is never simply allowed (A), use C")
        return self


class _Document(Written):
    version: Literal[1]
    attributes: Annotated[tuple[Row, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Cell:
    """What holds for one attribute in one process, sector, receiver role and product type."""

    effect: Effect
    rule: Rule
    row: Row

    @property
    def needs_agreement(self) -> bool:
        """The agreement must name the attribute."""
        return self.effect == "C" or (self.effect == "T" and self.row.cls == "identifying")

    @property
    def free(self) -> bool:
        """It passes, whatever the agreement names and whoever it is about."""
        return self.effect in ("A", "T") and not self.needs_agreement and not self.rule.conditions


class Policy:
    """All rules, with the answer to every question worked out beforehand. Immutable.

    Attributes:
        version: `sha256:<hex>` of the canonical JSON; equal rules have equal versions.
        rows: as written.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = tuple(rows)
        self._cells: dict[CellKey, dict[str, Cell]] = {
            key: {} for key in product(PROCESSES, SECTORS, RECEIVER_ROLES, PRODUCT_TYPES)
        }
        self._problems: list[str] = []
        ids: set[str] = set()
        names: set[str] = set()
        for row in self.rows:
            for rule in row.rules:
                self._problems += [f"two rules have the id {rule.id}"] if rule.id in ids else []
                ids.add(rule.id)
            for name in row.attributes:
                self._problems += [f"{name} has two rows"] if name in names else []
                names.add(name)
                self._add(name, row)
        if self._problems:
            raise refuse("policy", self._problems, "policy.invalid")
        self.attributes: frozenset[str] = frozenset(names)
        self._record = canonical({"version": 1, "attributes": [_dump(row) for row in self.rows]})
        self.version = f"sha256:{sha256(self._record).hexdigest()}"

    def _add(self, name: str, row: Row) -> None:
        """Of the rules that speak about a cell the most specific decides; two that name as much must not meet."""
        found: dict[CellKey, list[Cell]] = {}
        for rule in row.rules:
            for key, effect in rule.cells():
                found.setdefault(key, []).append(Cell(effect, rule, row))
        for key, cells in found.items():
            first, *others = sorted(cells, key=lambda cell: -cell.rule.specificity)
            if others and others[0].rule.specificity == first.rule.specificity:
                rules = f"{first.rule.id} and {others[0].rule.id}"
                self._problems.append(f"{name}: rules {rules} name as much, so none of them decides {' '.join(key)}")
            self._cells[key][name] = first

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Read a YAML file; by default the one that comes with the package.

        Raises:
            ConfigError: `policy.invalid`, listing all problems.
        """
        path = path or data_path("policies") / "policy.yaml"
        return cls._parse(read_yaml(path), str(path))

    @classmethod
    def from_record(cls, value: bytes) -> Self:
        """Read the registry record `policy/current`.

        Raises:
            ConfigError: `policy.invalid`.
        """
        return cls._parse(read_json(value, "policy/current"), "policy/current")

    @classmethod
    def _parse(cls, document: Any, where: str) -> Self:
        try:
            return cls(_Document.model_validate(document).attributes)
        except ValidationError as error:
            raise refuse(where, problems_of(error), "policy.invalid") from None

    def record(self) -> bytes:
        """The canonical JSON that stands in the registry; `version` is its hash."""
        return self._record

    def cell(self, process: str, sector: str, receiver_role: str, attribute: str, product_type: str) -> Cell | None:
        """The rule that decides; None where nobody wrote one."""
        return self._cells.get((process, sector, receiver_role, product_type), {}).get(attribute)

    def projection(
        self,
        process: str,
        sector: str,
        receiver_role: str,
        product_type: str,
        attributes: Iterable[str],
        agreement_attributes: Iterable[str],
        checked: Collection[str] = CHECKED_BY_EXCHANGE,
    ) -> Projection:
        """Divide attributes into what passes and what does not; nothing of an event is looked at.

        Args:
            attributes: of the schema, whether filled in or not.
            agreement_attributes: the conditional ones that the receiver's agreement names.
            checked: conditions that the caller checks himself for each event.
        """
        cells = self._cells.get((process, sector, receiver_role, product_type), {})
        named = frozenset(agreement_attributes)
        kept: list[str] = []
        dropped: list[tuple[str, str]] = []
        transformed: dict[str, str] = {}
        rejected: set[str] = set()
        conditions: dict[str, tuple[str, ...]] = {}
        for attribute in dict.fromkeys(attributes):
            cell = cells.get(attribute)
            if cell is not None and cell.effect == "R":
                rejected.add(attribute)
                continue
            why = DEFAULT_DENY if cell is None else _refusal(cell, attribute in named, checked)
            if cell is None or why is not None:
                dropped.append((attribute, why or DEFAULT_DENY))
                continue
            if cell.rule.conditions:
                conditions[attribute] = cell.rule.conditions
            if cell.effect == "T":
                transformed[attribute] = cast(str, cell.rule.transform)
            else:
                kept.append(attribute)
        return Projection(
            tuple(kept), tuple(dropped), MappingProxyType(transformed), frozenset(rejected),
            MappingProxyType(conditions),
        )  # fmt: skip

    def possible(self, process: str, sector: str, receiver_role: str, attributes: Iterable[str]) -> dict[str, Possible]:
        """What a role can ever have, over all product types and agreements; `never` is not even in its schema."""
        return {name: self._possible(process, sector, receiver_role, name) for name in dict.fromkeys(attributes)}

    def _possible(self, process: str, sector: str, receiver_role: str, attribute: str) -> Possible:
        cells = [self.cell(process, sector, receiver_role, attribute, t) for t in PRODUCT_TYPES]
        if all(c is None or c.effect in ("D", "R") for c in cells):
            return "never"
        return "always" if all(c is not None and c.free for c in cells) else "conditional"

    def can_pass(self, attribute: str) -> bool:
        """Whether any agreement at all can make this attribute pass to a party."""
        return any(
            self._possible(process, sector, role, attribute) != "never"
            for process, sector, role in product(PROCESSES, SECTORS, ROLES)
        )


def _refusal(cell: Cell, named: bool, checked: Collection[str]) -> str | None:
    """Why an attribute does not pass, if so."""
    if cell.effect == "D":
        return cell.rule.id
    if cell.needs_agreement and not named:
        return NOT_IN_AGREEMENT
    unmet = next((name for name in cell.rule.conditions if name not in checked), None)
    return None if unmet is None else f"condition:{unmet}"


def _dump(row: Row) -> dict[str, Any]:
    document = row.model_dump(mode="json", by_alias=True, exclude_none=True)
    for rule in document["rules"]:
        rule["effects"] = {process: "/".join(triple) for process, triple in rule["effects"].items()}
    return document
