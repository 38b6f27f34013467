"""Have an authority of time stamps (RFC 3161) stamp, each hour, what all logs show; see `broker.audit.anchor`.

    gather the checkpoints -> ask -> verify the answer -> `anchor/<yyyymmddhh>.txt` -> `anchor/<yyyymmddhh>.tsr`

The second file makes an anchor: killed before it, the hour has none, and the next try takes the texts anew. An anchor
that is there is never replaced. Nothing leaves this machine but a hash: the authority learns of no log and no size.
"""

from __future__ import annotations

import asyncio
import fcntl
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import aiohttp
import structlog
from cryptography import x509
from prometheus_client import Counter, Gauge, generate_latest

from broker.app.health import HealthServer
from broker.app.scrape import new_registry
from broker.audit.anchor import MAX_TOKEN_BYTES, AnchorError, check_token, request_for, text_of, time_in
from broker.audit.log.directory import HistoryDiffers
from broker.durable import sync_folder, write_over
from broker.errors import BrokerError, ConfigError, TransientError, told
from broker.tls import client_context, may_be_asked

log = structlog.get_logger("broker.auditlog")

CODE: Final = "auditlog.anchor"
FOLDER: Final = "anchor"
MAX_SKEW_S: Final = 600.0
RETRY_S: Final = 60.0
QUERY, REPLY = "application/timestamp-query", "application/timestamp-reply"  # RFC 3161 section 3.4


@dataclass(frozen=True, slots=True)
class Authority:
    """Whom to ask.

    Args:
        url: of the service. certificates: trusted to tell the time: those of the authority's root.
        ca_file: PEM, for TLS; None: whom the operating system trusts.
        insecure_plaintext: http to another machine. The answer is signed, verified and bound to the question all the
            same; who sits in between can see that one is asked, and keep the answer back.
        timeout_s: for one answer.

    Raises:
        ConfigError: `auditlog.anchor`.
    """

    url: str
    certificates: tuple[x509.Certificate, ...]
    ca_file: Path | None = None
    insecure_plaintext: bool = False
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if not may_be_asked(self.url, plaintext=self.insecure_plaintext):
            raise ConfigError(
                "The URL of the authority of time stamps is not https://host/path, without login or query. Many have "
                "http only: say --insecure-plaintext then; what it signs is verified all the same.",
                code=CODE,
            )
        if not self.certificates:
            raise ConfigError("No certificate says which authority of time stamps is trusted.", code=CODE)

    def context(self) -> ssl.SSLContext:
        """Of TLS."""
        return client_context(self.ca_file, CODE)


class AnchorFolder:
    """The anchors beside the logs.

    Args:
        logs: folder of all logs.
    """

    def __init__(self, logs: Path) -> None:
        self.path = logs / FOLDER

    def files(self, hour: str) -> tuple[Path, Path]:
        """Text and time stamp."""
        return self.path / f"{hour}.txt", self.path / f"{hour}.tsr"

    def hours(self) -> list[str]:
        """Of all anchors, oldest first."""
        return sorted(path.stem for path in self.path.glob("*.tsr"))

    def store(self, hour: str, text: bytes, token: bytes) -> bool:
        """Keep an anchor; tells whether it was kept: the first of an hour is.

        Raises:
            TransientError: another process is at it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        files = self.files(hour)
        with self._alone():
            if files[1].exists():
                return False
            for file, data in zip(files, (text, token), strict=True):
                temporary = file.with_suffix(f"{file.suffix}.new")
                write_over(temporary, data)
                temporary.replace(file)
                sync_folder(self.path)
            return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.path / ".lock").open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise TransientError("another process is writing an anchor; try again", code=CODE) from None
            yield


def mirror_anchors(source: Path, target: Path) -> int:
    """Copy the anchors between two folders of all logs that the second has not; tells how many.

    Raises:
        HistoryDiffers: it has another one for the same hour, or one here is half gone; all others were copied.
    """
    there, here = AnchorFolder(target), AnchorFolder(source)
    copied, wrong = 0, list[str]()
    for hour in here.hours():
        try:
            text, token = (file.read_bytes() for file in here.files(hour))
            if there.store(hour, text, token):
                copied += 1
            elif (text, token) != tuple(file.read_bytes() for file in there.files(hour)):
                wrong.append(hour)
        except FileNotFoundError:
            wrong.append(hour)
    if wrong:
        raise HistoryDiffers(
            f"The copy has another anchor of {', '.join(wrong)}, or of one a file is missing. Nothing was copied over "
            f"it; keep both. All others were copied, {copied} of them new."
        )
    return copied


async def anchor(
    logs: Path, authority: Authority, session: aiohttp.ClientSession, clock: Callable[[], float] = time.time
) -> tuple[str, datetime] | None:
    """Have what the logs show now stamped; None if there is an anchor of this hour.

    Args:
        clock: seconds since 1970.

    Returns:
        The hour, and the time that the authority told.

    Raises:
        AnchorError: the answer does not show what it should. TransientError: there was none.
        ConfigError: there is no log, or the library is not installed.
    """
    folder, hour = AnchorFolder(logs), f"{datetime.fromtimestamp(clock(), UTC):%Y%m%d%H}"
    if folder.files(hour)[1].exists():
        return None
    text = await asyncio.to_thread(text_of, logs)
    request = request_for(text)
    token = await _ask(authority, session, request.as_bytes())
    at = check_token(token, text, authority.certificates, request)
    if abs(at.timestamp() - clock()) > MAX_SKEW_S:
        raise AnchorError(
            f"The authority's clock shows {at:%Y-%m-%d %H:%M:%S} UTC, more than {MAX_SKEW_S:.0f} seconds from this "
            f"machine's: one of the two is wrong. Nothing was kept."
        )
    return (hour, at) if await asyncio.to_thread(folder.store, hour, text, token) else None


async def _ask(authority: Authority, session: aiohttp.ClientSession, request: bytes) -> bytes:
    headers, timeout = {"Content-Type": QUERY}, aiohttp.ClientTimeout(total=authority.timeout_s)
    try:
        async with session.post(
            authority.url, data=request, headers=headers, timeout=timeout, allow_redirects=False
        ) as answer:
            kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            if (answer.status, kind) != (200, REPLY):
                raise TransientError(
                    f"The authority of time stamps answers {answer.status}, and no time stamp. Check its address.",
                    code=CODE,
                )
            said = bytearray()
            async for chunk in answer.content.iter_chunked(8192):
                said += chunk
                if len(said) > MAX_TOKEN_BYTES:
                    raise AnchorError(f"The authority answers with more than {MAX_TOKEN_BYTES} bytes.")
            return bytes(said)
    except (TimeoutError, aiohttp.ClientError) as error:
        raise TransientError(
            f"The authority of time stamps can not be reached ({type(error).__name__}).", code=CODE
        ) from error


def session_for(authority: Authority) -> aiohttp.ClientSession:
    """To ask with; to be closed."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=authority.context()), cookie_jar=aiohttp.DummyCookieJar()
    )


