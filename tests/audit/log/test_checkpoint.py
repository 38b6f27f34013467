"""Tests of `broker.audit.log.checkpoint`: the golden text, and one spelling only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit.log.checkpoint import MAX_SIZE, Checkpoint
from broker.audit.log.merkle import EMPTY_ROOT
from broker.audit.log.note import NoteError, Verifier, open_note
from tests.audit.log.tree import NOTE, ORIGIN, ROOT_2, TEXT, VKEY, flips

GOLDEN = Checkpoint(ORIGIN, 2, bytes.fromhex(ROOT_2))


def test_the_golden_checkpoint() -> None:
    """Text and fields of the audit design, section 2."""
    assert GOLDEN.text() == TEXT
    assert Checkpoint.parse(TEXT) == GOLDEN


@given(st.integers(1, MAX_SIZE), st.binary(min_size=32, max_size=32))
def test_a_checkpoint_comes_back_as_it_was_written(size: int, root: bytes) -> None:
    """Any size below 2^63."""
    checkpoint = Checkpoint(ORIGIN, size, root)
    assert Checkpoint.parse(checkpoint.text()) == checkpoint


def test_the_empty_tree_has_one_checkpoint() -> None:
    """Size 0 with any other root is refused."""
    assert Checkpoint.parse(Checkpoint(ORIGIN, 0, EMPTY_ROOT).text()).size == 0
    with pytest.raises(NoteError, match="empty tree"):
        Checkpoint(ORIGIN, 0, bytes(32))


ROOT = TEXT.split("\n")[2]
MALFORMED = {
    "empty": "",
    "no newline": TEXT[:-1],
    "extension line": TEXT + "more\n",
    "empty line": TEXT + "\n",
    "no origin": TEXT.partition("\n")[2],
    "empty origin": f"\n2\n{ROOT}\n",
    "leading zero": f"{ORIGIN}\n02\n{ROOT}\n",
    "plus": f"{ORIGIN}\n+2\n{ROOT}\n",
    "minus": f"{ORIGIN}\n-2\n{ROOT}\n",
    "space": f"{ORIGIN}\n2 \n{ROOT}\n",
    "digits of another script": f"{ORIGIN}\n٢\n{ROOT}\n",
    "underscore": f"{ORIGIN}\n1_0\n{ROOT}\n",
    "too large": f"{ORIGIN}\n{1 << 63}\n{ROOT}\n",
    "very long": f"{ORIGIN}\n{'9' * 5000}\n{ROOT}\n",
    "root not canonical": f"{ORIGIN}\n2\n{ROOT[:-2]}5=\n",
    "root too short": f"{ORIGIN}\n2\n{ROOT[:-4]}\n",
    "root too long": f"{ORIGIN}\n2\nAAAA{ROOT}\n",
    "carriage return": TEXT.replace("\n", "\r\n"),
    "tab in the origin": f"a\tb\n2\n{ROOT}\n",
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_checkpoint_is_read_in_one_spelling(case: str) -> None:
    """Three lines, decimal without leading zeroes, canonical base64 of 32 bytes (tlog-checkpoint)."""
    with pytest.raises(NoteError):
        Checkpoint.parse(MALFORMED[case])


@pytest.mark.parametrize(("origin", "size", "root"), [("a\nb", 1, bytes(32)), ("a", -1, bytes(32)), ("a", 1, b"")])
def test_a_checkpoint_that_can_not_be_written_is_not_made(origin: str, size: int, root: bytes) -> None:
    """Before anyone signs it."""
    with pytest.raises(NoteError):
        Checkpoint(origin, size, root)


def test_every_flipped_bit_of_a_signed_checkpoint_is_refused() -> None:
    """Opening comes first; nothing of an unsigned text is read."""
    for changed in flips(NOTE):
        with pytest.raises(NoteError):
            Checkpoint.parse(open_note(changed, [Verifier.parse(VKEY)]).text)
