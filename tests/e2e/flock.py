"""What the canary test sends: every kind of every family, from every role that has a route, in three schools.

Markers are in every field (`markers`). People differ in what decides over an attribute: with and without ECK iD, with
and without the school's permission to use an address, pupils and an employee.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product as product_of
from typing import Any, Final
from uuid import uuid4

from broker.client import Event, Subject
from broker.client.records import BODIES
from broker.client.records_material import new_id
from broker.registry import Registry
from broker.schemas import Family, Kind, catalogue
from tests.e2e import markers

SCHOOLS: Final = {"99PA": ("PO", "sis-noord"), "99VA": ("VO", "sis-noord"), "99MA": ("MBO", "sis-zuid")}
WORD_GAME: Final = "5f0c1f0a-5d0e-4a57-9f6e-0d3a4b7c9e11"
IN_CLEAR: Final = {"agreement_id": "vwo-po-portaal", "connection_id": "po-usage-delta-portaal"}
# Of `control`: ids of the registry, which stand on `audit.control` by design, and what must be a party or a family.
_CONTROL: Final = IN_CLEAR | {"other_party": "portaal-plein", "service": "usage"}
LOCAL_IDS: Final = ("LAS_KEY", "LEERLINGNUMMER", "NL_EDU_PERSON_PROFILE_ID", "NL_EDU_PERSON_REAL_ID")


@dataclass(frozen=True)
class Person:
    """Somebody of a school.

    Attributes:
        subject: all ids under which the school enrols him.
        permits: what the school says of addresses: whether they may be used.
    """

    school: str
    subject: Subject
    permits: bool

    @property
    def met(self) -> set[str]:
        """The policy's conditions that are about him."""
        own = set() if self.subject.eck_id else {"no-eck-id"}
        return own | ({"no-school-account", "parents-informed", "no-objection"} if self.permits else set())


@dataclass(frozen=True)
class Sent:
    """An event with who sends it and whom it is about."""

    party: str
    event: Event
    person: Person | None = None

    @property
    def family(self) -> Family:
        """Its family."""
        return catalogue().family(self.event.family)


def person(school: str, number: int, *, kind: str = "PUPIL", eck: bool = True, permits: bool = True) -> Person:
    """Somebody with markers for ids; the ones of one number are the same."""
    types = LOCAL_IDS if kind == "PUPIL" else ("MEDEWERKERNUMMER",)
    ids = tuple((t, f"{markers.text(school, t)}.{number}") for t in types)
    known = markers.eck_id(number * 16 + list(SCHOOLS).index(school)) if eck else None
    return Person(school, Subject(kind, known, ids), permits)


def people(school: str) -> tuple[Person, ...]:
    """Those whom the events are about."""
    return (
        person(school, 1),
        person(school, 2, eck=False, permits=False),
        person(school, 3, permits=False),
        person(school, 4, kind="EMPLOYEE", eck=False),
    )


def teacher(school: str) -> Person:
    """Whom a body names beside its subject: an employee of the school, with an ECK iD."""
    return person(school, 5, kind="EMPLOYEE")


def event(school: str, family: Family, kind: str, subject: Subject, known: dict[str, Any], **changes: Any) -> Event:
    """An event with markers in every field of its body."""
    made = BODIES[family.name].from_datum(markers.body(family, kind, known))
    values = {"kind": kind, "school": school, "sector": SCHOOLS[school][0], "subject": subject, "body": made}
    return Event(**values | changes)


# ---- identity


def enrolments(school: str) -> Iterator[Sent]:
    """Everybody, with all flags and consents."""
    family = catalogue().family("identity")
    for who in (*people(school), teacher(school), *(person(school, 10 + n) for n in range(2 * len(family.kinds)))):
        flags = {
            "school_account": not who.permits, "parents_informed": who.permits, "objection": not who.permits,
        }  # fmt: skip
        consents = [{"product_id": WORD_GAME, "reference": markers.text("identity", "reference")}]
        known = {"contact_flags": flags, "under_16": True, "consents": consents}
        yield Sent(SCHOOLS[school][1], event(school, family, "ENROL", who.subject, known), who)


def identity_changes(school: str) -> Iterator[Sent]:
    """Every other kind of identity, each about somebody of his own."""
    family = catalogue().family("identity")
    for number, kind in enumerate(k for k in family.kinds if k != "ENROL"):
        who, other = person(school, 10 + 2 * number), person(school, 11 + 2 * number)
        subject = who.subject
        if kind == "REPLACE":
            ids = tuple((t, f"{v}.new") for t, v in subject.user_ids)
            subject = replace(subject, user_ids=ids, previous_user_ids=subject.user_ids)
        elif kind == "MERGE":
            subject = replace(subject, previous_user_ids=other.subject.user_ids)
        yield Sent(SCHOOLS[school][1], event(school, family, kind, subject, {}), who)


# ---- connection


def connections(school: str) -> Iterator[Sent]:
    """A link that is offered and declined, and one that is accepted and revoked; said by the school's SIS."""
    family, sis = catalogue().family("connection"), SCHOOLS[school][1]
    for kinds in (("OFFER", "DECLINE"), ("ACCEPT", "REVOKE")):
        link = str(uuid4())
        for kind in kinds:
            known = {
                "connection_id": link, "side": "BOTH", "sender": "uitgeverij-delta",
                "receiver": "portaal-plein", "service": "usage", "process": "GEBRUIK", "products": None,
                "location": None,
            }  # fmt: skip
            yield Sent(sis, event(school, family, kind, Subject(), known))


