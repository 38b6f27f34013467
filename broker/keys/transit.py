"""Key files that a transit engine (HashiCorp Vault, OpenBao) wraps: on the disk lies its ciphertext and nothing else.

Our keys are used millions of times, and transit has no ECDH: so it is the key that encrypts keys. Each file is opened
once, and kept in memory. A file's name is the `context` of a derived key, so that a file can not take the place of
another; `associated_data` would do as well, but the engine's `rewrap` does not take it (ADR 20).

Source: the HTTP API of the transit secrets engine: encrypt, decrypt, rewrap and read key.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from broker.errors import BrokerError, ConfigError, TransientError
from broker.keys.transit_login import Login
from broker.keys.transit_server import Denied, TransitServer
from broker.keys.wrapping import version_of

CONTEXT: Final = "eck-broker:"
#: Failures that are not of the file that was asked for: to ask for the next one would be for nothing.
NOT_OF_A_FILE: Final = frozenset(
    ("transit.unreachable", "transit.untrusted", "transit.sealed", "transit.login", "transit.denied")
)
NOT_RENEWED_S: Final = 7200.0
MOST_LEASE_S: Final = 10**9


class Transit:
    """One key of a transit engine.

    Args:
        key: its name; it has to be `derived`. mount: of the engine.

    Each method raises what `TransitServer.ask` and `Login.token` raise.
    """

    def __init__(self, server: TransitServer, login: Login, key: str, mount: str = "transit") -> None:
        self.server, self.key = server, key
        self._login, self._mount = login, mount
        self._token: str | None = None

    def encrypt(self, name: str, data: bytes) -> bytes:
        """Wrap a file's bytes under the newest version."""
        body = {"plaintext": b64encode(data).decode(), "context": _context(name)}
        return self._wrapped(self._post("encrypt", body))

    def decrypt(self, name: str, wrapped: bytes) -> bytes:
        """Unwrap a file's bytes.

        Raises:
            ConfigError: `keys.damaged`: they were changed, or wrapped by another name or key.
        """
        answer = self._post("decrypt", {"ciphertext": wrapped.decode("ascii"), "context": _context(name)})
        found: bytes | None = None
        with suppress(KeyError, TypeError, ValueError):  # made to an error apart: its text may be that of the answer
            found = b64decode(answer["data"]["plaintext"], validate=True)
        if found is None:
            raise self.server.senseless(f"{self._mount}/decrypt/{self.key}")
        return found

    def rewrap(self, name: str, wrapped: bytes) -> bytes:
        """Wrap under the newest version what is wrapped; it does not come to us in clear."""
        return self._wrapped(self._post("rewrap", {"ciphertext": wrapped.decode("ascii"), "context": _context(name)}))

    def newest(self) -> int:
        """The newest version of the key.

        Raises:
            ConfigError: `transit.derived`: the key would not bind a file to its name.
        """
        found: Any = self._ask("GET", f"{self._mount}/keys/{self.key}").get("data")
        version = found.get("latest_version") if isinstance(found, dict) else None
        if not isinstance(version, int):
            raise self.server.senseless(f"{self._mount}/keys/{self.key}")
        if found.get("derived") is not True or found.get("convergent_encryption"):
            raise ConfigError(
                f"The transit key {self.key} is not derived, or convergent, so it would not bind a file to its name; "
                "make another one with `derived=true`, since that can not be changed.",
                code="transit.derived",
            )
        return version

    def renew(self) -> float | None:
        """Have a token that is renewed live on; seconds that it now has, None if it needs no renewal.

        A token that can not be renewed is no failure: it may have no end, or somebody else puts a new one there.
        """
        if not self._login.renewed:
            return None
        self._token = self._login.token(self.server)
        try:
            auth = self.server.ask("POST", "auth/token/renew-self", token=self._token, body={}).get("auth")
        except ConfigError as error:
            if error.code != "transit.refused":
                raise
            return NOT_RENEWED_S
        lease = auth.get("lease_duration") if isinstance(auth, dict) else None
        return float(min(lease, MOST_LEASE_S)) if isinstance(lease, int) and lease > 0 else NOT_RENEWED_S

    def _post(self, what: str, body: Mapping[str, object]) -> Mapping[str, Any]:
        return self._ask("POST", f"{self._mount}/{what}/{self.key}", body)

    def _ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Mapping[str, Any]:
        """A token that was good may have ended since: then with a new one, once."""
        token = self._token
        if token is not None:
            with suppress(Denied):
                return self.server.ask(method, path, token=token, body=body)
        self._token = None
        token = self._login.token(self.server)
        answer = self.server.ask(method, path, token=token, body=body)
        self._token = token
        return answer

    def _wrapped(self, answer: Mapping[str, Any]) -> bytes:
        data = answer.get("data")
        text = data.get("ciphertext") if isinstance(data, dict) else None
        found = text.encode() if isinstance(text, str) else b""
        if version_of(found) is None:
            raise self.server.senseless(f"{self._mount}/encrypt/{self.key}")
        return found


class TransitWrapping:
    """Wraps key files by a transit key, and keeps in memory what it opened. See Wrapping."""

    def __init__(self, transit: Transit) -> None:
        self.transit = transit
        self._opened: dict[tuple[str, bytes], bytes] = {}
        self._fits = self._ahead_only = False

    def ahead_only(self) -> None:
        """From now on `unwrap` asks nobody, and so never waits: files are opened by `open_all`, in another thread."""
        self._ahead_only = True

    def wrap(self, name: str, data: bytes) -> bytes:
        """See Wrapping."""
        if not self._fits:
            self.transit.newest()
            self._fits = True
        wrapped = self.transit.encrypt(name, data)
        self._opened[name, wrapped] = data
        return wrapped + b"\n"

    def unwrap(self, name: str, data: bytes) -> bytes:
        """See Wrapping.

        Raises:
            TransientError: `keys.opening`: it is not open yet, see `ahead_only`.
        """
        found = self._opened.get((name, data.strip()))
        if found is not None:
            return found
        if self._ahead_only and version_of(data) is not None:
            raise TransientError(f"{name} is new, and the transit server has not opened it yet", code="keys.opening")
        return self._open(name, data)

    def open_all(self, files: Iterable[tuple[str, bytes]]) -> None:
        """See Wrapping."""
        there: set[tuple[str, bytes]] = set()
        first: BrokerError | None = None
        for name, data in files:
            there.add((name, data.strip()))
            if (name, data.strip()) not in self._opened and (first is None or first.code not in NOT_OF_A_FILE):
                try:
                    self._open(name, data)
                except BrokerError as error:
                    first = error if first is None or error.code in NOT_OF_A_FILE else first
        for gone in self._opened.keys() - there:
            del self._opened[gone]
        if first is not None:
            raise first

    def _open(self, name: str, data: bytes) -> bytes:
        wrapped = data.strip()
        if version_of(wrapped) is None:
            raise ConfigError(
                f"{name} is not wrapped, though a transit server is set: run `broker keys wrap`; if nobody put it "
                "there on purpose, find out who did",
                code="keys.plain",
            )
        try:
            found = self.transit.decrypt(name, wrapped)
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}", code=error.code) from error
        self._opened[name, wrapped] = found
        return found


def _context(name: str) -> str:
    return b64encode(f"{CONTEXT}{name}".encode()).decode()
