"""Which key a rotation goes on with; with a real Kafka: tests/e2e/test_onboarding.py."""

from __future__ import annotations

from pathlib import Path

from broker.app.renewal import _unpublished
from broker.keys import FileKeys

PARTY = "uitgeverij-zuid"


def test_a_rotation_goes_on_with_a_key_that_was_never_given_out_and_with_no_older_one(tmp_path: Path) -> None:
    """A party may have made keys of its own meanwhile: to seal for the profile's old one again would be a step back."""
    keys = FileKeys(tmp_path / "keys")
    first = keys.create(PARTY)
    assert _unpublished(keys, PARTY, ()) == first  # added, and not in the registry yet
    assert _unpublished(keys, PARTY, [first.kid]) is None
    assert _unpublished(keys, PARTY, ["made-by-the-party"]) is None
    second = keys.create(PARTY)
    assert _unpublished(keys, PARTY, [first.kid]) == second  # killed in between
    assert _unpublished(keys, PARTY, ["made-by-the-party"]) is None
    assert _unpublished(keys, PARTY, [second.kid, first.kid]) is None
