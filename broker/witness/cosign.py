"""One request to a witness: a cosignature, or a refusal (c2sp.org/tlog-witness, "add-checkpoint"). Pure.

    old <size>                the size that the witness cosigned last, as the client believes
    <base64>                  the consistency proof, at most 63 hashes
                              (empty line)
    <the signed checkpoint>

Extension lines in a checkpoint are not taken: our logs have none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from broker.audit.log.checkpoint import MAX_SIZE, Checkpoint, parse_decimal
from broker.audit.log.merkle import EMPTY_ROOT, HASH_BYTES, ProofError, verify_consistency
from broker.audit.log.note import ED25519, Cosigner, NoteError, Verifier, decode_base64, open_note, render, split_note
from broker.errors import ConfigError

MAX_PROOF: Final = 63
MAX_BODY_BYTES: Final = 64 << 10  # a proof is at most 2.9 KB; that leaves room for some 15 ML-DSA signatures


class Suspicion(Enum):
    """What a checkpoint that the log signed says about the log."""

    FORK = "fork"  # the two signed notes alone prove it
    UNPROVEN = "unproven"  # it may as well be that somebody sent a real checkpoint with a false proof


@dataclass(frozen=True, slots=True)
class Request:
    """What was sent; nothing of it is verified.

    Args:
        old: size. proof: 32 bytes each. origin, size, root: of the checkpoint. note: the checkpoint, signed.
    """

    old: int
    proof: tuple[bytes, ...]
    origin: str
    size: int
    root: bytes
    note: bytes

    @classmethod
    def parse(cls, body: bytes) -> Request:
        """Read the body of a request.

        Raises:
            NoteError: for any other form.
        """
        head, gap, note = body.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            lines = [""]
        if not gap or not lines[0].startswith("old "):
            raise NoteError("a request is not `old <size>`, hashes of a proof, an empty line and a checkpoint")
        if len(lines) - 1 > MAX_PROOF:
            raise NoteError(f"a consistency proof has more than {MAX_PROOF} hashes")
        old = _size(lines[0][4:], "the old size")
        proof = tuple(_hash(line, "a hash of the proof") for line in lines[1:])
        text = split_note(note)[0].split("\n")
        if len(text) != 4 or not text[0]:
            raise NoteError("a checkpoint is not three lines: origin, size, root")
        return cls(old, proof, text[0], _size(text[1], "the size"), _hash(text[2], "the root"), note)


@dataclass(frozen=True, slots=True)
class Cosigned:
    """To be answered when `note` is on the disk.

    Args:
        lines: the answer. note: the checkpoint with the log's verified signatures and the witness's own.
        size: of the checkpoint.
    """

    lines: bytes
    note: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Not cosigned.

    Args:
        status: of HTTP, as the protocol has it. reason: a sentence.
        size: with 409, the one that was cosigned last.
        suspicion: if a person must look.
    """

    status: int
    reason: str
    size: int | None = None
    suspicion: Suspicion | None = None


class TrustedLogs:
    """The logs that a witness knows, by origin; while a log's key is rotated it has two.

    Args:
        verifiers: each is named as the origin of its log.

    Raises:
        ConfigError: `witness.logs`: none at all, or one that is no key of a log.
    """

    def __init__(self, verifiers: Iterable[Verifier]) -> None:
        found: defaultdict[str, list[Verifier]] = defaultdict(list)
        for verifier in verifiers:
            if verifier.kind != ED25519:
                raise ConfigError(f"The key of {verifier.name} is not that of a log (type 1).", code="witness.logs")
            if verifier not in found[verifier.name]:
                found[verifier.name].append(verifier)
        if not found:
            raise ConfigError("A witness needs the public key of at least one log.", code="witness.logs")
        self._of: Mapping[str, tuple[Verifier, ...]] = {name: tuple(keys) for name, keys in found.items()}

    @property
    def origins(self) -> tuple[str, ...]:
        """Of all logs."""
        return tuple(self._of)

    def get(self, origin: str) -> tuple[Verifier, ...]:
        """The keys of a log; none if it is not known."""
        return self._of.get(origin, ())


def judge(
    request: Request, known: bytes | None, trusted: TrustedLogs, cosigner: Cosigner, now_s: int
) -> Cosigned | Refused:
    """Decide on a request. The checks stand in the order of the protocol.

    Args:
        known: the note that was cosigned last for this origin; None if none ever was.
        now_s: seconds since 1970.
    """
    keys = trusted.get(request.origin)
    if not keys:
        return Refused(404, "this witness does not know a log of that origin")
    try:
        note = open_note(request.note, keys)
    except NoteError as error:
        return Refused(403, str(error))
    if request.old > request.size:
        return Refused(400, "the old size is larger than the size of the checkpoint")
    last = None if known is None else Checkpoint.parse(split_note(known)[0])
    refusal = _compare(request, last)
    if refusal is not None:
        return refusal
    signed = {(line.name, line.key_id) for line in note.verified}
    lines = {(line.name, line.key_id): line for line in split_note(request.note)[1]}
    own = cosigner.sign(note.text, now_s)
    whole = render(note.text, [*(line for key, line in lines.items() if key in signed), own])
    return Cosigned(f"{own}\n".encode(), whole, request.size)


def _compare(request: Request, last: Checkpoint | None) -> Refused | None:
    """Hold a checkpoint that its log signed against the last one."""
    size = 0 if last is None else last.size
    fork = last is not None and request.size == last.size and request.root != last.root
    suspicion = Suspicion.FORK if fork else None
    if request.old != size:
        return Refused(409, f"the last checkpoint that was cosigned has {size} leaves", size, suspicion)
    if request.size == 0 and request.root != EMPTY_ROOT:
        return Refused(422, "the root of an empty tree is the hash of nothing", suspicion=suspicion)
    if fork:
        return Refused(422, f"another tree of {size} leaves was cosigned before", suspicion=suspicion)
    try:
        verify_consistency(size, EMPTY_ROOT if last is None else last.root, request.size, request.root, request.proof)
    except ProofError as error:
        # From an empty tree, or to the same tree, there is nothing to prove: that is a client's mistake.
        doubt = Suspicion.UNPROVEN if 0 < size < request.size else None
        return Refused(422, str(error), suspicion=doubt)
    return None


def _size(text: str, what: str) -> int:
    size = parse_decimal(text, what)
    if size > MAX_SIZE:
        raise NoteError(f"{what} is beyond 2^63 - 1")
    return size


def _hash(text: str, what: str) -> bytes:
    data = decode_base64(text, what)
    if len(data) != HASH_BYTES:
        raise NoteError(f"{what} is not 32 bytes")
    return data
