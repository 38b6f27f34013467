"""A server of the Vault or OpenBao kind: one request, one answer, and what its refusals mean.

HTTPS only. No proxy of the environment is used, and no answer's text ends in an error: it may hold keys.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from broker.errors import BrokerError, ConfigError, TransientError
from broker.tls import may_be_asked

MOST_BYTES: Final = 1 << 20
STEPS: Final = 6  # so many times `timeout_s` an answer may take from its first byte to its last
#: Codes of a server that can not answer now (standby, too busy, sealed), as the HTTP API documents them; and of a
#: second standby, while the servers choose who is active.
NOT_NOW: Final = frozenset((307, 308, 412, 429, 472, 473, 500, 502, 503, 504))


class Denied(ConfigError):
    """The token is not valid (any more), or may not do this: the server does not tell which."""

    default_code = "transit.denied"


@dataclass(frozen=True, slots=True)
class TransitServer:
    """Where the server is, and how to trust it.

    Args:
        address: `https://host:port`. context: for TLS. namespace: of Vault Enterprise or OpenBao.
        timeout_s: for each step of a request.

    Raises:
        ConfigError: `transit.settings`: the address is not one of HTTPS.
    """

    address: str
    context: ssl.SSLContext = field(repr=False)
    namespace: str | None = None
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        fits = may_be_asked(self.address) and self.address.startswith("https://")
        if not fits or urlsplit(self.address).path not in ("", "/"):
            raise ConfigError(
                "The address of the transit server is https://host:port, without a path or login; set "
                "BROKER_TRANSIT_ADDRESS so. There is no way to ask it without TLS.",
                code="transit.settings",
            )

    def ask(
        self, method: str, path: str, *, token: str | None = None, body: Mapping[str, object] | None = None
    ) -> Mapping[str, Any]:
        """Ask for a path below `/v1/`; the answer's JSON object, empty if there is none.

        Raises:
            Denied: 403. ConfigError: the server refuses for good, or what answers is something else
            (`transit.answer`). TransientError: it can not answer now.
        """
        headers = {"X-Vault-Request": "true", "Content-Type": "application/json"}
        if token is not None:
            headers["X-Vault-Token"] = token
        if self.namespace is not None:
            headers["X-Vault-Namespace"] = self.namespace
        sent = None if body is None else json.dumps(body).encode()
        status, answer, elsewhere = self._once(self.address, method, f"/v1/{path}", sent, headers)
        if status in (307, 308):  # a standby names the active server
            status, answer, _ = self._once(self._active(elsewhere), method, f"/v1/{path}", sent, headers)
        document: Any = None
        with suppress(ValueError, RecursionError):  # its text is that of the answer: it is not carried along
            document = json.loads(answer) if answer else {}
        if status in (200, 204) and isinstance(document, dict):
            return document
        raise self.senseless(path) if status in (200, 204) else self._refused(status, document, path)

    def senseless(self, path: str) -> ConfigError:
        """The error of an answer that is none of the API."""
        return ConfigError(
            f"What answers at {self.address} says something else to {path} than the API of Vault and OpenBao does; "
            "check BROKER_TRANSIT_ADDRESS.",
            code="transit.answer",
        )

    def _active(self, location: str | None) -> str:
        parts = None
        with suppress(ValueError):
            parts = urlsplit(location or "")
            _ = parts.port  # raises for what is no number
        if parts is None or not may_be_asked(f"https://{parts.netloc.rpartition('@')[2]}") or parts.scheme != "https":
            raise TransientError(
                f"The transit server {self.address} is a standby and names no active one by https; check its api_addr.",
                code="transit.unavailable",
            )
        return f"https://{parts.netloc.rpartition('@')[2]}"

    def _once(
        self, address: str, method: str, path: str, sent: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes, str | None]:
        """Status, body and Location. Errors are made after the handlers: those of the library may hold an answer."""
        where = urlsplit(address)
        connection = http.client.HTTPSConnection(
            where.hostname or "", where.port or 443, timeout=self.timeout_s, context=self.context
        )
        problem: BrokerError
        try:
            connection.request(method, path, sent, dict(headers))
            answer = connection.getresponse()
            return answer.status, self._body(answer), answer.getheader("Location")
        except ssl.SSLCertVerificationError as error:
            problem = ConfigError(
                f"The certificate of the transit server {address} is not trusted: {error.verify_message}. Set "
                "BROKER_TRANSIT_CA_FILE to the CA that signed it, and use the host name that is in the certificate.",
                code="transit.untrusted",
            )
        except (ssl.SSLError, http.client.HTTPException) as error:
            problem = TransientError(
                f"What answers at {address} does not speak HTTPS as we do ({type(error).__name__}); check that the "
                "port is that of the transit server, with TLS 1.2 or newer.",
                code="transit.unreachable",
            )
        except (OSError, UnicodeError) as error:  # the latter for a host that can be no name
            why = getattr(error, "strerror", None) or type(error).__name__
            problem = TransientError(
                f"The transit server {address} can not be reached ({why}); check that it runs, and that the network "
                "lets us through.",
                code="transit.unreachable",
            )
        finally:
            connection.close()
        raise problem

    def _body(self, answer: http.client.HTTPResponse) -> bytes:
        """What comes of it in time: who sends a byte now and then would hold us for ever, step by step."""
        found, end = bytearray(), time.monotonic() + STEPS * self.timeout_s
        while len(found) < MOST_BYTES and (more := answer.read1(MOST_BYTES - len(found))):
            found += more
            if time.monotonic() > end:
                raise TimeoutError
        if answer.length and len(found) < MOST_BYTES:
            raise http.client.IncompleteRead(b"")
        return bytes(found)

    def _refused(self, status: int, document: Any, path: str) -> BrokerError:
        """What is known by its text is told in ours; the text itself is not."""
        errors = document.get("errors") if isinstance(document, dict) else None
        text = " ".join(map(str, errors)).lower() if isinstance(errors, list) else ""
        for words, error in _KNOWN:
            if words in text:
                return error(self.address, path)
        if status == 403:
            return Denied(
                f"The transit server {self.address} denies {path}: the token has expired or was revoked, or its policy "
                "does not allow this path. Renew the token, or see docs/howto/keys-in-vault.md for the policy."
            )
        if status == 404:
            return _no_mount(self.address, path)
        if status in NOT_NOW:
            return TransientError(
                f"The transit server {self.address} can not answer now (status {status}); look at its own log.",
                code="transit.unavailable",
            )
        return ConfigError(
            f"The transit server {self.address} refuses {path} (status {status}); its audit log says why.",
            code="transit.refused",
        )


def _sealed(address: str, _: str) -> BrokerError:
    return TransientError(
        f"The transit server {address} is sealed; have its operators unseal it.", code="transit.sealed"
    )


def _no_mount(address: str, path: str) -> BrokerError:
    return ConfigError(
        f"The transit server {address} has nothing at {path}; check BROKER_TRANSIT_MOUNT, BROKER_TRANSIT_KEY, the "
        "mount of the login, and the namespace.",
        code="transit.missing",
    )


def _no_key(address: str, path: str) -> BrokerError:
    return ConfigError(
        f"The transit server {address} has no key for {path}; make it there (`derived=true`), or correct "
        "BROKER_TRANSIT_KEY.",
        code="transit.missing",
    )


def _too_old(address: str, path: str) -> BrokerError:
    return ConfigError(
        f"The transit server {address} does not open this version any more at {path}: lower min_decryption_version "
        "there, run `broker keys rewrap`, and raise it again.",
        code="transit.version",
    )


def _too_new(address: str, path: str) -> BrokerError:
    return ConfigError(
        f"The transit server {address} never had this version of the key of {path}: it was restored from an older "
        "backup, or BROKER_TRANSIT_KEY is another key than the file was wrapped with.",
        code="transit.version",
    )


def _changed(address: str, path: str) -> BrokerError:
    return ConfigError(
        f"The transit server {address} does not open it at {path}: it was changed, is a copy of another file, or was "
        "wrapped with another key. Restore it from backup.",
        code="keys.damaged",
    )


_KNOWN: Final = (
    ("is sealed", _sealed),
    ("encryption key not found", _no_key),
    ("(too old)", _too_old),
    ("version is too new", _too_new),
    ("message authentication failed", _changed),
    ("invalid ciphertext", _changed),
)
