"""A receipt: what a party keeps to show that the broker recorded a decision (audit design, section 4).

One `.tlog-proof` file whose extra is canonical JSON `{"entry":<the leaf>,"salt":<base64url, 32 bytes>,"v":1}`. The
signature covers the leaf through the tree, and the value through the commitment in the leaf; the extra itself it does
not cover, so that is accepted in one spelling only. A receipt holds a salt: treat it as personal data.

The receipt of an erasure has no salt, since an `erased` leaf commits to no value: `{"entry":<the leaf>,"v":1}`. Which
of the two forms it is follows from the leaf, so neither is taken for the other. It says nothing about a person.
"""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from broker.audit.leaf import b64url, canonical, commitment
from broker.audit.log.merkle import leaf_hash
from broker.audit.log.note import Note, Verifier
from broker.audit.log.proof import Proof
from broker.errors import ContractError

SALT_BYTES: Final = 32
_FORM: Final = "a receipt has a salt, but for that of an erasure, which has none"


class ReceiptError(ContractError):
    """A receipt that is not as the format has it, or does not belong to the value."""

    default_code = "receipt"


@dataclass(frozen=True, slots=True)
class Receipt:
    """A leaf, its place in the log, and the salt of its commitment.

    Args:
        entry: the leaf, as it stands in the log.
        salt: 32 bytes, as the receiver got it in the header `audit-salt`; None for an `erased` leaf, which has none.
        index, path, checkpoint_note: see `Proof`.
    """

    entry: bytes
    salt: bytes | None
    index: int
    path: tuple[bytes, ...]
    checkpoint_note: bytes

    def render(self) -> bytes:
        """The file, `.tlog-proof`.

        Raises:
            ReceiptError: if the entry is no text, or the salt has another length or is there where none may be.
            NoteError: if the rest is no proof.
        """
        if (self.salt is None) != is_erasure(self.entry):
            raise ReceiptError(_FORM)
        if self.salt is not None and len(self.salt) != SALT_BYTES:
            raise ReceiptError(f"the salt of a receipt is not {SALT_BYTES} bytes")
        try:
            entry = self.entry.decode()
        except UnicodeDecodeError:
            raise ReceiptError("the entry of a receipt is not text in UTF-8") from None
        salt = {} if self.salt is None else {"salt": b64url(self.salt)}
        return Proof(canonical({"entry": entry, **salt, "v": 1}), self.index, self.path, self.checkpoint_note).render()

    @classmethod
    def parse(cls, data: bytes) -> Receipt:
        """Read a file and verify nothing.

        Raises:
            ReceiptError, NoteError: for any spelling but that of `render()`.
        """
        proof = Proof.parse(data)
        extra = _object(proof.extra or b"")
        if extra is None or extra.keys() | {"salt"} != {"entry", "salt", "v"} or not _is_canonical(extra, proof.extra):
            raise ReceiptError("the extra of a receipt is not canonical JSON with entry, salt and v")
        entry, salt, version = extra["entry"], extra.get("salt", ""), extra["v"]
        if version.__class__ is not int or version != 1:
            raise ReceiptError("the receipt is not of version 1; a newer program may read it")
        if not isinstance(entry, str) or not isinstance(salt, str):
            raise ReceiptError("entry and salt of a receipt are not both text")
        if ("salt" not in extra) != is_erasure(entry.encode()):
            raise ReceiptError(_FORM)
        return cls(
            entry.encode(), _salt(salt) if "salt" in extra else None, proof.index, proof.path, proof.checkpoint_note
        )


@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """What a receipt shows.

    Args:
        origin: which log.
        size: leaves in the tree that was signed.
        index: of the leaf.
        entry: the leaf; its form is not checked further.
        side: which bytes the value was compared with: "out", those that were delivered, or "in", those that came
            in; None if no value was given.
        note: the signatures that were checked, for a `Policy` to say whether they are enough.
    """

    origin: str
    size: int
    index: int
    entry: bytes
    side: str | None
    note: Note


def verify(receipt: Receipt, verifiers: Iterable[Verifier], value: bytes | None = None) -> VerifiedReceipt:
    """Check a receipt: the log's signature, the path of the leaf, and the commitment to a value if one is given.

    Args:
        receipt: as parsed.
        verifiers: keys of logs and witnesses that are known here; the receipt's log must be among them.
        value: the bytes of the record that was delivered, or came in.

    Raises:
        NoteError, ProofError: if log, signature or path are wrong.
        ReceiptError: if the leaf speaks of no value or of another one.
    """
    proof = Proof(None, receipt.index, receipt.path, receipt.checkpoint_note)
    checkpoint, note = proof.verify(leaf_hash(receipt.entry), tuple(verifiers))
    side = None if value is None else _side(receipt, value)
    return VerifiedReceipt(checkpoint.origin, checkpoint.size, receipt.index, receipt.entry, side, note)


def is_erasure(entry: bytes) -> bool:
    """Whether a leaf says that a person was erased."""
    leaf = _object(entry)
    return leaf is not None and leaf.keys() == {"erased", "v"} and _is_canonical(leaf, entry)


def _side(receipt: Receipt, value: bytes) -> str:
    """Which commitment of the leaf, `x.value` or `x.in.value`, is to this value."""
    evidence = (_object(receipt.entry) or {}).get("x")
    evidence = evidence if isinstance(evidence, dict) else {}
    came = evidence.get("in")
    found = {"out": evidence.get("value"), "in": came.get("value") if isinstance(came, dict) else None}
    expected = b"" if receipt.salt is None else commitment(receipt.salt, value).encode()
    for side, said in found.items() if expected else ():
        if isinstance(said, str) and hmac.compare_digest(said.encode("utf-8", "replace"), expected):
            return side
    raise ReceiptError("the leaf of this receipt does not speak of this value, or the salt is of another one")


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _is_canonical(value: dict[str, Any], data: bytes | None) -> bool:
    try:
        return canonical(value) == data
    except (ValueError, RecursionError):  # a lone surrogate has no UTF-8
        return False


def _salt(text: str) -> bytes:
    try:
        salt = urlsafe_b64decode(text + "=")  # 32 bytes are 43 characters and one of padding
    except ValueError:
        salt = b""
    if len(salt) != SALT_BYTES or b64url(salt) != text:
        raise ReceiptError(f"the salt of a receipt is not {SALT_BYTES} bytes in canonical base64url")
    return salt
