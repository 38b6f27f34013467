"""Steps about days and people: who is where, what the school says of them, who comes and goes."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, time
from typing import Any

from pytest_bdd import given, parsers, step, when

from tests.scenarios.words import DAY, NAME, PRODUCTS, SCHOOL, day, listed
from tests.scenarios.world import REPLACED, Chain, Person

_SECTORS = {
    " in special secondary education": "VO",
    " in vavo": "VO",
}
_WHERE = rf"(?P<school>{SCHOOL})(?P<part> in special secondary education| in vavo)?"
_NAMES = rf"{NAME}(?:(?:, | and ){NAME})*"
Table = list[list[str]]


def _days(when_: date) -> int:
    return (when_ - date(1970, 1, 1)).days


# ---- days


@step(parsers.re(rf"it is (?P<when_>{DAY})"))
@step(parsers.re(rf"it becomes (?P<when_>{DAY})"))
def it_becomes(chain: Chain, when_: str) -> None:
    """Time passes; all parties' lanes notice."""
    chain.become(day(when_))


@step(parsers.re(rf"it becomes (?P<when_>{DAY}) at (?P<at>\d\d:\d\d)"))
def it_becomes_at(chain: Chain, when_: str, at: str) -> None:
    """A time in the Netherlands."""
    chain.become(day(when_), time.fromisoformat(at))


# ---- pupils and teachers


@given(parsers.re(rf"(?P<names>{_NAMES}) (?:is a pupil|are pupils) of {_WHERE}(?P<eck> without an ECK iD)?"))
def is_a_pupil(chain: Chain, names: str, school: str, part: str | None, eck: str | None) -> None:
    """Enrolled, with an ECK iD."""
    for name in listed(names):
        person = _introduce(chain, name, school, part)
        person.with_eck_id = eck is None
        chain.identity(person, "ENROL", chain.brin(school))


@given(parsers.re(rf"(?P<name>{NAME}) is a teacher of {_WHERE}"))
def is_a_teacher(chain: Chain, name: str, school: str, part: str | None) -> None:
    """Known by an employee number."""
    person = _introduce(chain, name, school, part, "EMPLOYEE")
    chain.identity(person, "ENROL", chain.brin(school))


@given(parsers.re(rf"(?P<names>{_NAMES}) will come to {_WHERE}"))
@given(parsers.re(rf"(?P<names>{_NAMES}) is at {_WHERE}, which has not told of (?:her|him) yet"))
def will_come(chain: Chain, names: str, school: str, part: str | None) -> None:
    """In the story, not yet in the vault."""
    for name in listed(names):
        kind = "EMPLOYEE" if " " in name else "PUPIL"
        _introduce(chain, name, school, part, kind)


@when(parsers.re(rf"(?:the SIS|SIS Zuid) enrols (?P<name>{NAME}) at {_WHERE}"))
def enrols(chain: Chain, name: str, school: str, part: str | None) -> None:
    """The administration tells of an enrolment."""
    person = _introduce(chain, name, school, part, chain.people[name].kind if name in chain.people else "PUPIL")
    chain.identity(person, "ENROL", chain.brin(school))


@step(parsers.re(rf"(?P<name>{NAME}) leaves (?P<school>{SCHOOL}) on (?P<last>{DAY})"))
def leaves(chain: Chain, name: str, school: str, last: str) -> None:
    """The administration tells of the last day."""
    chain.identity(chain.person(name), "LEAVE", chain.brin(school), left_on=_days(day(last)))


@when(parsers.re(rf"the SIS replaces (?P<name>{NAME})'s local id at (?P<school>{SCHOOL})"))
def replaces(chain: Chain, name: str, school: str) -> None:
    """New numbers in the administration, the same pupil; the ECK iD stays."""
    person, brin = chain.person(name), chain.brin(school)
    before = [person.local(brin, t) for t in ("LAS_KEY", "LEERLINGNUMMER", "NL_EDU_PERSON_REAL_ID")]
    person.seed += REPLACED
    chain.identity(person, "REPLACE", brin, before=before)


@when(parsers.re(rf'the SIS enrols (?P<name>{NAME}) at (?P<school>{SCHOOL}) under the number "(?P<number>.+)"'))
def enrols_under_a_number(chain: Chain, name: str, school: str, number: str) -> None:
    """A number of the state, where a local id should be."""
    person = chain.people.get(name) or _introduce(chain, name, school, None)
    chain.identity(person, "ENROL", chain.brin(school), ids=[("LAS_KEY", number)])


@given(parsers.re(rf"(?P<name>{NAME}) gets an ECK iD"))
def gets_eck_id(chain: Chain, name: str) -> None:
    """The Nummervoorziening answered: the enrolment is completed."""
    person = chain.person(name)
    person.with_eck_id = True
    chain.identity(person, "CHANGE", list(person.at)[-1])


@given(parsers.re(rf"(?P<school>{SCHOOL}) also has pupils in (?P<sector>PO|VO|MBO)"))
def another_sector(chain: Chain, school: str, sector: str) -> None:
    """The sector belongs to the enrolment; a school can have several."""
    key = f"school/{chain.brin(school)}"
    chain.change(key, sectors=[*chain.document(key)["sectors"], sector])


@given(parsers.re(rf'(?P<school>{SCHOOL}) says that its local ids look like "(?P<form>.+)"'))
def local_id_form(chain: Chain, school: str, form: str) -> None:
    """A declared form is not taken for a number of the state."""
    chain.change(f"school/{chain.brin(school)}", local_id_form=form)


@given(parsers.re(rf'the SIS enrolled (?P<name>{NAME}) at (?P<school>{SCHOOL}) once more, as "(?P<number>.+)"'))
def enrolled_twice(chain: Chain, name: str, school: str, number: str) -> None:
    """A second enrolment of the same pupil, under another local id and without an ECK iD."""
    chain.person(name).second_id = number
    chain.identity(
        replace(chain.person(name), with_eck_id=False), "ENROL", chain.brin(school), ids=[("LAS_KEY", number)]
    )


@when(parsers.re(rf"the SIS makes the two enrolments of (?P<name>{NAME}) at (?P<school>{SCHOOL}) one"))
def merges(chain: Chain, name: str, school: str) -> None:
    """They are one pupil; both local ids lead to her."""
    chain.identity(chain.person(name), "MERGE", chain.brin(school), before=[("LAS_KEY", chain.person(name).second_id)])


@step(parsers.re(rf"the school says of (?P<name>{NAME})"))
def the_school_says(chain: Chain, name: str, datatable: Table) -> None:
    """Flags by which the broker decides, and consents of the parents."""
    person = chain.person(name)
    contact: dict[str, bool | None] = {"school_account": None, "parents_informed": None, "objection": None}
    fields: dict[str, Any] = {}
    for words, text in datatable:
        if words == "consent for":
            products = [] if text == "nothing" else [PRODUCTS[text]]
            fields["consents"] = [{"product_id": p, "reference": "formulier-12"} for p in products]
        elif words == "under 16":
            fields["under_16"] = text == "yes"
        else:
            contact[words.replace(" ", "_")] = text == "yes"
            fields["contact_flags"] = contact
    chain.identity(person, "CHANGE", list(person.at)[-1], **fields)


def _introduce(chain: Chain, name: str, school: str, part: str | None, kind: str = "PUPIL") -> Person:
    return chain.introduce(name, chain.brin(school), kind, _SECTORS.get(part or ""))
