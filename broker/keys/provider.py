"""What the rest of the package asks of a key store, and what every key store has in common."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from joserfc.jwk import ECKey

from broker.errors import ConfigError

NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
KID: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,83}")  # an owner, and 21 characters
SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class RecipientKey:
    """A public recipient key.

    Args:
        kid: `<owner>-<yyyymmddThhmmss>-<4 hex>`; sorts by age.
        jwk: the public members only (RFC 7517, RFC 7518 section 6.2).
        created: seconds since 1970.
    """

    kid: str
    jwk: Mapping[str, str]
    created: int


class KeyProvider(Protocol):
    """What the rest of the package asks of a key store."""

    def recipient_keys(self, owner: str) -> tuple[RecipientKey, ...]:
        """Public keys of an owner, newest first."""

    def private_key(self, kid: str) -> Mapping[str, str] | None:
        """The private JWK, or None when it is not here (any more)."""

    def secret(self, name: str) -> bytes:
        """A named secret of 32 bytes.

        Raises:
            ConfigError: `keys.missing`.
        """

    def secret_names(self) -> tuple[str, ...]:
        """Which named secrets are there."""


def generate(owner: str, older: Sequence[RecipientKey]) -> tuple[RecipientKey, dict[str, str]]:
    # Within one second, or after the clock was set back, the new one must be the newest all the same.
    now = max([int(time.time()), *(key.created + 1 for key in older)])
    kid = f"{owner}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now)).lower()}-{secrets.token_hex(2)}"
    made = ECKey.generate_key("P-256").as_dict(private=True)
    private = {name: str(made[name]) for name in ("kty", "crv", "x", "y", "d")}
    return RecipientKey(kid, public_half(private), now), private


def public_half(jwk: Mapping[str, str]) -> dict[str, str]:
    return {name: jwk[name] for name in ("kty", "crv", "x", "y")}


def checked_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ConfigError(
            "a key's name has 1 to 63 characters of a-z, 0-9, dot and dash, and starts with a letter or digit",
            code="keys.name",
        )
    return name


def was_destroyed(name: str) -> ConfigError:
    return ConfigError(f"the secret {name} was destroyed; none of that name is made again", code="keys.destroyed")


def missing(name: str, where: str) -> ConfigError:
    return ConfigError(f"there is no key {name} in {where}; make it with `broker keys create`", code="keys.missing")
