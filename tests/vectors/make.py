"""Makes the test vectors of the wire format, with fixed inputs and by low-level primitives only.

    python tests/vectors/make.py          writes the files beside this one
    python tests/vectors/make.py --check  ends with 1 if a file differs from what it would write

It shares no code with `broker/`: what both sides compute alike is what the documentation says. Never make real records
like this: nonces, content key and ephemeral key are fixed here, and must be random.
"""

from __future__ import annotations

import hmac
import io
import json
import sys
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import fastavro
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

HERE = Path(__file__).parent
SCHEMAS = HERE.parent.parent / "schemas" / "avro"
KID = "broker-20260901t000000-0001"


def b64(data: bytes) -> str:
    """Base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def seed(text: str) -> bytes:
    """A fixed 32-byte value: SHA-256 of a text."""
    return sha256(text.encode()).digest()


def crc64(data: bytes) -> bytes:
    """CRC-64-AVRO, little endian, as the specification's pseudo code has it."""
    empty = 0xC15D213AA4D7A795
    table = []
    for i in range(256):
        value = i
        for _ in range(8):
            value = (value >> 1) ^ (empty & -(value & 1))
        table.append(value)
    found = empty
    for byte in data:
        found = (found >> 8) ^ table[(found ^ byte) & 0xFF]
    return found.to_bytes(8, "little")


def schema(name: str) -> Any:
    """A schema file."""
    return json.loads((SCHEMAS / f"{name}.avsc").read_text("utf-8"))


def canonical(document: Any) -> str:
    """Avro's parsing canonical form."""
    return str(fastavro.schema.to_parsing_canonical_form(document))


def avro(name: str, datum: Any) -> bytes:
    """A datum's bytes. Logical types are left out: the vectors hold plain values."""
    document = json.loads(canonical(schema(name)))
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(document), datum)
    return out.getvalue()


def zigzag(size: int) -> bytes:
    """Avro's long."""
    value, out = size << 1, bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def mac(key: bytes, *parts: bytes) -> bytes:
    """HMAC-SHA256 over parts, each after its length in four bytes, big endian."""
    return hmac.digest(key, b"".join(len(p).to_bytes(4, "big") + p for p in parts), "sha256")


def framing() -> Any:
    """Fingerprints, and one framed record."""
    status = {
        "event_id": "5b0d7bd5-5f4c-4b39-9c0a-3c3b3c3a0001", "topic": "in.delta", "partition": 2, "offset": 41,
        "decided": 1788343200000,
        "results": [{"outcome": "DELIVERED", "receiver": "portaal", "code": "ok", "field": None, "rule": None,
                     "sentence": "Delivered."}],
    }  # fmt: skip
    body = avro("status.v1", status)
    fingerprint = crc64(canonical(schema("status.v1")).encode())
    known = {"null": '"null"', "int": '"int"', "string": '"string"'}
    return {
        "description": "Avro single-object encoding: c301, CRC-64-AVRO of the parsing canonical form, the record.",
        "fingerprints": [{"canonical": c, "hex": crc64(c.encode()).hex()} for c in known.values()],
        "record": {
            "schema": "status.v1",
            "canonical": canonical(schema("status.v1")),
            "fingerprint": fingerprint.hex(),
            "datum": status,
            "avro": body.hex(),
            "value": (b"\xc3\x01" + fingerprint + body).hex(),
        },
    }


def keyed_hash() -> Any:
    """Keyed hashes, two of which differ only in where a part ends."""
    key = seed("vector keyed hash")
    cases = (["a", "bc"], ["ab", "c"], ["abc"], [], [""], ["99ZZ00", "LAS_KEY=L0001"], ["é", "☂"])
    return {
        "description": "HMAC-SHA256(key, len4(p1) p1 len4(p2) p2 ...): parts in UTF-8, lengths big endian.",
        "key": key.hex(),
        "cases": [{"parts": c, "hash": mac(key, *(p.encode() for p in c)).hex()} for c in cases],
    }


def partition() -> Any:
    """Partitions of record keys."""
    keys = [seed(f"vector key {n}") for n in range(4)] + [bytes(32), b"\xff" * 32]
    return {
        "description": "The first four bytes of the key, big endian, modulo the number of partitions.",
        "cases": [
            {"key": k.hex(), "partitions": n, "partition": int.from_bytes(k[:4], "big") % n}
            for k in keys for n in (1, 3, 12)
        ],
    }  # fmt: skip


def leaf() -> Any:
    """Token, salt, commitment and lookup tag of the audit leaf."""
    key = seed("golden subject key")
    trace, span = bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736"), bytes.fromhex("53995c3f42cd8ad8")
    salt, text = mac(key, b"audit/salt/v1", b"out", trace, span), "filtered avro output"
    return {
        "description": "Commitments of one person in one event, from the person's subject key.",
        "subject_key": key.hex(),
        "trace_id": trace.hex(),
        "span_id": span.hex(),
        "token": b64(mac(key, b"audit/sid/v1", trace, span)[:16]),
        "salt_out": salt.hex(),
        "value": {"text": text, "commitment": b64(mac(salt, b"audit/value/v1", text.encode()))},
        "lookup_tag": b64(mac(key, b"audit/lookup/v1")[:16]),
    }  # fmt: skip


