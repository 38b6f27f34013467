"""The whole route table: which kind reaches which role in which process, and which reaches nobody (gate 1)."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from broker.client import Subject
from broker.exchange import Decision, Outcome
from broker.exchange.model import Step
from broker.policy import PROCESSES, SECTORS
from broker.schemas import catalogue
from tests.exchange.bodies import body, families
from tests.exchange.open_world import LINKED_FAMILIES, PARTIES, PUPIL, ROLES, SCHOOL, open_world, subject_of
from tests.exchange.route_table import TABLE, Way
from tests.exchange.world import World, evidence_in

FAMILIES = [family.name for family in families()]


def cells(family: str) -> list[tuple[str, str]]:
    """Every kind of a family with every role that could send it."""
    return list(product(catalogue().family(family).kinds, ROLES))


def subject_for(family: str, kind: str, ways: list[Way]) -> Subject:
    """Emma where that is allowed."""
    return Subject() if any(way.subject == "none" for way in ways) else subject_of(family, kind)


def link(kind: str, sender: str, receiver: str) -> dict[str, Any] | None:
    """What a connection event says of the sender's own side of a link; None if there is none to revoke."""
    roles = PARTIES[sender], PARTIES[receiver]
    service, process = next((f, ways[0].process) for (f, _, *of), ways in TABLE.items() if tuple(of) == roles)
    if kind == "REVOKE" and service not in LINKED_FAMILIES:
        return None
    named = {"connection_id": f"{sender}.{receiver}.{service}.{process}"} if kind == "REVOKE" else {}
    word = "BESTELLEN_LEVEREN" if process == "BestellenLeveren" else process.upper()
    return {"sender": sender, "receiver": receiver, "side": "SENDER", "service": service, "process": word} | named


def send(
    world: World,
    party: str,
    family: str,
    kind: str,
    subject: Subject,
    receiver: str | None = None,
    said: dict[str, Any] | None = None,
    sector: str = "VO",
) -> Step:
    """One event; nothing is adopted, so that each is the first."""
    made = body(family, kind, **(said or {}))
    record = world.made(party, family, kind, made, subject, receiver=receiver, school=SCHOOL, sector=sector)
    return world.step(party, [record])


def good(decisions: list[Decision]) -> set[str]:
    """Who got it."""
    return {d.receiver or "" for d in decisions if d.outcome is Outcome.DELIVERED}


@pytest.fixture(scope="module")
def world() -> World:
    """Everything is granted; no test here changes it."""
    return open_world()


def to_parties(family: str) -> bool:
    """Whether it is a family that goes from party to party."""
    return family not in ("identity", "connection")


@pytest.mark.parametrize("family", [f for f in FAMILIES if to_parties(f)])
def test_a_named_receiver_gets_what_the_table_has_for_its_role_and_nothing_else(world: World, family: str) -> None:
    """Every kind, from every role to every role: delivered in the first process of the table, else no route."""
    wrong: dict[tuple[str, ...], Any] = {}
    for kind, role in cells(family):
        sender = f"{role.lower()}-a"
        for receiver, its_role in PARTIES.items():
            if receiver == sender:
                continue
            ways = TABLE.get((family, kind, role, its_role), [])
            step = send(world, sender, family, kind, subject_for(family, kind, ways), receiver)
            expected = (Outcome.DELIVERED, receiver, ways[0].process) if ways else ("gate.route", None, None)
            wrong |= differs((kind, role, its_role), step, expected)
    assert wrong == {}


def differs(cell: tuple[str, ...], step: Step, expected: tuple[Any, ...]) -> dict[tuple[str, ...], Any]:
    """What is not as expected, by cell."""
    leaves, found = evidence_in(step.outgoing), list[tuple[Any, ...]]()
    for decision, leaf in zip(step.decisions, leaves, strict=True):
        if decision.code == "gate.route":
            found.append((decision.code, None, None))
        else:
            found.append((decision.outcome, decision.receiver, leaf.get("process")))
    return {} if found == [expected] else {cell: (found, expected)}


# In primary education no home address goes to a shop: of what the table lets go, this is all that the policy stops.
NOT_IN_PO = ("order", "DELIVERY_ADDRESS")


@pytest.mark.parametrize("sector", SECTORS)
@pytest.mark.parametrize("family", [f for f in FAMILIES if to_parties(f)])
def test_without_a_named_receiver_every_connected_party_of_the_tables_roles_gets_it(
    world: World, family: str, sector: str
) -> None:
    """Fan-out: all parties of all these roles but the sender itself; where no role is, the sender is told so."""
    wrong = {}
    for kind, role in cells(family):
        sender = f"{role.lower()}-a"
        ways = {r: TABLE[family, kind, role, r] for r in ROLES if (family, kind, role, r) in TABLE}
        subject = subject_for(family, kind, [way for found in ways.values() for way in found])
        step = send(world, sender, family, kind, subject, sector=sector)
        expected = {party for party, its_role in PARTIES.items() if its_role in ways} - {sender}
        code = "ok" if ways else "gate.route"
        if (sector, family, kind) == ("PO", *NOT_IN_PO) and ways:
            expected, code = set(), "gate.policy"
        if family == "control" and ways:  # to nobody but whom it names, and the school
            expected &= {"sis-a"}
            code = "ok" if expected else "gate.receivers"
        codes = {d.code.removesuffix(".unchecked") for d in step.decisions}
        if (good(step.decisions), codes) != (expected, {code}):
            wrong[kind, role] = (step.decisions, expected)
    assert wrong == {}


