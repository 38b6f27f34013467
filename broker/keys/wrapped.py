"""A whole folder of keys: from files in clear to wrapped ones, and from one version of the transit key to the next."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from broker.durable import sync_folder
from broker.errors import ConfigError
from broker.keys.files import KEPT, NEW, key_files, overwrite_and_unlink, plain_of, read_private, write_private
from broker.keys.transit import TransitWrapping
from broker.keys.wrapping import version_of


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
        ConfigError: `keys.linked`: a file has a second name, which would lose its key, or keep it in clear.
    """
    moved = Moved(0, 0)
    for path in key_files(folder):
        data = read_private(path)
        if version_of(data) is not None:
            moved = moved._replace(already=moved.already + 1)
            continue
        kept = plain_of(path)
        kept.unlink(missing_ok=True)  # a second name of this file, of a run that was killed
        if path.is_symlink() or path.stat().st_nlink > 1:
            raise ConfigError(
                f"{path} is a link, or a file with a second name, so its key lies in clear elsewhere too; put a copy "
                "of its own in its place, and see what the other is for. No original was removed.",
                code="keys.linked",
            )
        wrapped = wrapping.wrap(path.name, data)
        if wrapping.transit.decrypt(path.name, wrapped.strip()) != data:
            raise ConfigError(
                f"The transit server opens {path.name} to something else than it was given; nothing was removed.",
                code="transit.answer",
            )
        os.link(path, kept)
        write_private(folder, path.name, wrapped)
        moved = moved._replace(changed=moved.changed + 1)
    for left in (*folder.glob(f".*{KEPT}"), *folder.glob(f"{NEW}*")):  # the latter: of a command that was killed
        overwrite_and_unlink(left)
    if folder.exists():
        sync_folder(folder)
    return moved


def rewrap_folder(folder: Path, wrapping: TransitWrapping) -> Moved:
    """Wrap all keys of a folder under the newest version of the transit key; they do not come to us in clear.

    Killed in the middle, it goes on where it was when it is run again.

    Raises:
        ConfigError: `keys.plain`: a file is not wrapped. `transit.answer`: the server gave another version than its
            newest. As the server's errors: what was done stays done.
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
        rewrapped = wrapping.transit.rewrap(path.name, data)
        if (version_of(rewrapped) or 0) < newest:  # else the old version would be closed, and this file with it
            raise ConfigError(
                f"The transit server says that version {newest} is its newest, and gave {path.name} back under an "
                "older one; the file was left as it is. Ask its operators, then run this again.",
                code="transit.answer",
            )
        write_private(folder, path.name, rewrapped + b"\n")
        moved = moved._replace(changed=moved.changed + 1)
    return moved


def versions_in(folder: Path) -> dict[str, int | None]:
    """Under which version each key file of a folder is wrapped, by the name without suffix; None: it lies in clear."""
    return {path.stem: version_of(read_private(path)) for path in key_files(folder)}
