"""Step 3, authorise: the route, and the four gates before every delivery (promise P7).

1. the route exists for these roles,
2. the receiver's agreement covers school, product and process, today,
3. the school's connection is accepted on both sides, where the route requires one, under a mandate that lasts,
4. the policy lets pass what the event is about.

A party with several roles acts in one of them: the first whose gates are all open. What closes something still passes
for a stated term after gate 2 or 3 was closed, with nothing but what it is about.

A party that is suspended gets nothing, whatever gates are open. That is told only to who could deliver to it: to all
others it is not connected, as before.

The answer depends on the registry and on a few fields only, so it is remembered per registry: a changed registry is
another object, and nothing of the old one is used again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import date
from functools import lru_cache
from typing import Final, NamedTuple

from broker.days import EPOCH, date_of
from broker.exchange.model import Decision, Outcome
from broker.exchange.open import Opened
from broker.policy import Projection, Route
from broker.registry import Agreement, Party, Registry, School, TemporaryException
from broker.schemas import Family, Schema
from broker.schemas.outputs import role_schema

VAULT: Final = "vault"
REGISTRY: Final = "registry"
SUBJECT_ATTRIBUTES: Final = (
    "eckId", "lasKey", "leerlingnummer", "nlEduPersonProfileId", "nlEduPersonRealId", "employeeNumber",
)  # fmt: skip
# Conditions of the policy that a receiver meets or not, whatever the event; the others are the event's to meet.
OF_RECEIVER: Final = frozenset({"covenant-attested", "own-school-sis"})


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A receiver that may have the event, and what of it.

    Attributes:
        agreement: that the delivery rests on; None towards the vault and the registry.
        schema: of the body that this receiver gets.
        kept, dropped: attribute names of the body; derived from policy and agreement alone, never from what was
            filled in (presence can reveal as much as a value).
        ids: attribute names of the subject that it may have.
        open_conditions: of all these, what passes only if the event or its person meets conditions.
        exceptions: temporary exceptions of the registry that let attributes pass here (R21).
        ended: day since 1970 on which a gate was closed that this event, closing something, still passes.
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
    open_conditions: tuple[tuple[str, tuple[str, ...]], ...] = ()
    exceptions: tuple[str, ...] = ()
    ended: int | None = None

    def closing_only(self, essential: Iterable[str]) -> Target:
        """The same, with nothing but what the event is about."""
        kept = self.kept.intersection(essential)
        return replace(self, kept=kept, dropped=self.dropped | (self.kept - kept))


@dataclass(frozen=True, slots=True)
class Authorised:
    """Who gets the event, and who does not and why."""

    targets: tuple[Target, ...]
    refusals: tuple[Decision, ...]


class Question(NamedTuple):
    """All that the answer depends on, beside the registry."""

    sender: str
    school: str
    location: str | None
    sector: str
    family: str
    version: int
    kind: str
    product: str | None
    receiver: str | None
    addressees: tuple[str | None, ...]
    about_somebody: bool
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
        envelope["sender"], school.id, event.location, envelope["sector"], family.name, family.version,
        envelope["kind"], product, envelope["receiver"], tuple(event.body[name] for name in family.addressees),
        event.about_somebody, day,
    )  # fmt: skip
    answers = _memo(registry).answers
    answer = answers.get(question)
    if answer is None:
        if len(answers) >= MEMO_SIZE:  # products and receivers come from events: bounded, whatever they hold
            answers.clear()
        answer = answers[question] = _authorise(question, family, school, registry)
    return _in_time(event, answer)


MEMO_SIZE: Final = 100_000
_Link = tuple[str, str, str, str, str, str | None, str | None]  # as `Registry.connected` asks for it


@lru_cache(maxsize=2)
def _memo(_registry: Registry) -> _Memo:
    return _Memo()


def _in_time(event: Opened, answer: Authorised) -> Authorised:
    """Without targets whose gate was closed before the thing happened that the event tells."""
    if all(target.ended is None for target in answer.targets):
        return answer
    late = [
        t for t in answer.targets if t.ended is not None and _dated_before_end(t) and not event.happened_by(t.ended)
    ]
    refusals = [Decision(Outcome.REFUSED, "gate.ended", target.receiver) for target in late]
    return Authorised(tuple(t for t in answer.targets if t not in late), (*answer.refusals, *refusals))


def _dated_before_end(target: Target) -> bool:
    return target.route.closing is not None and target.route.closing.dated_before_end


def _authorise(q: Question, family: Family, school: School, registry: Registry) -> Authorised:
    sender = registry.party(q.sender)
    routes = registry.routes.find(q.family, q.kind, sender.roles) if sender else ()
    if not routes:
        return _nobody("gate.route")
    # A SIS speaks for a school as long as the board's mandate lasts; what a former one may still switch off is its own
    # side of a connection.
    if not school.mandated(q.sender, date_of(q.day)) and not any(r.receiver_role == "REGISTRY" for r in routes):
        routes = tuple(route for route in routes if route.sender_role != "SIS")
        if not routes:
            return _nobody("school.not_yours")
    if any(route.receiver_role == "VAULT" for route in routes):
        return Authorised((Target(VAULT, routes[0]),), ())
    own = tuple(Target(REGISTRY, route) for route in routes if route.receiver_role == "REGISTRY")[:1]
    if q.product is not None and not registry.known_product(q.product):
        return _nobody("product.unknown", family.product_field)
    targets, refusals, about = list(own), [], None
    for candidate in _candidates(q, family, school, registry):
        found = _best(q, family, school, registry, routes, candidate)
        if isinstance(found, Target):
            targets.append(found)
        elif q.receiver is not None or found.code in ("gate.policy", "receiver.key", "receiver.suspended"):
            refusals.append(found)
        elif found.field == "subject":
            about = found.code
    if not targets and not refusals:
        return _nobody(about, "subject") if about is not None else _nobody("gate.receivers")
    return Authorised(tuple(targets), tuple(refusals))


def _nobody(code: str, field_name: str | None = None) -> Authorised:
    return Authorised((), (Decision(Outcome.REFUSED, code, field=field_name),))


def _candidates(q: Question, family: Family, school: School, registry: Registry) -> Iterable[str]:
    """Who could be meant: the named receiver; those whom the body names, and the school's SIS; or everybody."""
    if q.receiver is not None:
        return (q.receiver,)
    if family.addressees:
        named = {name for name in (*q.addressees, school.sis) if name is not None}
        return sorted(named & registry.parties.keys() - {q.sender})
    return sorted(registry.parties)


