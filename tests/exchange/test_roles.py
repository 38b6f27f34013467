"""A party with several roles acts in one of them for each event: the first of the table whose gates are all open."""

from __future__ import annotations

import json
from datetime import timedelta
from itertools import combinations
from typing import Any

import pytest

from broker.audit.leaf import canonical
from broker.client import Subject
from broker.exchange import Outcome
from broker.exchange.model import Step
from broker.registry import Registry
from broker.schemas import catalogue
from broker.schemas.outputs import role_schema
from tests.exchange.bodies import body
from tests.exchange.open_world import PARTIES, ROLES, SCHOOL, agreement, open_world, sides, subject_of
from tests.exchange.route_table import TABLE, between_parties
from tests.exchange.world import BOOK, NOW, World, evidence_in

BOTH = "portal-b"  # gets a second role here


def with_roles(world: World, *roles: str, party: str = BOTH) -> None:
    """Give a party these roles."""
    entry = json.loads(world.records[f"party/{party}"]) | {"roles": list(roles)}
    world.registry = world.registry.with_changes({f"party/{party}": canonical(entry)})


def send(world: World, sender: str, family: str, kind: str, receiver: str | None = BOTH, **changes: Any) -> Step:
    """One event, committed."""
    said, about = changes.pop("said", {}), changes.pop("subject", subject_of(family, kind))
    made = body(family, kind, full=True, **said)
    where = {"school": SCHOOL, "sector": "VO"} | changes
    return world.run(sender, world.made(sender, family, kind, made, about, receiver=receiver, **where))


def unlink(world: World, sender: str, receiver: str, family: str, process: str, **changes: Any) -> None:
    """Switch a link off, or change it otherwise."""
    for key, side in sides(sender, receiver, family, process, **changes or {"state": "declined"}).items():
        world.registry = world.registry.with_changes({key: canonical(side)})


# family, kind, sender -> the receivers' roles that get it, in the order of the table.
SEVERAL = {
    (f, k, s): tuple(r for (f2, k2, s2, r) in TABLE if (f2, k2, s2) == (f, k, s))
    for (f, k, s, _) in between_parties()
    if f not in ("control",)
}
CHOICES = [(*cell, pair) for cell, roles in SEVERAL.items() for pair in combinations(roles, 2)]


@pytest.mark.parametrize("turned", [False, True])
def test_of_two_roles_that_get_an_event_the_one_that_stands_first_in_the_table_is_taken(turned: bool) -> None:
    """Whatever order the party's roles are registered in; what it gets is of that role's schema, not of both."""
    world, wrong = open_world(), {}
    for family, kind, sender, pair in CHOICES:
        with_roles(world, *(reversed(pair) if turned else pair))
        world.outgoing.clear()
        step = send(world, f"{sender.lower()}-a", family, kind)
        got = world.delivered(BOTH, family)
        expected = schema_for(world.registry, family, kind, pair[0])
        if [d.code[:2] for d in step.decisions] != ["ok"] or got[0].envelope["body_schema"] != expected:
            wrong[family, kind, pair] = step.decisions
    assert wrong == {}
    assert len(CHOICES) > 8


def schema_for(registry: Registry, family: str, kind: str, role: str) -> bytes:
    """The fingerprint of what a role gets, in the first process of the table."""
    route = next(r for r in registry.routes if r.family == family and kind in r.kinds and r.receiver_role == role)
    return role_schema(catalogue().family(family), registry.policy, route, "VO").fingerprint


def test_when_a_gate_of_the_first_role_is_closed_it_acts_in_the_next() -> None:
    """Usage goes to a portal by connection, to a shop by its agreement alone. Each role has its own attributes."""
    world = open_world()
    with_roles(world, "PORTAL", "SHOP")
    send(world, "publisher-a", "usage", "USE")
    unlink(world, "publisher-a", BOTH, "usage", "Gebruik")
    step = send(world, "publisher-a", "usage", "USE")
    assert [d.code for d in step.decisions] == ["ok"]
    as_portal, as_shop = world.delivered(BOTH)
    assert "activation_code" not in as_portal.body
    assert as_shop.body["activation_code"] is not None
    assert "progress_note" in as_portal.body
    assert "progress_note" not in as_shop.body
    world.registry = world.registry.with_changes({f"agreement/vwo-{BOTH}": None})
    assert [d.code for d in send(world, "publisher-a", "usage", "USE").decisions] == ["gate.agreement"]


