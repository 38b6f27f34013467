"""Tests of `broker.audit.log.proof`: the form of c2sp.org/tlog-proof, in one spelling."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.merkle import ProofError
from broker.audit.log.note import Cosigner, NoteError, Signer, Verifier, render
from broker.audit.log.proof import MAX_EXTRA_BYTES, Proof
from tests.audit.log.tree import LEAF_0, LEAF_1, NOTE, ORIGIN, VKEY, Tree, flips, key

LOG = Verifier.parse(VKEY)
GOLDEN = Proof(None, 1, (bytes.fromhex(LEAF_0),), NOTE)
TREE = Tree(70)


def proof(index: int = 41, size: int = 70, extra: bytes | None = b"extra") -> Proof:
    """Of a leaf of a larger tree."""
    text = Checkpoint(ORIGIN, size, TREE.root(0, size)).text()
    note = render(text, [Signer(ORIGIN, key("golden log key")).sign(text)])
    return Proof(extra, index, tuple(TREE.path(index, 0, size)), note)


def test_the_golden_proof() -> None:
    """The second leaf of the golden tree: written out by hand, and shown."""
    data = GOLDEN.render()
    path = b64encode(bytes.fromhex(LEAF_0))
    assert data == b"c2sp.org/tlog-proof@v1\nindex 1\n" + path + b"\n\n" + NOTE
    checkpoint, note = Proof.parse(data).verify(bytes.fromhex(LEAF_1), (LOG,))
    assert (checkpoint.origin, checkpoint.size) == (ORIGIN, 2)
    assert [signed.name for signed in note.verified] == [ORIGIN]


@given(st.data(), st.none() | st.binary(min_size=1, max_size=200))
def test_a_proof_comes_back_as_it_was_written_and_shows_its_leaf(data: st.DataObject, extra: bytes | None) -> None:
    """Any leaf of any tree, with and without extra; no other leaf."""
    size = data.draw(st.integers(1, 70))
    index = data.draw(st.integers(0, size - 1))
    made = proof(index, size, extra)
    assert Proof.parse(made.render()) == made
    assert made.verify(TREE.leaves[index], (LOG,))[0].size == size
    with pytest.raises(ProofError):
        made.verify(TREE.leaves[index - 1] if index else bytes(32), (LOG,))


def test_a_tree_of_one_leaf_has_an_empty_path() -> None:
    """The empty line follows the index."""
    data = proof(0, 1, None).render()
    assert data.startswith(b"c2sp.org/tlog-proof@v1\nindex 0\n\n" + ORIGIN.encode())
    assert Proof.parse(data).path == ()


def test_the_log_itself_must_have_signed() -> None:
    """A witness alone, or a known key of another name, does not make a checkpoint of this log."""
    text = NOTE.decode().rpartition("\n\n")[0] + "\n"
    witness, other = Cosigner(ORIGIN, key("witness")), Signer("other.example", key("other"))
    lines = [witness.sign(text, 1), other.sign(text)]
    with pytest.raises(NoteError, match="not signed by the log"):
        Proof(None, 1, GOLDEN.path, render(text, lines)).verify(
            bytes.fromhex(LEAF_1), (LOG, witness.verifier, other.verifier)
        )


DATA = proof().render()
MALFORMED = {
    "empty": b"",
    "header alone": b"c2sp.org/tlog-proof@v1\n",
    "another version": DATA.replace(b"@v1", b"@v2"),
    "no index": DATA.replace(b"index 41\n", b""),
    "index first": DATA.replace(b"extra ZXh0cmE=\nindex 41\n", b"index 41\nextra ZXh0cmE=\n"),
    "extra twice": DATA.replace(b"extra ZXh0cmE=\n", b"extra ZXh0cmE=\n" * 2),
    "empty extra": DATA.replace(b"extra ZXh0cmE=\n", b"extra \n"),
    "extra not canonical": DATA.replace(b"extra ZXh0cmE=\n", b"extra ZXh0cmF=\n"),
    "index with a zero": DATA.replace(b"index 41", b"index 041"),
    "index with a space": DATA.replace(b"index 41", b"index  41"),
    "negative index": DATA.replace(b"index 41", b"index -1"),
    "index behind the tree": DATA.replace(b"index 41", b"index 70"),
    "short hash": DATA.replace(b"index 41\n", b"index 41\nAAAA\n"),
    "too many hashes": DATA.replace(b"index 41\n", b"index 41\n" + (b64encode(bytes(32)) + b"\n") * 64),
    "comment": DATA.replace(b"index 41\n", b"index 41\n# hash\n"),
    "two empty lines": DATA.replace(b"\n\n", b"\n\n\n", 1),
    "no checkpoint": DATA.partition(b"\n\n")[0] + b"\n\n",
    "checkpoint without signature": DATA.rpartition(b"\n\n")[0] + b"\n",
    "carriage return": DATA.replace(b"\n", b"\r\n"),
    "not ascii": DATA.replace(b"index 41", "índex 41".encode()),
    "white space before": b"\n" + DATA,
    "more after": DATA + b"\n",
    "too large": DATA + b"x" * (1 << 20),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_proof_is_read_in_one_spelling(case: str) -> None:
    """c2sp.org/tlog-proof, strictly."""
    with pytest.raises(NoteError):
        Proof.parse(MALFORMED[case])


def test_every_flipped_bit_of_a_proof_is_refused() -> None:
    """No bit may be changed, if there is no extra: nothing authenticates that."""
    leaf = bytes.fromhex(LEAF_1)
    for changed in flips(GOLDEN.render()):
        with pytest.raises((NoteError, ProofError)):
            Proof.parse(changed).verify(leaf, (LOG,))


def test_the_line_of_the_extra_stays_below_64_kib() -> None:
    """Go's line reader takes no longer ones."""
    longest = proof(extra=bytes(MAX_EXTRA_BYTES)).render()
    assert max(map(len, longest.split(b"\n"))) < 65_536
    assert Proof.parse(longest).extra == bytes(MAX_EXTRA_BYTES)
    for extra in (b"", bytes(MAX_EXTRA_BYTES + 1)):
        with pytest.raises(NoteError, match="the extra of a proof"):
            proof(extra=extra)
