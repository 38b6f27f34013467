"""What goes with a party that leaves, and what keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.app.farewell import _removal
from broker.errors import ConfigError
from broker.onboarding.sandbox import BOARD
from broker.registry import check, load_document, records_of
from broker.registry.store import changed
from tests.onboarding.test_sandbox import PARTY, added


def test_a_party_goes_with_its_sandbox_and_leaves_everybody_elses_alone(tmp_path: Path) -> None:
    """The registry is as it was before the party came, but for the counterpart; and it is whole."""
    folder = tmp_path / "registry"
    added(folder, "SHOP", party="ander-bedrijf")
    before = records_of(load_document(folder))
    added(folder, "SIS", "PUBLISHER")
    records = records_of(load_document(folder))
    after = changed(records, _removal(records, PARTY, BOARD))
    assert after == before
    check(after)


@pytest.mark.parametrize("party", ["sis-noord", "hulp-extern"], ids=["a school's SIS", "an agreement"])
def test_a_party_that_is_still_named_stays_and_is_told_where(tmp_path: Path, party: str) -> None:
    """A board's word is not ended by letting a party go."""
    added(tmp_path / "registry", "SHOP")
    records = records_of(load_document(tmp_path / "registry"))
    with pytest.raises(ConfigError) as refused:
        _removal(records, party, BOARD)
    assert refused.value.code == "party.in_use"
    assert "agreement/" in str(refused.value)