@pytest.mark.parametrize(
    ("closed", "code"),
    [
        ({"link"}, "gate.connection"),
        ({"agreement"}, "gate.agreement"),
        ({"link", "agreement"}, "gate.connection"),
        ({"keys"}, "receiver.key"),
    ],
)
def test_when_all_are_closed_the_refusal_tells_how_far_it_came(closed: set[str], code: str) -> None:
    """Roster to a portal that is a publisher too: both by connection, in one process or the other."""
    world = open_world()
    with_roles(world, "PORTAL", "PUBLISHER")
    if "link" in closed:
        for process in ("Toegang", "BestellenLeveren"):
            unlink(world, "sis-a", BOTH, "roster", process)
    if "agreement" in closed:
        world.registry = world.registry.with_changes({f"agreement/vwo-{BOTH}": None})
    if "keys" in closed:
        entry = json.loads(world.records[f"party/{BOTH}"]) | {"roles": ["PORTAL", "PUBLISHER"], "keys": []}
        world.registry = world.registry.with_changes({f"party/{BOTH}": canonical(entry)})
    assert [d.code for d in send(world, "sis-a", "roster", "MEMBERSHIP").decisions] == [code]


# ---- processes: a role may get a kind in several


PROCESSES_OF = {cell: [way.process for way in ways] for cell, ways in TABLE.items() if len(ways) > 1}


def test_of_several_processes_the_first_is_taken_that_is_open() -> None:
    """Every cell with several processes: close them one after the other, and the next one carries the event."""
    wrong = {}
    for (family, kind, role, its_role), processes in PROCESSES_OF.items():
        if family == "connection":
            continue
        world = open_world()
        receiver = f"{its_role.lower()}-b"
        for taken in range(len(processes)):
            purposes = [{"process": p, "purpose": "x", "basis": "publieke_taak"} for p in processes[taken:]]
            entry = agreement(receiver, processes=purposes)
            world.registry = world.registry.with_changes({f"agreement/vwo-{receiver}": canonical(entry)})
            about = Subject() if TABLE[family, kind, role, its_role][0].subject == "none" else subject_of(family, kind)
            step = send(world, f"{role.lower()}-a", family, kind, receiver, subject=about)
            if [x.get("process") for x in evidence_in(step.outgoing)] != [processes[taken]]:
                wrong[family, kind, role, its_role, taken] = step.decisions
    assert wrong == {}
    assert {cell[0] for cell in PROCESSES_OF} == {"licence", "roster", "control", "connection"}


def test_a_link_in_another_process_does_not_carry_it() -> None:
    """A connection is for one process: that in BestellenLeveren does not open Toegang."""
    world = open_world()
    unlink(world, "sis-a", BOTH, "roster", "Toegang")
    step = send(world, "sis-a", "roster", "MEMBERSHIP")
    assert evidence_in(step.outgoing)[0]["process"] == "BestellenLeveren"
    unlink(world, "sis-a", BOTH, "roster", "BestellenLeveren")
    assert [d.code for d in send(world, "sis-a", "roster", "MEMBERSHIP").decisions] == ["gate.connection"]
    for process in ("Gebruik", "Terugkoppelen"):
        assert world.registry.connected(SCHOOL, "sis-a", BOTH, "roster", process, BOOK)


def test_a_way_that_is_open_goes_before_one_that_only_closes() -> None:
    """The link to the portal was revoked yesterday; as a shop it may have the retraction whole, and as of today."""
    world = open_world()
    with_roles(world, "PORTAL", "SHOP")
    yesterday = (NOW - timedelta(days=1)).isoformat()
    unlink(world, "publisher-a", BOTH, "usage", "Gebruik", state="revoked", at=yesterday)
    step = send(world, "publisher-a", "usage", "RETRACT")
    assert [d.code for d in step.decisions] == ["ok.unchecked"]
    assert "closing" not in evidence_in(step.outgoing)[0]
    with_roles(world, "PORTAL")
    assert "closing" in evidence_in(send(world, "publisher-a", "usage", "RETRACT").outgoing)[0]


