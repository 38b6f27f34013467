"""The part of Vault's and OpenBao's HTTP API that we use, on a real socket with TLS.

Written after the API documentation (transit, approle, kubernetes, token, "HTTP status codes") and the engine's source
for what it leaves open: which of two errors comes first, their words, and that `rewrap` takes no `associated_data`.
The cryptography is the engine's: AES-256-GCM with a random nonce before it, and for derived keys HKDF-SHA256 with the
context as info. So a file that only opens by accident here would open there.
"""

from __future__ import annotations

import json
import os
import ssl
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from broker.kafka.pki import DevelopmentCA

Capabilities = Mapping[str, frozenset[str]]
INVALID_TOKEN = "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"


class Refusal(Exception):
    """An answer that is none of success."""

    def __init__(self, status: int, *errors: str) -> None:
        super().__init__(status)
        self.status, self.errors = status, errors


@dataclass
class Key:
    """A transit key of type aes256-gcm96."""

    derived: bool = True
    versions: list[bytes] = field(default_factory=lambda: [os.urandom(32)])
    min_decryption_version: int = 1

    def cipher(self, version: int, context: bytes) -> AESGCM:
        """Of one version; a key that is not derived does not look at the context."""
        key = self.versions[version - 1]
        if not self.derived:
            return AESGCM(key)
        if not context:
            raise Refusal(400, "missing 'context' for key derivation; the key was created using a derived key, ...")
        return AESGCM(HKDF(SHA256(), 32, salt=None, info=context).derive(key))

    def encrypt(self, plain: bytes, context: bytes, associated: bytes = b"") -> str:
        """Under the newest version."""
        version, nonce = len(self.versions), os.urandom(12)
        made = nonce + self.cipher(version, context).encrypt(nonce, plain, associated)
        return f"vault:v{version}:{b64encode(made).decode()}"

    def decrypt(self, text: str, context: bytes, associated: bytes = b"") -> bytes:
        """Under the version that it names."""
        if not text.startswith("vault:v"):
            raise Refusal(400, "invalid ciphertext: no prefix")
        number, _, rest = text.removeprefix("vault:v").partition(":")
        version = int(number)
        if version > len(self.versions):
            raise Refusal(400, "invalid ciphertext: version is too new")
        if version < self.min_decryption_version:
            raise Refusal(400, "ciphertext or signature version is disallowed by policy (too old)")
        try:
            made = b64decode(rest, validate=True)
            return self.cipher(version, context).decrypt(made[:12], made[12:], associated)
        except InvalidTag:
            raise Refusal(400, "cipher: message authentication failed") from None
        except ValueError:
            raise Refusal(400, "invalid ciphertext: could not decode base64") from None


@dataclass
class Token:
    """Who may what, and until when."""

    policy: Capabilities
    ends: float = float("inf")
    lease_s: int = 0
    renewable: bool = False


