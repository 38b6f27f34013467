"""Tests of `broker.crypto`: parts, data keys, keyed hashes."""

from __future__ import annotations

import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwe
from joserfc.jwk import ECKey, OctKey

from broker.crypto import (
    MAX_JWE_BYTES,
    NONCE_BYTES,
    SECRET_BYTES,
    TAG_BYTES,
    DataKey,
    DataKeyMaker,
    DataKeyOpener,
    jwe_kid,
    keyed_hash,
    open_secret,
    part_key,
    partition_of,
    seal,
    seal_secret,
    unseal,
)  # fmt: skip
from broker.errors import ConfigError, ContractError
from broker.keys import MemoryKeys, RecipientKey

SECRET = bytes(range(32))


class Clock:
    """A clock that stands still until it is set forward."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def keys() -> MemoryKeys:
    """A key store with one key, of the owner `broker`."""
    made = MemoryKeys()
    made.create("broker")
    return made


@pytest.fixture
def recipient(keys: MemoryKeys) -> RecipientKey:
    """The public key of `broker`."""
    return keys.recipient_keys("broker")[0]


def refused(token: bytes, keys: MemoryKeys) -> str:
    """The code with which an opener refuses a header."""
    with pytest.raises(ContractError) as caught:
        DataKeyOpener(keys.private_key).open(token)
    assert caught.value.field == "data-key"
    return caught.value.code


# ---- parts


@given(plain=st.binary(max_size=200), associated=st.binary(max_size=50))
def test_what_was_sealed_opens(plain: bytes, associated: bytes) -> None:
    """Sealing and unsealing are inverse, and cost 28 bytes."""
    cipher = part_key(SECRET, "body")
    sealed = seal(cipher, plain, associated)
    assert len(sealed) == len(plain) + NONCE_BYTES + TAG_BYTES
    assert unseal(cipher, sealed, associated, "body") == plain


@pytest.mark.parametrize("at", [0, 11, 12, 20, -16, -1], ids=["nonce", "nonce end", "data", "data", "tag", "tag end"])
def test_one_changed_bit_anywhere_is_refused(at: int) -> None:
    """Nonce, ciphertext and tag are all authenticated; the error names the part and nothing of it."""
    cipher = part_key(SECRET, "body")
    sealed = bytearray(seal(cipher, b"Emma " * 4, b"ad"))
    sealed[at] ^= 1
    with pytest.raises(ContractError) as caught:
        unseal(cipher, bytes(sealed), b"ad", "body")
    assert (caught.value.code, caught.value.field) == ("seal.broken", "body")


def test_other_associated_data_is_refused() -> None:
    """A part does not open under another envelope."""
    cipher = part_key(SECRET, "body")
    sealed = seal(cipher, b"x", b"envelope 1body")
    with pytest.raises(ContractError):
        unseal(cipher, sealed, b"envelope 2body", "body")


@pytest.mark.parametrize("length", range(NONCE_BYTES + TAG_BYTES))
def test_what_is_too_short_to_be_sealed_is_refused(length: int) -> None:
    """Every length below nonce and tag."""
    with pytest.raises(ContractError) as caught:
        unseal(part_key(SECRET, "body"), bytes(length), b"", "body")
    assert caught.value.code == "seal.broken"


def test_each_part_has_a_key_of_its_own() -> None:
    """R4: who has the key of the body can not open the identifiers."""
    key = DataKey.from_secret(SECRET, b"", "kid")
    sealed = seal(key.subject, b"x", b"")
    with pytest.raises(ContractError):
        unseal(key.body, sealed, b"", "subject")


def test_nonces_do_not_repeat() -> None:
    """10,000 times the same data: as many nonces and ciphertexts."""
    cipher = part_key(SECRET, "body")
    sealed = [seal(cipher, b"same", b"") for _ in range(10_000)]
    assert len({s[:NONCE_BYTES] for s in sealed}) == len(sealed)
    assert len({s[NONCE_BYTES:] for s in sealed}) == len(sealed)


# ---- data keys


def test_a_data_key_opens_for_its_recipient(keys: MemoryKeys, recipient: RecipientKey) -> None:
    """The header carries the secret; both sides derive the same ciphers from it."""
    made = DataKeyMaker(recipient.jwk, recipient.kid).current()
    opened = DataKeyOpener(keys.private_key).open(made.header)
    assert opened.kid == recipient.kid
    for ours, theirs in ((made.subject, opened.subject), (made.body, opened.body)):
        assert unseal(theirs, seal(ours, b"x", b"ad"), b"ad", "body") == b"x"


def test_a_header_for_another_key_is_told_apart_from_a_damaged_one(keys: MemoryKeys) -> None:
    """`seal.recipient`: the sender must fetch the newest key; `seal.header`: his software is wrong."""
    other = MemoryKeys().create("broker-old")
    assert refused(seal_secret(SECRET, other.jwk, other.kid), keys) == "seal.recipient"


def test_a_header_that_only_names_our_key_does_not_open(keys: MemoryKeys, recipient: RecipientKey) -> None:
    """Sealed for somebody else's key under our key id."""
    other = MemoryKeys().create("other")
    assert refused(seal_secret(SECRET, other.jwk, recipient.kid), keys) == "seal.header"


