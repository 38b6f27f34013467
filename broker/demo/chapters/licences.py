"""Licences: the shop grants them, publisher and portal confirm, the first login activates."""

from __future__ import annotations

from typing import Any

from broker.client import Event, Licence, Subject
from broker.demo import story
from broker.demo.chain import Told, together
from broker.demo.story import new_id
from broker.demo.telling import Chapter, Year


async def play(year: Year) -> Chapter:
    """A grant to publisher and portal, their confirmations, and the activation."""
    chapter = Chapter("Summer", "licences stand ready")
    order = year.orders["digital"]
    pupil = order.arrived[story.SHOP].event.subject
    body = Licence(
        entitlement_id=new_id(), product_id=story.BOOK, entitlement_type="SCHOOL_INDIVIDUAL", status="ENTITLED",
        start_date=year.today, expiration_date=year.days(300), activation_code="KOMPAS-7Q2M",
        order_id=getattr(order.event.body, "order_id", None),
    )  # fmt: skip
    grant = Event(
        kind="GRANT", school=order.event.school, sector=order.event.sector, created=year.now, body=body, subject=pupil
    )
    granted = await year.chain.send(story.SHOP, "a licence for the digital book", grant)
    confirmed = await together(
        year.chain.send(
            story.PUBLISHER, "the publisher has it ready", _answer(year, granted, "CONFIRM", "PROVISIONED")
        ),
        year.chain.send(story.PORTAL, "the portal shows the link", _answer(year, granted, "CONFIRM", "LINK_READY")),
    )
    activated = _answer(year, granted, "ACTIVATE", "ACTIVATED", revision=2, effective_at=year.now)
    chapter.said = [
        "The shop knows the pupil by the ECK iD of the order, and grants the licence under it.",
        "Publisher and portal know the same ECK iD from the login, so the licence is found without any name.",
    ]
    chapter.shown = [
        granted,
        *confirmed,
        await year.chain.send(story.PUBLISHER, "first login: activated", activated),
    ]
    return chapter


def _answer(year: Year, to: Told, kind: str, status: str, *, revision: int = 1, **fields: Any) -> Event:
    granted = to.event.body
    assert isinstance(granted, Licence)  # noqa: S101 - for the type checker
    body = Licence(
        entitlement_id=granted.entitlement_id, revision=revision, product_id=granted.product_id,
        entitlement_type=granted.entitlement_type, in_answer_to=to.event.event_id, status=status, **fields,
    )  # fmt: skip
    subject = Subject("PUPIL", to.event.subject.eck_id)
    return year.about_nobody(
        kind, to.event.school, to.event.sector, body, subject=subject, correlation=to.event.event_id
    )
