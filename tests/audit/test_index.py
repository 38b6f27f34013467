"""Entries of `audit.index`: who can find a person's leaves, and who can not."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from broker.audit.index import index_entry, open_entry, span_of
from broker.audit.leaf import lookup_tag
from broker.errors import ConfigError

SCHOOL, SPAN, PERSON = AESGCM(b"s" * 32), b"12345678", b"p" * 32


def test_the_schools_key_opens_an_entry() -> None:
    """It says which leaf, and by which tag; and which leaf can be told without the key."""
    entry = index_entry(SCHOOL, SPAN, PERSON)
    assert open_entry(SCHOOL, entry) == (SPAN, lookup_tag(PERSON))
    assert span_of(entry) == SPAN


def test_without_the_key_two_entries_of_one_person_can_not_be_linked() -> None:
    """Nothing but the span is in clear, and each is sealed under a nonce of its own."""
    one, other = index_entry(SCHOOL, SPAN, PERSON), index_entry(SCHOOL, SPAN, PERSON)
    assert one != other
    assert lookup_tag(PERSON) not in one


@pytest.mark.parametrize("place", [0, 7, 8, 19, 20, -1])
def test_an_entry_that_was_changed_does_not_open(place: int) -> None:
    """Nor one whose span was exchanged, so that it would lead to another leaf."""
    entry = bytearray(index_entry(SCHOOL, SPAN, PERSON))
    entry[place] ^= 1
    with pytest.raises(ConfigError):
        open_entry(SCHOOL, bytes(entry))


@pytest.mark.parametrize("entry", [b"", SPAN, SPAN + b"n" * 12, bytes(range(51))])
def test_what_is_no_entry_is_said_so(entry: bytes) -> None:
    """And is no crash."""
    with pytest.raises(ConfigError, match=r"does not open"):
        open_entry(SCHOOL, entry)


def test_another_schools_key_opens_nothing() -> None:
    """The keys of two schools are apart."""
    with pytest.raises(ConfigError):
        open_entry(AESGCM(b"t" * 32), index_entry(SCHOOL, SPAN, PERSON))
