"""The Logboek of one controller, as a collector of OTLP over HTTP (OTLP 1.x, section "OTLP/HTTP")."""

from __future__ import annotations

import math
import os
import random
import re
import ssl
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

import aiohttp

from broker.audit.otlp import CONTENT_TYPE, answer_of
from broker.errors import ConfigError, ContractError, TransientError
from broker.tls import client_context, is_loopback

# OTLP/HTTP, "Retryable Response Codes": these and no others.
BUSY: Final = frozenset({429, 502, 503, 504})
# They speak of the address or of who we are, not of what was sent.
NOT_OURS: Final = frozenset({401, 402, 403, 404, 405, 406, 407, 410, 411, 415, 421, 426, 431, 511})
MAX_ANSWER_BYTES: Final = 64 << 10
MAX_HEADER_FILE_BYTES: Final = 64 << 10
_HEADER: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)[ \t]*")
_OURS: Final = frozenset({"content-type", "content-length", "content-encoding", "host", "transfer-encoding"})


class Busy(TransientError):
    """The collector took nothing now, and may later.

    Args:
        after_s: seconds that it asks to wait, or None.
    """

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message, code="ldv.busy")
        self.after_s = after_s


class Rejected(ContractError):
    """The collector does not take what was sent, or not all of it."""

    default_code = "ldv.rejected"


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long to wait before the same lines are sent again; seconds.

    Args:
        first, longest: bounds of the doubling; of each pause a random part is taken ("full jitter"), so that the
            exporters of many boards do not come back at once.
        asked: the longest that a collector's own `Retry-After` is waited for.
    """

    first: float = 0.5
    longest: float = 60.0
    asked: float = 3600.0

    def before(self, attempt: int, after_s: float | None, part: Callable[[], float] = random.random) -> float:
        """The pause before an attempt (1 is the first repetition).

        Args:
            after_s: what the collector asked for; it is the least, and the random part comes on top.
        """
        # Not doubled for ever: a collector may be away for days.
        own = min(self.longest, self.first * 2.0 ** min(attempt - 1, 32)) * part()
        return own if after_s is None else min(after_s, self.asked) + min(own, self.first)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the lines go, and as who.

    Args:
        url: of the collector's traces, mostly ending in /v1/traces.
        headers: sent along; they hold secrets.
        context: of TLS; None for http.
    """

    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    context: ssl.SSLContext | None = None

    @classmethod
    def of(
        cls,
        url: str,
        *,
        header_file: Path | None = None,
        ca_file: Path | None = None,
        insecure_plaintext: bool = False,
    ) -> Self:
        """Check an address.

        Args:
            header_file: see `headers_of`.
            ca_file: PEM; without it the authorities of the operating system count.
            insecure_plaintext: allow http to another machine, where everybody in between reads along.

        Raises:
            ConfigError: `ldv.endpoint`, `ldv.headers`.
        """
        problem = ConfigError("The endpoint is not an address such as https://logboek.example/v1/traces.",
                              code="ldv.endpoint")  # fmt: skip
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise problem from None
        if parts.scheme not in ("http", "https") or not host or parts.fragment:
            raise problem
        if parts.username is not None or parts.password is not None or parts.query:
            raise ConfigError(
                "The endpoint holds a login or a query: addresses end in logs. Put secrets into --header-file.",
                code="ldv.endpoint",
            )
        if parts.scheme == "http" and not insecure_plaintext and not is_loopback(host):
            raise ConfigError(
                "The endpoint is http on another machine: everybody in between could read and change the lines. "
                "Use https, or say --insecure-plaintext if something else protects the way.",
                code="ldv.endpoint",
            )
        headers = () if header_file is None else headers_of(header_file)
        return cls(url, headers, client_context(ca_file, "ldv.endpoint") if parts.scheme == "https" else None)


