"""The service on the network: HTTPS with a client certificate that must be there, five paths, and few words.

Probes and metrics have a port of their own. No line of its log and no error has anything of what was asked.
"""

from __future__ import annotations

import asyncio
import json
import math
import sqlite3
import ssl
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Protocol, cast

import structlog
from aiohttp import web
from prometheus_client import Counter as Total
from prometheus_client import Histogram, generate_latest

from broker.app.health import HealthServer
from broker.app.scrape import Certificates, new_registry
from broker.auditserve import lezen
from broker.auditserve.bucket import TokenBuckets
from broker.auditserve.desk import Desk
from broker.auditserve.questions import MOST_BODY_BYTES
from broker.auditserve.rights import Question
from broker.errors import AccessDenied, BrokerError, ConfigError, ContractError, TransientError

log = structlog.get_logger("broker.auditserve")

BODY_S: Final = 10.0
HANDSHAKE_S: Final = 10.0
KEEP_ALIVE_S: Final = 30.0
CONNECTION_S: Final = 300.0  # of one connection, whatever goes on; a client opens another one
MOST_CONNECTIONS: Final = 20  # of one certificate
PER_S, BURST = 2.0, 20
SECONDS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
#: Codes that are no plain refusal: there is nothing of that name for who asks.
ABSENT: Final = frozenset({"audit.event", "audit.person"})

_LEZEN: Final = "/lezen/"


class Say(Protocol):
    """Makes the answer of an error."""

    def __call__(self, status: int, code: str, text: str, after_s: float | None = None) -> web.Response: ...


