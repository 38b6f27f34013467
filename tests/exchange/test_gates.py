"""The four gates before every delivery, each with its withdrawal (promise P7), and who may speak for whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from uuid import uuid4

import pytest

from broker.client import Control, Progress, Subject
from broker.exchange import Outcome, authorise
from broker.policy import Policy, Routes
from tests.exchange.world import BOOK, DELTA, EMMA, NOW, NOW_MS, OOST, PORTAL, SHOP, SIS, World, enrolment, event, usage

DAY_MS = 86_400_000
TO_PORTAL = "connection/po-usage-delta-portaal"
AGREEMENT = "agreement/vwo-po-portaal"
Withdraw = Callable[[World], None]


def without_route(world: World) -> None:
    """No usage from publishers to portals any more."""
    routes = Routes(route for route in world.registry.routes if route.receiver_role != "PORTAL")
    world.registry = world.registry.with_changes({"routes/current": routes.record()})


def without_policy(world: World) -> None:
    """The policy denies usage dates to everybody."""
    rows = [row for row in Policy.load().rows if "usageDates" not in row.attributes]
    world.registry = world.registry.with_changes({"policy/current": Policy(rows).record()})


def edited(key: str, **fields: object) -> Withdraw:
    """A registry entry with something changed; without anything, gone."""
    return lambda world: world.edit(key, **fields)


def agreement(**change: object) -> Withdraw:
    """The portal's agreement with something changed."""
    return edited(AGREEMENT, **change)


def products(*ids: str) -> list[dict[str, str]]:
    """Products of an agreement."""
    return [{"id": i, "type": "ordinary", "does": "Toont leermiddelen"} for i in ids]


OTHER_BOOK = "9789493113862"
TOEGANG = [{"process": "Toegang", "purpose": "Inloggen", "basis": "publieke_taak"}]
WITHDRAWN: dict[str, tuple[Withdraw, str]] = {
    "gate 1, the route is gone": (without_route, "gate.route"),
    "gate 1, the receiver changed its role": (edited(f"party/{PORTAL}", roles=["PUBLISHER"]), "gate.route"),
    "gate 2, the agreement is gone": (agreement(), "gate.agreement"),
    "gate 2, the agreement ended yesterday": (
        agreement(valid_until="2026-11-23", local_ids_until="2026-11-23"), "gate.agreement",
    ),
    "gate 2, the agreement begins tomorrow": (agreement(valid_from="2026-11-25"), "gate.agreement"),
    "gate 2, it is for another school of the board": (agreement(schools=["99PB"]), "gate.agreement"),
    "gate 2, it is about another product": (agreement(products=products(OTHER_BOOK)), "gate.agreement"),
    "gate 2, it is for another process": (agreement(processes=TOEGANG), "gate.agreement"),
    "gate 3, the sender's side is gone": (edited(f"{TO_PORTAL}/sender"), "gate.connection"),
    "gate 3, the receiver's side is gone": (edited(f"{TO_PORTAL}/receiver"), "gate.connection"),
    "gate 3, the sender revoked": (edited(f"{TO_PORTAL}/sender", state="revoked"), "gate.connection"),
    "gate 3, the receiver declined": (edited(f"{TO_PORTAL}/receiver", state="declined"), "gate.connection"),
    "gate 3, another product": (edited(f"{TO_PORTAL}/receiver", products=[OTHER_BOOK]), "gate.connection"),
    "gate 3, the school has another SIS": (edited("school/99PA", sis=OOST), "gate.connection"),
    "gate 3, the mandate is younger": (edited("school/99PA", mandated_from="2026-11-01"), "gate.connection"),
    "gate 4, the policy denies it": (without_policy, "gate.policy"),
    "gate 4, the agreement does not name it": (agreement(attributes=["yearGroup"]), "ok"),  # usage dates are A there
    "no key": (edited(f"party/{PORTAL}", keys=[]), "receiver.key"),
    "no such party any more": (edited(f"party/{PORTAL}"), "gate.connection"),
}  # fmt: skip


@pytest.mark.parametrize("name", WITHDRAWN)
def test_a_withdrawn_gate_stops_the_named_receiver_and_only_what_it_withdraws(school: World, name: str) -> None:
    """With everything in place it is delivered; after the withdrawal it is refused with the gate's code."""
    withdraw, code = WITHDRAWN[name]
    assert [d.code for d in school.send(DELTA, event(receiver=PORTAL))] == ["ok"]
    withdraw(school)
    assert [d.code for d in school.send(DELTA, event(receiver=PORTAL))] == [code]
    assert len(school.topic(f"out.{PORTAL}.usage")) == 1 + (code == "ok")


