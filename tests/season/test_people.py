"""Counting pupils of a vault: each once, by what the newest record says, and nobody by name."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import date

import pytest

from broker.errors import ConfigError
from broker.identity.vault import Flags, VaultCipher, VaultRecord
from broker.season import Census, PupilCounts

START = date(2027, 8, 1)
DAY = (START - date(1970, 1, 1)).days
BOOK = "8717927130834"


def cipher() -> VaultCipher:
    """New keys."""
    return VaultCipher(os.urandom(32), os.urandom(32), os.urandom(32))


def pupil(las_key: str = "L1", eck_id: str | None = "https://ketenid.nl/pilot/e1", **changes: object) -> VaultRecord:
    """Somebody of whom everything is known."""
    flags = Flags(school_account=True, parents_informed=True, objection=False, under_16=True)
    record = VaultRecord("99PA", "PO", "PUPIL", eck_id, (("LAS_KEY", las_key),), None, os.urandom(32), flags)
    return replace(record, **changes)  # type: ignore[arg-type]


def counts(*people: VaultRecord) -> dict[tuple[str, str], PupilCounts]:
    """Of a vault with these."""
    keys = cipher()
    census = Census(keys)
    for person in people:
        for key in keys.keys(person):
            census.put(key, keys.encrypt(key, person))
    return dict(census.counts(START))


def test_a_pupil_is_counted_once_under_all_his_ids() -> None:
    """LAS key, pupil number and ECK iD are three records of one enrolment."""
    emma = pupil(user_ids=(("LAS_KEY", "L1"), ("LEERLINGNUMMER", "17")))
    assert counts(emma, pupil("L2", None)) == {("99PA", "PO"): PupilCounts(pupils=2, no_eck_id=1, may_need_consent=2)}


def test_by_school_and_sector_and_without_employees() -> None:
    """A school with VSO has two lines; who teaches is not counted."""
    found = counts(pupil(), pupil("L2", sector="VO"), pupil("L3", school="99VA"), pupil("M1", kind="EMPLOYEE"))
    assert {where: c.pupils for where, c in found.items()} == {("99PA", "PO"): 1, ("99PA", "VO"): 1, ("99VA", "PO"): 1}


def test_what_nobody_said_is_counted_as_unknown() -> None:
    """Age and parents; one of unknown age may need consent."""
    found = counts(pupil(flags=Flags()), pupil("L2"), pupil("L3", flags=Flags(under_16=False, parents_informed=False)))
    assert found["99PA", "PO"] == PupilCounts(pupils=3, age_unknown=1, parents_unknown=1, may_need_consent=2)


@pytest.mark.parametrize(("left_on", "left"), [(DAY - 1, 1), (DAY, 0), (None, 0)])
def test_who_left_before_the_first_day_counts_as_that_and_nothing_else(left_on: int | None, left: int) -> None:
    """`left_on` is the last day at school; one whose last day is the first of the year is still there."""
    found = counts(pupil(eck_id=None, left_on=left_on))["99PA", "PO"]
    assert (found.left, found.pupils, found.no_eck_id) == (left, 1 - left, 1 - left)


def test_consents_are_counted_by_product() -> None:
    """Of those who may need one; a consent of somebody over 16 fills nobody else's place."""
    given = Flags(under_16=True, consents=((BOOK, "T-1"),))
    older = Flags(under_16=False, consents=((BOOK, "T-2"),))
    found = counts(pupil(flags=given), pupil("L2"), pupil("L3", flags=older))["99PA", "PO"]
    assert (found.without_consent(BOOK), found.without_consent("9789493113862")) == (1, 2)


def test_the_newest_record_counts_and_an_erased_one_does_not() -> None:
    """As a reader of a compacted topic meets them: old ones may still be there."""
    keys = cipher()
    census, before = Census(keys), pupil(eck_id=None)
    las_key = keys.keys(before)[0]
    census.put(las_key, keys.encrypt(las_key, before))
    assert census.counts(START)["99PA", "PO"].no_eck_id == 1
    after = replace(before, eck_id="https://ketenid.nl/pilot/e1")
    for key in keys.keys(after):
        census.put(key, keys.encrypt(key, after))
    assert census.counts(START)["99PA", "PO"] == PupilCounts(pupils=1, may_need_consent=1)
    for key in keys.keys(after):
        census.put(key, None)
    assert census.counts(START) == {}


def test_a_replaced_first_id_does_not_count_twice() -> None:
    """A new LAS key makes another record the first; the old one gets a tombstone."""
    keys = cipher()
    census, before = Census(keys), pupil()
    after = replace(before, user_ids=(("LAS_KEY", "N9"),))
    for key in keys.keys(before):
        census.put(key, keys.encrypt(key, before))
    census.put(keys.keys(before)[0], None)
    for key in keys.keys(after):
        census.put(key, keys.encrypt(key, after))
    assert census.counts(START)["99PA", "PO"].pupils == 1


def test_other_keys_are_told_as_that() -> None:
    """Not as an empty vault."""
    keys, person = cipher(), pupil()
    key = keys.keys(person)[0]
    census = Census(cipher())
    census.put(key, keys.encrypt(key, person))
    with pytest.raises(ConfigError, match="keys"):
        census.counts(START)


def test_what_stands_under_a_destroyed_key_is_passed_over_if_a_later_record_does_not() -> None:
    """Kafka keeps for some hours what was written before a rotation."""
    old, new, person = cipher(), cipher(), pupil(eck_id=None)
    key = new.keys(person)[0]
    census = Census(new)
    census.put(key, old.encrypt(key, person))
    census.put(key, new.encrypt(key, person))
    assert census.counts(START)["99PA", "PO"].pupils == 1


def test_what_is_kept_of_a_pupil_is_no_id() -> None:
    """A census that ends in a log or a dump shows hashes and counts."""
    keys, person = cipher(), pupil("L0001")
    census = Census(keys)
    for key in keys.keys(person):
        census.put(key, keys.encrypt(key, person))
    kept = repr(vars(census)["_found"]) + repr(vars(census)["_known"])
    assert "L0001" not in kept
    assert "ketenid" not in kept
