"""A supplier asks for more than it needs, and an administration gives in: the broker does not."""

from __future__ import annotations

from broker.demo import story
from broker.demo.chapters.roster import membership
from broker.demo.telling import Chapter, Year


async def play(year: Year) -> Chapter:
    """Everything the administration has is filled in; what passes is decided by policy and agreement alone."""
    chapter = Chapter("October", "a supplier asks for everything")
    pupil = year.pupil(story.PO_SCHOOL, "PO", 1)
    everything = membership(
        pupil, product_id=story.LANGUAGE, initials="E.", birth_date=pupil.birth_date, gender="MALE",
        start_year_3=year.days(-1500), school_email="emir@regenboog.example", school_username="emir",
        private_email="emir@mail.example", parent_email="ouder@mail.example", location="99PA00",
    )  # fmt: skip
    told = await year.chain.send(
        story.SIS, f"all there is to know of {pupil.given_name}", year.event("MEMBERSHIP", pupil, everything)
    )
    chapter.said = [
        "Uitgeverij West wants “the complete export, that is handiest” for its language course, and the administration",
        "fills in all it has. The event is not refused: each receiver gets what it may have, and the rest is left out.",
    ]
    chapter.shown = [told]
    return chapter
