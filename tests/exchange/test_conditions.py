"""Attributes that pass only under conditions: of the line, of the delivery, of what the school says about a pupil.

A condition that is missing takes away exactly what hangs on it; what nobody said is not met; and whether a field is
filled in changes nothing at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import pytest
import yaml

from broker.client import Consent, ContactFlags, Identity, Subject
from broker.data import data_path
from broker.exchange import Outcome
from broker.exchange.model import Step
from broker.policy import CONDITIONS, SECTORS
from broker.schemas import catalogue
from tests.exchange.bodies import body
from tests.exchange.open_world import FREE, LEGAL, NORM, PUPIL, SCHOOL, agreement, open_world, subject_of
from tests.exchange.route_table import TABLE, between_parties
from tests.exchange.world import BOOK, EMMA, World, enrolment, evidence_in

Cell = tuple[str, str, str, str]
GOOD = ContactFlags(school_account=False, parents_informed=True, objection=False)


@dataclass(frozen=True)
class Person:
    """What the school says about Emma."""

    eck_id: str | None = EMMA
    flags: ContactFlags | None = GOOD
    under_16: bool | None = True
    consents: tuple[str, ...] = ()
    kind: str = "PUPIL"

    @property
    def subject(self) -> Subject:
        """By all ids there are."""
        return Subject(self.kind, self.eck_id, PUPIL.user_ids)


@cache
def vault_of(person: Person) -> dict[bytes, bytes]:
    """The vault with this enrolment beside that of a teacher, in each sector."""
    world = open_world()
    consents = tuple(Consent(product_id=p, reference="map-3") for p in person.consents)
    told = Identity(contact_flags=person.flags, under_16=person.under_16, consents=consents)
    for sector in SECTORS:
        for subject, kind, said in ((PUPIL, "ERASE", Identity()), (person.subject, "ENROL", told)):
            sent = enrolment(kind=kind, school=SCHOOL, sector=sector, subject=subject, body=said)
            assert [d.code for d in world.send("sis-a", sent)] == ["ok.vault"]
    return world.vault


def with_person(person: Person) -> World:
    """Everything is granted, and this is known of Emma."""
    world = open_world()
    world.vault = dict(vault_of(person))
    return world


def send(
    world: World, cell: Cell, sector: str = "VO", *, full: bool = True, about: Subject | None = None, **said: Any
) -> Step:
    """One event over a way of the table, about Emma by her local id; nothing is adopted."""
    family, kind, role, its_role = cell
    found = catalogue().family(family)
    usual = Subject() if TABLE[cell][0].subject == "none" else subject_of(family, kind)
    if usual == PUPIL:
        usual = about or Subject("PUPIL", None, PUPIL.user_ids)
    fields = {f.name for f in found.schema.fields} - set(found.kinds[kind].unused)
    made = body(family, kind, full=full, **{name: value for name, value in said.items() if name in fields})
    sender, receiver = f"{role.lower()}-a", f"{its_role.lower()}-b"
    record = world.made(sender, family, kind, made, usual, receiver=receiver, school=SCHOOL, sector=sector)
    return world.step(sender, [record])


Names = tuple[frozenset[str], frozenset[str]] | str


def names(step: Step) -> Names:
    """Kept and dropped as the leaf has them; the code, if it was refused."""
    (leaf,), (decision,) = evidence_in(step.outgoing), step.decisions
    if decision.outcome is not Outcome.DELIVERED:
        return decision.code
    return frozenset(leaf["kept"]), frozenset(leaf["dropped"])


ALL = list(product(between_parties(), SECTORS))

# What is missing -> the person, the body, and what passes no more for that.
ADDRESSES = {"privateEmail", "parentEmail"}
MISSING: dict[str, tuple[Person, dict[str, Any], set[str]]] = {
    "a line on paper": (Person(), {"material": "PAPER"}, {"eckId"}),
    "a line of another kind": (Person(), {"material": "OTHER"}, {"eckId"}),
    "delivery at school": (Person(), {"delivery": "SCHOOL"}, {"homeAddress"}),
    "delivery at a pickup point": (Person(), {"delivery": "PICKUP_POINT"}, {"homeAddress"}),
    "a school account": (Person(flags=ContactFlags(school_account=True, parents_informed=True, objection=False)), {}, ADDRESSES),
    "no word of a school account": (Person(flags=ContactFlags(parents_informed=True, objection=False)), {}, ADDRESSES),
    "parents who were not informed": (Person(flags=ContactFlags(school_account=False, parents_informed=False, objection=False)), {}, ADDRESSES),
    "no word of parents being informed": (Person(flags=ContactFlags(school_account=False, objection=False)), {}, ADDRESSES),
    "an objection": (Person(flags=ContactFlags(school_account=False, parents_informed=True, objection=True)), {}, ADDRESSES),
    "no word of an objection": (Person(flags=ContactFlags(school_account=False, parents_informed=True)), {}, ADDRESSES),
    "no word of anything": (Person(flags=None), {}, ADDRESSES),
}  # fmt: skip
# Where an event is about nothing but what was dropped, it is refused.
ESSENTIAL = {"homeAddress": ("order", "DELIVERY_ADDRESS")}


def test_the_conditions_of_the_policy_are_the_ones_that_are_tried_here() -> None:
    """A condition that comes new into the policy needs a row of its own."""
    text = yaml.safe_load((data_path("policies") / "policy.yaml").read_text("utf-8"))
    used = {c for row in text["attributes"] for rule in row["rules"] for c in rule.get("conditions", ())}
    tried = {"digital-line", "home-delivery", "no-school-account", "parents-informed", "no-objection", "no-eck-id"}
    assert used - {"covenant-attested", "own-school-sis"} == tried
    assert used <= set(CONDITIONS)


@pytest.mark.parametrize("name", MISSING)
def test_a_condition_that_is_missing_takes_away_what_hangs_on_it_and_nothing_else(name: str) -> None:
    """Over every way in every sector, against the same event with all conditions met."""
    person, said, gone = MISSING[name]
    missing, wrong, taken = with_person(person), {}, set[str]()
    for (cell, sector), before in with_all_met().items():
        after, expected = names(send(missing, cell, sector, **said)), before
        if not isinstance(before, str):
            lost = before[0] & gone if cell[0] == ("order" if said else "roster") else frozenset[str]()
            taken |= lost
            expected = before[0] - lost, before[1] | lost
            if "eckId" in lost:  # who it is about must have some name
                expected = (expected[0] | {"receiverPseudonym"}, expected[1])
            if any(ESSENTIAL.get(one) == cell[:2] for one in lost):
                expected = "gate.policy"
        if after != expected:
            wrong[cell, sector] = after, expected
    assert wrong == {}
    assert taken == gone, "the comparison says something"


@cache
def with_all_met() -> dict[tuple[Cell, str], Names]:
    """What passes over every way in every sector while nothing is missing."""
    world = with_person(Person())
    return {(cell, sector): names(send(world, cell, sector)) for cell, sector in ALL}


def test_the_address_that_was_not_allowed_is_not_in_the_record() -> None:
    """Not the audit only: the field is null."""
    for person, there in ((Person(), True), (Person(flags=None), False)):
        world = with_person(person)
        world.outgoing = send(world, ("roster", "MEMBERSHIP", "SIS", "PORTAL")).outgoing
        got = world.delivered("portal-b", "roster")[0].body
        assert [got[name] is not None for name in ("private_email", "parent_email")] == [there, there]
        assert got["school_email"] is not None


@pytest.mark.parametrize(("material", "eck_id"), [("DIGITAL", EMMA), ("PAPER", None), ("OTHER", None)])
def test_only_a_digital_line_carries_the_eck_id(material: str, eck_id: str | None) -> None:
    """Regeling pseudonimisering, art. 2. Of a paper line the shop gets a pseudonym, the same for all her lines."""
    world, cell = with_person(Person()), ("order", "ORDER", "SIS", "SHOP")
    subjects = []
    for _ in range(2):
        world.outgoing = send(world, cell, material=material).outgoing
        subjects.append(world.delivered("shop-b", "order")[0].subject)
    assert subjects[0] == subjects[1]
    assert subjects[0]["eck_id"] == eck_id
    assert [i["type"] for i in subjects[0]["user_ids"]] == ([] if eck_id else ["RECEIVER_PSEUDONYM"])


def test_a_local_id_passes_only_for_a_pupil_without_eck_id() -> None:
    """UWLR 2.3: a temporary addition. Over every way, in every sector, where the policy has it at all."""
    met, without, wrong = with_person(Person()), with_person(Person(eck_id=None)), dict[tuple[Cell, str], Any]()
    for cell, sector in ALL:
        one, two = (names(send(world, cell, sector)) for world in (met, without))
        if isinstance(one, str) or isinstance(two, str) or one[0].isdisjoint(IDS):
            expected: tuple[Any, ...] = (one, one)  # about nobody, or refused for another reason
        elif subject_of(*cell[:2]) != PUPIL:
            expected = (one, one)
        else:
            # Another school's SIS is nobody's own: a number of this school says nothing there.
            local = "receiverPseudonym" if cell[3] == "SIS" else "lasKey"
            expected = (one, ((one[0] - IDS) | {local}, (one[1] | {"eckId", "lasKey"}) - {local}))
            if "lasKey" in one[0]:
                wrong[cell, sector] = one
        if (one, two) != expected:
            wrong[cell, sector] = one, two
    assert wrong == {}


IDS = frozenset({"eckId", "lasKey", "receiverPseudonym"})


# ---- the attribute set of a test

OF_A_TEST = {"initials": "initials", "birthDate": "birth_date", "gender": "gender", "startYear3": "start_year_3"}
LEGAL_SET: dict[tuple[str, str], set[str]] = {
    (LEGAL, "PO"): {"initials", "birthDate", "gender"},
    (LEGAL, "VO"): {"initials"},
    (LEGAL, "MBO"): {"initials"},
    (NORM, "PO"): {"birthDate", "gender", "startYear3"},
}


@pytest.mark.parametrize("product_id", [LEGAL, NORM, BOOK])
def test_the_attribute_set_of_a_test_goes_to_its_maker_exactly_as_published(product_id: str) -> None:
    """A member's groups to every role that gets them; all agreements name all of it, and the test as a test."""
    world, seen = with_person(Person()), set[str]()
    for cell, sector in ALL:
        if cell[:2] != ("roster", "MEMBERSHIP"):
            continue
        step = send(world, cell, sector, product_id=product_id)
        expected = LEGAL_SET.get((product_id, sector), set()) if cell[3] == "PUBLISHER" else set[str]()
        (leaf,) = evidence_in(step.outgoing)
        assert OF_A_TEST.keys() & set(leaf["kept"]) == expected, (cell, sector)
        world.outgoing = step.outgoing
        got = world.delivered(f"{cell[3].lower()}-b", "roster")[0].body
        assert {a for a, name in OF_A_TEST.items() if got.get(name) is not None} == expected, (cell, sector)
        seen.add(cell[3])
    assert seen == {"PORTAL", "SHOP", "PUBLISHER"}


