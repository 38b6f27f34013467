"""R11: a change of the policy is shown as a difference before it holds: `broker policy diff`."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from broker.cli.policy import app
from broker.data import data_path
from broker.policy import PROCESSES, PRODUCT_TYPES, RECEIVER_ROLES, SECTORS, Policy
from broker.policy.difference import Passing, passing, wording

SHIPPED = Policy.load()
DOCUMENT: dict[str, Any] = yaml.safe_load((data_path("policies") / "policy.yaml").read_text("utf-8"))
CELLS = list(itertools.product(PROCESSES, SECTORS, RECEIVER_ROLES, PRODUCT_TYPES))


def load(folder: Path, document: dict[str, Any]) -> Policy:
    """A policy of a document."""
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), "utf-8")
    return Policy.load(path)


def rules_of(document: dict[str, Any], attribute: str) -> list[dict[str, Any]]:
    """The rules of an attribute."""
    found: list[dict[str, Any]] = next(r for r in document["attributes"] if attribute in r["attributes"])["rules"]
    return found


def covered(change: Passing) -> set[tuple[str, str, str, str, str]]:
    """The cells that a change speaks about."""
    return {
        (change.attribute, change.process, *cell)
        for cell in itertools.product(change.sectors, change.receiver_roles, change.product_types)
    }


def test_a_policy_does_not_differ_from_itself() -> None:
    """No line at all."""
    assert passing(SHIPPED, SHIPPED) == []
    assert wording(SHIPPED, SHIPPED) == []


def test_a_changed_effect_is_told_where_it_changes(tmp_path: Path) -> None:
    """In one line, with what was and what becomes."""
    document = copy.deepcopy(DOCUMENT)
    rules_of(document, "homeAddress")[1]["effects"] = {"BestellenLeveren": "C/C/D"}
    before, after = "C (only if the agreement names it; if home-delivery)", "D (never)"
    changes = passing(SHIPPED, load(tmp_path, document))
    assert changes == [
        Passing("homeAddress", "BestellenLeveren", ("PO",), ("SHOP",), PRODUCT_TYPES, after, before),
        Passing("homeAddress", "BestellenLeveren", ("MBO",), ("SHOP",), PRODUCT_TYPES, before, after),
    ]
    assert changes[0].sentence() == (
        "homeAddress in BestellenLeveren (PO) to SHOP: was D (never);"
        " becomes C (only if the agreement names it; if home-delivery)."
    )
    assert wording(SHIPPED, load(tmp_path, document)) == []


def test_a_condition_that_goes_is_a_change_in_what_passes(tmp_path: Path) -> None:
    """R24: an address that passes without its condition is seen at once."""
    document = copy.deepcopy(DOCUMENT)
    rules_of(document, "parentEmail")[0]["conditions"] = ["no-school-account", "parents-informed"]
    changes = passing(SHIPPED, load(tmp_path, document))
    assert {(c.process, c.sectors, c.receiver_roles) for c in changes} == {
        (process, ("PO", "VO"), ("SIS", "SHOP", "PUBLISHER", "PORTAL")) for process in ("BestellenLeveren", "Toegang")
    }
    assert all(c.before.endswith("parents-informed, no-objection)") for c in changes)
    assert all(c.after.endswith("parents-informed)") for c in changes)


def test_a_product_type_is_named_where_not_all_change(tmp_path: Path) -> None:
    """A rule for legal tests only."""
    document = copy.deepcopy(DOCUMENT)
    rules_of(document, "initials").pop()
    (change,) = passing(SHIPPED, load(tmp_path, document))
    assert change.product_types == ("legal-test",)
    assert change.sentence().startswith("initials in Toegang (PO/VO/MBO) to PUBLISHER, for legal-test products: was C")


def test_an_attribute_that_comes_or_goes_is_told(tmp_path: Path) -> None:
    """From no rule to a rule, and back; with what its row and rules say."""
    document = copy.deepcopy(DOCUMENT)
    document["attributes"] = [r for r in document["attributes"] if "gender" not in r["attributes"]]
    less = load(tmp_path, document)
    gone, new = passing(SHIPPED, less), passing(less, SHIPPED)
    assert {c.after for c in gone} == {c.before for c in new} == {"- (no rule, so never)"}
    assert {c.sentence().split(";")[0] for c in wording(SHIPPED, less)} >= {
        "row gender is gone",
        "rule gender-test is gone",
    }
    assert {c.sentence().split(";")[0] for c in wording(less, SHIPPED)} >= {
        "row gender is new",
        "rule gender-test is new",
    }


@pytest.mark.parametrize("field", ["purpose", "evidence", "owner"])
def test_changed_words_are_told(tmp_path: Path, field: str) -> None:
    """R15: who answers for a rule and why is part of it."""
    document = copy.deepcopy(DOCUMENT)
    first = rules_of(document, "givenName")[0]
    was, first[field] = first[field], "something else"
    changed = load(tmp_path, document)
    assert passing(SHIPPED, changed) == []
    (change,) = wording(SHIPPED, changed)
    assert change.sentence() == f"rule given-name, {field}: was {was}; becomes something else."


def test_a_changed_class_or_label_is_told(tmp_path: Path) -> None:
    """Of the row."""
    document = copy.deepcopy(DOCUMENT)
    row = next(r for r in document["attributes"] if "yearGroup" in r["attributes"])
    row["class"], row["label"]["en"] = "linked", "year"
    assert {(c.what, c.field, c.after) for c in wording(SHIPPED, load(tmp_path, document))} == {
        ("row yearGroup", "class", "linked"),
        ("row yearGroup", "label", "jaargroep of leerjaar / year"),
    }


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_the_lines_are_exactly_the_cells_that_changed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever effects change: each cell that passes otherwise is in one line, and no other cell is in any."""
    document = copy.deepcopy(DOCUMENT)
    rows = [r for r in document["attributes"] if r["class"] != "identifying" and "transform" not in r["rules"][0]]
    for row in data.draw(st.lists(st.sampled_from(rows), min_size=1, max_size=3, unique_by=id)):
        for rule in row["rules"]:
            effects = {p: "/".join(data.draw(st.sampled_from("ACD")) for _ in SECTORS) for p in rule["effects"]}
            rule["effects"] = effects
            rule["basis"] = "publieke_taak" if set("".join(effects.values())) & set("AC") else "geen"
    new = load(tmp_path_factory.mktemp("policy"), document)
    told = [cell for change in passing(SHIPPED, new) for cell in covered(change)]
    assert len(told) == len(set(told))
    differs = {
        (name, process, sector, role, kind)
        for name in SHIPPED.attributes
        for process, sector, role, kind in CELLS
        if said(SHIPPED, process, sector, role, name, kind) != said(new, process, sector, role, name, kind)
    }
    assert set(told) == differs


