"""Sealing: data keys, parts, and keyed hashes. Byte for byte in `docs/wire-format.md`.

A *data secret* (32 random bytes) stays in its maker's memory. Each part of an event is encrypted with
AES-256-GCM under a key of its own, HKDF-SHA256(data secret, info = part), so that a receiver can hand one
of its modules the key of the body without the key of the identifiers. The secret travels in a header as
a JWE for one recipient (RFC 7516 compact, ECDH-ES+A256KW on P-256, RFC 7518 section 4.6); it is the same
bytes for all records under it, so a reader opens it once.
"""

from __future__ import annotations

import hmac
import json
import os
import time
from base64 import urlsafe_b64decode
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from struct import Struct
from typing import Any, Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwe
from joserfc.jwk import ECKey

from broker.errors import ConfigError, ContractError

NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
SECRET_BYTES: Final = 32
JWE_ALG: Final = "ECDH-ES+A256KW"
JWE_ENC: Final = "A256GCM"
MAX_JWE_BYTES: Final = 1024  # ours are about 390; anything larger is not one of these
INFO: Final = "eck-broker/v1/"

_length: Final = Struct(">I").pack
_BLOCK_BYTES: Final = 64  # of SHA-256
_INNER_PAD: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD: Final = bytes(byte ^ 0x5C for byte in range(256))

_registry = jwe.JWERegistry(algorithms=[JWE_ALG, JWE_ENC])


def part_key(secret: bytes, part: str) -> AESGCM:
    """The cipher of one part under a data secret.

    Args:
        secret: 32 bytes.
        part: "subject", "body", or another name its format documents.
    """
    return AESGCM(HKDF(SHA256(), 32, salt=None, info=(INFO + part).encode()).derive(secret))


@dataclass(frozen=True, slots=True)
class DataKey:
    """An open data secret: the ciphers of its parts, and the header that carries it.

    `header` is the JWE in bytes; `kid` names the recipient key it was sealed for.
    """

    header: bytes
    kid: str
    subject: AESGCM = field(repr=False)
    body: AESGCM = field(repr=False)

    @classmethod
    def from_secret(cls, secret: bytes, header: bytes, kid: str) -> DataKey:
        """Derive the ciphers once."""
        return cls(header, kid, part_key(secret, "subject"), part_key(secret, "body"))


def seal(cipher: AESGCM, plain: bytes, associated: bytes) -> bytes:
    """Encrypt: 12 bytes of random nonce, ciphertext, 16 bytes of tag."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, plain, associated)


def unseal(cipher: AESGCM, sealed: bytes, associated: bytes, part: str) -> bytes:
    """Decrypt and authenticate.

    Raises:
        ContractError: `seal.broken` if it was changed, moved to another event or sealed otherwise.
    """
    if len(sealed) < NONCE_BYTES + TAG_BYTES:
        raise ContractError(f"the {part} is too short to be sealed", code="seal.broken", field=part)
    try:
        return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated)
    except InvalidTag:
        raise ContractError(f"the {part} does not open", code="seal.broken", field=part) from None


def seal_secret(secret: bytes, recipient: Mapping[str, str], kid: str) -> bytes:
    """Wrap a data secret for a recipient's public JWK (EC, P-256), as compact JWE bytes."""
    public: dict[str, str | list[str]] = {name: recipient[name] for name in ("kty", "crv", "x", "y")}
    key = ECKey.import_key(public)
    header = {"alg": JWE_ALG, "enc": JWE_ENC, "kid": kid}
    return jwe.encrypt_compact(header, secret, key, registry=_registry).encode()


def jwe_kid(token: bytes) -> str:
    """Read which recipient key a JWE was made for, without trusting anything else in it.

    Raises:
        ContractError: `seal.header`.
    """
    problem = ContractError("the data-key header is not one of our JWEs", code="seal.header", field="data-key")
    if len(token) > MAX_JWE_BYTES or token.count(b".") != 4:
        raise problem
    protected = token.split(b".", 1)[0]
    try:
        header = json.loads(urlsafe_b64decode(protected + b"=" * (-len(protected) % 4)))
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or not isinstance(header.get("kid"), str):
        raise problem
    if header.get("alg") != JWE_ALG or header.get("enc") != JWE_ENC or "zip" in header or "crit" in header:
        raise problem
    kid: str = header["kid"]
    return kid