# ---- presence says nothing


def test_what_is_filled_in_changes_neither_what_was_kept_nor_what_was_dropped() -> None:
    """Everything filled, or only what must be: the leaf is the same, for every kind over every way in every sector."""
    world, wrong = with_person(Person()), {}
    for cell, sector in with_all_met():
        held: dict[str, Any] = {
            "delivery": "HOME",
            "product_id": BOOK,
        }  # these two decide: by condition, and by type of product
        found = [names(send(world, cell, sector, full=full, **held)) for full in (True, False)]
        if found[0] != found[1]:
            wrong[cell, sector] = found
    assert wrong == {}


def test_by_which_id_a_person_came_in_changes_nothing_either() -> None:
    """By ECK iD, by local id, or by both: the receiver gets the same."""
    world, wrong = with_person(Person()), {}
    ways = [Subject("PUPIL", EMMA), Subject("PUPIL", None, PUPIL.user_ids), PUPIL]
    for cell, sector in ALL:
        found = {names(send(world, cell, sector, about=about)) for about in ways}
        if len(found) != 1:
            wrong[cell, sector] = found
    assert wrong == {}


# ---- consent


CELL = ("usage", "USE", "PUBLISHER", "PORTAL")
CONSENTS: list[tuple[Person, str, bool]] = [
    (Person(under_16=True), BOOK, True),
    (Person(under_16=True), LEGAL, True),
    (Person(under_16=True), FREE, False),
    (Person(under_16=None), FREE, False),
    (Person(under_16=False), FREE, True),
    (Person(under_16=True, consents=(FREE,)), FREE, True),
    (Person(under_16=None, consents=(FREE,)), FREE, True),
    (Person(under_16=True, consents=(BOOK,)), FREE, False),
    (Person(under_16=True, consents=(BOOK, FREE)), FREE, True),
    (Person(under_16=None, kind="EMPLOYEE"), FREE, True),
]


