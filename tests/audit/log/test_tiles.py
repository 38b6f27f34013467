"""Tests of `broker.audit.log.tiles`: names, bundles, and trees that grow to any size in any steps."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.audit.log.merkle import EMPTY_ROOT, Frontier, inclusion_proof, root_of, verify_inclusion
from broker.audit.log.tiles import (
    Edge,
    TileBuilder,
    TileError,
    TileReader,
    bundle_path,
    check_path,
    decode_bundle,
    encode_bundle,
    full_path,
    offsets_path,
    read_edge,
    tile_path,
)
from tests.audit.log.tree import ROOT_10000, Tree, entry

TREE = Tree(70_000)
ENTRIES = [entry(i) for i in range(70_000)]
BOUNDARIES = (65_535, 65_536, 65_537, 70_000)


def naive_files(size: int) -> dict[str, bytes]:
    """Every full and partial tile and bundle of a tree, by the formula of the specification."""
    files, level = {}, 0
    while count := size >> 8 * level:
        span = 1 << 8 * level
        for first in range(0, count, 256):
            last = min(first + 256, count)
            hashes = b"".join(TREE.root(i * span, (i + 1) * span) for i in range(first, last))
            suffix = "" if last - first == 256 else f".p/{last - first}"
            assert first < 1000 * 256
            files[f"tile/{level}/{first // 256:03}{suffix}"] = hashes
            if level == 0:
                entries = ENTRIES[first:last]
                files[f"tile/entries/{first // 256:03}{suffix}"] = b"".join(
                    len(e).to_bytes(2, "big") + e for e in entries
                )
        level += 1
    return files


# ---- names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (tile_path(0, 0), "tile/0/000"),
        (tile_path(63, 999), "tile/63/999"),
        (tile_path(1, 1000), "tile/1/x001/000"),
        (tile_path(0, 1234067), "tile/0/x001/x234/067"),
        (tile_path(0, 1234067, 255), "tile/0/x001/x234/067.p/255"),
        (bundle_path(1234067, 1), "tile/entries/x001/x234/067.p/1"),
        (offsets_path(5), "offsets/005"),
    ],
)
def test_a_name_has_groups_of_three_digits(name: str, expected: str) -> None:
    """All but the last begin with x (tlog-tiles); the specification's own example is 1234067."""
    assert name == expected
    assert check_path(name) == name


@given(st.integers(0, 63), st.integers(0, 10**15), st.integers(1, 256))
def test_every_name_that_is_made_is_accepted(level: int, index: int, width: int) -> None:
    """And a partial one tells its full one."""
    for name in (tile_path(level, index, width), bundle_path(index, width), offsets_path(index, width)):
        assert check_path(name) == name
        assert full_path(name) == (None if width == 256 else name.rpartition(".p/")[0])


@pytest.mark.parametrize(
    "name",
    [
        "", "checkpoint", "tile", "tile/0", "tile/0/", "tile/0/0", "tile/0/0000", "/tile/0/000", "tile//0/000",
        "tile/00/000", "tile/64/000", "tile/-1/000", "tile/0/x000/001", "tile/0/001/002", "tile/0/x001",
        "tile/0/000.p", "tile/0/000.p/", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000/",
        "../tile/0/000", "tile/../tile/0/000", "tile/0/../../../etc/passwd", "tile/0/000\n", "tile/0/٠٠٠",
        "tile\\0\\000", "tile/0/000\0", "tile/entries/000.p/7/8", ".tmp/000", ".lock", "TILE/0/000",
    ],
)  # fmt: skip
def test_any_other_name_is_refused(name: str) -> None:
    """So a name from outside can not lead out of the log; nothing of it is in the message."""
    with pytest.raises(TileError) as problem:
        check_path(name)
    assert str(problem.value) == "this is not the name of a tile, a bundle or their offsets"


# ---- bundles


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_bundle_comes_back_as_it_was_written(entries: list[bytes]) -> None:
    """Also entries of no bytes."""
    assert decode_bundle(encode_bundle(entries), len(entries)) == entries


def test_an_entry_has_at_most_65535_bytes() -> None:
    """Its length is a uint16; one byte more is refused, and the tree stays as it was."""
    longest = [bytes(0xFFFF)]
    assert decode_bundle(encode_bundle(longest), 1) == longest
    builder = TileBuilder()
    builder.append([b"one"])
    before = builder.edge
    with pytest.raises(TileError, match="longer than 65535"):
        builder.append([b"two"] * 300 + [bytes(0x10000)])
    assert builder.edge is before


@pytest.mark.parametrize("data", [b"\0", b"\0\x02a", b"\0\x01a\0", b"", b"\0\x01a\0\x01b", b"\0\x01ab"])
def test_a_bundle_that_ends_elsewhere_is_refused(data: bytes) -> None:
    """One entry is expected: not none, not two, nothing after it, not a part of it."""
    with pytest.raises(TileError):
        decode_bundle(data, 1)


