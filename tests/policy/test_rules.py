"""What makes a policy file acceptable, and that it survives the way through the registry."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from broker.errors import ConfigError
from broker.policy import DEFAULT_DENY, Policy

EVERYWHERE = dict.fromkeys(("BestellenLeveren", "Toegang", "Gebruik", "Terugkoppelen"), "D/D/D")


def rule(**changes: Any) -> dict[str, Any]:
    """A rule that is right."""
    given = {
        "id": "hobby", "effects": {"Gebruik": "C/C/D"}, "purpose": "p", "basis": "publieke_taak", "evidence": "e",
        "owner": "o",
    } | changes  # fmt: skip
    return {name: value for name, value in given.items() if value is not None}


def row(*rules: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A row that is right."""
    return {
        "attributes": ["hobby"], "class": "quasi", "label": {"nl": "hobby", "en": "hobby"},
        "rules": list(rules) or [rule()],
    } | changes  # fmt: skip


def policy(folder: Path, *rows: dict[str, Any]) -> Policy:
    """Load a policy of these rows."""
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump({"version": 1, "attributes": list(rows)}), "utf-8")
    return Policy.load(path)


@pytest.mark.parametrize("field", ["purpose", "basis", "evidence", "owner"])
def test_a_rule_without_its_reasons_does_not_load(tmp_path: Path, field: str) -> None:
    """R15: purpose and basis, and who says so; the message names the field."""
    with pytest.raises(ConfigError, match=rf"attributes\[0\]\.rules\[0\]\.{field}: is missing"):
        policy(tmp_path, row(rule(**{field: None})))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(rule(basis="geen")), "basis `geen` is for a rule that lets nothing pass"),
        (row(rule(effects=EVERYWHERE)), "basis `geen` is for a rule that lets nothing pass"),
        (row(rule(basis="handig")), "basis"),
        (row(rule(effects={"Gebruik": "C/C"})), "effects"),
        (row(rule(effects={"Gebruik": "C/C/X"})), "effects"),
        (row(rule(effects={"Verkopen": "C/C/C"})), "effects"),
        (row(rule(effects={})), "effects"),
        (row(rule(conditions=["moon-is-full"])), "unknown conditions moon-is-full"),
        (row(rule(transform="first_letter")), "effect T and a transform belong together"),
        (row(rule(effects={"Gebruik": "T/T/T"})), "effect T and a transform belong together"),
        (row(rule(effects={"Gebruik": "T/T/T"}, transform="rot13")), "transform"),
        (row(rule(receiver_roles=["PARENT"])), "receiver_roles"),
        (row(rule(why="x")), "why: is not a known field"),
        (row(rule(effects={"Gebruik": "A/C/C"}), **{"class": "identifying"}), "never simply allowed"),
        (row(rule(effects={"Gebruik": "R/R/R"}, basis="geen")), "is refused everywhere"),
        (row(rule(effects=EVERYWHERE | {"Gebruik": "R/R/R"}, basis="geen")), "is refused everywhere"),
        (row(label={"nl": "hobby"}), "label needs both nl and en"),
        (row(rule(), rule(id="other")), "rules hobby and other name as much"),
        (
            row(rule(), rule(id="a", receiver_roles=["SHOP"]), rule(id="b", product_types=["legal-test"])),
            "rules a and b name as much",
        ),
        (row(rule(), rule(receiver_roles=["SHOP"])), "two rules have the id hobby"),
        (row(attributes=["hobby", "hobby"]), "hobby has two rows"),
    ],
)
def test_a_policy_that_contradicts_itself_does_not_load(tmp_path: Path, bad: dict[str, Any], message: str) -> None:
    """Each mistake is refused with a sentence that says what is wrong."""
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")) as caught:
        policy(tmp_path, bad)
    assert caught.value.code == "policy.invalid"


def test_all_problems_are_listed_at_once(tmp_path: Path) -> None:
    """An operator corrects a file in one go."""
    with pytest.raises(ConfigError) as caught:
        policy(tmp_path, row(rule(owner=None)), row(rule(id="x", basis="handig"), attributes=["sport"]))
    assert "rules[0].owner: is missing" in str(caught.value)
    assert "attributes[1].rules[0].basis" in str(caught.value)
    assert "2 problems" in str(caught.value)


