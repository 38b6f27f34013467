"""Tests of `broker.wire`: an envelope in clear, two sealed parts, and the test vectors."""

from __future__ import annotations

import io
import json
import re
from base64 import urlsafe_b64decode
from hashlib import sha256
from pathlib import Path
from typing import Any

import fastavro
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap
from hypothesis import given
from hypothesis import strategies as st

import broker.crypto
from broker.audit.leaf import Commitments, Ids, b64url, lookup_tag
from broker.crypto import MAX_JWE_BYTES, DataKey, DataKeyOpener, keyed_hash, part_key, partition_of
from broker.errors import ContractError
from broker.limits import DEFAULT
from broker.schemas import catalogue, frame, unframe
from broker.wire import (
    AUDIT_SALT,
    DATA_KEY,
    FLOW,
    FLOW_SEQ,
    KEY_ID,
    POLICY,
    TRACEPARENT,
    decode_envelope,
    encode_event,
    open_parts,
)
from tests.vectors import make

VECTORS = Path(__file__).parent / "vectors"
SECRET = sha256(b"a data secret").digest()
KEY = DataKey.from_secret(SECRET, b"header", "kid")
ENVELOPE: dict[str, Any] = {
    "event_id": "5b0d7bd5-5f4c-4b39-9c0a-3c3b3c3a0001", "family": "usage", "kind": "ACTIVATION",
    "body_schema": b"12345678", "school": "99ZZ00", "sector": "PO", "school_year": "2026-2027", "sender": "delta",
    "receiver": None, "created": 1788343200000, "correlation": None, "agreement": None,
}  # fmt: skip


def vectors(name: str) -> Any:
    """A file of test vectors."""
    return json.loads((VECTORS / name).read_text("utf-8"))


def opened(value: bytes, key: DataKey = KEY) -> tuple[bytes, bytes]:
    """Decode and open a record value."""
    envelope, associated = decode_envelope(value)
    return open_parts(envelope, associated, key)


def code_of(value: bytes | None, key: DataKey = KEY) -> str:
    """The code with which a record value is refused."""
    with pytest.raises(ContractError) as caught:
        opened(value, key)  # type: ignore[arg-type]
    return caught.value.code


@given(subject=st.binary(max_size=200), body=st.binary(max_size=9000))
def test_an_event_comes_back_as_it_was(subject: bytes, body: bytes) -> None:
    """Parts of any length, also where the length prefix takes one, two or three bytes."""
    envelope, associated = decode_envelope(encode_event(ENVELOPE, subject, body, KEY))
    assert open_parts(envelope, associated, KEY) == (subject, body)
    assert envelope == ENVELOPE


def test_the_associated_data_are_the_bytes_before_the_parts() -> None:
    """A prefix of the record: no language needs to encode anything again to check it."""
    value = encode_event(ENVELOPE, b"s" * 10, b"b" * 100, KEY)
    envelope, associated = decode_envelope(value)
    rest = value[len(associated) :]
    assert value.startswith(associated)
    assert rest == bytes([38 * 2]) + envelope["subject"] + b"\x80\x02" + envelope["body"]


def test_only_the_envelope_is_in_clear() -> None:
    """Promise P6: no byte of subject or body stands in the record."""
    value = encode_event(ENVELOPE, b"Emma-de-Vries", b"geheime-code", KEY)
    assert b"99ZZ00" in value
    assert b"Emma" not in value
    assert b"geheim" not in value


@pytest.mark.parametrize("field", ["school", "sender", "kind", "event_id", "body_schema", "created", "receiver"])
def test_a_changed_envelope_does_not_open(field: str) -> None:
    """Every field of the envelope is authenticated with both parts."""
    value = encode_event(ENVELOPE, b"subject", b"body", KEY)
    envelope, _ = decode_envelope(value)
    other = {"body_schema": b"87654321", "created": 1, "event_id": "x" * 36}.get(field, "other")
    schema = catalogue()["envelope.v1"]
    assert code_of(frame(schema.fingerprint, schema.encode({**envelope, field: other}))) == "seal.broken"


