"""A witness on the network (c2sp.org/tlog-witness): /add-checkpoint, and what it cosigned last for monitors.

Probes and metrics have a port of their own, that need not be shown to the world.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web
from prometheus_client import Counter, Gauge, generate_latest

from broker.app.health import HealthServer
from broker.app.scrape import new_registry
from broker.audit.log.note import Cosigner, NoteError
from broker.errors import BrokerError, ConfigError, told
from broker.tls import is_loopback
from broker.witness.cosign import MAX_BODY_BYTES, Cosigned, Refused, Request, Suspicion, TrustedLogs, judge
from broker.witness.state import State, origin_hash

log = structlog.get_logger("broker.witness")

SIZE_TYPE: Final = "text/x.tlog.size"
BODY_S: Final = 10.0  # to send a request of 64 KiB; who needs longer holds a place that others need
MAX_EVIDENCE: Final = 1_000  # files of one kind: real checkpoints with false proofs can be sent by anybody


class WitnessMetrics:
    """What is counted."""

    def __init__(self) -> None:
        self.registry = registry = new_registry()
        self.answers = Counter(
            "broker_witness_answers_total", "Answers by HTTP status.", ("status",), registry=registry
        )
        self.size = Gauge(
            "broker_witness_leaves", "Leaves of the last cosigned checkpoint.", ("origin",), registry=registry
        )
        self.alarms = Counter(
            "broker_witness_alarms_total",
            "Checkpoints that a log signed and that do not continue the last one; kind fork: that is proven.",
            ("origin", "kind"),
            registry=registry,
        )

    def text(self) -> bytes:
        """For Prometheus."""
        return generate_latest(self.registry)


class Witness:
    """Answers requests, and keeps what it knows in a folder.

    Args:
        state: of this witness alone. cosigner: its key. trusted: the logs that it watches.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        state: State,
        cosigner: Cosigner,
        trusted: TrustedLogs,
        metrics: WitnessMetrics | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state, self._cosigner, self._trusted, self._clock = state, cosigner, trusted, clock
        self.metrics = metrics or WitnessMetrics()
        for origin in trusted.origins:
            for kind in Suspicion:
                self.metrics.alarms.labels(origin, kind.value)  # 0 is told too: an alarm rule needs the series

    def add(self, body: bytes) -> Cosigned | Refused:
        """Answer the body of a request to add-checkpoint. What is cosigned is on the disk before this returns.

        Raises:
            StateDamaged, OSError: nothing may be answered but that it failed.
        """
        try:
            request = Request.parse(body)
        except NoteError as error:
            return Refused(400, str(error))
        while True:  # each time around, another request of this log was cosigned
            known = self._state.get(request.origin) if self._trusted.get(request.origin) else None
            decision = judge(request, known, self._trusted, self._cosigner, int(self._clock()))
            if isinstance(decision, Refused):
                if decision.suspicion is not None and known is not None:
                    self._alarm(request, known, decision)
                return decision
            if self._state.replace(request.origin, known, decision.note):
                self.metrics.size.labels(request.origin).set(decision.size)
                return decision

    def last(self, hashed: str) -> bytes | None:
        """The note that was cosigned last for a log, by the hash of its origin; None if there is none."""
        for origin in self._trusted.origins:
            if origin_hash(origin) == hashed:
                return self._state.get(origin)
        return None

    def _alarm(self, request: Request, known: bytes, refused: Refused) -> None:
        """Call a person, and keep both notes: each is signed by the log, so neither can be denied."""
        kind = (refused.suspicion or Suspicion.UNPROVEN).value
        self.metrics.alarms.labels(request.origin, kind).inc()
        name = f"{kind}-{sha256(known + request.note).hexdigest()[:32]}"
        kept = self._keep(kind, name, known, request.note)
        log.error(
            f"witness.{kind}", origin=request.origin, size=request.size, reason=refused.reason, evidence=name, kept=kept
        )  # fmt: skip

    def _keep(self, kind: str, name: str, known: bytes, shown: bytes) -> bool:
        folder = self._state.folder
        if (folder / f"{name}.shown").exists():
            return True
        if sum(1 for _ in folder.glob(f"{kind}-*.shown")) >= MAX_EVIDENCE:
            return False
        try:
            self._state.keep(f"{name}.cosigned", known)
            self._state.keep(f"{name}.shown", shown)
        except OSError:
            return False  # the refusal stands all the same, and the log line says that nothing was kept
        return True


