"""The route table: gate 1, row by row."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from broker.cli.routes import app
from broker.errors import ConfigError
from broker.policy import DESTINATIONS, PROCESSES, ROLES, Closing, Route, Routes
from broker.schemas import catalogue

ROUTES = Routes.load()

# By hand, from domain.md sections 1 and 4: family, kinds, from, to, processes in the order in which they are tried,
# connection, subject, closing term (days; `<` only what happened before the end).
BL, TO, GE, TE = PROCESSES
ALL = f"{TO} {GE} {TE} {BL}"
REQUIRED, AGREEMENT = "required", "agreement-only"
EXPECTED = [
    ("order", "ORDER CHANGE DELIVERY_ADDRESS", "SIS", "SHOP", BL, REQUIRED, "required", ""),
    ("order", "CANCEL", "SIS", "SHOP", BL, REQUIRED, "required", "62"),
    ("order", "LINE LINE_CHANGE", "SHOP", "PUBLISHER", BL, AGREEMENT, "none", ""),
    ("order", "LINE_CANCEL CREDIT", "SHOP", "PUBLISHER", BL, AGREEMENT, "none", "400"),
    ("order", "CONFIRMED DECLINED SHIPPED BACKORDER RETURNED", "PUBLISHER", "SHOP", BL, AGREEMENT, "none", ""),
    ("order", "CREDITED", "PUBLISHER", "SHOP", BL, AGREEMENT, "none", "400"),
    ("order", "CONFIRMED DECLINED SHIPPED BACKORDER RETURNED", "SHOP", "SIS", BL, REQUIRED, "optional", ""),
    ("order", "CREDITED", "SHOP", "SIS", BL, REQUIRED, "optional", "62"),
    ("licence", "GRANT CHANGE TRANSFER", "SHOP", "PUBLISHER", BL, AGREEMENT, "optional", ""),
    ("licence", "GRANT CHANGE TRANSFER", "SHOP", "PORTAL", BL, REQUIRED, "optional", ""),
    ("licence", "BLOCK REINSTATE", "SHOP", "PUBLISHER", TO, AGREEMENT, "optional", ""),
    ("licence", "BLOCK REINSTATE", "SHOP", "PORTAL", TO, REQUIRED, "optional", ""),
    ("licence", "REVOKE EXPIRE", "SHOP", "PUBLISHER", BL, AGREEMENT, "optional", "62"),
    ("licence", "REVOKE EXPIRE", "SHOP", "PORTAL", BL, REQUIRED, "optional", "62"),
    ("licence", "CONFIRM ACTIVATE", "PUBLISHER PORTAL", "SHOP", f"{BL} {TO}", AGREEMENT, "optional", ""),
    ("usage", "ACTIVATION USE", "PUBLISHER", "PORTAL SIS", GE, REQUIRED, "optional", ""),
    ("usage", "ACTIVATION USE", "PUBLISHER", "SHOP", GE, AGREEMENT, "optional", ""),
    ("usage", "PROGRESS", "PUBLISHER", "PORTAL", GE, REQUIRED, "optional", ""),
    ("usage", "RETRACT", "PUBLISHER", "PORTAL SIS", GE, REQUIRED, "optional", "62"),
    ("usage", "RETRACT", "PUBLISHER", "SHOP", GE, AGREEMENT, "optional", "62"),
    ("result", "RESULT CORRECTION", "PUBLISHER", "SIS PORTAL", TE, REQUIRED, "required", "62<"),
    ("result", "RETRACT", "PUBLISHER", "SIS PORTAL", TE, REQUIRED, "required", "62"),
    ("result", "RECEIPT", "SIS", "PUBLISHER", TE, AGREEMENT, "none", "62"),
    ("roster", "GROUP", "SIS", "PUBLISHER PORTAL", f"{TO} {BL}", REQUIRED, "none", ""),
    ("roster", "MEMBERSHIP SUBJECT_TAUGHT", "SIS", "PUBLISHER PORTAL", f"{TO} {BL}", REQUIRED, "required", ""),
    ("roster", "LEAVE", "SIS", "PUBLISHER PORTAL", f"{TO} {BL}", REQUIRED, "required", "62"),
    ("roster", "GROUP", "SIS", "SHOP", BL, REQUIRED, "none", ""),
    ("roster", "MEMBERSHIP SUBJECT_TAUGHT", "SIS", "SHOP", BL, REQUIRED, "required", ""),
    ("roster", "LEAVE", "SIS", "SHOP", BL, REQUIRED, "required", "62"),
    ("identity", "ENROL CHANGE LEAVE MERGE REPLACE ERASE", "SIS", "VAULT", BL, "none", "required", ""),
    ("connection", "OFFER ACCEPT DECLINE REVOKE", "SIS SHOP PUBLISHER PORTAL", "REGISTRY", TO, "none", "none", ""),
    ("connection", "OFFER ACCEPT DECLINE REVOKE", "SIS", "SHOP PUBLISHER PORTAL", ALL, AGREEMENT, "none", ""),
    ("connection", "OFFER ACCEPT DECLINE REVOKE", "SHOP", "SIS PUBLISHER PORTAL", ALL, AGREEMENT, "none", ""),
    ("connection", "OFFER ACCEPT DECLINE REVOKE", "PUBLISHER", "SIS SHOP PORTAL", ALL, AGREEMENT, "none", ""),
    ("connection", "OFFER ACCEPT DECLINE REVOKE", "PORTAL", "SIS SHOP PUBLISHER", ALL, AGREEMENT, "none", ""),
    ("control", "DESTROY_REQUEST", "SIS", "SHOP PUBLISHER PORTAL", ALL, AGREEMENT, "optional", "400"),
    ("control", "DESTROY_CONFIRM", "SHOP PUBLISHER PORTAL", "SIS", ALL, AGREEMENT, "optional", "400"),
    ("control", "STATUS", "SIS", "SHOP PUBLISHER PORTAL", ALL, AGREEMENT, "none", ""),
    ("control", "STATUS", "SHOP", "SIS PUBLISHER PORTAL", ALL, AGREEMENT, "none", ""),
    ("control", "STATUS", "PUBLISHER", "SIS SHOP PORTAL", ALL, AGREEMENT, "none", ""),
    ("control", "STATUS", "PORTAL", "SIS SHOP PUBLISHER", ALL, AGREEMENT, "none", ""),
    ("control", "SEED_DONE", "SIS", "SHOP PUBLISHER PORTAL", ALL, AGREEMENT, "none", ""),
    ("control", "SEED_DONE", "SHOP PUBLISHER", "SIS PORTAL", ALL, AGREEMENT, "none", ""),
]
Cell = tuple[str, str, str, str]  # family, kind, sender role, receiver role
Way = tuple[str, str, str, str]  # process, connection, subject, closing


def expected_ways() -> dict[Cell, list[Way]]:
    """The table above, cell by cell."""
    found: dict[Cell, list[Way]] = {}
    for family, kinds, senders, receivers, processes, connection, subject, closing in EXPECTED:
        for cell in itertools.product([family], kinds.split(), senders.split(), receivers.split()):
            for process in processes.split():
                found.setdefault(cell, []).append((process, connection, subject, closing))  # type: ignore[arg-type]
    return found  # type: ignore[return-value]


def said(closing: Closing | None) -> str:
    """As the table above says it."""
    return "" if closing is None else f"{closing.days}{'<' if closing.dated_before_end else ''}"


WAYS = expected_ways()


@pytest.mark.parametrize("name", sorted({name for name, _ in catalogue().families}))
def test_r1_every_cell_of_the_route_table_is_as_agreed(name: str) -> None:
    """Each kind goes from each role to each where the table says so, in these processes in this order; else nowhere."""
    family = catalogue().family(name)
    for kind, sender, receiver in itertools.product(family.kinds, ROLES, DESTINATIONS):
        found = [r for r in ROUTES.find(name, kind, (sender,)) if r.receiver_role == receiver]
        ways = [(r.process, r.connection, r.subject, said(r.closing)) for r in found]
        assert ways == WAYS.get((name, kind, sender, receiver), []), f"{name} {kind} {sender} {receiver}"


def test_the_route_table_speaks_of_nothing_unknown() -> None:
    """Every route is of a kind that exists, so the test above has seen it."""
    for route in ROUTES:
        assert set(route.kinds) <= catalogue().family(route.family).kinds.keys()


def test_r5_nothing_about_a_pupil_reaches_a_portal_or_the_school_without_the_schools_connection() -> None:
    """Only answers to what was connected, and what asks to destroy, go by agreement alone."""
    free = {
        (route.family, kind)
        for route in ROUTES
        for kind in route.kinds
        if route.connection == AGREEMENT and route.receiver_role in ("PORTAL", "SIS") and route.subject != "none"
    }
    assert free == {("control", "DESTROY_REQUEST"), ("control", "DESTROY_CONFIRM")}


def test_r10_results_never_go_to_a_shop_and_an_address_to_nobody_else() -> None:
    """Roles are part of the route: SEM table 14."""
    assert {r.receiver_role for r in ROUTES if r.family == "result" and r.sender_role == "PUBLISHER"} == {
        "SIS",
        "PORTAL",
    }
    assert {r.receiver_role for r in ROUTES.find("order", "DELIVERY_ADDRESS", ROLES)} == {"SHOP"}


def test_r19_what_closes_something_has_a_term_and_nothing_else_has() -> None:
    """Domain, section 4: the closing kinds, a result dated before the end, and what retracts.

    What goes to the vault rests on no agreement and no link, and who left is still known there: it needs no term.
    """
    closing = {(route.family, kind) for route in ROUTES for kind in route.kinds if route.closing is not None}
    assert closing == {
        ("order", "CANCEL"), ("order", "LINE_CANCEL"), ("order", "CREDIT"), ("order", "CREDITED"),
        ("licence", "REVOKE"), ("licence", "EXPIRE"), ("usage", "RETRACT"),
        ("result", "RESULT"), ("result", "CORRECTION"), ("result", "RETRACT"), ("result", "RECEIPT"),
        ("roster", "LEAVE"),
        ("control", "DESTROY_REQUEST"), ("control", "DESTROY_CONFIRM"),
    }  # fmt: skip
    dated = {kind for route in ROUTES for kind in route.kinds if route.closing and route.closing.dated_before_end}
    assert dated == {"RESULT", "CORRECTION"}


def test_a_proposal_of_ours_says_so() -> None:
    """Evidence names a source, or says that there is none."""
    for route in ROUTES:
        assert any(
            word in route.evidence
            for word in ("SEM Ecosysteem", "UWLR", "R19", "R23", "Domain, ", "found in no source")
        ), route.evidence


def test_what_has_no_route_goes_nowhere() -> None:
    """Unknown family, kind or role: an empty answer, whatever the words."""
    assert ROUTES.find("usage", "USE", ("SHOP",)) == ()
    assert ROUTES.find("usage", "ENROL", ("PUBLISHER",)) == ()
    assert ROUTES.find("weather", "USE", ("PUBLISHER",)) == ()
    assert ROUTES.find("control", "SEED_REQUEST", ROLES) == (), "the broker's own to say"
    assert ROUTES.find("usage", "USE", ()) == ()


def test_a_party_with_two_roles_gets_the_routes_of_both() -> None:
    """In the order of the table."""
    both = ROUTES.find("usage", "PROGRESS", ("SIS", "PUBLISHER"))
    assert [route.receiver_role for route in both] == ["PORTAL"]
    assert ROUTES.find("identity", "ENROL", ("PUBLISHER", "SIS"))[0].receiver_role == "VAULT"


def test_the_answer_is_remembered_within_bounds() -> None:
    """Kinds come from events: ten thousand unheard ones must not fill the memory."""
    routes = Routes.load()
    first = routes.find("usage", "USE", ("PUBLISHER",))
    assert routes.find("usage", "USE", ("PUBLISHER",)) is first
    for number in range(20_001):
        routes.find("usage", f"KIND_{number}", ("PUBLISHER",))
    assert len(routes._found) <= 10_000
    assert routes.find("usage", "USE", ("PUBLISHER",)) == first


def test_routes_survive_the_registry() -> None:
    """Read from their record they are the same, to the byte."""
    again = Routes.from_record(ROUTES.record())
    assert again.record() == ROUTES.record()
    assert list(again) == list(ROUTES)
    assert len(again) == len(ROUTES) == len({id(route) for route in ROUTES})


def test_the_record_has_a_row_for_a_row() -> None:
    """It stands whole in the audit of each change: 200 routes with their evidence would be 60 kB."""
    rows = json.loads(ROUTES.record())["routes"]
    assert len(rows) < len(ROUTES) / 3
    assert (rows[0]["sender_role"], rows[0]["process"]) == ("SIS", "BestellenLeveren")
    assert len(ROUTES.record()) < 32_000


GOOD = """
routes:
  - {family: usage, kinds: [USE], sender_role: PUBLISHER, receiver_role: SHOP, process: Gebruik,
     connection: agreement-only, evidence: e}
