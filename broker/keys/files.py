"""Keys as files in one folder, in clear or wrapped."""

from __future__ import annotations

import json
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from broker.durable import sync_folder
from broker.errors import ConfigError
from broker.keys.provider import (
    KID,
    SECRET_BYTES,
    RecipientKey,
    checked_name,
    generate,
    missing,
    public_half,
    was_destroyed,
)
from broker.keys.wrapping import PLAIN, Wrapping

SUFFIXES: Final = (".jwk", ".secret")
KEPT: Final = ".plain"
NEW: Final = ".new-"


class FileKeys:
    """Keys as files in one folder: `<kid>.jwk` (0600) and `<name>.secret` (0600), in a folder of 0700.

    A file that others may read is refused, not repaired: it may have been read already.

    Args:
        wrapping: how the bytes of each file lie on the disk. With another one than `PLAIN` every method may raise
            what it raises.
    """

    def __init__(self, folder: Path | str, wrapping: Wrapping = PLAIN) -> None:
        self.folder, self.wrapping = Path(folder), wrapping

    def open_all(self) -> None:
        """Unwrap all that is wrapped, and keep it in memory. See Wrapping.

        Raises:
            ConfigError: also `keys.permissions`, when all others are open.
        """
        refused: list[ConfigError] = []
        self.wrapping.open_all(self._wrapped_files(refused))
        if refused:
            raise refused[0]

    def _wrapped_files(self, refused: list[ConfigError]) -> Iterator[tuple[str, bytes]]:
        for path in key_files(self.folder):
            try:
                yield path.name, read_private(path)
            except FileNotFoundError:
                continue  # destroyed at this moment
            except ConfigError as error:
                refused.append(error)

    def create(self, owner: str) -> RecipientKey:
        """Make a new recipient key; it becomes the owner's newest. The older ones stay until destroyed."""
        public, private = generate(checked_name(owner), self.recipient_keys(owner))
        document = {"kid": public.kid, "owner": owner, "created": public.created, "jwk": private}
        self._write(f"{public.kid}.jwk", json.dumps(document, indent=1).encode())
        return public

    def add_public(self, owner: str, key: RecipientKey) -> None:
        """Keep somebody else's public key, to seal for him; his private half is in his own folder.

        Raises:
            ConfigError: `keys.name`, if the key's id is not one of this owner; `keys.exists`, if a key of that id is
                here already with its private half, or is another's. Nothing is overwritten then.
        """
        if not KID.fullmatch(key.kid) or not key.kid.startswith(f"{checked_name(owner)}-"):
            raise ConfigError(f"the key's id is not one of {owner}; nothing was changed", code="keys.name")
        path = self.folder / f"{key.kid}.jwk"
        if path.exists() and ((known := self._read_key(path))["owner"] != owner or "d" in known["jwk"]):
            raise ConfigError(
                f"{key.kid} is in {self.folder} already, with its private half; nothing was changed", code="keys.exists"
            )
        document = {"kid": key.kid, "owner": checked_name(owner), "created": key.created, "jwk": dict(key.jwk)}
        self._write(f"{key.kid}.jwk", json.dumps(document, indent=1).encode())

    def create_secret(self, name: str) -> bool:
        """Make a named secret unless there is one; tells whether it was made.

        Raises:
            ConfigError: `keys.destroyed`: there was one of that name.
        """
        if self._is_destroyed(name):
            raise was_destroyed(name)
        if (self.folder / f"{checked_name(name)}.secret").exists():
            return False
        self._write(f"{name}.secret", secrets.token_bytes(SECRET_BYTES).hex().encode() + b"\n")
        return True

    def destroy_secret(self, name: str) -> bool:
        """Delete a named secret, for good: none of that name is made again. Killed in the middle, it counts as gone.

        Returns:
            Whether there was one.
        """
        path = self.folder / f"{checked_name(name)}.secret"
        if not self._is_destroyed(name):
            self._write(f"{name}.destroyed", b"")
        there = path.exists()
        self._remove(path)
        return there

    def _is_destroyed(self, name: str) -> bool:
        return (self.folder / f"{checked_name(name)}.destroyed").exists()

    def destroy(self, kid: str) -> None:
        """Delete a private key: what is sealed for it can not be opened any more."""
        path = self.folder / f"{kid}.jwk"
        if not KID.fullmatch(kid) or not path.exists():
            raise missing(kid if KID.fullmatch(kid) else "of that name", str(self.folder))
        self._remove(path)

    def _remove(self, path: Path) -> None:
        """A key's file, and the original that a wrapping which was killed left beside it."""
        for one in (plain_of(path), path):
            if one.exists():
                overwrite_and_unlink(one)
        sync_folder(self.folder)

    def owners(self) -> tuple[str, ...]:
        """Whose recipient keys are here."""
        return tuple(sorted({self._read_key(p)["owner"] for p in self.folder.glob("*.jwk")}))

    def secret_names(self) -> tuple[str, ...]:
        """Which named secrets are here."""
        there = sorted(path.stem for path in self.folder.glob("*.secret"))
        return tuple(name for name in there if not self._is_destroyed(name))

    def recipient_keys(self, owner: str) -> tuple[RecipientKey, ...]:
        """See KeyProvider."""
        found = [self._read_key(p) for p in self.folder.glob(f"{checked_name(owner)}-*.jwk")]
        keys = [RecipientKey(d["kid"], public_half(d["jwk"]), d["created"]) for d in found if d["owner"] == owner]
        return tuple(sorted(keys, key=lambda k: (k.created, k.kid), reverse=True))

    def private_key(self, kid: str) -> Mapping[str, str] | None:
        """See KeyProvider. A kid comes from outside: what is no kid is not looked up."""
        if not KID.fullmatch(kid) or not (path := self.folder / f"{kid}.jwk").exists():
            return None
        jwk: Mapping[str, str] = self._read_key(path)["jwk"]
        return jwk if "d" in jwk else None

    def secret(self, name: str) -> bytes:
        """See KeyProvider."""
        path = self.folder / f"{checked_name(name)}.secret"
        if not path.exists() or self._is_destroyed(name):
            raise missing(name, str(self.folder))
        data = self._read(path)
        try:
            value = bytes.fromhex(data.decode())
        except ValueError:
            value = b""
        if len(value) != SECRET_BYTES:
            raise ConfigError(f"secret {name} in {self.folder} is damaged; restore it from backup", code="keys.damaged")
        return value

    def _read_key(self, path: Path) -> dict[str, Any]:
        # The error is made after the handler: a JSONDecodeError holds the text of the file, that is: the key.
        document: Any = None
        data = self._read(path)
        with suppress(ValueError):
            document = json.loads(data)
        if not _is_key_document(document):
            raise ConfigError(f"key file {path} is damaged; restore it from backup", code="keys.damaged")
        found: dict[str, Any] = document
        return found

    def _read(self, path: Path) -> bytes:
        return self.wrapping.unwrap(path.name, read_private(path))

    def _write(self, name: str, data: bytes) -> None:
        # The mark of what was destroyed says all by its name.
        write_private(self.folder, name, self.wrapping.wrap(name, data) if data else data)


