"""An authority of time stamps (RFC 3161): a small HTTP server that lets `openssl ts` answer."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

OPENSSL = shutil.which("openssl")
REASON = "the command openssl is not here: it plays the authority of time stamps"
CONFIG = """[tsa]
dir = {folder}
serial = $dir/serial
signer_cert = $dir/tsa.pem
signer_key = $dir/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
ess_cert_id_alg = sha256
"""


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


@dataclass
class Tsa:
    """The authority's files.

    Args:
        folder: of these.
    """

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir()
        began, ends = (datetime.now(UTC) + timedelta(days=days) for days in (-2, 2))
        root, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        ca = (
            x509.CertificateBuilder()
            .subject_name(_name("Time root"))
            .issuer_name(_name("Time root"))
            .public_key(root.public_key())
            .serial_number(1)
            .not_valid_before(began)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(root.public_key()), critical=False)
            .sign(root, hashes.SHA256())
        )
        tsa = (
            x509.CertificateBuilder()
            .subject_name(_name("Time"))
            .issuer_name(_name("Time root"))
            .public_key(own.public_key())
            .serial_number(2)
            .not_valid_before(began)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key()), critical=False)
            .sign(root, hashes.SHA256())
        )
        (self.folder / "ca.pem").write_bytes(ca.public_bytes(Encoding.PEM))
        (self.folder / "tsa.pem").write_bytes(tsa.public_bytes(Encoding.PEM))
        key = own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.folder / "tsa.key").write_bytes(key)
        (self.folder / "serial").write_text("01\n")
        (self.folder / "config").write_text(CONFIG.format(folder=self.folder))

    @property
    def ca(self) -> Path:
        """Whom to trust."""
        return self.folder / "ca.pem"

    def answer(self, question: bytes) -> bytes:
        """What `openssl ts` says."""
        (self.folder / "question").write_bytes(question)
        words = ["-config", "config", "-section", "tsa", "-queryfile", "question", "-out", "answer"]
        subprocess.run([OPENSSL or "", "ts", "-reply", *words], cwd=self.folder, check=True, capture_output=True)
        return (self.folder / "answer").read_bytes()

    def openssl_verifies(self, text: Path, token: Path) -> bool:
        """What `openssl ts -verify` says: a second opinion."""
        words = ["-data", str(text), "-in", str(token), "-CAfile", str(self.ca)]
        return subprocess.run([OPENSSL or "", "ts", "-verify", *words], capture_output=True).returncode == 0


@asynccontextmanager
async def serving(answer: Callable[[bytes], bytes | web.Response]) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers so; its URL, and what it was asked."""
    came: list[bytes] = []

    async def handle(request: web.Request) -> web.Response:
        assert request.headers["Content-Type"] == "application/timestamp-query"
        came.append(await request.read())
        said = await asyncio.to_thread(answer, came[-1])
        if isinstance(said, web.Response):
            return said
        return web.Response(body=said, content_type="application/timestamp-reply")

    app = web.Application()
    app.router.add_post("/tsr", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/tsr", came
    finally:
        await runner.cleanup()
