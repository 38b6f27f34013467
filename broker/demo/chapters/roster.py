"""The roster: who is in which class, and who teaches it."""

from __future__ import annotations

from collections import Counter

from broker.client import Event, Roster, employee
from broker.demo import story
from broker.demo.chain import Told
from broker.demo.story import Person
from broker.demo.telling import Chapter, Counts, Year

LEVELS = {("99PA", "PO"): "BO", ("99PA", "VO"): "VSO", ("99VA", "VO"): "VO_HAVO", ("99MA", "MBO"): "MBO_3"}


async def play(year: Year) -> Chapter:
    """One class of each list, to portal, publishers and shop; each gets what its process needs."""
    chapter = Chapter("August", "the new classes")
    told: list[Told] = []
    for one in story.class_lists():
        told += await year.chain.send_all(one.sis, _class(year, one))
    receivers = Counter(receiver for t in told for receiver in t.arrived)
    chapter.said = [
        "Administrations send one class of each list: the group, its pupils, and who teaches it. One event; the broker",
        "makes of it what each receiver may have. The portal greets by name; the publisher gets a first letter.",
    ]
    kinds = Counter(t.event.kind for t in told)
    chapter.counts = Counts(
        ("sent", *receivers),
        [(", ".join(f"{n} {kind}" for kind, n in kinds.items()), *receivers.values())],
    )
    chapter.shown = [
        next(t for t in told if t.event.kind == "MEMBERSHIP"),
        next(t for t in told if t.event.kind == "SUBJECT_TAUGHT"),
    ]
    return chapter


def _class(year: Year, one: story.ClassList) -> list[tuple[str, Event]]:
    place = one.school, one.sector
    teacher = year.staff[place][0]
    group = year.people[place][0].group
    pupils = [person for person in year.people[place] if person.group == group]
    taught = Roster(
        group_id=group, school_subject_id="rekenen", teacher_name=f"{teacher.given_name} {teacher.family_name}",
        teacher_email=f"{teacher.key.lower()}@school.example",
    )  # fmt: skip
    about = Roster(group_id=group, group_name=f"Groep {group}", level=LEVELS[place])
    teaches = year.event("SUBJECT_TAUGHT", teacher, taught, by=employee(medewerkernummer=teacher.key))
    return [
        ("a group", year.about_nobody("GROUP", *place, about)),
        *((f"{p.given_name} is in {group}", year.event("MEMBERSHIP", p, membership(p))) for p in pupils),
        (f"{teacher.given_name} teaches {group}", teaches),
    ]


def membership(person: Person, **more: object) -> Roster:
    """What an administration tells of a pupil's place in school."""
    fields: dict[str, object] = {
        "group_ids": (person.group,) if person.group else (), "group_name": f"Groep {person.group}",
        "level": LEVELS[person.school, person.sector], "year_group": person.year_group,
        "given_name": person.given_name, "family_name_prefix": person.prefix, "family_name": person.family_name,
    }  # fmt: skip
    return Roster(**(fields | more))  # type: ignore[arg-type]