# ---- trees


def test_every_size_to_six_hundred_has_the_files_of_the_specification() -> None:
    """Leaf by leaf: what was written so far has all files of this size, and the root of the RFC."""
    builder, written = TileBuilder(), {}
    for size in range(1, 601):
        growth = builder.append([ENTRIES[size - 1]])
        written.update(growth.files)
        assert (growth.size, growth.root) == (size, TREE.root(0, size))
        expected = naive_files(size)
        assert expected.items() <= written.items()
        assert growth.files.items() <= expected.items()


@pytest.mark.parametrize("size", [*BOUNDARIES, 10_000])
def test_trees_around_the_second_level_have_the_files_of_the_specification(size: int) -> None:
    """Built at once; 10,000 leaves are the second golden tree."""
    growth = TileBuilder().append(ENTRIES[:size])
    assert growth.files == naive_files(size)
    assert (growth.size, growth.root) == (size, TREE.root(0, size))
    if size == 10_000:
        assert growth.root.hex() == ROOT_10000


def test_a_tree_of_seventy_thousand_has_the_tiles_that_the_specification_counts() -> None:
    """273 full and one of 112; one full and one of 17; one of 1."""
    names = [name for name in TileBuilder().append(ENTRIES).files if "entries" not in name]
    assert sum(name.startswith("tile/0/") and ".p/" not in name for name in names) == 273
    assert {name for name in names if not name.startswith("tile/0/") or ".p/" in name} == {
        "tile/0/273.p/112", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1",
    }  # fmt: skip


@given(st.lists(st.integers(0, 700), max_size=8), st.booleans())
@settings(max_examples=40)
def test_any_steps_make_the_same_files_as_one(steps: list[int], restarts: bool) -> None:
    """Also when every step begins from what is stored; smaller partial files of steps between come with it."""
    builder, written, size = TileBuilder(), {}, 0
    for step in steps:
        if restarts:
            builder = TileBuilder(read_edge(written.get, size))
        growth = builder.append(ENTRIES[size : size + step])
        assert not growth.files.items() & written.items()
        written.update(growth.files)
        size += step
        assert (growth.size, growth.root) == (size, TREE.root(0, size))
    at_once = TileBuilder().append(ENTRIES[:size]).files
    assert at_once.items() <= written.items()
    full = {name for name in written if ".p/" not in name}
    assert full == {name for name in at_once if ".p/" not in name}


def test_equal_entries_are_written_at_each_place_where_they_stand() -> None:
    """A partial tile with the bytes of an older one has another name; it must not count as written already."""
    written: dict[str, bytes] = {}
    builder = TileBuilder()
    for _ in range(3):
        written.update(builder.append([b"same"] * 256 + ([b"same"] * 7 if not written else [])).files)
    for index in (1, 2, 3):
        assert written[f"tile/0/{index:03}.p/7"] == written["tile/0/001.p/7"]
        assert written[f"tile/entries/{index:03}.p/7"] == b"\0\x04same" * 7


def test_nothing_added_is_nothing_to_write() -> None:
    """Root and size as they were."""
    assert TileBuilder().append([]) == TileBuilder(Edge()).append([])
    assert TileBuilder().append([]).root == EMPTY_ROOT
    assert TileBuilder().append([]).files == {}


