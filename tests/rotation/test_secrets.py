"""A secret is replaced step by step, and each step can be the last one of a run: on a real Kafka, without waiting."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from aiokafka import AIOKafkaProducer

from broker.data import data_path
from broker.exchange.keys import vault_cipher
from broker.exchange.model import AUDIT_CONTROL
from broker.identity.vault import RECORDS, SCHOOLS, VaultCipher
from broker.kafka.access import KEY_ROTATOR, OPERATOR, WORKER
from broker.kafka.connection import KafkaConnection
from broker.keys import MemoryKeys, numbers
from broker.registry import load_document, records_of, store
from broker.rotation.secrets import INDEX_AGE, Job, read_registry, rotate_secret
from tests.e2e.watch import raw
from tests.rotation.test_rewrite import pupils, standing, write

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
STEPS = 20


class Killed(Exception):
    """The process ends here."""


class Until:
    """Lets a run live until it has told so much."""

    def __init__(self, most: int) -> None:
        self.left = most

    def _tell(self) -> None:
        if not self.left:
            raise Killed
        self.left -= 1

    def step(self, name: str, text: str) -> None:
        """See Telling. Behind its end another run would be another rotation."""
        del text
        if name != "ended":
            self._tell()

    async def wait(self, seconds: float, why: str) -> None:
        """See Telling."""
        del seconds, why
        self._tell()

    def partition(self, number: int, of: int, old: int) -> None:
        """See Progress."""

    def rewritten(self, records: int) -> None:
        """See Progress."""


async def test_killed_at_any_step_it_goes_on_and_ends_the_same(users: dict[str, KafkaConnection]) -> None:
    """First the index's master, whose end comes eight days later, then the vault's own secret: one version each, no
    record under another, everybody as he was, and two leaves for each rotation however often it was begun."""
    keys = MemoryKeys()
    for name in ("vault-mac", RECORDS, SCHOOLS):
        keys.create_secret(name)
    await store.apply(
        users[OPERATOR], records_of(load_document(data_path("examples") / "registry")), "annelies", "test"
    )
    first = vault_cipher(keys)
    people = {key: person for number in range(4) for key, person in pupils(first, 2, partition=number).items()}
    lane = AIOKafkaProducer(**users[WORKER].aiokafka())
    await lane.start()
    try:
        left = await standing(users[WORKER])  # by other tests
        await write(lane, dict.fromkeys(left))
        await write(lane, {key: first.encrypt(key, person) for key, person in people.items()})
    finally:
        await lane.stop()

    async def rotated(name: str, at: datetime) -> datetime | None:
        job = Job(users[OPERATOR], users[KEY_ROTATOR], keys, "annelies", "each year", 0.0, clock=lambda: at)
        for most in range(STEPS):
            try:
                return await rotate_secret(name, job, Until(most))
            except Killed:
                continue
        raise AssertionError("it never ends")

    assert await rotated(SCHOOLS, NOW) == NOW + INDEX_AGE
    assert numbers(keys, SCHOOLS) == (2, 1)
    assert await rotated(SCHOOLS, NOW + INDEX_AGE - timedelta(seconds=1)) == NOW + INDEX_AGE
    assert await rotated(SCHOOLS, NOW + INDEX_AGE) is None
    assert await rotated(RECORDS, NOW) is None
    assert (numbers(keys, SCHOOLS), numbers(keys, RECORDS)) == ((2,), (2,))

    newest = VaultCipher(keys.secret("vault-mac"), keys.secret("vault-records.2"), keys.secret("school-keys.2"))
    assert {key: newest.decrypt(key, value) for key, value in (await standing(users[WORKER])).items()} == people
    registry = await read_registry(users[OPERATOR])
    assert {name: (entry.version, entry.older) for name, entry in registry.keys_in_use.items()} == {
        SCHOOLS: ("school-keys.2", ()), RECORDS: ("vault-records.2", ())
    }  # fmt: skip
    control = raw(users[OPERATOR], lambda topic: topic == AUDIT_CONTROL)
    told = [json.loads(record.value)["control"] async for record in control]
    assert [leaf["key"] for leaf in told if leaf.get("key", "").startswith("key/")] == [
        f"key/{SCHOOLS}", f"key/{SCHOOLS}", f"key/{RECORDS}", f"key/{RECORDS}"
    ]  # fmt: skip
