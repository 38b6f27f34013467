"""A policy held against schemas and routes: `broker policy check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from broker.cli.policy import app
from broker.data import data_path
from broker.exchange.authorise import SUBJECT_ATTRIBUTES as OF_THE_EXCHANGE
from broker.exchange.minimise import ID_ATTRIBUTES
from broker.policy import Policy, Routes
from broker.policy.check import NOT_IN_SCHEMAS, OF_THE_BROKER, SUBJECT_ATTRIBUTES, problems
from broker.schemas import catalogue

FAMILIES = [catalogue().family(name) for name in sorted({name for name, _ in catalogue().families})]
EVERYWHERE = dict.fromkeys(("BestellenLeveren", "Toegang", "Gebruik", "Terugkoppelen"), "D/D/D")


def policy_document() -> dict[str, Any]:
    """The shipped policy, to be changed."""
    document: dict[str, Any] = yaml.safe_load((data_path("policies") / "policy.yaml").read_text("utf-8"))
    return document


def row_of(document: dict[str, Any], attribute: str) -> dict[str, Any]:
    """The row of an attribute."""
    return next(row for row in document["attributes"] if attribute in row["attributes"])


def rule(**changes: Any) -> dict[str, Any]:
    """A rule that is right."""
    return {
        "id": "extra", "effects": {"Gebruik": "C/C/C"}, "purpose": "p", "basis": "publieke_taak", "evidence": "e",
        "owner": "o",
    } | changes  # fmt: skip


def found(folder: Path, document: dict[str, Any], routes: Routes | None = None) -> list[str]:
    """What is wrong with a policy."""
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(document), "utf-8")
    return problems(Policy.load(path), routes or Routes.load(), FAMILIES)


def routes_without(folder: Path, family: str, kind: str, **where: str) -> Routes:
    """The shipped routes without those of a kind."""
    rows = []
    for route in Routes.load():
        row = route.model_dump(mode="json")
        here = route.family == family and all(row[name] == value for name, value in where.items())
        row["kinds"] = [k for k in route.kinds if not (here and k == kind)]
        rows += [row] if row["kinds"] else []
    path = folder / "routes.yaml"
    path.write_text(yaml.safe_dump({"routes": rows}), "utf-8")
    return Routes.load(path)


def test_the_shipped_policy_fits_schemas_and_routes() -> None:
    """Nothing undecided, nothing idle, nothing that can reach nobody."""
    assert problems(Policy.load(), Routes.load(), FAMILIES) == []


def test_the_ids_of_a_subject_are_those_of_the_exchange() -> None:
    """This package may not import the exchange, so the two lists are held together here."""
    assert frozenset(OF_THE_EXCHANGE) == SUBJECT_ATTRIBUTES
    assert set(ID_ATTRIBUTES.values()) == SUBJECT_ATTRIBUTES - {"eckId"}


def test_the_list_of_what_no_schema_has_is_no_longer_than_needed() -> None:
    """Each has a row and a reason, and a schema that takes one up takes it off the list."""
    used = {name for family in FAMILIES for name in family.attributes} | SUBJECT_ATTRIBUTES
    assert not used & NOT_IN_SCHEMAS.keys()
    assert NOT_IN_SCHEMAS.keys() <= Policy.load().attributes
    assert all(NOT_IN_SCHEMAS.values())
    for family, kind in OF_THE_BROKER:
        assert kind in catalogue().family(family).kinds


def test_an_attribute_without_a_row_is_found(tmp_path: Path) -> None:
    """P3: it never passes, and somebody should decide that."""
    document = policy_document()
    document["attributes"].remove(row_of(document, "resultUrl"))
    assert found(tmp_path, document) == [
        "attribute resultUrl of result.v1 has no row: nobody decided over it, so it never passes"
    ]


def test_an_id_without_a_row_is_found(tmp_path: Path) -> None:
    """The ids of the subject need rows too."""
    document = policy_document()
    document["attributes"].remove(row_of(document, "lasKey"))
    assert found(tmp_path, document) == [
        "attribute lasKey of the subject has no row: nobody decided over it, so it never passes"
    ]


def test_a_row_that_no_schema_knows_is_found(tmp_path: Path) -> None:
    """A name that was misspelt would else decide over nothing, unseen."""
    document = policy_document()
    row_of(document, "givenName")["attributes"].append("givenNaam")
    assert found(tmp_path, document) == ["attribute givenNaam has a row, but no schema has it"]


def test_a_rule_that_others_outdo_everywhere_is_found(tmp_path: Path) -> None:
    """It reads as if it decided something."""
    document = policy_document()
    rules = row_of(document, "homeAddress")["rules"]
    rules += [
        rule(id=f"home-{role.lower()}", effects=EVERYWHERE, receiver_roles=[role], basis="geen")
        for role in ("SIS", "PUBLISHER", "PORTAL")
    ]
    rules[1]["effects"] = EVERYWHERE | {"BestellenLeveren": "D/C/C"}
    assert found(tmp_path, document) == [
        "rule home-address never applies: rules that name more decide everywhere where it speaks"
    ]


@pytest.mark.parametrize(
    ("attribute", "effects", "roles"),
    [
        ("comment", {"Terugkoppelen": "C/C/C"}, ["PUBLISHER"]),  # only receipts go there, and those hold no comment
        ("homeAddress", {"Toegang": "C/C/C"}, ["SHOP"]),  # no route: the shop gets no roster in that process
        ("score", {"Gebruik": "C/C/C"}, ["SIS"]),  # no kind of usage has a score
    ],
)
def test_a_rule_on_a_way_that_no_event_goes_is_found(
    tmp_path: Path, attribute: str, effects: dict[str, str], roles: list[str]
) -> None:
    """What it lets pass can not come there: no route, or no kind that may hold it."""
    document = policy_document()
    row = row_of(document, attribute)
    for other in row["rules"]:  # two rules that name as much must not meet
        if other.get("receiver_roles") is not None and set(roles) <= set(other["receiver_roles"]):
            for process in effects:
                other["effects"].pop(process, None)
    row["rules"].append(rule(effects=effects, receiver_roles=roles))
    assert [p for p in found(tmp_path, document) if p.startswith("rule extra never applies: no route takes")]


def test_a_kind_that_nobody_can_send_is_found(tmp_path: Path) -> None:
    """Unless it is the broker's own."""
    routes = routes_without(tmp_path, "result", "RECEIPT")
    assert problems(Policy.load(), routes, FAMILIES) == ["result RECEIPT has no route: nobody can send it"]


