"""How we get a token of a transit server: from a file, as an AppRole, or as a service account of Kubernetes.

Nothing of this is a setting by itself: settings name files, and files can be replaced while we run.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from broker.errors import ConfigError
from broker.keys.transit_server import TransitServer

MOST_BYTES: Final = 1 << 16
KUBERNETES_JWT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class Login(Protocol):
    """A way to a token."""

    @property
    def renewed(self) -> bool:
        """Whether the token lives on by being renewed; else a new one is asked for when it is needed."""

    def token(self, server: TransitServer) -> str:
        """A token.

        Raises:
            ConfigError: `transit.login`. TransientError: as `TransitServer.ask`.
        """


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A token that somebody else puts into a file: an operator, or an agent that keeps it fresh."""

    path: Path
    renewed: bool = True

    def token(self, server: TransitServer) -> str:  # noqa: ARG002 - it is there already
        """See Login."""
        return _private_text(self.path)


@dataclass(frozen=True, slots=True)
class AppRole:
    """A role with a secret id that may be used more than once: a login follows each end of a token.

    Args:
        role: file with the role id. secret: file with the secret id. mount: of the method.
    """

    role: Path
    secret: Path
    mount: str = "approle"
    renewed: bool = False

    def token(self, server: TransitServer) -> str:
        """See Login."""
        ids = {"role_id": _text(self.role), "secret_id": _private_text(self.secret)}
        return _logged_in(server, self.mount, ids)


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """The service account of the pod.

    Args:
        role: of the method. jwt: file with the account's token, which Kubernetes keeps fresh. mount: of the method.
    """

    role: str
    jwt: Path = KUBERNETES_JWT
    mount: str = "kubernetes"
    renewed: bool = False

    def token(self, server: TransitServer) -> str:
        """See Login."""
        return _logged_in(server, self.mount, {"role": self.role, "jwt": _text(self.jwt)})


def _logged_in(server: TransitServer, mount: str, body: Mapping[str, object]) -> str:
    answer: Mapping[str, Any] = {}
    try:
        answer = server.ask("POST", f"auth/{mount}/login", body=body)
    except ConfigError as error:
        if error.code not in ("transit.denied", "transit.refused"):
            raise
    auth = answer.get("auth")
    token = auth.get("client_token") if isinstance(auth, dict) else None
    if not isinstance(token, str) or not token:
        raise ConfigError(
            f"The transit server {server.address} does not let us in by auth/{mount}: the role or what proves it is "
            "wrong or has expired. Check the files that BROKER_TRANSIT_... names, and the role there.",
            code="transit.login",
        )
    return token


def _private_text(path: Path) -> str:
    """Of a file that not everybody may read; a group may, as a pod's containers do."""
    text = _text(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o007:
        raise ConfigError(
            f"{path} may be read by everybody; have what is in it revoked, replace it and run: chmod 600 {path}",
            code="keys.permissions",
        )
    return text


def _text(path: Path) -> str:
    try:
        with path.open("rb") as opened:
            found = opened.read(MOST_BYTES).strip()
    except OSError as error:
        raise ConfigError(
            f"The file {path} for the login at the transit server can not be read: "
            f"{error.strerror or type(error).__name__}.",
            code="transit.login",
        ) from error
    if not found or not found.isascii() or len(found.split()) != 1:
        raise ConfigError(
            f"The file {path} holds no single word, as a login at the transit server needs.", code="transit.login"
        )
    return found.decode("ascii")
