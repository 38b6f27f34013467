"""The keys that the exchange works with, loaded once per worker; of secrets with versions, whenever they change."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Final, NamedTuple

from broker.crypto import DataKeyMaker, DataKeyOpener, KeyedHash
from broker.errors import ConfigError, TransientError
from broker.identity.vault import RECORDS, SCHOOLS, VaultCipher
from broker.keys import KeyProvider, RecipientKey, Versions, versions
from broker.registry import Registry

BROKER: Final = "broker"
OPERATOR: Final = "operator"
MAC: Final = "vault-mac"
SECRETS: Final = (MAC, RECORDS, SCHOOLS, "record-keys")


class VaultVersions(NamedTuple):
    """The secrets of the vault that have versions, as they stand in a key store."""

    records: Versions
    schools: Versions

    @classmethod
    def read(cls, provider: KeyProvider) -> VaultVersions:
        """Read them.

        Raises:
            ConfigError: `keys.missing`, `keys.damaged`, `keys.permissions`.
        """
        return cls(versions(provider, RECORDS), versions(provider, SCHOOLS))


def vault_cipher(provider: KeyProvider, *, remembered: int = 50_000) -> VaultCipher:
    """What opens vault records, under whatever versions they were written.

    Args:
        remembered: how many opened records are kept at most.

    Raises:
        ConfigError: as `VaultVersions.read`.
    """
    return VaultCipher(provider.secret(MAC), *VaultVersions.read(provider), remembered=remembered)


class ExchangeKeys:
    """Opens what parties sealed for the broker, and seals what leaves.

    Attributes:
        opener: of data keys made for the broker.
        vault: cipher of vault records.
        operator: the public key that quarantined content is sealed for as well.
    """

    def __init__(self, provider: KeyProvider) -> None:
        self.opener = DataKeyOpener(provider.private_key)
        self._provider = provider
        self.vault = vault_cipher(provider)
        self._used: object = None
        operators = provider.recipient_keys(OPERATOR)
        if not operators:
            raise ConfigError(
                "the operator has no recipient key, so nothing could be quarantined; "
                "make one with `broker keys create operator`",
                code="keys.missing",
            )
        self.operator: RecipientKey = operators[0]
        self._record_keys = provider.secret("record-keys")
        self._makers: dict[tuple[str, str, str], DataKeyMaker] = {}
        self._receivers: dict[str, KeyedHash] = {}

    def renew(self, read: VaultVersions) -> None:
        """Take over what was read anew of the key store."""
        self.vault.renew(*read)
        self._used = None

    def use(self, registry: Registry) -> None:
        """Seal for vault and index with the versions that the registry names.

        Raises:
            TransientError: `keys.behind`: one of them is not here (yet). Who does not know what is written with now
                must not write, and could not read. Nor does he decide who has not the key that senders seal for: he
                would refuse what they send. As `KeyProvider.private_key`.
        """
        if registry.keys_in_use is not self._used:
            self._require_recipient(registry)
            self.vault.use(registry.secret_in_use(RECORDS), registry.secret_in_use(SCHOOLS))
            self._used = registry.keys_in_use

    def _require_recipient(self, registry: Registry) -> None:
        entry = registry.keys_in_use.get(BROKER)
        if entry is None or self._provider.private_key(entry.version) is not None:
            return
        # A newer one may have been made and the one in use destroyed by hand, past the registry.
        if any(key.kid > entry.version for key in self._provider.recipient_keys(BROKER)):
            return
        raise TransientError(
            f"The broker's key {entry.version} is in use and is not in this process's key store. Give it the newest "
            "keys; it goes on by itself once they are there.",
            code="keys.behind",
        )

    def maker(self, kid: str, jwk: Mapping[str, str]) -> DataKeyMaker:
        """The maker of data keys for one recipient key."""
        # By the key itself: kids are the parties' own, and two parties may have chosen the same one.
        which = kid, jwk["x"], jwk["y"]
        maker = self._makers.get(which)
        if maker is None:
            maker = self._makers[which] = DataKeyMaker(jwk, kid)
        return maker

    def record_key(self, receiver: str, *what: str) -> bytes:
        """The key of an output record: equal for one pupil or object at one receiver, unlinkable between receivers."""
        return self._receiver(receiver)("record", *what)

    def pseudonym(self, receiver: str, subject: str) -> str:
        """A receiver's own pseudonym for a person whose ECK iD it may not have; 43 characters of base64url.

        Args:
            subject: of the enrolment's own key: it is another one at another school, and stays when a BRIN changes.
        """
        digest = self._receiver(receiver)("pseudonym", subject)
        return urlsafe_b64encode(digest).rstrip(b"=").decode()

    def _receiver(self, receiver: str) -> KeyedHash:
        found = self._receivers.get(receiver)
        if found is None:
            secret = hmac.digest(self._record_keys, receiver.encode(), "sha256")
            found = self._receivers[receiver] = KeyedHash(secret)
        return found
