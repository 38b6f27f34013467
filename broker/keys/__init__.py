"""Where keys live: a small seam, and key stores behind it.

Two kinds of keys. *Recipient keys* are EC P-256 pairs with an id; several overlap at rotation, and the newest is
the one to seal for. *Secrets* are 32 random bytes with a name, for keyed hashes and for the vault; some have versions.
"""

from broker.keys.files import FileKeys
from broker.keys.memory import MemoryKeys
from broker.keys.provider import KID, NAME, SECRET_BYTES, KeyProvider, RecipientKey
from broker.keys.versions import SecretMaker, Versions, create_first, numbers, secret_of, versions

__all__ = [
    "KID",
    "NAME",
    "SECRET_BYTES",
    "FileKeys",
    "KeyProvider",
    "MemoryKeys",
    "RecipientKey",
    "SecretMaker",
    "Versions",
    "create_first",
    "numbers",
    "secret_of",
    "versions",
]
