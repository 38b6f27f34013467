"""A whole folder of keys: from files in clear to wrapped ones, and from one version of the transit key to the next."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from broker.durable import sync_folder
from broker.errors import ConfigError
from broker.keys.files import key_files, overwrite_and_unlink, read_private, write_private
from broker.keys.transit import TransitWrapping
from broker.keys.wrapping import version_of

KEPT: Final = ".plain"


class Moved(NamedTuple):
    """How many files were changed, and how many were so already."""

    changed: int
    already: int


def wrap_folder(folder: Path, wrapping: TransitWrapping) -> Moved:
    """Wrap all keys of a folder. What was in clear is overwritten and removed at the end, once all are wrapped.

    Each is read back through the server before it takes the place of its original. Killed in the middle, it goes on
    where it was when it is run again; until the end the originals lie beside, as `.<name>.plain`.

    Raises:
        ConfigError, TransientError: of the server, or `keys.permissions`; no original is gone then.
    """
    moved = Moved(0, 0)
    for path in key_files(folder):
        data = read_private(path)
        if version_of(data) is not None:
            moved = moved._replace(already=moved.already + 1)
            continue
        wrapped = wrapping.wrap(path.name, data)
        if wrapping.transit.decrypt(path.name, wrapped.strip()) != data:
            raise ConfigError(
                f"The transit server opens {path.name} to something else than it was given; nothing was removed.",
                code="transit.answer",
            )
        kept = folder / f".{path.name}{KEPT}"
        kept.unlink(missing_ok=True)  # a second name of this file, of a run that was killed
        os.link(path, kept)
        write_private(folder, path.name, wrapped)
        moved = moved._replace(changed=moved.changed + 1)
    for kept in folder.glob(f".*{KEPT}"):
        overwrite_and_unlink(kept)
    if folder.exists():
        sync_folder(folder)
    return moved


def rewrap_folder(folder: Path, wrapping: TransitWrapping) -> Moved:
    """Wrap all keys of a folder under the newest version of the transit key; they do not come to us in clear.

    Killed in the middle, it goes on where it was when it is run again.

    Raises:
        ConfigError: `keys.plain`: a file is not wrapped. As the server's errors: what was done stays done.
    """
    newest, moved = wrapping.transit.newest(), Moved(0, 0)
    for path in key_files(folder):
        data = read_private(path).strip()
        version = version_of(data)
        if version is None:
            raise ConfigError(f"{path} is not wrapped; run `broker keys wrap` first", code="keys.plain")
        if version >= newest:
            moved = moved._replace(already=moved.already + 1)
            continue
        write_private(folder, path.name, wrapping.transit.rewrap(path.name, data) + b"\n")
        moved = moved._replace(changed=moved.changed + 1)
    return moved


def versions_in(folder: Path) -> dict[str, int | None]:
    """Under which version each key file of a folder is wrapped, by the name without suffix; None: it lies in clear."""
    return {path.stem: version_of(read_private(path)) for path in key_files(folder)}
