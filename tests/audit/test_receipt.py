"""Tests of `broker.audit.receipt`: what a party can show with it, and that no bit of it can be another."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit.leaf import b64url, canonical, commitment, erased_leaf
from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.merkle import ProofError, leaf_hash, node_hash
from broker.audit.log.note import NoteError, Signer, Verifier, render
from broker.audit.log.proof import Proof
from broker.audit.receipt import Receipt, ReceiptError, verify
from broker.errors import ContractError
from tests.audit.log.tree import LEAF_0, NOTE, ORIGIN, VKEY, flips, key
from tests.audit.test_leaf import EMMA, GOLDEN_LINE

VALUE = b"filtered avro output"
LOG = (Verifier.parse(VKEY),)
RECEIPT = Receipt(GOLDEN_LINE.encode(), EMMA.salt("out"), 1, (bytes.fromhex(LEAF_0),), NOTE)


def sealed(entry: bytes, salt: bytes | None = bytes(32)) -> Receipt:
    """A receipt of a leaf that is its log's only one."""
    text = Checkpoint(ORIGIN, 1, leaf_hash(entry)).text()
    return Receipt(entry, salt, 0, (), render(text, [Signer(ORIGIN, key("golden log key")).sign(text)]))


def test_the_golden_receipt() -> None:
    """The second line of the audit design, in its golden tree, with the golden value."""
    receipt = Receipt.parse(RECEIPT.render())
    assert receipt == RECEIPT
    shown = verify(receipt, LOG, VALUE)
    assert (shown.origin, shown.size, shown.index, shown.side) == (ORIGIN, 2, 1, "out")
    assert shown.entry == GOLDEN_LINE.encode()
    assert [signed.name for signed in shown.note.verified] == [ORIGIN]


def test_without_a_value_the_leaf_alone_is_shown() -> None:
    """Nothing is said about any bytes then."""
    assert verify(RECEIPT, LOG).side is None


def test_a_sender_can_show_what_came_in() -> None:
    """With the salt of its side: `x.in.value`."""
    salt = b"s" * 32
    entry = canonical({"v": 1, "x": {"in": {"value": commitment(salt, b"sent")}, "value": commitment(bytes(32), b"y")}})
    assert verify(sealed(entry, salt), LOG, b"sent").side == "in"


@pytest.mark.parametrize(
    "entry",
    [
        canonical({"v": 1, "x": {"decision": "refused"}}),
        canonical({"v": 1, "x": {"value": True, "in": "text"}}),
        canonical({"v": 1, "x": "text"}),
        canonical({"v": 1, "x": {"value": "\u20ac"}}),
        b'{"x":{"value":"\\ud800"}}',
        b"[]",
        b"text",
        b"[" * 10_000,
    ],
)
def test_a_leaf_that_speaks_of_no_such_value_does_not_show_it(entry: bytes) -> None:
    """Whatever it is; the leaf itself is in the log all the same."""
    receipt = sealed(entry)
    assert verify(receipt, LOG).entry == entry
    with pytest.raises(ReceiptError, match="does not speak of this value"):
        verify(receipt, LOG, b"value")


def test_another_value_or_salt_is_not_shown() -> None:
    """The commitment binds both."""
    for receipt, value in ((RECEIPT, VALUE + b"."), (RECEIPT, b""), (sealed(RECEIPT.entry), VALUE)):
        with pytest.raises(ReceiptError):
            verify(receipt, LOG, value)


def test_a_leaf_that_is_not_in_the_tree_is_not_shown() -> None:
    """Also if the signature is right."""
    other = Receipt(RECEIPT.entry + b" ", RECEIPT.salt, 1, RECEIPT.path, NOTE)
    with pytest.raises(ProofError):
        verify(other, LOG)
    with pytest.raises(ProofError):
        verify(Receipt(RECEIPT.entry, RECEIPT.salt, 0, RECEIPT.path, NOTE), LOG)


