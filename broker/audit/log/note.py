"""Signed notes (c2sp.org/signed-note) with Ed25519, and cosignatures with a time (c2sp.org/tlog-cosignature).

A note is text, an empty line, and one line for each signature: `— <name> base64(key id ‖ signature)`. Signatures of
keys that the reader does not know are ignored, as the format demands: so a reader must name the keys it counts on.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from broker.errors import ContractError

ED25519: Final = 0x01
COSIGNATURE: Final = 0x04
MAX_NOTE_BYTES: Final = 1 << 20
MAX_SIGNATURES: Final = 100  # a reader must take 16 at least; Go's reader takes 100
MAX_TIME_S: Final = (1 << 63) - 1

_VKEY: Final = re.compile(r"([^+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+=*)")
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")


class NoteError(ContractError):
    """A note, a signature or a key that is not as the format has it, or does not verify."""

    default_code = "log.note"


def decode_base64(text: str, what: str) -> bytes:
    """Base64 of RFC 4648 section 4, in its one canonical spelling.

    Raises:
        NoteError: if it is spelled in any other way.
    """
    try:
        data = b64decode(text, validate=True)
    except (Base64Error, ValueError):
        data = None
    if data is None or b64encode(data).decode() != text:
        raise NoteError(f"{what} is not canonical base64")
    return data


def check_name(name: str) -> str:
    """A key name: not empty, no white space of Unicode, no plus, no control character.

    Raises:
        NoteError: for any other.
    """
    if not name or "+" in name or any(c.isspace() or c < " " for c in name) or not _is_unicode(name):
        raise NoteError("a key name is empty, or has white space, a plus or a control character in it")
    return name


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in text)


def check_text(text: str) -> str:
    """The text of a note: ends in a newline, valid Unicode, newline its only control character.

    Raises:
        NoteError: for any other.
    """
    if not text.endswith("\n"):
        raise NoteError("the text of a note must end in a newline")
    if _CONTROL.search(text) or not _is_unicode(text):
        raise NoteError("the text of a note has a control character, or is not Unicode")
    return text


@dataclass(frozen=True, slots=True)
class SignatureLine:
    """One line below a note.

    Args:
        name: of the key.
        key_id: 4 bytes.
        signature: as its type has it: 64 bytes, or 8 bytes of time and 64.
    """

    name: str
    key_id: bytes
    signature: bytes

    def __str__(self) -> str:
        return f"— {self.name} {b64encode(self.key_id + self.signature).decode()}"

    @classmethod
    def parse(cls, line: str) -> SignatureLine:
        """Read a line, without its newline.

        Raises:
            NoteError: if it has another form.
        """
        parts = line.split(" ")
        if len(parts) != 3 or parts[0] != "—":
            raise NoteError("a signature line is not `— <name> <base64>`")
        data = decode_base64(parts[2], "a signature")
        if len(data) < 5:
            raise NoteError("a signature is too short to hold a key id and a signature")
        return cls(check_name(parts[1]), data[:4], data[4:])


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key with its name.

    Args:
        name: of the key.
        kind: `ED25519` or `COSIGNATURE`.
        public: 32 bytes.
    """

    name: str
    kind: int
    public: bytes
    key_id: bytes = field(init=False, compare=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.kind not in (ED25519, COSIGNATURE) or len(self.public) != 32:
            raise NoteError("a key is neither Ed25519 (type 1) nor a cosigner's Ed25519 (type 4), of 32 bytes")
        object.__setattr__(self, "key_id", _key_id(self.name, self.kind, self.public))

    @classmethod
    def parse(cls, vkey: str) -> Verifier:
        """Read `<name>+<key id in hex>+base64(type ‖ public key)` (signed-note, verifier keys).

        Raises:
            NoteError: for any other form, another type, or a key id that is not the key's.
        """
        found = _VKEY.fullmatch(vkey)
        if found is None:
            raise NoteError("a verifier key is not `<name>+<key id>+<base64>`")
        key = decode_base64(found[3], "a verifier key")
        verifier = cls(found[1], key[0], key[1:])
        if verifier.key_id.hex() != found[2]:
            raise NoteError("the key id of a verifier key does not belong to its name and key; copy it again, whole")
        return verifier

    @property
    def vkey(self) -> str:
        """The key as text, for configuration."""
        return f"{self.name}+{self.key_id.hex()}+{b64encode(bytes([self.kind]) + self.public).decode()}"

    def verify(self, text: str, signature: bytes) -> int | None:
        """Check a signature of this key on a text.

        Returns:
            The time of a cosignature, in seconds since 1970; None for a plain signature.

        Raises:
            NoteError: if it is not this key's signature on this text.
        """
        time_s = None
        message = text.encode()
        if self.kind == COSIGNATURE:
            time_s, signature = int.from_bytes(signature[:8], "big"), signature[8:]
            if time_s > MAX_TIME_S:
                raise NoteError(f"the cosignature of {self.name} has a time beyond 2^63 - 1")
            message = _cosigned(text, time_s)
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except InvalidSignature:
            raise NoteError(f"the signature of {self.name} does not verify: text or signature was changed") from None
        return time_s


class _Key:
    """A private key with its name."""

    __slots__ = ("_private", "verifier")
    kind: int

    def __init__(self, name: str, private_key: Ed25519PrivateKey) -> None:
        self._private = private_key
        self.verifier = Verifier(name, self.kind, private_key.public_key().public_bytes_raw())

    @property
    def name(self) -> str:
        """Of the key."""
        return self.verifier.name

    @property
    def key_id(self) -> bytes:
        """4 bytes."""
        return self.verifier.key_id

    @property
    def vkey(self) -> str:
        """The public key as text: what others configure."""
        return self.verifier.vkey


class Signer(_Key):
    """Signs notes with Ed25519 (type 0x01): a log, or a party that counts."""

    __slots__ = ()
    kind = ED25519

    def sign(self, text: str) -> SignatureLine:
        """Sign the text of a note, that ends in a newline."""
        return SignatureLine(self.name, self.key_id, self._private.sign(check_text(text).encode()))


class Cosigner(_Key):
    """Cosigns checkpoints with Ed25519 and a time (type 0x04, `cosignature/v1`): a witness."""

    __slots__ = ()
    kind = COSIGNATURE

    def sign(self, text: str, time_s: int) -> SignatureLine:
        """Cosign the text of a checkpoint; `time_s` in seconds since 1970."""
        if not 0 <= time_s <= MAX_TIME_S:
            raise NoteError("the time of a cosignature must be seconds since 1970, below 2^63")
        signature = self._private.sign(_cosigned(check_text(text), time_s))
        return SignatureLine(self.name, self.key_id, time_s.to_bytes(8, "big") + signature)


def _key_id(name: str, kind: int, public: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]


def _cosigned(text: str, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def render(text: str, signatures: Sequence[SignatureLine]) -> bytes:
    """Write a note.

    Raises:
        NoteError: without signatures, or if the text is not a note's.
    """
    if not signatures:
        raise NoteError("a note needs at least one signature")
    return (check_text(text) + "\n" + "".join(f"{line}\n" for line in signatures)).encode()


def split_note(data: bytes) -> tuple[str, tuple[SignatureLine, ...]]:
    """Read the form of a note and **verify nothing**: to add a signature, or to look at one's own file.

    Raises:
        NoteError: if it is not of the strict form.
    """
    if len(data) > MAX_NOTE_BYTES:
        raise NoteError(f"a note is larger than {MAX_NOTE_BYTES} bytes")
    try:
        whole = data.decode()
    except UnicodeDecodeError:
        raise NoteError("a note is not UTF-8") from None
    # The last empty line divides: the text may have empty lines itself.
    text, gap, lines = whole.rpartition("\n\n")
    if not gap or not lines.endswith("\n") or _CONTROL.search(whole):
        raise NoteError("a note is not text, an empty line and signature lines, all ended by newlines")
    signatures = tuple(SignatureLine.parse(line) for line in lines[:-1].split("\n"))
    if len(signatures) > MAX_SIGNATURES:
        raise NoteError(f"a note has more than {MAX_SIGNATURES} signatures")
    return text + "\n", signatures


@dataclass(frozen=True, slots=True)
class VerifiedSignature:
    """A signature that was checked.

    Args:
        name, key_id: of the key.
        time_s: of a cosignature, seconds since 1970; None for a plain signature.
    """

    name: str
    key_id: bytes
    time_s: int | None


@dataclass(frozen=True, slots=True)
class Note:
    """A text with the signatures on it that were checked: at least one, one for each key, in the order of the note."""

    text: str
    verified: tuple[VerifiedSignature, ...]


def open_note(data: bytes, verifiers: Iterable[Verifier]) -> Note:
    """Read a note and verify every signature of a known key; those of unknown keys are ignored (signed-note).

    Args:
        data: the whole note.
        verifiers: the keys that are known here.

    Raises:
        NoteError: form, a wrong signature of a known key, or none of a known key.
    """
    known: dict[tuple[str, bytes], Verifier] = {}
    for verifier in verifiers:
        other = known.setdefault((verifier.name, verifier.key_id), verifier)
        if other != verifier:
            raise NoteError(f"two known keys share the name {verifier.name} and a key id; give one of them a new name")
    text, signatures = split_note(data)
    verified: dict[tuple[str, bytes], VerifiedSignature] = {}
    for line in signatures:
        key = (line.name, line.key_id)
        if key in known:
            time_s = known[key].verify(text, line.signature)
            verified.setdefault(key, VerifiedSignature(line.name, line.key_id, time_s))
    if not verified:
        raise NoteError("a note has no signature of a key that is known here")
    return Note(text, tuple(verified.values()))