@pytest.mark.parametrize("family", [f for f in FAMILIES if to_parties(f)])
def test_a_route_says_whether_an_event_must_may_or_must_not_be_about_somebody(world: World, family: str) -> None:
    """The stricter of what the family says of the kind and what the table says of the way."""
    wrong = {}
    for (name, kind, role, its_role), ways in TABLE.items():
        if name != family:
            continue
        sender, receiver = f"{role.lower()}-a", f"{its_role.lower()}-b"
        rules = {catalogue().family(family).kinds[kind].subject, ways[0].subject}
        who = subject_of(family, kind)
        for subject in (Subject(), PUPIL if who.kind == "NONE" else who):
            decision = send(world, sender, family, kind, subject, receiver).decisions[0]
            nobody = subject.kind == "NONE"
            code = "subject.missing" if "required" in rules and nobody else "ok"
            code = "subject.not_allowed" if "none" in rules and not nobody else code
            if decision.code.removesuffix(".unchecked") != code:
                wrong[kind, role, its_role, subject.kind] = (decision.code, code)
    assert wrong == {}


def test_every_route_of_the_table_has_one_subject_rule_and_one_need_for_a_connection() -> None:
    """Whichever process is taken: so that nothing passes in the second one that the first one does not let pass."""
    for cell, ways in TABLE.items():
        assert len({(way.connection, way.subject, str(way.closing)) for way in ways}) == 1, cell
        assert {way.process for way in ways} <= set(PROCESSES)


def test_identity_events_go_to_the_vault_from_the_schools_own_sis_and_from_nobody_else(world: World) -> None:
    """Another SIS has the route and not the mandate; other roles do not have the route."""
    wrong = {}
    for kind, (sender, role) in product(catalogue().family("identity").kinds, PARTIES.items()):
        ways = TABLE.get(("identity", kind, role, "VAULT"), [])
        assert bool(ways) == (role == "SIS")
        previous = PUPIL.user_ids if kind in ("MERGE", "REPLACE") else ()
        subject = Subject("PUPIL", PUPIL.eck_id, PUPIL.user_ids, previous)
        for receiver in (None, "shop-b"):
            codes = [d.code for d in send(world, sender, "identity", kind, subject, receiver).decisions]
            expected = "ok.vault" if sender == "sis-a" else "school.not_yours" if role == "SIS" else "gate.route"
            if codes != [expected]:
                wrong[kind, sender, receiver] = codes
    assert wrong == {}


def test_connection_events_go_to_the_registry_and_to_whom_they_concern(world: World) -> None:
    """The other party of the link and the school's SIS; nobody else, though all have agreements."""
    wrong = {}
    for kind, sender, receiver in product(("OFFER", "DECLINE", "REVOKE"), PARTIES, PARTIES):
        if PARTIES[sender] == PARTIES[receiver] or (said := link(kind, sender, receiver)) is None:
            continue
        got = good(send(world, sender, "connection", kind, Subject(), said=said).decisions)
        concerned = {receiver} if PARTIES[sender] == "SIS" else {receiver, "sis-a"}  # no route from SIS to SIS
        if got != {"registry", *concerned}:
            wrong[kind, sender, receiver] = got
    assert wrong == {}


def test_a_connection_event_to_a_named_party_reaches_the_registry_and_that_party(world: World) -> None:
    """One of another role by the table; one of the same role has no route."""
    said = link("OFFER", "sis-a", "shop-a")
    for receiver, role in PARTIES.items():
        if receiver != "sis-a":
            step = send(world, "sis-a", "connection", "OFFER", Subject(), receiver, said)
            assert good(step.decisions) == {"registry", *({receiver} if role != "SIS" else ())}


@pytest.mark.parametrize("receiver", ["vault", "registry", "broker", "niemand"])
def test_what_is_the_brokers_own_can_not_be_named_as_receiver(world: World, receiver: str) -> None:
    """Neither vault nor registry is reached by calling it."""
    for family, kind in (("usage", "USE"), ("control", "STATUS"), ("licence", "GRANT")):
        role = next(s for f, k, s, _ in TABLE if (f, k) == (family, kind))
        step = send(world, f"{role.lower()}-a", family, kind, Subject(), receiver)
        assert [(d.code, d.receiver) for d in step.decisions] == [("gate.connection", None)]


def test_only_the_broker_itself_asks_for_a_seed(world: World) -> None:
    """SEED_REQUEST is a kind of the family without any route."""
    assert not any(kind == "SEED_REQUEST" for _, kind, _, _ in TABLE)
    for sender in PARTIES:
        codes = [d.code for d in send(world, sender, "control", "SEED_REQUEST", Subject(), "sis-b").decisions]
        assert codes == ["gate.route"]
