"""A world in which everything is granted: two parties of each role, every pair connected, agreements that name all.

What does not pass here is stopped by route table, policy or conditions, and by nothing else.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import permutations
from typing import Any, Final

from broker.audit.leaf import canonical
from broker.client import Event, Identity, Subject
from broker.client.profile import RECORD_KEY_SECRET
from broker.exchange.keys import BROKER, OPERATOR, SECRETS
from broker.keys import MemoryKeys
from broker.policy import PROCESSES, SECTORS, Policy, Routes
from broker.registry import Registry
from broker.schemas import catalogue
from tests.exchange.world import BOOK, EMMA, NOW, TEACHER, World

ROLES: Final = ("SIS", "SHOP", "PUBLISHER", "PORTAL")
PARTIES: Final = {f"{role.lower()}-{letter}": role for role in ROLES for letter in "ab"}
SCHOOL, BOARD, PLACES = "99VA", "bestuur", ("99VA00", "99VA01")
FREE, LEGAL, NORM = "2099000000019", "2099000000026", "2099000000033"
PUPIL: Final = Subject("PUPIL", EMMA, (("LAS_KEY", "L0001"),))
EMPLOYEE: Final = Subject("EMPLOYEE", TEACHER, (("MEDEWERKERNUMMER", "E1"),))
LINKED_FAMILIES: Final = ("order", "licence", "usage", "result", "roster")


def agreement(party: str, **changes: Any) -> dict[str, Any]:
    """An agreement that names all that an agreement can name."""
    types = ((BOOK, "ordinary", "not-needed"), (FREE, "ordinary", "under-16"), (LEGAL, "legal-test", "not-needed"),
             (NORM, "norm-test", "not-needed"))  # fmt: skip
    return {
        "id": f"vwo-{party}", "version": "1.0", "model": "4.0", "board": BOARD, "schools": "all of board",
        "party": party, "attributes": _nameable(),
        "products": [{"id": i, "type": t, "consent": c, "does": "Leermiddel"} for i, t, c in types],
        "processes": [{"process": p, "purpose": "Onderwijs", "basis": "publieke_taak"} for p in PROCESSES],
        "local_ids_until": "2027-07-31", "access": "docenten", "storage_country": "NL", "retention": "schooljaar",
        "privacy_contact": "p", "incident_contact": "i", "security_measures": "ISO 27001",
        "incident_arrangements": "24 uur", "subprocessors": [], "valid_from": "2026-01-01", "valid_until": "2027-12-31",
    } | changes  # fmt: skip


def sides(sender: str, receiver: str, service: str, process: str, **changes: Any) -> dict[str, dict[str, Any]]:
    """Both sides of a connection that is on, by their keys."""
    name = changes.get("id") or f"{sender}.{receiver}.{service}.{process}"
    side = {
        "id": name, "school": SCHOOL, "sender": sender, "receiver": receiver, "service": service, "process": process,
        "state": "accepted", "accepted_by": "sis-a", "mandate": "sis-a", "at": "2026-07-01T10:00:00Z",
    } | changes  # fmt: skip
    return {f"connection/{name}/{which}": {**side, "side": which} for which in ("sender", "receiver")}


@cache
def _nameable() -> list[str]:
    policy = Policy.load()
    return sorted(name for name in policy.attributes if policy.can_pass(name))


@cache
def _records() -> tuple[dict[str, bytes], MemoryKeys, dict[str, MemoryKeys]]:
    keys = MemoryKeys()
    for owner in (BROKER, OPERATOR):
        keys.create(owner)
    for name in SECRETS:
        keys.create_secret(name)
    party_keys: dict[str, MemoryKeys] = {}
    entries: dict[str, dict[str, Any]] = {
        f"board/{BOARD}": {"id": BOARD, "name": "Bestuur", "processing_register": "https://bestuur.example"},
        f"school/{SCHOOL}": {
            "id": SCHOOL, "name": "School", "board": BOARD, "sectors": list(SECTORS), "sis": "sis-a",
            "mandated_from": "2024-08-01", "locations": list(PLACES),
        },
    }  # fmt: skip
    for party, role in PARTIES.items():
        party_keys[party] = MemoryKeys()
        party_keys[party].create_secret(RECORD_KEY_SECRET)
        key = party_keys[party].create(party)
        entries[f"party/{party}"] = {
            "id": party, "name": party, "roles": [role], "covenant": "deelnemer", "eck_id_attested_on": "2026-01-01",
            "processor_url": "https://partij.example/", "keys": [{"kid": key.kid, "jwk": dict(key.jwk)}],
        }  # fmt: skip
        entries[f"agreement/vwo-{party}"] = agreement(party)
    for sender, receiver in permutations(PARTIES, 2):
        for service in LINKED_FAMILIES:
            for process in PROCESSES:
                entries |= sides(sender, receiver, service, process)
    records = {name: canonical(entry) for name, entry in entries.items()}
    records |= {"policy/current": Policy.load().record(), "routes/current": Routes.load().record()}
    return records, keys, party_keys


@cache
def _base() -> Registry:
    return Registry.from_records(_records()[0])


@cache
def _vault() -> dict[bytes, bytes]:
    """Emma and a teacher are enrolled in each sector."""
    world = _empty()
    ids = replace(PUPIL, user_ids=(*PUPIL.user_ids, ("NL_EDU_PERSON_REAL_ID", "emma"), ("LEERLINGNUMMER", "P1")))
    body = Identity(under_16=True)
    for sector in SECTORS:
        sent = Event(kind="ENROL", school=SCHOOL, sector=sector, created=NOW, subject=ids, body=body)
        teacher = Event(kind="ENROL", school=SCHOOL, sector=sector, created=NOW, subject=EMPLOYEE, body=Identity())
        assert [d.code for d in world.send("sis-a", sent, teacher)] == ["ok.vault"] * 2
    return world.vault


def _empty() -> World:
    records, keys, party_keys = _records()
    return World(dict(records), keys=keys, party_keys=dict(party_keys), base=_base())


def open_world() -> World:
    """Everything is granted, and Emma is enrolled in each sector."""
    world = _empty()
    world.vault = dict(_vault())
    return world


def subject_of(family: str, kind: str) -> Subject:
    """Whom an event of this kind may be about: Emma wherever that is allowed, else her teacher, else nobody."""
    rules = catalogue().family(family).kinds[kind]
    if rules.subject == "none":
        return Subject()
    return EMPLOYEE if rules.who == "EMPLOYEE" else PUPIL
