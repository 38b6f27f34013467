"""One question to one witness over HTTP (c2sp.org/tlog-witness, "add-checkpoint"), from the log's side."""

from __future__ import annotations

from base64 import b64encode
from typing import Final

import aiohttp

from broker.audit.log.checkpoint import Checkpoint, parse_decimal
from broker.audit.log.merkle import consistency_proof
from broker.audit.log.note import NoteError, SignatureLine, open_note, split_note
from broker.audit.log.policy import Witness
from broker.audit.log.tiles import TileReader
from broker.errors import BrokerError, TransientError
from broker.witness.server import SIZE_TYPE

MAX_ANSWER_BYTES: Final = 64 << 10


class Alarming(BrokerError):
    """A witness does not see one history, or is not the witness it should be: a person must look."""

    default_code = "auditlog.witness"


class NotCosigned(TransientError):
    """No cosignature this time.

    Args:
        kind: for metrics: a status of HTTP, or a word.
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message, code="auditlog.witness")
        self.kind = kind


def body_of(old: int, note: bytes, reader: TileReader) -> bytes:
    """A request.

    Args:
        old: size that the witness cosigned last. note: the signed checkpoint, of the size of `reader`.

    Raises:
        TileError: if a tile that the proof needs is missing.
    """
    proof = consistency_proof(old, reader.size, reader.hash_at)
    lines = [f"old {old}", *(b64encode(node).decode() for node in proof), "", ""]
    return "\n".join(lines).encode() + note


async def ask(session: aiohttp.ClientSession, witness: Witness, body: bytes, note: bytes) -> SignatureLine | int:
    """Send a request.

    Args:
        note: the checkpoint in it.

    Returns:
        The cosignature, verified; or the size that the witness cosigned last, to prove from there.

    Raises:
        Alarming: it says that the tree does not continue what it cosigned, or its signature is wrong.
        NotCosigned: anything else.
    """
    try:
        address = f"{(witness.url or '').rstrip('/')}/add-checkpoint"
        async with session.post(address, data=body, allow_redirects=False) as answer:
            said = await _whole(answer)
            status, kind = answer.status, answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    except (TimeoutError, aiohttp.ClientError) as error:
        raise NotCosigned(f"the witness {witness.name} can not be reached ({type(error).__name__})", "away") from error
    if status == 200:
        return _cosignature(witness, said, note)
    if status == 409 and kind == SIZE_TYPE:
        return _size(witness, said)
    if status == 422:
        raise Alarming(
            f"The witness {witness.name} does not see that the tree continues the one it cosigned. Compare its "
            f"checkpoint with the log's own: two histories, or a damaged tile, or a witness with old state."
        )
    raise NotCosigned(f"the witness {witness.name} answers {status}", str(status))


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    said = bytearray()
    async for chunk in answer.content.iter_chunked(8192):
        said += chunk
        if len(said) > MAX_ANSWER_BYTES:
            raise NotCosigned(f"a witness answers with more than {MAX_ANSWER_BYTES} bytes", "form")
    return bytes(said)


def _cosignature(witness: Witness, said: bytes, note: bytes) -> SignatureLine:
    text, key = split_note(note)[0], witness.verifier
    whole = f"{text}\n".encode() + said
    try:
        opened = open_note(whole, [key])
    except NoteError as error:
        raise Alarming(
            f"The witness {witness.name} gave no valid cosignature: {error}. Check its address and its key."
        ) from error
    if opened.text != text or not opened.verified[0].time_s:
        raise Alarming(f"The cosignature of the witness {witness.name} has no time, or is on another text.")
    return next(line for line in split_note(whole)[1] if (line.name, line.key_id) == (key.name, key.key_id))


def _size(witness: Witness, said: bytes) -> int:
    try:
        text = said.decode("ascii")
        if text.endswith("\n"):
            return parse_decimal(text[:-1], "the size")
    except (NoteError, UnicodeDecodeError):
        pass
    raise NotCosigned(f"the witness {witness.name} answers 409 without a size", "form")


def checkpoint_of(note: bytes) -> Checkpoint:
    """What a note of our own says; nothing is verified."""
    return Checkpoint.parse(split_note(note)[0])
