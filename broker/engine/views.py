"""The two views that every decision looks at: the registry in memory, the vault on disk.

Both only follow. A lane may use them only while they are proven current (`Views.require_current`): a permission that
was withdrawn must not live on here because a connection hangs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog
from aiokafka import ConsumerRecord

from broker.engine.clients import Clients
from broker.engine.store import MAX_KEY_BYTES, Store, StoreFull
from broker.engine.topicview import TopicTail
from broker.errors import BrokerError, ConfigError, TransientError
from broker.exchange.model import VaultReader
from broker.registry import Registry
from broker.registry.registry import POLICY_KEY, ROUTES_KEY, parse_record, unreadable_suspension

log = structlog.get_logger()

REGISTRY: Final = "registry"
VAULT: Final = "vault.identity"
MAX_ABSENCE_S: Final = 12 * 3600.0  # half of the topic's delete.retention.ms
HEAD_EVERY_S: Final = 30.0

Build = Callable[[Registry | None, Mapping[str, bytes], Mapping[str, bytes | None]], Registry]


def build_registry(
    last: Registry | None, records: Mapping[str, bytes], changes: Mapping[str, bytes | None]
) -> Registry:
    """From the last one and what changed since, or from all records when there is no last one.

    An entry that cannot be read grants nothing, as if it were not there: what it took back must not live on, and what
    other entries take back counts. A suspension that cannot be read suspends all the same.

    Raises:
        ConfigError: policy or routes cannot be read.
    """
    base, given = (Registry(), records) if last is None else (last, changes)
    try:
        return base.with_changes(given)
    except ConfigError:
        return base.with_changes({key: _readable(key, value) for key, value in given.items()})


def _readable(key: str, value: bytes | None) -> bytes | None:
    if value is None or key in (POLICY_KEY, ROUTES_KEY):
        return value
    try:
        parse_record(key, value)
    except ConfigError as error:
        log.error("registry.unreadable", code="registry.unreadable", reason=error.code)  # noqa: TRY400
        return unreadable_suspension(key)
    return value


class RegistryView(TopicTail):
    """Follows `registry` and builds the immutable `Registry` again on every change.

    A change is built only when everything there was has been read: never half a transaction, as long as its writers
    share one transactional id. A registry that cannot be built is reported, and the lanes pause until there is a good
    one: the last good one may permit what was withdrawn since.

    Attributes:
        invalid: why the newest registry cannot be used, or None.
        on_change: called with each new registry.
    """

    def __init__(self, clients: Clients, build: Build = build_registry, *, topic: str = REGISTRY) -> None:
        super().__init__(clients, topic)
        self.invalid: str | None = None
        self.on_change: Callable[[Registry], None] = lambda _: None
        self._build = build
        self._records: dict[str, bytes] = {}
        self._changes: dict[str, bytes | None] = {}  # since the last good one
        self._changed = True
        self._registry: Registry | None = None
        self._published: Mapping[int, int] = {}  # how far what is published goes

    @property
    def current(self) -> Registry:
        """The last good registry.

        Raises:
            TransientError: there has been none yet.
        """
        if self._registry is None:
            raise TransientError("The registry has not been read yet.", code="registry.absent")
        return self._registry

    async def _apply(self, records: Sequence[ConsumerRecord], read: Mapping[int, int]) -> None:  # noqa: ARG002
        for record in records:
            if record.key is None:
                continue
            self._changed = True
            key = record.key.decode(errors="replace")
            self._changes[key] = record.value
            if record.value is None:
                self._records.pop(key, None)
            else:
                self._records[key] = record.value

    def has_passed(self, partition: int, offset: int) -> bool:
        """Whether the registry with everything up to and including `offset` is the current one, not only read."""
        return self._published.get(partition, -1) > offset

    async def _publish(self) -> None:
        read = dict(self._read)
        if not self._changed:
            self._published = read
            return
        self._changed = False
        try:
            # In a thread: a large registry takes long to build, and lanes must go on sending heartbeats meanwhile.
            registry = await asyncio.to_thread(self._build, self._registry, self._records, dict(self._changes))
        except BrokerError as error:
            self._report(error.code)
        except Exception as error:  # noqa: BLE001 - it is data: no mistake in it may stop the worker
            self._report(type(error).__name__)
        else:
            self.invalid, self._registry, self._changes, self._published = None, registry, {}, read
            log.info("registry.changed", version=registry.version)
            self.on_change(registry)

    def _report(self, reason: str) -> None:
        self.invalid = reason
        log.error("registry.invalid", code="registry.invalid", reason=reason)

    def _ready(self) -> bool:
        return self._registry is not None

    async def _clear(self) -> None:
        self._changes.update(dict.fromkeys(self._records))
        self._records.clear()
        self._changed = True


class VaultView(TopicTail):
    """Follows `vault.identity` into an LMDB file, and goes on where it was after a restart.

    Args:
        identity: tells which topic of which cluster this is; called in a thread.
        folder: for this view alone.

    Attributes:
        on_change: called with the keys that changed, after they can be read.
        evict: called with the keys whose records changed or went, before `on_change`; None: all. What was opened of
            them goes: of who was erased nothing may stay in memory. Decisions are made in the same thread, so nothing
            that was read before can be kept after.
    """

    def __init__(self, clients: Clients, identity: Callable[[], str], folder: Path, *, topic: str = VAULT) -> None:
        super().__init__(clients, topic)
        self.on_change: Callable[[Sequence[bytes]], None] = lambda _: None
        self.evict: Callable[[Iterable[bytes] | None], None] = lambda _: None
        self._identity, self._folder = identity, folder
        self._store: Store | None = None
        self._written_at = float("-inf")

    @contextmanager
    def reading(self) -> Iterator[VaultReader]:
        """The vault at one moment. Nothing may be awaited inside."""
        with self._opened().reading() as reader:
            yield reader

    def __len__(self) -> int:
        return len(self._opened())

    def close(self) -> None:
        """Let go of the file; after `run` has ended."""
        store, self._store = self._store, None
        if store is not None:
            store.close()

    def _opened(self) -> Store:
        if self._store is None:
            raise TransientError("The vault view is not open yet.", code="vault.absent")
        return self._store

    async def _start_offsets(self) -> Mapping[int, int]:
        if self._store is None:
            identity = await asyncio.to_thread(self._identity)
            self._store = Store(self._folder, identity, max_absence_s=MAX_ABSENCE_S)
            self._read = dict(self._store.offsets)
            log.info("vault.opened", records=len(self._store), resumed=bool(self._read))
        return self._read

    async def _apply(self, records: Sequence[ConsumerRecord], read: Mapping[int, int]) -> None:
        if not records and (time.monotonic() - self._written_at < HEAD_EVERY_S or not self.caught_up()):
            return
        changes: dict[bytes, bytes | None] = {}
        for record in records:
            if record.key is None or not 0 < len(record.key) <= MAX_KEY_BYTES:
                log.error("vault.key", code="vault.key", topic=record.topic, offset=record.offset)
                continue
            changes[record.key] = record.value
        store = self._opened()
        confirmed = time.time() - self.age_s if self.caught_up() else 0.0
        while True:
            try:
                await asyncio.to_thread(store.apply, changes, read, confirmed)
            except StoreFull:
                store.grow()
            else:
                break
        self._written_at = time.monotonic()
        if changes:
            self.evict(changes)
            self.on_change(list(changes))

    async def _publish(self) -> None:
        if not self.caught_up():  # from now on the copy may be resumed
            await asyncio.to_thread(self._opened().apply, {}, dict(self._read), time.time())

    async def _clear(self) -> None:
        self.evict(None)  # who was deleted meanwhile is not told
        if self._store is not None and self._store.offsets:
            self._store.clear()

    def _check(self, error: BaseException) -> None:
        if isinstance(error, ConfigError):
            raise error


class CurrentViews:
    """Both views, and the rule that nothing is decided on an old one.

    Args:
        max_age_s: how long ago both must have been proven current at most.
    """

    def __init__(self, registry: RegistryView, vault: VaultView, max_age_s: float) -> None:
        self.registry, self.vault, self.max_age_s = registry, vault, max_age_s

    @property
    def age_s(self) -> float:
        """Age of the older proof."""
        return max(self.registry.age_s, self.vault.age_s)

    def require_current(self) -> Registry:
        """The registry, if it and the vault are proven current.

        Raises:
            TransientError: `view.stale`, or `registry.invalid` if the newest one cannot be used.
        """
        if self.registry.invalid is not None:
            raise TransientError("The newest registry cannot be used.", code="registry.invalid")
        for view in (self.registry, self.vault):
            if view.age_s > self.max_age_s:
                raise TransientError(
                    f"The view of {view.topic} could not be proven current within {self.max_age_s} s.",
                    code="view.stale",
                )
        return self.registry.current

    async def wait_current(self, timeout_s: float, max_age_s: float | None = None) -> None:
        """Wait until both are current, or rather as young as is wished.

        Raises:
            TransientError: `view.stale`: they are not even current after the time-out.
        """
        wished_s = self.max_age_s if max_age_s is None else max_age_s
        if self.age_s <= wished_s:
            return
        try:
            async with asyncio.timeout(timeout_s):
                while self.age_s > wished_s:
                    older = max((self.registry, self.vault), key=lambda view: view.age_s)
                    await older.confirmed_after(older.confirmed_at)
        except TimeoutError:
            self.require_current()