def test_a_secret_of_another_length_is_refused(keys: MemoryKeys, recipient: RecipientKey) -> None:
    """16 or 33 bytes are not a data secret."""
    for length in (0, 16, 31, 33, 64):
        assert refused(seal_secret(bytes(length), recipient.jwk, recipient.kid), keys) == "seal.header"


def test_every_changed_byte_of_a_header_is_refused(keys: MemoryKeys, recipient: RecipientKey) -> None:
    """Protected header, wrapped key, nonce, ciphertext and tag."""
    token = seal_secret(SECRET, recipient.jwk, recipient.kid)
    for at in range(len(token)):
        for other in (b"A", b".", b"\x00"):
            changed = token[:at] + other + token[at + 1 :]
            # The last character before a dot has bits that base64url does not use: those carry nothing.
            if changed == token or same_bytes(changed, token):
                continue
            assert refused(changed, keys) in {"seal.header", "seal.recipient"}, at


def same_bytes(one: bytes, other: bytes) -> bool:
    """Whether two tokens differ only in unused bits of base64url, outside the authenticated header."""

    def decoded(token: bytes) -> list[bytes]:
        head, *rest = token.split(b".")
        return [head, *(urlsafe_b64decode(r + b"=" * (-len(r) % 4)) for r in rest)]

    try:
        return decoded(one) == decoded(other)
    except ValueError:
        return False