# ---- the families that go from party to party


def flights(registry: Registry, school: str) -> Iterator[Sent]:
    """Every kind, from every party of a role that has a route for it, about everybody it may be about."""
    for family in (f for f in catalogue().families.values() if f.name not in ("identity", "connection")):
        for kind in family.kinds.values():
            for party in registry.parties.values():
                if registry.serves(party.id, school):
                    yield from _of_party(registry, school, family, kind, party.id)


def _of_party(registry: Registry, school: str, family: Family, kind: Kind, party: str) -> Iterator[Sent]:
    routes = registry.routes.find(family.name, kind.name, registry.parties[party].roles)
    rules = {kind.subject} if kind.subject != "optional" else {route.subject for route in routes}
    about: list[Person | None] = [who for who in people(school) if kind.who in (None, who.subject.kind)]
    about = [] if rules == {"none"} else about
    about += [] if rules == {"required"} else [None]
    if not routes:
        return
    products = _products(registry, school, party) if family.product_field else [None]
    materials = ("DIGITAL", "PAPER") if isinstance(family.digital, str) else (None,)
    named = teacher(school).subject
    booked_by = {"teacher_eck_id": named.eck_id, "employee_number": named.user_ids[0][1]}
    # All products and materials with the first, all others with one of them: what decides is the same for each.
    for number, who in enumerate(about):
        for product, material in product_of(products, materials) if number == 0 else [(products[0], materials[0])]:
            known = booked_by | {"product_id": product, "bundled_product_id": product, "delivery": "HOME"}
            known |= _CONTROL if family.name == "control" else {}
            known |= {} if material is None else {str(family.digital): material}
            subject = Subject() if who is None else who.subject
            one = event(school, family, kind.name, subject, known)
            # A control event goes to whom it names, and to nobody else.
            others = sorted(registry.parties.keys() - {party}) if family.name == "control" and number == 0 else []
            yield from (Sent(party, replace(one, event_id=str(uuid4()), receiver=other), who) for other in others)
            if not others:
                yield Sent(party, one, who)


def _products(registry: Registry, school: str, party: str) -> list[str | None]:
    """One product of each type that a party has at a school."""
    board = registry.schools[school].board
    found: dict[str, str] = {}
    for agreement in registry.agreements_of(party):
        if agreement.board == board:
            for product in agreement.products:
                if product.consent == "not-needed":
                    found.setdefault(product.type, product.id)
    return [*found.values()]


# ---- what goes wrong


def strays(good: Sent) -> Iterator[tuple[str, Sent]]:
    """The same event, wrong in one thing each; with the start of the code that it must get."""
    event, family = good.event, good.family
    datum = event.body.datum()
    record = BODIES[family.name]
    screened = next((f.name for f in family.schema.fields if _is_text(family, f.name) and datum[f.name]), None)
    wrong: list[tuple[str, dict[str, Any]]] = [("school.not_yours", {"school": "99ZZ"})]
    if screened is not None:
        for code, value in (
            ("pgn.bsn", f"{datum[screened]} {markers.BSN}"),
            ("text.control_character", f"{datum[screened]}\x07"),
            ("text.too_long", f"{datum[screened]}{'x' * 5000}"),
        ):
            wrong.append((code, {"body": record.from_datum(datum | {screened: value})}))
    missing = next((name for name in family.kinds[event.kind].requires if _nullable(family, name)), None)
    if missing is not None:
        wrong.append(("field.missing", {"body": record.from_datum(datum | {missing: None})}))
    if family.product_field is not None and datum[family.product_field]:
        strange = record.from_datum(datum | {family.product_field: "9780306406157"})
        wrong.append(("product.unknown", {"body": strange}))
    if datum.get("teacher_eck_id"):
        other = record.from_datum(datum | {"teacher_eck_id": markers.eck_id(99_998)})
        wrong.append(("subject.unknown", {"body": other}))
    if good.person is not None and family.name != "identity":
        subject = event.subject
        wrong += [
            ("subject.unknown", {"subject": replace(subject, eck_id=markers.eck_id(99_999), user_ids=())}),
            ("subject.waiting", {"subject": replace(subject, eck_id=None, user_ids=_unknown(subject))}),
            ("identifier.form", {"subject": replace(subject, eck_id=f"https://ketenid.nl/pilot/{markers.HEX}")}),
        ]
    if family.name not in ("identity", "connection"):
        wrong.append(("gate.", {"receiver": "uitgeverij-oost"}))
    for code, changes in wrong:
        yield code, replace(good, event=replace(event, event_id=new_id(), **changes))


def _unknown(subject: Subject) -> tuple[tuple[str, str], ...]:
    return tuple((t, f"{v}.unknown") for t, v in subject.user_ids)


def _nullable(family: Family, name: str) -> bool:
    return next(f.nullable for f in family.schema.fields if f.name == name)


def _is_text(family: Family, name: str) -> bool:
    """Whether a field is about a person and may hold any text."""
    declared = next(f for f in family.schema.document["fields"] if f["name"] == name)
    return markers.is_personal(declared) and declared["type"] == ["null", "string"]
