"""Each guard of the exchange has a test that fails when the guard is taken away."""

from __future__ import annotations

import pytest

from tests.exchange.mutants import MUTANTS, Mutant
from tests.exchange.mutants_of_rules import RULES

ALL = (*MUTANTS, *RULES)


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.guard)
def test_a_guard_that_is_taken_away_is_missed_by_its_test(mutant: Mutant) -> None:
    """The named check passes as things are, and fails by its own words, not by an accident, without the guard."""
    mutant.check()
    with pytest.MonkeyPatch.context() as patch:
        mutant.remove(patch)
        with pytest.raises(AssertionError):
            mutant.check()
    mutant.check()


def test_guards_have_names_of_their_own() -> None:
    """A name in a failure leads to one guard."""
    assert len({mutant.guard for mutant in ALL}) == len(ALL) >= 120
