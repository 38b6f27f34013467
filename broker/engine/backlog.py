"""Records that were read and wait for their batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from aiokafka import ConsumerRecord

from broker.engine.config import EngineConfig
from broker.exchange.model import InputRecord


class Backlog:
    """First in, first out; counted in records and in bytes, since one record may be a megabyte."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._waiting: deque[tuple[int, ConsumerRecord]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Two batches are enough to stay busy while the next fetch is under way."""
        return len(self._waiting) >= 2 * self._config.batch_records or self._bytes >= 2 * self._config.batch_bytes

    def extend(self, records: Sequence[ConsumerRecord]) -> None:
        """Small fetches grow into one batch here."""
        for record in records:
            size = size_of(record)
            self._bytes += size
            self._waiting.append((size, record))

    def take(self, most: int) -> list[InputRecord]:
        """The next batch: at least one record, then as many as `most` and the limit in bytes allow."""
        batch: list[InputRecord] = []
        room = self._config.batch_bytes
        while self._waiting and len(batch) < most:
            size, record = self._waiting[0]
            if batch and size > room:
                break
            self._waiting.popleft()
            self._bytes -= size
            room -= size
            batch.append(_input(record))
        return batch

    def clear(self) -> None:
        """Drop everything; it will be read again."""
        self._waiting.clear()
        self._bytes = 0


def size_of(record: ConsumerRecord) -> int:
    """Bytes of key, value and headers."""
    headers = sum(len(name) + len(value or b"") for name, value in record.headers)
    return len(record.value or b"") + len(record.key or b"") + headers


def _input(record: ConsumerRecord) -> InputRecord:
    headers = tuple((name, value or b"") for name, value in record.headers)
    return InputRecord(
        record.topic, record.partition, record.offset, record.timestamp, record.key, record.value, headers
    )
