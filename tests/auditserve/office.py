"""A service in one process, over a world of the exchange: real TLS, a registry and a vault in memory."""

from __future__ import annotations

import datetime as dt
import io
import json
import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from broker.app.logs import configure
from broker.audit.indexing import index_log, index_people
from broker.audit.store import Store
from broker.auditserve.client import Service
from broker.auditserve.desk import Desk, Source
from broker.auditserve.server import AuditServer, Listening, ServiceMetrics
from broker.auditserve.service import cipher_of
from broker.client import Subject
from broker.errors import TransientError
from broker.kafka.pki import DevelopmentCA
from broker.registry import Registry
from tests.audit.signed_world import GrowingLog, audit_events, audit_index
from tests.exchange.world import DELTA, NOAH, NOW_MS, PORTAL, SIS, World, enrolment, event, make_world

BOARD, OTHER_BOARD = "bestuur-horizon", "bestuur-kompas"
LOCAL, OTHER_LOCAL = "L0001", "K0002"  # Emma's at 99PA, Noah's at 99VA


@dataclass
class Recorded:
    """Keeps leaves in memory, or says that it can not."""

    leaves: list[bytes] = field(default_factory=list)
    away: bool = False

    async def write(self, leaf: bytes) -> None:
        """See Recorder."""
        if self.away:
            raise TransientError("not recorded", code="audit.unrecorded")
        self.leaves.append(leaf)

    @property
    def said(self) -> list[dict[str, Any]]:
        """What the leaves say."""
        return [json.loads(leaf)["control"] for leaf in self.leaves]


class MemoryViews:
    """Registry and vault of a world, always current unless told otherwise."""

    def __init__(self, world: World) -> None:
        self.world, self.stale = world, False

    @property
    def vault(self) -> MemoryViews:
        """Itself."""
        return self

    @contextmanager
    def reading(self) -> Iterator[dict[bytes, bytes]]:
        """The vault as it is now."""
        yield self.world.vault

    def require_current(self) -> Registry:
        """See Views."""
        if self.stale:
            raise TransientError("old", code="view.stale")
        return self.world.registry


def school_world() -> World:
    """Emma at 99PA of one board and Noah at 99VA of another; delivered, repeated, refused."""
    world = make_world()
    world.send(SIS, enrolment(), enrolment(NOAH, OTHER_LOCAL, school="99VA", sector="VO"))
    once = event()
    world.send(DELTA, once, once, event(receiver=PORTAL), event(school="00AA"))
    world.send(DELTA, event(school="99VA", sector="VO", subject=Subject("PUPIL", NOAH)))
    return world


@dataclass
class Office:
    """All that a service needs, in a folder."""

    folder: Path
    world: World = field(default_factory=school_world)
    recorded: Recorded = field(default_factory=Recorded)
    metrics: ServiceMetrics = field(default_factory=ServiceMetrics)
    clock: int = NOW_MS + 1_000

    def __post_init__(self) -> None:
        self.log = GrowingLog(self.folder / "logs")
        self.views = MemoryViews(self.world)
        self.ca = DevelopmentCA(self.folder / "ca")
        self.ca.prepare()
        self.ca.issue_broker(0)
        self.index()
        self.source = Source(self.folder / "store", self.folder / "logs")
        self.desk = Desk(self.source, self.views, cipher_of(self.world.keys), self.recorded, lambda: self.clock)

    def index(self) -> None:
        """Take what the world wrote into the store."""
        grown = self.log.builder.edge.size
        with Store(self.folder / "store") as store:
            index_log(store, self.log.grow(audit_events(self.world)[grown:]))
            with store.transaction():
                index_people(store, audit_index(self.world), self.world.exchange_keys.vault)

    def listening(self, **changes: Any) -> Listening:
        """With the office's own certificate."""
        folder = self.ca.folder
        values: dict[str, Any] = {"http": ("127.0.0.1", 0)} | changes
        return Listening(folder / "broker-0.pem", folder / "broker-0.key", self.ca.ca_file, **values)

    @asynccontextmanager
    async def open(self, **settings: Any) -> AsyncIterator[AuditServer]:
        """Listen."""
        async with AuditServer(self.desk, self.listening(), self.metrics, **settings) as server:
            yield server

    def service(self, server: AuditServer, name: str) -> Service:
        """As this organisation sees it."""
        certificate, key = self.ca.issue_party(name)
        return Service.of(
            f"https://localhost:{server.port}", certificate, key, self.ca.ca_file, [self.log.signer.verifier]
        )

    def context(self, name: str | None, ca: DevelopmentCA | None = None) -> ssl.SSLContext:
        """TLS of a client; None: without a certificate. `ca`: who signed it, if it is another authority."""
        context = ssl.create_default_context(cafile=self.ca.ca_file)
        if name is not None:
            context.load_cert_chain(*(ca or self.ca).issue_party(name))
        return context

    async def post(
        self, server: AuditServer, context: ssl.SSLContext, question: str, body: Any = None, **more: Any
    ) -> tuple[int, dict[str, str], str]:
        """Status, headers and text of an answer. `question`: also a whole path."""
        data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        path = question if question.startswith("/") else f"/v1/{question}"
        url = f"https://localhost:{server.port}{path}"
        async with aiohttp.ClientSession() as session, session.post(url, data=data, ssl=context, **more) as answer:
            return answer.status, dict(answer.headers), await answer.text()


@contextmanager
def logs_of_production() -> Iterator[io.StringIO]:
    """Logs in the form that they have in production, apart; put back afterwards."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    configure(stream=stream)
    yield stream
    structlog.reset_defaults()
    logging.getLogger("broker").setLevel(logging.NOTSET)
    root.handlers[:] = handlers
    root.setLevel(level)


def certificate(ca: DevelopmentCA, folder: Path, names: list[str], days: tuple[int, int] = (-1, 1)) -> ssl.SSLContext:
    """A client's TLS with a certificate of any common names and days, signed by this authority."""
    authority, signing = _authority(ca)
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=days[0]))
        .not_valid_after(now + dt.timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(signing, hashes.SHA256())
    )
    file = folder / "any.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.create_default_context(cafile=ca.ca_file)
    context.load_cert_chain(file)
    return context


def revocation_list(ca: DevelopmentCA, serial_number: int) -> bytes:
    """A list with one certificate of this authority, PEM."""
    (authority, signing), now = _authority(ca), dt.datetime.now(dt.UTC)
    revoked = x509.RevokedCertificateBuilder().serial_number(serial_number).revocation_date(now).build()
    made = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.subject)
        .last_update(now - dt.timedelta(minutes=1))
        .next_update(now + dt.timedelta(days=1))
        .add_revoked_certificate(revoked)
        .sign(signing, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def _authority(ca: DevelopmentCA) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    signing = serialization.load_pem_private_key((ca.folder / "ca.key").read_bytes(), None)
    assert isinstance(signing, ec.EllipticCurvePrivateKey)
    return x509.load_pem_x509_certificate(ca.ca_file.read_bytes()), signing