@pytest.mark.parametrize("size", [1, 255, 256, 257, 511, 512, 513, 600, *BOUNDARIES])
def test_a_stored_tree_gives_its_edge_nodes_and_proofs(size: int) -> None:
    """Edge, frontier, proofs of many leaves and the entries, read from the files alone."""
    files = TileBuilder().append(ENTRIES[:size]).files
    root = TREE.root(0, size)
    edge = read_edge(files.get, size)
    assert edge.root() == root
    reader = TileReader(files.get, size)
    assert Frontier.restore(size, reader.hash_at).root() == root
    for index in {0, 1, 255, 256, 257, size // 3, size // 2, size - 256, size - 2, size - 1}:
        if 0 <= index < size:
            path = inclusion_proof(index, size, reader.hash_at)
            assert path == TREE.path(index, 0, size)
            verify_inclusion(TREE.leaves[index], index, size, path, root)
            assert reader.entry(index) == ENTRIES[index]
    start, end = size // 3, size - size // 5
    assert list(reader.entries(start, end)) == ENTRIES[start:end]


def test_every_complete_node_is_that_of_the_tree() -> None:
    """At every level of a tree with two levels of tiles; an incomplete node is refused."""
    size = 66_000
    reader = TileReader(TileBuilder().append(ENTRIES[:size]).files.get, size)
    for level in range(17):
        for index in {0, 1, (size >> level) // 2, (size >> level) - 1}:
            if 0 <= index < size >> level:
                assert reader.hash_at(level, index) == TREE.root(index << level, (index + 1) << level)
        with pytest.raises(TileError, match="no complete node"):
            reader.hash_at(level, size >> level)
    for index in (-1, size):
        with pytest.raises(TileError, match="no leaf"):
            reader.entry(index)
    with pytest.raises(TileError, match="no complete node"):
        reader.hash_at(0, -1)


def test_neighbours_are_read_and_hashed_together() -> None:
    """Asking for all leaves of three bundles, in their order, reads each file once."""
    size, seen = 600, list[str]()
    files = TileBuilder().append(ENTRIES[:size]).files

    def read(name: str) -> bytes | None:
        seen.append(name)
        return files.get(name)

    reader = TileReader(read, size)
    for index in range(size):
        assert reader.entry(index) == ENTRIES[index]
        assert inclusion_proof(index, size, reader.hash_at) == TREE.path(index, 0, size)
    assert sorted(seen) == sorted(files)


def test_a_full_file_stands_in_for_a_partial_one_that_has_gone() -> None:
    """A log may remove partial tiles once the full one is there (tlog-tiles): an older size stays readable."""
    files = {name: data for name, data in TileBuilder().append(ENTRIES).files.items() if ".p/" not in name}
    size = 65_536 - 3
    reader = TileReader(files.get, size)
    assert read_edge(files.get, size).root() == TREE.root(0, size)
    assert inclusion_proof(size - 1, size, reader.hash_at) == TREE.path(size - 1, 0, size)
    assert reader.entry(size - 1) == ENTRIES[size - 1]


def test_an_edge_with_a_missing_or_damaged_file_is_refused() -> None:
    """Each of the files that it is made of, gone, cut, made longer, or with another entry in it."""
    size = 70_000
    files = TileBuilder().append(ENTRIES).files
    edge = [name for name in files if ".p/" in name]
    assert len(edge) == 4
    for name in edge:
        for data in (None, files[name][:-1], files[name] + b"\0", b""):
            with pytest.raises(TileError):
                read_edge({**files, name: data}.get, size)
    bundle = "tile/entries/273.p/112"
    with pytest.raises(TileError, match="not those its tiles were made from"):
        read_edge({**files, bundle: files[bundle][:-1] + b"x"}.get, size)


def test_a_reader_does_not_take_a_tile_that_was_cut() -> None:
    """Partial or full, cut or gone or longer: no hash is made from less than was asked for."""
    files = TileBuilder().append(ENTRIES[:600]).files
    for name, level, index in (("tile/0/000", 3, 31), ("tile/0/002.p/88", 0, 599), ("tile/1/000.p/2", 8, 1)):
        for data in (None, files[name][:-32], files[name] + bytes(32), b""):
            with pytest.raises(TileError, match=f"{name} is missing or does not have"):
                TileReader({**files, name: data}.get, 600).hash_at(level, index)
    for data in (None, b"", files["tile/entries/001"][:-1]):
        with pytest.raises(TileError):
            TileReader({**files, "tile/entries/001": data}.get, 600).entry(256)
    short = {"tile/0/000": files["tile/0/000"][:-32]}
    with pytest.raises(TileError):
        TileReader(short.get, 100).hash_at(0, 5)


def test_a_changed_hash_at_the_edge_changes_the_root() -> None:
    """Of each level above the entries: comparing with the signed root shows it."""
    files = TileBuilder().append(ENTRIES).files
    for name in ("tile/1/001.p/17", "tile/2/000.p/1"):
        changed = bytes([files[name][0] ^ 1]) + files[name][1:]
        assert read_edge({**files, name: changed}.get, 70_000).root() != TREE.root(0, 70_000)


@pytest.mark.parametrize(
    "edge",
    [(1, (), b""), (0, (b"",), b""), (1, (bytes(31),), b"\0\0"), (256, (b"",), b""), (1, (bytes(32),), b"\0\0")],
)
def test_an_edge_that_is_of_no_tree_is_not_made(edge: tuple[int, tuple[bytes, ...], bytes]) -> None:
    """Its tiles have the widths that its size asks for, its entries the hashes of the tile."""
    with pytest.raises(TileError):
        Edge(*edge)


def test_an_edge_that_grew_is_the_edge_that_is_read() -> None:
    """The builder does not hash again; what it keeps is the same."""
    builder = TileBuilder()
    files = builder.append(ENTRIES[:777]).files
    assert builder.edge == read_edge(files.get, 777) == Edge(777, builder.edge.tiles, builder.edge.bundle)
    assert root_of([sha256(b"\0" + e).digest() for e in ENTRIES[:777]]) == builder.edge.root()
