"""Results: booked by the school, seen by external support under a pseudonym of its own, corrected, refused."""

from __future__ import annotations

from dataclasses import replace

from broker.client import AssessmentResult, Event
from broker.demo import story
from broker.demo.chain import Told
from broker.demo.story import new_id
from broker.demo.telling import Chapter, Year


async def play(year: Year) -> Chapter:
    """A result, its receipt and its correction; one with a state number in a comment; one of vocational education."""
    chapter = Chapter("January", "results of a test")
    pupil = year.pupil(story.PO_SCHOOL, "PO", 3)
    body = AssessmentResult(
        result_id=new_id(), product_id=story.NORM_TEST, assessment_id="REK-M6", assessment_date=year.today,
        result_type="SKILL_SCORE", scale="rekenen", value="221", final=True, year_group="6",
        comment="Was snel afgeleid.",
    )  # fmt: skip
    result = year.event("RESULT", pupil, body, by=pupil.chain)
    first = await year.chain.send(story.TEST_PUBLISHER, f"{pupil.given_name}'s result", result)
    receipt = AssessmentResult(
        result_id=body.result_id, product_id=body.product_id, receipt="BOOKED", in_answer_to=result.event_id
    )
    booked = year.about_nobody("RECEIPT", pupil.school, pupil.sector, receipt, correlation=result.event_id)
    receipt_told = await year.chain.send(story.SIS, "the administration has booked it", booked)
    corrected = replace(body, revision=2, value="226", reason_code="SCORED_AGAIN", comment=None)
    correction = year.event("CORRECTION", pupil, corrected, by=pupil.chain)
    number = replace(body, result_id=new_id(), comment=f"Leerling {story.TEST_BSN} was snel afgeleid.")
    later = await year.chain.send_all(story.TEST_PUBLISHER, [
        ("its correction", correction),
        ("the first version once more, too late", replace(correction, event_id=new_id())),
        ("a comment with a BSN in it", year.event("RESULT", pupil, number, by=pupil.chain)),
        ("an MBO result with an irregularity", _vocational(year)),
    ])  # fmt: skip
    chapter.said = [
        "School and portal know the pupil by ECK iD. External support staff stand outside the covenant: they get a",
        f"pseudonym of their own, which nobody can lay beside another's ({_pseudonyms(year, first)}).",
    ]
    chapter.shown = [first, receipt_told, *later]
    chapter.ending = [
        "A BSN in free text is an incident: the event stands in quarantine, sealed for its sender and the operator.",
        "The control log names the field, not the number.",
    ]
    return chapter


def _vocational(year: Year) -> Event:
    student = year.pupil(story.MBO_SCHOOL, "MBO", 1)
    body = AssessmentResult(
        result_id=new_id(), product_id=story.TRADE_BOOK, assessment_id="TECH-2", assessment_date=year.today,
        result_type="GRADE_1_10", value="6.4", irregularities="Telefoon op tafel.",
    )  # fmt: skip
    return year.event("RESULT", student, body, by=student.chain)


def _pseudonyms(year: Year, result: Told) -> str:
    """The same person at two parties outside the digital line: two pseudonyms without likeness."""
    support = result.arrived[story.SUPPORT].event.subject.user_ids[0][1]
    shop = year.orders["home"].arrived[story.SHOP].event.subject.user_ids[0][1]
    return f"here {support[:8]}…, at the shop in June {shop[:8]}…"
