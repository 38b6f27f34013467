"""A tree and its entries as immutable files (c2sp.org/tlog-tiles).

    tile/<L>/<N>            256 hashes; each is the root over 256^L leaves
    tile/<L>/<N>.p/<W>      the W hashes (1 to 255) at the right edge of a tree of some size
    tile/entries/<N>        256 entries, each behind its length (uint16, big endian)
    tile/entries/<N>.p/<W>  the W entries at the right edge
    offsets/<N>[.p/<W>]     ours, not of C2SP: where each entry of the bundle stood in Kafka

What is at a name follows from the tree, so that writing it again writes the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from struct import Struct
from typing import Final

from broker.audit.log.merkle import HASH_BYTES, complete_root, joined, leaf_hash, parents
from broker.errors import ContractError

WIDTH: Final = 256
TILE_HEIGHT: Final = 8  # 2^8 = WIDTH
MAX_ENTRY_BYTES: Final = 0xFFFF
ENTRIES: Final = "tile/entries"
OFFSETS: Final = "offsets"

Read = Callable[[str], bytes | None]

_length: Final = Struct(">H").pack
_NAME: Final = re.compile(
    r"(?:tile/(?:[0-9]|[1-5][0-9]|6[0-3]|entries)|offsets)/(?:x(?!000)[0-9]{3}/(?:x[0-9]{3}/){0,5})?[0-9]{3}"
    r"(?:\.p/(?:[1-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5]))?"
)


class TileError(ContractError):
    """A tile or bundle that is missing, or is not as the format has it."""

    default_code = "log.tile"


def tile_path(level: int, index: int, width: int = WIDTH) -> str:
    """The name of a tile; a width below 256 is that of a partial tile."""
    return _path(f"tile/{level}", index, width)


def bundle_path(index: int, width: int = WIDTH) -> str:
    """The name of an entry bundle; a width below 256 is that of a partial bundle."""
    return _path(ENTRIES, index, width)


def offsets_path(index: int, width: int = WIDTH) -> str:
    """The name of the offsets that belong to an entry bundle."""
    return _path(OFFSETS, index, width)


def _path(folder: str, index: int, width: int) -> str:
    name = f"{index % 1000:03}"
    while index := index // 1000:
        name = f"x{index % 1000:03}/{name}"
    return f"{folder}/{name}" if width == WIDTH else f"{folder}/{name}.p/{width}"


def check_path(name: str) -> str:
    """A name that one of the functions above can give.

    Raises:
        TileError: for any other; nothing of it is repeated in the message.
    """
    if _NAME.fullmatch(name) is None:
        raise TileError("this is not the name of a tile, a bundle or their offsets")
    return name


def full_path(name: str) -> str | None:
    """The name of the full file that a partial one is the beginning of; None if it is full itself."""
    full, partial, _ = name.partition(".p/")
    return full if partial else None


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Entries behind their lengths.

    Raises:
        TileError: if an entry is longer than 65,535 bytes.
    """
    if any(len(entry) > MAX_ENTRY_BYTES for entry in entries):
        raise TileError(f"an entry is longer than {MAX_ENTRY_BYTES} bytes, the longest a log can hold")
    return b"".join([_length(len(entry)) + entry for entry in entries])


def decode_bundle(data: bytes, width: int) -> list[bytes]:
    """The entries of a bundle.

    Args:
        data: the whole file.
        width: how many it must hold.

    Raises:
        TileError: if it holds more or less, or ends in the middle of one.
    """
    entries, at = [], 0
    while at < len(data):
        start = at + 2
        at = start + int.from_bytes(data[at:start], "big")
        if at > len(data):
            raise TileError("an entry bundle ends in the middle of an entry")
        entries.append(data[start:at])
    if len(entries) != width:
        raise TileError(f"an entry bundle has {len(entries)} entries where {width} are expected")
    return entries


def read_tile(read: Read, level: int, index: int, width: int = WIDTH) -> bytes:
    """`width` hashes of a tile; from the full tile when the partial one has gone.

    Raises:
        TileError: if it is missing or has another length.
    """
    name = tile_path(level, index, width)
    data = read(name)
    if data is None and width < WIDTH:
        whole = read(tile_path(level, index))
        data = None if whole is None or len(whole) != WIDTH * HASH_BYTES else whole[: width * HASH_BYTES]
    if data is None or len(data) != width * HASH_BYTES:
        raise TileError(f"{name} is missing or does not have {width} hashes; restore the log from its mirror")
    return data


