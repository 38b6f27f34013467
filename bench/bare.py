"""The bare loop that a worker is held against: the same bytes in the same transactions, and no decision.

    python -m bench.bare <connection.json> <job.json>

For each input record it writes what the job says, over TLS, exactly once: one transaction for each batch of a partition
under a producer of its own, with the position in the same transaction; nothing is parsed, keyed or made.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from base64 import b64decode
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from broker.engine import EngineConfig
from broker.engine.transaction import lane_producer, pack, write
from broker.exchange.model import Outgoing
from broker.kafka.connection import KafkaConnection


class Template(NamedTuple):
    """A record to write for an input record."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


def main() -> None:
    """Copy everything there is and print one line of JSON."""
    connection = KafkaConnection.from_file(Path(sys.argv[1]))
    job = json.loads(Path(sys.argv[2]).read_text("utf-8"))
    print(json.dumps(asyncio.run(_copy(connection, job))))


async def _copy(connection: KafkaConnection, job: dict[str, Any]) -> dict[str, float]:
    config, client = EngineConfig(group=job["group"]), connection.aiokafka()
    templates = [[_template(record) for record in of_topic] for of_topic in job["outputs"]]
    consumer = AIOKafkaConsumer(
        **client, isolation_level="read_committed", enable_auto_commit=False, auto_offset_reset="none",
        max_partition_fetch_bytes=1 << 20, fetch_max_bytes=8 << 20,
    )  # fmt: skip
    await consumer.start()
    places = [TopicPartition(job["input"], number) for number in range(job["partitions"])]
    producers = {place: lane_producer(client, f"{job['group']}.{place.partition}", config) for place in places}
    try:
        await asyncio.gather(*(producer.start() for producer in producers.values()))
        consumer.assign(places)
        for place in places:
            consumer.seek(place, job["from"][str(place.partition)])
        left, began, cpu = int(job["records"]), time.monotonic(), time.process_time()
        while left:
            fetched = await consumer.getmany(timeout_ms=500, max_records=config.batch_records * len(places))
            await asyncio.gather(
                *(_lane(producers[place], place, records, templates, config) for place, records in fetched.items())
            )
            left -= sum(map(len, fetched.values()))
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    finally:
        await consumer.stop()
        await asyncio.gather(*(producer.stop() for producer in producers.values()))
    return {"records": job["records"], "seconds": seconds, "cpu_seconds": cpu}


async def _lane(producer: Any, place: TopicPartition, records: Any, templates: Any, config: EngineConfig) -> None:
    for first in range(0, len(records), config.batch_records):
        batch = records[first : first + config.batch_records]
        outgoing = [Outgoing("bench.state", place.partition, config.group.encode(), str(batch[-1].offset + 1).encode())]
        for of_topic in templates:
            some = islice(cycle(of_topic), len(batch))
            outgoing += [Outgoing(template.topic, place.partition, *template[1:]) for template in some]
        if not templates:
            outgoing += [Outgoing("bench.copy", place.partition, r.key, r.value, r.headers) for r in batch]
        await producer.begin_transaction()
        await write(producer, pack(producer, outgoing))
        await producer.commit_transaction()


def _template(record: dict[str, Any]) -> Template:
    headers = tuple((name, b64decode(value)) for name, value in record["headers"])
    return Template(record["topic"], _bytes(record["key"]), _bytes(record["value"]), headers)


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text)


if __name__ == "__main__":
    main()
