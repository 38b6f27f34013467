"""Copy logs to another folder so that the copy is a whole log at every moment, whenever the copying ends.

    read the checkpoint, and verify its signature -> work the tree out from the entries, up to the signed root
    -> write tiles, bundles and offsets -> flush -> only then the checkpoint, which readers begin with

Nothing is copied that does not lead to what was signed: a damaged file stays where it is, and a copy that is whole is
never replaced by one that is not. A file that is there is never changed; a checkpoint never gets smaller, and one of
the same tree loses no signature. Anything that the copy has already was worked out from entries before its checkpoint
was shown, so that only what is new is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.directory import KEY, HistoryDiffers, LogDirectory
from broker.audit.log.merkle import HASH_BYTES, Frontier
from broker.audit.log.note import ED25519, Verifier, split_note
from broker.audit.log.tiles import (
    TILE_HEIGHT,
    WIDTH,
    Edge,
    TileBuilder,
    TileError,
    TileReader,
    bundle_path,
    encode_bundle,
    full_path,
    offsets_path,
    tile_path,
)
from broker.audit.signed import SignedLog, folders, keys_in_file, signed_by_log
from broker.errors import BrokerError

STEP: Final = 16 * WIDTH  # entries in memory at a time: whole bundles
OFFSET_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A log that was copied, or was not.

    Args:
        folder: its name. before, after: leaves of the copy. error: why it stays as it was.
    """

    folder: str
    before: int = 0
    after: int = 0
    error: str | None = None


def mirror(source: Path, target: Path, verifiers: Sequence[Verifier] | None = None) -> Iterator[Mirrored]:
    """Copy all logs of a folder, one after another; one that can not be copied does not keep back the others.

    Args:
        source, target: folders of all logs. verifiers: keys of the logs; None: those beside the logs count.

    Raises:
        ConfigError: there is no log in the source.
    """
    for folder in folders(source):
        try:
            keys = verifiers if verifiers is not None else keys_in_file(folder / KEY)
            yield mirror_log(LogDirectory(folder), LogDirectory(target / folder.name), keys)
        except (BrokerError, OSError) as error:
            text = str(error) if isinstance(error, BrokerError) else f"{type(error).__name__}: {error.strerror}"
            yield Mirrored(folder.name, error=text)


def mirror_log(source: LogDirectory, target: LogDirectory, verifiers: Sequence[Verifier]) -> Mirrored:
    """Copy one log.

    Raises:
        HistoryDiffers: the copy has another history, or a longer one.
        TileError: a file of the source is missing, or does not lead to the root that was signed.
        NoteError: a checkpoint of the source is not signed by its log with a known key.
    """
    cosigned = source.cosigned()  # before the checkpoint, which is then no smaller
    signed = SignedLog.open(source, verifiers)
    if signed is None:
        raise TileError(f"{source.path.name} has no checkpoint any more; try again")
    now, shown, name = signed.checkpoint, target.checkpoint(), source.path.name
    before = 0 if shown is None else _begins_with(Checkpoint.parse(split_note(shown)[0]), signed, name)
    witnessed = {} if cosigned is None else partial_files(_cosigned_edge(cosigned, signed, name))
    # Not the file beside the source, which anybody may have added a line to who could not sign.
    keys = [key.vkey for key in verifiers if key.name == now.origin and key.kind == ED25519]
    _grow(source, target, before, signed)
    target.write_immutable(witnessed)
    target.show_key(*keys)
    if not _says_less(signed.note, shown):
        target.publish(signed.note)
    if cosigned is not None and not _says_less(cosigned, target.cosigned()):
        target.publish_cosigned(cosigned)
    return Mirrored(name, before, now.size)


def _says_less(note: bytes, shown: bytes | None) -> bool:
    """Whether a note is the one that the copy has, but for signatures that somebody took off it."""
    if shown is None:
        return False
    (text, lines), (text_there, lines_there) = split_note(note), split_note(shown)
    return text == text_there and set(lines) < set(lines_there)


