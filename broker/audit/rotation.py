"""A change of the key that signs the logs, as the control log has it: the leaf `key`.

    {"key":{"at":ms,"base":"broker.example/audit","both_until":ms,"new":"<base64>","old":["<base64>"],"operator":"…",
            "reason":"…"},"v":1}

One Ed25519 key signs all logs of an installation, each under its own origin `<base>/<id>/<epoch>`, so that a log's
verifier key follows from the raw public key (32 bytes): `vkey_of`. Until `both_until` the old keys sign too. The
checkpoints over this leaf are signed by the old key: that is what vouches for the new one.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from broker.audit.leaf import canonical
from broker.audit.log.note import ED25519, NoteError, Verifier, check_name, decode_base64
from broker.errors import ConfigError, ContractError

OVERLAP_DAYS: Final = 30
_PREFIX: Final = b'{"key":{'  # canonical: the first name


def vkey_of(origin: str, public: bytes) -> str:
    """The verifier key of a log (c2sp.org/signed-note).

    Args:
        origin: of the log. public: 32 bytes.
    """
    return Verifier(origin, ED25519, public).vkey


@dataclass(frozen=True, slots=True)
class KeyChange:
    """Which key takes the place of which.

    Args:
        base: of the names of all logs that they sign. old, new: raw Ed25519 public keys, 32 bytes each.

    Raises:
        NoteError: a key is no such key, the new one is an old one, or there is no old one.
    """

    base: str
    old: tuple[bytes, ...]
    new: bytes

    def __post_init__(self) -> None:
        check_name(self.base)
        keys = {*self.old, self.new}
        if not self.old or len(keys) != len(self.old) + 1 or any(len(key) != 32 for key in keys):
            raise NoteError("a change of keys needs a new key, and old ones that differ from it, of 32 bytes each")

    def content(self) -> dict[str, Any]:
        """As it stands in the leaf, and in the file that goes from the builder to the operator."""
        old = [b64encode(key).decode() for key in self.old]
        return {"base": self.base, "new": b64encode(self.new).decode(), "old": old}

    def pack(self) -> bytes:
        """One line: public, to be brought to the operator."""
        return canonical({"key": self.content(), "v": 1}) + b"\n"

    @classmethod
    def unpack(cls, data: bytes) -> KeyChange:
        """The inverse of `pack`.

        Raises:
            ConfigError: `auditlog.rotation`: it is something else.
        """
        try:
            document = json.loads(data)
            found = cls._of(document["key"])
            if document["v"] == 1 and set(document) == {"key", "v"} and set(document["key"]) == {"base", "new", "old"}:
                return found
        except (ValueError, LookupError, TypeError, AttributeError, ContractError):
            pass
        raise ConfigError(
            "This is no change of the logs' key, as `broker auditlog key show` prints it.", code="auditlog.rotation"
        )

    @classmethod
    def _of(cls, content: Mapping[str, Any]) -> KeyChange:
        old = tuple(decode_base64(key, "an old key") for key in content["old"])
        return cls(content["base"], old, decode_base64(content["new"], "the new key"))


@dataclass(frozen=True, slots=True)
class Announced:
    """A change of keys that stands in the control log.

    Args:
        at_ms: when it was announced. both_until_ms: until then the old keys sign too; milliseconds since 1970.
        operator, reason: who, and why.
    """

    change: KeyChange
    at_ms: int
    both_until_ms: int
    operator: str
    reason: str

    def leaf(self) -> bytes:
        """The leaf."""
        told = {"at": self.at_ms, "both_until": self.both_until_ms, "operator": self.operator, "reason": self.reason}
        return canonical({"key": {**self.change.content(), **told}, "v": 1})

    @classmethod
    def read(cls, entry: bytes) -> Announced | None:
        """What a leaf of the control log announces; None if it is another kind of leaf.

        Raises:
            ContractError: it is of this kind, and damaged.
        """
        if not entry.startswith(_PREFIX):
            return None
        try:
            told = json.loads(entry)["key"]
            found = cls(KeyChange._of(told), told["at"], told["both_until"], told["operator"], told["reason"])
            if type(found.at_ms) is int and type(found.both_until_ms) is int and found.leaf() == entry:
                return found
        except (ValueError, LookupError, TypeError, AttributeError):
            pass
        raise ContractError("a leaf that announces a key is not as it should be", code="auditlog.rotation")


def announcements(entries: Iterable[bytes]) -> Iterator[tuple[int, Announced]]:
    """The changes of keys among the entries of a control log, each with its index.

    Raises:
        ContractError: one is damaged.
    """
    for index, entry in enumerate(entries):
        found = Announced.read(entry)
        if found is not None:
            yield index, found
