"""Gate 3 in the coming year: links that are only half there, and those that an agreement waits for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from broker.policy import Route
from broker.registry import Agreement, ConnectionSide
from broker.season.codes import Finding
from broker.season.look import Look, listed

_DELIBERATE = ("connection.declined", "connection.revoked")


def link_findings(look: Look) -> Iterator[Finding]:
    """Links that are not on."""
    on = {(s.sender, s.receiver, s.service, s.process, s.location) for s, _ in look.on}
    waiting: set[tuple[str, str, str]] = set()
    for name, sides in look.entries.links.get(look.school.id, {}).items():
        some = next(iter(sides.values()))
        way = (some.sender, some.receiver, some.service, some.process)
        if look.entries.is_on(name, sides) or not on.isdisjoint([(*way, some.location), (*way, None)]):
            continue
        waiting.update((side.receiver, side.service, side.process) for side in sides.values())
        code, what = _state(look, sides)
        if code in _DELIBERATE and not _covered(look, some):
            continue
        says = f"{name}, {some.service} from {some.sender} to {some.receiver} in {some.process}: {what}."
        yield Finding(look.school.id, code, says, some.receiver, (name,))
    yield from _never_made(look, waiting)


def _covered(look: Look, side: ConnectionSide) -> bool:
    """Whether an agreement waits for the link."""
    places = (side.location,) if side.location else (None, *look.school.locations)
    registry = look.entries.registry
    return any(
        registry.agreement(look.school.id, side.receiver, None, side.process, look.start, place) is not None
        for place in places
    )


def _state(look: Look, sides: Mapping[str, ConnectionSide]) -> tuple[str, str]:
    """The code, and what each side says."""
    states = {name: sides[name].state for name in sides}
    said = "; ".join(f"the {name} {states[name]}" if name in states else f"the {name} said nothing"
                     for name in ("sender", "receiver"))  # fmt: skip
    if "revoked" in states.values():
        return "connection.revoked", said
    if "declined" in states.values():
        return "connection.declined", said
    accepted = [name for name, state in states.items() if state == "accepted"]
    if len(accepted) == 2:
        return "connection.void", _why_void(look, sides["sender"], sides["receiver"])
    return ("connection.half" if accepted else "connection.offered"), said


def _why_void(look: Look, sender: ConnectionSide, receiver: ConnectionSide) -> str:
    if sender.about() != receiver.about():
        return "its two sides are about different links"
    uncounted = [side.side for side in (sender, receiver) if not side.counts(look.school)]
    if uncounted:
        return (
            f"the acceptance of the {listed(uncounted)} was not given with the mandate that"
            f" {look.school.sis} has since {look.school.mandated_from}"
        )
    return "its two sides share no product"


def _never_made(look: Look, waiting: set[tuple[str, str, str]]) -> Iterator[Finding]:
    """Agreements that hold on the first day, and whose routes ask for a link that nobody ever spoke of."""
    on = {(s.receiver, s.service, s.process) for s, _ in look.on}
    missing: defaultdict[tuple[str, str, tuple[str, ...]], set[str]] = defaultdict(set)
    for agreement in look.in_year:
        if agreement.valid_from > look.start:
            continue
        for family, processes in _asked(look, agreement):
            ways = {(agreement.party, family, process) for process in processes}
            if ways.isdisjoint(on) and ways.isdisjoint(waiting):
                missing[agreement.party, family, processes].add(agreement.id)
    for (party, family, processes), agreements in sorted(missing.items()):
        says = f"{listed(sorted(agreements))} with {party}: no link for {family} in {' or '.join(processes)} was made."
        yield Finding(look.school.id, "connection.none", says, party, tuple(sorted(agreements)))


def _asked(look: Look, agreement: Agreement) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Families with the processes of the agreement in which a link would let some kind of them go to its receiver.

    Of a kind that may go in several processes one link is enough (`policies/routes.yaml`).
    """
    party = look.entries.registry.party(agreement.party)
    if party is None:
        return
    # A SIS receives what is of its own school; another school's SIS has nothing to wait for here.
    roles = {role for role in party.roles if role != "SIS" or party.id == look.school.sis}
    covered = {p.process for p in agreement.processes}
    by_kind: defaultdict[tuple[str, str], list[Route]] = defaultdict(list)
    for route in look.entries.registry.routes:
        if route.receiver_role in roles and route.process in covered:
            for kind in route.kinds:
                by_kind[route.family, kind].append(route)
    found: dict[tuple[str, tuple[str, ...]], None] = {}
    for (family, _), routes in by_kind.items():
        if all(route.connection == "required" for route in routes):
            found[family, tuple(dict.fromkeys(route.process for route in routes))] = None
    yield from found