@pytest.mark.parametrize(("person", "bought", "passes"), CONSENTS)
def test_a_free_tool_needs_consent_for_who_is_under_16_or_may_be(person: Person, bought: str, passes: bool) -> None:
    """R26: that of the parents, for this product. Bought material needs none, and an employee needs none."""
    step = send(with_person(person), CELL, about=person.subject, product_id=bought)
    assert [d.code for d in step.decisions] == ["ok" if passes else "consent.missing"]
    assert bool([o for o in step.outgoing if o.topic.startswith("out.")]) == passes


def test_an_event_about_nobody_needs_no_consent() -> None:
    """Usage of a whole group, without a pupil."""
    step = send(with_person(Person()), CELL, about=Subject(), product_id=FREE)
    assert [d.code for d in step.decisions] == ["ok"]


def test_consent_that_was_withdrawn_is_none() -> None:
    """The list that the school tells is the whole list; a change that has no list leaves it alone."""
    world = with_person(Person(consents=(FREE,)))

    def told(**fields: Any) -> str:
        change = enrolment(None, kind="CHANGE", school=SCHOOL, sector="VO", body=Identity(**fields))
        assert [d.code for d in world.send("sis-a", change)] == ["ok.vault"]
        return send(world, CELL, product_id=FREE).decisions[0].code

    given = (Consent(product_id=FREE, reference="map-3"),)
    assert told() == "ok"
    assert told(consents=()) == "consent.missing"
    assert told(consents=given) == "ok"
    assert told(consents=(Consent(product_id=BOOK, reference="map-3"),)) == "consent.missing"
    assert told(under_16=False) == "ok"


