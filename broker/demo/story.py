"""What happens on the demo's school day. People and parties are invented; numbers are published test numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import NAMESPACE_URL, uuid4, uuid5

from broker.client import Event, Identity, Progress, Subject, Usage, pupil
from broker.connectors import edexml
from broker.data import data_path

PO_SCHOOL: Final = "99PA"
VO_SCHOOL: Final = "99VA"
SIS: Final = "sis-noord"
PUBLISHER: Final = "uitgeverij-delta"
STRANGER: Final = "uitgeverij-oost"
PORTAL: Final = "portaal-plein"
SHOP: Final = "winkel-boekhuis"
AUDITOR: Final = "auditor"
BOOK: Final = "8717927130834"
UNKNOWN_BOOK: Final = "9780306406157"
TEST_BSN: Final = "182071649"  # published test number; belongs to nobody
LATECOMER: Final = "L0029"
PROGRESS_EVERY: Final = 4
HYBRID_EVERY: Final = 5


@dataclass(frozen=True, slots=True)
class ClassList:
    """A school's class list of the demo."""

    school: str
    sector: str
    file: Path


def class_lists() -> tuple[ClassList, ClassList]:
    """The two class lists that come with the package."""
    folder = data_path("examples") / "edexml"
    return (
        ClassList(PO_SCHOOL, "PO", folder / "po-de-regenboog.xml"),
        ClassList(VO_SCHOOL, "VO", folder / "vo-het-kompas.xml"),
    )


def usage_day(lists: tuple[ClassList, ...], now: datetime) -> Iterator[Event]:
    """A day of usage at the publisher: everybody starts a licence and works with it, some report progress.

    The publisher knows most pupils by ECK iD; some only by the school's LAS key (the hybrid period, R13).
    """
    for class_list in lists:
        for number, enrolment in enumerate(edexml.pupils(class_list.file)):
            local = pupil(las_key=enrolment.las_key)
            by_eck_id = enrolment.eck_id is not None and number % HYBRID_EVERY != 0
            subject = pupil(eck_id=enrolment.eck_id) if by_eck_id else local
            licence = str(uuid5(NAMESPACE_URL, f"{class_list.school}/{number}/licence"))
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
        "a BSN in a note": replace(
            example, kind="PROGRESS", event_id=new_id(),
            body=replace(body, progress=Progress(status="STARTED"), progress_note=f"Leerling {TEST_BSN} belt terug"),
        ),
        "a school of somebody else": replace(example, event_id=new_id(), school="99ZZ"),
        "a product that nobody agreed on": replace(
            example, event_id=new_id(), body=replace(body, product_id=UNKNOWN_BOOK)
        ),
        "an ECK iD that the school does not know": replace(
            example, event_id=new_id(), subject=pupil(eck_id=f"https://ketenid.nl/pilot/{'0' * 128}")
        ),
        "the same event once more": example,
    }  # fmt: skip


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
        subject=Subject("PUPIL", eck_id, (("LAS_KEY", LATECOMER),)), body=Identity(enrolled_from=now.date()),
    )  # fmt: skip


def today() -> datetime:
    """Now, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)