def open_secret(token: bytes, private: ECKey) -> bytes:
    """Unwrap a data secret.

    Raises:
        ContractError: `seal.header`, if it was not sealed for this key or is damaged.
    """
    try:
        secret = jwe.decrypt_compact(token, private, registry=_registry).plaintext
    except Exception:  # noqa: BLE001 - joserfc and cryptography raise many kinds on hostile input
        secret = None
    if secret is None or len(secret) != SECRET_BYTES:
        raise ContractError("the data key does not open", code="seal.header", field="data-key")
    return bytes(secret)


class DataKeyMaker:
    """Makes the sender's data keys for one recipient and replaces them in time.

    NIST SP 800-38D section 8.3 bounds random nonces to 2^32 per key; we stay far below, and the hour
    bounds what one lost secret opens.
    """

    MAX_RECORDS: Final = 1 << 20
    MAX_AGE_SECONDS: Final = 3600.0

    def __init__(self, recipient: Mapping[str, str], kid: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.kid, self._recipient, self._clock = kid, dict(recipient), clock
        self._used, self._made_at = 0, 0.0
        self._key: DataKey | None = None

    def current(self) -> DataKey:
        """The key for the next record."""
        now = self._clock()
        if self._key is None or self._used >= self.MAX_RECORDS or now - self._made_at >= self.MAX_AGE_SECONDS:
            secret = os.urandom(SECRET_BYTES)
            self._key = DataKey.from_secret(secret, seal_secret(secret, self._recipient, self.kid), self.kid)
            self._used, self._made_at = 0, now
        self._used += 1
        return self._key


class DataKeyOpener:
    """Opens data keys by the recipient's private keys and remembers them.

    Args:
        private: gives the private JWK for a key id, or None.
        remembered: how many open keys to keep (each about 1 KiB); least recently used go first.
    """

    def __init__(self, private: Callable[[str], Mapping[str, Any] | None], *, remembered: int = 4096) -> None:
        self._private, self._remembered = private, remembered
        self._open: OrderedDict[bytes, DataKey] = OrderedDict()

    def open(self, token: bytes) -> DataKey:
        """Open a data-key header.

        Raises:
            ContractError: `seal.header`, or `seal.recipient` if it is for a key that is not ours.
        """
        found = self._open.get(token)
        if found is not None:
            self._open.move_to_end(token)
            return found
        kid = jwe_kid(token)
        private = self._private(kid)
        if private is None:
            raise ContractError(
                "the event is sealed for a key that is not ours (any more)", code="seal.recipient", field="data-key"
            )
        key = DataKey.from_secret(open_secret(token, ECKey.import_key(dict(private))), token, kid)
        self._open[token] = key
        if len(self._open) > self._remembered:
            self._open.popitem(last=False)
        return key


def derived_uuid(context: str, *parts: str) -> str:
    """A uuid that the same parts always give (RFC 9562 section 5.8: version 8)."""
    made = bytearray(sha256(length_prefixed(context, *parts)).digest()[:16])
    made[6], made[8] = made[6] & 0x0F | 0x80, made[8] & 0x3F | 0x80
    return str(UUID(bytes=bytes(made)))


def keyed_hash(secret: bytes, *parts: str | bytes) -> bytes:
    """HMAC-SHA256 over length-prefixed parts: `len4(p)‖p` each, big endian; 32 bytes.

    The prefixes keep ("ab", "c") and ("a", "bc") apart.
    """
    return hmac.digest(secret, length_prefixed(*parts), "sha256")


def length_prefixed(*parts: str | bytes) -> bytes:
    """The message of a keyed hash: `len4(p)‖p` for each part."""
    pieces: list[bytes] = []
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        pieces += (_length(len(raw)), raw)
    return b"".join(pieces)


class KeyedHash:
    """`keyed_hash` under one secret that is used again: its two blocks are hashed once (RFC 2104, section 4).

    Half the time of `hmac.digest` for our short messages.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, secret: bytes) -> None:
        block = (secret if len(secret) <= _BLOCK_BYTES else sha256(secret).digest()).ljust(_BLOCK_BYTES, b"\0")
        self._inner, self._outer = sha256(block.translate(_INNER_PAD)), sha256(block.translate(_OUTER_PAD))

    def __call__(self, *parts: str | bytes) -> bytes:
        """As `keyed_hash`."""
        return self.digest(length_prefixed(*parts))

    def digest(self, message: bytes) -> bytes:
        """HMAC-SHA256 of a message that is length-prefixed already."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a keyed record: the first four bytes of the (already uniform) key, modulo.

    Raises:
        ConfigError: if a topic has no partitions, that is: does not exist.
    """
    if partitions < 1:
        raise ConfigError("the topic has no partitions; run `broker topics apply`", code="topic.missing")
    return int.from_bytes(key[:4], "big") % partitions