def read_bundle(read: Read, index: int, width: int = WIDTH) -> list[bytes]:
    """The first `width` entries of a bundle; from the full bundle when the partial one has gone.

    Raises:
        TileError: if it is missing or is not a bundle of that width.
    """
    data = read(bundle_path(index, width))
    if data is not None:
        return decode_bundle(data, width)
    whole = None if width == WIDTH else read(bundle_path(index))
    if whole is None:
        raise TileError(f"{bundle_path(index, width)} is missing; restore the log from its mirror")
    return decode_bundle(whole, WIDTH)[:width]


class TileReader:
    """The nodes and entries of a stored tree, as far as its first `size` leaves.

    It trusts what it reads: whoever takes a proof from it checks that against a signed root.

    Args:
        read: gives the bytes at a name, or None.
        size: of a checkpoint of this tree; says which tiles are partial.
    """

    def __init__(self, read: Read, size: int) -> None:
        self.size, self._read = size, read
        # Who asks for many leaves asks in their order: neighbours share a bundle and the nodes of a tile.
        self._tile = lru_cache(maxsize=64)(self._load)  # 16 KiB each
        self._bundle = lru_cache(maxsize=2)(self._load_bundle)  # some 400 KiB each

    def _load(self, level: int, index: int) -> list[bytes]:
        """The nodes below one tile's root that are complete: its hashes, those over pairs of them, and so on."""
        nodes = [read_tile(self._read, level, index, self._width(level, index))]
        while len(nodes[-1]) > HASH_BYTES:
            nodes.append(parents(nodes[-1]))
        return nodes

    def _load_bundle(self, index: int) -> list[bytes]:
        return read_bundle(self._read, index, self._width(0, index))

    def _width(self, level: int, index: int) -> int:
        return min((self.size >> TILE_HEIGHT * level) - index * WIDTH, WIDTH)

    def hash_at(self, level: int, index: int) -> bytes:
        """The root of the leaves `index * 2^level` up to `(index + 1) * 2^level`, that must all be there.

        Raises:
            TileError: if a tile is missing, or if that node is not complete in this tree.
        """
        if index < 0 or (index + 1) << level > self.size:
            raise TileError(f"a tree of {self.size} leaves has no complete node {index} at level {level}")
        tile_level, height = divmod(level, TILE_HEIGHT)
        tile, first = divmod(index, WIDTH >> height)
        return self._tile(tile_level, tile)[height][first * HASH_BYTES : (first + 1) * HASH_BYTES]

    def hashes(self, tile: int) -> bytes:
        """The leaf hashes of a tile of level 0, as `hash_at` has them.

        Raises:
            TileError: if it is missing.
        """
        return self._tile(0, tile)[0]

    def entry(self, index: int) -> bytes:
        """The entry of a leaf.

        Raises:
            TileError: if its bundle is missing or damaged, or if the tree has no such leaf.
        """
        if not 0 <= index < self.size:
            raise TileError(f"a tree of {self.size} leaves has no leaf {index}")
        bundle, at = divmod(index, WIDTH)
        return self._bundle(bundle)[at]

    def entries(self, start: int, end: int) -> Iterator[bytes]:
        """The entries from `start` up to `end`, one bundle in memory at a time."""
        for bundle in range(start // WIDTH, -(-end // WIDTH)):
            first = bundle * WIDTH
            yield from read_bundle(self._read, bundle, self._width(0, bundle))[max(start - first, 0) : end - first]


@dataclass(frozen=True, slots=True)
class Edge:
    """The right edge of a tree: all that is needed to let it grow.

    Args:
        size: number of leaves.
        tiles: the hashes of the partial tile of each level, from 0; b"" where that level has none.
        bundle: the partial entry bundle.
    """

    size: int = 0
    tiles: tuple[bytes, ...] = ()
    bundle: bytes = b""

    def __post_init__(self) -> None:
        widths = list(_widths(self.size))
        if [len(tile) for tile in self.tiles] != [width * HASH_BYTES for width in widths]:
            raise TileError(f"these are not the partial tiles of a tree of {self.size} leaves")
        hashes = b"".join([leaf_hash(entry) for entry in decode_bundle(self.bundle, widths[0] if widths else 0)])
        if hashes != (self.tiles[0] if self.tiles else b""):
            raise TileError(
                f"the last entries of the tree of {self.size} leaves are not those its tiles were made from"
            )

    def root(self) -> bytes:
        """The root, from these tiles alone: to be compared with a signed checkpoint before anything is added."""
        return joined(peak for tile in self.tiles for peak in _peaks(tile))


def read_edge(read: Read, size: int) -> Edge:
    """The right edge of a stored tree.

    Raises:
        TileError: if a file is missing, damaged, or does not fit the others.
    """
    tiles = tuple(
        read_tile(read, level, (size >> TILE_HEIGHT * level) // WIDTH, width) if width else b""
        for level, width in enumerate(_widths(size))
    )
    last = size % WIDTH
    return Edge(size, tiles, encode_bundle(read_bundle(read, size // WIDTH, last)) if last else b"")


@dataclass(frozen=True, slots=True)
class Growth:
    """What new entries make of a tree.

    Args:
        files: name -> bytes, to be written before the new root is signed.
        size, root: of the tree with them.
    """

    files: dict[str, bytes]
    size: int
    root: bytes


class TileBuilder:
    """Adds entries to a tree and says which files that makes.

    If they could not be written, begin again with a new builder from the last size that was signed.

    Args:
        edge: of the tree so far; one for an empty tree if none is given.
    """

    __slots__ = ("edge",)

    def __init__(self, edge: Edge | None = None) -> None:
        self.edge = edge or Edge()

    def append(self, entries: Sequence[bytes]) -> Growth:
        """Add entries: full tiles and bundles that came to be, and the partial ones of the new size that are new.

        Raises:
            TileError: if an entry is too long; the tree is then as before.
        """
        files: dict[str, bytes] = {}
        size, tiles, bundle = self.edge.size, list(self.edge.tiles), self.edge.bundle
        if not entries:
            return Growth(files, size, self.edge.root())
        at = 0
        while at < len(entries):
            part = entries[at : at + WIDTH - size % WIDTH]
            bundle += encode_bundle(part)
            hashes = b"".join([sha256(b"\x00" + entry).digest() for entry in part])
            at, size = at + len(part), size + len(part)
            _push(files, tiles, size, hashes)
            if size % WIDTH == 0:
                files[bundle_path(size // WIDTH - 1)] = bundle
                bundle = b""
        for level, tile in enumerate(tiles):
            # A level above where nothing came to be is written already.
            if tile and size >> TILE_HEIGHT * level != self.edge.size >> TILE_HEIGHT * level:
                name = tile_path(level, (size >> TILE_HEIGHT * level) // WIDTH, len(tile) // HASH_BYTES)
                files[name] = tile
        if bundle:
            files[bundle_path(size // WIDTH, size % WIDTH)] = bundle
        self.edge = _edge(size, tuple(tiles), bundle)
        return Growth(files, size, self.edge.root())


def _push(files: dict[str, bytes], tiles: list[bytes], size: int, hashes: bytes) -> None:
    """Put hashes into the tile of level 0, and the root of each tile that is full then into the level above."""
    level = 0
    while hashes:
        if level == len(tiles):
            tiles.append(b"")
        tiles[level] += hashes
        hashes = b""
        if len(tiles[level]) == WIDTH * HASH_BYTES:
            files[tile_path(level, (size >> TILE_HEIGHT * (level + 1)) - 1)] = tiles[level]
            hashes, tiles[level] = complete_root(tiles[level]), b""
        level += 1


def _edge(size: int, tiles: tuple[bytes, ...], bundle: bytes) -> Edge:
    """An edge whose entries were hashed just now: they are not hashed again."""
    edge = object.__new__(Edge)
    for name, value in (("size", size), ("tiles", tiles), ("bundle", bundle)):
        object.__setattr__(edge, name, value)
    return edge


def _widths(size: int) -> Iterator[int]:
    """How many hashes the partial tile of each level has."""
    while size:
        yield size % WIDTH
        size //= WIDTH


def _peaks(tile: bytes) -> Iterator[bytes]:
    """The complete nodes of a partial tile, from the right."""
    end, width = len(tile), len(tile) // HASH_BYTES
    for bit in range(width.bit_length()):
        if width >> bit & 1:
            start = end - (HASH_BYTES << bit)
            yield complete_root(tile[start:end])
            end = start
