"""The chain of a scenario: the example registry, people with their ids, and what each party has not yet read.

Each party has one lane (partition 0, so that it is told its duties as well). What changes in the vault or the registry
wakes all lanes, as it does in a worker; what the exchange writes to the registry is read back from there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from hashlib import sha512
from typing import Any, Final, cast
from zoneinfo import ZoneInfo

from broker.audit.leaf import canonical
from broker.client import Event, Subject
from broker.connectors.edexml import Report
from broker.exchange import InputRecord, Outgoing, Step
from broker.exchange.model import AUDIT_CONTROL, AUDIT_EVENTS, REGISTRY
from broker.policy import Policy
from broker.registry.files import check
from broker.schemas import Schema, catalogue
from broker.schemas.outputs import output_schemas
from tests.exchange.world import Delivered, World, evidence_in, make_world
from tests.scenarios.bodies import Body, body, number
from tests.scenarios.words import BEGINS, IDS, MESSAGES, NUMBERS, PARTIES, SCHOOLS, day

# Rows of a table that are about the envelope.
ENVELOPE: Final = ("school year", "sector", "dated", "location")
Sent = tuple[str, Event]
REPLACED: Final = 500  # how far a person's numbers move when they are replaced


@dataclass
class Person:
    """Somebody of the story, with an id of each kind at each school."""

    name: str
    kind: str = "PUPIL"
    seed: int = 0
    at: dict[str, str] = field(default_factory=dict)  # school -> sector of the enrolment
    with_eck_id: bool = True
    second_id: str = ""  # of a second enrolment by mistake

    def eck_id(self, sector: str) -> str:
        """One for each sector, the same at all schools of it."""
        return "https://ketenid.nl/pilot/" + sha512(f"{self.name} in {sector}".encode()).hexdigest()

    def id_at(self, school: str, id_type: str) -> str:
        """A local id; another one at another school."""
        place = list(SCHOOLS).index(NUMBERS[school]) + 1
        forms = {
            "LAS_KEY": f"L{place}{self.seed:03}" if school != "99MA" else f"S{place}{self.seed:05}",
            "LEERLINGNUMMER": f"P{place}{self.seed:02}",
            "NL_EDU_PERSON_REAL_ID": f"{self.name.lower()}@{school.lower()}.example",
            "MEDEWERKERNUMMER": f"E{place}{self.seed:02}",
        }
        return forms[id_type.upper()]

    def local(self, school: str, id_type: str | None = None) -> tuple[str, str]:
        """The id by which its administration calls it, or one of another type."""
        usual = "LAS_KEY" if self.kind == "PUPIL" else "MEDEWERKERNUMMER"
        return id_type or usual, self.id_at(school, id_type or usual)


@dataclass
class Chain(World):
    """A world that is told in scenarios."""

    people: dict[str, Person] = field(default_factory=dict)
    unread: dict[str, list[Delivered]] = field(default_factory=dict)
    last_read: dict[str, Delivered] = field(default_factory=dict)
    pseudonyms: dict[tuple[str, str], str] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    objects: dict[str, str] = field(default_factory=dict)  # family -> the object of the last message
    revisions: dict[tuple[str, str], int] = field(default_factory=dict)
    under_way: list[tuple[str, InputRecord]] = field(default_factory=list)
    refused: str = ""  # why a change, or a list, was refused
    report: Report | None = None  # of the class list that was read last
    proposal: Policy | None = None
    differences: list[str] = field(default_factory=list)
    seen: int = 0
    destroyed: dict[str, set[bytes]] = field(default_factory=dict)  # keys of who was erased, as they were before

    @classmethod
    def begin(cls) -> Chain:
        """The example registry; all links are seeded, nobody is enrolled."""
        world = make_world()
        chain = cls(world.records, world.limits, world.keys, world.party_keys, partition=0)
        for party in PARTIES.values():
            chain.state(party).duties.update(_TOLD.get(party, {}))
        chain.wake(read=False)
        _TOLD.update({party: dict(chain.state(party).duties) for party in PARTIES.values()})
        chain.forget()
        return chain

    def brin(self, name: str) -> str:
        """The number by which the registry has a school now."""
        return next(brin for brin, known in NUMBERS.items() if known == name and brin in self.registry.schools)

    # ---- people

    def person(self, name: str) -> Person:
        """Somebody who was introduced."""
        assert name in self.people, f"nobody said who {name} is"
        return self.people[name]

    def introduce(self, name: str, school: str, kind: str = "PUPIL", sector: str | None = None) -> Person:
        """Somebody who is, or will be, at a school."""
        person = self.people.setdefault(name, Person(name, kind, len(self.people) + 1))
        person.at.pop(school, None)  # the last one named is where he is now
        person.at[school] = sector or SCHOOLS[NUMBERS[school]][1]
        return person

    def subject(self, person: Person, school: str, sector: str, id_type: str | None) -> Subject:
        """How a party calls somebody, also at a school where he is not: by the ids that he has elsewhere."""
        if id_type == "ECK_ID":
            return Subject(person.kind, person.eck_id(sector))
        own = school if school in person.at or not person.at else list(person.at)[-1]
        return Subject(person.kind, None, (person.local(own, id_type),))

    def identity(self, person: Person, kind: str, school: str, **fields: Any) -> None:
        """An identity event of the school's administration."""
        sis = self.registry.schools[school].sis
        eck_id = person.eck_id(person.at[school]) if person.with_eck_id and person.kind == "PUPIL" else None
        ids = [person.local(school)]
        if person.kind == "PUPIL":
            ids += [person.local(school, t) for t in ("LEERLINGNUMMER", "NL_EDU_PERSON_REAL_ID")]
        before, ids = fields.pop("before", ()), fields.pop("ids", ids)
        values: dict[str, Any] = {f.name: None for f in catalogue().family("identity").schema.fields}
        self.exchange(sis, Event(
            kind=kind, school=school, sector=person.at[school], created=self.now,
            subject=Subject(person.kind, eck_id, tuple(ids), tuple(before)),
            body=cast(Any, Body("identity", values | fields)),
        ))  # fmt: skip

    # ---- time

    @property
    def now(self) -> datetime:
        """The time of the story."""
        return datetime.fromtimestamp(self.now_ms / 1000, UTC)

    def become(self, when: date, at: time = time(10)) -> None:
        """Let it become a time of a day in the Netherlands."""
        self.now_ms = int(datetime.combine(when, at, ZoneInfo("Europe/Amsterdam")).timestamp() * 1000)
        self.wake()

    # ---- messages

    def event(
        self,
        sender: str,
        what: str,
        who: str | None = None,
        said: Mapping[str, str] | None = None,
        *,
        by: str | None = None,
        school: str | None = None,
        receiver: str | None = None,
    ) -> Event:
        """A message as a scenario tells it."""
        family, kind = MESSAGES[what]
        said = dict(said or {})
        about = {name: said.pop(name) for name in ENVELOPE if name in said}
        person = self.person(who) if who else None
        place = school or (list(person.at)[-1] if person and person.at else "99PA")
        sector = about.get("sector") or (person.at.get(place) if person else None) or SCHOOLS[NUMBERS[place]][1]
        if "number" in said:
            said_id = number(1000 + int(said.pop("number")))
        else:
            said_id = number(len(self.sent) + 1) if kind in BEGINS else self.objects.get(family, number(0))
        self.objects[family] = said_id
        if said.get("employee number", "") in self.people:
            said["employee number"] = self.person(said["employee number"]).id_at(place, "MEDEWERKERNUMMER")
        made = body(family, kind, self.now_ms, said_id, said)
        self._count(sender, made, said)
        own = person is not None and self.registry.schools[place].sis == sender
        id_type = IDS[by] if by else (None if own or person is None or person.kind == "EMPLOYEE" else "ECK_ID")
        return Event(
            kind=kind,
            school=about.get("location", place),
            sector=sector,
            created=datetime.combine(day(about["dated"]), time(9), UTC) if "dated" in about else self.now,
            school_year=about.get("school year", ""),
            receiver=receiver,
            subject=self.subject(person, place, sector, id_type) if person else Subject(),
            body=cast(Any, made),
        )

    def _count(self, sender: str, made: Body, said: Mapping[str, str]) -> None:
        """Each sender counts the revisions of an object."""
        if "revision" not in made.values:
            return
        key = sender, made.values[catalogue().family(made.FAMILY).object_field or ""]
        self.revisions[key] = int(said["revision"]) if "revision" in said else self.revisions.get(key, 0) + 1
        made.values["revision"] = self.revisions[key]

    def exchange(self, sender: str, event: Event) -> None:
        """Send a message and let the broker decide, and all lanes that it wakes."""
        self.sent.append((sender, event))
        self.run(sender, self.record(sender, event))
        self.wake()

    def run(self, party: str, *records: InputRecord) -> Step:
        """One batch; also reads back what it wrote to the registry."""
        step = super().run(party, *records)
        changes = {o.key.decode(): o.value for o in step.outgoing if o.topic == REGISTRY and o.key}
        if changes:
            self.apply(changes, checked=False)
        return step

    def wake(self, *, read: bool = True) -> None:
        """Run all lanes until none has anything left to do."""
        for party in PARTIES.values():
            while True:
                step = self.run(party)
                if not step.outgoing:
                    break
        if read:
            self._read()

    def forget(self) -> None:
        """What happened so far is no part of what is checked."""
        self.outgoing.clear()
        self.unread.clear()
        self.seen = 0

    # ---- registry

    def apply(self, changes: Mapping[str, bytes | None], *, checked: bool = True) -> None:
        """Change the registry as an operator does, with all checks."""
        records = {key: value for key, value in {**self.records, **changes}.items() if value is not None}
        if checked:
            check(records)
        self.records = records
        self.registry = self.registry.with_changes(changes)

    def document(self, key: str) -> dict[str, Any]:
        """A registry entry."""
        found: dict[str, Any] = json.loads(self.records[key])
        return found

    def change(self, key: str, **fields: Any) -> None:
        """Change fields of a registry entry, and let all parties hear of it."""
        self.apply({key: canonical(self.document(key) | fields)})
        self.wake()

    def agreement_with(self, school: str, party: str) -> str:
        """The key of a school's agreement with a party."""
        board = self.registry.schools[school].board
        found = [
            key
            for key in self.records
            if key.startswith("agreement/")
            and self.document(key)["party"] == party
            and self.document(key)["board"] == board
            and (self.document(key)["schools"] == "all of board" or school in self.document(key)["schools"])
        ]
        assert len(found) == 1, f"agreements of {school} with {party}: {found}"
        return found[0]

    # ---- what came out

    def _read(self) -> None:
        """Put what was written for parties since the last time into their hands."""
        new, self.seen = self.outgoing[self.seen :], len(self.outgoing)
        for out in new:
            if out.topic.startswith("out."):
                _, party, family = out.topic.split(".")
                found = self._opened(party, family, out)
                self.unread.setdefault(party, []).append(found)

    def _opened(self, party: str, family: str, out: Outgoing) -> Delivered:
        everything, self.outgoing = self.outgoing, [out]
        found = self.delivered(party, family)[0]
        self.outgoing = everything
        return found

    def writer_schemas(self) -> dict[bytes, Schema]:
        """The published output schemas, and that of the broker's own messages; worked out once for a policy."""
        version = self.registry.policy.version
        if version not in _SCHEMAS:
            own = catalogue().family("control").output_schema(())
            _SCHEMAS[version] = {**super().writer_schemas(), own.fingerprint: own}
        return _SCHEMAS[version]

    def forms(self) -> dict[str, set[str]]:
        """All published output schemas: `usage.v1.Gebruik.PO.PORTAL` -> names of its fields that are about a person."""
        found = output_schemas(catalogue(), self.registry.policy, self.registry.routes)
        return {name: {f.name for f in schema.fields if f.attribute} for name, schema in found}

    def event_leaves(self) -> list[dict[str, Any]]:
        """Our evidence in the leaves of the audit log, in order."""
        return evidence_in(self.topic(AUDIT_EVENTS))

    def control_leaves(self) -> list[dict[str, Any]]:
        """The control log."""
        return [json.loads(o.value or b"{}")["control"] for o in self.topic(AUDIT_CONTROL)]


_SCHEMAS: dict[str, dict[bytes, Schema]] = {}
_TOLD: dict[str, dict[str, str]] = {}  # duties of the example registry, told before any scenario begins