def test_every_changed_byte_of_a_record_is_refused() -> None:
    """Marker, fingerprint, envelope, lengths, nonces, ciphertexts, tags: all of it is framed or authenticated."""
    value = encode_event(ENVELOPE, b"subject", b"body", KEY)
    for at in range(len(value)):
        for bit in (1, 0x80):
            changed = value[:at] + bytes([value[at] ^ bit]) + value[at + 1 :]
            assert code_of(changed).partition(".")[0] in {"frame", "schema", "seal", "field"}, at


def test_every_truncation_of_a_record_is_refused() -> None:
    """Also in the middle of a part."""
    value = encode_event(ENVELOPE, b"subject", b"body", KEY)
    for end in range(len(value)):
        assert code_of(value[:end]).partition(".")[0] in {"frame", "schema", "seal"}, end


def rebuilt(envelope: dict[str, Any], **parts: bytes) -> bytes:
    """An event with other sealed parts."""
    schema = catalogue()["envelope.v1"]
    return frame(schema.fingerprint, schema.encode({**envelope, **parts}))


def test_swapped_parts_are_refused() -> None:
    """The body's ciphertext as subject and the other way round."""
    envelope, _ = decode_envelope(encode_event(ENVELOPE, b"same", b"same", KEY))
    assert code_of(rebuilt(envelope, subject=envelope["body"], body=envelope["subject"])) == "seal.broken"


@pytest.mark.parametrize("part", ["subject", "body"])
def test_a_part_moved_to_another_event_is_refused(part: str) -> None:
    """Under the same data key: another pupil's identifiers do not get to this pupil's data."""
    one, _ = decode_envelope(encode_event(ENVELOPE, b"Emma", b"body", KEY))
    other = {**ENVELOPE, "event_id": "5b0d7bd5-5f4c-4b39-9c0a-3c3b3c3a0002"}
    two, _ = decode_envelope(encode_event(other, b"Noah", b"body", KEY))
    assert code_of(rebuilt(two, **{part: one[part]})) == "seal.broken"


def test_another_recipient_can_not_open_it() -> None:
    """Another data secret."""
    value = encode_event(ENVELOPE, b"s", b"b", KEY)
    assert code_of(value, DataKey.from_secret(bytes(32), b"", "kid")) == "seal.broken"


def test_who_has_one_parts_key_opens_that_part_only() -> None:
    """R4: a receiver can give a module the body without the identifiers."""
    value = encode_event(ENVELOPE, b"Emma", b"body", KEY)
    half = DataKey(b"", "kid", subject=part_key(bytes(32), "subject"), body=KEY.body)
    assert code_of(value, half) == "seal.broken"


def test_two_records_of_one_event_have_nothing_sealed_in_common() -> None:
    """Fresh nonces: the same event sent twice shows its envelope only."""
    one, two = (decode_envelope(encode_event(ENVELOPE, b"Emma", b"body", KEY)) for _ in range(2))
    assert one[1] == two[1]
    assert one[0]["subject"] != two[0]["subject"]
    assert one[0]["body"] != two[0]["body"]


def test_a_length_written_longer_than_needed_is_refused() -> None:
    """A varint with padding decodes to the same length; the bytes are then others than those authenticated."""
    value = encode_event(ENVELOPE, b"subject", b"body", KEY)
    envelope, associated = decode_envelope(value)
    subject, body = envelope["subject"], envelope["body"]
    padded = associated + bytes([len(subject) << 1 | 0x80, 0]) + subject + bytes([len(body) << 1]) + body
    assert code_of(padded) == "seal.broken"


@pytest.mark.parametrize(
    ("value", "code"),
    [(None, "frame.empty"), (b"", "frame.empty"), (b"{}", "frame.marker"), (b"\xc3\x01" + bytes(8), "schema.unknown")],
)
def test_what_is_no_envelope_is_refused(value: bytes | None, code: str) -> None:
    """A tombstone, JSON, a record of another schema."""
    assert code_of(value) == code


@given(st.binary(max_size=400))
def test_hostile_bytes_behind_the_right_header_are_refused(data: bytes) -> None:
    """Any bytes after the envelope's fingerprint: a ContractError, nothing else."""
    assert code_of(frame(catalogue()["envelope.v1"].fingerprint, data))


