"""`broker.auditserve.record` without Kafka: what is not acknowledged is an error, and the next leaf is tried anew."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError

from broker.auditserve import record
from broker.auditserve.record import KafkaRecorder
from broker.errors import TransientError
from broker.kafka.connection import KafkaConnection

CONNECTION = KafkaConnection("127.0.0.1:1", insecure_plaintext=True)


class Producer:
    """A producer whose `start` and `send_and_wait` do what the test says; None: they never come back."""

    made: list[Producer]
    fails: dict[str, Exception | type[BaseException] | None]

    def __init__(self, **settings: Any) -> None:
        assert settings["acks"] == "all"
        assert settings["enable_idempotence"]
        self.sent: list[bytes] = []
        self.stopped = 0
        self.made.append(self)

    async def start(self) -> None:
        """Connect."""
        await self._do("start")

    async def stop(self) -> None:
        """Close."""
        self.stopped += 1

    async def send_and_wait(self, topic: str, value: bytes, partition: int) -> None:
        """Send."""
        assert (topic, partition) == ("audit.control", 0)
        await self._do("send")
        self.sent.append(value)

    async def _do(self, what: str) -> None:
        if what in self.fails:
            error = self.fails[what]
            if error is None:
                await asyncio.Event().wait()
            else:
                raise error


@pytest.fixture
def producers(monkeypatch: pytest.MonkeyPatch) -> list[Producer]:
    """All that were made."""
    Producer.made, Producer.fails = [], {}
    monkeypatch.setattr(record, "AIOKafkaProducer", Producer)
    return Producer.made


@pytest.mark.parametrize("what", ["start", "send"])
@pytest.mark.parametrize(
    "error", [KafkaConnectionError(), KafkaTimeoutError(), OSError(), asyncio.CancelledError(), None],
    ids=["connection", "timeout", "os", "cancelled-by-itself", "silence"],
)  # fmt: skip
async def test_what_is_not_acknowledged_is_not_recorded(
    producers: list[Producer], what: str, error: Exception | None
) -> None:
    """Whatever aiokafka does; and once Kafka is back the next leaf is recorded, by a client that is new."""
    async with KafkaRecorder(CONNECTION, ack_s=0.05) as recorder:
        Producer.fails = {what: error}
        with pytest.raises(TransientError) as caught:
            await recorder.write(b"a")
        assert caught.value.code == "audit.unrecorded"
        Producer.fails = {}
        await recorder.write(b"b")
        await recorder.write(b"c")
    assert [producer.sent for producer in producers] == [[], [b"b", b"c"]]
    assert [producer.stopped for producer in producers] == [1, 1]


async def test_many_at_once_share_one_client(producers: list[Producer]) -> None:
    """Also at the very beginning."""
    async with KafkaRecorder(CONNECTION) as recorder:
        await asyncio.gather(*(recorder.write(b"%d" % number) for number in range(9)))
    assert [len(producer.sent) for producer in producers] == [9]


async def test_who_gives_up_waiting_is_not_told_that_it_failed(producers: list[Producer]) -> None:
    """A service that is told to end ends."""
    async with KafkaRecorder(CONNECTION) as recorder:
        Producer.fails = {"send": None}
        writing = asyncio.create_task(recorder.write(b"a"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
