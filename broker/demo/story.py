"""Who plays in the demo, and a day of usage. People and parties are invented; numbers are published test numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import NAMESPACE_URL, uuid4, uuid5

from broker.client import Event, Identity, Progress, Subject, Usage, pupil
from broker.connectors import edexml
from broker.connectors.xml_reader import elements
from broker.data import data_path

PO_SCHOOL: Final = "99PA"
VO_SCHOOL: Final = "99VA"
MBO_SCHOOL: Final = "99MA"
SIS: Final = "sis-noord"
MBO_SIS: Final = "sis-zuid"
PUBLISHER: Final = "uitgeverij-delta"
TEST_PUBLISHER: Final = "uitgeverij-west"
STRANGER: Final = "uitgeverij-oost"
PORTAL: Final = "portaal-plein"
SHOP: Final = "winkel-boekhuis"
SUPPORT: Final = "hulp-extern"
BOOK: Final = "8717927130834"
WORKBOOK: Final = "9789493113862"
LANGUAGE: Final = "2099000000019"
LEGAL_TEST: Final = "2099000000026"
NORM_TEST: Final = "2099000000033"
TRADE_BOOK: Final = "2099000000040"
UNKNOWN_BOOK: Final = "9780306406157"
TEST_BSN: Final = "182071649"  # published test number; belongs to nobody
LATECOMER: Final = "L0029"
PROGRESS_EVERY: Final = 4
HYBRID_EVERY: Final = 5


@dataclass(frozen=True, slots=True)
class ClassList:
    """A class list of the demo: of one school and sector, since the sector belongs to the enrolment."""

    school: str
    sector: str
    sis: str
    file: Path


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody of a class list, as the school's own administration knows him."""

    school: str
    sector: str
    key: str
    eck_id: str | None
    given_name: str
    prefix: str | None
    family_name: str
    birth_date: date | None
    group: str | None
    year_group: str | None

    @property
    def local(self) -> Subject:
        """As the administration speaks of a pupil."""
        return pupil(las_key=self.key)

    @property
    def chain(self) -> Subject:
        """As the others in the chain speak of a pupil."""
        return pupil(eck_id=self.eck_id)


def class_lists() -> tuple[ClassList, ...]:
    """The class lists that come with the package."""
    folder = data_path("examples") / "edexml"
    return (
        ClassList(PO_SCHOOL, "PO", SIS, folder / "po-de-regenboog.xml"),
        ClassList(PO_SCHOOL, "VO", SIS, folder / "po-de-regenboog-vso.xml"),
        ClassList(VO_SCHOOL, "VO", SIS, folder / "vo-het-kompas.xml"),
        ClassList(MBO_SCHOOL, "MBO", MBO_SIS, folder / "mbo-de-werf.xml"),
    )


def people(class_list: ClassList, element: str = "leerling") -> list[Person]:
    """The pupils of a class list (or, with `leerkracht`, its staff), with their names.

    The connector reads no names, since the broker needs none; here speaks the administration, which has them.
    """
    found: list[Person] = []
    texts: dict[str, str] = {}
    groups: list[str] = []
    for moment, node, _ in elements(class_list.file, edexml.Limits()):
        if moment == "start" and node.tag == element:
            texts, groups = {}, []
        elif moment == "end" and node.tag == element:
            birth = texts.get("geboortedatum")
            found.append(
                Person(
                    class_list.school, class_list.sector, node.get("key") or "", node.get("eckid"),
                    texts["roepnaam"], texts.get("voorvoegsel"), texts["achternaam"],
                    date.fromisoformat(birth) if birth else None, next(iter(groups), None), texts.get("jaargroep"),
                )
            )  # fmt: skip
        elif moment == "end" and node.tag == "groep" and node.get("key"):
            groups.append(node.get("key") or "")
        elif moment == "end" and node.text:
            texts[str(node.tag)] = node.text
    return found