"""


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        (", evidence: e", "", r"routes\[0\]\.evidence: is missing"),
        ("connection: agreement-only", "connection: none", "connection `none` is for the receivers VAULT"),
        ("receiver_role: SHOP", "receiver_role: VAULT", "connection `none` is for the receivers VAULT"),
        ("receiver_role: SHOP", "receiver_role: [SHOP, REGISTRY]", "connection `none` is for the receivers VAULT"),
        ("receiver_role: SHOP", "receiver_role: []", "receiver_role"),
        ("receiver_role: SHOP", "receiver_role: [SHOP, SHOP]", "USE: PUBLISHER to SHOP in Gebruik is there twice"),
        ("sender_role: PUBLISHER", "sender_role: VAULT", "sender_role"),
        ("kinds: [USE]", "kinds: [USE, USE]", "usage USE: PUBLISHER to SHOP in Gebruik is there twice"),
        ("kinds: [USE]", "kinds: []", "kinds"),
        ("kinds: [USE]", "kinds: [use]", "kinds"),
        ("process: Gebruik", "process: Verkopen", "process"),
        ("process: Gebruik", "process: [Gebruik, Verkopen]", r"process\[1\]"),
        ("evidence: e", "evidence: e, because: f", "because: is not a known field"),
        ("evidence: e", "evidence: e, subject: perhaps", "subject"),
        ("evidence: e", "evidence: e, closing: true", "closing"),
        ("evidence: e", "evidence: e, closing: {}", "closing.days: is missing"),
        ("evidence: e", "evidence: e, closing: {days: 0}", "closing.days"),
        ("evidence: e", "evidence: e, closing: {days: 401}", "closing.days"),
        ("evidence: e", "evidence: e, closing: {days: '9'}", "closing.days"),
        ("evidence: e", "evidence: e, closing: {days: 9, weeks: 1}", "weeks: is not a known field"),
        (
            "SHOP, process: Gebruik,\n     connection: agreement-only",
            "VAULT, process: Gebruik,\n     connection: none, closing: {days: 9}",
            "a closing term is for what goes to a party",
        ),
    ],
)
def test_a_route_table_with_a_mistake_does_not_load(tmp_path: Path, was: str, becomes: str, message: str) -> None:
    """With a sentence that says where."""
    path = tmp_path / "routes.yaml"
    assert was in GOOD
    path.write_text(GOOD, "utf-8")
    assert len(Routes.load(path)) == 1
    path.write_text(GOOD.replace(was, becomes), "utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        Routes.load(path)
    assert caught.value.code == "routes.invalid"


def test_a_row_may_speak_of_several_roles_and_processes(tmp_path: Path) -> None:
    """One route for each; of the processes the first comes first."""
    path = tmp_path / "routes.yaml"
    path.write_text(
        GOOD.replace("receiver_role: SHOP", "receiver_role: [SHOP, PORTAL]").replace(
            "process: Gebruik", "process: [Toegang, Gebruik]"
        ),
        "utf-8",
    )
    found = Routes.load(path).find("usage", "USE", ("PUBLISHER",))
    assert [(r.process, r.receiver_role) for r in found] == [
        ("Toegang", "SHOP"), ("Toegang", "PORTAL"), ("Gebruik", "SHOP"), ("Gebruik", "PORTAL"),
    ]  # fmt: skip


def test_a_route_can_not_be_made_that_a_file_could_not_hold() -> None:
    """Also in code: nothing but the broker itself needs no agreement."""
    with pytest.raises(ValidationError, match="connection `none`"):
        Route.model_validate(next(iter(ROUTES)).model_dump() | {"connection": "none"})
    to_vault = next(route for route in ROUTES if route.receiver_role == "VAULT")
    with pytest.raises(ValidationError, match="a closing term"):
        Route.model_validate(to_vault.model_dump() | {"closing": {"days": 9}})


def test_the_command_prints_the_table() -> None:
    """`broker routes show`: one line a route, of one family if asked, with the closing term in words."""
    shown = CliRunner().invoke(app, ["show", "--family", "result"])
    assert shown.exit_code == 0, shown.output
    lines = [line.split("\t") for line in shown.stdout.splitlines()]
    assert lines[0][:4] == ["family", "kinds", "from", "to"]
    assert len(lines) == 1 + sum(route.family == "result" for route in ROUTES)
    assert [
        "result", "RESULT CORRECTION", "PUBLISHER", "SIS", "Terugkoppelen", "required", "required",
        "62 d, dated before the end",
    ] in [line[:8] for line in lines]  # fmt: skip
    everything = CliRunner().invoke(app, ["show", "--json"])
    rows = [json.loads(line) for line in everything.stdout.splitlines()]
    assert rows == [route.model_dump(mode="json") for route in ROUTES]


def test_the_command_names_the_families_that_have_routes(tmp_path: Path) -> None:
    """When asked for one that has none; and a file of one's own can be shown."""
    path = tmp_path / "routes.yaml"
    path.write_text(GOOD, "utf-8")
    shown = CliRunner().invoke(app, ["show", "--routes", str(path)])
    assert "usage\tUSE\tPUBLISHER\tSHOP\tGebruik\tagreement-only\toptional\t-\te" in shown.stdout
    wrong = CliRunner().invoke(app, ["show", "--family", "weather"])
    assert isinstance(wrong.exception, ConfigError)
    assert "order, licence, usage" in str(wrong.exception)