def part_key(secret: bytes, part: str) -> bytes:
    """The key of one part (RFC 5869; no salt is 32 zero bytes)."""
    return HKDF(SHA256(), 32, salt=bytes(32), info=f"eck-broker/v1/{part}".encode()).derive(secret)


def jwk_of(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    """A private JWK."""
    numbers = key.private_numbers()
    point = numbers.public_numbers
    members = {"x": point.x, "y": point.y, "d": numbers.private_value}
    return {"kty": "EC", "crv": "P-256", **{n: b64(v.to_bytes(32, "big")) for n, v in members.items()}}


def jwe(secret: bytes, recipient: ec.EllipticCurvePrivateKey, ephemeral: ec.EllipticCurvePrivateKey) -> str:
    """A compact JWE, ECDH-ES+A256KW and A256GCM (RFC 7516 section 7.1, RFC 7518 sections 4.6 and 5.3)."""
    public = {name: value for name, value in jwk_of(ephemeral).items() if name != "d"}
    header = b64(
        json.dumps(
            {"alg": "ECDH-ES+A256KW", "enc": "A256GCM", "kid": KID, "epk": public}, separators=(",", ":")
        ).encode()
    )
    alg = b"ECDH-ES+A256KW"
    other = len(alg).to_bytes(4, "big") + alg + bytes(8) + (256).to_bytes(4, "big")  # no apu, no apv, key length
    agreed = ConcatKDFHash(SHA256(), 32, other).derive(ephemeral.exchange(ec.ECDH(), recipient.public_key()))
    content_key, nonce = seed("vector content key"), seed("vector jwe nonce")[:12]
    sealed = AESGCM(content_key).encrypt(nonce, secret, header.encode())
    parts = (aes_key_wrap(agreed, content_key), nonce, sealed[:-16], sealed[-16:])
    return ".".join([header, *(b64(p) for p in parts)])


def private(text: str) -> ec.EllipticCurvePrivateKey:
    """A fixed P-256 key."""
    return ec.derive_private_key(int.from_bytes(seed(text), "big") >> 1, ec.SECP256R1())


def sealing() -> Any:
    """One whole event, with everything between its data and its bytes."""
    secret = seed("vector data secret")
    recipient, ephemeral = private("vector recipient"), private("vector ephemeral")
    body_schema = crc64(canonical(schema("usage.v1")).encode())
    envelope = {
        "event_id": "5b0d7bd5-5f4c-4b39-9c0a-3c3b3c3a0001", "family": "usage", "kind": "ACTIVATION",
        "body_schema": body_schema, "school": "99ZZ00", "sector": "PO", "school_year": "2026-2027", "sender": "delta",
        "receiver": None, "created": 1788343200000, "correlation": None, "agreement": None,
    }  # fmt: skip
    subject = {
        "kind": "PUPIL",
        "eck_id": None,
        "user_ids": [{"type": "LAS_KEY", "value": "L0001"}],
        "previous_user_ids": [],
    }
    body = {
        **{f["name"]: None for f in schema("usage.v1")["fields"]},
        "usage_id": "0c6f7c61-58a5-4c5f-8d0e-1b0d2e3f0001", "revision": 1,
        "entitlement_id": "0c6f7c61-58a5-4c5f-8d0e-1b0d2e3f0002", "product_id": "9789012345678",
        "usage_type": "INITIAL_ACTIVATION", "usage_date": 20698,
    }  # fmt: skip
    plain = {"subject": avro("subject.v1", subject), "body": avro("usage.v1", body)}
    clear = avro("envelope.v1", {**envelope, "subject": b"", "body": b""})[:-2]
    associated = b"\xc3\x01" + crc64(canonical(schema("envelope.v1")).encode()) + clear
    value, parts = associated, {}
    for name, data in plain.items():
        key, nonce = part_key(secret, name), seed(f"vector nonce {name}")[:12]
        sealed = nonce + AESGCM(key).encrypt(nonce, data, associated + name.encode())
        value += zigzag(len(sealed)) + sealed
        parts[name] = {
            "datum": subject if name == "subject" else body, "avro": data.hex(), "key": key.hex(),
            "nonce": nonce.hex(), "associated": (associated + name.encode()).hex(), "sealed": sealed.hex(),
        }  # fmt: skip
    return {
        "description": "One event as a sender makes it. Dates are days, times are milliseconds, since 1970.",
        "schemas": {"envelope": "envelope.v1", "subject": "subject.v1", "body": "usage.v1"},
        "data_secret": secret.hex(),
        "recipient": {"kid": KID, "jwk": jwk_of(recipient)},
        "data_key_header": jwe(secret, recipient, ephemeral),
        "envelope": {**envelope, "body_schema": body_schema.hex()},
        "associated": associated.hex(),
        "subject": parts["subject"],
        "body": parts["body"],
        "value": value.hex(),
    }


FILES = {
    "framing.json": framing, "keyed-hash.json": keyed_hash, "sealing.json": sealing, "leaf.json": leaf,
    "partition.json": partition,
}  # fmt: skip


def text_of(name: str) -> str:
    """What a file must hold."""
    return json.dumps(FILES[name](), indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Write the files, or compare them."""
    stale = [n for n in FILES if not (HERE / n).exists() or (HERE / n).read_text("utf-8") != text_of(n)]
    if "--check" in sys.argv:
        return bool(stale)
    for name in stale:
        (HERE / name).write_text(text_of(name), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