class ServiceMetrics:
    """What is counted; nothing of who asked, or about whom."""

    def __init__(self) -> None:
        self.registry = registry = new_registry()
        self.answers = Total(
            "broker_audit_service_answers_total", "Answers, by question and HTTP status.", ("question", "status"),
            registry=registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "broker_audit_service_seconds", "How long an answer took.", ("question",), buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self.certificates = Certificates(registry)
        for question in Question:
            self.answers.labels(question.value, "200")  # 0 is told too

    def text(self) -> bytes:
        """For Prometheus."""
        return generate_latest(self.registry)


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the service listens, and whom it lets in. Without TLS and a client's certificate there is no service.

    Args:
        host, port: 0 takes a free port. http: host and port of probes and metrics; None: none.
        cert_file, cert_key_file: its own, PEM.
        client_ca_file: who signs the certificates of boards and parties, and of nobody else; PEM. Revocation lists may
            stand in it too, one of each authority that is named.
        crl: whether revocation lists stand in it, and count.
    """

    cert_file: Path
    cert_key_file: Path
    client_ca_file: Path
    host: str = "127.0.0.1"
    port: int = 0
    http: tuple[str, int] | None = None
    crl: bool = False

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or newer that asks each client for a certificate.

        Raises:
            ConfigError: `audit.tls`: the files can not be used.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)  # trusts nobody yet, not the system's either
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        if self.crl:
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        # A session that is taken up again would not have its certificate looked at again.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        try:
            context.load_cert_chain(self.cert_file, self.cert_key_file)
            context.load_verify_locations(self.client_ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"{self.cert_file} with {self.cert_key_file}, or {self.client_ca_file}, can not be used for TLS "
                f"({error.strerror or type(error).__name__}). They must be PEM: a certificate with its key, and the "
                "authority of the clients.",
                code="audit.tls",
            ) from error
        if not context.get_ca_certs():
            raise ConfigError(
                f"{self.client_ca_file} has no authority in it, so nobody could be let in.", code="audit.tls"
            )
        return context


class _Handler(web.RequestHandler):
    """One connection: it ends in time, and is one of a few of its certificate.

    Says nothing of a request that could not be read: aiohttp would quote it, in its answer and in its log.

    Args:
        connections: by certificate, how many there are now.
    """

    def __init__(self, server: web.Server, connections: Counter[bytes], **settings: Any) -> None:
        super().__init__(server, **settings)
        self._connections = connections
        self._of: bytes | None = None
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS stands: take a place, or end."""
        super().connection_made(transport)
        name = _hash_of(transport)
        if self._connections[name] >= MOST_CONNECTIONS:
            cast("asyncio.Transport", transport).abort()
            return
        self._connections[name] += 1
        self._of = name
        self._end = asyncio.get_running_loop().call_later(CONNECTION_S, cast("asyncio.Transport", transport).abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give the place back."""
        if self._end is not None and self._of is not None:
            self._end.cancel()
            self._connections[self._of] -= 1
            if not self._connections[self._of]:
                del self._connections[self._of]
            self._of = self._end = None
        super().connection_lost(exc)

    def handle_error(
        self, request: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        del request, exc, message
        response = _error(status, "audit.http", "This is no request that can be read.")
        response.force_close()
        return response


class AuditServer:
    """Listens. Use `async with`.

    Args:
        ready: whether it could answer now.
        per_s, burst: requests that one certificate may send, in a row and at once.
    """

    def __init__(
        self,
        desk: Desk,
        listening: Listening,
        metrics: ServiceMetrics | None = None,
        *,
        ready: Callable[[], bool] = lambda: True,
        per_s: float = PER_S,
        burst: int = BURST,
    ) -> None:
        self._desk, self._listening, self._ready = desk, listening, ready
        self.metrics = metrics or ServiceMetrics()
        self.metrics.certificates.watch("service", listening.cert_file)
        self._buckets = TokenBuckets(per_s, burst)
        self.connections: Counter[bytes] = Counter()
        self._stack = AsyncExitStack()
        self.port = self.http_port = 0

    async def __aenter__(self) -> AuditServer:
        """Listen; the ports that were taken are in `port` and `http_port`."""
        context, listening = self._listening.context(), self._listening
        async with AsyncExitStack() as stack:
            app = web.Application(client_max_size=MOST_BODY_BYTES, middlewares=[self._around])
            app.router.add_post("/v1/{question:[a-z]+}", self._answer)
            app.router.add_post(lezen.PATH, self._answer)
            runner = web.AppRunner(app, access_log=None)
            stack.push_async_callback(runner.cleanup)
            await runner.setup()
            loop = asyncio.get_running_loop()
            settings: dict[str, Any] = {
                "access_log": None, "keepalive_timeout": KEEP_ALIVE_S, "auto_decompress": False,
            }  # fmt: skip

            def handler() -> _Handler:
                return _Handler(cast("web.Server", runner.server), self.connections, loop=loop, **settings)

            server = await loop.create_server(
                handler, listening.host, listening.port, ssl=context, ssl_handshake_timeout=HANDSHAKE_S
            )
            stack.callback(server.close)
            self.port = server.sockets[0].getsockname()[1]
            if listening.http is not None:
                health = HealthServer(lambda: True, self._ready, self.metrics.text)
                stack.push_async_callback(health.stop)
                await health.start(*listening.http)
                self.http_port = health.port
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Answer what came, then end."""
        await self._stack.aclose()

    @web.middleware
    async def _around(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """One count for each answer, one line of log for most; and no error that says what was asked."""
        began, asked = time.monotonic(), _question(request)
        response = await self._answered(request, handler)
        name, seconds = asked.value if asked else "other", time.monotonic() - began
        self.metrics.answers.labels(name, str(response.status)).inc()
        self.metrics.seconds.labels(name).observe(seconds)
        if response.status != HTTPStatus.TOO_MANY_REQUESTS:  # so many lines that they fill a disk
            log.info("audit.answered", reason=name, code=str(response.status), seconds=round(seconds, 3))
        return response

    async def _answered(self, request: web.Request, handler: Any) -> web.Response:
        say = _problem if _reads(request) else _error
        try:
            _, certificate = _name_of(request)
            wait = self._buckets.take(certificate)
            if wait:
                raise _Limited(wait)
            response: web.Response = await handler(request)
        except web.HTTPException as error:  # of the router, and of a body that is too large
            return say(error.status, "audit.http", f"{error.status} {error.reason}.")
        except _Limited as error:
            return say(429, "audit.rate", "Too many questions. Ask again later.", after_s=error.after_s)
        except TimeoutError:
            return say(408, "audit.http", f"The request did not come within {BODY_S:g} seconds.")
        except AccessDenied as error:
            return say(404 if error.code in ABSENT else 403, error.code, str(error))
        except TransientError as error:
            return say(503, error.code, str(error), after_s=1.0)
        except ContractError as error:
            if error.code.startswith("audit."):
                return say(400, error.code, str(error))
            return _failed(error, say)
        except (BrokerError, OSError, sqlite3.Error) as error:
            return _failed(error, say)
        except Exception as error:  # noqa: BLE001 - aiohttp would put a traceback into its log
            return _failed(error, say)
        return response

    async def _answer(self, request: web.Request) -> web.Response:
        name, _ = _name_of(request)
        question = _question(request)
        if question is None:
            raise web.HTTPNotFound
        async with asyncio.timeout(BODY_S):
            body = await request.read()
        answer = await self._desk.answer(name, question, body)
        text = await asyncio.to_thread(json.dumps, answer, ensure_ascii=False)
        return _versioned(_response(200, text)) if _reads(request) else _response(200, text)


class _Limited(Exception):
    """Too many requests; there may be another one after so many seconds."""

    def __init__(self, after_s: float) -> None:
        self.after_s = after_s


def _question(request: web.Request) -> Question | None:
    if request.path == lezen.PATH:
        return Question.LINES
    name = request.match_info.get("question", "")
    return Question(name) if name in set(Question) else None


def _name_of(request: web.Request) -> tuple[str, bytes]:
    """The name in the client's certificate, and the certificate's hash.

    Raises:
        AccessDenied: `audit.who`: there is none, it is over, or it has not exactly one common name.
    """
    transport = request.transport
    connection: ssl.SSLObject | None = None if transport is None else transport.get_extra_info("ssl_object")
    found: Any = None if connection is None else connection.getpeercert()
    names = [value for part in (found or {}).get("subject", ()) for kind, value in part if kind == "commonName"]
    # A connection may last longer than the certificate.
    if transport is None or not found or len(names) != 1 or ssl.cert_time_to_seconds(found["notAfter"]) <= time.time():
        raise AccessDenied("A valid client certificate with one common name is needed.", code="audit.who")
    return str(names[0]), _hash_of(transport)


def _hash_of(transport: asyncio.BaseTransport) -> bytes:
    """Of the certificate behind a connection."""
    connection: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    return sha256((connection and connection.getpeercert(binary_form=True)) or b"").digest()


def _reads(request: web.Request) -> bool:
    """Whether it is to the read interface of the Logboek, which has a form of its own for errors."""
    return request.path.startswith(_LEZEN)


def _failed(error: BaseException, say: Say) -> web.Response:
    ours = error if isinstance(error, BrokerError) else None
    if ours is not None and ours.code == lezen.UNPROVEN:  # how many lines there are is for who asked
        log.error("audit.failed", error=type(error).__name__, code=ours.code)
        return say(500, ours.code, str(ours))
    text = None if ours is None else str(ours)  # of store, logs and keys; what was asked is in no error of ours
    log.error("audit.failed", error=type(error).__name__, code=None if ours is None else ours.code, text=text)
    return say(500, "audit.failed", "The service can not answer; its operator finds the reason in its log.")


def _error(status: int, code: str, text: str, after_s: float | None = None) -> web.Response:
    response = _response(status, json.dumps({"error": {"code": code, "text": text}}, ensure_ascii=False))
    if after_s is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(after_s)))
    return response


def _problem(status: int, code: str, text: str, after_s: float | None = None) -> web.Response:
    """The same as a problem of RFC 9457; its members `type` and `title` say no more than the status does."""
    title = HTTPStatus(status).phrase
    problem = {"type": "about:blank", "title": title, "status": status, "detail": text, "code": code}
    response = _versioned(_error(status, code, text, after_s))
    response.text = f"{json.dumps(problem, ensure_ascii=False)}\n"
    response.content_type = "application/problem+json"
    return response


def _versioned(response: web.Response) -> web.Response:
    response.headers["API-Version"] = lezen.API_VERSION
    return response


def _response(status: int, text: str) -> web.Response:
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.Response(status=status, text=f"{text}\n", content_type="application/json", headers=headers)
