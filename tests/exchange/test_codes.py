"""Business fields hold codes: no sentences, no addresses, no numbers of people. No policy decides over them, so
whatever stood there would reach every receiver."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest

from broker.client import Subject
from broker.exchange import Outcome
from broker.exchange.model import AUDIT_CONTROL
from broker.policy import SECTORS
from broker.schemas import catalogue
from tests.exchange.bodies import body, families
from tests.exchange.open_world import SCHOOL, open_world, subject_of
from tests.exchange.route_table import TABLE, between_parties
from tests.exchange.world import World, evidence_in

Path = tuple[str, ...]


def texts_in(node: Any, path: Path, cls: str) -> Iterator[tuple[Path, str]]:
    """Where strings can stand in a value of this type, at every depth, and the class of the field that holds them;
    enums are their own words."""
    if isinstance(node, list):
        for branch in node:
            yield from texts_in(branch, path, cls)
    elif node == "string":
        yield path, cls
    elif isinstance(node, dict) and node["type"] == "record":
        for inner in node["fields"]:
            yield from texts_in(inner["type"], (*path, inner["name"]), inner["class"])
    elif isinstance(node, dict) and node["type"] != "enum":
        yield from texts_in(node.get("items", node["type"]), path, cls)


@dataclass(frozen=True)
class Place:
    """A string in a family's body.

    Args:
        kind: one that may fill it in.
        path: field names from the outside in.
        cls: class of the innermost field.
        attribute: that a policy decides over, if so.
    """

    family: str
    kind: str
    path: Path
    cls: str
    attribute: str | None


def places() -> Iterator[Place]:
    """All strings of all families, at every depth."""
    for family in families():
        for field in family.schema.document["fields"]:
            kinds = [kind.name for kind in family.kinds.values() if field["name"] not in kind.unused]
            for path, cls in texts_in(field["type"], (field["name"],), field["class"]):
                yield Place(family.name, kinds[0], path, cls, field.get("attribute"))


def filled(made: dict[str, Any], path: Path, text: str) -> dict[str, Any]:
    """The same body with this text in this place; in a list, in its first item."""
    made = copy.deepcopy(made)
    inside: Any = made
    for name in path[:-1]:
        inside = inside[name][0] if isinstance(inside[name], list) else inside[name]
    inside[path[-1]] = [text] if isinstance(inside[path[-1]], list) else text
    return made


PLACES = list(places())
CODES = [place for place in PLACES if place.cls == "business"]
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
    "182/071/649": "pgn.bsn",
    "PO:1820_71_649": "pgn.bsn",
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


def decide(world: World, place: Place, text: str) -> tuple[str, str | None, Outcome]:
    """What an event gets that has this text in this place."""
    family, kind = place.family, place.kind
    made = filled(body(family, kind, full=True), place.path, text)
    record = world.made("sis-a", family, kind, made, subject_of(family, kind), school=SCHOOL, sector="VO")
    step = world.step("sis-a", [record])
    world.outgoing = step.outgoing
    (decision, *others) = step.decisions
    assert not others or decision.outcome is Outcome.DELIVERED
    return decision.code, decision.field, decision.outcome


def test_there_are_such_fields_in_every_family_at_the_top_and_below() -> None:
    """The tests below are about something."""
    assert {place.family for place in CODES} == {f.name for f in families()}
    assert len([place for place in CODES if len(place.path) == 1]) > 30
    assert {place.path for place in CODES if len(place.path) > 1} >= {
        ("progress", "course_id"),
        ("parts", "part_code"),
        ("consents", "product_id"),
    }


def test_types_are_those_in_which_these_tests_find_every_text() -> None:
    """Bytes, or keys of a map, would be texts that nobody looks at: whoever brings them in brings a check."""
    for family in families():
        assert types_in({"type": "record", "fields": family.schema.document["fields"]}) <= {
            "null", "boolean", "int", "long", "string", "enum", "array", "record",
        }  # fmt: skip


def types_in(node: Any) -> set[str]:
    """The names of the types that a type is made of; what is named again stands there already."""
    if isinstance(node, list):
        return set().union(*map(types_in, node))
    if isinstance(node, str):
        return set() if node[0].isupper() else {node}
    if node["type"] == "record":
        return {"record"}.union(*(types_in(field["type"]) for field in node["fields"]))
    if node["type"] == "array":
        return {"array"} | types_in(node["items"])
    return types_in(node["type"])


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_code_is_refused_in_every_business_field(world: World, text: str) -> None:
    """With the field's name, and quarantined with an incident where it could be a number of the state."""
    wrong = {}
    for place in CODES:
        code, named, outcome = decide(world, place, text)
        quarantined = outcome is Outcome.QUARANTINED
        expected = (BAD[text], place.path[0], BAD[text].startswith(("pgn.", "text.")))
        if (code, named, quarantined) != expected:
            wrong[place] = code, named, outcome
        assert bool(world.topic(AUDIT_CONTROL)) == code.startswith("pgn.")
        assert not [o for o in world.outgoing if o.topic.startswith("out.")]
        if len(text) > 8:  # the text itself stands nowhere in clear, in audit and status neither
            assert not [o for o in world.outgoing if text.encode() in (o.value or b"")]
    assert wrong == {}


@pytest.mark.parametrize("text", GOOD)
def test_a_code_is_not_taken_for_anything_else(world: World, text: str) -> None:
    """Whatever else may be wrong with it: a field that must be a product or a uuid says so under its own code."""
    wrong = {}
    for place in CODES:
        code, _, _ = decide(world, place, text)
        if code == "code.form" or code.startswith(("pgn.", "text.")):
            wrong[place] = code
    assert wrong == {}


def test_a_name_reaches_nobody_but_by_an_attribute_that_the_policy_lets_pass(world: World) -> None:
    """Emma's name in each string of each kind, at every depth, over every way in every sector, all agreements naming
    all: what opens at the receiver holds it under an attribute that the audit calls kept, and nowhere else."""
    name, passed, stopped = "Emma de Vries", set[str](), 0
    for (family, kind, role, its_role), sector in product(between_parties(), SECTORS):
        found, sender, receiver = catalogue().family(family), f"{role.lower()}-a", f"{its_role.lower()}-b"
        nobody = TABLE[family, kind, role, its_role][0].subject == "none"
        about = Subject() if nobody else subject_of(family, kind)
        for place in (p for p in PLACES if p.family == family and p.path[0] not in found.kinds[kind].unused):
            made = filled(body(family, kind, full=True), place.path, name)
            record = world.made(sender, family, kind, made, about, receiver=receiver, school=SCHOOL, sector=sector)
            step = world.step(sender, [record])
            (decision,), (leaf,) = step.decisions, evidence_in(step.outgoing)
            where = (place, kind, its_role, sector)
            assert not [o for o in step.outgoing if name.encode() in (o.value or b"") + (o.key or b"")], where
            if place.cls == "business":
                assert decision.outcome is not Outcome.DELIVERED, where
            if decision.outcome is not Outcome.DELIVERED:
                stopped += 1
                continue
            world.outgoing = step.outgoing
            got = world.delivered(receiver, family)[0].body
            holding = {field for field, value in got.items() if name in repr(value)}
            assert holding <= ({place.path[0]} if place.attribute in leaf["kept"] else set()), where
            passed |= {place.attribute or ""} if holding else set()
    assert passed >= {"groupName", "givenName", "score", "progressNote", "comment"}
    assert stopped > 500


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
