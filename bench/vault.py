"""The vault view at a country's size: from the topic to a lookup.

Every pupil stands in the vault under two keys, his local id and his ECK iD: a million pupils are two million records.
Values are random bytes of a real record's size, as hard to compress as what is encrypted; some are real, to be
decrypted. They are written to a real Kafka, and a `VaultView` reads them over TLS into its file, as a new worker does.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from broker.crypto import partition_of
from broker.engine import KafkaClients, VaultView, topic_identity
from broker.exchange.model import VAULT
from broker.identity.vault import ECK_ID, VaultCipher, VaultRecord, new_subject_key
from broker.kafka.admin import Admin
from broker.kafka.connection import KafkaConnection
from broker.kafka.embedded import EmbeddedKafka
from broker.kafka.topics import desired_topics, load_specs

KEYS_OF_A_PUPIL: Final = 2
REAL: Final = 2_000  # pupils whose records can be decrypted
LOOKUPS: Final = 200_000
BATCH_OF_LOOKUPS: Final = 500
PATIENCE_S: Final = 1800.0
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def run(count: int = 1_000_000) -> dict[str, Any]:
    """Measure with so many pupils."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as home:
        kafka = EmbeddedKafka(Path(home) / "kafka")
        kafka.start()
        try:
            return asyncio.run(_run(kafka.admin_connection(), Path(home), count))
        finally:
            kafka.stop()


async def _run(connection: KafkaConnection, home: Path, count: int) -> dict[str, Any]:
    spec = next(s for s in desired_topics(load_specs(), {}, replicas=1) if s.name == VAULT)
    Admin(connection).apply([spec], None)
    cipher = VaultCipher(os.urandom(32), os.urandom(32), os.urandom(32))
    real = [_person(number) for number in range(min(REAL, count))]
    began = time.monotonic()
    records = await _write(connection, cipher, real, count, spec.partitions)
    written_s = time.monotonic() - began
    before = _rss_mib()
    async with _loaded(connection, home / "view") as (view, loaded_s):
        assert len(view) == records
        result = {
            "pupils": count,
            "records": records,
            "written_s": written_s,
            "load_s": loaded_s,
            "load_records_per_s": records / loaded_s,
            "disk_mib": _disk_mib(home / "view"),
            "disk_bytes_per_record": _disk_mib(home / "view") * 2**20 / records,
            "lookup_us": _lookups(view, count),
            "lookup_and_open_us": _opened(view, cipher, real),
            "rss_before_mib": before,
            "rss_after_mib": _rss_mib(),
            "anonymous_mib": _anonymous_mib(),
        }
    async with _loaded(connection, home / "view") as (view, resumed_s):
        assert len(view) == records
        result["resume_s"] = resumed_s
    return result


async def _write(
    connection: KafkaConnection, cipher: VaultCipher, real: Sequence[VaultRecord], count: int, partitions: int
) -> int:
    size = len(cipher.encrypt(b"", real[0]))
    producer = AIOKafkaProducer(**connection.aiokafka(), acks=1, linger_ms=0, max_batch_size=900_000)
    await producer.start()
    builders = [producer.create_batch() for _ in range(partitions)]
    sending: list[Any] = []
    written = 0
    try:
        for key, value in _records(cipher, real, count, size):
            number = partition_of(key, partitions)
            if builders[number].append(key=key, value=value, timestamp=None) is None:
                sending.append(await producer.send_batch(builders[number], VAULT, partition=number))
                builders[number] = producer.create_batch()
                builders[number].append(key=key, value=value, timestamp=None)
            written += 1
            if len(sending) >= 2 * partitions:
                await asyncio.gather(*sending)
                sending.clear()
        for number, builder in enumerate(builders):
            if builder.record_count():
                sending.append(await producer.send_batch(builder, VAULT, partition=number))
        await asyncio.gather(*sending)
    finally:
        await producer.stop()
    return written


def _records(cipher: VaultCipher, real: Sequence[VaultRecord], count: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    for person in real:
        for key in cipher.keys(person):
            yield key, cipher.encrypt(key, person)
    for number in range(len(real), count):
        for which in range(KEYS_OF_A_PUPIL):
            yield _key(number, which), os.urandom(size)


def _person(number: int) -> VaultRecord:
    eck_id = f"https://ketenid.nl/201703/{number:0128x}"
    return VaultRecord("99PA", "PO", "PUPIL", eck_id, (("LAS_KEY", f"L{number:06}"),), None, new_subject_key())


def _key(number: int, which: int) -> bytes:
    return sha256(b"%d/%d" % (number, which)).digest()


@asynccontextmanager
async def _loaded(connection: KafkaConnection, folder: Path) -> AsyncIterator[tuple[VaultView, float]]:
    """A view that has read everything there is, and how long that took."""
    began = time.monotonic()
    view = VaultView(KafkaClients(connection), topic_identity(connection, VAULT), folder)
    following = asyncio.create_task(view.run())
    try:
        await asyncio.wait_for(view.loaded(), PATIENCE_S)
        yield view, time.monotonic() - began
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        view.close()


def _lookups(view: VaultView, count: int) -> float:
    """Random pupils, in read transactions as long as a batch's."""
    first = min(REAL, count - 1)
    keys = [_key(random.randrange(first, count), random.randrange(KEYS_OF_A_PUPIL)) for _ in range(LOOKUPS)]
    found, began = 0, time.process_time()
    for start in range(0, LOOKUPS, BATCH_OF_LOOKUPS):
        with view.reading() as reader:
            found += sum(reader.get(key) is not None for key in keys[start : start + BATCH_OF_LOOKUPS])
    cpu = time.process_time() - began
    assert found == LOOKUPS or count <= REAL
    return cpu / LOOKUPS * 1e6


def _opened(view: VaultView, cipher: VaultCipher, real: Sequence[VaultRecord]) -> float:
    """The first look at a pupil: hash of the id, lookup, decryption of record and subject key."""
    order = random.sample(real, len(real))
    began = time.process_time()
    with view.reading() as reader:
        for person in order:
            found = cipher.find(reader, cipher.key(person.sector, person.school, ECK_ID, person.eck_id or ""))
            assert found == person
    return (time.process_time() - began) / len(order) * 1e6


def _disk_mib(folder: Path) -> float:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file()) / 2**20


def _rss_mib() -> float:
    return int(Path("/proc/self/statm").read_text("utf-8").split()[1]) * _PAGE / 2**20


def _anonymous_mib() -> float:
    """Memory of the process's own, without the pages of the file."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) / 1024