@dataclass
class FakeTransit:
    """The server's state, which a test changes as its operators would, and what it was asked.

    Attributes:
        requests: method and path, as they came.
    """

    address: str = ""
    ca_file: Path = Path()
    keys: dict[str, Key] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    approles: dict[tuple[str, str], Token] = field(default_factory=dict)
    accounts: dict[tuple[str, str], Token] = field(default_factory=dict)
    sealed: bool = False
    active: str | None = None  # another server that a standby names
    namespace: str | None = None
    answers: Callable[[str], bytes] | None = None  # instead of all that
    drip_s: float = 0.0  # between one byte of an answer and the next
    requests: list[tuple[str, str]] = field(default_factory=list)

    def asked(self, what: str) -> int:
        """How often."""
        return sum(path.startswith(what) for _, path in self.requests)

    def token(self, policy: Capabilities, **more: Any) -> str:
        """A new token."""
        name = f"hvs.{os.urandom(12).hex()}"
        self.tokens[name] = Token(policy, **more)
        return name

    def reply(self, method: str, path: str, headers: Mapping[str, str], sent: bytes) -> bytes:
        """The body of an answer."""
        if self.answers is not None:
            return self.answers(path)
        return json.dumps(self.answer(method, path, headers, json.loads(sent or b"{}"))).encode()

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> Any:
        """The document of a request."""
        if self.sealed:
            raise Refusal(503, "Vault is sealed")
        if headers.get("X-Vault-Namespace") != self.namespace:
            raise Refusal(404, f'no handler for route "{path}". route entry not found.')
        parts = path.split("/")
        if method == "POST" and parts[0] == "auth" and parts[2:] == ["login"]:
            return self._login(parts[1], body)
        token = self.tokens.get(headers.get("X-Vault-Token", ""))
        if token is None or token.ends <= time.monotonic():
            raise Refusal(403, INVALID_TOKEN)
        if path == "auth/token/renew-self":
            return self._renewed(token)
        wanted = "read" if method == "GET" else "update"
        if wanted not in token.policy.get(path, frozenset()):
            raise Refusal(403, "1 error occurred:\n\t* permission denied\n\n")
        if parts[0] != "transit" or len(parts) != 3:
            raise Refusal(404, f'no handler for route "{path}". route entry not found.')
        return self._transit(method, parts[1], parts[2], body)

    def _login(self, mount: str, body: Mapping[str, Any]) -> Any:
        if mount == "approle":
            token = self.approles.get((body["role_id"], body["secret_id"]))
            if token is None:
                raise Refusal(400, "invalid role or secret ID")
        else:
            token = self.accounts.get((body["role"], body["jwt"]))
            if token is None:
                raise Refusal(403, "permission denied")
        name = self.token(token.policy, ends=token.ends)
        return {"auth": {"client_token": name, "lease_duration": 3600, "renewable": True}, "data": None}

    def _renewed(self, token: Token) -> Any:
        if not token.renewable:
            raise Refusal(400, "lease is not renewable")
        token.ends = time.monotonic() + token.lease_s
        return {"auth": {"client_token": "as it was", "lease_duration": token.lease_s, "renewable": True}}

    def _transit(self, method: str, what: str, name: str, body: Mapping[str, Any]) -> Any:
        key = self.keys.get(name)
        if what == "keys" and method == "GET":
            if key is None:
                raise Refusal(404)
            return {"data": {
                "name": name, "type": "aes256-gcm96", "derived": key.derived, "convergent_encryption": False,
                "latest_version": len(key.versions), "min_decryption_version": key.min_decryption_version,
                "keys": {str(n + 1): 1442851412 for n in range(len(key.versions))},
            }}  # fmt: skip
        if key is None:
            raise Refusal(400, "encryption key not found")
        context, data = b64decode(body.get("context", "")), b64decode(body.get("associated_data", ""))
        if what == "encrypt":
            return {"data": {"ciphertext": key.encrypt(b64decode(body["plaintext"]), context, data)}}
        if what == "decrypt":
            return {"data": {"plaintext": b64encode(key.decrypt(body["ciphertext"], context, data)).decode()}}
        if what == "rewrap":
            return {"data": {"ciphertext": key.encrypt(key.decrypt(body["ciphertext"], context), context)}}
        raise Refusal(404, "unsupported path")


@contextmanager
def transit_engine(folder: Path) -> Iterator[FakeTransit]:
    """A server on this machine, with a certificate of a CA of its own.

    Args:
        folder: for the CA.
    """
    engine, authority = FakeTransit(), DevelopmentCA(folder)
    authority.prepare()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Nothing of it on a terminal."""

        def _answer(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.removeprefix("/v1/")
            engine.requests.append((self.command, path))
            status, more = 200, {}
            if engine.active is not None:
                status, made, more = 307, b"", {"Location": f"{engine.active}{self.path}"}
            else:
                try:
                    made = engine.reply(self.command, path, self.headers, sent)
                except Refusal as refusal:
                    status, made = refusal.status, json.dumps({"errors": list(refusal.errors)}).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", "Content-Length": str(len(made)), **more}.items():
                self.send_header(name, value)
            self.end_headers()
            for part in [made] if not engine.drip_s else [made[n : n + 1] for n in range(len(made))]:
                self.wfile.write(part)
                time.sleep(engine.drip_s)

        do_GET = do_POST = _answer  # noqa: N815 - names of http.server

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that does not trust us hangs up: nothing to tell."""

    server = Server(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.issue_broker(1))
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    engine.address, engine.ca_file = f"https://127.0.0.1:{server.server_port}", authority.ca_file
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield engine
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
