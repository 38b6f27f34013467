"""Entries of `audit.index`: by which a person's leaves are found, as long as the person's key exists.

A leaf names nobody: its token differs for every leaf. So that a school can ask what was exchanged about one of its
pupils, the transaction that writes a leaf about an enrolled person also writes an entry here:

    span (8 bytes, of the leaf) ‖ nonce (12) ‖ AES-256-GCM(school key, lookup tag (16), associated data: label ‖ span)

The tag is equal for all leaves of one person, a keyed hash under the person's own key. The topic is kept for a week;
what lasts is the indexer's store, from which a person's rows are deleted at an erasure. The transaction that erases a
person says so here, with an entry for each key that the person had:

    span (8, of the leaf of the ERASE) ‖ nonce (12) ‖ AES-256-GCM(school key, lookup tag (16), another label ‖ span) ‖ 1

It is a byte longer than others, and its label keeps one from being made of the other.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from broker.audit.leaf import lookup_tag
from broker.crypto import seal
from broker.errors import ConfigError

SPAN_BYTES: Final = 8
_NONCE: Final = 12
_LABEL: Final = b"audit/index/v1"
_FORGET: Final = b"audit/forget/v1"
_FORGET_MARK: Final = b"\x01"
_ENTRY_BYTES: Final = SPAN_BYTES + _NONCE + 16 + 16  # tag, and what GCM adds


class IndexEntry(NamedTuple):
    """What an entry says.

    Args:
        span: of the leaf, 8 bytes. tag: of the person, 16 bytes.
    """

    span: bytes
    tag: bytes


def index_entry(school: AESGCM, span: bytes, subject_key: bytes) -> bytes:
    """The entry of one leaf; `school` is the cipher of the school that the leaf names."""
    return span + seal(school, lookup_tag(subject_key), _LABEL + span)


def forget_entry(school: AESGCM, span: bytes, subject_key: bytes) -> bytes:
    """The entry by which a person is forgotten under one key; `school` is that of the leaf of the ERASE."""
    return span + seal(school, lookup_tag(subject_key), _FORGET + span) + _FORGET_MARK


def forgets(entry: bytes) -> bool:
    """Whether an entry says that a person is erased."""
    return len(entry) == _ENTRY_BYTES + len(_FORGET_MARK) and entry.endswith(_FORGET_MARK)


def span_of(entry: bytes) -> bytes:
    """Which leaf an entry is about."""
    return entry[:SPAN_BYTES]


def open_entry(school: AESGCM, entry: bytes) -> IndexEntry:
    """Read an entry of either kind; `forgets` tells which it is.

    Raises:
        ConfigError: `audit.index_key`, if it is not of this school, or the key is another one.
    """
    span, nonce, sealed = entry[:SPAN_BYTES], entry[SPAN_BYTES : SPAN_BYTES + _NONCE], entry[SPAN_BYTES + _NONCE :]
    label, sealed = (_FORGET, sealed.removesuffix(_FORGET_MARK)) if forgets(entry) else (_LABEL, sealed)
    try:
        return IndexEntry(span, school.decrypt(nonce, sealed, label + span))
    except (InvalidTag, ValueError):
        raise ConfigError(
            "an entry of audit.index does not open: it is of another school, or the school keys are not those it was "
            "written with",
            code="audit.index_key",
        ) from None
