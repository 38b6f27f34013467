"""Versions of the vault's secrets: what is sealed with, what is read with, and what stands still."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from broker.errors import ConfigError, TransientError
from broker.identity.vault import SchoolKeys, VaultCipher, VaultRecord

MAC, FIRST, SECOND, MASTER, NEWER = (os.urandom(32) for _ in range(5))
PERSON = VaultRecord(
    "99PA", "PO", "PUPIL", None, (("LAS_KEY", "L1"),), None, os.urandom(32), former_keys=(os.urandom(32),)
)


def test_a_newer_version_is_written_with_only_once_it_is_in_use() -> None:
    """And what was written before and after is read by whoever has both, wherever he stands himself."""
    one = VaultCipher(MAC, FIRST, MASTER)
    (key,) = one.keys(PERSON)
    both = VaultCipher(MAC, {1: FIRST, 2: SECOND}, {1: MASTER, 2: NEWER})
    assert one.decrypt(key, both.encrypt(key, PERSON)) == PERSON
    old = both.encrypt(key, PERSON)
    both.use(2, 2)
    new = both.encrypt(key, PERSON)
    assert both.decrypt(key, old) == both.decrypt(key, new) == PERSON
    assert VaultCipher(MAC, {1: FIRST, 2: SECOND}, {1: MASTER, 2: NEWER}).decrypt(key, new) == PERSON
    assert VaultCipher(MAC, {2: SECOND}, {2: NEWER}).decrypt(key, new) == PERSON
    with pytest.raises(ConfigError, match="does not open"):
        one.decrypt(key, new)


@pytest.mark.parametrize(("records", "schools"), [(1, 2), (2, 1), (2, 2)])
def test_a_record_is_older_if_anything_in_it_is(records: int, schools: int) -> None:
    """The record itself, or one of the keys inside; rewritten it needs no older version any more."""
    cipher = VaultCipher(MAC, {1: FIRST, 2: SECOND}, {1: MASTER, 2: NEWER})
    (key,) = cipher.keys(PERSON)
    raw = cipher.encrypt(key, PERSON)
    assert not cipher.is_older(key, raw)
    cipher.use(records, schools)
    assert cipher.is_older(key, raw)
    renewed = cipher.renewed(key, raw)
    assert not cipher.is_older(key, renewed)
    alone = VaultCipher(MAC, {records: (FIRST, SECOND)[records - 1]}, {schools: (MASTER, NEWER)[schools - 1]})
    assert alone.decrypt(key, renewed) == PERSON


def test_who_has_not_the_version_in_use_says_so_and_stays_as_he_was() -> None:
    """Named by secret and number; with newer keys it goes on."""
    cipher = VaultCipher(MAC, FIRST, MASTER)
    (key,) = cipher.keys(PERSON)
    for versions, name in (((2, 1), "vault-records"), ((1, 2), "school-keys")):
        with pytest.raises(TransientError, match=name) as caught:
            cipher.use(*versions)
        assert caught.value.code == "keys.behind"
    before = cipher.encrypt(key, PERSON)
    cipher.renew({1: FIRST, 2: SECOND}, MASTER)
    cipher.use(2, 1)
    assert cipher.is_older(key, before)
    assert cipher.decrypt(key, cipher.encrypt(key, replace(PERSON, left_on=1))).left_on == 1


def test_the_schools_keys_open_what_either_master_sealed() -> None:
    """First the one in use; another school's open nothing."""
    keys = SchoolKeys({1: MASTER, 2: NEWER})
    assert len(keys.school_ciphers("99PA")) == 2
    sealed = SchoolKeys({2: NEWER}).school_cipher("99PA").encrypt(b"n" * 12, b"tag", b"")
    assert keys.school_ciphers("99PA")[1].decrypt(b"n" * 12, sealed, b"") == b"tag"