def usage_day(lists: tuple[ClassList, ...], now: datetime) -> Iterator[Event]:
    """A day of usage at the publisher: everybody starts a licence and works with it, some report progress.

    The publisher knows most pupils by ECK iD; some only by the school's LAS key (the hybrid period, R13).
    """
    for class_list in lists:
        for number, enrolment in enumerate(edexml.pupils(class_list.file)):
            local = pupil(las_key=enrolment.las_key)
            by_eck_id = enrolment.eck_id is not None and number % HYBRID_EVERY != 0
            subject = pupil(eck_id=enrolment.eck_id) if by_eck_id else local
            licence = str(uuid5(NAMESPACE_URL, f"{class_list.school}/{class_list.sector}/{number}/licence"))
            first = Event(
                kind="ACTIVATION", school=class_list.school, sector=class_list.sector, subject=subject,
                created=now - timedelta(minutes=90 - number),
                body=Usage(
                    entitlement_id=licence, product_id=BOOK, usage_type="INITIAL_ACTIVATION", usage_date=now.date(),
                    first_used=now.date(), expiration_date=(now + timedelta(days=240)).date(),
                    activation_code=f"DEMO-{number:04}", group_id=next(iter(enrolment.group_keys), None),
                ),
            )  # fmt: skip
            yield first
            yield _use(first, now, number)
            if number % PROGRESS_EVERY == 0:
                yield _progress(first, now)


def _use(first: Event, now: datetime, number: int) -> Event:
    body = Usage(
        entitlement_id=_usage(first).entitlement_id, product_id=BOOK, usage_type="WEEKLY_USAGE", usage_date=now.date(),
        last_used=now.date(), frequency=1 + number % 7, year_group="7",
    )  # fmt: skip
    return replace(first, kind="USE", body=body, event_id=new_id(), created=now - timedelta(minutes=30))


def _progress(first: Event, now: datetime) -> Event:
    body = Usage(
        entitlement_id=_usage(first).entitlement_id, product_id=BOOK, usage_type="UNIQUE_USAGE",
        progress=Progress(status="STARTED", assignable_unit_id="hoofdstuk-3", at=now),
        progress_note="Heeft moeite met breuken; graag samen bekijken.", progress_follow_up=True,
    )  # fmt: skip
    return replace(first, kind="PROGRESS", body=body, event_id=new_id(), created=now - timedelta(minutes=5))


def _usage(event: Event) -> Usage:
    assert isinstance(event.body, Usage)  # noqa: S101 - for the type checker; `usage_day` makes nothing else
    return event.body


def new_id() -> str:
    """A new event id."""
    return str(uuid4())


def mistakes(example: Event) -> dict[str, Event]:
    """What goes wrong on a day like any other. `example` is a good USE event."""
    body = _usage(example)
    return {
        "a school of somebody else": replace(example, event_id=new_id(), school="99ZZ"),
        "a product that nobody agreed on": replace(
            example, event_id=new_id(), body=replace(body, product_id=UNKNOWN_BOOK)
        ),
        "an ECK iD that the school does not know": replace(
            example, event_id=new_id(), subject=pupil(eck_id=f"https://ketenid.nl/pilot/{'0' * 128}")
        ),
        "the same event once more": example,
    }


def early_bird(now: datetime) -> Event:
    """Usage of a pupil whose enrolment comes only later in the day: it waits."""
    return Event(
        kind="ACTIVATION", school=PO_SCHOOL, sector="PO", subject=pupil(las_key=LATECOMER), created=now,
        body=Usage(
            entitlement_id=str(uuid5(NAMESPACE_URL, "latecomer")), product_id=BOOK, usage_type="INITIAL_ACTIVATION",
            usage_date=now.date(),
        ),
    )  # fmt: skip


def enrolment_of_latecomer(now: datetime) -> Event:
    """The SIS enrols that pupil."""
    eck_id = "https://ketenid.nl/pilot/" + "5a" * 64
    return Event(
        kind="ENROL", school=PO_SCHOOL, sector="PO", created=now,
        subject=Subject("PUPIL", eck_id, (("LAS_KEY", LATECOMER),)), body=Identity(),
    )  # fmt: skip


def today() -> datetime:
    """Now, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)
