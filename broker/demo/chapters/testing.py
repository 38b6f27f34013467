"""A legal test: the one product for which birth date, gender and initials pass."""

from __future__ import annotations

from datetime import date

from broker.client import AssessmentResult, Event, ReferenceLevel
from broker.demo import story
from broker.demo.chapters.roster import membership
from broker.demo.story import Person, new_id
from broker.demo.telling import Chapter, Year


async def play(year: Year) -> Chapter:
    """The same fields for the same publisher: with the test as product, without it, and in another sector."""
    chapter = Chapter("February", "the doorstroomtoets")
    oldest = [p for p in year.people[story.PO_SCHOOL, "PO"] if p.eck_id and p.year_group == "8"]
    pupil, vso = oldest[0], year.pupil(story.PO_SCHOOL, "VO", 1)
    told = await year.chain.send_all(story.SIS, [
        (f"{pupil.given_name} (PO) takes the legal test", _member(year, pupil, story.LEGAL_TEST)),
        ("the same fields, for the language course", _member(year, pupil, story.LANGUAGE)),
        (f"{vso.given_name} (VSO: rules of VO), the legal test", _member(year, vso, story.LEGAL_TEST)),
    ])  # fmt: skip
    result = AssessmentResult(
        result_id=new_id(), product_id=story.LEGAL_TEST, assessment_id="DST", assessment_date=year.today, final=True,
        advice=("VMBO_TL", "HAVO"), reference_levels=(ReferenceLevel(domain="READING", level="2F"),),
    )  # fmt: skip
    advice = year.event("RESULT", pupil, result, by=pupil.chain)
    told.append(await year.chain.send(story.TEST_PUBLISHER, "the test's advice", advice))
    chapter.said = [
        "The law asks initials, birth date and gender for this test.",
        "They pass to the test's publisher, for the product that its agreement calls a legal test, and nowhere else;",
        "birth date and gender in primary education only.",
    ]
    chapter.shown, chapter.focus = told, (story.TEST_PUBLISHER, story.SIS)
    return chapter


def _member(year: Year, person: Person, product: str) -> Event:
    body = membership(
        person, product_id=product, initials=f"{person.given_name[0]}.", gender="FEMALE",
        birth_date=person.birth_date or date(year.today.year - 12, 3, 4),
    )  # fmt: skip
    return year.event("MEMBERSHIP", person, body)