def test_a_node_of_the_tree_is_no_leaf() -> None:
    """Leaves and nodes are hashed apart (RFC 6962): an entry made of two hashes shows nothing."""
    left, right = bytes.fromhex(LEAF_0), leaf_hash(RECEIPT.entry)
    assert leaf_hash(left + right) != node_hash(left, right)


def test_a_receipt_of_an_unknown_log_is_refused() -> None:
    """The reader says which logs count."""
    for verifiers in ((), (Verifier(ORIGIN, 1, bytes(32)),)):
        with pytest.raises(NoteError):
            verify(RECEIPT, verifiers, VALUE)


def test_every_flipped_bit_of_a_receipt_is_refused() -> None:
    """Of the file: extra, index, path, checkpoint and signature, none excepted."""
    accepted = 0
    for changed in flips(RECEIPT.render()):
        try:
            verify(Receipt.parse(changed), LOG, VALUE)
        except ContractError:
            continue
        accepted += 1
    assert accepted == 0


def test_every_flipped_bit_of_the_value_is_refused() -> None:
    """The commitment is to these bytes."""
    for changed in flips(VALUE):
        with pytest.raises(ReceiptError):
            verify(RECEIPT, LOG, changed)


# ---- of an erasure

ERASED = erased_leaf("7d4f0b1e-4a53-4d0e-9b1e-2f7c3a5b6c7d", "99PA", ("in.sis", 1, 7), 1_795_305_600_000)


def test_the_receipt_of_an_erasure_has_no_salt_and_names_nobody() -> None:
    """What it carries is the leaf, and that is event, school, time and an id that follows from where the ERASE stood."""
    receipt = sealed(ERASED, None)
    extra = Proof.parse(receipt.render()).extra
    assert extra == canonical({"entry": ERASED.decode(), "v": 1})
    shown = verify(Receipt.parse(receipt.render()), LOG)
    assert (shown.entry, shown.side) == (ERASED, None)
    assert json.loads(ERASED)["erased"].keys() == {"event", "id", "school", "time"}
    with pytest.raises(ReceiptError, match="does not speak of this value"):
        verify(receipt, LOG, b"")


def test_every_flipped_bit_of_the_receipt_of_an_erasure_is_refused() -> None:
    """As of any other."""
    left, right = leaf_hash(GOLDEN_LINE.encode()), leaf_hash(ERASED)
    text = Checkpoint(ORIGIN, 2, node_hash(left, right)).text()
    note = render(text, [Signer(ORIGIN, key("golden log key")).sign(text)])
    data = Receipt(ERASED, None, 1, (left,), note).render()
    assert verify(Receipt.parse(data), LOG).index == 1
    for changed in flips(data):
        with pytest.raises(ContractError):
            verify(Receipt.parse(changed), LOG)


@pytest.mark.parametrize(
    ("entry", "salt"),
    [
        (GOLDEN_LINE.encode(), None),
        (canonical({"control": {}, "v": 1}), None),
        (canonical({"erased": {}, "v": 1, "x": {}}), None),
        (b'{"v":1,"erased":{}}', None),
        (b"text", None),
        (ERASED, bytes(32)),
    ],
    ids=["delivery", "control", "more than erased", "erased in another writing", "text", "erased with a salt"],
)
def test_which_form_a_receipt_has_follows_from_its_leaf(entry: bytes, salt: bytes | None) -> None:
    """A delivery's without a salt would be free of its commitment; an erasure's with one would have bits that are free."""
    with pytest.raises(ReceiptError, match="has a salt"):
        sealed(entry, salt).render()
    given = {} if salt is None else {"salt": b64url(salt)}
    extra = canonical({"entry": entry.decode(), **given, "v": 1})
    with pytest.raises(ReceiptError, match="has a salt"):
        Receipt.parse(Proof(extra, 0, (), sealed(entry, salt).checkpoint_note).render())


# ---- the extra is not authenticated: one spelling only

