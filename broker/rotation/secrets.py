"""Replaces a secret of the vault: `vault-records`, under which its records are, or `school-keys`, inside of them.

    made          a newer version stands in the key store; nobody writes under it
    in use        the registry names it: `key/<name>`. Workers write under it, or stand still if they have it not
    rewritten     no record of the vault is under an older version any more
    outlived      (school-keys) nor is any entry of `audit.index`, which stay for a week
    destroyed     the older versions are, and the registry says that none is needed

Where it stands follows from the key store, the registry and the vault, and nothing else is kept. So it can be killed
at any moment and run again, from another machine too, as long as the key store is the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from broker.engine.clients import KafkaClients
from broker.errors import ConfigError
from broker.exchange.keys import vault_cipher
from broker.identity.vault import RECORDS, SCHOOLS, VaultCipher
from broker.kafka.connection import KafkaConnection
from broker.keys import SecretMaker, numbers, secret_of
from broker.keys.versions import number_of
from broker.registry import KeyInUse, Registry, store
from broker.registry.models import key_of
from broker.registry.registry import record_of
from broker.rotation.rewrite import Progress, Rewriter

#: Twice the bound of P7: within five seconds no worker commits what it decided on an older registry.
SETTLE_S: Final = 10.0
#: A view is used that is two seconds old, or ten in the audit service.
OUTLIVE_S: Final = 15.0
#: `audit.index` keeps entries for a week; a day more for an indexer that comes by daily.
INDEX_AGE: Final = timedelta(days=8)


class Telling(Progress, Protocol):
    """Is told what happens, for people."""

    def step(self, name: str, text: str) -> None:
        """Something was done, or begins."""

    async def wait(self, seconds: float, why: str) -> None:
        """Wait so long."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a rotation works with.

    Args:
        operator: connection that changes registry and audit. rotator: connection of `key-rotator`.
        keys: of the broker's workers. who, reason: for the audit.
        grace_s: how long every process has to learn of a new key before it comes into use.
        make_only: end once the newer one is made: it has to be brought to other machines first.
    """

    operator: KafkaConnection
    rotator: KafkaConnection
    keys: SecretMaker
    who: str
    reason: str
    grace_s: float
    make_only: bool = False
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def record(self, entry: KeyInUse) -> None:
        """Write which key is in use into the registry, and with it into the audit, in one transaction."""
        await store.change(self.operator, {key_of(entry): record_of(entry)}, self.who, self.reason)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the rotation of a secret stands.

    Args:
        in_use: number of the version that is written with. older: those that may still be needed.
        present: numbers of the versions in the key store, newest first.
        since: when the one in use came into use; None: it is the first.
    """

    in_use: int
    older: tuple[int, ...]
    present: tuple[int, ...]
    since: datetime | None

    @property
    def under_way(self) -> bool:
        """Whether a rotation began and has not ended."""
        return bool(self.older) or self.waiting is not None

    @property
    def waiting(self) -> int | None:
        """The version that was made and is not in use yet."""
        return next((number for number in self.present if number > self.in_use), None)


def standing(name: str, keys: SecretMaker, registry: Registry) -> Standing:
    """Where the rotation of a secret stands.

    Raises:
        ConfigError: `keys.behind`: the version in use is not in this key store, nor is a newer one.
    """
    entry, present = registry.keys_in_use.get(name), numbers(keys, name)
    in_use = registry.secret_in_use(name)
    older = tuple(n for secret in (entry.older if entry else ()) if (n := number_of(name, secret)) is not None)
    if not present or max(present) < in_use:
        raise ConfigError(
            f"Version {in_use} of the secret {name} is in use and is not in this key store. Give the one that the "
            "workers have.",
            code="keys.behind",
        )
    return Standing(in_use, older, present, entry.since if entry else None)


async def read_registry(connection: KafkaConnection) -> Registry:
    """The registry as it stands now."""
    return Registry.from_records(await store.read_records(connection))


def cipher_in_use(keys: SecretMaker, registry: Registry) -> VaultCipher:
    """What opens the vault's records, set to the versions in use; remembers none.

    Raises:
        ConfigError: `keys.missing`. TransientError: `keys.behind`.
    """
    cipher = vault_cipher(keys, remembered=0)
    cipher.use(registry.secret_in_use(RECORDS), registry.secret_in_use(SCHOOLS))
    return cipher


async def rotate_secret(name: str, job: Job, tell: Telling) -> datetime | None:
    """Replace a secret, from where it stands on.

    Args:
        name: `vault-records` or `school-keys`.

    Returns:
        When to run it again: it is not finished before. None: it is finished, or was to make the newer version only.

    Raises:
        ConfigError: `keys.*`, `kafka.*`, `registry.*`. TransientError: `vault.rewriting`, `registry.*`: run it again.
    """
    registry = await read_registry(job.operator)
    found = standing(name, job.keys, registry)
    if not found.under_way:
        job.keys.create_secret(secret_of(name, max(found.present) + 1))
        found = standing(name, job.keys, registry)
        tell.step("made", f"{secret_of(name, found.present[0])} is made; nobody writes under it yet")
    if job.make_only:
        return None
    if not found.older:
        await tell.wait(job.grace_s, "for every process to read the newer version")
        await _bring_into_use(name, found, job)
        tell.step("in use", f"{secret_of(name, found.present[0])} is in use: what is written from now on is under it")
        registry = await read_registry(job.operator)
        found = standing(name, job.keys, registry)
    await tell.wait(SETTLE_S, "until every worker writes under it")
    rewriter = Rewriter(KafkaClients(job.rotator), cipher_in_use(job.keys, registry), tell)
    done = await rewriter.run()
    tell.step("rewritten", f"no record of the vault is under an older version ({done} were rewritten now)")
    if name == SCHOOLS and found.since is not None and job.clock() < found.since + INDEX_AGE:
        return found.since + INDEX_AGE
    await tell.wait(OUTLIVE_S, "until every view has read what was rewritten")
    for number in found.older:
        if job.keys.destroy_secret(secret_of(name, number)):
            tell.step("destroyed", f"{secret_of(name, number)} is destroyed in this key store")
    entry = registry.keys_in_use[name]
    await job.record(entry.model_copy(update={"older": ()}))
    tell.step("ended", f"{name}: finished; destroy the older versions wherever else they are, backups included")
    return None


async def _bring_into_use(name: str, found: Standing, job: Job) -> None:
    newest = found.present[0]
    older = sorted({found.in_use, *(number for number in found.present if number < newest)}, reverse=True)
    await job.record(
        KeyInUse(
            id=name,
            version=secret_of(name, newest),
            older=tuple(secret_of(name, number) for number in older),
            since=job.clock(),
        )
    )


async def count_older(job: Job, registry: Registry) -> int:
    """How many records of the vault are under an older version of either secret."""
    rewriter = Rewriter(KafkaClients(job.rotator), cipher_in_use(job.keys, registry), _Silent())
    return await rewriter.count()


class _Silent:
    def partition(self, number: int, of: int, old: int) -> None: ...

    def rewritten(self, records: int) -> None: ...


def described(name: str, found: Standing) -> Mapping[str, object]:
    """As one row for people."""
    return {
        "key": name,
        "in_use": secret_of(name, found.in_use),
        "since": found.since.isoformat() if found.since else "",
        "older": " ".join(secret_of(name, number) for number in found.older),
        "waiting": "" if found.waiting is None else secret_of(name, found.waiting),
    }
