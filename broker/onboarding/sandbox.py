"""The sandbox: for each new party a school that does not exist, with invented pupils, and one counterpart.

The counterpart `zandbak` is a party in all four roles: whatever the new party is, somebody stands at the other side.
Each new party has a school of its own in the sandbox, so that no two of them meet there. Agreements are for that school
alone: nothing of any other school can come here, and nothing of here can get anywhere else.

School and people are invented: a BRIN that begins with 99 is for tests, the ECK iDs have the form of the pilot's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from hashlib import sha512
from itertools import product
from string import ascii_uppercase
from typing import Any, Final

from broker.client import AssessmentResult, Control, Event, Identity, Licence, Order, Roster, Subject, Usage
from broker.client.records_body import Body
from broker.client.records_school import ContactFlags
from broker.errors import ConfigError
from broker.policy import PROCESSES, ROLES, Policy, Route, Routes
from broker.registry import PublicKey, Registry, School

COUNTERPART: Final = "zandbak"
BOARD: Final = "bestuur-zandbak"
SECTOR: Final = "VO"
BOOK: Final = "2099000009005"  # numbers for use inside a shop: no book has them
TEST: Final = "2099000009012"
PUPILS: Final = tuple(f"Z{number:04}" for number in range(1, 6))
YEARS: Final = 5
_SHORT: Final = {"BestellenLeveren": "bl", "Toegang": "tg", "Gebruik": "gb", "Terugkoppelen": "tk"}
#: The kinds of a family that begin something, so that one event makes sense by itself.
_FIRST: Final[dict[str, tuple[str, ...]]] = {
    "order": ("ORDER", "LINE", "CONFIRMED"), "licence": ("GRANT", "CONFIRM"), "usage": ("USE",),
    "result": ("RESULT", "RECEIPT"), "roster": ("MEMBERSHIP",), "control": ("STATUS",),
}  # fmt: skip

NewId = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The sandbox of one party.

    Args:
        school: its own school there. roles: of the party.
    """

    party: str
    school: str
    roles: tuple[str, ...]

    @property
    def sis(self) -> str:
        """Who keeps the school's pupils: the party, if that is what it does."""
        return self.party if "SIS" in self.roles else COUNTERPART

    def roles_of(self, party: str) -> tuple[str, ...]:
        """The roles in which a party can act here. The SIS of a school is one."""
        roles = self.roles if party == self.party else ROLES
        return tuple(role for role in roles if role != "SIS" or party == self.sis)

    def ways(self, sender: str, receiver: str, routes: Routes) -> tuple[Route, ...]:
        """Routes from one to the other."""
        senders, receivers = self.roles_of(sender), self.roles_of(receiver)
        return tuple(r for r in routes if r.sender_role in senders and r.receiver_role in receivers)


# ---- the registry


def counterpart_entries(keys: Collection[PublicKey]) -> dict[str, Any]:
    """The counterpart and the board of all sandbox schools, as a file of the registry has them."""
    party = {
        "id": COUNTERPART, "name": "Zandbak: tegenpartij om mee te proberen", "roles": list(ROLES),
        "covenant": "deelnemer", "eck_id_attested_on": date(2026, 1, 1),
        "keys": [key.model_dump(mode="json") for key in keys], "processor_url": "https://zandbak.invalid/",
    }  # fmt: skip
    board = {
        "id": BOARD, "name": "Stichting Zandbak (bestaat niet)",
        "processing_register": "https://zandbak.invalid/verwerkingen",
    }  # fmt: skip
    return {"parties": [party], "boards": [board]}


def free_school(taken: Iterable[School]) -> str:
    """A BRIN of the 99 form that no school has or had.

    Raises:
        ConfigError: `sandbox.full`.
    """
    used = {name[:4] for school in taken for name in (school.id, *school.formerly)}
    for first, second in product(reversed(ascii_uppercase), ascii_uppercase):
        if (school := f"99{first}{second}") not in used:
            return school
    raise ConfigError("All schools of the 99 form are taken; remove the sandbox of a party.", code="sandbox.full")


def sandbox_entries(sandbox: Sandbox, today: date, policy: Policy, routes: Routes) -> dict[str, Any]:
    """School, agreements and connections of a party's sandbox, as a file of the registry has them.

    Args:
        today: they hold from the beginning of its school year.
    """
    first = date(today.year if today.month >= 8 else today.year - 1, 8, 1)
    last = date(first.year + YEARS, 7, 31)
    school = {
        "id": sandbox.school, "name": f"Zandbakschool van {sandbox.party}", "board": BOARD, "sectors": [SECTOR],
        "sis": sandbox.sis, "mandated_from": first, "local_id_form": "Z[0-9]{4}",
    }  # fmt: skip
    named = sorted(name for name in policy.attributes if policy.can_pass(name))
    return {
        "schools": [school],
        "agreements": [
            _agreement(sandbox, party, name, named, first, last)
            for party, name in ((sandbox.party, "zb"), (COUNTERPART, COUNTERPART))
        ],
        "connections": list(_connections(sandbox, first, routes)),
    }


