"""Who asked what stands in the audit itself, before the answer leaves: leaves of kind `audit-query` on `audit.control`.

Such a leaf says who, which question, of which school, party, process and time, and how many rows were found; never whom
a question was about: no id, no tag, no event.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from broker.audit.leaf import control_leaf
from broker.auditserve.questions import Asked, Find, Lines, People
from broker.auditserve.rights import Asker, Question, named
from broker.engine.ending import end_within
from broker.errors import TransientError
from broker.exchange.model import AUDIT_CONTROL
from broker.kafka.closing import told_to_end
from broker.kafka.connection import KafkaConnection
from broker.policy.words import PROCESSES
from broker.registry import Registry

log = structlog.get_logger("broker.auditserve")

KIND: Final = "audit-query"
ACK_S: Final = 10.0
STOP_S: Final = 3.0


class Recorder(Protocol):
    """Keeps leaves."""

    async def write(self, leaf: bytes) -> None:
        """Return when it is kept.

        Raises:
            TransientError: `audit.unrecorded`; nothing may be answered then.
        """


def query_leaf(
    who: Asker, question: Question, asked: Asked, registry: Registry, at_ms: int, *, rows: int | None
) -> bytes:
    """The leaf of one question.

    Args:
        registry: only schools and parties that it knows are named: what somebody typed in the wrong place is not.
        rows: that were found; None: it was refused.
    """
    content: dict[str, Any] = {
        "answer": "refused" if rows is None else "given", "at": at_ms, "by": who.id, "question": question.value,
        "role": who.role.value,
    }  # fmt: skip
    person = asked.person if isinstance(asked, Lines) else None
    name = person[0].school if person is not None else asked.school if isinstance(asked, Find | People) else None
    school = None if name is None else named(registry, name)
    content |= {} if school is None else {"school": school.id}
    if isinstance(asked, People) or person is not None:  # how much is known of a pupil could tell who it is
        return control_leaf(KIND, content)
    content |= {} if rows is None else {"rows": rows}
    if isinstance(asked, Lines):
        process = (asked.activity or "").rpartition("/")[2]  # anything may stand before it
        filters = {"process": process if process in PROCESSES else None, "since": asked.start_ms, "until": asked.end_ms}
        content |= {name: value for name, value in filters.items() if value is not None}
    if isinstance(asked, Find):
        filters = {"process": asked.process, "since": asked.since, "until": asked.until}
        content |= {name: value for name, value in filters.items() if value is not None}
        content |= {"party": asked.party} if asked.party in registry.parties else {}
    return control_leaf(KIND, content)


class KafkaRecorder:
    """Writes leaves to `audit.control`, each acknowledged by all replicas in sync. Use `async with`.

    A client that failed once is replaced: an idempotent producer does not always come back from an error.
    """

    def __init__(self, connection: KafkaConnection, ack_s: float = ACK_S) -> None:
        self._connection, self._ack_s = connection, ack_s
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def __aenter__(self) -> KafkaRecorder:
        """Nothing is connected yet: that is for the first leaf to do."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection."""
        await self._end(self._producer)

    async def write(self, leaf: bytes) -> None:
        """See Recorder."""
        producer: AIOKafkaProducer | None = None
        try:
            async with asyncio.timeout(self._ack_s):
                producer = await self._started()
                await producer.send_and_wait(AUDIT_CONTROL, leaf, partition=0)
        except (KafkaError, TimeoutError, OSError, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and told_to_end():
                raise
            log.warning("audit.unrecorded", code="audit.unrecorded", error=type(error).__name__)
            await self._end(producer)
            raise TransientError(
                "Your question could not be written into the audit, so it is not answered. Ask again later.",
                code="audit.unrecorded",
            ) from error

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(**self._connection.aiokafka(), acks="all", enable_idempotence=True)
                try:
                    await producer.start()
                except BaseException:
                    await end_within(producer.stop(), STOP_S)
                    raise
                self._producer = producer
            return self._producer

    async def _end(self, producer: AIOKafkaProducer | None) -> None:
        if producer is not None:
            if self._producer is producer:
                self._producer = None
            await end_within(producer.stop(), STOP_S)
