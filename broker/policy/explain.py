"""The policy in sentences: what may this receiver have, why, and who says so (R11, R15)."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from broker.policy.projection import CONDITIONS, DEFAULT_DENY
from broker.policy.rules import Cell, Policy
from broker.policy.words import BASIS_MEANINGS, PRODUCT_TYPES, RECEIVER_ROLES, ROLE_MEANINGS, ReceiverRole


def explain(
    policy: Policy,
    process: str,
    sector: str,
    receiver_role: ReceiverRole,
    attribute: str,
    product_type: str = "ordinary",
    agreement_attributes: Collection[str] = (),
) -> tuple[str, ...]:
    """What happens to an attribute and on what ground, one sentence each."""
    whom = ROLE_MEANINGS[receiver_role]
    where = f"in {process} ({sector}, {product_type} product) to {whom}"
    cell = policy.cell(process, sector, receiver_role, attribute, product_type)
    if cell is None:
        known = "" if attribute in policy.attributes else " The policy does not know this attribute at all."
        return (
            f"{attribute} does not pass {where}: no rule allows it, and what no rule allows is dropped.{known}",
            f"Rule: {DEFAULT_DENY}.",
        )
    what = f"{attribute} ({cell.row.label['en']}; {cell.row.cls})"
    return (
        f"{what} {_verdict(cell, attribute, agreement_attributes)} {where}.",
        *_conditions(cell),
        f"Purpose: {cell.rule.purpose}.",
        f"Basis: {BASIS_MEANINGS[cell.rule.basis]}.",
        f"Evidence: {cell.rule.evidence}.",
        f"Owner: {cell.rule.owner}.",
        f"Rule: {cell.rule.id}, policy {policy.version}.",
    )


def _verdict(cell: Cell, attribute: str, named: Collection[str]) -> str:
    if cell.effect == "R":
        return "makes the whole event refused, with an incident,"
    if cell.effect == "D":
        return "never passes"
    how = f" (transformed: {cell.rule.transform})" if cell.effect == "T" else ""
    if not cell.needs_agreement:
        return f"passes{how}"
    if attribute in named:
        return f"passes{how}, because the agreement names it,"
    return f"passes{how} only if the agreement names it, which it does not,"


def _conditions(cell: Cell) -> Iterator[str]:
    if cell.effect in ("D", "R"):
        return
    for name in cell.rule.conditions:
        yield f"Condition {name}: {CONDITIONS[name]}."


def table(policy: Policy) -> Iterator[tuple[str, str, str, str, str]]:
    """Every rule as a line: attribute, receivers, products, effects, rule."""
    for row in policy.rows:
        for name in row.attributes:
            for rule in row.rules:
                roles = rule.receiver_roles or tuple(r for r in RECEIVER_ROLES if r != "VAULT")
                effects = "  ".join(f"{process} {'/'.join(triple)}" for process, triple in rule.effects.items())
                yield name, " ".join(roles), " ".join(rule.product_types or PRODUCT_TYPES), effects, rule.id
