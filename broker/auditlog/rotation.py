"""Let a new key take the place of the one that signs the logs, without a moment at which a reader is shut out.

    key new        where the builder's keys are     makes the next secret; from now on both sign
    key announce   at the operator's                writes the leaf `key` to the control log
                   (30 days; readers and witnesses take the new key up)
    key retire     where the builder's keys are     destroys the old secret, when the signed logs show that it may go

What the overlap is, is not remembered in a file: `retire` reads it back from the signed control log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from broker.audit.log.directory import LogDirectory
from broker.audit.log.note import Verifier, split_note
from broker.audit.rotation import OVERLAP_DAYS, Announced, KeyChange, announcements, vkey_of
from broker.audit.signed import SignedLog
from broker.auditlog.book import Seeds, SigningKeys, number_of, secret_of
from broker.auditlog.folders import StoredLog, logs_in
from broker.errors import BrokerError, ConfigError, TransientError
from broker.exchange.model import AUDIT_CONTROL
from broker.kafka.connection import KafkaConnection
from broker.kafka.diagnosis import check as check_connection
from broker.registry.store import require_why

DAY_MS: Final = 86_400_000
CODE: Final = "auditlog.rotation"
TRANSACTIONAL_ID: Final = "operator.auditlog-key"


class KeyFolder(Seeds, Protocol):
    """Where secrets are made and destroyed."""

    def create_secret(self, name: str) -> bool:
        """Make a named secret unless there is one; tells whether it was made."""

    def destroy_secret(self, name: str) -> bool:
        """Delete a named secret; tells whether there was one."""


def make_next(keys: KeyFolder, base: str) -> KeyChange:
    """Make the key that comes after the newest. A builder that runs signs with both from its next signature on.

    Raises:
        ConfigError: `auditlog.rotation`: two keys sign already; `keys.missing`: none does.
    """
    SigningKeys(keys)
    numbers = _numbers(keys)
    if len(numbers) > 1:
        raise ConfigError(
            f"{len(numbers)} keys sign already, so a rotation is under way; nothing was made. `broker auditlog key "
            f"show` prints it, `broker auditlog key retire` ends it.",
            code=CODE,
        )
    keys.create_secret(secret_of(numbers[-1] + 1))
    return change_of(keys, base)


def change_of(keys: KeyFolder, base: str) -> KeyChange:
    """The rotation that is under way.

    Raises:
        ConfigError: `auditlog.rotation`: only one key signs.
    """
    *old, new = SigningKeys(keys).public_keys()
    if not old:
        raise ConfigError("One key signs the logs; no rotation is under way.", code=CODE)
    return KeyChange(base, tuple(old), new)


async def announce(
    connection: KafkaConnection, change: KeyChange, *, operator: str, reason: str, now_ms: int, days: int = OVERLAP_DAYS
) -> Announced:
    """Write the change to the control log. A second time does no harm: the last announcement counts.

    Args:
        days: how long both keys sign, from now on.

    Raises:
        ConfigError: `auditlog.rotation`: nobody, or no reason. TransientError: it could not be written.
    """
    require_why(operator, reason, "a change of keys", code=CODE)
    told = Announced(change, now_ms, now_ms + days * DAY_MS, operator, reason)
    async with _writing(connection) as producer, producer.transaction():
        await producer.send_and_wait(AUDIT_CONTROL, told.leaf(), partition=0)
    return told


@asynccontextmanager
async def _writing(connection: KafkaConnection) -> AsyncIterator[AIOKafkaProducer]:
    await check_connection(connection)
    producer = AIOKafkaProducer(**connection.aiokafka(), transactional_id=TRANSACTIONAL_ID, acks="all")
    try:
        await producer.start()
        yield producer
    except KafkaError as error:
        raise TransientError(
            f"The change of keys could not be announced ({type(error).__name__}). Check that this user may write to "
            f"{AUDIT_CONTROL}, and run it again: a second announcement does no harm.",
            code=CODE,
        ) from error
    finally:
        await producer.stop()


def require_over(change: KeyChange, logs: Path, now_ms: int) -> None:
    """Whether the old key may go: the new one is announced, the overlap is over, and it has signed all logs.

    Args:
        logs: folder of all logs.

    Raises:
        ConfigError: `auditlog.rotation`: why it may not.
    """
    newest = _newest_epochs(logs, change.base)
    found = _announced(change, [log for log in newest if log.is_control])
    if found is None:
        raise ConfigError(
            "The new key is not announced in the signed control log, so no reader knows it. Run `broker auditlog key "
            "announce` at the operator's; the old key stays.",
            code=CODE,
        )
    if now_ms < found.both_until_ms:
        end = datetime.fromtimestamp(found.both_until_ms / 1000, UTC)
        raise ConfigError(
            f"Both keys are to sign until {end:%Y-%m-%d %H:%M} UTC, so that readers and witnesses can change; the old "
            f"key stays.",
            code=CODE,
        )
    for log in newest:
        key = Verifier.parse(vkey_of(log.origin, change.new))
        directory = LogDirectory(log.path)
        for note in filter(None, (directory.checkpoint(), directory.cosigned())):
            if (key.name, key.key_id) not in {(line.name, line.key_id) for line in split_note(note)[1]}:
                raise ConfigError(
                    f"A checkpoint in {log.path} is not signed with the new key: start the builder, and wait until "
                    f"it (and its witnesses) signed; the old key stays.",
                    code=CODE,
                )


def _newest_epochs(logs: Path, base: str) -> list[StoredLog]:
    """Older epochs are closed: what the old key signed there stays."""
    newest = {log.origin.rsplit("/", 1)[0]: log for log in logs_in(logs) if log.base == base}
    if not newest:
        raise ConfigError(f"None of the logs in {logs} has a name that begins with {base}/.", code=CODE)
    return list(newest.values())


def _announced(change: KeyChange, control: list[StoredLog]) -> Announced | None:
    """The last announcement of this change, proven to be in the signed log."""
    last = None
    for log in control:
        keys = [Verifier.parse(vkey_of(log.origin, public)) for public in (*change.old, change.new)]
        try:
            signed = SignedLog.open(LogDirectory(log.path), keys)
            if signed is None:
                continue
            for index, found in announcements(log.entries(0, signed.checkpoint.size)):
                if found.change.base == change.base and found.change.new == change.new:
                    signed.prove(index, found.leaf())
                    last = found
        except BrokerError as error:
            raise ConfigError(f"The control log in {log.path} can not be relied on: {error}.", code=CODE) from error
    return last


def destroy_old(keys: KeyFolder) -> list[str]:
    """Destroy the seeds of all keys but the newest; again after being killed in the middle.

    Returns:
        The names of those that were there.
    """
    SigningKeys(keys)
    return [name for number in range(1, _numbers(keys)[-1]) if keys.destroy_secret(name := secret_of(number))]


def _numbers(keys: Seeds) -> list[int]:
    return sorted(number for number in map(number_of, keys.secret_names()) if number is not None)
