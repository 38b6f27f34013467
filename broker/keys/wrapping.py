"""How the bytes of a key file lie on the disk: as they are, or as what a transit server made of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Protocol

from broker.errors import ConfigError

#: What Vault and OpenBao make: the version of the key, and base64. Both say `vault` there.
WRAPPED: Final = re.compile(rb"vault:v([1-9][0-9]{0,8}):[A-Za-z0-9+/]+={0,2}")


class Wrapping(Protocol):
    """What a folder of keys asks of it. A file's name goes along, so that no file can take the place of another."""

    def wrap(self, name: str, data: bytes) -> bytes:
        """What is to lie on the disk."""

    def unwrap(self, name: str, data: bytes) -> bytes:
        """What was wrapped.

        Raises:
            ConfigError: it was not wrapped like this, or by another name. TransientError: nobody can tell just now.
        """

    def open_all(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Unwrap these files ahead, those that are not open yet, and forget all others.

        Raises:
            ConfigError, TransientError: as `unwrap`, for the first that does not open; the others are open then,
                unless it is the server that lets nobody in.
        """


class Plain:
    """Files as they are."""

    def wrap(self, name: str, data: bytes) -> bytes:  # noqa: ARG002 - a file in clear is not bound to its name
        """See Wrapping."""
        return data

    def unwrap(self, name: str, data: bytes) -> bytes:
        """See Wrapping."""
        if version_of(data) is not None:
            raise ConfigError(
                f"{name} is wrapped by a transit server; set BROKER_TRANSIT_ADDRESS and what goes with it",
                code="keys.wrapped",
            )
        return data

    def open_all(self, files: Iterable[tuple[str, bytes]]) -> None:
        """See Wrapping. A file in clear is read when it is needed."""


PLAIN: Final = Plain()


def version_of(data: bytes) -> int | None:
    """Under which version of its key a file's bytes are wrapped; None: they are not."""
    found = WRAPPED.fullmatch(data.strip())
    return int(found[1]) if found else None