@pytest.mark.parametrize("name", [n for n, (_, code) in WITHDRAWN.items() if code != "ok"])
def test_a_withdrawn_gate_stops_the_broadcast_to_that_receiver(school: World, name: str) -> None:
    """Without a named receiver the portal gets nothing either; not by another way."""
    WITHDRAWN[name][0](school)
    decisions = school.send(DELTA, event())
    assert PORTAL not in {d.receiver for d in decisions if d.outcome is Outcome.DELIVERED}
    assert school.topic(f"out.{PORTAL}.usage") == []


@pytest.mark.parametrize("name", [n for n, (_, code) in WITHDRAWN.items() if code != "ok"])
def test_a_withdrawn_gate_stops_what_was_parked(world: World, name: str) -> None:
    """Parked under the old registry, released under the new: refused, and not parked any more."""
    late = Subject("PUPIL", None, (("LAS_KEY", "L0099"),))
    assert world.send(DELTA, event(receiver=PORTAL, subject=late))[0].outcome is Outcome.PARKED
    world.send(SIS, enrolment(None, "L0099"))
    WITHDRAWN[name][0](world)
    assert [d.outcome for d in world.run(DELTA).decisions] == [Outcome.REFUSED]
    assert world.topic(f"out.{PORTAL}.usage") == []
    assert world.state(DELTA).parked == {}


def test_a_gate_that_is_opened_again_lets_pass_again(school: World) -> None:
    """Nothing remembered from the registry in between is used."""
    school.edit(f"{TO_PORTAL}/sender", state="revoked")
    assert [d.code for d in school.send(DELTA, event(receiver=PORTAL))] == ["gate.connection"]
    school.edit(f"{TO_PORTAL}/sender", state="accepted")
    assert [d.code for d in school.send(DELTA, event(receiver=PORTAL))] == ["ok"]


def test_an_agreement_ends_at_midnight_in_the_middle_of_a_day_of_work(school: World) -> None:
    """The last day counts whole; the first millisecond after it does not, though the registry did not change."""
    school.edit(AGREEMENT, valid_until="2026-11-24", local_ids_until="2026-11-24")
    midnight = (NOW_MS // DAY_MS + 1) * DAY_MS - 3_600_000  # in the Netherlands
    school.now_ms = midnight - 1
    assert [d.code for d in school.send(DELTA, event(receiver=PORTAL))] == ["ok"]
    school.now_ms = midnight
    assert [d.code for d in school.send(DELTA, event(receiver=PORTAL))] == ["gate.agreement"]


def test_a_retraction_passes_the_gates_like_everything_else(school: World) -> None:
    """RETRACT names no essential attribute; route, agreement and connection stand all the same."""
    assert [d.code for d in school.send(DELTA, event(kind="RETRACT", receiver=PORTAL))] == ["ok.unchecked"]
    school.edit(f"{TO_PORTAL}/sender", state="revoked")
    assert [d.code for d in school.send(DELTA, event(kind="RETRACT", receiver=PORTAL))] == ["gate.connection"]


def test_progress_has_a_route_to_the_portal_only(school: World) -> None:
    """The SIS is connected and the shop has its agreement, and neither gets it."""
    decisions = school.send(DELTA, event(kind="PROGRESS", body=usage(progress=Progress(status="STARTED"))))
    assert [(d.receiver, d.code) for d in decisions] == [(PORTAL, "ok")]


@pytest.mark.parametrize("receiver", [DELTA, "vault", "broker", "", "Portaal-Plein", f"{PORTAL} ", "*"])
def test_a_receiver_that_is_no_receiver_is_one_answer(school: World, receiver: str) -> None:
    """Oneself, the broker's own names, nobody, and a name that is nearly right: not connected."""
    assert [d.code for d in school.send(DELTA, event(receiver=receiver))] == ["gate.connection"]


def test_a_receiver_that_is_no_party_is_not_repeated_in_audit_and_status(school: World) -> None:
    """What a sender writes there may be a pupil's name (promises P6 and P9)."""
    school.send(DELTA, event(receiver="Emma de Vries"))
    everything = b"".join(o.value or b"" for o in school.outgoing if not o.topic.startswith("parked"))
    assert b"Emma de Vries" not in everything


def test_a_party_with_two_roles_acts_in_the_one_of_the_route(school: World) -> None:
    """A portal that is a shop too gets what a portal may have, not what a shop may have besides; a route that only
    portals have is not open to its other role."""
    school.edit(f"party/{PORTAL}", roles=["SHOP", "PORTAL"])
    school.send(DELTA, event(receiver=PORTAL, body=usage(activation_code="GEHEIM-1", frequency=3)))
    body = school.delivered(PORTAL)[0].body
    assert "activation_code" not in body
    school.edit(f"{TO_PORTAL}/sender", state="revoked")
    progress = event(kind="PROGRESS", receiver=PORTAL, body=usage(progress=Progress(status="STARTED")))
    assert [d.code for d in school.send(DELTA, progress)] == ["gate.connection"]


def test_only_the_mandated_sis_may_enrol_and_not_before_its_first_day(world: World) -> None:
    """A mandate of tomorrow is none today."""
    world.edit("school/99PA", mandated_from="2026-11-25")
    assert [d.code for d in world.send(SIS, enrolment())] == ["school.not_yours"]
    assert world.vault == {}
    world.now_ms += DAY_MS
    assert [d.code for d in world.send(SIS, enrolment())] == ["ok.vault"]


def test_an_attestation_of_tomorrow_does_not_open_the_eck_id_today(school: World) -> None:
    """The ECK iD goes to parties that are attested, not to those that will be (R29)."""
    school.edit(f"party/{PORTAL}", eck_id_attested_on="2026-11-25")
    school.send(DELTA, event(receiver=PORTAL))
    assert school.delivered(PORTAL)[0].subject["eck_id"] is None


def test_an_unknown_school_and_one_of_another_party_are_one_answer(school: World) -> None:
    """Promise P8, to the byte of the status but for the event's own id and place; locations are no way around it."""
    school.cut_off(DELTA, "99VA")
    school.send(DELTA, *[event(school=s, sector="VO") for s in ("99VA", "99ZZ", "99VA00", "99VA07", "99ZZ00")])
    answers = [status["results"] for status in school.statuses(DELTA)]
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0]["code"] == "school.not_yours"


