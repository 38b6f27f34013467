"""Ordering: the school orders at the shop, the shop at the publisher, and the answers come back."""

from __future__ import annotations

from typing import Any

from broker.client import Event, HomeAddress, Order
from broker.demo import story
from broker.demo.story import Person, new_id
from broker.demo.telling import Chapter, Year

ADDRESS = HomeAddress(street="Dorpsstraat", house_number="12", postal_code="1234 AB", city="Ons Dorp")


async def play(year: Year) -> Chapter:
    """Digital lines carry the ECK iD, paper lines a pseudonym; the publisher hears of no pupil at all."""
    chapter = Chapter("June", "the schools order")
    vo, po = year.pupil(story.VO_SCHOOL, "VO"), year.pupil(story.PO_SCHOOL, "PO")
    vso, mbo = year.pupil(story.PO_SCHOOL, "VO"), year.pupil(story.MBO_SCHOOL, "MBO")
    at_home = _order(year, vo, story.WORKBOOK, "PAPER", delivery="HOME")
    orders = await year.chain.send_all(story.SIS, [
        (f"digital book for {vo.given_name} (VO)", _order(year, vo, story.BOOK, "DIGITAL")),
        (f"paper workbook for {vo.given_name}, to her home", at_home),
        ("her address, for the parcel", _address(year, vo, at_home)),
        (f"digital book for {po.given_name} (PO)", _order(year, po, story.BOOK, "DIGITAL")),
        (f"a home address in PO, {po.given_name}'s", _address(year, po)),
        (f"paper workbook for {vso.given_name} (VSO)", _order(year, vso, story.WORKBOOK, "PAPER", delivery="SCHOOL")),
    ])  # fmt: skip
    student = _order(year, mbo, story.TRADE_BOOK, "DIGITAL")
    orders.append(await year.chain.send(story.MBO_SIS, f"digital trade book for {mbo.given_name} (MBO)", student))
    year.orders = {"digital": orders[0], "home": orders[1], "po": orders[3]}
    chapter.said = [
        "The administration orders for each pupil; nobody else may. A digital line carries the ECK iD, since the login",
        "is matched with it later. A paper line must not (the law allows it for digital material only).",
    ]
    chapter.shown = [*orders, *await _at_the_publisher(year), *await _answers_to_the_school(year)]
    chapter.ending = [
        "A parcel comes home in VO and MBO only: in PO the policy lets no address pass, so that event has no point.",
        "From the shop on there is no pupil: the publisher reads an amount.",
    ]
    return chapter


async def _at_the_publisher(year: Year) -> list[Any]:
    """The shop's line at the publisher, confirmed and shipped."""
    line = _line(year, "LINE", quantity=24, price="12.50", delivery_location="99VA01", purchase_order_id="BH-2207")
    ordered = await year.chain.send(story.SHOP, "24 workbooks, at the publisher", line)
    year.orders["line"] = ordered
    confirmed = _answer(year, ordered.event, "CONFIRMED", 1, reason_code="ACCEPTED", sales_order_id="DL-9001")
    shipped = _answer(
        year, ordered.event, "SHIPPED", 2, reason_code="COMPLETE", quantity=24, shipped_on=year.today,
        sales_order_id="DL-9001",
    )  # fmt: skip
    answers = [("the publisher's answer", confirmed), ("the books are on their way", shipped)]
    return [ordered, *await year.chain.send_all(story.PUBLISHER, answers)]


async def _answers_to_the_school(year: Year) -> list[Any]:
    """The shop tells the school; it knows the pupil of the digital line by ECK iD, of the paper line by no name."""
    digital, home = year.orders["digital"].event, year.orders["home"].event
    subject = year.orders["digital"].arrived[story.SHOP].event.subject
    return await year.chain.send_all(story.SHOP, [
        ("the shop confirms the book", _answer(year, digital, "CONFIRMED", 1, by=subject, reason_code="ACCEPTED")),
        ("the shop has sent the parcel", _answer(year, home, "SHIPPED", 1, reason_code="COMPLETE", quantity=1)),
    ])  # fmt: skip


def _order(year: Year, person: Person, product: str, material: str, **more: Any) -> Event:
    if material == "DIGITAL":
        more |= {"start_date": year.today, "end_date": year.days(300)}
    body = Order(order_id=new_id(), product_id=product, material=material, quantity=1, **more)
    return year.event("ORDER", person, body)


def _address(year: Year, person: Person, order: Event | None = None) -> Event:
    """The address for an order that was sent before, or for all of a purchase."""
    before = None if order is None else order.body
    body = Order(
        order_id=before.order_id if isinstance(before, Order) else new_id(), revision=1 if before is None else 2,
        product_id=story.WORKBOOK, material="PAPER", delivery="HOME", home_address=ADDRESS,
        given_name=person.given_name, family_name_prefix=person.prefix, family_name=person.family_name,
    )  # fmt: skip
    return year.event("DELIVERY_ADDRESS", person, body)


def _line(year: Year, kind: str, **fields: Any) -> Event:
    body = Order(**{"order_id": new_id(), "product_id": story.WORKBOOK, "material": "PAPER", **fields})
    return year.about_nobody(kind, story.VO_SCHOOL, "VO", body)


def _answer(year: Year, to: Event, kind: str, revision: int, *, by: Any = None, **fields: Any) -> Event:
    """The answer to an order: it repeats the order's id, and says which event it answers."""
    assert isinstance(to.body, Order)  # noqa: S101 - for the type checker
    body = Order(
        order_id=to.body.order_id, revision=revision, product_id=to.body.product_id, material=to.body.material,
        in_answer_to=to.event_id, **fields,
    )  # fmt: skip
    about = {} if by is None else {"subject": by}
    return year.about_nobody(kind, to.school, to.sector, body, correlation=to.event_id, **about)
