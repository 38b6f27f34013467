"""The policy in sentences, and its commands."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from broker.policy import CONDITIONS, Policy, explain, table

POLICY = Policy.load()


def test_an_explanation_names_purpose_basis_evidence_and_owner() -> None:
    """R11, R15: whoever asks gets the reasons, the rule and the version."""
    sentences = explain(POLICY, "Gebruik", "PO", "PORTAL", "usageDates")
    assert sentences[0].startswith("usageDates (when and how often it was used; linked) passes in Gebruik (PO")
    rest = " ".join(sentences)
    for word in ("Purpose: ", "Basis: public task", "Evidence: SEM Usage", "Owner: ", "Rule: usage,", POLICY.version):
        assert word in rest


def test_an_explanation_tells_what_an_agreement_changes() -> None:
    """With and without the attribute's name in it."""
    asked = (POLICY, "Gebruik", "PO", "SHOP", "usageFrequency", "ordinary")
    assert "only if the agreement names it, which it does not" in explain(*asked)[0]
    assert "passes, because the agreement names it" in explain(*asked, ["usageFrequency"])[0]


@pytest.mark.parametrize(
    ("role", "attribute", "words"),
    [
        ("PORTAL", "activationCode", ["never passes", "none: a portal gives access by login"]),
        ("PORTAL", "bsn", ["makes the whole event refused, with an incident"]),
        ("PUBLISHER", "usageDates", ["no rule allows it", "default-deny"]),
        ("PORTAL", "shoeSize", ["does not know this attribute at all", "default-deny"]),
        ("SIS", "lasKey", ["passes", "Condition own-school-sis: ", "R19/own id back"]),
        ("SHOP", "lasKey", ["Condition no-eck-id: "]),
    ],
)
def test_each_effect_has_its_sentence(role: str, attribute: str, words: list[str]) -> None:
    """Allowed, conditional, never, refused and unknown read differently."""
    text = " ".join(explain(POLICY, "Gebruik", "PO", role, attribute))  # type: ignore[arg-type]
    for word in words:
        assert word in text


def test_every_condition_is_told_in_words() -> None:
    """R24: whoever asks reads what must hold before a parent's address passes."""
    text = " ".join(explain(POLICY, "Toegang", "PO", "PORTAL", "parentEmail", "ordinary", ["parentEmail"]))
    for name in ("no-school-account", "parents-informed", "no-objection"):
        assert f"Condition {name}: {CONDITIONS[name]}." in text


def test_a_transformed_attribute_is_explained_as_such() -> None:
    """With the name of the function."""
    text = explain(POLICY, "Toegang", "PO", "PUBLISHER", "familyName", "ordinary", ["familyName"])[0]
    assert "passes (transformed: first_letter), because the agreement names it," in text


def test_the_table_has_every_rule_of_every_attribute() -> None:
    """One line each."""
    lines = list(table(POLICY))
    assert {line[0] for line in lines} == POLICY.attributes
    assert {line[4] for line in lines} == {rule.id for row in POLICY.rows for rule in row.rules}


def test_the_command_explains() -> None:
    """`broker policy explain`, in sentences and as JSON."""
    from broker.cli.policy import app

    words = [
        "explain", "--process", "Gebruik", "--sector", "PO", "--receiver-role", "SHOP", "--attribute", "usageDates",
        "--agreement-names", "licenceDates, usageDates",
    ]  # fmt: skip
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.output
    assert "because the agreement names it" in shown.stdout
    as_json = CliRunner().invoke(app, [*words, "--json"])
    assert json.loads(as_json.stdout) == shown.stdout.splitlines()


def test_the_command_refuses_a_word_that_it_does_not_know() -> None:
    """A process that does not exist is a usage error, and the known ones are shown."""
    from broker.cli.policy import app

    shown = CliRunner().invoke(
        app,
        ["explain", "--process", "X", "--sector", "PO", "--receiver-role", "SHOP", "--attribute", "a"],
        env={"COLUMNS": "200"},
    )
    assert shown.exit_code == 2
    assert "Terugkoppelen" in shown.output


def test_the_command_prints_the_table() -> None:
    """`broker policy table`: one line a rule, tab-separated where there is no terminal."""
    from broker.cli.policy import app

    shown = CliRunner().invoke(app, ["table"])
    assert "usageFrequency\tSHOP\tordinary legal-test norm-test\t" in shown.stdout
    as_json = CliRunner().invoke(app, ["table", "--json"])
    assert len(as_json.stdout.splitlines()) == len(list(table(POLICY)))