# ---- senders


def test_a_sender_with_several_roles_reaches_the_receivers_of_each_of_them() -> None:
    """A shop that is a publisher too: its answer goes to shops as of a publisher, to the SIS as of a shop."""
    world = open_world()
    with_roles(world, "SHOP", "PUBLISHER", party="shop-a")
    step = send(world, "shop-a", "order", "CONFIRMED", None, subject=Subject())
    assert {d.receiver for d in step.decisions if d.outcome is Outcome.DELIVERED} == {"shop-b", "sis-a", "sis-b"}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_that_a_sender_lost_carries_nothing_any_more(role: str) -> None:
    """Every kind that only this role may send."""
    world, sender = open_world(), f"{role.lower()}-a"
    others = [other for other in ROLES if other != role]
    with_roles(world, *others, party=sender)
    passed = []
    for family, kind, its_role, receiver_role in between_parties():
        if its_role != role or any((family, kind, other, receiver_role) in TABLE for other in others):
            continue
        about = Subject() if TABLE[family, kind, role, receiver_role][0].subject == "none" else subject_of(family, kind)
        step = send(world, sender, family, kind, f"{receiver_role.lower()}-b", subject=about)
        passed += [(family, kind) for d in step.decisions if d.code != "gate.route"]
    assert passed == []


# ---- without a named receiver


def test_everybody_who_is_connected_gets_it_and_nobody_is_told_of_those_who_are_not() -> None:
    """Two portals, one of them not connected: one delivery, and no word of the other."""
    world = open_world()
    unlink(world, "publisher-a", "portal-a", "usage", "Gebruik")
    receivers = {d.receiver for d in send(world, "publisher-a", "usage", "PROGRESS", None).decisions}
    assert receivers == {"portal-b"}


def test_when_nobody_is_connected_the_sender_is_told_so() -> None:
    """One refusal for all, without a name."""
    world = open_world()
    for portal in ("portal-a", "portal-b"):
        unlink(world, "publisher-a", portal, "usage", "Gebruik")
    step = send(world, "publisher-a", "usage", "PROGRESS", None)
    assert [(d.code, d.receiver) for d in step.decisions] == [("gate.receivers", None)]


def test_when_nobody_may_get_it_for_whom_it_is_about_the_sender_is_told_that() -> None:
    """A publisher's answer about a pupil: no shop may have it, and that is no matter of connections."""
    step = send(open_world(), "publisher-a", "order", "CONFIRMED", None)
    assert [(d.code, d.field, d.receiver) for d in step.decisions] == [("subject.not_allowed", "subject", None)]


def test_one_receiver_without_key_does_not_keep_it_from_the_others() -> None:
    """It is named, so that somebody does something about it."""
    world = open_world()
    entry = json.loads(world.records["party/portal-a"]) | {"keys": []}
    world.registry = world.registry.with_changes({"party/portal-a": canonical(entry)})
    step = send(world, "publisher-a", "usage", "PROGRESS", None)
    assert {d.receiver: d.code for d in step.decisions} == {"portal-a": "receiver.key", "portal-b": "ok"}


def test_a_party_gets_an_event_once_however_many_of_its_roles_would() -> None:
    """All roles at one party: one decision, one record."""
    world, wrong = open_world(), {}
    for party in PARTIES:
        with_roles(world, *ROLES, party=party)
    for family, kind, sender in SEVERAL:
        about = {way.subject for r in SEVERAL[family, kind, sender] for way in TABLE[family, kind, sender, r]}
        step = send(
            world, f"{sender.lower()}-a", family, kind, None,
            subject=Subject() if "none" in about else subject_of(family, kind),
        )  # fmt: skip
        receivers = [d.receiver for d in step.decisions if d.outcome is Outcome.DELIVERED]
        if len(receivers) != len(set(receivers)) or not receivers:
            wrong[family, kind] = step.decisions
    assert wrong == {}