def application(witness: Witness) -> web.Application:
    """The public paths of a witness."""

    async def add(request: web.Request) -> web.Response:
        response = await _answer(witness, request)
        witness.metrics.answers.labels(response.status).inc()
        return response

    async def last(request: web.Request) -> web.Response:
        try:
            note = await asyncio.to_thread(witness.last, request.match_info["hash"])
        except (BrokerError, OSError) as error:
            return _failed(error)
        if note is None:
            return web.Response(status=404, text="no checkpoint was cosigned for that log\n")
        return web.Response(body=note, content_type="text/plain", charset="utf-8")

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_post("/add-checkpoint", add)
    app.router.add_get("/{hash:[0-9a-f]{64}}/checkpoint", last)
    return app


async def _answer(witness: Witness, request: web.Request) -> web.Response:
    try:
        async with asyncio.timeout(BODY_S):
            body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        return web.Response(status=413, text=f"a request has at most {MAX_BODY_BYTES} bytes\n")
    except TimeoutError:
        return web.Response(status=408, text=f"the request did not come within {BODY_S:g} seconds\n")
    try:
        decision = await asyncio.to_thread(witness.add, body)
    except (BrokerError, OSError) as error:
        return _failed(error)
    if isinstance(decision, Cosigned):
        return web.Response(body=decision.lines, content_type="text/plain", charset="utf-8")
    if decision.size is not None:
        return web.Response(
            status=decision.status, body=f"{decision.size}\n".encode(), headers={"Content-Type": SIZE_TYPE}
        )
    return web.Response(status=decision.status, text=f"{decision.reason}\n")


def _failed(error: BrokerError | OSError) -> web.Response:
    log.error("witness.failed", error=told(error))
    return web.Response(status=500, text="the witness can not rely on its state; nothing was cosigned\n")


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a witness listens.

    Args:
        host, port: 0 takes a free port. http: host and port of probes and metrics; None: none.
        cert_file, cert_key_file: PEM, of TLS.
        insecure_plaintext: listen beyond this machine without TLS, because a proxy in front has it.

    Raises:
        ConfigError: `witness.tls`.
    """

    host: str = "127.0.0.1"
    port: int = 0
    http: tuple[str, int] | None = None
    cert_file: Path | None = None
    cert_key_file: Path | None = None
    insecure_plaintext: bool = False

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.cert_key_file is None):
            raise ConfigError("TLS needs both a certificate and its key.", code="witness.tls")
        if self.cert_file is None and not self.insecure_plaintext and not is_loopback(self.host):
            raise ConfigError(
                f"The witness would listen on {self.host} without TLS. Give --cert and --cert-key, or say "
                "--insecure-plaintext if a proxy in front of it has the certificate.",
                code="witness.tls",
            )

    def context(self) -> ssl.SSLContext | None:
        """Of TLS; None without a certificate.

        Raises:
            ConfigError: `witness.tls`: the files can not be used.
        """
        if self.cert_file is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.cert_file, self.cert_key_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"{self.cert_file} and {self.cert_key_file} are no certificate with its key "
                f"({error.strerror or type(error).__name__}).",
                code="witness.tls",
            ) from error
        return context


class WitnessServer:
    """Listens. Use `async with`.

    Args:
        listening: where.
    """

    def __init__(self, witness: Witness, listening: Listening) -> None:
        self._witness, self._listening = witness, listening
        self._stack = AsyncExitStack()
        self.port = self.http_port = 0

    async def __aenter__(self) -> WitnessServer:
        """Listen; the ports that were taken are in `port` and `http_port`."""
        context = self._listening.context()
        async with AsyncExitStack() as stack:
            runner = web.AppRunner(application(self._witness), access_log=None)
            stack.push_async_callback(runner.cleanup)
            await runner.setup()
            await web.TCPSite(runner, self._listening.host, self._listening.port, ssl_context=context).start()
            self.port = runner.addresses[0][1]
            if self._listening.http is not None:
                health = HealthServer(lambda: True, lambda: True, self._witness.metrics.text)
                stack.push_async_callback(health.stop)
                await health.start(*self._listening.http)
                self.http_port = health.port
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Answer what came, then end."""
        await self._stack.aclose()