def _best(
    q: Question, family: Family, school: School, registry: Registry, routes: tuple[Route, ...], candidate: str
) -> Target | Decision:
    """The first role in which a receiver passes all gates; else the first that only closes; else the refusal that came
    furthest."""
    party = registry.party(candidate)
    # An unknown party and one that is not connected are one answer. A name that is no party's is the sender's own
    # text, perhaps a pupil's name: it is not repeated in audit and status.
    if party is None:
        return Decision(Outcome.REFUSED, "gate.connection", field="receiver")
    if candidate == q.sender:
        return Decision(Outcome.REFUSED, "gate.connection", candidate)
    closing, furthest = None, Decision(Outcome.REFUSED, "gate.route", candidate)
    shut_out = Decision(Outcome.REFUSED, "receiver.suspended", candidate) if registry.suspended(candidate) else None
    for route in routes:
        if route.receiver_role in party.roles:
            found = _gates(q, family, school, registry, route, party)
            if isinstance(found, Target):
                if found.ended is None:
                    return shut_out or found
                closing = closing or found
            elif _GATES.index(found.code) > _GATES.index(furthest.code):
                furthest = found
    return (shut_out if closing and shut_out else closing) or furthest


_GATES: Final = (
    "gate.route", "subject.missing", "subject.not_allowed", "gate.connection", "gate.agreement", "gate.policy",
    "receiver.key",
)  # fmt: skip