def test_an_envelope_that_does_not_fit_names_its_field() -> None:
    """The sender's own software hears which field; nothing was sealed."""
    with pytest.raises(ContractError) as caught:
        encode_event({**ENVELOPE, "sector": "Emma"}, b"", b"", KEY)
    assert (caught.value.code, caught.value.field) == ("schema.encode", "sector")
    assert "Emma" not in str(caught.value)


# ---- the vectors, with our code


def test_the_vectors_are_what_the_generator_makes() -> None:
    """A change of the wire format shows as a change of these files. Make them with `python tests/vectors/make.py`."""
    for name in make.FILES:
        assert (VECTORS / name).read_text("utf-8") == make.text_of(name), name


def test_our_framing_gives_the_vectors() -> None:
    """`framing.json`."""
    found = vectors("framing.json")["record"]
    schema = catalogue()["status.v1"]
    assert schema.fingerprint.hex() == found["fingerprint"]
    assert frame(schema.fingerprint, schema.encode(found["datum"])).hex() == found["value"]
    assert schema.decode(unframe(bytes.fromhex(found["value"]))[1]) == found["datum"]


def test_our_keyed_hashes_and_partitions_give_the_vectors() -> None:
    """`keyed-hash.json` and `partition.json`."""
    found = vectors("keyed-hash.json")
    for case in found["cases"]:
        assert keyed_hash(bytes.fromhex(found["key"]), *case["parts"]).hex() == case["hash"]
    for case in vectors("partition.json")["cases"]:
        assert partition_of(bytes.fromhex(case["key"]), case["partitions"]) == case["partition"]


def test_our_leaves_give_the_vectors() -> None:
    """`leaf.json`."""
    found = vectors("leaf.json")
    key, ids = (
        bytes.fromhex(found["subject_key"]),
        Ids(bytes.fromhex(found["trace_id"]), bytes.fromhex(found["span_id"])),
    )
    person = Commitments(key, ids)
    assert person.token() == found["token"]
    assert person.salt("out").hex() == found["salt_out"]
    assert person.value("out", found["value"]["text"].encode()) == found["value"]["commitment"]
    assert b64url(lookup_tag(key)) == found["lookup_tag"]


def test_our_code_opens_the_sealed_vector() -> None:
    """`sealing.json`: header, parts and data, with the private key given."""
    found = vectors("sealing.json")
    recipient = found["recipient"]
    opener = DataKeyOpener(lambda kid: recipient["jwk"] if kid == recipient["kid"] else None)
    envelope, associated = decode_envelope(bytes.fromhex(found["value"]))
    assert associated.hex() == found["associated"]
    subject, body = open_parts(envelope, associated, opener.open(found["data_key_header"].encode()))
    assert envelope == {**found["envelope"], "body_schema": bytes.fromhex(found["envelope"]["body_schema"])}
    assert catalogue()["subject.v1"].decode(subject) == found["subject"]["datum"]
    family = catalogue().family_of(envelope["body_schema"])
    assert family is not None
    assert family.schema.decode(body) == found["body"]["datum"]


def test_our_code_seals_the_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    """`sealing.json`: with its nonces, byte for byte."""
    found = vectors("sealing.json")
    nonces = iter([bytes.fromhex(found[part]["nonce"]) for part in ("subject", "body")])
    monkeypatch.setattr(broker.crypto.os, "urandom", lambda _: next(nonces))
    key = DataKey.from_secret(bytes.fromhex(found["data_secret"]), b"", found["recipient"]["kid"])
    envelope = {**found["envelope"], "body_schema": bytes.fromhex(found["envelope"]["body_schema"])}
    subject, body = (bytes.fromhex(found[part]["avro"]) for part in ("subject", "body"))
    assert encode_event(envelope, subject, body, key).hex() == found["value"]


# ---- the vectors, with low-level primitives only, as the documentation says it


