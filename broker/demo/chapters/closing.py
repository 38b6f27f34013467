"""The year ends: a credit, and a pupil who leaves."""

from __future__ import annotations

from dataclasses import replace

from broker.client import AssessmentResult, Identity, Order, Roster
from broker.demo import story
from broker.demo.chain import Told
from broker.demo.story import new_id
from broker.demo.telling import Chapter, Year


async def play(year: Year) -> Chapter:
    """Accounts are settled without a pupil; who left stops flowing, but what closes his affairs still passes."""
    chapter = Chapter("July", "the year is settled")
    credit, credited = await _credit(year)
    leaver = year.pupil(story.PO_SCHOOL, "PO", 4)
    yesterday = year.days(-1)
    left = await year.chain.send_all(story.SIS, [
        (f"{leaver.given_name} left yesterday", year.event("LEAVE", leaver, Identity(left_on=yesterday))),
        ("… and is off the roster", year.event("LEAVE", leaver, Roster())),
    ])  # fmt: skip
    body = AssessmentResult(
        result_id=new_id(), product_id=story.NORM_TEST, assessment_id="TAAL-E6", assessment_date=yesterday,
        result_type="SKILL_SCORE", scale="taal", value="84",
    )  # fmt: skip
    of_before = year.event("RESULT", leaver, body, by=leaver.chain)
    of_after = year.event(
        "RESULT", leaver, replace(body, result_id=new_id(), assessment_date=year.today), by=leaver.chain
    )
    late = await year.chain.send_all(story.TEST_PUBLISHER, [
        ("a test of the day before", of_before),
        ("a test of the day after", of_after),
    ])  # fmt: skip
    chapter.said = [
        "Too many books came: the shop asks a credit, by line. A pupil leaves: from then on nothing new about him",
        "passes, but a result that was still on its way is not lost.",
    ]
    chapter.shown = [credit, credited, *left, *late]
    return chapter


async def _credit(year: Year) -> tuple[Told, Told]:
    line = year.orders["line"].event
    assert isinstance(line.body, Order)  # noqa: S101 - for the type checker
    shared = {"order_id": line.body.order_id, "product_id": line.body.product_id, "material": "PAPER", "quantity": 2}
    asked = Order(**shared, revision=2, reason_code="ORDERED_BY_MISTAKE", purchase_order_id="BH-2207")  # type: ignore[arg-type]
    credit = await year.chain.send(
        story.SHOP, "2 workbooks too many: a credit", year.about_nobody("CREDIT", line.school, line.sector, asked)
    )
    given = Order(**shared, revision=3, reason_code="COMPLETE", in_answer_to=credit.event.event_id)  # type: ignore[arg-type]
    answer = year.about_nobody("CREDITED", line.school, line.sector, given, correlation=credit.event.event_id)
    return credit, await year.chain.send(story.PUBLISHER, "… is given", answer)
