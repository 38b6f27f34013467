"""The registry on Kafka: read it, and change it in one transaction with its audit.

A change is whole or not at all: the records on `registry`, and for each one leaf with the full change on
`audit.control`. Two operators at once do no harm: whoever begins last fences the other (one `transactional.id` for
all), and only then reads what there is to change.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any, Final, Protocol

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalOperation, KafkaError, ProducerFenced

from broker.client.published import read_compacted
from broker.errors import ConfigError, TransientError
from broker.identity.pgn import find_pgn
from broker.kafka.connection import KafkaConnection
from broker.kafka.diagnosis import check as check_connection
from broker.kafka.reading import looking
from broker.policy.document import canonical
from broker.registry.diff import Change, diff
from broker.registry.files import check
from broker.registry.keep import Unnamed, keep
from broker.registry.models import Succession
from broker.registry.succession import changes as changes_of

REGISTRY: Final = "registry"
AUDIT_CONTROL: Final = "audit.control"
TRANSACTIONAL_ID: Final = "operator.registry"
# An entry of the audit log is at most 65,535 bytes (its length takes two).
MAX_LEAF_BYTES: Final = 60_000
MAX_REASON_CHARS: Final = 500
# A lane's open transaction on `registry` may hide ours for as long as its time-out.
SEEN_TRIES, SEEN_LOOKS, SEEN_PAUSE_S = 3, 100, 0.1


class _Changes(Protocol):
    def __call__(self, current: Mapping[str, bytes], /) -> Mapping[str, bytes | None]: ...


class Clock(Protocol):
    """Milliseconds since 1970."""

    def __call__(self) -> int:
        """Now."""


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


async def read_records(connection: KafkaConnection) -> dict[str, bytes]:
    """What stands on the topic `registry` now, committed changes only; removed records are not in it.

    Raises:
        ConfigError: `topic.missing`, or `kafka.*` if there is no connection.
    """
    await check_connection(connection)
    return await read_compacted(connection, REGISTRY)


async def apply(
    connection: KafkaConnection,
    desired: Mapping[str, bytes],
    operator: str,
    reason: str,
    *,
    unnamed_connections: Unnamed = "keep",
    clock: Clock = now_ms,
) -> list[Change]:
    """Make the registry equal to `desired`, in one transaction. What is not desired is removed.

    But a party that is desired without public keys keeps those it has, and what events said about connections stays
    (`broker.registry.keep`).

    Args:
        operator: who does it. reason: why; both stand in the audit for ever, so no names of pupils.
        unnamed_connections: `remove`: also sides of connections that are not desired are removed.

    Returns:
        What was changed; nothing is written where nothing differs.

    Raises:
        ConfigError: `registry.invalid` and others; nothing was written.
        TransientError: `registry.busy`; nothing was written.
    """

    def kept(current: Mapping[str, bytes]) -> dict[str, bytes]:
        return keep(desired, current, unnamed_connections)

    return await _change(connection, kept, operator, reason, clock)


async def change(
    connection: KafkaConnection,
    changes: Mapping[str, bytes | None],
    operator: str,
    reason: str,
    *,
    clock: Clock = now_ms,
) -> list[Change]:
    """Change some records and leave the others; None removes one. Else as `apply`."""

    return await _change(connection, lambda current: changed(current, changes), operator, reason, clock)


async def succeed(
    connection: KafkaConnection, succession: Succession, operator: str, reason: str, *, clock: Clock = now_ms
) -> list[Change]:
    """Make a succession of what stands in the registry now; else as `apply`.

    Raises:
        ConfigError: `registry.succession`, and as `apply`; nothing was written.
    """
    return await _change(
        connection, lambda current: changed(current, changes_of(current, succession)), operator, reason, clock
    )


async def revise(
    connection: KafkaConnection, changes_of: _Changes, operator: str, reason: str, *, clock: Clock = now_ms
) -> list[Change]:
    """As `change`, of what stands in the registry at that very moment: nobody's change in between is lost."""
    return await _change(connection, lambda now: changed(now, changes_of(now)), operator, reason, clock)


def changed(current: Mapping[str, bytes], changes: Mapping[str, bytes | None]) -> dict[str, bytes]:
    """All records after some changed; None removes one."""
    return {key: value for key, value in {**current, **changes}.items() if value is not None}


def control_leaf(
    change: Change, before: bytes | None, after: bytes | None, operator: str, reason: str, at: int
) -> bytes:
    """The leaf of one change. A `before` that would make it too long is its hash: an earlier leaf has it as `after`.

    Raises:
        ConfigError: `registry.too_large`.
    """
    content: dict[str, Any] = {
        "kind": "registry",
        "key": change.key,
        "action": change.action,
        "before": None if before is None else _before(before),
        "after": None if after is None else json.loads(after),
        "operator": operator,
        "reason": reason,
        "at": at,
    }
    leaf = canonical({"v": 1, "control": content})
    if len(leaf) > MAX_LEAF_BYTES and before is not None:
        content["before"] = {"sha256": sha256(before).hexdigest()}
        leaf = canonical({"v": 1, "control": content})
    if len(leaf) > MAX_LEAF_BYTES:
        raise ConfigError(
            f"{change.key} is too large for the audit log ({len(leaf)} of {MAX_LEAF_BYTES} bytes). Shorten it.",
            code="registry.too_large",
        )
    return leaf


