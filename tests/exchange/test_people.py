"""Whom an event may be about, and whom it may name beside that: pupils and employees of the event's own school."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest

from broker.client import Subject
from broker.data import data_path
from broker.exchange import Decision
from broker.schemas import catalogue
from tests.exchange.bodies import body
from tests.exchange.open_world import EMPLOYEE, PUPIL, SCHOOL, open_world, subject_of
from tests.exchange.route_table import between_parties
from tests.exchange.world import EMMA, NOAH, TEACHER, World, enrolment

DOCUMENTS = {
    path.stem.partition(".")[0]: json.loads(path.read_text("utf-8"))
    for path in sorted((data_path("schemas") / "avro").glob("*.avsc"))
}
WHO = {
    (family, kind): rules["who"]
    for family, document in DOCUMENTS.items()
    for kind, rules in document.get("kinds", {}).items()
    if "who" in rules
}
# Fields of bodies that name a person, by what they hold.
NAMING = {"teacherEckId": TEACHER, "employeeNumber": "E1"}
FIELDS = [
    (family, field["name"])
    for family, document in DOCUMENTS.items()
    for field in document["fields"]
    if "kinds" in document and field.get("attribute") in NAMING
]


def decide(world: World, family: str, kind: str, subject: Subject, **said: Any) -> list[Decision]:
    """What a party gets that may send this."""
    _, _, role, _ = next(cell for cell in between_parties() if cell[:2] == (family, kind))
    sender = f"{role.lower()}-a"
    record = world.made(sender, family, kind, body(family, kind, **said), subject, school=SCHOOL, sector="VO")
    return world.step(sender, [record]).decisions


def codes(decisions: list[Decision]) -> set[str]:
    """Their codes; whether the order was checked is no matter here."""
    return {decision.code.removesuffix(".unchecked") for decision in decisions}


@pytest.fixture(scope="module")
def world() -> World:
    """Everything is granted."""
    return open_world()


def test_a_kind_that_is_about_a_pupil_is_not_about_an_employee_and_the_other_way_round(world: World) -> None:
    """As the family's schema says; a result of a teacher, or a pupil who teaches, is a mistake of the sender."""
    assert {"PUPIL", "EMPLOYEE"} == set(WHO.values())
    for (family, kind), who in WHO.items():
        for subject in (PUPIL, EMPLOYEE):
            expected = "ok" if subject.kind == who else "subject.kind"
            assert codes(decide(world, family, kind, subject)) == {expected}, (family, kind)


def test_an_employee_under_a_pupils_id_is_a_conflict(world: World) -> None:
    """What the vault knows of the id decides, not what the sender calls somebody."""
    for subject in (Subject("EMPLOYEE", EMMA), Subject("PUPIL", TEACHER)):
        assert codes(decide(world, "usage", "USE", subject)) == {"subject.conflict"}


NOT_OURS = {
    "teacherEckId": {"unknown": "https://ketenid.nl/pilot/" + "0" * 128, "a pupil": EMMA, "of another school": NOAH},
    "employeeNumber": {"unknown": "E999", "a pupil": "L0001", "of another school": "E2"},
}


@pytest.mark.parametrize(
    ("field", "why"), list(product(sorted({name for _, name in FIELDS}), NOT_OURS["teacherEckId"]))
)
def test_whom_a_body_names_must_be_an_employee_of_this_school(field: str, why: str) -> None:
    """Else any number would go to the receivers. Unknown and of another school are one answer (promise P8), and
    nothing waits for him."""
    world = open_world()
    other = Subject("EMPLOYEE", NOAH, (("MEDEWERKERNUMMER", "E2"),))
    school = json.loads(world.records[f"school/{SCHOOL}"]) | {"id": "99VB", "locations": []}
    world.registry = world.registry.with_changes({"school/99VB": json.dumps(school).encode()})
    assert codes(world.send("sis-a", enrolment(school="99VB", sector="VO", subject=other))) == {"ok.vault"}
    tried = 0
    for family in (name for name, its_field in FIELDS if its_field == field):
        attribute = next(f.attribute for f in catalogue().family(family).schema.fields if f.name == field) or ""
        kinds = [k.name for k in catalogue().family(family).kinds.values() if field not in k.unused]
        for kind in kinds:
            said: dict[str, Any] = {field: NOT_OURS[attribute][why]}
            decisions = decide(world, family, kind, subject_of(family, kind), **said)
            assert [(d.code, d.field, d.receiver) for d in decisions] == [("subject.unknown", field, None)]
            right: dict[str, Any] = {field: NAMING[attribute]}
            assert codes(decide(world, family, kind, subject_of(family, kind), **right)) == {"ok"}
            tried += 1
    assert tried


def test_an_eck_id_in_a_body_has_the_form_of_one(world: World) -> None:
    """A field of that class holds nothing else: no name, no number."""
    for text in ("juf Anna", "E1", "https://id.school/pilot/" + "0" * 128):
        said: dict[str, Any] = {"teacher_eck_id": text}
        (decision,) = decide(world, "result", "RESULT", PUPIL, **said)
        assert (decision.code, decision.field) == ("identifier.form", "teacher_eck_id")
