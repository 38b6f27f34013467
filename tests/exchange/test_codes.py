"""Business fields hold codes: no sentences, no addresses, no numbers of people. No policy decides over them, so
whatever stood there would reach every receiver."""

from __future__ import annotations

from typing import Any

import pytest

from broker.exchange import Outcome
from broker.exchange.model import AUDIT_CONTROL
from broker.schemas import catalogue
from tests.exchange.bodies import body, families
from tests.exchange.open_world import SCHOOL, open_world, subject_of
from tests.exchange.world import World


def holds_text(node: Any) -> bool:
    """Whether a string can stand in a value of this type; enums are their own words."""
    if isinstance(node, list):
        return any(holds_text(branch) for branch in node)
    if isinstance(node, dict):
        return node["type"] != "enum" and holds_text(node.get("items", node["type"]))
    return bool(node == "string")


def text_fields() -> list[tuple[str, str, str]]:
    """All business fields that hold text: family, a kind that may fill it in, and the field."""
    found = []
    for family in families():
        for field in family.schema.document["fields"]:
            if field["class"] == "business" and "attribute" not in field and holds_text(field["type"]):
                kinds = [kind.name for kind in family.kinds.values() if field["name"] not in kind.unused]
                found.append((family.name, kinds[0], field["name"]))
    return found


FIELDS = text_fields()
ECK_ID = "https://ketenid.nl/pilot/" + "e1" * 64
# What stands there -> the code that its sender reads.
BAD = {
    "Emma de Vries": "code.form",
    "emma@school.example": "code.form",
    "groep 7, juf Anna": "code.form",
    "06 - 12 34 56 78": "code.form",
    " A1": "code.form",
    "A1 ": "code.form",
    "A1\n": "code.form",
    "A\t1": "code.form",
    "": "code.form",
    "-A1": "code.form",
    "Emma(7a)": "code.form",
    "Renée": "code.form",
    "x" * 101: "code.form",
    ECK_ID: "code.form",
    "123456789": "code.form",
    "bestelling:123456789": "code.form",
    "182071649": "pgn.bsn",
    "PO-182071649": "pgn.bsn",
    "182.071.649": "pgn.bsn",
    "18 20 71 649": "pgn.bsn",
    "١٨٢٠٧١٦٤٩": "pgn.bsn",
    "100310303": "pgn.onderwijsnummer",
    "9735dfd2235eaeb5f0300886bcc99c82ffc1d6420c4e0bde8de7218def2135fa": "pgn.hpgn",
    "https://ketenid.nl/sppilot/" + "ab" * 64: "pgn.stampseudoniem",
    "A\x001": "text.control_character",
    "x" * 5_000: "text.too_long",
}
GOOD = (
    "A1", "7a", "PO-2026/0001", "a.b_c:d/e+f-g", "12345678", "1234567890", "99VA01", "12.50", "x" * 100,
    "0b9f4c7e-6f0a-4f4e-9c55-0d6b3f3c2a11", "8717927130834",
)  # fmt: skip


@pytest.fixture(scope="module")
def world() -> World:
    """Everything is granted."""
    return open_world()


def decide(world: World, family: str, kind: str, field: str, text: str) -> tuple[str, str | None, Outcome]:
    """What an event gets that has this text in this field."""
    listed = field == "products"
    said: dict[str, Any] = {field: [text] if listed else text}
    about = subject_of(family, kind)
    record = world.made("sis-a", family, kind, body(family, kind, **said), about, school=SCHOOL, sector="VO")
    step = world.step("sis-a", [record])
    world.outgoing = step.outgoing
    (decision, *others) = step.decisions
    assert not others or decision.outcome is Outcome.DELIVERED
    return decision.code, decision.field, decision.outcome


def test_there_are_such_fields_in_nearly_every_family() -> None:
    """The test below is about something."""
    assert {family for family, _, _ in FIELDS} == {f.name for f in families()} - {"identity"}
    assert len(FIELDS) > 30


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_code_is_refused_in_every_business_field(world: World, text: str) -> None:
    """With the field's name, and quarantined with an incident where it could be a number of the state."""
    wrong = {}
    for family, kind, field in FIELDS:
        code, named, outcome = decide(world, family, kind, field, text)
        quarantined = outcome is Outcome.QUARANTINED
        expected = (BAD[text], field, BAD[text].startswith(("pgn.", "text.")))
        if (code, named, quarantined) != expected:
            wrong[family, field] = code, named, outcome
        assert bool(world.topic(AUDIT_CONTROL)) == code.startswith("pgn.")
        assert not [o for o in world.outgoing if o.topic.startswith("out.")]
        if len(text) > 8:  # the text itself stands nowhere in clear, in audit and status neither
            assert not [o for o in world.outgoing if text.encode() in (o.value or b"")]
    assert wrong == {}


@pytest.mark.parametrize("text", GOOD)
def test_a_code_is_not_taken_for_anything_else(world: World, text: str) -> None:
    """Whatever else may be wrong with it: a field that must be a product or a uuid says so under its own code."""
    wrong = {}
    for family, kind, field in FIELDS:
        code, _, _ = decide(world, family, kind, field, text)
        if code == "code.form" or code.startswith(("pgn.", "text.")):
            wrong[family, field] = code
    assert wrong == {}


def test_a_text_in_a_field_that_a_policy_decides_over_may_be_a_sentence(world: World) -> None:
    """It is not for everybody, so it need not be a code; a number of the state is refused there all the same."""
    for text, expected in (("Emma huilt, bel haar moeder", "ok"), ("bel 182071649", "pgn.bsn")):
        said: dict[str, Any] = {"progress_note": text}
        made = body("usage", "PROGRESS", **said)
        record = world.made(
            "publisher-a", "usage", "PROGRESS", made, subject_of("usage", "PROGRESS"), school=SCHOOL, sector="VO"
        )
        assert {d.code for d in world.step("publisher-a", [record]).decisions} == {expected}


def test_business_fields_are_exactly_those_without_an_attribute() -> None:
    """The check goes by both; a field of another class without attribute does not load at all."""
    for family in families():
        for field in catalogue().family(family.name).schema.fields:
            assert (field.cls == "business") <= (field.attribute is None)
            assert (field.attribute is None) <= (field.cls == "business")