SALT = b64url(bytes(32))
BAD_EXTRAS: dict[str, bytes | None] = {
    "none": None,
    "no JSON": b"hello",
    "list": b"[]",
    "one more": canonical({"entry": "e", "salt": SALT, "v": 1, "x": 1}),
    "no version": canonical({"entry": "e", "salt": SALT}),
    "version 2": canonical({"entry": "e", "salt": SALT, "v": 2}),
    "version as text": canonical({"entry": "e", "salt": SALT, "v": "1"}),
    "version true": canonical({"entry": "e", "salt": SALT, "v": True}),
    "version 1.0": canonical({"entry": "e", "salt": SALT, "v": 1.0}),
    "entry not text": canonical({"entry": ["e"], "salt": SALT, "v": 1}),
    "salt not text": canonical({"entry": "e", "salt": 7, "v": 1}),
    "salt short": canonical({"entry": "e", "salt": b64url(bytes(31)), "v": 1}),
    "salt long": canonical({"entry": "e", "salt": b64url(bytes(33)), "v": 1}),
    "salt padded": canonical({"entry": "e", "salt": SALT + "=", "v": 1}),
    "salt with other last bits": canonical({"entry": "e", "salt": SALT[:-1] + "B", "v": 1}),
    "salt with a stranger in it": canonical({"entry": "e", "salt": SALT[:-2] + "!AA", "v": 1}),
    "salt in another script": canonical({"entry": "e", "salt": "\u20ac" * 43, "v": 1}),
    "white space": canonical({"entry": "e", "salt": SALT, "v": 1}) + b" ",
    "another order": b'{"salt":"' + SALT.encode() + b'","entry":"e","v":1}',
    "twice": b'{"entry":"d","entry":"e","salt":"' + SALT.encode() + b'","v":1}',
    "escaped where it need not be": b'{"entry":"\\u0065","salt":"' + SALT.encode() + b'","v":1}',
    "surrogate": b'{"entry":"\\ud800","salt":"' + SALT.encode() + b'","v":1}',
    "not UTF-8": b'{"entry":"\xff","salt":"' + SALT.encode() + b'","v":1}',
    "byte order mark": b"\xef\xbb\xbf" + canonical({"entry": "e", "salt": SALT, "v": 1}),
    "UTF-16": '{"entry":"e"}'.encode("utf-16"),
    "very deep": b"[" * 30_000,
    "very long number": b'{"entry":"e","salt":"x","v":' + b"1" * 5000 + b"}",
}


@pytest.mark.parametrize("case", BAD_EXTRAS)
def test_an_extra_is_read_in_one_spelling(case: str) -> None:
    """Exactly these keys, version 1, canonical JSON, canonical base64url of 32 bytes."""
    good = Proof(canonical({"entry": "e", "salt": SALT, "v": 1}), 1, RECEIPT.path, NOTE)
    assert Receipt.parse(good.render()).entry == b"e"
    with pytest.raises(ReceiptError):
        Receipt.parse(Proof(BAD_EXTRAS[case], 1, RECEIPT.path, NOTE).render())


@pytest.mark.parametrize("change", [{"salt": bytes(31)}, {"entry": b"\xff"}])
def test_a_receipt_that_could_not_be_read_again_is_not_written(change: dict[str, Any]) -> None:
    """The sealer hears of it, not the receiver."""
    fields = {name: getattr(RECEIPT, name) for name in Receipt.__slots__}
    with pytest.raises(ReceiptError):
        Receipt(**{**fields, **change}).render()


@given(st.text(st.characters(exclude_categories=["Cs"])), st.binary(min_size=32, max_size=32))
def test_any_entry_and_salt_come_back(entry: str, salt: bytes) -> None:
    """Whatever the leaf holds."""
    receipt = sealed(entry.encode(), salt)
    assert Receipt.parse(receipt.render()) == receipt
    assert verify(receipt, LOG).entry == entry.encode()


@given(st.binary(max_size=200))
def test_any_extra_never_breaks_the_reader(extra: bytes) -> None:
    """Only our errors come out."""
    data = RECEIPT.render().replace(RECEIPT.render().split(b"\n")[1], b"extra " + b64encode(extra))
    with pytest.raises(ContractError):
        Receipt.parse(data)
