"""Versions of a named secret: the first is `<name>`, those after it `<name>.2`, `<name>.3` and so on.

Which one is written with says the registry (`KeyInUse`), and not that a newer one is there: so nobody writes under a
version that others were not given yet, and what was written under an older one is read as long as that is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from broker.keys.provider import KeyProvider, missing

FIRST: Final = 1

#: A secret's versions, 32 bytes each, by their number.
Versions = Mapping[int, bytes]


class SecretMaker(KeyProvider, Protocol):
    """A key store in which secrets can be made and destroyed."""

    def create_secret(self, name: str) -> bool:
        """Make a named secret unless there is one; tells whether it was made."""

    def destroy_secret(self, name: str) -> bool:
        """Delete a named secret for good; tells whether there was one."""


def secret_of(name: str, number: int) -> str:
    """What a version is called in the key store."""
    return name if number == FIRST else f"{name}.{number}"


def number_of(name: str, secret: str) -> int | None:
    """Which version of `name` a secret is; None if it is none."""
    if secret == name:
        return FIRST
    before, _, number = secret.rpartition(".")
    if before != name or not number.isdecimal() or number.startswith("0") or int(number) <= FIRST:
        return None
    return int(number)


def numbers(keys: KeyProvider, name: str) -> tuple[int, ...]:
    """Which versions of a secret are there, the newest first."""
    found = (number_of(name, secret) for secret in keys.secret_names())
    return tuple(sorted((number for number in found if number is not None), reverse=True))


def versions(keys: KeyProvider, name: str) -> dict[int, bytes]:
    """All versions of a secret that are there, the newest first.

    Raises:
        ConfigError: `keys.missing`, if there is none; or as `KeyProvider.secret`.
    """
    found = {number: keys.secret(secret_of(name, number)) for number in numbers(keys, name)}
    if not found:
        raise missing(name, "the key store")
    return found


def create_first(keys: SecretMaker, name: str) -> bool:
    """Make the first version of a secret unless there is any; tells whether it was made.

    Raises:
        ConfigError: `keys.destroyed`: there was one, and no later version of it is here.
    """
    return not numbers(keys, name) and keys.create_secret(name)
