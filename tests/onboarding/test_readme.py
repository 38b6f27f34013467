"""The README of a bundle: a supplier who has nothing else finds his way."""

from __future__ import annotations

import re
from pathlib import Path

from broker.onboarding.readme import readme

ROOT = Path(__file__).parent.parent.parent
PARTY = {
    "party": "uitgeverij-zuid",
    "topics": {
        "in": "in.uitgeverij-zuid", "status": "status.uitgeverij-zuid", "quarantine": "quarantine.uitgeverij-zuid",
        "out": {"licence": "out.uitgeverij-zuid.licence"}, "schemas": "schemas", "broker_keys": "broker.keys",
    },
    "group_prefix": "uitgeverij-zuid.",
    "sandbox": {"school": "99ZA"},
}  # fmt: skip


def test_it_leads_to_the_wire_format_and_the_programs_in_other_languages() -> None:
    """Both are where it says; and no command of it waits for ever."""
    text = readme(PARTY, ["usage.jsonl"], "keys")
    for place in ("docs/wire-format.md", "examples/clients"):
        assert f"`{place}`" in text
        assert (ROOT / place).exists()
    assert all("--idle" in line for line in re.findall("broker receive .*", text))
