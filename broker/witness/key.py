"""The key of a witness, in a file: one line `PRIVATE+KEY+<name>+<key id in hex>+base64(0x04 ‖ seed)`.

The form is that of Go's `golang.org/x/mod/sumdb/note`, with the type of a cosigner (c2sp.org/tlog-cosignature).
"""

from __future__ import annotations

import os
import re
import stat
from base64 import b64encode
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.log.note import COSIGNATURE, Cosigner, NoteError, Verifier, check_name, decode_base64
from broker.errors import ConfigError

MAX_BYTES: Final = 4096
_LINE: Final = re.compile(r"PRIVATE\+KEY\+([^+\n]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+=*)\n?")


def create(path: Path, name: str) -> Cosigner:
    """Make a key and its file, that only its owner may read.

    Args:
        name: of the witness, such as `witness.school.example`; it stands in each cosignature.

    Raises:
        ConfigError: `witness.key`: the file is there already, or can not be written.
        NoteError: the name is none of a key.
    """
    check_name(name)
    private = Ed25519PrivateKey.generate()
    cosigner = Cosigner(name, private)
    data = b64encode(bytes([COSIGNATURE]) + private.private_bytes_raw()).decode()
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(f"PRIVATE+KEY+{name}+{cosigner.key_id.hex()}+{data}\n".encode())
            file.flush()
            os.fsync(handle)
    except FileExistsError:
        raise ConfigError(
            f"{path} is there already; a witness keeps its key. Take another file for another witness.",
            code="witness.key",
        ) from None
    except OSError as error:
        raise ConfigError(f"The key can not be written to {path}: {error.strerror}.", code="witness.key") from error
    return cosigner


def load(path: Path) -> Cosigner:
    """Read the file that `create` made.

    Raises:
        ConfigError: `witness.key`: it can not be read, others can read it, or it is no key of a witness.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ConfigError(
                    f"{path} holds a private key and others can read it. Run: chmod 600 {path}", code="witness.key"
                )
            data = file.read(MAX_BYTES)
    except OSError as error:
        raise ConfigError(
            f"The key {path} can not be read: {error.strerror}. Make one with: broker witness key", code="witness.key"
        ) from error
    problem = ConfigError(f"{path} holds no key of a witness; make one with: broker witness key", code="witness.key")
    found = _LINE.fullmatch(data.decode(errors="replace"))
    if found is None:
        raise problem
    try:
        key = decode_base64(found[3], "the key")
        cosigner = Cosigner(found[1], Ed25519PrivateKey.from_private_bytes(key[1:]))
    except (NoteError, ValueError):
        raise problem from None
    if key[0] != COSIGNATURE or cosigner.key_id.hex() != found[2]:
        raise problem
    return cosigner


def read_vkeys(paths: list[Path]) -> list[Verifier]:
    """Public keys of logs from files such as `log.vkey`: one a line; empty lines and lines with # are passed over.

    Raises:
        ConfigError: `witness.logs`: a file can not be read or has another line, with its number.
    """
    found = []
    for path in paths:
        try:
            lines = path.read_text("utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"The keys in {path} can not be read ({type(error).__name__}).", code="witness.logs"
            ) from error
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.startswith("#"):
                try:
                    found.append(Verifier.parse(line.strip()))
                except NoteError as error:
                    raise ConfigError(f"{path}, line {number}: {error}", code="witness.logs") from None
    return found
