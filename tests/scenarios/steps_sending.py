"""Steps in which a party sends a message."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pytest_bdd import given, parsers, step, when

from broker.client.seed import seed_of
from tests.exchange.first_lane import event_of
from tests.scenarios.words import IDENTIFIER, MESSAGE, NAME, PARTIES, PARTY, SCHOOL
from tests.scenarios.world import REPLACED, Chain

Table = list[list[str]]

_WHAT = (
    rf"(?:an? |the )?(?P<what>{MESSAGE})(?: (?:for|of|about) (?P<who>{NAME}))?(?: at (?P<school>{SCHOOL}))?"
    rf"(?: by (?:her|his) (?P<by>{IDENTIFIER}))?(?: to (?P<receiver>{PARTY}))?"
)


def _made(chain: Chain, sender: str, datatable: Table | None, **words: str | None) -> Any:
    said = dict(datatable or [])
    school, receiver = words["school"], words["receiver"]
    return chain.event(
        PARTIES[sender],
        str(words["what"]),
        words["who"],
        said,
        by=words["by"],
        school=chain.brin(school) if school else None,
        receiver=PARTIES[receiver] if receiver else None,
    )


@step(parsers.re(rf"(?P<sender>{PARTY}) sends {_WHAT}"))
@given(parsers.re(rf"(?P<sender>{PARTY}) sent {_WHAT}"))
def sends(
    chain: Chain,
    sender: str,
    what: str,
    who: str | None,
    by: str | None,
    school: str | None,
    receiver: str | None,
    datatable: Table | None = None,
) -> None:
    """A message, decided at once. A table gives fields of it; school year, dated, sector and location are its envelope's."""
    made = _made(chain, sender, datatable, what=what, who=who, by=by, school=school, receiver=receiver)
    chain.exchange(PARTIES[sender], made)


@given(parsers.re(rf"(?P<sender>{PARTY}) has {_WHAT} under way"))
def under_way(
    chain: Chain,
    sender: str,
    what: str,
    who: str | None,
    by: str | None,
    school: str | None,
    receiver: str | None,
    datatable: Table | None = None,
) -> None:
    """Sealed and on its way to the broker, which did not yet look at it."""
    made = _made(chain, sender, datatable, what=what, who=who, by=by, school=school, receiver=receiver)
    chain.sent.append((PARTIES[sender], made))
    chain.under_way.append((PARTIES[sender], chain.record(PARTIES[sender], made)))


@when(parsers.re(rf"(?P<sender>{PARTY}) sends (?:an? )?(?P<what>{MESSAGE}) for the old number of (?P<who>{NAME})"))
def sends_for_old_number(chain: Chain, sender: str, what: str, who: str) -> None:
    """By the local id that she had before it was replaced."""
    event = chain.event(PARTIES[sender], what, who)
    person = chain.person(who)
    old = replace(person, seed=person.seed - REPLACED).local(event.school)
    chain.exchange(PARTIES[sender], replace(event, subject=replace(event.subject, user_ids=(old,))))


@when(
    parsers.re(
        rf"(?P<sender>{PARTY}) sends (?:an? )?(?P<what>{MESSAGE}) of (?P<who>{NAME}) under the number (?P<school>\w+)"
    )
)
def sends_under_number(chain: Chain, sender: str, what: str, who: str, school: str) -> None:
    """Naming a school by a number that it had."""
    chain.exchange(PARTIES[sender], replace(chain.event(PARTIES[sender], what, who), school=school))


@when(
    parsers.re(
        rf"(?P<sender>{PARTY}) sends (?:an? )?(?P<what>{MESSAGE}) of (?P<who>{NAME}) by the ECK iD of (?P<sector>PO|VO|MBO)"
    )
)
def sends_by_other_eck_id(
    chain: Chain, sender: str, what: str, who: str, sector: str, datatable: Table | None = None
) -> None:
    """By the ECK iD that she has, or had, in another sector."""
    event, person = chain.event(PARTIES[sender], what, who, dict(datatable or [])), chain.person(who)
    chain.exchange(PARTIES[sender], replace(event, subject=replace(event.subject, eck_id=person.eck_id(sector))))


@when(
    parsers.re(
        rf"(?P<sender>{PARTY}) sends (?:an? )?(?P<what>{MESSAGE}) of (?P<who>{NAME}) to a party that does not exist"
    )
)
def sends_to_nobody(chain: Chain, sender: str, what: str, who: str) -> None:
    """A name that no party has."""
    chain.exchange(PARTIES[sender], replace(chain.event(PARTIES[sender], what, who), receiver="niemand-bekend"))


@when(parsers.re(rf'(?P<sender>{PARTY}) sends (?:an? )?(?P<what>{MESSAGE}) of (?P<who>{NAME}), as "(?P<number>.+)"'))
def sends_as(chain: Chain, sender: str, what: str, who: str, number: str) -> None:
    """By another local id of hers."""
    event = chain.event(PARTIES[sender], what, who)
    chain.exchange(PARTIES[sender], replace(event, subject=replace(event.subject, user_ids=(("LAS_KEY", number),))))


@when("the broker takes up what is under way")
def take_up(chain: Chain) -> None:
    """The broker decides over it now."""
    for party, record in chain.under_way:
        chain.run(party, record)
    chain.under_way.clear()
    chain.wake()


@when(parsers.re(rf"(?P<sender>{PARTY}) sends that (?P<again>once more|again to (?P<receiver>{PARTY}))"))
def once_more(chain: Chain, sender: str, again: str, receiver: str | None) -> None:
    """The same message: once more under the same number, or for one receiver under a new one."""
    event = next(e for party, e in reversed(chain.sent) if party == PARTIES[sender])
    if receiver is not None:
        event = replace(event, receiver=PARTIES[receiver], event_id=_new_id(chain))
    chain.exchange(PARTIES[sender], event)


@step(parsers.re(rf"(?P<sender>{PARTY}) answers the request for all current data"))
def answers_seed(chain: Chain, sender: str) -> None:
    """What it sent so far, with the client's own function; the request is what it read last."""
    request = event_of(chain.last_read[PARTIES[sender]])
    own = [event for party, event in chain.sent if party == PARTIES[sender]]
    for event in seed_of(request, own):
        chain.exchange(PARTIES[sender], replace(event, created=chain.now))


def _new_id(chain: Chain) -> str:
    from tests.scenarios.bodies import number

    return number(900_000 + len(chain.sent))