class AnchorMetrics:
    """What is counted."""

    def __init__(self) -> None:
        self.registry = registry = new_registry()
        self.at = Gauge(
            "broker_auditlog_anchor_timestamp_seconds", "When the logs were stamped last; 0: never.", registry=registry
        )
        self.failures = Counter(
            "broker_auditlog_anchor_failures_total", "Tries without a time stamp, by error.", ("code",),
            registry=registry,
        )  # fmt: skip

    def text(self) -> bytes:
        """For Prometheus."""
        return generate_latest(self.registry)


class AnchorService:
    """Stamps, until cancelled.

    Args:
        logs: folder of all logs. every_s: from one anchor to the next; there is one an hour at most.
        http: host and port of probes and metrics; None: none. clock: seconds since 1970.
    """

    def __init__(
        self,
        logs: Path,
        authority: Authority,
        *,
        every_s: float = 3600.0,
        http: tuple[str, int] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._logs, self._authority, self._every_s, self._http, self._clock = logs, authority, every_s, http, clock
        self._good = False
        self.metrics = AnchorMetrics()

    async def run(self) -> None:
        """A try that fails is told, and made again a minute later."""
        health = HealthServer(lambda: True, lambda: self._good, self.metrics.text)
        if self._http is not None:
            await health.start(*self._http)
        try:
            self._remember()
            async with session_for(self._authority) as session:
                while True:
                    pause_s = await self.round(session)
                    await asyncio.sleep(pause_s)
        finally:
            await health.stop()

    async def round(self, session: aiohttp.ClientSession) -> float:
        """One try; for how many seconds to pause then."""
        try:
            done = await anchor(self._logs, self._authority, session, self._clock)
        except (BrokerError, OSError) as error:
            self._good, retry_s = False, min(RETRY_S, self._every_s)
            code = error.code if isinstance(error, BrokerError) else "files"
            self.metrics.failures.labels(code).inc()
            log.warning("auditlog.anchor.failed", error=told(error), retry_s=retry_s)
            return retry_s
        self._good = True
        if done is not None:
            self.metrics.at.set(done[1].timestamp())
            log.info("auditlog.anchored", hour=done[0])
        return self._every_s

    def _remember(self) -> None:
        """The age of the last anchor goes on counting when the process begins again."""
        folder = AnchorFolder(self._logs)
        for hour in folder.hours()[-1:]:
            try:
                self.metrics.at.set(time_in(folder.files(hour)[1].read_bytes()).timestamp())
            except (AnchorError, OSError) as error:
                log.warning("auditlog.anchor.damaged", hour=hour, error=type(error).__name__)