def _before(record: bytes) -> Any:
    """What is replaced; its hash if nobody can read it. Else the change that puts it right could not be made."""
    try:
        return json.loads(record)
    except ValueError:
        return {"sha256": sha256(record).hexdigest()}


def require_why(operator: str, reason: str, what: str, *, code: str) -> None:
    """Who and why must be something that can stand in the audit for ever.

    Args:
        what: is done; for the message.

    Raises:
        ConfigError: with this code.
    """
    for name, text in (("operator", operator), ("reason", reason)):
        if not text.strip() or len(text) > MAX_REASON_CHARS or find_pgn(text):
            raise ConfigError(
                f"The {name} of {what} goes into the audit for ever: 1 to {MAX_REASON_CHARS} characters, without any "
                "number of the state.",
                code=code,
            )


async def see_committed(
    connection: KafkaConnection, producer: AIOKafkaProducer, offset: int, topic: str = REGISTRY
) -> None:
    """Wait until a change can be read; have it marked once more if it can not.

    An acknowledged commit is not proof (docs/adr/0012): one that was not marked would hold up the views of all workers,
    until somebody changes the registry again.

    Args:
        offset: of its last record on the topic.

    Raises:
        TransientError: `registry.unseen`.
    """
    place = TopicPartition(topic, 0)
    consumer = looking(connection)
    await consumer.start()
    try:
        for _ in range(SEEN_TRIES):
            for _ in range(SEEN_LOOKS):
                if (await consumer.end_offsets([place]))[place] > offset:
                    return
                await asyncio.sleep(SEEN_PAUSE_S)
            async with producer.transaction():  # without records: only its end is written
                for name in (topic, AUDIT_CONTROL):
                    producer._txn_manager.maybe_add_partition_to_txn(TopicPartition(name, 0))
    finally:
        await consumer.stop()
    raise TransientError(
        f"Kafka took the change and does not show it: some transaction on `{topic}` does not end, and who reads there "
        f"waits for it. Look whether all partitions of `{topic}` have a leader, then run this again.",
        code="registry.unseen",
    )


class _Desired(Protocol):
    def __call__(self, current: Mapping[str, bytes], /) -> dict[str, bytes]: ...


@asynccontextmanager
async def changing(connection: KafkaConnection, topics: Sequence[str]) -> AsyncIterator[AIOKafkaProducer]:
    """A transactional producer, for a change of what the operator's commands write in one transaction with its audit.

    It fences whoever else changes such a thing, and waits until his transaction is settled: what is read then is what
    this change builds on.

    Args:
        topics: to write to; for messages.

    Raises:
        ConfigError: `kafka.*`. TransientError: `registry.busy`, `registry.unavailable`; nothing was written.
    """
    await check_connection(connection)
    producer = AIOKafkaProducer(**connection.aiokafka(), transactional_id=TRANSACTIONAL_ID, acks="all")
    try:
        await producer.start()
        yield producer
    except (ProducerFenced, IllegalOperation) as error:  # the second: it learned of the first by itself
        raise TransientError(
            "Another change by an operator began at the same time; nothing of this one was written. Run it again.",
            code="registry.busy",
        ) from error
    except KafkaError as error:
        raise TransientError(
            f"The change could not be written ({type(error).__name__}); nothing of it was. Check that the topics "
            f"{' and '.join(topics)} are there and that this user may write to them.",
            code="registry.unavailable",
        ) from error
    finally:
        await producer.stop()


async def _change(
    connection: KafkaConnection, desired_of: _Desired, operator: str, reason: str, clock: Clock
) -> list[Change]:
    require_why(operator, reason, "a change", code="registry.why")
    async with changing(connection, (REGISTRY, AUDIT_CONTROL)) as producer:
        current = await read_records(connection)
        desired = desired_of(current)
        check(desired)
        changes = diff(current, desired)
        at = clock()
        leaves = [control_leaf(c, current.get(c.key), desired.get(c.key), operator, reason, at) for c in changes]
        if changes:
            written = []
            async with producer.transaction():
                for one, leaf in zip(changes, leaves, strict=True):
                    value = desired.get(one.key)
                    written.append(await producer.send(REGISTRY, value, key=one.key.encode(), partition=0))
                    await producer.send(AUDIT_CONTROL, leaf, partition=0)
            await see_committed(connection, producer, (await written[-1]).offset)
    return changes
