"""Tests of `broker.audit.log.merkle`: against the recursion of RFC 6962, and against changed proofs."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.audit.log.merkle import (
    EMPTY_ROOT,
    Frontier,
    ProofError,
    complete_root,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    range_root,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from tests.audit.log.tree import LEAF_0, LEAF_1, LINE_0, ROOT_2, ROOT_10000, Tree, entry
from tests.audit.test_leaf import GOLDEN_LINE

TREE = Tree(600)
SIZES = st.integers(1, 600)


def test_the_golden_leaves_and_their_root() -> None:
    """The two example lines of the audit design, sections 1.2 and 2: 759 and 972 bytes."""
    lines = [LINE_0.encode(), GOLDEN_LINE.encode()]
    assert [len(line) for line in lines] == [759, 972]
    assert [leaf_hash(line).hex() for line in lines] == [LEAF_0, LEAF_1]
    assert root_of([leaf_hash(line) for line in lines]).hex() == ROOT_2


def test_the_golden_root_of_ten_thousand_leaves() -> None:
    """As computed by tessera and by x/mod (audit design, section 2)."""
    assert root_of([leaf_hash(entry(i)) for i in range(10_000)]).hex() == ROOT_10000


def test_the_empty_tree_has_the_hash_of_nothing() -> None:
    """RFC 6962 section 2.1."""
    assert root_of([]) == EMPTY_ROOT == Frontier().root() == range_root(0, 0, TREE.hash_at) == sha256(b"").digest()


def test_every_size_to_six_hundred_has_the_root_of_the_rfc() -> None:
    """Put together from leaves, from complete nodes, and leaf by leaf."""
    frontier = Frontier()
    for size in range(1, 601):
        frontier.append(TREE.leaves[size - 1])
        expected = TREE.root(0, size)
        assert root_of(TREE.leaves[:size]) == expected
        assert range_root(0, size, TREE.hash_at) == expected
        assert frontier.root() == expected
        assert frontier.size == size


def test_a_restored_frontier_goes_on_as_if_it_had_never_stopped() -> None:
    """From the complete nodes of the tree so far."""
    for size in range(300):
        frontier = Frontier.restore(size, TREE.hash_at)
        assert frontier.root() == TREE.root(0, size)
        for leaf in TREE.leaves[size : size + 3]:
            frontier.append(leaf)
        assert (frontier.size, frontier.root()) == (size + 3, TREE.root(0, size + 3))


def test_a_complete_root_is_that_of_its_leaves() -> None:
    """For 1 to 256 hashes in one string."""
    for level in range(9):
        assert complete_root(b"".join(TREE.leaves[: 1 << level])) == TREE.root(0, 1 << level)


def test_every_leaf_of_every_size_to_one_hundred_has_the_path_of_the_rfc() -> None:
    """PATH of RFC 6962 section 2.1.1, and it verifies."""
    for size in range(1, 101):
        for index in range(size):
            path = inclusion_proof(index, size, TREE.hash_at)
            assert path == TREE.path(index, 0, size)
            verify_inclusion(TREE.leaves[index], index, size, path, TREE.root(0, size))


def test_every_pair_of_sizes_to_one_hundred_has_the_proof_of_the_rfc() -> None:
    """PROOF of RFC 6962 section 2.1.2, and it verifies; from nothing nothing is needed."""
    for new in range(1, 101):
        assert consistency_proof(0, new, TREE.hash_at) == []
        verify_consistency(0, EMPTY_ROOT, new, TREE.root(0, new), [])
        for old in range(1, new + 1):
            path = consistency_proof(old, new, TREE.hash_at)
            assert path == TREE.subproof(old, 0, new, True)
            verify_consistency(old, TREE.root(0, old), new, TREE.root(0, new), path)


@given(st.data())
def test_proofs_of_larger_trees_are_those_of_the_rfc(data: st.DataObject) -> None:
    """Any leaf, any two sizes up to 600."""
    size = data.draw(SIZES)
    index = data.draw(st.integers(0, size - 1))
    path = inclusion_proof(index, size, TREE.hash_at)
    assert path == TREE.path(index, 0, size)
    verify_inclusion(TREE.leaves[index], index, size, path, TREE.root(0, size))
    old = data.draw(st.integers(1, size))
    proof = consistency_proof(old, size, TREE.hash_at)
    assert proof == TREE.subproof(old, 0, size, True)
    verify_consistency(old, TREE.root(0, old), size, TREE.root(0, size), proof)


@given(st.data())
@settings(max_examples=200)
def test_an_inclusion_proof_shows_one_leaf_at_one_place_of_one_tree(data: st.DataObject) -> None:
    """Another leaf, index, root, or a path that was changed, cut or made longer, is refused."""
    size = data.draw(st.integers(2, 600))
    index = data.draw(st.integers(0, size - 1))
    leaf, root, path = TREE.leaves[index], TREE.root(0, size), TREE.path(index, 0, size)
    at = data.draw(st.integers(0, len(path) - 1))
    other = (index + data.draw(st.integers(1, size - 1))) % size
    changed = [*path[:at], bytes([path[at][0] ^ 1]) + path[at][1:], *path[at + 1 :]]
    for case in (
        (TREE.leaves[other], index, size, path, root),
        (leaf, other, size, path, root),
        (leaf, index, size, changed, root),
        (leaf, index, size, path[:-1], root),
        (leaf, index, size, [*path, root], root),
        (leaf, index, size, [*path[:at], path[at] + b"\0", *path[at + 1 :]], root),
        (leaf, index, size, path, TREE.root(0, size - 1)),
        (leaf, size, size, path, root),
        (leaf, -1, size, path, root),
    ):
        with pytest.raises(ProofError):
            verify_inclusion(*case)


@given(st.data())
@settings(max_examples=200)
def test_a_consistency_proof_shows_two_trees_only(data: st.DataObject) -> None:
    """Another root, or a path that was changed, cut or made longer, is refused."""
    new = data.draw(st.integers(3, 600))
    old = data.draw(st.integers(1, new - 1))
    one, two, path = TREE.root(0, old), TREE.root(0, new), TREE.subproof(old, 0, new, True)
    at = data.draw(st.integers(0, len(path) - 1))
    changed = [*path[:at], bytes([path[at][0] ^ 1]) + path[at][1:], *path[at + 1 :]]
    for case in (
        (old, two, new, two, path),
        (old, one, new, one, path),
        (old, one, new, two, changed),
        (old, one, new, two, path[:-1]),
        (old, one, new, two, [*path, two]),
        (old, one, new, two, [path[0][:-1], *path[1:]]),
        (old, one, new, two, []),
        (new, one, old, two, path),
        (-1, one, new, two, path),
    ):
        with pytest.raises(ProofError):
            verify_consistency(*case)


def test_a_path_that_goes_on_above_the_root_is_told_apart() -> None:
    """Before it is hashed on (RFC 9162 section 2.1.3.2, step 4)."""
    with pytest.raises(ProofError, match="too long"):
        verify_inclusion(TREE.leaves[3], 3, 9, [*TREE.path(3, 0, 9), bytes(32)], TREE.root(0, 9))


def test_equal_sizes_need_equal_roots_and_no_path() -> None:
    """Two roots of one size are a fork; a path where none is due is refused."""
    root = TREE.root(0, 7)
    verify_consistency(7, root, 7, root, [])
    verify_consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, [])
    for case in ((7, root, 7, TREE.root(0, 6), []), (7, root, 7, root, [root]), (0, root, 7, root, [])):
        with pytest.raises(ProofError):
            verify_consistency(*case)


@pytest.mark.parametrize(("index", "size"), [(-1, 5), (5, 5), (0, 0)])
def test_no_proof_of_a_leaf_that_is_not_there(index: int, size: int) -> None:
    """Neither before the first nor after the last."""
    with pytest.raises(ProofError, match="has no leaf"):
        inclusion_proof(index, size, TREE.hash_at)


def test_no_proof_that_a_tree_continues_a_larger_one() -> None:
    """Leaves can not be taken back."""
    with pytest.raises(ProofError, match="does not continue"):
        consistency_proof(6, 5, TREE.hash_at)
