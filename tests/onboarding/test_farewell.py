"""What goes with a party that leaves, and what keeps it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.app.farewell import _removal
from broker.cli import build
from broker.errors import ConfigError
from broker.onboarding.sandbox import BOARD, COUNTERPART
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


def test_a_third_party_in_a_sandbox_and_the_counterpart_end_nobody_elses(tmp_path: Path) -> None:
    """Whoever was let into the sandbox of another leaves it whole, and so does an agreement for all of the board."""
    folder = tmp_path / "registry"
    added(folder, "SHOP", party="ander-bedrijf")
    added(folder, "SHOP")
    records = records_of(load_document(folder))
    key = f"agreement/zb-{PARTY}"
    own, other = json.loads(records[key]), json.loads(records["agreement/zb-ander-bedrijf"])["schools"]
    guest = {**records, key: json.dumps(own | {"schools": own["schools"] + other}).encode()}
    kept = changed(guest, _removal(guest, PARTY, BOARD))
    assert kept == changed(records, _removal(records, PARTY, BOARD))
    assert f"school/{other[0]}" in kept
    of_all = {**records, key: json.dumps(own | {"schools": "all of board"}).encode()}
    with pytest.raises(ConfigError) as refused:
        _removal(of_all, PARTY, BOARD)
    assert refused.value.code == "party.in_use"
    with pytest.raises(ConfigError) as refused:
        _removal(records, COUNTERPART, None)
    assert refused.value.code == "party.in_use"


def test_nobody_comes_in_under_the_name_of_the_counterpart_or_of_a_service(tmp_path: Path) -> None:
    """Its bundle would hold the login that every sandbox is open to; nothing is made, and Kafka is not asked."""
    for name in (COUNTERPART, "operator"):
        words = [
            "party",
            "add",
            name,
            "--registry",
            str(tmp_path),
            "--roles",
            "SHOP",
            "--profiles",
            str(tmp_path / "p"),
        ]
        refused = CliRunner().invoke(build("party"), [*words, "--connection", str(tmp_path / "none.json")])
        assert isinstance(refused.exception, ConfigError)
        assert refused.exception.code == "party.id"
    assert list(tmp_path.iterdir()) == []