def test_what_is_remembered_of_hostile_products_is_bounded(school: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender that invents product ids and receivers does not fill the memory."""
    monkeypatch.setattr(authorise, "MEMO_SIZE", 8)
    for number in range(20):
        school.send(DELTA, event(body=usage(product_id=f"00000000-0000-4000-8000-{number:012d}")))
        school.send(DELTA, event(receiver=f"partij-{number}"))
    assert len(authorise._memo(school.registry).answers) <= 8
    assert [d.code for d in school.send(DELTA, event(receiver=PORTAL, body=usage(product_id=BOOK)))] == ["ok"]


def test_the_shop_needs_no_connection_but_its_agreement(school: World) -> None:
    """`agreement-only`: switching the links off changes nothing, ending the agreement everything."""
    assert [d.code for d in school.send(DELTA, event(receiver=SHOP))] == ["ok"]
    school.edit("agreement/vwo-po-winkel")
    assert [d.code for d in school.send(DELTA, event(receiver=SHOP))] == ["gate.agreement"]


@pytest.mark.parametrize("change", [{"sis": "sis-zuid"}, {"mandated_until": "2026-11-23"}], ids=str)
def test_a_sis_without_the_boards_mandate_speaks_for_the_school_no_more(school: World, change: dict[str, str]) -> None:
    """Also over routes that need no connection, though its agreement still runs: else it could have others destroy."""
    body = Control(control_id=str(uuid4()), reason_code="GIVEN_BY_MISTAKE", deadline=NOW.date())
    ask = partial(event, kind="DESTROY_REQUEST", subject=Subject("PUPIL", EMMA), receiver=PORTAL, body=body)
    assert [d.code for d in school.send(SIS, ask())] == ["ok"]
    school.edit("school/99PA", mandated_from="2026-11-01", **change)
    assert [d.code for d in school.send(SIS, ask())] == ["school.not_yours"]


def test_a_request_to_destroy_reaches_only_whom_it_names(school: World) -> None:
    """Without a receiver it is no broadcast: it would tell all of a pupil whom they may never have had."""
    body = Control(control_id=str(uuid4()), reason_code="REQUEST_OF_PARENT", deadline=NOW.date())
    ask = partial(event, kind="DESTROY_REQUEST", subject=Subject("PUPIL", EMMA))
    assert [d.code for d in school.send(SIS, ask(body=body))] == ["gate.receivers"]
    decisions = school.send(SIS, ask(body=replace(body, other_party=PORTAL)))
    assert [(d.receiver, d.code) for d in decisions] == [(PORTAL, "ok")]
