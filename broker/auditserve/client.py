"""The other side: asks the service with one's own certificate, and checks what comes back against keys one has."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from broker.audit.coordinates import shown
from broker.audit.log.note import Verifier
from broker.audit.query import Found
from broker.audit.receipt import Receipt, verify
from broker.auditserve.answers import Answer
from broker.auditserve.rights import Question
from broker.errors import AccessDenied, BrokerError, ConfigError, ContractError, TransientError
from broker.tls import client_context

ANSWER_S: Final = 60.0
MOST_ANSWER_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Service:
    """A service, and who asks it.

    Args:
        url: https://host:port. context: of TLS, with the client's certificate. verifiers: keys of logs, known here.
    """

    url: str
    context: ssl.SSLContext
    verifiers: tuple[Verifier, ...]

    @classmethod
    def of(cls, url: str, cert: Path, cert_key: Path, ca: Path | None, verifiers: Iterable[Verifier]) -> Service:
        """Check an address and read the files.

        Args:
            cert, cert_key: PEM, of the board or party. ca: who signed the service's certificate; None: an authority
                that the operating system trusts.

        Raises:
            ConfigError: `audit.service`.
        """
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise ConfigError("The address of the service must be https://host:port.", code="audit.service")
        context = client_context(ca, "audit.service")
        try:
            context.load_cert_chain(cert, cert_key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"{cert} and {cert_key} are no certificate with its key ({error.strerror or type(error).__name__}).",
                code="audit.service",
            ) from error
        return cls(url.rstrip("/"), context, tuple(verifiers))

    async def ask(self, question: Question, body: Mapping[str, Any]) -> Answer:
        """Ask, and check each row.

        Args:
            body: as `broker.auditserve.questions` reads it; without what is None.

        Raises:
            AccessDenied, ContractError: with the service's own code. TransientError: ask again later.
            ConfigError: `audit.service`: it can not be reached, or is not trusted.
        """
        asked = {name: value for name, value in body.items() if value is not None}
        timeout = aiohttp.ClientTimeout(total=ANSWER_S)
        try:
            async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
                sent = session.post(
                    f"{self.url}/v1/{question.value}", json=asked, ssl=self.context, allow_redirects=False
                )
                async with sent as answer:
                    data = await _whole(answer)
                    status = answer.status
        except (aiohttp.ClientError, ssl.SSLError, OSError) as error:
            raise _unreachable(error) from error
        content = _json(data)
        if status != 200:
            raise _refused(status, content)
        return Answer.read(content, self.verifiers)


def receipt_of(answer: Answer, salt: bytes, verifiers: Iterable[Verifier], value: bytes | None = None) -> bytes:
    """The receipt file, made here: the salt never leaves who has it.

    Args:
        answer: to the question `receipt`. salt: 32 bytes, of the record's header `audit-salt`.
        value: of that record; if given, the receipt is checked against it.

    Raises:
        ContractError: `audit.unproven`, if the row is not proven; `receipt`, if salt or value do not belong to it.
    """
    if len(answer.found) != 1:
        raise ContractError("The answer has not one leaf, so it gives no receipt.", code="audit.answer")
    found = answer.found[0]
    if found.entry is None or found.problem is not None:
        raise ContractError(f"There is no receipt for this leaf: {found.status}.", code="audit.unproven")
    receipt = Receipt(found.entry, salt, found.index, found.path, answer.notes[found.origin])
    verify(receipt, verifiers, value)
    return receipt.render()


def held_against(found: Found, asked: Mapping[str, Any]) -> Found:
    """A row that is not what was asked for is marked as such: a proof shows that a leaf is real, not that it fits.

    Args:
        asked: the question's members. Of schools and persons nothing can be said here.
    """
    leaf = found.leaf
    said = {"process": leaf.process, "decision": leaf.decision, "code": leaf.code, "event": leaf.event.lower()}
    fits = all(asked.get(name) in (None, value) for name, value in said.items())
    fits &= asked.get("party") in (None, leaf.sender, leaf.receiver)
    fits &= asked.get("receiver") in (None, leaf.receiver)
    fits &= (asked.get("since") or 0) <= leaf.time < (asked.get("until") or leaf.time + 1)
    if fits or found.problem is not None:
        return found
    return Found(found.origin, found.index, leaf, found.entry, None, "it is not what was asked for")


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for chunk in answer.content.iter_chunked(1 << 16):
        data += chunk
        if len(data) > MOST_ANSWER_BYTES:
            raise ContractError("The answer is larger than any of this service.", code="audit.answer")
    return bytes(data)


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _refused(status: int, content: Any) -> BrokerError:
    said = content.get("error") if isinstance(content, dict) else None
    said = said if isinstance(said, dict) else {}
    text = f"The service answers {status}: {shown(str(said.get('text', 'without a reason')))[:500]}"
    code = shown(str(said.get("code", "audit.service")))[:60]
    kinds: dict[int, type[BrokerError]] = {403: AccessDenied, 404: AccessDenied, 400: ContractError}
    return kinds.get(status, TransientError if status in (429, 503) else ConfigError)(text, code=code)


def _unreachable(error: Exception) -> BrokerError:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return ConfigError(
            "The service's certificate is not trusted, or is for another host. Nothing was asked. Give the authority "
            "that signed it with --ca.",
            code="audit.service",
        )
    return ConfigError(
        f"The service can not be reached, or does not take your certificate ({type(error).__name__}). Check address, "
        "--cert and its last day.",
        code="audit.service",
    )