def said(policy: Policy, *cell: str) -> tuple[object, ...] | None:
    """What decides in a cell."""
    found = policy.cell(*cell)
    if found is None:
        return None
    passes = found.effect in ("A", "C", "T")
    return found.effect, found.needs_agreement, found.rule.conditions if passes else (), found.rule.transform


def test_a_rule_that_is_only_written_elsewhere_changes_nothing(tmp_path: Path) -> None:
    """The version differs, since it is the hash of the whole; what passes and what rules say does not."""
    document = copy.deepcopy(DOCUMENT)
    document["attributes"].reverse()
    turned = load(tmp_path, document)
    assert turned.version != SHIPPED.version
    assert passing(SHIPPED, turned) == wording(SHIPPED, turned) == []


def run(*paths: Path, as_json: bool = False) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command."""
    shown = CliRunner().invoke(app, ["diff", *map(str, paths), *(["--json"] if as_json else [])])
    return shown.exit_code, shown.stdout, shown.stderr


def test_the_command_ends_with_2_and_shows_tables(tmp_path: Path) -> None:
    """As `registry plan` and `topics plan` do; and as JSON with the sentence."""
    old, new = data_path("policies") / "policy.yaml", tmp_path / "new.yaml"
    document = copy.deepcopy(DOCUMENT)
    rules_of(document, "homeAddress")[1] |= {"effects": {"BestellenLeveren": "D/C/D"}, "owner": "somebody"}
    new.write_text(yaml.safe_dump(document), "utf-8")
    code, out, _ = run(old, new)
    assert code == 2
    assert "homeAddress\tBestellenLeveren\tMBO\tSHOP\tordinary legal-test norm-test\tC (only if" in out
    assert "rule home-address-delivery\towner\tchain-privacy-group\tsomebody" in out
    code, out, _ = run(old, new, as_json=True)
    lines = [json.loads(line) for line in out.splitlines()]
    assert (code, [line["change"] for line in lines]) == (2, ["passing", "wording"])
    assert lines[0]["sentence"].startswith("homeAddress in BestellenLeveren (MBO) to SHOP: was C")


def test_the_command_says_when_nothing_differs(tmp_path: Path) -> None:
    """The same file ends with 0; the same rules in another order with 2, since the version is another."""
    old, turned = data_path("policies") / "policy.yaml", tmp_path / "turned.yaml"
    assert run(old, old)[:2] == (0, "")
    document = copy.deepcopy(DOCUMENT)
    document["attributes"].reverse()
    turned.write_text(yaml.safe_dump(document), "utf-8")
    code, out, err = run(old, turned)
    assert (code, out) == (2, "")
    assert "another way or order" in err