def key_files(folder: Path) -> list[Path]:
    """The files of a folder that hold keys, by name; marks and what a killed process left are none."""
    there = sorted(path for suffix in SUFFIXES for path in folder.glob(f"*{suffix}") if not path.name.startswith("."))
    return [path for path in there if not path.with_suffix(".destroyed").exists()]


def plain_of(path: Path) -> Path:
    """Where the original of a key file lies as long as its folder is being wrapped."""
    return path.with_name(f".{path.name}{KEPT}")


def write_private(folder: Path, name: str, data: bytes) -> None:
    """Have a file in the folder, whole or not at all, and never readable by others, not even for a moment."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=NEW)  # mkstemp creates 0600
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        Path(temporary).rename(folder / name)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(folder)  # else the name may be gone after a power cut, with all that was sealed for it


def _is_key_document(document: Any) -> bool:
    if not isinstance(document, dict) or not isinstance(jwk := document.get("jwk"), dict):
        return False
    # Without "d" it is a public key only, such as the operator's where the workers run.
    texts = (document.get("kid"), document.get("owner"), *(jwk.get(name) for name in ("kty", "crv", "x", "y")))
    return isinstance(document.get("created"), int) and all(
        isinstance(text, str) for text in (*texts, jwk.get("d", ""))
    )


def overwrite_and_unlink(path: Path) -> None:
    """Remove a file that holds a key.

    Its bytes are overwritten where they lie, and that is on the disk before the name goes: a file that is cut off first
    gets its new bytes elsewhere, if at all. For media that overwrite in place; no promise.
    """
    with path.open("r+b", buffering=0) as there:
        there.write(os.urandom(os.fstat(there.fileno()).st_size))
        os.fsync(there.fileno())
    path.unlink()


def read_private(path: Path) -> bytes:
    """The bytes of a file that only its owner may read.

    Raises:
        ConfigError: `keys.permissions`: others may.
    """
    with path.open("rb") as there:
        mode = stat.S_IMODE(os.fstat(there.fileno()).st_mode)
        if mode & 0o077:
            raise ConfigError(
                f"{path} may be read by others (mode {mode:04o}); replace the key and run: chmod 600 {path}",
                code="keys.permissions",
            )
        return there.read()
