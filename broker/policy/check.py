"""A policy held against what it decides over: the schemas' attributes and the routes (`broker policy check`).

A policy that loads is sound in itself. Here is asked whether it fits: no attribute that nobody decided over, no rule
that can never apply, no kind of event that can reach nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from broker.policy.routes import Route, Routes
from broker.policy.rules import Cell, Policy, Row, Rule
from broker.policy.words import SECTORS
from broker.schemas import Family, Kind

# Ids in the subject of an event, which is a record of its own beside the families.
SUBJECT_ATTRIBUTES: Final[frozenset[str]] = frozenset({
    "eckId", "lasKey", "leerlingnummer", "nlEduPersonProfileId", "nlEduPersonRealId", "employeeNumber",
})  # fmt: skip

# Attributes that no schema has, and why the policy speaks of them all the same.
_KEPT_OUT: Final = "no schema has it, and the rule says why none may get it"
_LOGIN: Final = "sent at login by the federation, beside the broker; the rule is for agreements and reports"
NOT_IN_SCHEMAS: Final[Mapping[str, str]] = MappingProxyType({
    **dict.fromkeys(("bsn", "onderwijsnummer", "sofinummer", "rijksregisternummer", "bsnOndwnr4"), _KEPT_OUT),
    **dict.fromkeys(("hPgn", "stampseudoniem", "givenNames", "phone", "photo", "ipAddress", "deviceId"), _KEPT_OUT),
    **dict.fromkeys(("ethnicity", "countryOfOrigin", "weightFactor", "postcode"), _KEPT_OUT),
    **dict.fromkeys(("uid", "affiliation", "nlEduPersonUnit"), _LOGIN),
    "schoolId": "stands in the envelope",
    **dict.fromkeys(("personalNeeds", "extraTime"), "told when a test is planned, a family that does not exist yet"),
})  # fmt: skip

# What the broker itself tells a party; it comes from no party, so it has no route.
OF_THE_BROKER: Final = frozenset({("control", "SEED_REQUEST")})

_Way = tuple[str, str, str]  # attribute, process, receiver role


def problems(policy: Policy, routes: Routes, families: Collection[Family]) -> list[str]:
    """What does not fit, one sentence each, sorted by what it is about; empty when all does.

    Args:
        families: the newest version of each.
    """
    by_name = {family.name: family for family in families}
    ways = frozenset(_ways(routes, by_name))
    return [
        *_unknown_attributes(policy, families),
        *_unknown_kinds(routes, by_name),
        *(problem for row in policy.rows for problem in _idle_rules(policy, row, ways)),
        *(problem for family in families for problem in _unreachable(policy, routes, family)),
    ]


def _unknown_attributes(policy: Policy, families: Iterable[Family]) -> Iterator[str]:
    used: dict[str, str] = dict.fromkeys(sorted(SUBJECT_ATTRIBUTES), "the subject")
    for family in families:
        for name in family.attributes:
            used.setdefault(name, f"{family.name}.v{family.version}")
    for name, where in used.items():
        if name not in policy.attributes:
            yield f"attribute {name} of {where} has no row: nobody decided over it, so it never passes"
    for name in sorted(policy.attributes - used.keys() - NOT_IN_SCHEMAS.keys()):
        yield f"attribute {name} has a row, but no schema has it"


def _unknown_kinds(routes: Routes, families: Mapping[str, Family]) -> Iterator[str]:
    for name, kinds in dict.fromkeys((route.family, route.kinds) for route in routes):
        if name not in families:
            yield f"routes: there is no family {name}"
            continue
        for kind in kinds:
            if kind not in families[name].kinds:
                yield f"routes: family {name} has no kind {kind}"


def _ways(routes: Routes, families: Mapping[str, Family]) -> Iterator[_Way]:
    """Every attribute that a route can carry: one that some field has which its kinds may fill, or an id."""
    for route in routes:
        family = families.get(route.family)
        for kind in (family.kinds[k] for k in route.kinds if k in family.kinds) if family is not None else ():
            assert family is not None  # noqa: S101 - for the type checker
            attributes = {f.attribute for f in family.schema.fields if f.attribute and f.name not in kind.unused}
            if _may_have_subject(route, kind):
                attributes |= SUBJECT_ATTRIBUTES
            for attribute in attributes:
                yield attribute, route.process, route.receiver_role


def _may_have_subject(route: Route, kind: Kind) -> bool:
    return route.subject != "none" and kind.subject != "none"


def _idle_rules(policy: Policy, row: Row, ways: Collection[_Way]) -> Iterator[str]:
    """Rules that decide over nothing: always outdone by others, or on ways that no event goes."""
    names = [name for name in row.attributes if name not in NOT_IN_SCHEMAS]
    for rule in row.rules:
        decides = [
            (name, key, effect)
            for name in row.attributes
            for key, effect in rule.cells()
            if _is(policy.cell(*key[:3], name, key[3]), rule)
        ]
        if not decides:
            yield f"rule {rule.id} never applies: rules that name more decide everywhere where it speaks"
            continue
        passing = [(name, key[0], key[2]) for name, key, effect in decides if effect in ("A", "T", "C")]
        if names and passing and not any(way in ways for way in passing):
            yield f"rule {rule.id} never applies: no route takes {', '.join(names)} where it lets it pass"


def _is(cell: Cell | None, rule: Rule) -> bool:
    return cell is not None and cell.rule is rule


def _unreachable(policy: Policy, routes: Routes, family: Family) -> Iterator[str]:
    """Kinds of event that can reach nobody, and routes on which one never passes."""
    for kind in family.kinds.values():
        ways = [r for r in routes if r.family == family.name and kind.name in r.kinds]
        if not ways and (family.name, kind.name) not in OF_THE_BROKER:
            yield f"{family.name} {kind.name} has no route: nobody can send it"
        for route in ways:
            if route.subject != kind.subject and "optional" not in (route.subject, kind.subject):
                contradiction = f"its subject is {kind.subject}, the route says {route.subject}"
                yield f"{_says(route, kind)} never passes: {contradiction}"
            if route.receiver_role in ("VAULT", "REGISTRY"):
                continue
            barred = [name for name in kind.essential if not _can_pass(policy, route, name)]
            if barred:
                yield f"{_says(route, kind)} never passes: the policy stops {', '.join(barred)}, which it is about"


def _can_pass(policy: Policy, route: Route, attribute: str) -> bool:
    return any(
        policy.possible(route.process, sector, route.receiver_role, (attribute,))[attribute] != "never"
        for sector in SECTORS
    )


def _says(route: Route, kind: Kind) -> str:
    return f"{route.family} {kind.name} from {route.sender_role} to {route.receiver_role} in {route.process}"