def test_a_key_that_is_written_twice_is_refused(tmp_path: Path) -> None:
    """YAML would take the last one without a word."""
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\nattributes: []\nattributes: []\n", "utf-8")
    with pytest.raises(ConfigError, match="line 3, column 1: the key 'attributes' is there twice"):
        Policy.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "is not UTF-8"),
        (b"a: [", "line 1"),
        (b"!!python/object/apply:os.system ['true']", "could not determine a constructor"),
        (b"1: x", "a key is not a string"),
        (b"", "document"),
    ],
)
def test_a_file_that_can_not_be_read_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    """With the reason; and nothing in a file is executed."""
    path = tmp_path / "policy.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        Policy.load(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The path stands in the message."""
    with pytest.raises(ConfigError, match=r"nowhere\.yaml cannot be read"):
        Policy.load(tmp_path / "nowhere.yaml")


def test_the_more_specific_rule_decides(tmp_path: Path) -> None:
    """Role and product type before role alone before none, whatever the order in the file."""
    rules = [
        rule(id="both", effects={"Gebruik": "A/A/A"}, receiver_roles=["SHOP"], product_types=["legal-test"]),
        rule(id="none", effects={"Gebruik": "D/D/D"}, basis="geen"),
        rule(id="role", receiver_roles=["SHOP"], effects={"Gebruik": "C/C/C"}),
    ]
    for order in (rules, rules[::-1]):
        found = policy(tmp_path, row(*order))
        assert [
            found.projection("Gebruik", "PO", role, kind, ["hobby"], ()).dropped
            for role, kind in (("SHOP", "legal-test"), ("SHOP", "ordinary"), ("PORTAL", "legal-test"))
        ] == [(), (("hobby", "not-in-agreement"),), (("hobby", "none"),)]


def test_two_rules_that_name_as_much_may_stand_under_one_that_names_more(tmp_path: Path) -> None:
    """Where they meet, a third decides, so nothing is left open."""
    meet = {"receiver_roles": ["SHOP"], "product_types": ["legal-test"]}
    found = policy(
        tmp_path,
        row(
            rule(id="a", receiver_roles=["SHOP"]),
            rule(id="b", product_types=["legal-test"]),
            rule(id="c", effects={"Gebruik": "D/D/D"}, basis="geen", **meet),
        ),
    )
    assert found.projection("Gebruik", "PO", "SHOP", "legal-test", ["hobby"], ()).dropped == (("hobby", "c"),)


def test_an_empty_policy_lets_nothing_pass() -> None:
    """A registry without a policy delivers nothing."""
    found = Policy(()).projection("Gebruik", "PO", "PORTAL", "ordinary", ["eckId"], ["eckId"])
    assert found.dropped == (("eckId", DEFAULT_DENY),)


def test_the_version_is_the_hash_of_the_record() -> None:
    """Anyone who reads the registry can compute the version that stands in audit leaves."""
    shipped = Policy.load()
    assert shipped.version == f"sha256:{sha256(shipped.record()).hexdigest()}"


def test_a_policy_survives_the_registry(tmp_path: Path) -> None:
    """Read from its record it is the same, to the byte."""
    for loaded in (Policy.load(), policy(tmp_path, row())):
        again = Policy.from_record(loaded.record())
        assert again.record() == loaded.record()
        assert again.version == loaded.version
        assert again.rows == loaded.rows


def test_any_change_of_a_rule_changes_the_version(tmp_path: Path) -> None:
    """Also of what only people read, such as the owner."""
    versions = {
        policy(tmp_path, row(changed)).version
        for changed in (rule(), rule(owner="p"), rule(effects={"Gebruik": "C/C/C"}), rule(conditions=["no-eck-id"]))
    }
    assert len(versions) == 4


def test_a_record_that_is_no_policy_is_refused() -> None:
    """A follower of the registry stops with a clear error instead of guessing."""
    with pytest.raises(ConfigError, match="policy/current is not JSON"):
        Policy.from_record(b"{")
    with pytest.raises(ConfigError, match="policy/current"):
        Policy.from_record(b'{"version":2,"attributes":[]}')


def test_an_attribute_that_can_never_pass_is_known_as_such() -> None:
    """No agreement may promise it."""
    shipped = Policy.load()
    assert not shipped.can_pass("bsn")
    assert not shipped.can_pass("phone")
    assert not shipped.can_pass("unheard")
    assert not shipped.can_pass("enrolmentDates")  # only to the vault
    assert shipped.can_pass("usageFrequency")
