"""Keys in memory: for tests, ours and those of our users."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from broker.keys.provider import SECRET_BYTES, RecipientKey, checked_name, generate, missing, was_destroyed


class MemoryKeys:
    """Keys that live as long as the process: for tests, ours and those of our users."""

    def __init__(self) -> None:
        self._private: dict[str, dict[str, str]] = {}
        self.public_half: dict[str, list[RecipientKey]] = {}
        self._secrets: dict[str, bytes] = {}
        self._destroyed: set[str] = set()

    def create(self, owner: str) -> RecipientKey:
        """Make a new recipient key; it becomes the owner's newest."""
        public, private = generate(checked_name(owner), self.recipient_keys(owner))
        self._private[public.kid] = private
        self.public_half.setdefault(owner, []).insert(0, public)
        return public

    def create_secret(self, name: str) -> bool:
        """Make a named secret unless there is one; tells whether it was made."""
        if checked_name(name) in self._destroyed:
            raise was_destroyed(name)
        if name in self._secrets:
            return False
        self._secrets[name] = secrets.token_bytes(SECRET_BYTES)
        return True

    def destroy_secret(self, name: str) -> bool:
        """See FileKeys."""
        self._destroyed.add(checked_name(name))
        return self._secrets.pop(name, None) is not None

    def destroy(self, kid: str) -> None:
        """Forget a key pair."""
        if self._private.pop(kid, None) is None:
            raise missing(kid, "memory")
        for owner, keys in self.public_half.items():
            self.public_half[owner] = [key for key in keys if key.kid != kid]

    def owners(self) -> tuple[str, ...]:
        """Whose recipient keys are here."""
        return tuple(sorted(owner for owner, keys in self.public_half.items() if keys))

    def secret_names(self) -> tuple[str, ...]:
        """Which named secrets are here."""
        return tuple(sorted(self._secrets))

    def recipient_keys(self, owner: str) -> tuple[RecipientKey, ...]:
        """See KeyProvider."""
        return tuple(self.public_half.get(owner, ()))

    def private_key(self, kid: str) -> Mapping[str, str] | None:
        """See KeyProvider."""
        return self._private.get(kid)

    def secret(self, name: str) -> bytes:
        """See KeyProvider."""
        if checked_name(name) not in self._secrets:
            raise missing(name, "memory")
        return self._secrets[name]
