"""Read one record that aiokafka cannot parse.

A header whose name is not UTF-8 makes aiokafka raise UnicodeDecodeError from `getmany`, for ever, and hides the
records of all other partitions with it (0.14; the broker accepts such a record). One party could stop everybody.
librdkafka leaves headers alone until they are asked for: key and value can be read, so that the record gets its
decision like any other. Its headers are lost, the data key among them: the exchange will quarantine it.
"""

from __future__ import annotations

import time
from typing import Final

from aiokafka import ConsumerRecord, TopicPartition

from broker.kafka.connection import KafkaConnection

WAIT_S: Final = 10.0


def read_raw(connection: KafkaConnection, group: str, partition: TopicPartition, offset: int) -> ConsumerRecord | None:
    """The first committed record at or after an offset, without its headers; None when it does not come. Blocks."""
    from confluent_kafka import Consumer
    from confluent_kafka import TopicPartition as Place

    settings = connection.confluent() | {
        "group.id": f"{group}-rescue",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "auto.offset.reset": "error",  # a record that retention took is lost input, to be told; never skip to the end
        "log_level": 0,
    }
    consumer = Consumer(settings)
    try:
        consumer.assign([Place(partition.topic, partition.partition, offset)])
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is None or message.error() is not None:
                continue
            kind, timestamp = message.timestamp()
            key, value = message.key(), message.value()
            return ConsumerRecord(
                partition.topic, partition.partition, message.offset(), timestamp, kind, key, value, None,
                len(key or b""), len(value or b""), (),
            )  # fmt: skip
        return None
    finally:
        consumer.close()