def b64(text: str) -> bytes:
    """Base64url without padding."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def public(jwk: dict[str, str]) -> ec.EllipticCurvePublicKey:
    """A point on P-256."""
    x, y = (int.from_bytes(b64(jwk[name]), "big") for name in ("x", "y"))
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()


def open_jwe(token: str, jwk: dict[str, str]) -> bytes:
    """RFC 7516 section 5.2, RFC 7518 sections 4.6.2 and 5.3, by hand."""
    protected, wrapped, nonce, sealed, tag = token.split(".")
    header = json.loads(b64(protected))
    assert (header["alg"], header["enc"]) == ("ECDH-ES+A256KW", "A256GCM")
    private = ec.derive_private_key(int.from_bytes(b64(jwk["d"]), "big"), ec.SECP256R1())
    shared = private.exchange(ec.ECDH(), public(header["epk"]))
    alg = b"ECDH-ES+A256KW"
    info = len(alg).to_bytes(4, "big") + alg + bytes(8) + (256).to_bytes(4, "big")
    content_key = aes_key_unwrap(ConcatKDFHash(SHA256(), 32, info).derive(shared), b64(wrapped))
    return AESGCM(content_key).decrypt(b64(nonce), b64(sealed) + b64(tag), protected.encode())


def schema_file(name: str) -> Any:
    """A schema of the source tree, without logical types."""
    document = json.loads((VECTORS.parent.parent / "schemas" / "avro" / f"{name}.avsc").read_text("utf-8"))
    return json.loads(fastavro.schema.to_parsing_canonical_form(document))


def test_the_sealed_vector_opens_by_the_documentation_alone() -> None:
    """JWE, HKDF, AES-GCM and Avro, one after the other: what a party without our client has to do."""
    found = vectors("sealing.json")
    secret = open_jwe(found["data_key_header"], found["recipient"]["jwk"])
    assert secret.hex() == found["data_secret"]
    value = bytes.fromhex(found["value"])
    assert value[:2] == b"\xc3\x01"
    envelope: Any = fastavro.schemaless_reader(io.BytesIO(value[10:]), schema_file("envelope.v1"), None)
    # Before the parts: all but the two lengths (one or two bytes each here) and the parts themselves.
    sizes = [len(envelope[part]) for part in ("subject", "body")]
    associated = value[: -sum(size + (1 if size < 64 else 2) for size in sizes)]
    assert associated.hex() == found["associated"]
    for part, schema in (("subject", "subject.v1"), ("body", "usage.v1")):
        key = HKDF(SHA256(), 32, salt=bytes(32), info=f"eck-broker/v1/{part}".encode()).derive(secret)
        assert key.hex() == found[part]["key"]
        sealed = envelope[part]
        plain = AESGCM(key).decrypt(sealed[:12], sealed[12:], associated + part.encode())
        assert fastavro.schemaless_reader(io.BytesIO(plain), schema_file(schema), None) == found[part]["datum"]
        with pytest.raises(InvalidTag):
            AESGCM(key).decrypt(sealed[:12], sealed[12:], associated)


def test_the_documentation_shows_the_vectors() -> None:
    """Every longer hex number of `docs/wire-format.md` is one of the vectors, or a part of one."""
    page = (VECTORS.parent.parent / "docs" / "wire-format.md").read_text("utf-8")
    known = "\n".join((VECTORS / name).read_text("utf-8") for name in make.FILES)
    shown = re.findall(r"\b(?:[0-9a-f]{2}){6,}\b", page)
    assert len(shown) > 10
    assert [number for number in shown if number not in known] == []


def test_the_documentation_has_the_limits_that_hold() -> None:
    """As `Limits` and `broker.crypto` have them."""
    page = (VECTORS.parent.parent / "docs" / "wire-format.md").read_text("utf-8")
    numbers = (
        DEFAULT.record_bytes, DEFAULT.header_bytes, MAX_JWE_BYTES, DEFAULT.envelope_chars, DEFAULT.text_chars,
        DEFAULT.list_items, DEFAULT.user_ids,
    )  # fmt: skip
    limits = page.partition("## Limits")[2]
    assert [number for number in numbers if f"{number:,}" not in limits] == []


def test_the_documentation_names_every_header() -> None:
    """In and out."""
    page = (VECTORS.parent.parent / "docs" / "wire-format.md").read_text("utf-8")
    headers = (DATA_KEY, TRACEPARENT, POLICY, FLOW, FLOW_SEQ, AUDIT_SALT, KEY_ID)
    assert [name for name in headers if f"| `{name}` |" not in page] == []
