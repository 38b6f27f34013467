"""Tests of `broker.audit.rotation`: the leaf that announces a key."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from broker.audit import verify
from broker.audit.log.note import NoteError
from broker.audit.rotation import Announced, KeyChange, announcements, vkey_of
from broker.errors import ConfigError, ContractError

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
CHANGE = KeyChange("broker.example/audit", (OLD,), NEW)
TOLD = Announced(CHANGE, 1_795_305_600_000, 1_797_897_600_000, "olga", "every two years")


def test_the_leaf_holds_all_that_a_verifier_key_is_made_of() -> None:
    """The golden vkey of the audit design comes from its name and its raw key; the leaf has both."""
    golden = "broker.example/audit/test/1/p3+7f4519d3+Aawnxtg4B75l7Z0nkdNbY7nQNvxZ/ad+/DFKV5jBaV9n"
    raw = bytes.fromhex("ac27c6d83807be65ed9d2791d35b63b9d036fc59fda77efc314a5798c169" + "5f67")
    assert vkey_of("broker.example/audit/test/1/p3", raw) == golden
    told = json.loads(TOLD.leaf())["key"]
    assert told["new"] == "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
    assert (told["base"], told["both_until"]) == ("broker.example/audit", 1_797_897_600_000)


def test_a_leaf_is_read_back_and_the_verifier_knows_its_kind() -> None:
    """Other leaves of the control log are passed over."""
    leaf, other = TOLD.leaf(), b'{"control":{"kind":"registry"},"v":1}'
    assert Announced.read(leaf) == TOLD
    assert list(announcements([other, leaf, other, leaf])) == [(1, TOLD), (3, TOLD)]
    assert verify.parse(leaf, verify.LEAVES, dict)


DAMAGED: dict[str, dict[str, Any]] = {
    "no new key": {"new": None},
    "short key": {"new": "AAAA"},
    "same key": {"new": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="},
    "no old key": {"old": []},
    "other spelling of the key": {"new": "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj9="},
    "time as text": {"both_until": "2026-12-30"},
    "time as truth": {"both_until": True},
    "name with a space": {"base": "broker example"},
    "one more": {"more": 1},
}


@pytest.mark.parametrize("change", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_announcement_is_not_taken_for_another_kind_of_leaf(change: dict[str, Any]) -> None:
    """Else a rotation could be hidden by one wrong letter."""
    told = {**json.loads(TOLD.leaf())["key"], **change}
    leaf = json.dumps({"key": told, "v": 1}, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(ContractError):
        Announced.read(leaf)


def test_what_goes_to_the_operator_is_public_and_read_back() -> None:
    """One line; anything else is refused, a leaf too."""
    assert KeyChange.unpack(CHANGE.pack()) == CHANGE
    for wrong in (b"", b"[]", b'{"v":1}', TOLD.leaf(), CHANGE.pack().replace(b'"v":1', b'"v":2')):
        with pytest.raises(ConfigError, match="no change of the logs' key"):
            KeyChange.unpack(wrong)


@pytest.mark.parametrize("wrong", [{"old": ()}, {"new": OLD}, {"new": b"x"}, {"old": (OLD, OLD)}], ids=str)
def test_a_change_needs_a_new_key_and_old_ones(wrong: dict[str, Any]) -> None:
    """Of 32 bytes, each another."""
    with pytest.raises(NoteError):
        replace(CHANGE, **wrong)