def _agreement(
    sandbox: Sandbox, party: str, name: str, attributes: list[str], first: date, last: date
) -> dict[str, Any]:
    """An agreement for this school alone, which names all that may pass: everybody here is invented."""
    products = ((BOOK, "ordinary"), (TEST, "norm-test"))
    return {
        "id": f"{name}-{sandbox.party}", "version": "1.0", "model": "4.0", "board": BOARD,
        "schools": [sandbox.school], "party": party,
        "products": [{"id": i, "type": t, "does": "Om mee te proberen, met verzonnen leerlingen"} for i, t in products],
        "processes": [{"process": p, "purpose": "Proberen", "basis": "publieke_taak"} for p in PROCESSES],
        "attributes": attributes, "local_ids_until": last, "access": "Ontwikkelaars van de partij",
        "storage_country": "NL", "retention": "Zolang er geprobeerd wordt; het zijn geen gegevens van mensen",
        "privacy_contact": "De beheerder van de broker", "incident_contact": "De beheerder van de broker",
        "security_measures": "Geen gegevens van mensen", "incident_arrangements": "Geen", "subprocessors": [],
        "valid_from": first, "valid_until": last,
    }  # fmt: skip


def _connections(sandbox: Sandbox, first: date, routes: Routes) -> Iterator[dict[str, Any]]:
    """Every link that a route asks for between the two, switched on at both sides."""
    for sender, receiver, way in ((sandbox.party, COUNTERPART, "van"), (COUNTERPART, sandbox.party, "naar")):
        ways = sandbox.ways(sender, receiver, routes)
        for family, process in sorted({(r.family, r.process) for r in ways if r.connection == "required"}):
            accepted = {"state": "accepted", "mandate": sandbox.sis, "at": f"{first}T10:00:00Z"}
            yield {
                "id": f"zb-{sandbox.party}-{way}-{family}-{_SHORT[process]}", "school": sandbox.school,
                "sender": sender, "receiver": receiver, "service": family, "process": process, "products": "all",
                "sides": {
                    "sender": {**accepted, "accepted_by": sender},
                    "receiver": {**accepted, "accepted_by": receiver},
                },
            }  # fmt: skip


def sandbox_of(registry: Registry, party: str) -> Sandbox | None:
    """A party's sandbox, if the registry has one: the school that only it and the counterpart have to do with."""
    found = registry.party(party)
    its = next((a for a in registry.agreements_of(party) if (a.board, a.id) == (BOARD, f"zb-{party}")), None)
    return None if found is None or its is None else Sandbox(party, its.schools[0], found.roles)


def files_of(party: str) -> tuple[str, str]:
    """Names of the files of a registry's folder that a new party has for itself: its entry, its sandbox."""
    return f"party-{party}.yaml", f"{COUNTERPART}-{party}.yaml"


# ---- people and events


def subject(pupil: str) -> Subject:
    """A pupil of a sandbox, as all who have to do with the school may call him."""
    return Subject("PUPIL", None, (("LAS_KEY", pupil),))


def class_list(school: str, new_id: NewId) -> list[Event]:
    """The enrolments of a sandbox school's pupils."""
    flags = ContactFlags(school_account=True, parents_informed=True, objection=False)
    return [
        Event(
            kind="ENROL", school=school, sector=SECTOR, event_id=new_id(f"identity/{pupil}"),
            subject=Subject("PUPIL", _eck_id(school, pupil), (("LAS_KEY", pupil),)),
            body=Identity(contact_flags=flags),
        )
        for pupil in PUPILS
    ]  # fmt: skip


def _eck_id(school: str, pupil: str) -> str:
    return f"https://ketenid.nl/pilot/{sha512(f'sandbox/{school}/{pupil}'.encode()).hexdigest()}"


def events(sandbox: Sandbox, sender: str, routes: Routes, today: date, new_id: NewId) -> list[Event]:
    """One event of each family that goes from `sender` to the other of the two; enrolments and links apart.

    Args:
        new_id: an id for what is named; the same each time, or a new one.
    """
    receiver = COUNTERPART if sender == sandbox.party else sandbox.party
    open_kinds = {(r.family, kind): r for r in sandbox.ways(sender, receiver, routes) for kind in r.kinds}
    made = []
    for family, kinds in _FIRST.items():
        kind = next((kind for kind in kinds if (family, kind) in open_kinds), None)
        if kind is not None:
            about = open_kinds[family, kind].subject != "none"
            made.append(
                Event(
                    kind=kind, school=sandbox.school, sector=SECTOR, receiver=receiver,
                    event_id=new_id(f"event/{family}"), subject=subject(PUPILS[0]) if about else Subject(),
                    body=_body(family, kind, today, new_id),
                )
            )  # fmt: skip
    return made


def _body(family: str, kind: str, today: date, new_id: NewId) -> Body:
    """A body with what its kind asks for."""
    object_id = new_id(f"object/{family}")
    if family == "order":
        answer = {"reason_code": "ACCEPTED"} if kind == "CONFIRMED" else {"quantity": 1}
        return Order(order_id=object_id, product_id=BOOK, material="DIGITAL", **answer)
    if family == "licence":
        told: dict[str, Any] = {"status": "PROVISIONED"} if kind == "CONFIRM" else {"start_date": today}
        return Licence(entitlement_id=object_id, product_id=BOOK, entitlement_type="SCHOOL_INDIVIDUAL", **told)
    if family == "usage":
        return Usage(
            usage_id=object_id, entitlement_id=new_id("object/licence"), product_id=BOOK, usage_type="WEEKLY_USAGE",
            usage_date=today, frequency=3,
        )  # fmt: skip
    if family == "result" and kind == "RESULT":
        return AssessmentResult(
            result_id=object_id, product_id=TEST, assessment_id="ZANDBAK-1", assessment_date=today,
            result_type="GRADE_1_10", value="7.5",
        )  # fmt: skip
    if family == "result":
        return AssessmentResult(result_id=object_id, product_id=TEST, receipt="BOOKED")
    if family == "roster":
        return Roster(product_id=BOOK, group_ids=("ZB1",), year_group="1")
    return Control(control_id=object_id, code="SANDBOX")