def _begins_with(copied: Checkpoint, signed: SignedLog, name: str) -> int:
    """The size of the copy, that must be how the source begins."""
    now = signed.checkpoint
    if copied.origin != now.origin or copied.size > now.size:
        raise HistoryDiffers(
            f"The copy of {name} has {copied.size} leaves of {copied.origin}, the source {now.size} of {now.origin}: "
            f"leaves were taken back, or this is the copy of another log. Nothing was copied; keep both."
        )
    if Frontier.restore(copied.size, signed.reader.hash_at).root() != copied.root:
        raise HistoryDiffers(
            f"The copy of {name} has another tree of {copied.size} leaves than the source: a tile is damaged, or "
            f"history was rewritten. Nothing was copied; keep both."
        )
    return copied.size


def _cosigned_edge(note: bytes, signed: SignedLog, name: str) -> Edge:
    """The right edge of the tree that witnesses signed: its partial files are read by who reads `checkpoint.w`."""
    checkpoint = signed_by_log(note, signed.verifiers)
    if checkpoint.size <= signed.checkpoint.size:
        edge = _edge_at(checkpoint.size, signed.reader)
        if edge.root() == checkpoint.root:
            return edge
    raise HistoryDiffers(f"In {name} witnesses signed another tree than the log. Nothing was copied; keep both.")


def _grow(source: LogDirectory, target: LogDirectory, before: int, signed: SignedLog) -> None:
    """Work all out and write nothing; then again, step by step, each held against the first time before it is written.

    Bytes that are written can not be taken back: a damaged source must not leave a damaged copy.
    """
    now = signed.checkpoint
    edge = target.load_edge(before)
    roots = {size: root for size, root, _ in _steps(edge, signed.reader)}
    if roots.get(now.size, edge.root()) != now.root:
        raise TileError(
            f"The entries of {source.path.name} do not lead to the root that was signed, so nothing of it was copied. "
            f"Restore it from a copy that is whole: this one has {before} leaves."
        )
    at = before
    for size, root, files in _steps(edge, signed.reader):
        if root != roots[size]:
            raise TileError(f"The entries of {source.path.name} changed while they were copied; try again.")
        target.write_immutable({**files, **_offsets(source, at, size, last=size == now.size)})
        at = size


def _steps(edge: Edge, reader: TileReader) -> Iterator[tuple[int, bytes, dict[str, bytes]]]:
    """Size, root and files of each step of a growing tree. Partial files only at its end: that size was signed."""
    builder, at = TileBuilder(edge), edge.size
    while at < reader.size:
        after = min(reader.size, at - at % STEP + STEP)
        grown = builder.append(list(reader.entries(at, after)))
        files = {name: data for name, data in grown.files.items() if full_path(name) is None}
        yield after, grown.root, {**files, **partial_files(builder.edge)} if after == reader.size else files
        at = after


def _edge_at(size: int, reader: TileReader) -> Edge:
    """The right edge of a stored tree as it was at a size, whichever partial files are there."""
    tiles, level, last = list[bytes](), 0, size - size % WIDTH
    while (end := size >> TILE_HEIGHT * level) > 0:
        start = end - end % WIDTH
        tiles.append(b"".join(reader.hash_at(TILE_HEIGHT * level, index) for index in range(start, end)))
        level += 1
    return Edge(size, tuple(tiles), encode_bundle(list(reader.entries(last, size))))


def partial_files(edge: Edge) -> dict[str, bytes]:
    """The partial files of a size."""
    files = {
        tile_path(level, (edge.size >> TILE_HEIGHT * level) // WIDTH, len(tile) // HASH_BYTES): tile
        for level, tile in enumerate(edge.tiles)
        if tile
    }
    if edge.bundle:
        files[bundle_path(edge.size // WIDTH, edge.size % WIDTH)] = edge.bundle
    return files


def _offsets(source: LogDirectory, start: int, end: int, *, last: bool) -> dict[str, bytes]:
    """The files that say where the entries stood in Kafka, as far as the source has them; they are not signed."""
    wanted = dict.fromkeys(range(start // WIDTH, end // WIDTH), WIDTH)
    if last and end % WIDTH:
        wanted[end // WIDTH] = end % WIDTH
    files = {}
    for number, width in wanted.items():
        data = source.read(offsets_path(number, width)) or source.read(offsets_path(number)) or b""
        data = data[: width * OFFSET_BYTES]
        if len(data) == width * OFFSET_BYTES:
            files[offsets_path(number, width)] = data
    return files