def test_a_kind_whose_point_the_policy_stops_is_found(tmp_path: Path) -> None:
    """R11: a change that would silence a whole kind of event is seen before it holds."""
    document = policy_document()
    for one in row_of(document, "score")["rules"]:
        one["effects"] = EVERYWHERE
        one["basis"] = "geen"
    assert found(tmp_path, document) == [
        f"result {kind} from PUBLISHER to {role} in Terugkoppelen never passes: the policy stops score, which it is about"
        for kind in ("RESULT", "CORRECTION")
        for role in ("SIS", "PORTAL")
    ]


def test_routes_of_unknown_families_and_kinds_are_found(tmp_path: Path) -> None:
    """A route for nothing; and one whose subject contradicts the schema."""
    rows = [route.model_dump(mode="json") for route in Routes.load()]
    extra = {"family": "weather", "kinds": ["RAIN"], "sender_role": "SIS", "receiver_role": "SHOP",
             "process": "Gebruik", "connection": "required", "evidence": "e"}  # fmt: skip
    rows += [extra, extra | {"family": "usage", "kinds": ["RAIN"]}]
    rows += [extra | {"family": "order", "kinds": ["LINE"], "subject": "required"}]
    path = tmp_path / "routes.yaml"
    path.write_text(yaml.safe_dump({"routes": rows}), "utf-8")
    assert problems(Policy.load(), Routes.load(path), FAMILIES) == [
        "routes: there is no family weather",
        "routes: family usage has no kind RAIN",
        "order LINE from SIS to SHOP in Gebruik never passes: its subject is none, the route says required",
    ]


def test_the_command_says_that_the_shipped_policy_fits() -> None:
    """Exit 0 and nothing on stdout."""
    shown = CliRunner().invoke(app, ["check"])
    assert (shown.exit_code, shown.stdout) == (0, "")


def test_the_command_prints_problems_and_ends_with_1(tmp_path: Path) -> None:
    """One a line, also as JSON; for a policy and routes of one's own."""
    document = policy_document()
    document["attributes"].remove(row_of(document, "resultUrl"))
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(document), "utf-8")
    shown = CliRunner().invoke(app, ["check", str(path)])
    assert shown.exit_code == 1
    assert shown.stdout.startswith("attribute resultUrl of result.v1 has no row")
    routes_without(tmp_path, "result", "RECEIPT")
    as_json = CliRunner().invoke(app, ["check", str(path), "--routes", str(tmp_path / "routes.yaml"), "--json"])
    assert as_json.exit_code == 1
    assert [json.loads(line)["problem"].split()[0] for line in as_json.stdout.splitlines()] == ["attribute", "result"]