def _gates(
    q: Question, family: Family, school: School, registry: Registry, route: Route, party: Party
) -> Target | Decision:
    """The four gates for one receiver in one role, in order."""
    today, ended = date_of(q.day), None
    if route.subject != "optional" and (route.subject == "required") != q.about_somebody:
        code = "subject.missing" if route.subject == "required" else "subject.not_allowed"
        return Decision(Outcome.REFUSED, code, party.id, field="subject")
    if route.connection == "required":
        link = (q.school, q.sender, party.id, q.family, route.process, q.product, q.location)
        over = school.mandate_over(today)
        if over is not None or not registry.connected(*link):
            ended = _link_ended(registry, link, over) if route.closing is not None else None
            if ended is None or route.closing is None or (today - ended).days > route.closing.days:
                return Decision(Outcome.REFUSED, "gate.connection", party.id)
    covered = (q.school, party.id, q.product, route.process, today)
    agreement = registry.agreement(*covered, location=q.location)
    if agreement is None and route.closing is not None:
        agreement = registry.ended_agreement(*covered, route.closing.days, location=q.location)
        if agreement is not None:
            ended = min(agreement.valid_until, ended or agreement.valid_until)
    if agreement is None:
        return Decision(Outcome.REFUSED, "gate.agreement", party.id)
    target = _projected(q, family, school, registry, Target(party.id, route, party, agreement))
    essential = family.kinds[q.kind].essential
    if not target.kept.issuperset(essential):
        return Decision(Outcome.REFUSED, "gate.policy", party.id, rule=registry.policy.version)
    if not party.keys:
        return Decision(Outcome.REFUSED, "receiver.key", party.id)
    if ended is None:
        return target
    return replace(target.closing_only(essential), ended=(ended - EPOCH).days)


def _link_ended(registry: Registry, link: _Link, mandate_over: date | None) -> date | None:
    """The last day of a link that is not on: it was revoked, or the mandate under which it was accepted is over.

    Returns:
        None if it was never on.
    """
    if registry.connected(*link):
        return mandate_over
    revoked = registry.revoked_on(*link)
    return revoked if revoked is None or mandate_over is None else min(revoked, mandate_over)


def _projected(q: Question, family: Family, school: School, registry: Registry, target: Target) -> Target:
    """What policy, agreement and exceptions let pass to this receiver."""
    route, party, agreement = target.route, target.party, target.agreement
    assert party is not None and agreement is not None  # noqa: S101, PT018 - for the type checker
    today = date_of(q.day)
    exceptions = registry.exceptions(q.school, party.id, route.process, today)
    projection = registry.policy.projection(
        route.process, q.sector, route.receiver_role, agreement.product_type(q.product),
        (*family.attributes, *SUBJECT_ATTRIBUTES), _named(agreement, exceptions, today),
    )  # fmt: skip
    met = _conditions_met(party, school, q.day)
    passing = {*projection.kept, *projection.transformed}
    unmet = {name: tuple(c for c in projection.conditions.get(name, ()) if c not in met) for name in passing}
    kept = {name for name in passing if OF_RECEIVER.isdisjoint(unmet[name])}
    attributes = kept & set(family.attributes)
    named = frozenset(agreement.named(today))
    return replace(
        target,
        schema=role_schema(family, registry.policy, route, q.sector),
        projection=projection,
        kept=frozenset(attributes),
        dropped=frozenset(family.attributes) - attributes,
        ids=frozenset(kept & set(SUBJECT_ATTRIBUTES)),
        open_conditions=tuple((name, unmet[name]) for name in sorted(kept) if unmet[name]),
        exceptions=tuple(e.id for e in exceptions if not named.issuperset(e.attributes)),
    )


def _named(agreement: Agreement, exceptions: Iterable[TemporaryException], today: date) -> set[str]:
    return {*agreement.named(today), *(name for exception in exceptions for name in exception.attributes)}


def _conditions_met(party: Party, school: School, day: int) -> set[str]:
    """The policy's conditions that this receiver meets."""
    met = set()
    if party.may_hold_eck_id and party.eck_id_attested_on is not None and party.eck_id_attested_on <= date_of(day):
        met.add("covenant-attested")
    if school.mandated(party.id, date_of(day)):
        met.add("own-school-sis")
    return met
