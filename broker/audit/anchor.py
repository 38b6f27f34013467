"""Anchors: what all logs showed at some moment, stamped by an authority that is not ours (RFC 3161).

    anchor/<yyyymmddhh>.txt   the signed checkpoints of all logs, one behind the other, by origin and size
    anchor/<yyyymmddhh>.tsr   the authority's answer (TimeStampResp, DER): the SHA-256 of that file, and a time

The checkpoints are whole notes, with their signatures: so an anchor also shows that a signature was there before the
key that made it was retired, or came into other hands. Both what readers see (`checkpoint`) and what witnesses signed
(`checkpoint.w`) are in it, where these differ: while a witness is away, time does not stand still.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509

from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.directory import CHECKPOINT, LogDirectory
from broker.audit.log.merkle import consistency_proof, verify_consistency
from broker.audit.log.note import NoteError, Verifier, split_note
from broker.audit.signed import SignedLog, folders, signed_by_log
from broker.errors import BrokerError, ConfigError, ContractError

if TYPE_CHECKING:
    from rfc3161_client import TimeStampRequest

CODE: Final = "audit.anchor"
MAX_TEXT_BYTES: Final = 1 << 24
MAX_TOKEN_BYTES: Final = 1 << 17
_NOTE: Final = re.compile(rb"[^\n]+\n[0-9]+\n[^\n]+\n\n(?:\xe2\x80\x94 [^\n]+\n)+")


class AnchorError(ContractError):
    """An anchor that is damaged, or does not show what it should."""

    default_code = CODE


@dataclass(frozen=True, slots=True)
class Anchored:
    """A checkpoint in an anchor; nothing of it is verified yet."""

    checkpoint: Checkpoint
    note: bytes

    @classmethod
    def read(cls, note: bytes) -> Anchored:
        """Of a note.

        Raises:
            NoteError: it is no checkpoint.
        """
        return cls(Checkpoint.parse(split_note(note)[0]), note)

    @property
    def order(self) -> tuple[str, int, bytes]:
        """By which they stand in the file."""
        return self.checkpoint.origin, self.checkpoint.size, self.note


def text_of(root: Path) -> bytes:
    """What is stamped: the checkpoints that the logs in the folder of all logs show.

    Raises:
        ConfigError: there is none. NoteError: one is damaged.
    """
    found = []
    for folder in folders(root):
        directory = LogDirectory(folder)
        shown, cosigned = directory.checkpoint(), directory.cosigned()
        if cosigned is not None:
            found.append(Anchored.read(cosigned))
        if shown is not None and (cosigned is None or split_note(shown)[0] != split_note(cosigned)[0]):
            found.append(Anchored.read(shown))
    return b"".join(each.note for each in sorted(found, key=lambda each: each.order))


def parse_text(text: bytes) -> list[Anchored]:
    """The inverse of `text_of`.

    Raises:
        AnchorError: it is not what `text_of` writes.
    """
    found, at = list[Anchored](), 0
    try:
        while at < len(text) and (note := _NOTE.match(text, at)) is not None:
            found.append(Anchored.read(note[0]))
            at = note.end()
    except NoteError as error:
        raise AnchorError(f"the text of an anchor has something else than checkpoints in it: {error}") from error
    if not found or at < len(text) or [each.order for each in found] != sorted({each.order for each in found}):
        raise AnchorError("the text of an anchor is not signed checkpoints, one behind the other, in their order")
    return found


def authorities_in(file: Path) -> list[x509.Certificate]:
    """Certificates of the authorities that are trusted to tell the time, PEM.

    Raises:
        ConfigError: `audit.anchor`.
    """
    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{file} can not be read as certificates of an authority of time stamps (PEM): {type(error).__name__}.",
            code=CODE,
        ) from error


def request_for(text: bytes) -> TimeStampRequest:
    """A request: the SHA-256 of the text, a random nonce, and please with the certificate.

    Raises:
        ConfigError: the library is not installed.
    """
    try:
        from rfc3161_client import HashAlgorithm, TimestampRequestBuilder
    except ImportError:
        raise _not_installed() from None
    builder = TimestampRequestBuilder().data(text).hash_algorithm(HashAlgorithm.SHA256)
    return builder.nonce(nonce=True).cert_request(cert_request=True).build()


def check_token(
    token: bytes, text: bytes, authorities: Iterable[x509.Certificate], request: TimeStampRequest | None = None
) -> datetime:
    """Verify that an authority stamped a text, and when.

    The authority's certificate must have been valid at that time; it may have ended since (RFC 3161 section 4).

    Args:
        token: the answer. authorities: who is trusted. request: that it answers; None: long ago.

    Raises:
        AnchorError: it does not show that. ConfigError: the library is not installed.
    """
    try:
        from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response
    except ImportError:
        raise _not_installed() from None
    try:
        answer = decode_timestamp_response(token)
        builder = VerifierBuilder(roots=list(authorities), nonce=None if request is None else request.nonce)
        builder.build().verify_message(answer, text)
    except (VerificationError, ValueError) as error:
        raise AnchorError(f"the time stamp does not show that an authority known here saw this: {error}") from error
    return answer.tst_info.gen_time


def time_in(token: bytes) -> datetime:
    """The time that a time stamp tells; nothing is verified.

    Raises:
        AnchorError: it is no time stamp. ConfigError: the library is not installed.
    """
    try:
        from rfc3161_client import decode_timestamp_response
    except ImportError:
        raise _not_installed() from None
    try:
        return decode_timestamp_response(token).tst_info.gen_time
    except ValueError as error:
        raise AnchorError(f"this is no time stamp: {error}") from error


def _not_installed() -> ConfigError:
    return ConfigError("Time stamps need one more package: pip install 'eck-broker[tsa]'.", code=CODE)


def findings(anchored: Sequence[Anchored], root: Path, verifiers: Sequence[Verifier]) -> Iterator[str]:
    """What does not hold between an anchor and the logs as they are now, in sentences.

    Args:
        root: folder of all logs, or of a copy. verifiers: keys of the logs; of all times.
    """
    here = {}
    for folder in folders(root):
        try:
            signed = SignedLog.open(LogDirectory(folder), verifiers)
            if signed is not None:
                here[signed.checkpoint.origin] = signed
        except BrokerError as error:
            yield f"{folder / CHECKPOINT}: {error}."
    for each in anchored:
        old = each.checkpoint
        try:
            signed_by_log(each.note, verifiers)
            if old.origin not in here:
                raise NoteError("no log of that origin is here that can be relied on")
            _check_continues(old, here[old.origin])
        except BrokerError as error:
            yield f"The anchored checkpoint of {old.origin}, of {old.size} leaves: {error}."


def _check_continues(old: Checkpoint, log: SignedLog) -> None:
    now = log.checkpoint
    if old.size > now.size:
        raise NoteError(f"the log has {now.size} leaves only: leaves were taken back")
    proof = consistency_proof(old.size, now.size, log.reader.hash_at)
    verify_consistency(old.size, old.root, now.size, now.root, proof)