def headers_of(path: Path) -> tuple[tuple[str, str], ...]:
    """Read a file of headers, one `Name: value` a line; # begins a comment. Only its owner may read it.

    Raises:
        ConfigError: `ldv.headers`, with the number of the line and never its text.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ConfigError(
                    f"The header file {path} holds a secret and others can read it. Run: chmod 600 {path}",
                    code="ldv.headers",
                )
            text = file.read(MAX_HEADER_FILE_BYTES).decode("ascii")
    except OSError as error:
        raise ConfigError(
            f"The header file {path} cannot be read: {error.strerror}. Check the path.", code="ldv.headers"
        ) from error
    except UnicodeDecodeError:
        raise ConfigError(
            f"The header file {path} has letters outside ASCII, which HTTP does not allow.", code="ldv.headers"
        ) from None
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        header = _HEADER.fullmatch(line.rstrip("\r"))
        if header is None or header[1].lower() in _OURS:
            raise ConfigError(
                f"Line {number} of the header file {path} is not `Name: value`, or a header that belongs to the "
                "request itself, such as Content-Type.",
                code="ldv.headers",
            )
        found.append((header[1], header[2]))
    return tuple(found)


class Collector:
    """Sends requests to an endpoint, one at a time. Use `async with`.

    Args:
        timeout_s: for one request with its answer.
    """

    def __init__(self, endpoint: Endpoint, timeout_s: float = 30.0) -> None:
        self._endpoint, self._timeout_s = endpoint, timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Nothing is connected yet."""
        connector = aiohttp.TCPConnector(ssl=self._endpoint.context or True, limit=1)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            headers={**dict(self._endpoint.headers), "Content-Type": CONTENT_TYPE},
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()

    async def send(self, body: bytes) -> None:
        """Send one request; it returns when all lines in it are taken.

        Raises:
            Busy: nothing is known to be taken; the same again later.
            Rejected: of these lines at least one is not taken.
            ConfigError: `ldv.endpoint`, the address, its certificate or the login is wrong, whatever is sent.
        """
        if self._session is None:
            raise ConfigError("The collector was not opened; use `async with`.", code="ldv.endpoint")
        try:
            # No redirects: one to http, or to another host, would carry the lines and the secret there.
            async with self._session.post(self._endpoint.url, data=body, allow_redirects=False) as answer:
                kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
                said = await _whole(answer) if answer.status == 200 else b""
                _judge(answer.status, kind, said, _retry_after(answer.headers.get("Retry-After")))
        except aiohttp.ClientConnectorCertificateError as error:
            raise ConfigError(
                "The certificate of the endpoint is not trusted, or is for another host. Nothing was sent. Give the "
                "authority that signed it with --ca-file, and use the host name that is in the certificate.",
                code="ldv.endpoint",
            ) from error
        except TimeoutError:
            raise Busy(f"The collector did not answer within {self._timeout_s:g} seconds.") from None
        except aiohttp.ClientError as error:
            raise Busy(f"The collector can not be reached ({type(error).__name__}).") from error


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    """All of the answer: half a message is one as well to protobuf, and it may lack what was rejected."""
    said = bytearray()
    async for chunk in answer.content.iter_chunked(8192):
        said += chunk
        if len(said) > MAX_ANSWER_BYTES:
            raise ConfigError(
                f"The endpoint answers with more than {MAX_ANSWER_BYTES} bytes: it is not a collector of OTLP. Check "
                "its address.",
                code="ldv.endpoint",
            )
    return bytes(said)


def _judge(status: int, kind: str, said: bytes, after_s: float | None) -> None:
    if status == 200:
        # A portal or a proxy that answers with a page of its own took nothing.
        if kind != CONTENT_TYPE:
            raise ConfigError(
                f"The endpoint answers 200, and not as {CONTENT_TYPE}: it is not a collector of OTLP. Check the "
                "address; mostly it ends in /v1/traces.",
                code="ldv.endpoint",
            )
        try:
            rejected = answer_of(said).rejected
        except ContractError as error:
            raise ConfigError(f"{error} Check the address of the endpoint.", code="ldv.endpoint") from error
        if rejected:
            raise Rejected(f"The collector does not take {rejected} of the lines.")
        return
    if status in BUSY:
        raise Busy(f"The collector answers {status}.", after_s)
    if status < 400 or status in NOT_OURS:
        raise ConfigError(
            f"The endpoint answers {status}: it does not take lines from us, whatever they are. Check its address and "
            "the login in --header-file.",
            code="ldv.endpoint",
        )
    raise Rejected(f"The collector answers {status}.")


def _retry_after(header: str | None) -> float | None:
    """Seconds, or a date (RFC 9110, section 10.2.3); anything else is as if absent."""
    if header is None:
        return None
    if re.fullmatch(r"[0-9]{1,18}", header.strip()):
        return float(header)
    with suppress(ValueError, TypeError):
        moment = parsedate_to_datetime(header)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return math.ceil(max(0.0, (moment - datetime.now(UTC)).total_seconds()))
    return None
