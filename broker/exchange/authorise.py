"""Step 3, authorise: the route, and the four gates before every delivery (promise P7).

1. the route exists for these roles,
2. the receiver's agreement covers school, product and process, today,
3. the school's connection is accepted on both sides, where the route requires one,
4. the policy lets pass what the event is about.

The answer depends on the registry and on a few fields only, so it is remembered per registry: a changed registry is
another object, and nothing of the old one is used again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Final, NamedTuple

from broker.exchange.model import Decision, Outcome
from broker.exchange.open import Opened
from broker.policy import Projection, Route
from broker.registry import Agreement, Party, Registry, School
from broker.schemas import Family, Schema
from broker.schemas.outputs import role_schema

VAULT: Final = "vault"
SUBJECT_ATTRIBUTES: Final = (
    "eckId", "lasKey", "leerlingnummer", "nlEduPersonProfileId", "nlEduPersonRealId", "employeeNumber",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """A receiver that may have the event, and what of it.

    Attributes:
        agreement: that the delivery rests on; None towards the vault.
        schema: of the body that this receiver gets.
        kept, dropped: attribute names of the body; derived from policy and agreement alone, never from what was
            filled in (presence can reveal as much as a value).
        ids: attribute names of the subject that it may have.
        only_without_eck_id: of all these, what passes only for a person who has no ECK iD.
    """

    receiver: str
    route: Route
    party: Party | None = None
    agreement: Agreement | None = None
    schema: Schema | None = None
    projection: Projection | None = None
    kept: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    only_without_eck_id: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Authorised:
    """Who gets the event, and who does not and why."""

    targets: tuple[Target, ...]
    refusals: tuple[Decision, ...]


class Question(NamedTuple):
    """All that the answer depends on, beside the registry."""

    sender: str
    school: str
    sector: str
    family: str
    version: int
    kind: str
    product: str | None
    receiver: str | None
    day: int


@dataclass(slots=True)
class _Memo:
    answers: dict[Question, Authorised] = field(default_factory=dict)


def authorise(event: Opened, school: School, registry: Registry, day: int) -> Authorised:
    """Find the receivers.

    Args:
        day: today, in days since 1970.
    """
    envelope, family = event.envelope, event.family
    product = event.body[family.product_field] if family.product_field else None
    question = Question(
        envelope["sender"], envelope["school"], envelope["sector"], family.name, family.version, envelope["kind"],
        product, envelope["receiver"], day,
    )  # fmt: skip
    answers = _memo(registry).answers
    answer = answers.get(question)
    if answer is None:
        if len(answers) >= MEMO_SIZE:  # products and receivers come from events: bounded, whatever they hold
            answers.clear()
        answer = answers[question] = _authorise(question, family, school, registry)
    return answer


MEMO_SIZE: Final = 100_000


@lru_cache(maxsize=2)
def _memo(_registry: Registry) -> _Memo:
    return _Memo()


def _authorise(q: Question, family: Family, school: School, registry: Registry) -> Authorised:
    sender = registry.party(q.sender)
    routes = registry.routes.find(q.family, q.kind, sender.roles) if sender else ()
    if not routes:
        return _nobody("gate.route")
    if any(route.receiver_role == "VAULT" for route in routes):
        # The vault believes only the SIS that the school's board has given its mandate, from its first day on.
        if not _is_sis_of(school, q.sender, q.day):
            return _nobody("school.not_yours")
        return Authorised((Target(VAULT, routes[0]),), ())
    if q.product is not None and not registry.known_product(q.product):
        return _nobody("product.unknown", "product_id")
    candidates = [q.receiver] if q.receiver is not None else sorted(registry.parties)
    targets: list[Target] = []
    refusals: list[Decision] = []
    for candidate in candidates:
        found = _gates(q, family, school, registry, routes, candidate)
        if isinstance(found, Target):
            targets.append(found)
        elif q.receiver is not None or found.code in ("gate.policy", "receiver.key"):
            refusals.append(found)
    if not targets and not refusals:
        return _nobody("gate.receivers")
    return Authorised(tuple(targets), tuple(refusals))


def _nobody(code: str, field_name: str | None = None) -> Authorised:
    return Authorised((), (Decision(Outcome.REFUSED, code, field=field_name),))


def _gates(
    q: Question, family: Family, school: School, registry: Registry, routes: tuple[Route, ...], candidate: str
) -> Target | Decision:
    """The four gates for one receiver, in order."""
    party = registry.party(candidate)
    # An unknown party and one that is not connected are one answer. A name that is no party's is the sender's own
    # text, perhaps a pupil's name: it is not repeated in audit and status.
    if party is None:
        return Decision(Outcome.REFUSED, "gate.connection", field="receiver")
    if candidate == q.sender:
        return Decision(Outcome.REFUSED, "gate.connection", candidate)
    # A party with several roles acts in one per route, never in their union: the first that fits.
    route = next((r for r in routes if r.receiver_role in party.roles), None)
    if route is None:
        return Decision(Outcome.REFUSED, "gate.route", candidate)
    if route.connection == "required" and not registry.connected(q.school, q.sender, candidate, q.family, q.product):
        return Decision(Outcome.REFUSED, "gate.connection", candidate)
    agreement = registry.agreement(q.school, candidate, q.product, route.process, _date(q.day))
    if agreement is None:
        return Decision(Outcome.REFUSED, "gate.agreement", candidate)
    projection = registry.policy.projection(
        route.process, q.sector, route.receiver_role, agreement.product_type(q.product),
        (*family.attributes, *SUBJECT_ATTRIBUTES), agreement.attributes,
    )  # fmt: skip
    met = _conditions_met(party, school, q.day)
    kept, only_without_eck_id = _settle_conditions(projection, met)
    if not kept.issuperset(family.kinds[q.kind].essential):
        return Decision(Outcome.REFUSED, "gate.policy", candidate, rule=registry.policy.version)
    if not party.keys:
        return Decision(Outcome.REFUSED, "receiver.key", candidate)
    attributes = kept & set(family.attributes)
    return Target(
        candidate, route, party, agreement, role_schema(family, registry.policy, route, q.sector), projection,
        frozenset(attributes), frozenset(family.attributes) - attributes, frozenset(kept & set(SUBJECT_ATTRIBUTES)),
        only_without_eck_id,
    )  # fmt: skip


def _is_sis_of(school: School, party: str, day: int) -> bool:
    return school.sis == party and school.mandated_from <= _date(day)


def _conditions_met(party: Party, school: School, day: int) -> set[str]:
    """The policy's conditions that this receiver meets; `no-eck-id` is for the person to meet."""
    met = {"no-eck-id"}
    if party.may_hold_eck_id and party.eck_id_attested_on is not None and party.eck_id_attested_on <= _date(day):
        met.add("covenant-attested")
    if _is_sis_of(school, party.id, day):
        met.add("own-school-sis")
    return met


def _settle_conditions(projection: Projection, met: set[str]) -> tuple[set[str], frozenset[str]]:
    """Hold the policy's conditions against those that are met.

    Returns:
        The attributes whose conditions this receiver meets, and those among them that wait for the person: they pass
        only when he has no ECK iD.
    """
    passing = {*projection.kept, *projection.transformed}
    kept = {name for name in passing if met.issuperset(projection.conditions.get(name, ()))}
    return kept, frozenset(n for n in kept if "no-eck-id" in projection.conditions.get(n, ()))


def _date(day: int) -> date:
    return datetime.fromtimestamp(day * 86_400, UTC).date()