@pytest.mark.parametrize(("products", "consents", "passes"), [
    ((FREE,), (), False),
    ((FREE,), (FREE,), True),
    ((FREE,), (BOOK,), False),
    ((BOOK, FREE), (), True),
])  # fmt: skip
def test_without_a_product_it_goes_for_any_that_needs_no_consent(
    products: tuple[str, ...], consents: tuple[str, ...], passes: bool
) -> None:
    """A pupil's groups are about no product: one of the agreement that may have them is enough."""
    world = with_person(Person(consents=consents))
    kinds = [
        {"id": p, "type": "ordinary", "does": "x", "consent": "under-16" if p == FREE else "not-needed"}
        for p in products
    ]
    world.edit("agreement/vwo-portal-b", **agreement("portal-b", products=kinds))
    step = send(world, ("roster", "MEMBERSHIP", "SIS", "PORTAL"), product_id=None)
    assert [d.code for d in step.decisions] == ["ok" if passes else "consent.missing"]


def test_consent_is_a_matter_of_each_receivers_own_agreement() -> None:
    """The portal's product is a free one, the SIS's is not: one gets it, the other does not."""
    world = with_person(Person())
    kinds = [{"id": FREE, "type": "ordinary", "does": "x", "consent": "not-needed"}]
    world.edit("agreement/vwo-sis-b", **agreement("sis-b", products=kinds))
    codes = {
        r: send(world, ("usage", "USE", "PUBLISHER", r), product_id=FREE).decisions[0].code for r in ("SIS", "PORTAL")
    }
    assert codes == {"SIS": "ok", "PORTAL": "consent.missing"}
