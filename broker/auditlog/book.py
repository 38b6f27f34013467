"""What a log is called, which keys sign it, and where it stands according to `audit.checkpoints`.

Each partition of `audit.events` and `audit.control` has a log of its own, and each log epochs: a new one begins only
when Kafka's history behind the old one was lost or changed, and its first leaf says so.

    id       p3, or control           of partition 3 of audit.events; of audit.control
    origin   <name>/<id>/<epoch>      of its checkpoints, and the name of its key (c2sp.org/tlog-checkpoint)
    folder   <id>-<epoch>
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from aiokafka import TopicPartition
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.note import Signer, check_name, render, split_note
from broker.errors import ConfigError, ContractError
from broker.exchange.model import AUDIT_CONTROL, AUDIT_EVENTS

TOPIC: Final = "audit.checkpoints"
SECRET: Final = "audit-log"  # the seed of the first Ed25519 key that signs all logs; the next are audit-log.2, ...
_SECRET: Final = re.compile(re.escape(SECRET) + r"(?:\.([2-9]|[1-9][0-9]{1,3}))?")
_ID: Final = re.compile(r"p(0|[1-9][0-9]{0,4})|control")


@dataclass(frozen=True, slots=True)
class LogName:
    """Which log.

    Args:
        base: of all logs of this installation, such as `broker.example/audit`.
        id: `p<partition>` or `control`. epoch: from 1.
    """

    base: str
    id: str
    epoch: int = 1

    def __post_init__(self) -> None:
        check_name(self.base)
        if not _ID.fullmatch(self.id) or self.epoch < 1:
            raise ConfigError(
                f"There is no log {self.id!r}. Logs are called p0, p1, ... and control.", code="auditlog.name"
            )

    @classmethod
    def of(cls, base: str, place: TopicPartition, epoch: int = 1) -> LogName:
        """Of the log of an audit partition."""
        return cls(base, "control" if place.topic == AUDIT_CONTROL else f"p{place.partition}", epoch)

    @property
    def place(self) -> TopicPartition:
        """The partition that it is a log of."""
        if self.id == "control":
            return TopicPartition(AUDIT_CONTROL, 0)
        return TopicPartition(AUDIT_EVENTS, int(self.id[1:]))

    @property
    def origin(self) -> str:
        """As its checkpoints have it."""
        return f"{self.base}/{self.id}/{self.epoch}"

    @property
    def folder(self) -> str:
        """Below the folder of all logs."""
        return f"{self.id}-{self.epoch}"

    @property
    def transactional_id(self) -> str:
        """Of whoever lets it grow: at most one at a time."""
        return f"log-builder.{self.id}"

    def next_epoch(self) -> LogName:
        """The log that takes its place."""
        return LogName(self.base, self.id, self.epoch + 1)


def number_of(secret: str) -> int | None:
    """Which signing key a secret is the seed of, counted from 1; None if of none."""
    found = _SECRET.fullmatch(secret)
    return None if found is None else int(found[1] or 1)


def secret_of(number: int) -> str:
    """The inverse of `number_of`."""
    return SECRET if number == 1 else f"{SECRET}.{number}"


class Seeds(Protocol):
    """What is asked of a folder of keys."""

    def secret_names(self) -> tuple[str, ...]:
        """Which named secrets are here."""

    def secret(self, name: str) -> bytes:
        """A named secret of 32 bytes."""


class SigningKeys:
    """The keys that sign every log: one, and two while one takes the place of the other.

    The seeds are looked for before each signature: a key that was made signs from then on, and one that was retired
    does not any more, without a restart.

    Args:
        provider: has the seeds, `audit-log`, `audit-log.2`, ...; other secrets are passed over.

    Raises:
        ConfigError: `keys.missing`: there is none. So does each of the methods.
    """

    def __init__(self, provider: Seeds) -> None:
        self._provider = provider
        self._known: dict[str, Ed25519PrivateKey] = {}
        self._current()

    def public_keys(self) -> list[bytes]:
        """32 bytes each; newest last."""
        return [key.public_key().public_bytes_raw() for key in self._current()]

    def vkeys(self, name: LogName) -> list[str]:
        """The public halves, as `log.vkey` has them; newest last."""
        return [signer.vkey for signer in self._signers(name)]

    def lack(self, name: LogName, note: bytes) -> bool:
        """Whether one of them has not signed a note of a log."""
        signed = {(line.name, line.key_id) for line in split_note(note)[1]}
        return any((signer.name, signer.key_id) not in signed for signer in self._signers(name))

    def sign(self, name: LogName, checkpoint: Checkpoint) -> bytes:
        """The signed note that shows a checkpoint of a log."""
        text = checkpoint.text()
        return render(text, [signer.sign(text) for signer in self._signers(name)])

    def _signers(self, name: LogName) -> list[Signer]:
        """A key is known by the log's origin."""
        return [Signer(name.origin, key) for key in self._current()]

    def _current(self) -> list[Ed25519PrivateKey]:
        """Oldest first."""
        numbers = sorted(n for n in map(number_of, self._provider.secret_names()) if n is not None)
        names = [secret_of(number) for number in numbers] or [SECRET]  # which is then said to be missing
        self._known = {name: self._known.get(name) or self._load(name) for name in names}
        return list(self._known.values())

    def _load(self, name: str) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self._provider.secret(name))


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a log stands: its record on `audit.checkpoints`.

    Args:
        size: leaves. next_offset: of the audit partition; what comes from there on is not in the log yet.
        last_offset: of the record that became the last leaf; None if that was none of Kafka's.
        note: the signed checkpoint.
    """

    size: int
    next_offset: int
    last_offset: int | None
    note: bytes

    @property
    def checkpoint(self) -> Checkpoint:
        """What was signed."""
        return Checkpoint.parse(split_note(self.note)[0])

    def pack(self) -> bytes:
        """As it stands on the topic: JSON, since whoever follows the logs reads it too."""
        document = {
            "v": 1,
            "size": self.size,
            "next_offset": self.next_offset,
            "last_offset": self.last_offset,
            "checkpoint": b64encode(self.note).decode(),
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def unpack(cls, origin: str, data: bytes) -> Standing:
        """The inverse of `pack`.

        Raises:
            ConfigError: `auditlog.standing`: the record is something else, or of another log.
        """
        try:
            document = json.loads(data)
            note = b64decode(document["checkpoint"], validate=True)
            found = cls(document["size"], document["next_offset"], document["last_offset"], note)
            checkpoint = found.checkpoint
            if (document["v"], checkpoint.origin, checkpoint.size) == (1, origin, found.size):
                return found
        except (ValueError, KeyError, TypeError, ContractError):
            pass
        raise ConfigError(
            f"The record of {origin} on {TOPIC} can not be read, so the log is not continued. Restore the topic from a "
            f"backup, or begin a new epoch: broker auditlog epoch.",
            code="auditlog.standing",
        )


def newest(base: str, place: TopicPartition, records: Mapping[str, bytes]) -> tuple[LogName, Standing | None]:
    """The log of a partition in its last epoch, and where it stands; None if nobody ever began it.

    Args:
        records: of `audit.checkpoints`, by key.
    """
    name = LogName.of(base, place)
    while name.next_epoch().origin in records:
        name = name.next_epoch()
    data = records.get(name.origin)
    return name, None if data is None else Standing.unpack(name.origin, data)
