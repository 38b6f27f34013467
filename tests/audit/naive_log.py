"""A log built the naive way, to test the verifier with: straight from the texts of the standards, sharing no code."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from hmac import digest
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ORIGIN = "broker.example/audit/test/1/p3"


@dataclass(frozen=True, slots=True)
class Signer:
    """An Ed25519 key of signed-note: type 1 is a log's, type 4 a witness's (cosignature/v1)."""

    name: str
    seed: bytes
    kind: int = 1

    @property
    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(sha256(self.seed).digest())

    @property
    def _typed(self) -> bytes:
        return bytes([self.kind]) + self._key.public_key().public_bytes_raw()

    @property
    def _id(self) -> bytes:
        return sha256(self.name.encode() + b"\n" + self._typed).digest()[:4]

    @property
    def vkey(self) -> str:
        """As a verifier is given it."""
        return f"{self.name}+{self._id.hex()}+{b64encode(self._typed).decode()}"

    def line(self, body: str, seconds: int = 1_795_305_600) -> str:
        """The signature line under a text."""
        if self.kind == 1:
            signature = self._key.sign(body.encode())
        else:
            time = seconds.to_bytes(8, "big")
            signature = time + self._key.sign(f"cosignature/v1\ntime {seconds}\n{body}".encode())
        return f"— {self.name} {b64encode(self._id + signature).decode()}\n"


LOG = Signer(ORIGIN, b"golden log key")


def mth(hashes: tuple[bytes, ...]) -> bytes:
    """RFC 6962 section 2.1, as it is written there, over leaf hashes."""
    if len(hashes) < 2:
        return hashes[0] if hashes else sha256(b"").digest()
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return sha256(b"\x01" + mth(hashes[:k]) + mth(hashes[k:])).digest()


def path(index: int, hashes: tuple[bytes, ...]) -> list[bytes]:
    """RFC 6962 section 2.1.1: the audit path, from the leaf's sibling upwards."""
    if len(hashes) == 1:
        return []
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    if index < k:
        return [*path(index, hashes[:k]), mth(hashes[k:])]
    return [*path(index - k, hashes[k:]), mth(hashes[:k])]


def leaf_hashes(entries: Sequence[bytes]) -> tuple[bytes, ...]:
    """RFC 6962: a leaf is hashed with 0x00 before it."""
    return tuple(sha256(b"\x00" + entry).digest() for entry in entries)


def decision(number: int, **other: object) -> bytes:
    """A short leaf of a decision."""
    x = {"decision": "delivered", "event": f"e{number}", "kept": ["groep"], "receiver": "portaal", "sender": "sis-a"}
    leaf = {"ldv": {"end_time": 1_795_305_600_002}, "v": 1, "x": {**x, **other}}
    return json.dumps(leaf, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@lru_cache(maxsize=4)
def decisions(count: int) -> tuple[bytes, ...]:
    """Distinct short leaves."""
    return tuple(b'{"ldv":{},"v":1,"x":{"n":%d}}' % n for n in range(count))


def checkpoint(entries: Sequence[bytes], *signers: Signer, origin: str = ORIGIN) -> str:
    """tlog-checkpoint: origin, size, root, a blank line, signatures."""
    return note(len(entries), mth(leaf_hashes(entries)), *signers, origin=origin)


def note(size: int, root: bytes, *signers: Signer, origin: str = ORIGIN) -> str:
    """A checkpoint of any root."""
    body = f"{origin}\n{size}\n{b64encode(root).decode()}\n"
    return body + "\n" + "".join(signer.line(body) for signer in signers or (LOG,))


def write(folder: Path, entries: Sequence[bytes], *signers: Signer, origin: str = ORIGIN) -> Path:
    """A whole log as files: tlog-tiles, with the partial tiles of this size only."""
    bundle = [len(entry).to_bytes(2, "big") + entry for entry in entries]
    _row(folder / "tile" / "entries", bundle)
    hashes, level = leaf_hashes(entries), 0
    while hashes:
        _row(folder / "tile" / str(level), hashes)
        hashes = tuple(mth(hashes[at : at + 256]) for at in range(0, len(hashes) - 255, 256))
        level += 1
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "checkpoint").write_text(checkpoint(entries, *signers, origin=origin), "utf-8")
    return folder


def _row(folder: Path, items: Sequence[bytes]) -> None:
    for at in range(0, len(items), 256):
        part, number = items[at : at + 256], at // 256
        name = f"{number:03}" if number < 1000 else f"x{number // 1000:03}/{number % 1000:03}"
        file = folder / (name if len(part) == 256 else f"{name}.p/{len(part)}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"".join(part))


SALT = sha256(b"a salt").digest()


def commitment(value: bytes, salt: bytes = SALT) -> str:
    """b64url(HMAC-SHA256(salt, len4 ‖ "audit/value/v1" ‖ len4 ‖ value))."""
    label = b"audit/value/v1"
    text = len(label).to_bytes(4, "big") + label + len(value).to_bytes(4, "big") + value
    return urlsafe_b64encode(digest(salt, text, "sha256")).rstrip(b"=").decode()


def carried(entry: bytes, salt: bytes | None = SALT) -> bytes:
    """What a receipt carries beside the proof; of an erasure no salt."""
    salted = {} if salt is None else {"salt": urlsafe_b64encode(salt).rstrip(b"=").decode()}
    content = {"entry": entry.decode(), **salted, "v": 1}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def receipt(entries: Sequence[bytes], index: int, *signers: Signer, said: bytes | None = None) -> str:
    """tlog-proof of one entry; `said` stands in for its extra data."""
    content = b64encode(carried(entries[index]) if said is None else said).decode()
    lines = ["c2sp.org/tlog-proof@v1", f"extra {content}", f"index {index}"]
    lines += [b64encode(step).decode() for step in path(index, leaf_hashes(entries))]
    return "\n".join(lines) + "\n\n" + checkpoint(entries, *signers)