def hostile(keys: MemoryKeys, recipient: RecipientKey) -> dict[str, bytes]:
    """Headers that an attacker could try."""
    good = seal_secret(SECRET, recipient.jwk, recipient.kid)
    protected, *rest = good.split(b".")
    header: dict[str, Any] = json.loads(urlsafe_b64decode(protected + b"=="))

    def with_header(**changes: Any) -> bytes:
        changed = {name: value for name, value in {**header, **changes}.items() if value is not None}
        return b".".join([urlsafe_b64encode(json.dumps(changed).encode()).rstrip(b"="), *rest])

    symmetric = OctKey.import_key(bytes(32))
    direct = jwe.encrypt_compact({"alg": "dir", "enc": "A256GCM", "kid": recipient.kid}, SECRET, symmetric)
    public: dict[str, Any] = dict(recipient.jwk)
    weaker = jwe.encrypt_compact(
        {"alg": "ECDH-ES+A128KW", "enc": "A128GCM", "kid": recipient.kid}, SECRET, ECKey.import_key(public),
        registry=jwe.JWERegistry(algorithms=["ECDH-ES+A128KW", "A128GCM"]),
    )  # fmt: skip
    return {
        "empty": b"",
        "dots": b"....",
        "no header": b"." + b".".join(rest),
        "alg none": with_header(alg="none"),
        "alg dir": direct.encode(),
        "weaker": weaker.encode(),
        "p2c": with_header(alg="PBES2-HS256+A128KW", p2c=10**9, p2s="AAAA"),
        "p2c beside": with_header(p2c=10**9),
        "other enc": with_header(enc="A128CBC-HS256"),
        "zip": with_header(zip="DEF"),
        "crit": with_header(crit=["exp"], exp=1),
        "no kid": with_header(kid=None),
        "kid is a number": with_header(kid=5),
        "kid is a path": with_header(kid="../../etc/passwd"),
        "kid is huge": with_header(kid="a" * 2000),
        "no epk": with_header(epk=None),
        "epk at infinity": with_header(epk={"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43}),
        "epk of another curve": with_header(epk=ECKey.generate_key("P-384").as_dict(private=False)),
        "epk is a text": with_header(epk="x"),
        "epk is symmetric": with_header(epk={"kty": "oct", "k": "AAAA"}),
        "header is a list": urlsafe_b64encode(b"[]") + b"." + b".".join(rest),
        "header is a text": urlsafe_b64encode(b'"x"') + b"." + b".".join(rest),
        "header is nested": urlsafe_b64encode(b"[" * 600) + b"." + b".".join(rest),
        "header is no json": urlsafe_b64encode(b"{") + b"." + b".".join(rest),
        "header is no utf8": urlsafe_b64encode(b"\xff\xfe\xff") + b"." + b".".join(rest),
        "huge": good + b"A" * MAX_JWE_BYTES,
        "six parts": good + b".AA",
        "four parts": good.rpartition(b".")[0],
        "json serialization": b'{"protected":"x"}....',
    }


def test_hostile_headers_are_refused_with_a_code(keys: MemoryKeys, recipient: RecipientKey) -> None:
    """Other algorithms, compression, password-based keys, curves that do not fit, sizes: a ContractError for each."""
    for name, token in hostile(keys, recipient).items():
        assert refused(token, keys) in {"seal.header", "seal.recipient"}, name


def test_only_the_agreed_algorithms_get_as_far_as_a_key(keys: MemoryKeys, recipient: RecipientKey) -> None:
    """Whatever else a header asks for is refused before any private key is looked up."""
    asked: list[str] = []

    def lookup(kid: str) -> None:
        asked.append(kid)

    tokens = hostile(keys, recipient)
    for name in ("alg none", "alg dir", "weaker", "p2c", "other enc", "zip", "crit", "huge", "no kid"):
        with pytest.raises(ContractError):
            DataKeyOpener(lookup).open(tokens[name])
    assert asked == []


@given(
    st.binary(max_size=1100)
    | st.lists(st.binary(max_size=200).map(urlsafe_b64encode), min_size=5, max_size=5).map(b".".join)
)
def test_any_bytes_as_a_header_are_refused(token: bytes) -> None:
    """Random bytes, also such that look like a JWE, give `seal.header` or name a key."""
    try:
        assert isinstance(jwe_kid(token), str)
    except ContractError as error:
        assert error.code == "seal.header"


def test_a_private_key_can_not_be_had_by_sealing_for_it(recipient: RecipientKey) -> None:
    """Only the public members of a JWK are used to seal, so a private one that slipped in does no harm."""
    private = {**recipient.jwk, "d": "A" * 43}
    assert seal_secret(SECRET, private, recipient.kid)


def test_an_opener_remembers_and_forgets(keys: MemoryKeys, recipient: RecipientKey) -> None:
    """One header is opened once while it is remembered; the least recently used goes first."""
    looked_up: list[str] = []

    def lookup(kid: str) -> Any:
        looked_up.append(kid)
        return keys.private_key(kid)

    opener = DataKeyOpener(lookup, remembered=2)
    one, two, three = (seal_secret(os.urandom(SECRET_BYTES), recipient.jwk, recipient.kid) for _ in range(3))
    for token in (one, two, one, three, one):
        opener.open(token)
    assert len(looked_up) == 3
    opener.open(two)
    assert len(looked_up) == 4


def test_open_secret_is_the_inverse_of_seal_secret(keys: MemoryKeys, recipient: RecipientKey) -> None:
    """And two headers for one secret have nothing in common but their header."""
    one, two = (seal_secret(SECRET, recipient.jwk, recipient.kid) for _ in range(2))
    assert one != two
    private: dict[str, Any] = dict(keys.private_key(recipient.kid) or {})
    assert open_secret(one, ECKey.import_key(private)) == open_secret(two, ECKey.import_key(private)) == SECRET


def test_a_data_key_is_replaced_after_an_hour(recipient: RecipientKey) -> None:
    """To the second: what one lost secret opens is bounded."""
    clock = Clock()
    maker = DataKeyMaker(recipient.jwk, recipient.kid, clock=clock)
    first = maker.current()
    clock.now += maker.MAX_AGE_SECONDS - 1
    assert maker.current() is first
    clock.now += 1
    second = maker.current()
    assert second.header != first.header
    clock.now += maker.MAX_AGE_SECONDS - 1
    assert maker.current() is second


def test_a_data_key_is_replaced_after_so_many_records(recipient: RecipientKey, monkeypatch: pytest.MonkeyPatch) -> None:
    """2^20 records, far below the 2^32 of NIST SP 800-38D section 8.3; tried with 3."""
    assert DataKeyMaker.MAX_RECORDS == 2**20
    monkeypatch.setattr(DataKeyMaker, "MAX_RECORDS", 3)
    maker = DataKeyMaker(recipient.jwk, recipient.kid, clock=Clock())
    headers = [maker.current().header for _ in range(7)]
    assert [headers.index(h) for h in headers] == [0, 0, 0, 3, 3, 3, 6]


def test_no_repr_shows_a_secret(recipient: RecipientKey, keys: MemoryKeys) -> None:
    """Neither of a data key, its maker, its opener, nor of a key store."""
    private = keys.private_key(recipient.kid)
    assert private is not None
    maker = DataKeyMaker(recipient.jwk, recipient.kid)
    opener = DataKeyOpener(keys.private_key)
    opener.open(maker.current().header)
    shown = repr([DataKey.from_secret(SECRET, b"header", "kid"), maker.current(), maker, opener, keys, recipient])
    assert private["d"] not in shown
    assert SECRET.hex() not in shown
    assert repr(SECRET) not in shown
    assert "AESGCM" not in shown


# ---- keyed hashes and partitions


def test_a_keyed_hash_has_this_value() -> None:
    """Golden value, made with `openssl dgst -sha256 -mac HMAC` over 00000001 61 00000002 6263."""
    key = bytes(range(32))
    assert keyed_hash(key, "a", "bc").hex() == "7281caf026ca30a3a915c06b7f9c266bd0ba77f782615b6a0553f2c7cd649020"


@given(st.lists(st.text(max_size=4), max_size=4), st.lists(st.text(max_size=4), max_size=4))
def test_keyed_hashes_of_other_parts_differ(one: list[str], other: list[str]) -> None:
    """Where one part ends and the next begins counts, and so does an empty part."""
    assert (keyed_hash(SECRET, *one) == keyed_hash(SECRET, *other)) is (one == other)


def test_text_and_its_utf8_bytes_are_the_same_part() -> None:
    """Parts may be either."""
    assert keyed_hash(SECRET, "é") == keyed_hash(SECRET, "é".encode())


def test_keyed_hashes_under_other_secrets_differ() -> None:
    """One person is not the same at two receivers."""
    assert keyed_hash(SECRET, "x") != keyed_hash(bytes(32), "x")


@given(st.binary(min_size=32, max_size=32), st.integers(1, 64))
def test_a_partition_is_stable_and_within_bounds(key: bytes, partitions: int) -> None:
    """Equal keys, equal partitions."""
    assert 0 <= partition_of(key, partitions) < partitions
    assert partition_of(key, partitions) == partition_of(bytes(key), partitions)


def test_a_topic_without_partitions_is_the_operators_to_make() -> None:
    """It says what to do."""
    with pytest.raises(ConfigError, match="topics apply"):
        partition_of(bytes(32), 0)
