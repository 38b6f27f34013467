"""The keys that the exchange works with, loaded once per worker."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Final

from broker.crypto import DataKeyMaker, DataKeyOpener, KeyedHash
from broker.errors import ConfigError
from broker.identity.vault import VaultCipher
from broker.keys import KeyProvider, RecipientKey

BROKER: Final = "broker"
OPERATOR: Final = "operator"
SECRETS: Final = ("vault-mac", "vault-records", "school-keys", "record-keys")


class ExchangeKeys:
    """Opens what parties sealed for the broker, and seals what leaves.

    Attributes:
        opener: of data keys made for the broker.
        vault: cipher of vault records.
        operator: the public key that quarantined content is sealed for as well.
    """

    def __init__(self, provider: KeyProvider) -> None:
        self.opener = DataKeyOpener(provider.private_key)
        self.vault = VaultCipher(
            provider.secret("vault-mac"), provider.secret("vault-records"), provider.secret("school-keys")
        )
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
