"""Junk as fast as Kafka takes it, until standard input says something or ends.

    python -m bench.flooder <connection.json> <topic>

Prints one line of JSON: records and bytes that Kafka took, seconds, and seconds that Kafka made it wait.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

from confluent_kafka import KafkaError, Message, Producer, ThrottleEvent

from broker.kafka.connection import KafkaConnection

RECORD_BYTES = 50_000
MOST_WAITING = 200


def main() -> None:
    """Flood."""
    connection, topic = KafkaConnection.from_file(Path(sys.argv[1])), sys.argv[2]
    told = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), told.set()), daemon=True).start()
    waited, taken = 0.0, 0

    def throttled(event: ThrottleEvent) -> None:
        nonlocal waited
        waited += event.throttle_time

    def delivered(error: KafkaError | None, _message: Message) -> None:
        nonlocal taken
        taken += error is None

    settings = {**connection.confluent(), "log_level": 0, "acks": "all", "linger.ms": 5, "compression.type": "none"}
    producer = Producer({**settings, "throttle_cb": throttled})
    junk, began = os.urandom(RECORD_BYTES), time.monotonic()
    while not told.is_set():
        if len(producer) < MOST_WAITING:
            producer.produce(topic, junk, key=b"k", on_delivery=delivered)
        producer.poll(0 if len(producer) < MOST_WAITING else 0.01)
    seconds = time.monotonic() - began
    producer.purge()
    producer.flush(10)
    print(json.dumps({"records": taken, "bytes": taken * RECORD_BYTES, "seconds": seconds, "waited_s": waited}))


if __name__ == "__main__":
    main()
